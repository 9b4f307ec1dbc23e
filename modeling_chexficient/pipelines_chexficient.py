"""Pipelines of transformers that read DICOM files, and scale films of more than 8 bits in place of clipping them.

The pipelines of transformers turn every image into 8-bit RGB by `convert("RGB")`, for which any value above 255 is
white. Importing this package puts these classes, which do what theirs do, in their place; models with another image
processor than ours see no difference. Where the package is not imported, the image processor refuses clipped films.

With `check_input=True`, in the constructor or in a call, they warn of images that are no whole upright frontal chest
film, with the reasons (`input_check_chexficient`); with `check_input="refuse"` they raise ValueError.
"""

import base64
import binascii
import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers
from huggingface_hub import get_session
from PIL import Image, ImageOps
from transformers import (
    ImageClassificationPipeline,
    ImageFeatureExtractionPipeline,
    ImageSegmentationPipeline,
    ImageTextToTextPipeline,
    ZeroShotImageClassificationPipeline,
)

from .image_processing_chexficient import CheXficientImageProcessor
from .image_processing_chexficient_files import is_file, open_image
from .image_processing_chexficient_pixels import DEEP_MODES, mark_as_scaled, to_eight_bit
from .input_check_chexficient import check_film
from .modeling_chexficient_heads import HEADS

# How the content of a message may name an image (transformers, "chat templates").
IMAGE_FIELDS = ("image", "url", "path", "base64")


def load_film(source, timeout: float | None = None, check_input: bool | str = False):
    """The 8-bit image of a path, URL, base64 string or PIL image, marked as scaled; anything else comes back as it is.

    A path may be of a DICOM file.

    Args:
        check_input: True warns (UserWarning) of an image that is no whole upright frontal chest film.

    Raises ValueError where a string is none of these, where the file is no film (it is named, see `open_image`), where
    `to_eight_bit` refuses the image, and with `check_input` "refuse" where the image is no such film.
    """
    if check_input not in (False, True, "refuse"):
        raise ValueError(f'check_input is {check_input!r}, it must be True, False or "refuse"')
    image = _open(source, timeout) if isinstance(source, (str, Path)) else source
    if not isinstance(image, Image.Image):
        return source
    image = ImageOps.exif_transpose(image)
    image = mark_as_scaled(to_eight_bit(image) if image.mode.startswith(DEEP_MODES) else image)
    if check_input and (reasons := check_film(image)):
        text = "The image is " + "; and ".join(reason.text for reason in reasons)
        if check_input == "refuse":
            raise ValueError(text)
        warnings.warn(text, stacklevel=2)
    return image


def _open(source: str | Path, timeout: float | None) -> Image.Image:
    text = str(source)
    if text.startswith(("http://", "https://")):
        answer = get_session().get(text, timeout=timeout, follow_redirects=True)
        answer.raise_for_status()
        return Image.open(BytesIO(answer.content))
    if len(text) < 4096 and is_file(Path(text)):
        return open_image(text)
    try:
        encoded = text.split(",", 1)[1] if text.startswith("data:image/") else text
        return Image.open(BytesIO(base64.decodebytes(encoded.encode())))
    except (IndexError, OSError, binascii.Error, UnicodeError) as error:
        start = text if len(text) < 100 else text[:100] + "..."
        raise ValueError(f"{start} is no file, URL or base64 string of an image: {error}") from error


class _ScalesFilms:
    """A pipeline whose image processor is ours gets films in 8 bits, scaled."""

    image_processor: Any
    processor: Any

    # Hidden from the type checker, for which each pipeline has its own arguments.
    if not TYPE_CHECKING:

        def _sanitize_parameters(self, check_input=None, **kwargs):
            before, forward, after = super()._sanitize_parameters(**kwargs)
            return before if check_input is None else {**before, "check_input": check_input}, forward, after

        def preprocess(self, inputs, *args, check_input=False, **kwargs):
            processor = self.image_processor or getattr(self.processor, "image_processor", None)
            # By name: remote code has a class of its own.
            if type(processor).__name__ == CheXficientImageProcessor.__name__:
                inputs = self._scaled(inputs, kwargs.get("timeout"), check_input)
            elif check_input:
                raise ValueError("check_input is for models with CheXficient's image processor")
            return super().preprocess(inputs, *args, **kwargs)

    def _scaled(self, inputs, *options):
        return load_film(inputs, *options)


class CheXficientZeroShotImageClassificationPipeline(_ScalesFilms, ZeroShotImageClassificationPipeline):
    """`pipeline("zero-shot-image-classification")`, for films of any depth."""


class CheXficientImageClassificationPipeline(_ScalesFilms, ImageClassificationPipeline):
    """`pipeline("image-classification")`, for films of any depth."""


class CheXficientImageSegmentationPipeline(_ScalesFilms, ImageSegmentationPipeline):
    """`pipeline("image-segmentation")`, for films of any depth."""


class CheXficientImageFeatureExtractionPipeline(_ScalesFilms, ImageFeatureExtractionPipeline):
    """`pipeline("image-feature-extraction")`, for films of any depth; refuses heads, whose output is no feature."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        name = type(self.model).__name__
        if name in {head.__name__ for head in HEADS.values()}:
            raise ValueError(
                f"image-feature-extraction would give the logits of {name} as features: pass a folder of the whole "
                "model, or take model.vision_model(pixel_values).last_hidden_state"
            )


class CheXficientImageTextToTextPipeline(_ScalesFilms, ImageTextToTextPipeline):
    """`pipeline("image-text-to-text")`, for films of any depth."""

    def _scaled(self, inputs, *options):
        if isinstance(inputs, dict) and inputs.get("images") is not None:
            return {**inputs, "images": _each(inputs["images"], *options)}
        if hasattr(inputs, "messages"):
            return type(inputs)([_with_scaled_films(message, *options) for message in inputs.messages])
        return inputs


def _each(images, *options):
    if isinstance(images, (list, tuple)):
        return [_each(image, *options) for image in images]
    return load_film(images, *options)


def _with_scaled_films(message: dict, *options) -> dict:
    """A message of a chat, the images in its content loaded and scaled."""
    if not isinstance(message["content"], (list, tuple)):
        return message
    content = []
    for part in message["content"]:
        field = next((name for name in IMAGE_FIELDS if isinstance(part, dict) and part.get(name) is not None), None)
        if field is not None and part.get("type") == "image":
            rest = {name: value for name, value in part.items() if name not in IMAGE_FIELDS}
            part = {**rest, "image": load_film(part[field], *options)}
        content.append(part)
    return {**message, "content": content}


PIPELINES = {
    "zero-shot-image-classification": CheXficientZeroShotImageClassificationPipeline,
    "image-classification": CheXficientImageClassificationPipeline,
    "image-segmentation": CheXficientImageSegmentationPipeline,
    "image-feature-extraction": CheXficientImageFeatureExtractionPipeline,
    "image-text-to-text": CheXficientImageTextToTextPipeline,
}


def use_these_pipelines() -> None:
    """Let `transformers.pipeline` make them.

    Not by `register_pipeline`: saving a pipeline would then write the class into the configuration, and transformers
    would demand `trust_remote_code=True` from then on, also where this package is imported.
    """
    tasks: dict[str, Any] = transformers.pipelines.SUPPORTED_TASKS
    for task, pipeline_class in PIPELINES.items():
        tasks[task]["impl"] = pipeline_class


__all__ = ["PIPELINES", "load_film", "use_these_pipelines"]
