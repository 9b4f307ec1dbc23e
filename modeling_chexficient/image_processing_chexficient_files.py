"""Films in files, DICOM or picture, as images: the one reading for the processor, the pipelines and data preparation.

What cannot be a film is refused with the name of its file. DICOM needs pydicom (the extra `dicom`); how stored values
become greys is written in `image_processing_chexficient_dicom.py`.
"""

from __future__ import annotations

import importlib
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from .image_processing_chexficient_dicom import (
    BLANK,
    DAMAGED,
    DisplayError,
    decode,
    is_flat,
    square,
    to_display,
    turns,
)
from .image_processing_chexficient_pixels import as_viewed, resize_reduced, to_eight_bit
from .image_processing_chexficient_reduced import decode_reduced, load_reduced

DICOM_SUFFIXES = (".dcm", ".dicom")
FRAMES = ("first", "middle")
#: A film of 10,000 x 10,000 pixels does not exist; a file that claims more is damaged or an attack.
MAX_PIXELS = 100_000_000
#: Smaller than this nothing can be read from a film.
MIN_SIDE = 32
#: More than this is no header and no film: deflated data that grow beyond are refused.
_MAX_INFLATED = 4 * MAX_PIXELS
_DEFLATED = "1.2.840.10008.1.2.1.99"
#: Whether a film is blank is decided on about so many of its pixels.
_SAMPLE = 2**18


class FilmFileError(ValueError):
    """A file that cannot be used as a film; the message names it.

    `kind` says the same without names, so that equal problems can be counted together.
    """

    def __init__(self, message: str, kind: str):
        super().__init__(message)
        self.kind = kind


def open_image(path: str | Path, frame: str | None = None, reduce_to: int | None = None) -> Image.Image:
    """The decoded film of a file; DICOM becomes the eight-bit grey film that a viewer would show (`read_dicom`).

    As `datasets` decodes it, it is upright by its EXIF orientation; TIFF has black air whatever its polarity.

    Args:
        frame: which of several frames of a DICOM file, see `read_dicom`.
        reduce_to: decode large JPEG, and DICOM in JPEG 2000, at a part of their size; those come with this short side,
            and greys that differ a little from those of the whole (`image_processing_chexficient_reduced.py`).

    Raises:
        FilmFileError: the file is missing, empty, not an image, truncated, too small or absurdly large, or nearly all
            of its pixels have one or two greys (kind "image blank"); it is named.
    """
    path = Path(path)
    check_there(path)
    if is_dicom(path):
        return read_dicom(path, frame, reduce_to)
    image = decode_image(path, reduce_to=reduce_to)
    if is_blank(image):
        raise FilmFileError(f"{path}: nearly all pixels have one or two grey values", BLANK)
    return image


def is_file(path: Path) -> bool:
    """`Path.is_file`, False where the name cannot be one (too long, or below a folder that may not be entered)."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def check_there(path: Path) -> None:
    """Raise `FilmFileError` naming the file if there is none or it is empty."""
    if not is_file(path):
        raise FilmFileError(f"{path}: the image file is missing", "image file missing")
    if path.stat().st_size == 0:
        raise FilmFileError(f"{path}: the image file is empty", "image file empty")


def check_size(path: Path, width: int, height: int) -> None:
    """Raise `FilmFileError` naming the file if no film has this size; to be called before anything is decoded."""
    size = f"{path}: {width} x {height} pixels"
    if width * height > MAX_PIXELS:
        raise FilmFileError(f"{size} is beyond the limit of {MAX_PIXELS:,}", "image too large")
    if min(width, height) < MIN_SIDE:
        raise FilmFileError(f"{size} is too small for a film (at least {MIN_SIDE} a side)", "image too small")


def decode_image(path: Path, alone: bool = False, reduce_to: int | None = None) -> Image.Image:
    """The upright picture of a file that is no DICOM, blank or not. Raises as `open_image`.

    Args:
        alone: refuse files of several pictures (animated GIF, TIFF of several pages); otherwise the first counts.
        reduce_to: see `open_image`.
    """
    try:
        # Opened by its path, Pillow scrambles an uncompressed TIFF that lies on its side.
        with path.open("rb") as file, warnings.catch_warnings():
            # We have our own limit and look at the header before decoding.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(file)
            check_size(path, *image.size)
            if alone and (frames := getattr(image, "n_frames", 1)) > 1:
                raise FilmFileError(f"{path}: {frames} pictures in one file: write one for each", "several pictures")
            if reduce_to is None:
                image.load()
            else:
                image = load_reduced(image, reduce_to)
            image = as_viewed(image)
    except FilmFileError:
        raise
    except Image.DecompressionBombError as error:
        raise FilmFileError(f"{path}: decompression bomb ({error})", "image too large") from error
    except UnidentifiedImageError as error:
        raise FilmFileError(f"{path}: not an image in a known format", "not an image") from error
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error) as error:
        raise FilmFileError(f"{path}: damaged image ({error})", "image damaged") from error
    return image


def is_blank(image: Image.Image) -> bool:
    """Whether nearly all pixels of a film have one or two greys; of large films some of the pixels are looked at."""
    grey = image if image.mode in ("1", "L", "F") or image.mode.startswith("I") else image.convert("RGB").convert("L")
    step = max(1, round((grey.width * grey.height / _SAMPLE) ** 0.5))
    # Reduced before it becomes an array: copying a large film takes longer than all else here.
    size = (max(1, grey.width // step), max(1, grey.height // step))
    reduced = grey if step == 1 else grey.resize(size, Image.Resampling.NEAREST)
    sample = np.asarray(reduced)
    if sample.dtype.kind == "f" and sample.max() <= 1:
        sample = sample * 255
    if sample.dtype.kind == "u" and sample.itemsize <= 2:
        # As `np.unique`, which would sort.
        counts = np.array(reduced.histogram()) if reduced.mode == "L" else np.bincount(sample.ravel())
        values = np.flatnonzero(counts)
        return is_flat(values, counts[values])
    return is_flat(*np.unique(sample, return_counts=True))


def is_dicom(path: Path) -> bool:
    """By suffix, or by the four letters that follow the preamble: many archives name files by UID, without suffix.

    Raises:
        FilmFileError: the file cannot be opened.
    """
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError as error:
        raise FilmFileError(f"{path}: the file cannot be opened ({error})", "file not readable") from error


def read_dicom(path: Path, frame: str | None = None, reduce_to: int | None = None) -> Image.Image:
    """The film as a viewer shows it: mode "L" (RGB for colour), black air, whatever the stored polarity.

    Grey values as in `to_display`.

    Args:
        frame: "first" or "middle" of several frames; None refuses files that have more than one.
        reduce_to: see `open_image`.

    Raises:
        FilmFileError: the file is no DICOM, has no or damaged pixels, is compressed in a way that nothing installed can
            undo (the message names the extra), has several frames, one single grey, or an impossible size.
    """
    dataset = read_dataset(path)
    try:
        with named(path):
            number = checked_frame(path, dataset, frame)
            reduced = None if reduce_to is None else decode_reduced(dataset, reduce_to)
            stored = decode(dataset, number) if reduced is None else reduced[0]
    except FilmFileError:
        raise
    except (AttributeError, TypeError, ValueError) as error:
        # From numbers in the header that did not pass the checks.
        raise FilmFileError(f"{path}: header or grey values cannot be used ({error})", DAMAGED) from error
    with named(path):
        if stored.ndim == 2:
            film = Image.fromarray(to_display(dataset, stored))
        else:
            film = to_eight_bit(Image.fromarray(square(dataset, np.asarray(to_eight_bit(stored)))))
    if any(turns(dataset)):
        film.info["turned"] = "\\".join(map(str, dataset.PatientOrientation))
    if reduced is not None and reduce_to is not None:
        film = resize_reduced(film, (int(dataset.Columns), int(dataset.Rows)), reduced[1], reduce_to, on_first=True)
    return film


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Context in which a `DisplayError` becomes a `FilmFileError` that names the file."""
    try:
        yield
    except DisplayError as error:
        raise FilmFileError(f"{path}: {error}", error.kind) from error


def require_pydicom(path: Path) -> Any:
    """pydicom. Raises `FilmFileError`, which names the file that needs it, where it is not installed."""
    try:
        # By itself: transformers refuses remote code whose imports are not installed.
        return importlib.import_module("pydicom")
    except ImportError as error:
        raise FilmFileError(
            f'{path}: DICOM files need pydicom: pip install "chexficient[dicom]"', "pydicom is not installed"
        ) from error


def read_dataset(path: Path, stop_before_pixels: bool = False) -> Any:
    """What `pydicom.dcmread` reads of a file. Raises `FilmFileError` where it is no DICOM, or damaged."""
    pydicom = require_pydicom(path)
    try:
        with warnings.catch_warnings():
            # Archives are full of values that break a rule of their field; we read few fields and check those.
            warnings.simplefilter("ignore")
            _refuse_deflate_bomb(pydicom, path)
            dataset = pydicom.dcmread(
                path, stop_before_pixels=stop_before_pixels, force=path.suffix.lower() in DICOM_SUFFIXES
            )
            if "Rows" not in dataset and "SOPClassUID" not in dataset:
                raise FilmFileError(f"{path}: not a DICOM file", "not an image")
    except FilmFileError:
        raise
    except pydicom.errors.InvalidDicomError as error:
        raise FilmFileError(f"{path}: not a DICOM file", "not an image") from error
    except Exception as error:
        # pydicom raises whatever its parsing runs into.
        raise FilmFileError(f"{path}: damaged DICOM file ({type(error).__name__}: {error})", "DICOM damaged") from error
    return dataset


def read_stored(path: Path) -> np.ndarray:
    """The stored values [H, W] or [H, W, 3] of a DICOM file that is a mask, upright; raises as `read_dicom`."""
    dataset = read_dataset(path)
    with named(path):
        return decode(dataset, checked_frame(path, dataset, None))


def display(path: Path, dataset: Any, stored: np.ndarray) -> np.ndarray:
    """As `to_display`. Raises `FilmFileError`, which names the file, for a blank film or a damaged header."""
    with named(path):
        return to_display(dataset, stored)


def _refuse_deflate_bomb(pydicom, path: Path) -> None:
    """pydicom inflates deflated files whole and without a limit."""
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return
        meta = pydicom.filereader.read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") != _DEFLATED:
            return
        # Preamble, "DICM", and the 12 bytes of the element that gives the length of the rest of the group.
        file.seek(132 + 12 + int(meta.FileMetaInformationGroupLength))
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        size = 0
        while block := inflate.unconsumed_tail or file.read(1 << 20):
            size += len(inflate.decompress(block, 1 << 24))
            if size > _MAX_INFLATED:
                raise FilmFileError(
                    f"{path}: decompression bomb (more than {_MAX_INFLATED:,} bytes)", "image too large"
                )


def checked_frame(path: Path, dataset, frame: str | None) -> int | None:
    """Number of the frame to decode, None if there is only one; sizes are checked before anything is decoded."""
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise FilmFileError(f"{path}: a DICOM file without pixels", "DICOM without pixels")
    missing = [
        name for name in ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation") if name not in dataset
    ]
    if missing:
        raise FilmFileError(f"{path}: the DICOM header lacks {', '.join(missing)}", "DICOM damaged")
    check_size(path, int(dataset.Columns), int(dataset.Rows))
    count = int(dataset.get("NumberOfFrames") or 1)
    if frame not in (None, *FRAMES):
        raise ValueError(f"frame is {frame!r}, it must be one of {FRAMES}")
    if count == 1:
        return None
    if frame is None:
        raise FilmFileError(
            f"{path}: {count} frames; choose one of them (commands: --multi_frame first or middle; open_image(path, "
            '"first") or "middle")',
            "DICOM with several frames",
        )
    return {"first": 0, "middle": count // 2}[frame]


__all__ = ["FilmFileError", "open_image"]
