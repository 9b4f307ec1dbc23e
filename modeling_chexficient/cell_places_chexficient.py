"""Where on an image the cells of a tower's maps lie, and maps laid on its pixels.

Cells are not always the middles of tiles. Of a convolution with stride 2, 3 pixels and a border of 1 they lie over
every second pixel from the first one on, so those of a ResNet's last map (4 x 4) of 112 pixels at 0, 32, 64 and 96, not
at 14, 42, 70 and 98: up to an eighth of the side apart. The arithmetic is that of Araujo et al.
(doi:10.23915/distill.00021).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

_MOVING = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


class CellPlaces:
    """Places of the cells of maps, told apart by the number of their cells; of unknown maps those of tiles.

    Args:
        size: (height, width) of the image in pixels.
    """

    def __init__(self, size: tuple[int, int]):
        self.size = size
        # Of each axis, by number of cells: the pixel under the first one, and the pixels from one to the next.
        self._places = tuple({pixels: (0.0, 1.0)} for pixels in size)

    def note(self, module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d, given: tuple, output: torch.Tensor) -> None:
        """A forward hook: learn where the cells of the output of a convolution or pooling lie."""
        for axis, places in enumerate(self._places):
            before, after = given[0].shape[axis - 2], output.shape[axis - 2]
            if before not in places or after in places or isinstance(module.padding, str):
                continue
            first, step = places[before]
            reach = (_of_axis(module.kernel_size, axis) - 1) * _of_axis(getattr(module, "dilation", 1), axis)
            first += (reach / 2 - _of_axis(module.padding, axis)) * step
            places[after] = first, step * _of_axis(module.stride, axis)

    def lay(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps [B, P, h, w] on the pixels of the image, fp32 [B, P, H, W]: bilinear, constant beyond outer cells."""
        rows, columns = (self._coordinates(axis, maps).to(maps.device) for axis in (0, 1))
        grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
        return F.grid_sample(
            maps.float(), grid.expand(len(maps), -1, -1, -1), padding_mode="border", align_corners=True
        )

    def _coordinates(self, axis: int, maps: torch.Tensor) -> torch.Tensor:
        """Of every pixel of an axis, -1 at the first cell and 1 at the last one."""
        cells, pixels = maps.shape[axis - 2], self.size[axis]
        tile = pixels / cells
        first, step = self._places[axis].get(cells, ((tile - 1) / 2, tile))
        return (torch.arange(pixels) - first) / step / max(cells - 1, 1) * 2 - 1


@contextmanager
def noted_places(tower: nn.Module, pixel_values: torch.Tensor) -> Iterator[CellPlaces]:
    """While it lasts, the places of the cells of the maps that the tower makes of `pixel_values` are noted."""
    height, width = pixel_values.shape[-2:]
    places = CellPlaces((height, width))
    handles = [part.register_forward_hook(places.note) for part in _moving_parts(tower)]
    try:
        yield places
    finally:
        for handle in handles:
            handle.remove()


def _moving_parts(module: nn.Module) -> Iterator[nn.Module]:
    """Convolutions and poolings, without those inside attention.

    SegFormer and PVT shrink keys and values there, to as many cells as a later map has, which lie elsewhere.
    """
    for part in module.children():
        if isinstance(part, _MOVING):
            yield part
        elif "Attention" not in type(part).__name__:
            yield from _moving_parts(part)


def _of_axis(value: int | tuple[int, ...], axis: int) -> int:
    return value[axis] if isinstance(value, tuple) else value


__all__ = ["CellPlaces", "noted_places"]
