"""Opening image files that may be damaged, and writing prepared films."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from data_scripts.films.dicom import is_dicom, read_dicom
from data_scripts.films.dicom_display import BLANK, is_flat
from data_scripts.films.limits import check_size
from data_scripts.schema import INSIDE, NOT_JUDGED, DataError, is_file

COMPRESSIONS = ("fast", "small")
_FILTER_UP = 2


#: TIFF's Photometric Interpretation (its WhiteIsZero is 0), and the depths that films have.
_PHOTOMETRIC, _DEPTHS = 262, (8, 10, 12, 14, 16)
#: Whether a film is blank is decided on about so many of its pixels.
_SAMPLE = 2**18


def open_image(path: Path, frame: str | None = None) -> Image.Image:
    """The decoded film of a file; DICOM becomes the eight-bit grey film that a viewer would show (`read_dicom`).

    As `datasets` decodes it, it is upright by its EXIF orientation; TIFF has black air whatever its polarity.

    Args:
        frame: which of several frames of a DICOM file, see `read_dicom`.

    Raises:
        DataError: the file is missing, empty, not an image, truncated, too small or absurdly large, or nearly all of
            its pixels have one or two greys (kind "image blank"); it is named.
    """
    check_there(path)
    if is_dicom(path):
        return read_dicom(path, frame)
    image = decode_image(path)
    if is_blank(image):
        raise DataError(f"{path}: nearly all pixels have one or two grey values", BLANK)
    return image


def check_there(path: Path) -> None:
    """Raise `DataError` naming the file if there is none or it is empty."""
    if not is_file(path):
        raise DataError(f"{path}: the image file is missing", "image file missing")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the image file is empty", "image file empty")


def decode_image(path: Path, alone: bool = False) -> Image.Image:
    """The upright picture of a file that is no DICOM, blank or not. Raises as `open_image`.

    Args:
        alone: refuse files of several pictures (animated GIF, TIFF of several pages); otherwise the first counts.
    """
    try:
        # Opened by its path, Pillow scrambles an uncompressed TIFF that lies on its side.
        with path.open("rb") as file, warnings.catch_warnings():
            # We have our own limit and look at the header before decoding.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file)
            check_size(path, *image.size)
            if alone and getattr(image, "n_frames", 1) > 1:
                raise DataError(
                    f"{path}: {image.n_frames} pictures in one file: write one for each", "several pictures"
                )
            image.load()
            if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                ImageOps.exif_transpose(image, in_place=True)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: decompression bomb ({error})", "image too large") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not an image in a known format", "not an image") from error
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error) as error:
        raise DataError(f"{path}: damaged image ({error})", "image damaged") from error
    if image.mode not in ("1", "L") and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:
        return _inverted(image)
    return image


def _inverted(image: Image.Image) -> Image.Image:
    """A TIFF of more than eight bits in which white is 0, which Pillow leaves as it is."""
    pixels = np.asarray(image)
    if pixels.dtype.kind == "f":
        return Image.fromarray(pixels.max() + pixels.min() - pixels)
    highest = next((2**depth - 1 for depth in _DEPTHS if pixels.max() < 2**depth), int(pixels.max()))
    return Image.fromarray((highest - pixels.astype(np.int64)).astype(pixels.dtype))


def is_blank(image: Image.Image) -> bool:
    """Whether nearly all pixels of a film have one or two greys; of large films some of the pixels are looked at."""
    grey = image if image.mode in ("1", "L", "F") or image.mode.startswith("I") else image.convert("RGB").convert("L")
    step = max(1, round((grey.width * grey.height / _SAMPLE) ** 0.5))
    # Reduced before it becomes an array: copying a large film takes longer than all else here.
    size = (max(1, grey.width // step), max(1, grey.height // step))
    sample = np.asarray(grey if step == 1 else grey.resize(size, Image.Resampling.NEAREST))
    if sample.dtype.kind == "f" and sample.max() <= 1:
        sample = sample * 255
    if sample.dtype.kind == "u" and sample.itemsize <= 2:
        # As `np.unique`, which would sort.
        counts = np.bincount(sample.ravel())
        values = np.flatnonzero(counts)
        return is_flat(values, counts[values])
    return is_flat(*np.unique(sample, return_counts=True))


def prepare_film(image: Image.Image, image_size: int | None) -> Image.Image:
    """Eight-bit film (mode L, or RGB where it has colour), short side resized and centre cropped to `image_size`.

    These are the first steps of the model's processor, by the same functions: processing the result equals
    processing the original, bit by bit. `image_size=None` keeps the size.
    """
    # Here, since loaders import this file, and `--help` imports the loader: the package takes seconds to import.
    from modeling_chexficient import resize_and_crop, to_eight_bit

    film = to_eight_bit(image)
    return film if image_size is None else resize_and_crop(film, image_size)


def prepare_mask(mask: Image.Image, image_size: int | None) -> Image.Image:
    """A mask of 0 (outside), 255 (inside) and 127 (not judged) in the geometry of `prepare_film`.

    A pixel of the result is inside, or not judged, where at least half of it is; other greys than 127 and 255 are
    outside (`data_scripts.films.masks` reads files into these three).
    """
    pixels = np.asarray(mask.convert("L"))
    prepared = _share(pixels == INSIDE, image_size)
    result = np.where(prepared >= 128, INSIDE, 0).astype(np.uint8)
    if (pixels == NOT_JUDGED).any():
        result[_share(pixels == NOT_JUDGED, image_size) >= 128] = NOT_JUDGED
    return Image.fromarray(result)


def _share(area: np.ndarray, image_size: int | None) -> np.ndarray:
    return np.asarray(prepare_film(Image.fromarray(np.where(area, 255, 0).astype(np.uint8)), image_size))


def encode_mask(mask: Image.Image) -> bytes:
    """PNG of a mask, small: masks are flat."""
    buffer = io.BytesIO()
    mask.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def encode_film(film: Image.Image, compression: str) -> bytes:
    """PNG of an "L" or "RGB" film, lossless and readable by every viewer.

    What costs time in decoding PNG is undoing deflate and the costlier filters, so rows are stored as differences to
    the row above (filter "up" of the PNG specification), and

    - "fast" does not compress them: the Parquet file does (zstd);
    - "small" compresses them within the PNG (deflate, run lengths only: more effort gains little on noisy films).

    Measured on 64 films of NIH ChestX-ray14 at 378 px, one core of a small server, Pillow 13: fast 143 kB (60 kB in the
    Parquet file) and 7,900 films/s decoded, small 57 kB and 1,300 films/s; Pillow's own PNG at level 1 takes 64 kB and
    gives 650 films/s.
    """
    pixels = np.asarray(film)
    height, width = pixels.shape[:2]
    rows = np.empty((height, 1 + pixels[0].size), np.uint8)
    rows[:, 0] = _FILTER_UP
    flat = pixels.reshape(height, -1)
    rows[0, 1:] = flat[0]
    # Differences modulo 256, as the filter is defined.
    rows[1:, 1:] = flat[1:] - flat[:-1]
    level, strategy = {"fast": (0, zlib.Z_DEFAULT_STRATEGY), "small": (1, zlib.Z_RLE)}[compression]
    deflate = zlib.compressobj(level, strategy=strategy)
    data = deflate.compress(rows.tobytes()) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, {"L": 0, "RGB": 2}[film.mode], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
