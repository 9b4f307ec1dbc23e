"""Uploaded files as films, with a plain sentence for everything that cannot be one."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

# `model_cards.space` writes these files beside: image_processing_chexficient_dicom.py, by which training data are
# prepared, and input_check_chexficient.py, both of modeling_chexficient.
from .dicom_display import BLANK, DisplayError, decode, to_display
from .input_check_chexficient import check_film

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 100_000_000
MIN_SIDE = 32
FORMATS = ("PNG", "JPEG")
_DICOM_SUFFIXES = (".dcm", ".dicom")
_DEFLATED = "1.2.840.10008.1.2.1.99"
_BLANK = "The image has one grey value throughout: there is nothing to read."


class FilmError(ValueError):
    """A file that cannot be read as a film. The message is for the user and never holds the file's name."""


def read_film(path: Path) -> Image.Image:
    """The decoded image of a PNG, JPEG or DICOM file, in its own bit depth (DICOM: 8 bits, as in training data).

    Raises:
        FilmError: empty, beyond 64 MB or 100 million pixels, smaller than 32 pixels, damaged, blank, or of another
            kind.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(132)
    except OSError as error:
        raise FilmError("The file did not arrive: upload it again.") from error
    if size == 0:
        raise FilmError("The file is empty.")
    if size > MAX_BYTES:
        raise FilmError(f"The file has {size / 2**20:.0f} MB; the limit is {MAX_BYTES // 2**20} MB.")
    is_dicom = start[128:] == b"DICM" or path.suffix.lower() in _DICOM_SUFFIXES
    film = _read_dicom(path) if is_dicom else _read_image(path)
    low, high = (np.asarray(film).min(), np.asarray(film).max())
    if low == high:
        raise FilmError(_BLANK)
    return film


def reasons_against(film: Image.Image) -> list[str]:
    """Sentences on why it does not look like one whole upright frontal chest film; none where it does."""
    return [f"This image looks wrong for the model: {reason.text}." for reason in check_film(film)]


def _read_image(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # The limit below is ours, and is looked at before anything is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=FORMATS)
        _check_size(*image.size)
        image.load()
    except UnidentifiedImageError as error:
        raise FilmError("This is no PNG, JPEG or DICOM file. Upload the film as one of these.") from error
    except Image.DecompressionBombError as error:
        raise FilmError(f"The image is too large: at most {MAX_PIXELS:,} pixels.") from error
    except FilmError:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        raise FilmError("The image is damaged: export it anew from where it came.") from error
    return image


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise FilmError(f"The image has {width:,} x {height:,} pixels; at most {MAX_PIXELS:,} are read.")
    if min(width, height) < MIN_SIDE:
        raise FilmError(f"The image has {width} x {height} pixels: too small for a film ({MIN_SIDE} a side at least).")


def _read_dicom(path: Path) -> Image.Image:
    try:
        import pydicom
    except ImportError as error:
        raise FilmError("DICOM is not read here (pydicom is not installed): upload a PNG or JPEG.") from error
    try:
        with warnings.catch_warnings():
            # Archives are full of values that break a rule of their field.
            warnings.simplefilter("ignore")
            with path.open("rb") as file:
                if file.read(132)[128:] == b"DICM":
                    meta = pydicom.filereader.read_file_meta_info(path)
                    if meta.get("TransferSyntaxUID") == _DEFLATED:
                        # pydicom inflates such files whole and without a limit.
                        raise FilmError("Deflated DICOM files are not read: upload the film uncompressed or as PNG.")
            dataset = pydicom.dcmread(path, force=True)
            _check_size(int(dataset.Columns), int(dataset.Rows))
            if int(dataset.get("NumberOfFrames") or 1) > 1:
                raise FilmError("The DICOM file holds several frames: upload one film.")
            stored = decode(dataset)
            if stored.ndim != 2:
                raise FilmError("The DICOM file holds a colour image: a chest film is grey.")
            return Image.fromarray(to_display(dataset, stored))
    except FilmError:
        raise
    except Exception as error:
        if isinstance(error, DisplayError) and error.kind == BLANK:
            raise FilmError(_BLANK) from error
        # pydicom raises whatever its parsing and its decoders run into.
        raise FilmError(
            "The DICOM file has no readable pixels: it is damaged, no image, or compressed in a way that is not "
            "read here. Upload the film uncompressed or as PNG."
        ) from error
