"""`annotation.json` of R2Gen (github.com/zhjohnchan/R2Gen), the customary benchmarks of report generation.

The file is an object of lists "train", "val" and "test"; an item has `id`, `report`, `image_path` (a list) and `split`,
for MIMIC-CXR also `study_id` and `subject_id`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from data_scripts.schema import DataError

SPLITS = {"train": "train", "val": "validation", "test": "test"}


def read_items(path: Path) -> Iterator[tuple[str, dict]]:
    """Where in the file, and the item, its `split` in the schema's words.

    The item's own `split` counts, the name of its list only where it has none: a mirror's list has a blank name.

    Raises:
        DataError: the file is missing, no JSON, or of another form; or an item is of no split.
    """
    if not path.is_file():
        raise DataError(f"{path}: R2Gen's annotation file is missing")
    try:
        lists = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(lists, dict) or not all(isinstance(items, list) for items in lists.values()):
        raise DataError(f"{path}: expected an object of lists named train, val and test")
    for name, items in lists.items():
        for number, item in enumerate(items, start=1):
            where = f"{path.name} {name.strip() or 'unnamed list'} item {number}"
            # A blank report is for `prepare` to find; an item without films would be lost.
            missing = [key for key in ("id", "image_path") if not item.get(key)] + ["report"] * ("report" not in item)
            if missing:
                raise DataError(f"{where}: {missing} missing or blank, the item has {sorted(item)}")
            split = item.get("split", name)
            if split not in SPLITS:
                raise DataError(f"{where}: split is {split!r}, expected one of {list(SPLITS)}")
            yield where, {**item, "split": SPLITS[split]}
