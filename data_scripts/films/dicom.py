"""DICOM films as eight-bit grey images, and the few technical fields that may be read from their headers.

How stored values become greys is written in `dicom_display`, which the page of `model_cards.space` uses too. Needs the
extra `dicom` (pydicom).
"""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from data_scripts.films import dicom_display
from data_scripts.films.dicom_display import DisplayError
from data_scripts.films.limits import MAX_PIXELS, check_size
from data_scripts.schema import DataError

SUFFIXES = (".dcm", ".dicom")
#: What decides whether and as which view a film is taken; of these only the view ever gets into a dataset.
TECHNICAL_FIELDS = (
    *("Modality", "BodyPartExamined", "ViewPosition", "PhotometricInterpretation", "NumberOfFrames"),
    *("ViewCodeSequence", "SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription"),
    *("PresentationIntentType", "BurnedInAnnotation", "SOPClassUID"),
)
#: SOP classes of detector data before any processing: digital X-ray, mammography, intra-oral X-ray (PS3.4 B.5).
FOR_PROCESSING = tuple(f"1.2.840.10008.5.1.4.1.1.1.{kind}.1" for kind in (1, 2, 3))
#: Read to group and match films; never written, `data_scripts.loaders.folder` numbers or hashes them.
LINKING_FIELDS = ("PatientID", "StudyInstanceUID", "AccessionNumber")
FRAMES = ("first", "middle")
#: More than this is no header and no film: deflated data that grow beyond are refused.
_MAX_INFLATED = 4 * MAX_PIXELS
_DEFLATED = "1.2.840.10008.1.2.1.99"


def is_dicom(path: Path) -> bool:
    """By suffix, or by the four letters that follow the preamble: many archives name files by UID, without suffix.

    Raises:
        DataError: the file cannot be opened.
    """
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError as error:
        raise DataError(f"{path}: the file cannot be opened ({error})", "file not readable") from error


def read_header(path: Path, fields: tuple[str, ...]) -> dict[str, str]:
    """The named header fields as text, "" where absent; of a sequence of codes "value meaning" of the first.

    Raises:
        DataError: not readable as DICOM, or pydicom is not installed.
    """
    dataset = _read(path, stop_before_pixels=True)
    return {name: _as_text(dataset.get(name, "")) for name in fields}


def _as_text(value) -> str:
    if type(value).__name__ == "Sequence":
        code = value[0] if value else {}
        return f"{code.get('CodeValue') or code.get('LongCodeValue') or ''} {code.get('CodeMeaning') or ''}".strip()
    return str(value or "").strip()


def read_dicom(path: Path, frame: str | None = None) -> Image.Image:
    """The film as a viewer shows it: mode "L" (RGB for colour), black air, whatever the stored polarity.

    Grey values as in `dicom_display.to_display`.

    Args:
        frame: "first" or "middle" of several frames; None refuses files that have more than one.

    Raises:
        DataError: the file is no DICOM, has no or damaged pixels, is compressed in a way that nothing installed can
            undo (the message names the extra), has several frames, one single grey, or an impossible size.
    """
    dataset = _read(path)
    try:
        stored = dicom_display.decode(dataset, _checked_frame(path, dataset, frame))
    except DataError:
        raise
    except DisplayError as error:
        raise DataError(f"{path}: {error}", error.kind) from error
    except (AttributeError, TypeError, ValueError) as error:
        # From numbers in the header that did not pass the checks.
        raise DataError(f"{path}: header or grey values cannot be used ({error})", dicom_display.DAMAGED) from error
    if stored.ndim == 2:
        film = Image.fromarray(to_display(path, dataset, stored))
    else:
        # Here, as in `films.images`: the package takes seconds to import.
        from modeling_chexficient import to_eight_bit

        film = to_eight_bit(Image.fromarray(_squared(path, dataset, np.asarray(to_eight_bit(stored)))))
    if any(dicom_display.turns(dataset)):
        film.info["turned"] = "\\".join(map(str, dataset.PatientOrientation))
    return film


def read_stored(path: Path) -> np.ndarray:
    """The stored values [H, W] or [H, W, 3] of a DICOM file that is a mask, upright; raises as `read_dicom`."""
    dataset = _read(path)
    try:
        return dicom_display.decode(dataset, _checked_frame(path, dataset, None))
    except DataError:
        raise
    except DisplayError as error:
        raise DataError(f"{path}: {error}", error.kind) from error


def _squared(path: Path, dataset, film: np.ndarray) -> np.ndarray:
    try:
        return dicom_display.square(dataset, film)
    except DisplayError as error:
        raise DataError(f"{path}: {error}", error.kind) from error


def require_pydicom():
    try:
        import pydicom
    except ImportError as error:
        raise DataError(
            'DICOM files need pydicom: pip install "chexficient[dicom]"', "pydicom is not installed"
        ) from error
    return pydicom


def _read(path: Path, stop_before_pixels: bool = False):
    pydicom = require_pydicom()
    try:
        with warnings.catch_warnings():
            # Archives are full of values that break a rule of their field; we read few fields and check those.
            warnings.simplefilter("ignore")
            _refuse_deflate_bomb(pydicom, path)
            dataset = pydicom.dcmread(
                path, stop_before_pixels=stop_before_pixels, force=path.suffix.lower() in SUFFIXES
            )
            if "Rows" not in dataset and "SOPClassUID" not in dataset:
                raise DataError(f"{path}: not a DICOM file", "not an image")
    except DataError:
        raise
    except pydicom.errors.InvalidDicomError as error:
        raise DataError(f"{path}: not a DICOM file", "not an image") from error
    except Exception as error:
        # pydicom raises whatever its parsing runs into.
        raise DataError(f"{path}: damaged DICOM file ({type(error).__name__}: {error})", "DICOM damaged") from error
    return dataset


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
                raise DataError(f"{path}: decompression bomb (more than {_MAX_INFLATED:,} bytes)", "image too large")


def _checked_frame(path: Path, dataset, frame: str | None) -> int | None:
    """Number of the frame to decode, None if there is only one; sizes are checked before anything is decoded."""
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise DataError(f"{path}: a DICOM file without pixels", "DICOM without pixels")
    missing = [
        name for name in ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation") if name not in dataset
    ]
    if missing:
        raise DataError(f"{path}: the DICOM header lacks {', '.join(missing)}", "DICOM damaged")
    check_size(path, int(dataset.Columns), int(dataset.Rows))
    count = int(dataset.get("NumberOfFrames") or 1)
    if count == 1:
        return None
    if frame is None:
        raise DataError(
            f"{path}: {count} frames; choose one of them (folder loader: --multi_frame first or middle)",
            "DICOM with several frames",
        )
    return {"first": 0, "middle": count // 2}[frame]


def to_display(path: Path, dataset, stored: np.ndarray) -> np.ndarray:
    """`dicom_display.to_display` for the film of the file `path`: uint8 [H, W] with air black.

    Raises:
        DataError: the film is blank or its header damaged; the file is named.
    """
    try:
        return dicom_display.to_display(dataset, stored)
    except DisplayError as error:
        raise DataError(f"{path}: {error}", error.kind) from error
