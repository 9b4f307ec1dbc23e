"""Mask files as annotation tools write them: which pixels are inside, or why that is not known.

- One value beside 0 (1, 255, 65535, one colour): it is inside.
- Grey edges (once JPEG, resized, blurred): half of the highest value or more is inside.
- Several values with areas of their own are a label map: the values that are inside must be named (`Mask.values`).
- Transparency is ignored, unless the picture has one colour throughout and it alone draws the mask.
- `file_ignore127`: 127 is not judged, any other value beside 0 is inside.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_scripts.films.files import check_there, decode_image, is_dicom, read_stored
from data_scripts.schema import INSIDE, NOT_JUDGED, DataError, Mask

#: Nearer than this share of the highest value to 0 or to the highest is noise of JPEG.
_NOISE = 0.1
#: A value of a label map fills areas: at least this share of its pixels lies among equals, and of all that is marked.
_AMONG_EQUALS, _SHARE, _LARGE_SHARE = 0.4, 0.01, 0.2
#: A second colour in less of the marked pixels than this is an edge.
_SECOND_COLOUR = 0.05


def read_mask_file(path: Path, mask: Mask) -> np.ndarray:
    """uint8 [H, W]: 0 outside, 255 inside, 127 not judged (`file_ignore127`).

    Raises:
        DataError: the file is missing or damaged, a label map whose values are not named or lack the named ones, of
            several colours, or negative.
    """
    pixels = _pixels(path, as_indices=mask.values is not None)
    if pixels.ndim == 3:
        pixels = _without_colour(path, pixels)
    if pixels.dtype != bool and (not np.isfinite(pixels).all() or pixels.min() < 0):
        raise DataError(f"{path}: a mask with values that are negative or no numbers", "mask malformed")
    if mask.values is not None:
        return _of_values(path, pixels, mask.values)
    inside = pixels != 0 if mask.kind == "file_ignore127" else _inside(path, pixels)
    decoded = np.where(inside, INSIDE, 0).astype(np.uint8)
    if mask.kind == "file_ignore127":
        decoded[pixels == NOT_JUDGED] = NOT_JUDGED
    return decoded


def _pixels(path: Path, as_indices: bool) -> np.ndarray:
    """[H, W], or [H, W, 3] of a picture with colour; a palette's colours, or its indices."""
    check_there(path)
    if is_dicom(path):
        return read_stored(path)
    image = decode_image(path, alone=True)
    if image.mode in ("RGBA", "LA"):
        colour, alpha = np.asarray(image.convert("RGB")), np.asarray(image.getchannel("A"))
        # Fully transparent pixels often lose their colour.
        one_colour = colour.any() and (colour == colour[0, 0]).all()
        return alpha if one_colour and alpha.min() < alpha.max() else colour
    if image.mode in ("1", "L", "F") or image.mode.startswith("I") or (image.mode == "P" and as_indices):
        return np.asarray(image)
    return np.asarray(image.convert("RGB"))


def _without_colour(path: Path, pixels: np.ndarray) -> np.ndarray:
    """The strongest of red, green and blue [H, W], if whatever is marked has one colour."""
    strongest = pixels.max(axis=2)
    marked = strongest >= strongest.max() / 2
    if not strongest.any():
        return strongest
    # Which of the three are strong tells the primary colours and their mixtures apart, and not the shades of an edge.
    strong = (pixels[marked] * 2.0 >= strongest[marked][:, None]) @ np.array([1, 2, 4])
    counts = np.sort(np.bincount(strong, minlength=8))
    if counts[-2] > _SECOND_COLOUR * counts.sum():
        raise DataError(
            f"{path}: a mask of several colours: write one file for each structure, or grey values named by "
            "--mask_values",
            "label map",
        )
    return strongest


def _of_values(path: Path, pixels: np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    found = np.unique(pixels)
    # A structure may be absent, but a picture of other values altogether is another kind of mask.
    if found[-1] > 0 and len(found) > 64:
        raise DataError(f"{path}: {len(found)} different values are no label map", "label map")
    if found[-1] > 0 and not np.isin(values, found).any() and found[-1] > max(values) and len(found) <= 2:
        raise DataError(f"{path}: its only value is {found[-1]}, named are {list(values)}", "label map")
    return np.where(np.isin(pixels, values), INSIDE, 0).astype(np.uint8)


def _inside(path: Path, pixels: np.ndarray) -> np.ndarray:
    marked = pixels != 0
    highest = pixels.max() if pixels.size else 0
    levels = np.unique(pixels[marked])
    if pixels.dtype == bool or len(levels) <= 1:
        return marked
    between = levels[(levels > _NOISE * highest) & (levels < (1 - _NOISE) * highest)]
    # Blocks of JPEG fill small areas with values near 0 and the highest, never such large ones.
    near = levels[(levels <= _NOISE * highest) | ((levels >= (1 - _NOISE) * highest) & (levels < highest))]
    areas = _areas(pixels, between, _SHARE) if len(between) <= 64 else []
    areas = areas or _areas(pixels, near[:64], _LARGE_SHARE)
    if areas or (highest <= 16 and len(levels) > 1 and pixels.dtype.kind in "iu"):
        named = [int(level) if float(level).is_integer() else float(level) for level in levels[:8]]
        raise DataError(
            f"{path}: a label map with the values {named}{' ...' if len(levels) > 8 else ''}: say which are inside "
            "(folder loader: --mask_values COLUMN=1,2), or write one file for each structure",
            "label map",
        )
    return pixels >= highest / 2


def _areas(pixels: np.ndarray, levels: np.ndarray, share: float) -> list:
    """Those of the levels that fill areas: most of their pixels lie between four of the same value."""
    centre = pixels[1:-1, 1:-1]
    same = (centre == pixels[:-2, 1:-1]) & (centre == pixels[2:, 1:-1])
    same &= (centre == pixels[1:-1, :-2]) & (centre == pixels[1:-1, 2:])
    marked = np.count_nonzero(pixels)
    found = []
    for level in levels:
        count = np.count_nonzero(pixels == level)
        if count >= share * marked and np.count_nonzero(same & (centre == level)) >= _AMONG_EQUALS * count:
            found.append(level)
    return found
