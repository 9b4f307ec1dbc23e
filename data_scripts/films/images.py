"""Writing prepared films and masks; image files are opened as by the model's processor."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from data_scripts.films.files import open_image
from data_scripts.schema import INSIDE, NOT_JUDGED

COMPRESSIONS = ("fast", "small")
_FILTER_UP = 2


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


__all__ = ["COMPRESSIONS", "encode_film", "encode_mask", "open_image", "prepare_film", "prepare_mask"]
