"""Films of any format, masks and tables of fake raw trees (`tests.fake_files` has DICOM). All content is invented."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from data_scripts.schema import Record, Skipped
from tests.fake_files import clouds


def write_film(path: Path, size: tuple[int, int] = (64, 64), mode: str = "L", seed: int = 0) -> None:
    """Random clouds of `size` (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(clouds(size, seed=seed)).convert(mode).save(path)


def write_mask(path: Path, box: tuple[int, int, int, int], size: tuple[int, int] = (64, 64), value: int = 255) -> None:
    """`value` within `box` (left, top, right, bottom; the last two outside), 0 elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0]), np.uint8)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = value
    Image.fromarray(pixels).save(path)


def write_table(path: Path, *lines: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding=encoding)


def read_all(loader: ModuleType, raw: Path, **options) -> tuple[dict[str, Record], list[Skipped]]:
    """Records by the part of their id behind the source, and what was skipped."""
    outcomes = list(loader.read_records(raw, loader.Options(**options)))
    records = {one.record_id.split("/", 1)[1]: one for one in outcomes if isinstance(one, Record)}
    skipped = [one for one in outcomes if isinstance(one, Skipped)]
    assert len(records) + len(skipped) == len(outcomes), "two records have one id"
    return records, skipped


def values_of(record: Record) -> dict[str, int]:
    return {label.name: label.value for label in record.labels}
