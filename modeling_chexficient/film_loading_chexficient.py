"""Films as users name them to a pipeline: a path (also of DICOM), URL, base64 string or image; alone or in a chat."""

import base64
import binascii
import warnings
from io import BytesIO
from pathlib import Path

from huggingface_hub import get_session
from PIL import Image

from .image_processing_chexficient_files import is_file, open_image
from .image_processing_chexficient_pixels import DEEP_MODES, as_viewed, mark_as_scaled, to_eight_bit
from .input_check_chexficient import check_film

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
    image = as_viewed(image)
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


def load_films(images, *options):
    """As `load_film`, of images in nested lists as they are."""
    if isinstance(images, (list, tuple)):
        return [load_films(image, *options) for image in images]
    return load_film(images, *options)


def load_films_of_message(message: dict, *options) -> dict:
    """A message of a chat with the images in its content loaded, see `load_film`."""
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
