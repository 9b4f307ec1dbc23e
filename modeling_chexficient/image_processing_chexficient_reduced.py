"""Large films decoded at a half, a quarter or an eighth of their size: quicker than in full, and not quite the same.

JPEG leaves out the higher frequencies of its blocks (libjpeg's scaling), JPEG 2000 its finest wavelet levels. The film
is then scaled in the geometry of the whole one, so that nothing moves. It is never decoded at less than twice the side
that is asked for: of 28 JPEG of covid-chestxray of 1,512 px and more, prepared at 378 px, the greys are then off by
0.20 of 255 in the mean, by 0.27 in the worst film (`python -m data_scripts.prepare.speed --films_of DIR`), and single
pixels by up to 19.
"""

from __future__ import annotations

import importlib
import io

import numpy as np
from PIL import Image

from .image_processing_chexficient_dicom import pixel_shape, turns
from .image_processing_chexficient_pixels import resize_reduced, to_eight_bit

#: Decoded at no less than this many times the side asked for. Even so, single pixels differ by up to 19 greys, at the
#: edges of letters and lines.
LEAST_TIMES = 2
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")


def reduction(width: int, height: int, side: int) -> int:
    """By what a film of this size may be reduced where its short side will become `side`: 1, 2, 4 or 8."""
    times = min(width, height) // (LEAST_TIMES * side)
    return max(factor for factor in (1, 2, 4, 8) if factor <= max(1, times))


def load_reduced(image: Image.Image, side: int) -> Image.Image:
    """A picture that `Image.open` has opened, loaded; a large JPEG reduced, with a short side of `side`."""
    whole = image.size
    factor = reduction(*whole, side)
    if factor == 1 or image.format != "JPEG" or image.mode not in ("L", "RGB"):
        image.load()
        return image
    # Pillow takes the largest of these factors that leaves at least this size.
    image.draft(image.mode, (whole[0] // factor, whole[1] // factor))
    image.load()
    if image.size == whole:
        return image
    # Its pixels as they lie: upright by EXIF, they would no more lie in the geometry of `whole`.
    lying = image.copy()
    lying.info = {}
    reduced = resize_reduced(to_eight_bit(lying), whole, factor, side)
    reduced.info = dict(image.info)
    return reduced


def decode_reduced(dataset, side: int) -> tuple[np.ndarray, int] | None:
    """Stored values of a DICOM film at a part of its size, and by what it is reduced; None where that is not to be.

    Only large films in JPEG 2000: one frame of unsigned greys with a window or VOI LUT (without one the lowest and the
    highest value, which reducing changes, would be black and white), without padding (which it would smear), upright
    and with square pixels.

    Args:
        dataset: as `pydicom.dcmread` gives it, whose size was checked.
        side: what the short side will become.

    Returns:
        [h + 1, w + 1], the last row and column there twice, for `resize_reduced` with `on_first`.
    """
    whole = int(dataset.Columns), int(dataset.Rows)
    factor = reduction(*whole, side)
    if factor == 1 or not _can_be_reduced(dataset):
        return None
    encaps, utils = (importlib.import_module(f"pydicom.{part}") for part in ("encaps", "pixels.utils"))
    try:
        frame = encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)
        about = utils.get_j2k_parameters(frame)
        with Image.open(io.BytesIO(frame), formats=("JPEG2000",)) as image:
            if image.size != whole or image.mode not in ("L", "I;16") or about["is_signed"]:
                return None
            factor = min(factor, 2 ** _levels(frame))
            while not all(_pillow_rounds_up(number, factor) for number in whole):
                factor //= 2
            image.reduce = factor.bit_length() - 1  # type: ignore[method-assign]
            image.load()
            values = np.asarray(image)
    except (OSError, ValueError, KeyError, IndexError, SyntaxError):
        # Decoding in full says what is wrong with it.
        return None
    # Pillow fills 8 or 16 bits; the filters may overshoot the bits that are stored.
    values = values >> (8 * values.itemsize - about["precision"])
    values = np.minimum(values, values.dtype.type(2 ** int(dataset.BitsStored) - 1))
    # Its pixels lie on the first of the pixels that they stand for, not between them: the last ones need a neighbour.
    return np.pad(values, (0, 1), "edge"), factor


def _can_be_reduced(dataset) -> bool:
    return (
        dataset.file_meta.get("TransferSyntaxUID") in _JPEG_2000
        and dataset.PhotometricInterpretation in ("MONOCHROME1", "MONOCHROME2")
        and int(dataset.get("NumberOfFrames") or 1) == 1
        and dataset.get("PixelRepresentation") == 0
        and int(dataset.get("BitsStored") or 0) in range(1, 17)
        and ("WindowCenter" in dataset or "VOILUTSequence" in dataset)
        and "PixelPaddingValue" not in dataset
        and not any(turns(dataset))
        and pixel_shape(dataset) == (1.0, 1.0)
    )


def _pillow_rounds_up(number: int, factor: int) -> bool:
    """Whether Pillow expects a reduced side as OpenJPEG makes it, which rounds up; else the file cannot be read."""
    return (number + factor // 2) // factor == -(-number // factor)


def _levels(frame: bytes) -> int:
    """How often a JPEG 2000 codestream can be halved: decomposition levels, of its marker COD (ISO 15444-1 A.6.1)."""
    place = frame.index(b"\xff\x4f\xff\x51") + 2
    while frame[place : place + 2] != b"\xff\x52":
        place += 2 + int.from_bytes(frame[place + 2 : place + 4])
        if frame[place] != 0xFF:
            raise ValueError("no marker where one is due")
    return frame[place + 9]
