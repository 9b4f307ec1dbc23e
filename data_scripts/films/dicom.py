"""DICOM films as eight-bit grey images, and the few technical fields that may be read from their headers.

The order of transformations is that of DICOM PS3.4 N.2: stored values, modality LUT or rescale, VOI LUT or window,
then the polarity of the photometric interpretation. Needs the extra `dicom` (pydicom).
"""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from data_scripts.films.limits import MAX_PIXELS, check_size
from data_scripts.schema import DataError
from modeling_chexficient import to_eight_bit

SUFFIXES = (".dcm", ".dicom")
#: All that is ever taken from a header into a dataset: nothing here tells who the patient is.
TECHNICAL_FIELDS = ("Modality", "BodyPartExamined", "ViewPosition", "PhotometricInterpretation", "NumberOfFrames")
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
    """The named header fields as text, "" where absent.

    Raises:
        DataError: not readable as DICOM, or pydicom is not installed.
    """
    dataset = _read(path, stop_before_pixels=True)
    return {name: str(dataset.get(name, "") or "").strip() for name in fields}


def read_dicom(path: Path, frame: str | None = None) -> Image.Image:
    """The film as a viewer shows it: mode "L" (RGB for colour), black air, whatever the stored polarity.

    Grey values: the window's (or VOI LUT's) range becomes 0 to 255; without one, the film's own lowest to highest value
    (padding left out, and made black). A window that leaves a single grey counts as none.

    Args:
        frame: "first" or "middle" of several frames; None refuses files that have more than one.

    Raises:
        DataError: the file is no DICOM, has no or damaged pixels, is compressed in a way that nothing installed can
            undo (the message names the extra), has several frames, one single grey, or an impossible size.
    """
    dataset = _read(path)
    try:
        pixels = _decode(path, dataset, _checked_frame(path, dataset, frame))
        if pixels.ndim == 3:
            return to_eight_bit(pixels)
        return Image.fromarray(to_display(path, dataset, pixels))
    except DataError:
        raise
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path}: header or grey values cannot be used ({error})", "DICOM damaged") from error


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
            if "TransferSyntaxUID" not in dataset.file_meta:
                # Without a preamble nothing names the encoding: pydicom has guessed it from the first elements.
                implicit, little = dataset.original_encoding
                names = pydicom.uid.ImplicitVRLittleEndian, pydicom.uid.ExplicitVRLittleEndian
                dataset.file_meta.TransferSyntaxUID = names[not implicit] if little else pydicom.uid.ExplicitVRBigEndian
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


def _decode(path: Path, dataset, index: int | None) -> np.ndarray:
    """Stored values [H, W], or [H, W, 3] uint8 or uint16 where the film has colour."""
    pydicom = require_pydicom()
    syntax = dataset.file_meta.TransferSyntaxUID
    if "BitsStored" not in dataset:
        dataset.BitsStored = dataset.BitsAllocated
    if "HighBit" not in dataset:
        # Missing in a share of public films; it can only be this.
        dataset.HighBit = dataset.BitsStored - 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not syntax.is_compressed or pydicom.pixels.get_decoder(syntax).is_available:
                pixels = pydicom.pixels.pixel_array(dataset, index=index)
            else:
                raise NotImplementedError("no installed decoder reads it")
    except (NotImplementedError, RuntimeError, AttributeError, ValueError, OSError, MemoryError) as error:
        known = not syntax.is_private and syntax.is_compressed
        if known and isinstance(error, (NotImplementedError, RuntimeError)):
            raise DataError(
                f"{path}: transfer syntax {syntax.name!r} ({syntax}) cannot be decoded ({_first_line(error)}): "
                'pip install "chexficient[dicom-codecs]"',
                "DICOM transfer syntax not supported",
            ) from error
        raise DataError(f"{path}: damaged DICOM pixels ({_first_line(error)})", "DICOM damaged") from error
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        pixels = pydicom.pixels.apply_color_lut(pixels, dataset)
    if pixels.ndim not in (2, 3) or (
        pixels.ndim == 3 and (pixels.shape[2] != 3 or pixels.dtype not in (np.uint8, np.uint16))
    ):
        raise DataError(f"{path}: pixels of shape {pixels.shape}, {pixels.dtype} are no film", "DICOM damaged")
    return pixels


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def to_display(path: Path, dataset, stored: np.ndarray) -> np.ndarray:
    """Stored values [H, W] to uint8 [H, W] with air black."""
    pixels = require_pydicom().pixels
    padding = _padding(dataset, stored)
    values = pixels.apply_modality_lut(stored, dataset)
    shown, limits = _apply_voi(dataset, values)
    if limits is None or shown[~padding].size == 0 or shown[~padding].min() == shown[~padding].max():
        shown = values
        film = values[~padding] if not padding.all() else values
        limits = float(film.min()), float(film.max())
    low, high = limits
    if low == high:
        raise DataError(f"{path}: all pixels have one grey value", "image blank")
    grey = np.clip((shown.astype(np.float32) - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)
    # The shape of the presentation LUT says the same as MONOCHROME1 (PS3.3 C.11.6), mostly together with it.
    if dataset.PhotometricInterpretation == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE":
        grey = 255 - grey
    grey[padding] = 0
    return grey


def _padding(dataset, stored: np.ndarray) -> np.ndarray:
    """Where the film has been padded, bool [H, W]; nowhere if that would be all of it."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, bool)
    last = dataset.get("PixelPaddingRangeLimit", first)
    return (stored >= min(first, last)) & (stored <= max(first, last))


def _apply_voi(dataset, values: np.ndarray) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Values after VOI LUT or window, and the lowest and highest value that they could take; None without either."""
    pixels = require_pydicom().pixels
    if dataset.get("VOILUTSequence"):
        table = pixels.apply_voi(np.arange(2**16), dataset)
        return pixels.apply_voi(values, dataset), (float(table.min()), float(table.max()))
    centre, width = _first_number(dataset.get("WindowCenter")), _first_number(dataset.get("WindowWidth"))
    if centre is None or width is None or width <= 1:
        return values, None
    # Far outside of the window lie the two ends of what it can give.
    ends = pixels.apply_windowing(np.array([centre - 100 * width, centre + 100 * width]), dataset)
    return pixels.apply_windowing(values, dataset), (float(ends[0]), float(ends[1]))


def _first_number(value) -> float | None:
    try:
        return float(value if isinstance(value, (int, float, str)) else value[0])
    except (TypeError, ValueError, IndexError):
        return None
