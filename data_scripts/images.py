"""Opening image files that may be damaged, and writing prepared films."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from data_scripts.schema import DataError
from modeling_chexficient import resize_and_crop, to_eight_bit

#: A film of 10,000 x 10,000 pixels does not exist; a file that claims more is damaged or an attack.
MAX_PIXELS = 100_000_000
#: Smaller than this nothing can be read from a film.
MIN_SIDE = 32
#: Look-up tables of grey values: all but zero to 255; each to the nearer of 0 and 255.
_NOT_ZERO = [0] + [255] * 255
_THRESHOLD = [0] * 128 + [255] * 128


def open_image(path: Path) -> Image.Image:
    """The decoded image of a file.

    Raises:
        DataError: the file is missing, empty, not an image, truncated, too small or absurdly large; it is named.
    """
    if not path.is_file():
        raise DataError(f"{path}: the image file is missing", "image file missing")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the image file is empty", "image file empty")
    try:
        with warnings.catch_warnings():
            # We have our own limit and look at the header before decoding.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
        _check_size(path, *image.size)
        image.load()
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: decompression bomb ({error})", "image too large") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not an image in a known format", "not an image") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: damaged image ({error})", "image damaged") from error
    return image


def _check_size(path: Path, width: int, height: int) -> None:
    size = f"{path}: {width} x {height} pixels"
    if width * height > MAX_PIXELS:
        raise DataError(f"{size} is beyond the limit of {MAX_PIXELS:,}", "image too large")
    if min(width, height) < MIN_SIDE:
        raise DataError(f"{size} is too small for a film (at least {MIN_SIDE} a side)", "image too small")


def prepare_film(image: Image.Image, image_size: int | None) -> Image.Image:
    """Eight-bit film (mode L, or RGB where it has colour), short side resized and centre cropped to `image_size`.

    These are the first steps of the model's processor, by the same functions: processing the result equals
    processing the original, bit by bit. `image_size=None` keeps the size.
    """
    film = to_eight_bit(image)
    return film if image_size is None else resize_and_crop(film, image_size)


def prepare_mask(mask: Image.Image, image_size: int | None) -> Image.Image:
    """A binary mask (0 or 255) in the geometry of `prepare_film`; whatever is not zero is inside."""
    inside = mask.convert("L").point(_NOT_ZERO)
    return prepare_film(inside, image_size).point(_THRESHOLD)


def encode_png(image: Image.Image) -> bytes:
    """Lossless bytes. Level 1: films are noisy, higher levels cost much time for a few per cent."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
