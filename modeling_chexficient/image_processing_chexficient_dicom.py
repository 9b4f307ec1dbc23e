"""Stored DICOM pixels as the eight-bit film that a viewer shows: the one implementation for all rooms and the page.

The order is that of DICOM PS3.4 N.2: stored values, modality LUT or rescale, VOI LUT or window, then the polarity of
the photometric interpretation or of the presentation LUT. Pixel padding is left out of all of it and is black. The film
is turned upright as Patient Orientation says, and oblong pixels are made square.

`model_cards.space` copies this file into a Space: it imports nothing of this project, only numpy and, where it is
needed, pydicom.
"""

from __future__ import annotations

import importlib
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
#: Nearly all pixels of a film: a bright letter or a few hot pixels are less than the rest.
_NEARLY_ALL = 0.98
#: Stored values that lie closer together than this are one flat area; greys of a window that is of use lie further.
FLAT_STORED, _FLAT_GREYS = 16, 4
#: Fewer stored values than this are noise that must not be stretched to a film where a window or hot pixels hide them.
_FEWEST_LEVELS = 64
#: Body Part Examined of a film of the chest holds one of these.
CHEST = ("CHEST", "THORAX", "LUNG", "TORAX", "THORACIC CAVITY")
#: In this order, (vertical, horizontal) size of a pixel. A difference of less than a hundredth is not seen.
_PIXEL_SIZES = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
_SQUARE, _LONGEST = 1.01, 4


class DisplayError(ValueError):
    """Pixels that cannot be shown. The message holds no file's name; `kind` says the same in a few fixed words."""

    def __init__(self, message: str, kind: str = DAMAGED):
        super().__init__(message)
        self.kind = kind


def _pydicom(part: str):
    """A part of pydicom, which is not needed before: transformers refuses remote code that could not import it."""
    return importlib.import_module(f"pydicom.{part}")


def decode(dataset, frame: int | None = None) -> np.ndarray:
    """Stored values of a dataset that `pydicom.dcmread` has read: [H, W], or [H, W, 3] uint8 or uint16 for colour.

    What a share of public films lacks is added to the header first: transfer syntax, bits stored, high bit. The bits
    outside of those stored (old overlays with names) are removed, and the film is turned upright (`turns`).

    Args:
        frame: number of the frame to decode, from 0; None where there is one.

    Raises:
        DisplayError: the pixels are damaged, no film, or compressed in a way that nothing installed can undo.
    """
    pixels = _pydicom("pixels")
    try:
        _complete_header(dataset)
        syntax = dataset.file_meta.TransferSyntaxUID
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if syntax.is_compressed and not pixels.get_decoder(syntax).is_available:
                raise NotImplementedError("no installed decoder reads it")
            grey = dataset.get("SamplesPerPixel", 1) == 1 and dataset.PhotometricInterpretation != "PALETTE COLOR"
            keeps_bits = grey and (not syntax.is_encapsulated or syntax == "1.2.840.10008.1.2.5")
            # All allocated bits as they are: pydicom looks for the stored ones at the lower end only.
            whole = {"bits_stored": dataset.BitsAllocated} if keeps_bits else {}
            stored = pixels.pixel_array(dataset, index=frame, **whole)
            if grey and stored.dtype.kind in "iu":
                stored = _stored_bits(dataset, stored)
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
    return _upright(dataset, stored)


def _stored_bits(dataset, decoded: np.ndarray) -> np.ndarray:
    """The values within the bits stored (PS3.5 8.1.1), without what lies above or below them."""
    bits, allocated = int(dataset.BitsStored), 8 * decoded.dtype.itemsize
    if not 1 <= bits < allocated:
        return decoded
    raw = decoded.view(f"u{decoded.dtype.itemsize}")
    # Above its usual place the high bit is often a slip: then no value needs the bits above.
    above = int(dataset.HighBit) - (bits - 1)
    if 0 < above <= allocated - bits and raw.max() >= 2**bits:
        raw = raw >> above
    left = allocated - bits
    if decoded.dtype.kind == "i":
        # Up and down again extends the sign.
        return ((raw << left).view(decoded.dtype) >> left).astype(decoded.dtype, copy=False)
    return raw & decoded.dtype.type(2**bits - 1) if raw.max() >= 2**bits else raw


def turns(dataset) -> tuple[bool, bool, bool]:
    """What makes the film upright (PS3.3 C.7.6.1.1.1): exchange rows and columns, then left and right, top and bottom.

    Of a frontal film the patient's left comes to the right of the picture. A film from the side may look either way.
    Directions that are absent, unknown, of a slice or of another part of the body say nothing.
    """
    part = str(dataset.get("BodyPartExamined") or "").upper()
    if part and not any(word in part for word in CHEST):
        return False, False, False
    given = dataset.get("PatientOrientation")
    ends = [] if not given or isinstance(given, str) else [str(end).strip().upper()[:1] for end in given]
    if len(ends) != 2:
        return False, False, False
    exchange = ends[0] in "HF" and ends[0] != ""
    right, down = reversed(ends) if exchange else ends
    if not right or not down or right not in "LRAP" or down not in "HF":
        return False, False, False
    return exchange, right == "R", down == "H"


def _upright(dataset, stored: np.ndarray) -> np.ndarray:
    exchange, across, down = turns(dataset)
    turned = stored.swapaxes(0, 1) if exchange else stored
    turned = turned[:, ::-1] if across else turned
    return np.ascontiguousarray(turned[::-1] if down else turned)


def square(dataset, film: np.ndarray) -> np.ndarray:
    """The upright film, uint8 [H, W] or [H, W, 3], enlarged along the side on which its pixels are longer.

    Raises:
        DisplayError: one side of a pixel is more than four times the other.
    """
    from PIL import Image

    down, across = pixel_shape(dataset)
    if turns(dataset)[0]:
        down, across = across, down
    longer = max(down, across) / min(down, across)
    if longer == 1:
        return film
    if longer > _LONGEST:
        raise DisplayError(f"pixels of {down:g} x {across:g} (spacing or aspect ratio) are of no film")
    height, width = film.shape[:2]
    size = (width, round(height * longer)) if down > across else (round(width * longer), height)
    return np.asarray(Image.fromarray(film).resize(size, Image.Resampling.BICUBIC))


def pixel_shape(dataset) -> tuple[float, float]:
    """(vertical, horizontal) size of a pixel as it is stored; (1.0, 1.0) of one that is nearly square, or unknown."""
    sizes = (_two_numbers(dataset.get(name)) for name in _PIXEL_SIZES)
    down, across = next((size for size in sizes if size is not None), (1.0, 1.0))
    return (1.0, 1.0) if max(down, across) / min(down, across) < _SQUARE else (down, across)


def _two_numbers(value) -> tuple[float, float] | None:
    try:
        first, second = (float(number) for number in value)
    except (TypeError, ValueError):
        return None
    return (first, second) if 0 < first < np.inf and 0 < second < np.inf else None


def _complete_header(dataset) -> None:
    uid = _pydicom("uid")
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
    """Stored values [H, W] as `decode` gives them to uint8 [H, W] with air black, whatever the stored polarity.

    The range of the window or VOI LUT becomes 0 to 255; without one, the film's own lowest to highest value. Of
    several windows or LUTs the first counts, and a LUT before a window. One that leaves nearly all of the film (98 %)
    in two flat greys or fewer counts as none; where a few hot pixels do that, the ends are cut half a percent inside.

    Args:
        dataset: the header; it needs PhotometricInterpretation, and for a window BitsStored and PixelRepresentation.

    Raises:
        DisplayError: nearly all pixels have one or two values (kind `BLANK`), or the header cannot be used.
    """
    try:
        codes, levels, found = _codes(stored)
        counts = np.bincount(codes.ravel(), minlength=len(found))
        region = _padding_region(dataset, levels, codes, found)
        if region is not None:
            counts = counts - np.bincount(codes[region], minlength=len(found))
        # Every step depends on a pixel's value alone: at most 65,536 values are computed, then looked up.
        table = np.zeros(len(found), np.uint8)
        table[found] = _grey_levels(dataset, levels, counts[found])
        shown = table.take(codes)
        if region is not None:
            shown[region] = 0
        return square(dataset, shown)
    except DisplayError:
        raise
    except _HEADER_ERRORS as error:
        raise DisplayError(f"header or grey values cannot be used ({error})") from error


def _codes(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A code for each pixel [H, W], the distinct stored values [N], and which of M codes there are, bool [M]."""
    if stored.dtype.kind not in "iu" or stored.dtype.itemsize > 2:
        levels, places = np.unique(stored, return_inverse=True)
        return places.reshape(stored.shape), levels, np.ones(len(levels), bool)
    native = np.ascontiguousarray(stored.astype(stored.dtype.newbyteorder("="), copy=False))
    unsigned = f"u{stored.dtype.itemsize}"
    # numpy looks up fastest by its own type of indices.
    codes = native.view(unsigned).astype(np.intp)
    found = np.zeros(2 ** (8 * stored.dtype.itemsize), bool)
    found[codes] = True
    return codes, np.flatnonzero(found).astype(unsigned).view(native.dtype), found


def _grey_levels(dataset, levels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The greys, uint8 [N], of a film's distinct stored values [N], of which `counts` [N] pixels are no padding."""
    film = counts > 0
    values = _modality_values(dataset, levels)
    if not np.isfinite(values).all():
        raise DisplayError("some grey values are no finite numbers")
    low, high = float(values[film].min()), float(values[film].max())
    if low == high:
        raise DisplayError("all pixels have one grey value", BLANK)
    if levels.dtype.kind in "iu" and is_flat(levels, counts):
        raise DisplayError("nearly all pixels have one or two grey values", BLANK)
    window = _voi_values(dataset, values)
    grey = None if window is None or window[1] == window[2] else _stretch(*window)
    if grey is None or is_flat(grey, counts, _FLAT_GREYS):
        grey = _stretch(values, low, high)
        if is_flat(grey, counts, _FLAT_GREYS):
            grey = _stretch_inside(values, levels, counts)
    # The shape of the presentation LUT says the same as MONOCHROME1 (PS3.3 C.8.11.3.1.2), mostly together with it.
    if dataset.PhotometricInterpretation == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE":
        grey = 255 - grey
    return grey


def is_flat(values: np.ndarray, counts: np.ndarray, width: int = FLAT_STORED) -> bool:
    """Whether two ranges of less than `width` hold nearly all pixels, `counts` [N] of which have each of `values` [N].

    Two, since a blank film may have a border; nearly, since it may have a letter.
    """
    order = np.argsort(values)
    ordered, pixels = values[order].astype(np.float64), counts[order].astype(np.int64)
    ends = np.searchsorted(ordered, ordered + width, "left")
    covered = 0
    for _ in range(2):
        sums = np.concatenate([[0], np.cumsum(pixels)])
        inside = sums[ends] - sums[:-1]
        start = int(inside.argmax())
        covered += int(inside[start])
        pixels[start : ends[start]] = 0
    return covered >= _NEARLY_ALL * counts.sum()


def _stretch_inside(values: np.ndarray, levels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Greys of a film in which a few pixels lie far from all others: those become black or white."""
    order = np.argsort(values, kind="stable")
    places = np.searchsorted(np.cumsum(counts[order]), np.array([0.005, 0.995]) * counts.sum())
    first, last = order[places]
    apart = abs(float(levels[last]) - float(levels[first]))
    if values[first] == values[last] or (levels.dtype.kind in "iu" and apart < _FEWEST_LEVELS):
        raise DisplayError("nearly all pixels have one or two grey values", BLANK)
    return _stretch(values, float(values[first]), float(values[last]))


def _stretch(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values from `low` to `high` as greys from 0 to 255."""
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


def _padding_region(dataset, levels: np.ndarray, codes: np.ndarray, found: np.ndarray) -> np.ndarray | None:
    """Which pixels are padding, bool [H, W]; None if there is none.

    Where padding is the film's lowest or highest value, metal or air within the film may have it too: then only what
    a straight line from an edge reaches is padding, which is all that lies outside of a convex film.
    """
    padding = _padding(dataset, levels)
    if not padding.any():
        return None
    table = np.zeros(len(found), bool)
    table[found] = padding
    region = table.take(codes)
    if padding[levels.argmin()] or padding[levels.argmax()]:
        reach = np.logical_and.accumulate
        sideways = reach(region, axis=1) | reach(region[:, ::-1], axis=1)[:, ::-1]
        region = sideways | reach(region, axis=0) | reach(region[::-1], axis=0)[::-1]
    return region


def _modality_values(dataset, levels: np.ndarray) -> np.ndarray:
    """Stored values after the modality LUT or rescale (PS3.3 C.11.1)."""
    pixels = _pydicom("pixels")
    if dataset.get("ModalityLUTSequence"):
        table, places = _lookup_table(dataset, dataset.ModalityLUTSequence[0], levels)
        return table[places]
    return pixels.apply_modality_lut(levels, dataset)


def _voi_values(dataset, values: np.ndarray) -> tuple[np.ndarray, float, float] | None:
    """Values after VOI LUT or window (PS3.3 C.11.2), and the ends of what that can give; None without either."""
    pixels = _pydicom("pixels")
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
        return None
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


__all__ = [
    "BLANK",
    "CHEST",
    "DAMAGED",
    "DisplayError",
    "decode",
    "is_flat",
    "pixel_shape",
    "square",
    "to_display",
    "turns",
]
