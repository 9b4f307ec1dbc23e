"""Preprocessing of chest X-rays for CheXficient, equal to the published one on 8-bit images, in PIL and torch.

The published preprocessing (arXiv 2602.22843) is RGB, torchvision `Resize(378, BICUBIC)` on the PIL image,
`CenterCrop(378)`, division by 255 and normalisation by CLIP's mean and standard deviation. It is split here into three
functions that data preparation and training use as well: `to_eight_bit`, `resize_and_crop`, `normalise_pixels`.
What comes out of a segmentation goes the same way back, to the pixels of the film.
"""

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.utils import IMAGE_PROCESSOR_NAME, PROCESSOR_NAME

from .image_processing_chexficient_files import FilmFileError, is_file, open_image
from .image_processing_chexficient_masks import (
    class_map,
    class_scores,
    sampler,
    sampling_grid,
    segments,
    structure_masks,
)
from .image_processing_chexficient_pixels import (
    CLIP_MEAN,
    CLIP_STD,
    check_not_clipped,
    normalise_pixels,
    resize_and_crop,
    seen_square,
    to_eight_bit,
)

PUBLISHED_SIZE = 378


class CheXficientImageProcessor(BaseImageProcessor):
    """Turn images into `pixel_values` [B, 3, size, size], fp32.

    Args:
        size: side of the square that the model sees, as an int or as {"shortest_edge": int}; 378 in the published
            model.
        do_resize: resize and crop; without it all images must have one size.
        do_normalize: subtract `image_mean` and divide by `image_std`; without it pixels lie in [0, 1].
        image_mean, image_std: three values each on the scale [0, 1]; CLIP's by default.
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012 (read by transformers)

    def __init__(
        self,
        size: int | dict[str, int] = PUBLISHED_SIZE,
        do_resize: bool = True,
        do_normalize: bool = True,
        image_mean: Sequence[float] = CLIP_MEAN,
        image_std: Sequence[float] = CLIP_STD,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.size = {"shortest_edge": _side(size)}
        self.do_resize = do_resize
        self.do_normalize = do_normalize
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)

    def preprocess(
        self,
        images,
        size: int | dict[str, int] | None = None,
        do_resize: bool | None = None,
        do_normalize: bool | None = None,
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Preprocess one image or a batch.

        Args:
            images: what `to_eight_bit` takes, the path of a DICOM, PNG or JPEG file (`open_image`, as data preparation
                reads it), a list of such, or an array [B, H, W, C] or [B, C, H, W].
            return_tensors: "pt", "np", or None for a list of numpy arrays.
            size, do_resize, do_normalize, image_mean, image_std: override the processor's own for this call.

        Raises:
            ValueError: no image, an image that `to_eight_bit` or `resize_and_crop` refuses or that lost its depth
                (`check_not_clipped`; its position is named), a file that is missing or no film, or unequal sizes
                without `do_resize`.
            TypeError: something that is not an image.
        """
        side = _side(self.size if size is None else size)
        do_resize = self.do_resize if do_resize is None else do_resize
        do_normalize = self.do_normalize if do_normalize is None else do_normalize
        mean = (self.image_mean if image_mean is None else image_mean) if do_normalize else (0.0, 0.0, 0.0)
        std = (self.image_std if image_std is None else image_std) if do_normalize else (1.0, 1.0, 1.0)
        prepared = [_prepare(image, side if do_resize else None, n) for n, image in enumerate(_image_list(images))]
        normalised = normalise_pixels(_stack(prepared), mean, std)
        pixel_values = list(normalised.numpy()) if return_tensors is None else normalised
        return BatchFeature({"pixel_values": pixel_values}, tensor_type=return_tensors)

    def fetch_images(self, image_url_or_urls):
        """As of every image processor, for processors that ask it; files are read by `open_image`, DICOM among them."""
        if isinstance(image_url_or_urls, (str, Path)) and is_file(Path(image_url_or_urls)):
            return open_image(image_url_or_urls)
        return super().fetch_images(image_url_or_urls)

    def save_pretrained(self, save_directory: str | PathLike, push_to_hub: bool = False, **kwargs) -> list[str]:
        """Save into `processor_config.json`, where the processor of a whole model keeps its image processor, too.

        Arguments as everywhere in transformers. Transformers itself would write `preprocessor_config.json`; where that
        file is, pipelines look for a video processor and ask on the terminal whether to run its code.
        """
        super().save_pretrained(save_directory)
        written, file = Path(save_directory) / IMAGE_PROCESSOR_NAME, Path(save_directory) / PROCESSOR_NAME
        content = json.loads(file.read_text()) if file.is_file() else {}
        content["image_processor"] = json.loads(written.read_text())
        file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
        written.unlink()
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", file.parent.name), **kwargs)
        return [str(file)]

    def post_process_semantic_segmentation(
        self,
        outputs,
        target_sizes: Sequence[tuple[int, int]] | None = None,
        return_segmentation_scores: bool = False,
    ) -> list[torch.Tensor] | list[BatchFeature]:
        """One map of classes per film, int64 [H, W].

        A pixel gets the structure of the highest logit. It gets -1 where structures overlap and none is more probable
        than not, and where it lies outside the square that the model sees.

        Args:
            outputs: of `CheXficientForSemanticSegmentation`.
            target_sizes: (height, width) of every film, upright, before this processor resized and cut it. By default
                maps are of the square, at the size of the logits.
            return_segmentation_scores: give {"segmentation": the map, "segmentation_scores": fp32 [L, H, W], the
                logits of every structure, -inf where nothing was seen} per film, as image processors of transformers.

        Raises ValueError where there are not as many sizes as films.
        """
        overlapping = getattr(outputs, "background_logits", None) is not None
        films = self._films(outputs, target_sizes)
        if not return_segmentation_scores:
            return [class_map(logits, overlapping, grid) for logits, grid in films]
        return [
            BatchFeature(
                {
                    "segmentation": class_map(logits, overlapping, grid),
                    "segmentation_scores": class_scores(logits, grid),
                }
            )
            for logits, grid in films
        ]

    def post_process_masks(
        self, outputs, target_sizes: Sequence[tuple[int, int]] | None = None, threshold: float = 0.5
    ) -> list[torch.Tensor]:
        """One mask per structure and film, bool [L, H, W]: where its probability exceeds `threshold`.

        Masks may overlap. What lies outside the square that the model sees is False. Arguments and errors as of
        `post_process_semantic_segmentation`.
        """
        overlapping = getattr(outputs, "background_logits", None) is not None
        films = self._films(outputs, target_sizes)
        return [structure_masks(logits, overlapping, grid, threshold) for logits, grid in films]

    def post_process_panoptic_segmentation(
        self,
        outputs,
        threshold: float = 0.5,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.8,
        target_sizes: Sequence[tuple[int, int]] | None = None,
    ) -> list[dict]:
        """The structures found in each film, without a background: what `pipeline("image-segmentation")` shows.

        Args:
            outputs, target_sizes: as of `post_process_semantic_segmentation`.
            threshold, mask_threshold, overlap_mask_area_threshold: leave out structures whose surest pixel is less
                probable, pixels that are not more probable, and structures that keep no larger share of their pixels
                once every pixel went to its most probable structure.

        Returns:
            per film {"segmentation": int64 [H, W], -1 where there is no structure, "segments_info": [{"id",
            "label_id", "score"}]}; the score is the probability of the surest pixel.
        """
        overlapping = getattr(outputs, "background_logits", None) is not None
        limits = threshold, mask_threshold, overlap_mask_area_threshold
        found = [segments(logits, overlapping, grid, *limits) for logits, grid in self._films(outputs, target_sizes)]
        return [{"segmentation": segmentation, "segments_info": entries} for segmentation, entries in found]

    def post_process_heat_maps(self, maps: torch.Tensor, target_sizes: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
        """Heat maps on the pixels of each film, fp32 [P, H, W], bilinear; NaN outside the square that the model sees.

        Args:
            maps: [films, P, h, w] of the square.
            target_sizes: (height, width) of every film before this processor resized and cut it.

        Raises ValueError where there are not as many sizes as films.
        """
        films = []
        for film_maps, grid in self._with_grids(maps, target_sizes):
            sample = sampler(grid, maps.device)
            on_film = torch.stack([sample(film_map) for film_map in film_maps])
            films.append(on_film.masked_fill(on_film.isneginf(), torch.nan))
        return films

    def _films(self, outputs, target_sizes: Sequence[tuple[int, int]] | None) -> list[tuple]:
        """Logits of every film, and where the film's pixels lie in them."""
        if target_sizes is None:
            return [(film_logits, None) for film_logits in outputs.logits]
        return self._with_grids(outputs.logits, target_sizes)

    def _with_grids(self, maps: torch.Tensor, target_sizes: Sequence[tuple[int, int]]) -> list[tuple]:
        if len(target_sizes) != len(maps):
            raise ValueError(f"{len(target_sizes)} target sizes for {len(maps)} films: pass one (height, width) each")
        return [
            (film_maps, self._grid(int(height), int(width)))
            for film_maps, (height, width) in zip(maps, target_sizes, strict=True)
        ]

    def _grid(self, height: int, width: int) -> torch.Tensor:
        whole = 0.0, 0.0, float(height), float(width)
        square = seen_square(width, height, _side(self.size)) if self.do_resize else whole
        return sampling_grid((height, width), square)


def _side(size: int | dict[str, int]) -> int:
    side = size["shortest_edge"] if isinstance(size, dict) and set(size) == {"shortest_edge"} else size
    if not isinstance(side, int) or side < 1:
        raise ValueError(f'size must be a positive int or {{"shortest_edge": int}}, not {size!r}')
    return side


def _image_list(images) -> list:
    if isinstance(images, (np.ndarray, torch.Tensor)) and images.ndim == 4:
        images = list(images)
    # A column of `datasets` is a sequence, but no list.
    if not isinstance(images, Sequence) or isinstance(images, (str, bytes)):
        images = [images]
    if all(isinstance(image, (list, tuple)) for image in images):
        # The images of each text, as processors of chats pass them.
        images = [image for of_text in images for image in of_text]
    if not images:
        raise ValueError("No image was passed")
    return list(images)


def _prepare(image, side: int | None, position: int) -> Image.Image:
    try:
        if isinstance(image, (str, Path)):
            image = open_image(image)
        eight_bit = to_eight_bit(image)
        check_not_clipped(image, eight_bit)
        return eight_bit if side is None else resize_and_crop(eight_bit, side)
    except FilmFileError as error:
        raise FilmFileError(f"Image {position} of the batch: {error}", error.kind) from error
    except (TypeError, ValueError) as error:
        raise type(error)(f"Image {position} of the batch: {error}") from error


def _stack(images: list[Image.Image]) -> torch.Tensor:
    """uint8 [B, 1, H, W] where every image is grey, else [B, 3, H, W]."""
    sizes = sorted({image.size for image in images})
    if len(sizes) > 1:
        raise ValueError(f"Without do_resize all images must have one size, not {sizes}")
    mode = "L" if all(image.mode == "L" for image in images) else "RGB"
    pixels = [torch.from_numpy(np.array(image.convert(mode))) for image in images]
    if mode == "L":
        return torch.stack(pixels).unsqueeze(1)
    return torch.stack(pixels).permute(0, 3, 1, 2)


__all__ = ["CheXficientImageProcessor", "normalise_pixels", "resize_and_crop", "to_eight_bit"]
