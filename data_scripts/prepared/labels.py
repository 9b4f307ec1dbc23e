"""Labels of a prepared split as arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from datasets import Dataset

from data_scripts.prepared.columns import arrow_column
from data_scripts.reading.labels import plain_name
from data_scripts.schema import DataError


def label_matrix(dataset: Dataset, unlisted_is_absent: bool = False) -> tuple[list[str], np.ndarray]:
    """Names of all labels, and values [films, labels]: 1 present, 0 absent, NaN uncertain or not judged.

    Names that differ in capitals or "_" alone, as those of two corpora in a mixture, are one label: the first of them.

    Args:
        unlisted_is_absent: a label that a film does not list is 0, as in corpora whose tables name what is present.

    Raises:
        DataError: a film has two labels of one name in this sense.
    """
    labels = arrow_column(dataset, "labels")
    counts = labels.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    rows, listed = np.repeat(np.arange(len(labels)), counts), labels.flatten()
    encoded = listed.field("name").dictionary_encode()
    names, columns = merge_spellings(encoded.dictionary.to_pylist())
    places = columns[encoded.indices.to_numpy()]
    if len(columns) > len(names) and len(np.unique(rows * len(names) + places)) < len(rows):
        twice = sorted(name for name in encoded.dictionary.to_pylist() if name not in names)
        raise DataError(f"a film has a label twice, written in two ways, one of them {twice}: rename or leave out one")
    told = listed.field("value").cast(pa.float64()).to_numpy(zero_copy_only=False)
    values = np.full((len(labels), len(names)), 0.0 if unlisted_is_absent else np.nan)
    # An uncertain label (-1) is no truth to evaluate against.
    values[rows, places] = np.where(np.isin(told, (0, 1)), told, np.nan)
    return names, values


def merge_spellings(names: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The first spelling of each label, and for each of `names` the number of its label."""
    spellings: dict[str, str] = {}
    for name in names:
        spellings.setdefault(plain_name(name), name)
    order = {plain: number for number, plain in enumerate(spellings)}
    return list(spellings.values()), np.array([order[plain_name(name)] for name in names], dtype=np.int64)


def find_label(name: str, names: Sequence[str]) -> int | None:
    """The place of a label among `names`, however it is written there; None where it is none of them."""
    return {plain_name(known): place for place, known in enumerate(names)}.get(plain_name(name))


def chosen_labels(
    dataset: Dataset, labels: Sequence[str], unlisted_is_absent: bool = False
) -> tuple[list[str], np.ndarray]:
    """As `label_matrix`, of `labels` alone and in their order (empty: all).

    Raises:
        ValueError: the data hold no labels, or lack one that is asked for.
    """
    names, values = label_matrix(dataset, unlisted_is_absent)
    places = [find_label(label, names) for label in labels]
    missing = [label for label, place in zip(labels, places, strict=True) if place is None]
    if missing or not names:
        raise ValueError(f"labels {missing or '(any)'} are not in the data, which has {names}")
    if not labels:
        return names, values
    return list(labels), values[:, np.array(places, dtype=np.int64)]


def label_targets(dataset: Dataset, names: Sequence[str], unlisted_is_absent: bool = False) -> np.ndarray:
    """Values [films, labels] of these labels as in `label_matrix`; one that no film lists is unlisted for all."""
    known, values = label_matrix(dataset, unlisted_is_absent)
    unlisted = np.full(len(dataset), 0.0 if unlisted_is_absent else np.nan)
    places = [find_label(name, known) for name in names]
    return np.stack([unlisted if place is None else values[:, place] for place in places], axis=1)


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
