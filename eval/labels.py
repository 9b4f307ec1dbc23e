"""Labels of a prepared split as arrays."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from datasets import Dataset


def label_matrix(dataset: Dataset) -> tuple[list[str], np.ndarray]:
    """Names of all labels, and values [films, labels]: 1 present, 0 absent, NaN uncertain or not judged."""
    rows = dataset.select_columns(["labels"])["labels"]
    names = list(dict.fromkeys(label["name"] for row in rows for label in row))
    column = {name: number for number, name in enumerate(names)}
    values = np.full((len(rows), len(names)), np.nan)
    for number, row in enumerate(rows):
        for label in row:
            # An uncertain label (-1) is no truth to judge against.
            if label["value"] in (0, 1):
                values[number, column[label["name"]]] = label["value"]
    return names, values


def fingerprint(dataset: Dataset) -> str:
    """Hash of the films' ids and labels in their order: equal where figures may be compared."""
    columns = [name for name in ("record_id", "labels") if name in dataset.column_names]
    digest = hashlib.sha256()
    for row in dataset.select_columns(columns):
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def prevalences(dataset: Dataset) -> dict[str, float]:
    """Share of the judged films that have each finding."""
    names, values = label_matrix(dataset)
    return {
        name: float(np.nanmean(column)) if np.isfinite(column).any() else 0.0
        for name, column in zip(names, values.T, strict=True)
    }
