"""Labels of a prepared split as arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from datasets import Dataset

from data_scripts.prepared.columns import arrow_column


def label_matrix(dataset: Dataset, unlisted_is_absent: bool = False) -> tuple[list[str], np.ndarray]:
    """Names of all labels, and values [films, labels]: 1 present, 0 absent, NaN uncertain or not judged.

    `unlisted_is_absent`: a label that a film does not list is 0, as in corpora whose tables name what is present.
    """
    labels = arrow_column(dataset, "labels")
    counts = labels.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    rows, listed = np.repeat(np.arange(len(labels)), counts), labels.flatten()
    encoded = listed.field("name").dictionary_encode()
    names = encoded.dictionary.to_pylist()
    told = listed.field("value").cast(pa.float64()).to_numpy(zero_copy_only=False)
    values = np.full((len(labels), len(names)), 0.0 if unlisted_is_absent else np.nan)
    # An uncertain label (-1) is no truth to evaluate against.
    values[rows, encoded.indices.to_numpy()] = np.where(np.isin(told, (0, 1)), told, np.nan)
    return names, values


def chosen_labels(
    dataset: Dataset, labels: Sequence[str], unlisted_is_absent: bool = False
) -> tuple[list[str], np.ndarray]:
    """As `label_matrix`, of `labels` alone and in their order (empty: all).

    Raises:
        ValueError: the data hold no labels, or lack one that is asked for.
    """
    names, values = label_matrix(dataset, unlisted_is_absent)
    missing = [label for label in labels if label not in names]
    if missing or not names:
        raise ValueError(f"labels {missing or '(any)'} are not in the data, which has {names}")
    if not labels:
        return names, values
    return list(labels), values[:, [names.index(label) for label in labels]]


def label_targets(dataset: Dataset, names: Sequence[str], unlisted_is_absent: bool = False) -> np.ndarray:
    """Values [films, labels] of these labels as in `label_matrix`; one that no film lists is unlisted for all."""
    known, values = label_matrix(dataset, unlisted_is_absent)
    unlisted = np.full(len(dataset), 0.0 if unlisted_is_absent else np.nan)
    return np.stack([values[:, known.index(name)] if name in known else unlisted for name in names], axis=1)


def fingerprint(dataset: Dataset, columns: Sequence[str] = ("record_id", "labels")) -> str:
    """Hash of the films' ids and labels (or of other `columns`) in their order: equal where figures may be compared."""
    digest = hashlib.sha256()
    kept = dataset.select_columns([name for name in columns if name in dataset.column_names])
    names = sorted(kept.column_names)
    for table in kept.with_format("arrow").iter(10_000):
        columns = [_as_json(table[name].combine_chunks()) for name in names]
        for values in zip(*columns, strict=True):
            # What `json.dumps` makes of the row with sorted keys.
            row = ", ".join(f"{json.dumps(name)}: {value}" for name, value in zip(names, values, strict=True))
            digest.update(f"{{{row}}}".encode())
    return digest.hexdigest()[:16]


def _as_json(column: pa.Array) -> list[str]:
    """The values of a column as `json.dumps` writes them; the structs of lists, few of which differ, once each."""
    if not (pa.types.is_list(column.type) and pa.types.is_struct(column.type.value_type)):
        return [json.dumps(value, sort_keys=True) for value in column.to_pylist()]
    listed = column.flatten()
    # One number for each struct of equal fields.
    codes = np.zeros(len(listed), np.int64)
    for field in listed.flatten():
        encoded = field.dictionary_encode(null_encoding="encode")
        codes = codes * len(encoded.dictionary) + encoded.indices.to_numpy()
    _, first, same = np.unique(codes, return_index=True, return_inverse=True)
    distinct = [json.dumps(value, sort_keys=True) for value in listed.take(pa.array(first)).to_pylist()]
    texts = [distinct[number] for number in same.tolist()]
    ends = np.cumsum(column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)).tolist()
    there = column.is_valid().to_pylist()
    return [
        f"[{', '.join(texts[begin:end])}]" if valid else "null"
        for begin, end, valid in zip([0, *ends], ends, there, strict=False)
    ]


def prevalences(dataset: Dataset) -> dict[str, float]:
    """Share of all films that are known to have each finding.

    A share of the labelled films alone would say little: in tables that list hardly any absent findings, no finding
    would be rare.
    """
    names, values = label_matrix(dataset)
    return dict(zip(names, (np.nansum(values, axis=0) / max(1, len(dataset))).tolist(), strict=True))
