"""Films, masks and frozen features for segmentation, all of one geometry: the film's central square.

Processors differ in what of a film they show a tower: some cut the border off. `seen_share` measures it, and
`show_whole` lays as much black around the square, so that every model is evaluated on the same pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from torch import Tensor

from data_scripts.prepared.masks import central_square, read_masks, scaled_square, shown_structures
from eval.benchmarks import Benchmark
from eval.models.encoders import EvaluationModel
from modeling_chexficient.image_processing_chexficient_pixels import mark_as_scaled

_PROBE_SIZE = 256
_FP16_MAX = 65_504


def seen_share(model: EvaluationModel) -> float:
    """Side of the middle of a square film that the model's processor keeps, as a share of the whole, above 0 up to 1.

    Measured on films that grow brighter from edge to edge.

    Raises:
        ValueError: the processor does not keep grey values or does something else than resize and cut the border.
    """
    ramp = np.tile(np.arange(_PROBE_SIZE, dtype=np.uint8), (_PROBE_SIZE, 1))
    flat = [np.full_like(ramp, value) for value in (0, 255)]
    pictures = [mark_as_scaled(Image.fromarray(picture)).convert("RGB") for picture in (ramp, ramp.T, *flat)]
    pixels = model.pixels(pictures).float().cpu()
    black, white = pixels[2, 0].mean(), pixels[3, 0].mean()
    shares = []
    for profile in (pixels[0, 0].mean(dim=0), pixels[1, 0].mean(dim=1)):
        grey = ((profile - black) / (white - black)).numpy()
        # The outermost pixels are blurred by the resizing.
        edge = max(1, len(grey) // 16)
        places = (np.arange(len(grey)) + 0.5) / len(grey) - 0.5
        slope, middle = np.polyfit(places[edge:-edge], grey[edge:-edge], 1)
        shares.append(slope * 255 / _PROBE_SIZE)
        if not (np.isfinite(slope) and abs(middle - 0.5) < 0.02 and 0.2 < shares[-1] < 1.03):
            raise ValueError(f"the processor of {model.name} does more than resize films: masks cannot be laid on them")
    share = float(np.mean(shares))
    return 1.0 if share > 0.97 else share


def show_whole(square: Image.Image, share: float) -> Image.Image:
    """The square with black around it, so that its part `share` in the middle is the square itself."""
    side = round(square.width / share)
    frame = Image.new("RGB", (side, side))
    frame.paste(square.convert("RGB"), ((side - square.width) // 2,) * 2)
    return frame


class FilmFeatures:
    """Feature maps of a frozen tower, and masks, of some films of a dataset; of thin structures the film is the first
    map.

    Features are kept in memory in fp16 until `budget` is used up, and computed again for the other films. They are
    rounded to fp16 either way, so that results do not depend on the memory there is.

    Args:
        model: its `pyramid` gives the maps.
        dataset: with `image`, `masks` and, perhaps, `labels`.
        rows: of the dataset.
        benchmark: for its structures, and whether these are thin.
        size: side that masks are scaled to.
        share: of a film that the model's processor keeps (`seen_share`).
        budget: bytes of memory for features.
        batch_size: films a forward pass.
    """

    def __init__(
        self,
        model: EvaluationModel,
        dataset: Dataset,
        rows: Sequence[int],
        benchmark: Benchmark,
        size: int,
        share: float,
        budget: int = 0,
        batch_size: int = 64,
    ):
        self.model, self.dataset, self.rows, self.benchmark = model, dataset, list(rows), benchmark
        self.size, self.share, self.budget, self.batch_size = size, share, budget, batch_size
        self.kept: dict[int, tuple[list[Tensor], Tensor]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.device)

    def film(self, position: int) -> tuple[Image.Image, list[np.ndarray]]:
        """The central square of a film, and those of its masks in the film's own resolution."""
        row = self.dataset[self.rows[position]]
        masks = read_masks(row, self.rows[position], self.benchmark.structures, self.benchmark.no_mask_is_empty)
        return central_square(row["image"]), [np.asarray(central_square(Image.fromarray(mask))) for mask in masks]

    def shows(self) -> np.ndarray:
        """Which films show which structure, bool [films, structures]."""
        return shown_structures(self.dataset, self.rows, self.benchmark.structures)

    @torch.no_grad()
    def maps(self, squares: Sequence[Image.Image]) -> list[Tensor]:
        """The pyramid [B, C, h, w] of the squares of films, rounded to fp16."""
        pixels = self.model.pixels([show_whole(square, self.share) for square in squares])
        film = [pixels.to(self.device)] if self.benchmark.thin else []
        # What is beyond fp16 would become infinite.
        return [level.clamp(-_FP16_MAX, _FP16_MAX).half() for level in [*film, *self.model.pyramid(pixels)]]

    def batch(self, positions: Sequence[int]) -> tuple[list[Tensor], Tensor]:
        """Pyramid [B, C, h, w] in fp32 and masks uint8 [B, structures, size, size] of the films at these positions."""
        fresh = [film for film in positions if film not in self.kept]
        found = {film: self.kept[film] for film in positions if film in self.kept}
        for start in range(0, len(fresh), self.batch_size):
            part = fresh[start : start + self.batch_size]
            squares, masks = zip(*(self.film(film) for film in part), strict=True)
            pyramid = self.maps(squares)
            for number, position in enumerate(part):
                scaled = torch.from_numpy(np.stack([scaled_square(mask, self.size) for mask in masks[number]]))
                item = [level[number] for level in pyramid], scaled
                found[position] = item
                self._keep(position, item)
        pyramid = [
            torch.stack([found[film][0][level] for film in positions]).to(self.device).float()
            for level in range(len(found[positions[0]][0]))
        ]
        return pyramid, torch.stack([found[film][1] for film in positions]).to(self.device)

    def _keep(self, position: int, item: tuple[list[Tensor], Tensor]) -> None:
        maps, masks = item
        size = sum(tensor.numel() * tensor.element_size() for tensor in (*maps, masks))
        if size <= self.budget:
            self.budget -= size
            # A copy: a view would hold the whole batch, and a device's memory.
            self.kept[position] = [level.cpu().clone() for level in maps], masks
