"""Masks as the corpora store them (files, run lengths, shapes), decoded into images.

A decoded mask is of mode "L": 0 outside, 255 inside, 127 not judged (to be left out of losses and metrics).

| kind | data | reads |
|---|---|---|
| `file` | path below the raw folder, or a list of paths (union) | see `data_scripts.films.mask_files` |
| `file_ignore127` | the same | 127 is not judged, any other non-zero value is inside |
| `rle_relative` | strings "gap length gap length ..." | down the columns, each gap from the end of the last run |
| `rle_absolute` | strings "start length start length ..." | along the rows, the first pixel is 1 |
| `rle_coco` | dicts {"size": [h, w], "counts": str or list} | down the columns, runs of 0 and 1 in turn |
| `polygons` | [x1, y1, x2, y2, ...] | filled |
| `boxes`, `ellipses` | [x, y, width, height] | filled; the box around the ellipse |
| `polylines` | [x1, y1, x2, y2, ...] | drawn `width` pixels thick |

Sources: `rle_relative` is the encoding of the SIIM-ACR Pneumothorax challenge (its `mask_functions.py`), `rle_absolute`
that of CheXmask (https://physionet.org/content/chexmask-cxr-segmentation-data), `rle_coco` that of pycocotools.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from data_scripts.films.files import reading
from data_scripts.films.mask_files import read_mask_file
from data_scripts.schema import INSIDE, DataError, Mask, within


def decode_mask(mask: Mask, raw: Path) -> Image.Image:
    """The mask in its own frame (`mask.size`, or the size of its files); a union where `mask.data` lists several.

    Raises:
        DataError: a file is missing or damaged, files differ in size, runs or shapes are malformed or lie outside.
    """
    try:
        if mask.kind in ("file", "file_ignore127"):
            return _union(read_mask_file(within(raw, path), mask) for path in _as_list(mask.data))
        if mask.kind == "rle_coco":
            return _union(_from_coco(rle) for rle in mask.data)
        height, width = _checked_size(mask.size)
        if mask.kind == "rle_relative":
            return _union(_from_relative(text, height, width) for text in mask.data)
        if mask.kind == "rle_absolute":
            return _union(_from_absolute(text, height, width) for text in mask.data)
        return _draw(mask, height, width)
    except DataError:
        raise
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise DataError(f"mask of kind {mask.kind!r} cannot be read: {error}", "mask malformed") from error


def decode_masks(masks: dict[str, Mask | list[Mask]], raw: Path, image_size: tuple[int, int]) -> dict[str, Image.Image]:
    """All masks of a record by name, each of `image_size` (width, height); several of one name are united.

    Raises:
        DataError: as `decode_mask` and `fit_mask`, with the name of the mask.
    """
    decoded = {}
    for name, given in masks.items():
        try:
            parts = given if isinstance(given, list) else [given]
            decoded[name] = _union(fit_mask(decode_mask(part, raw), image_size) for part in parts)
        except DataError as error:
            raise DataError(f"mask {name!r}: {error}", error.kind) from error
    return decoded


def fit_mask(mask: Image.Image, image_size: tuple[int, int]) -> Image.Image:
    """The mask scaled to the image (width, height), nearest pixel, if both have one aspect up to a pixel.

    Raises:
        DataError: the aspects differ, so that it is not known where the mask lies in the image.
    """
    if mask.size == image_size:
        return mask
    (width, height), (image_width, image_height) = mask.size, image_size
    # One pixel more or less on a side of the smaller picture moves the products by a side of the larger.
    if abs(width * image_height - height * image_width) > max(*mask.size, *image_size):
        raise DataError(
            f"the frame of the mask is {width} x {height}, the image is {image_width} x {image_height}: "
            "the sizes may differ but not the aspect",
            "mask does not fit its image",
        )
    return mask.resize(image_size, Image.Resampling.NEAREST)


def _as_list(data) -> list:
    return [data] if isinstance(data, str) else list(data)


def _union(masks) -> Image.Image:
    """Pixelwise maximum, so that inside wins over not judged, and that over outside."""
    united = None
    for mask in masks:
        pixels = np.asarray(mask)
        if united is not None and united.shape != pixels.shape:
            raise DataError(
                f"masks to be united are of {united.shape} and {pixels.shape} (height, width)", "mask malformed"
            )
        united = pixels if united is None else np.maximum(united, pixels)
    if united is None:
        raise DataError("a mask without any file, run or shape: leave it out instead", "mask malformed")
    return Image.fromarray(united)


def _checked_size(size) -> tuple[int, int]:
    height, width = (int(side) for side in size)
    if height < 1 or width < 1 or height * width > reading().MAX_PIXELS:
        raise DataError(f"the frame of a mask is {height} x {width} (height x width)", "mask malformed")
    return height, width


def _pairs(text: str) -> np.ndarray:
    numbers = np.array(text.split(), dtype=np.int64)
    if numbers.size % 2:
        raise DataError(f"run lengths come in pairs, but there are {numbers.size} numbers", "mask malformed")
    return numbers.reshape(-1, 2)


def _fill(starts: np.ndarray, lengths: np.ndarray, height: int, width: int) -> np.ndarray:
    """Flat [height * width] uint8, 255 in every run.

    Raises:
        DataError: a run is negative or ends beyond the image.
    """
    ends = starts + lengths
    if starts.size and (starts.min() < 0 or lengths.min() < 0 or ends.max() > height * width):
        raise DataError(
            f"runs cover pixels {starts.min()} to {ends.max()}, the image has {height} x {width} = {height * width} "
            "(height x width)",
            "run lengths beyond the image",
        )
    # Runs may overlap: count how many begin and end at each pixel.
    steps = np.zeros(height * width + 1, np.int32)
    np.add.at(steps, starts, 1)
    np.add.at(steps, ends, -1)
    return np.where(np.cumsum(steps[:-1]) > 0, INSIDE, 0).astype(np.uint8)


def _from_relative(text: str, height: int, width: int) -> np.ndarray:
    gaps, lengths = _pairs(text).T
    if gaps.size and min(gaps.min(), lengths.min()) < 0:
        raise DataError("a gap or length is negative", "mask malformed")
    starts = np.cumsum(gaps) + np.cumsum(lengths) - lengths
    return np.ascontiguousarray(_fill(starts, lengths, height, width).reshape(width, height).T)


def _from_absolute(text: str, height: int, width: int) -> np.ndarray:
    starts, lengths = _pairs(text).T
    return _fill(starts - 1, lengths, height, width).reshape(height, width)


def _from_coco(encoded: dict) -> np.ndarray:
    height, width = _checked_size(encoded["size"])
    counts = encoded["counts"]
    runs = np.array(_coco_counts(counts) if isinstance(counts, (str, bytes)) else counts, dtype=np.int64)
    if runs.size and (runs.min() < 0 or runs.sum() > height * width):
        raise DataError(
            f"runs cover {runs.sum()} pixels, the image has {height} x {width} = {height * width} (height x width)",
            "run lengths beyond the image",
        )
    starts = np.cumsum(runs) - runs
    return np.ascontiguousarray(_fill(starts[1::2], runs[1::2], height, width).reshape(width, height).T)


def _coco_counts(text: str | bytes) -> list[int]:
    """Counts of pycocotools' compressed string: six bits a character (from "0"), low bits first, bit 6 says "more",
    signed, and from the third count on the difference to the count two before.
    """
    codes = text.encode("ascii") if isinstance(text, str) else text
    counts, value, shift = [], 0, 0
    for code in codes:
        bits = code - 48
        if not 0 <= bits < 64:
            raise DataError(f"{chr(code)!r} is no character of COCO run lengths", "mask malformed")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise DataError("COCO run lengths end within a number", "mask malformed")
    return counts


def _draw(mask: Mask, height: int, width: int) -> Image.Image:
    canvas = Image.new("L", (width, height))
    draw = ImageDraw.Draw(canvas)
    if not mask.data:
        raise DataError("a mask without any shape: leave it out instead", "mask malformed")
    for shape in mask.data:
        numbers = [float(number) for number in shape]
        if not all(math.isfinite(number) and abs(number) < 1e6 for number in numbers):
            raise DataError(f"a coordinate of {numbers} is not a pixel position", "mask malformed")
        points = _points(mask.kind, numbers)
        x, y = zip(*points, strict=True)
        if max(x) < 0 or max(y) < 0 or min(x) >= width or min(y) >= height:
            raise DataError(
                f"the shape {numbers} lies outside of its frame of {width} x {height}", "shape outside of the image"
            )
        _draw_shape(draw, mask, points)
    return canvas


def _points(kind: str, numbers: list[float]) -> list[tuple[float, float]]:
    """Corner points: all of a polygon or line; first and last pixel of a box."""
    if kind in ("boxes", "ellipses"):
        x, y, width, height = numbers
        if width < 0 or height < 0:
            raise DataError(f"the box {numbers} has a negative width or height", "mask malformed")
        left, top = round(x), round(y)
        # A box of width 3 at 5 covers the pixels 5, 6, 7; the thinnest covers one.
        return [(left, top), (max(left, round(x + width) - 1), max(top, round(y + height) - 1))]
    fewest = {"polygons": 6, "polylines": 2}[kind]
    if len(numbers) % 2 or len(numbers) < fewest:
        raise DataError(f"{kind}: {len(numbers)} numbers do not make points, at least {fewest}", "mask malformed")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _draw_shape(draw: ImageDraw.ImageDraw, mask: Mask, points: list[tuple[float, float]]) -> None:
    if mask.kind == "polygons":
        draw.polygon(points, fill=INSIDE, outline=INSIDE)
    elif mask.kind == "boxes":
        draw.rectangle(points, fill=INSIDE)
    elif mask.kind == "ellipses":
        draw.ellipse(points, fill=INSIDE)
    else:
        draw.line(points, fill=INSIDE, width=mask.width, joint="curve")
        # Round ends, and a disc where the line is a single point.
        radius = (mask.width - 1) / 2
        for x, y in (points[0], points[-1]):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=INSIDE)
