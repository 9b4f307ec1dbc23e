"""Stored DICOM pixels as the eight-bit film that a viewer shows: the one implementation for training and for the page.

The order is that of DICOM PS3.4 N.2: stored values, modality LUT or rescale, VOI LUT or window, then the polarity of
the photometric interpretation or of the presentation LUT. Pixel padding is left out of all of it and is black.

`model_cards.space` copies this file into a Space: it imports nothing of this project, only numpy and, where it is
needed, pydicom.
"""

from __future__ import annotations

import warnings

import numpy as np

#: What pydicom and numpy raise where a header holds values of another kind, or contradicts itself.
_HEADER_ERRORS = (
    AttributeError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    ArithmeticError,
    NotImplementedError,
)
#: Kinds of `DisplayError`.
BLANK = "image blank"
DAMAGED = "DICOM damaged"


class DisplayError(ValueError):
    """Pixels that cannot be shown. The message holds no file's name; `kind` says the same in a few fixed words."""

    def __init__(self, message: str, kind: str = DAMAGED):
        super().__init__(message)
        self.kind = kind


def decode(dataset, frame: int | None = None) -> np.ndarray:
    """Stored values of a dataset that `pydicom.dcmread` has read: [H, W], or [H, W, 3] uint8 or uint16 for colour.

    What a share of public films lacks is added to the header first: transfer syntax, bits stored, high bit.

    Args:
        frame: number of the frame to decode, from 0; None where there is one.

    Raises:
        DisplayError: the pixels are damaged, no film, or compressed in a way that nothing installed can undo.
    """
    from pydicom import pixels

    try:
        _complete_header(dataset)
        syntax = dataset.file_meta.TransferSyntaxUID
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if syntax.is_compressed and not pixels.get_decoder(syntax).is_available:
                raise NotImplementedError("no installed decoder reads it")
            stored = pixels.pixel_array(dataset, index=frame)
    except (*_HEADER_ERRORS, RuntimeError, OSError, MemoryError) as error:
        raise _decoding_error(dataset, error) from error
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        try:
            stored = pixels.apply_color_lut(stored, dataset)
        except _HEADER_ERRORS as error:
            raise DisplayError(f"damaged colour palette ({_first_line(error)})") from error
    colour = stored.ndim == 3 and stored.shape[2] == 3 and stored.dtype in (np.uint8, np.uint16)
    if stored.ndim != 2 and not colour:
        raise DisplayError(f"pixels of shape {stored.shape}, {stored.dtype} are no film")
    return stored


def _complete_header(dataset) -> None:
    from pydicom import uid

    if "TransferSyntaxUID" not in dataset.file_meta:
        # Without a preamble nothing names the encoding: pydicom has guessed it from the first elements.
        implicit, little = dataset.original_encoding
        explicit = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit and little else explicit
    if "BitsStored" not in dataset:
        dataset.BitsStored = dataset.BitsAllocated
    if "HighBit" not in dataset:
        # It can only be this.
        dataset.HighBit = dataset.BitsStored - 1


def _decoding_error(dataset, error: BaseException) -> DisplayError:
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if isinstance(error, (NotImplementedError, RuntimeError)) and not syntax.is_private and syntax.is_compressed:
        return DisplayError(
            f"transfer syntax {syntax.name!r} ({syntax}) cannot be decoded ({_first_line(error)}): "
            'pip install "chexficient[dicom-codecs]"',
            "DICOM transfer syntax not supported",
        )
    return DisplayError(f"damaged DICOM pixels ({_first_line(error)})")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def to_display(dataset, stored: np.ndarray) -> np.ndarray:
    """Stored values [H, W] to uint8 [H, W] with air black, whatever the stored polarity.

    The range of the window or VOI LUT becomes 0 to 255; without one, the film's own lowest to highest value. Of
    several windows or LUTs the first counts, and a LUT before a window. One that leaves a single grey counts as none.

    Args:
        dataset: the header; it needs PhotometricInterpretation, and for a window BitsStored and PixelRepresentation.

    Raises:
        DisplayError: all pixels have one value (kind `BLANK`), or the header's values cannot be used.
    """
    try:
        if stored.dtype.kind not in "iu" or stored.dtype.itemsize > 2:
            levels, places = np.unique(stored, return_inverse=True)
            return _grey_levels(dataset, levels)[places.reshape(stored.shape)]
        # Every step depends on a pixel's value alone: at most 65,536 values are computed, then looked up.
        native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
        unsigned = f"u{stored.dtype.itemsize}"
        # numpy looks up fastest by its own type of indices.
        codes = native.view(unsigned).astype(np.intp)
        found = np.zeros(2 ** (8 * stored.dtype.itemsize), bool)
        found[codes] = True
        levels = np.flatnonzero(found).astype(unsigned).view(native.dtype)
        table = np.zeros(len(found), np.uint8)
        table[found] = _grey_levels(dataset, levels)
        return table.take(codes)
    except DisplayError:
        raise
    except _HEADER_ERRORS as error:
        raise DisplayError(f"header or grey values cannot be used ({error})") from error


def _grey_levels(dataset, levels: np.ndarray) -> np.ndarray:
    """The greys, uint8 [N], of a film's distinct stored values [N]."""
    padding = _padding(dataset, levels)
    film = ~padding
    values = _modality_values(dataset, levels)
    if not np.isfinite(values).all():
        raise DisplayError("some grey values are no finite numbers")
    grey = _stretch(*_voi_values(dataset, values))
    if grey is None or grey[film].min() == grey[film].max():
        grey = _stretch(values, float(values[film].min()), float(values[film].max()))
    if grey is None:
        raise DisplayError("all pixels have one grey value", BLANK)
    # The shape of the presentation LUT says the same as MONOCHROME1 (PS3.3 C.8.11.3.1.2), mostly together with it.
    if dataset.PhotometricInterpretation == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE":
        grey = 255 - grey
    grey[padding] = 0
    return grey


def _stretch(values: np.ndarray, low: float | None, high: float | None) -> np.ndarray | None:
    """Values from `low` to `high` as greys from 0 to 255; None where there is no such range."""
    if low is None or high is None or low == high:
        return None
    return np.clip((values.astype(np.float32) - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)


def _padding(dataset, levels: np.ndarray) -> np.ndarray:
    """Which stored values are padding (PS3.3 C.7.5.1.1.2), bool [N]; none if that would be all of them."""
    first, last = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if first is None:
        return np.zeros(levels.shape, bool)
    ends = [first, first if last is None else last]
    if levels.dtype.kind == "i":
        # A negative value of 16 bits that was written as an unsigned one.
        ends = [end - 2**16 if end >= 2**15 else end for end in ends]
    padding = (levels >= min(ends)) & (levels <= max(ends))
    return padding & (not padding.all())


def _modality_values(dataset, levels: np.ndarray) -> np.ndarray:
    """Stored values after the modality LUT or rescale (PS3.3 C.11.1)."""
    from pydicom import pixels

    if dataset.get("ModalityLUTSequence"):
        table, places = _lookup_table(dataset, dataset.ModalityLUTSequence[0], levels)
        return table[places]
    return pixels.apply_modality_lut(levels, dataset)


def _voi_values(dataset, values: np.ndarray) -> tuple[np.ndarray, float | None, float | None]:
    """Values after VOI LUT or window (PS3.3 C.11.2), and the ends of what that can give; None, None without either."""
    from pydicom import pixels

    item = (dataset.get("VOILUTSequence") or [{}])[0]
    if item.get("LUTDescriptor") is not None and item.get("LUTData") is not None:
        table, places = _lookup_table(dataset, item, values)
        return table[places], float(table.min()), float(table.max())
    centre, width = _first_number(dataset.get("WindowCenter")), _first_number(dataset.get("WindowWidth"))
    if "VOILUTFunction" in dataset and not dataset.VOILUTFunction:
        del dataset.VOILUTFunction
    # A linear window of width 1 has no grey between black and white.
    narrowest = 1 if dataset.get("VOILUTFunction", "LINEAR") == "LINEAR" else 0
    if centre is None or width is None or width <= narrowest:
        return values, None, None
    with np.errstate(over="ignore"):
        # Far outside of the window lie the two ends of what it can give.
        ends = pixels.apply_windowing(np.array([centre - 100 * width, centre + 100 * width]), dataset)
        return pixels.apply_windowing(values, dataset), float(ends[0]), float(ends[1])


def _lookup_table(dataset, item, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The entries of a modality or VOI LUT [M], and the place of each value among them [N] (PS3.3 C.11.1.1, C.11.2.1).

    Not pydicom's: that drops entries below zero, and counts them in the type of the entries, which overflows.
    """
    entries, first = int(item.LUTDescriptor[0]) % 2**16 or 2**16, int(item.LUTDescriptor[1])
    if first >= 2**15 and first > values.max():
        # A negative value of 16 bits that was written as an unsigned one.
        first -= 2**16
    data = item.LUTData
    if isinstance(data, bytes):
        meta = getattr(dataset, "file_meta", None) or {}
        big = meta.get("TransferSyntaxUID") == "1.2.840.10008.1.2.2"
        kind = "u1" if len(data) < 2 * entries else ">u2" if big else "<u2"
        table = np.frombuffer(data[: entries * np.dtype(kind).itemsize], kind)
    else:
        table = np.atleast_1d(np.asarray(data))[:entries]
    if len(table) < entries:
        raise DisplayError(f"a lookup table of {entries} entries holds {len(table)}")
    return table, np.clip(np.floor(values).astype(np.int64) - first, 0, entries - 1)


def _first_number(value) -> float | None:
    try:
        return float(value if isinstance(value, (int, float, str)) else value[0])
    except (TypeError, ValueError, IndexError):
        return None
