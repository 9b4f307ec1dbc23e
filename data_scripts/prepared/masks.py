"""Masks of prepared films: unions of named structures, and which films were judged for them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset
from PIL import Image

from data_scripts.prepared.columns import read_column
from data_scripts.prepared.films import FilmDataset
from data_scripts.schema import INSIDE, NOT_JUDGED, DataError


def central_square(image: Image.Image) -> Image.Image:
    """The largest square in the middle of an image; that is what the published preprocessing keeps."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def scaled_square(mask: np.ndarray, size: int) -> np.ndarray:
    """The central square of a mask at `size` px, of the same three values: no mixtures of inside and not judged."""
    return np.array(central_square(Image.fromarray(mask)).resize((size, size), Image.Resampling.NEAREST))


def read_masks(row: Mapping, number: int, structures: Mapping[str, tuple[str, ...]], no_mask_is_empty: bool) -> list:
    """The masks of a film, uint8 [height, width] each: 255 inside, 0 outside, 127 not judged.

    A structure is the union of the masks it names. One without any mask is empty where `no_mask_is_empty` or where
    the film's labels say that all it names are absent; else nobody outlined it, and it is 127 throughout. What the
    labels say is there without a mask was not outlined in any case: its structure is 127 outside of its other masks.

    Args:
        row: of a dataset, with `image`, `masks` and, perhaps, `labels`.
        number: of the row, for messages.
        structures: mask names by structure.

    Raises:
        DataError: a mask is not of its image's size, or has other values.
    """
    given: dict[str, np.ndarray] = {}
    for mask in row["masks"]:
        pixels = np.asarray(mask["image"].convert("L"))
        if pixels.shape != row["image"].size[::-1]:
            height, width = pixels.shape
            raise DataError(
                f"row {number}: the mask {mask['name']!r} is {width} x {height} pixels, its image "
                f"{row['image'].width} x {row['image'].height}: masks must have the size of their image"
            )
        if not np.isin(pixels, (0, NOT_JUDGED, INSIDE)).all():
            raise DataError(f"row {number}: the mask {mask['name']!r} has values other than 0, {NOT_JUDGED}, {INSIDE}")
        given[mask["name"]] = pixels
    labels = row.get("labels") or ()
    masks = []
    for names in structures.values():
        found = [given[name] for name in names if name in given]
        if not found or not_outlined(names, given, labels):
            empty = is_empty(names, given, labels, no_mask_is_empty)
            found.append(np.full(row["image"].size[::-1], 0 if empty else NOT_JUDGED, dtype=np.uint8))
        # A pixel inside one mask is inside, even where nobody judged it in the others.
        masks.append(np.maximum.reduce(found))
    return masks


def not_outlined(names: Sequence[str], outlined: Collection[str], labels: Sequence[Mapping]) -> bool:
    """Whether labels of a film say that one of `names` is there which has no mask."""
    return any(label["value"] == 1 and label["name"] in names and label["name"] not in outlined for label in labels)


def is_empty(
    names: Sequence[str], outlined: Collection[str], labels: Sequence[Mapping], no_mask_is_empty: bool
) -> bool:
    """Whether a film of which none of `names` is outlined shows none of them; else nobody judged it."""
    if not_outlined(names, outlined, labels):
        return False
    return no_mask_is_empty or {label["name"] for label in labels if label["value"] == 0}.issuperset(names)


def judged_rows(dataset: Dataset, structures: Mapping[str, tuple[str, ...]], no_mask_is_empty: bool) -> list[int]:
    """Rows with a structure that was outlined or is known to be absent, found without reading an image.

    Raises:
        DataError: the dataset has no masks.
    """
    if "masks" not in dataset.column_names:
        raise DataError(f"column 'masks' is missing, there are {dataset.column_names}: segmentation needs masks")
    wanted = {name for names in structures.values() for name in names}
    labels = read_column(dataset, "labels") if "labels" in dataset.column_names else [()] * len(dataset)
    return [
        number
        for number, (outlined, told) in enumerate(zip(mask_names(dataset), labels, strict=True))
        if outlined & wanted
        or any(is_empty(names, outlined, told or (), no_mask_is_empty) for names in structures.values())
    ]


def shown_structures(dataset: Dataset, rows: Sequence[int], structures: Mapping[str, tuple[str, ...]]) -> np.ndarray:
    """Whether films show structures, bool [rows, structures]: whether one of the masks has a pixel inside.

    Raises:
        DataError: a mask cannot be decoded.
    """
    shows = np.zeros((len(rows), len(structures)), dtype=bool)
    for number, film in enumerate(FilmDataset(dataset, rows, ("masks",))):
        inside = {mask["name"] for mask in film["masks"] if mask["image"].convert("L").getextrema()[1] == INSIDE}
        shows[number] = [not inside.isdisjoint(names) for names in structures.values()]
    return shows


def mask_names(dataset: Dataset) -> list[set[str]]:
    """Names of the masks of every row; the masks themselves are left alone."""
    found: list[set[str]] = [set() for _ in range(len(dataset))]
    start = 0
    for table in dataset.select_columns(["masks"]).with_format("arrow").iter(1000):
        column = table["masks"].combine_chunks()
        names = pc.struct_field(pc.list_flatten(column), "name").to_pylist()
        for row, name in zip(pc.list_parent_indices(column).to_pylist(), names, strict=True):
            found[start + row].add(name)
        start += len(table)
    return found
