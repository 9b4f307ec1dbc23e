"""`annotation.json` of R2Gen (github.com/zhjohnchan/R2Gen), the customary benchmarks of report generation.

The file is an object of lists "train", "val" and "test"; an item has `id`, `report`, `image_path` (a list) and `split`,
for MIMIC-CXR also `study_id` and `subject_id`.
"""

from __future__ import annotations

import json
from pathlib import Path

from data_scripts.schema import DataError, Skipped

SPLITS = {"train": "train", "val": "validation", "test": "test"}


def read_items(path: Path) -> tuple[list[tuple[str, dict]], list[Skipped]]:
    """Where in the file, and the item, its `split` in the schema's words; and what is no item of a split.

    The item's own `split` counts, the name of its list only where it has none: a mirror's list has a blank name.

    Raises:
        DataError: the file is missing, no JSON, or of another form.
    """
    if not path.is_file():
        raise DataError(f"{path}: R2Gen's annotation file is missing")
    try:
        lists = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(lists, dict) or not all(isinstance(items, list) for items in lists.values()):
        raise DataError(f"{path}: expected an object of lists named train, val and test")
    read, skipped = [], []
    for name, items in lists.items():
        for number, item in enumerate(items, start=1):
            where = f"{path.name} {name.strip() or 'unnamed list'} item {number}"
            # A blank report is for `prepare` to find; an item without films would be lost.
            if not isinstance(item, dict):
                skipped.append(Skipped(where, f"an object is expected, this is a {type(item).__name__}", "no item"))
                continue
            missing = [key for key in ("id", "image_path") if not item.get(key)] + ["report"] * ("report" not in item)
            if missing:
                skipped.append(Skipped(where, f"{missing} missing or blank, it has {sorted(item)}", "field missing"))
                continue
            split = str(item.get("split", name))
            if split not in SPLITS:
                skipped.append(Skipped(where, f"split is {split!r}, expected one of {list(SPLITS)}", "unknown split"))
                continue
            read.append((where, {**item, "split": SPLITS[split]}))
    return read, skipped
