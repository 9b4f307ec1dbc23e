"""What the curation report reads of a corpus, as arrays: the columns it needs, by Arrow, never a film."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

_ROWS_AT_ONCE = 20_000
_UNKNOWN = "not known"
#: Upper ends of the bands: age in years (the last is open, so that nobody stands alone), report length in words.
AGE_BANDS = (18, 40, 60, 80)
LENGTH_BANDS = (10, 20, 40, 80, 160)
#: Columns by which the share kept is told, and their titles.
_GROUPS = {"source": "Source", "view": "View", "sex": "Sex", "report_origin": "Report origin"}


@dataclass(frozen=True)
class Category:
    """A column with few values: `codes` [N] index into `names`."""

    names: list[str]
    codes: np.ndarray


@dataclass(frozen=True)
class Columns:
    """A corpus of N pairs without films and texts.

    Attributes:
        groups: categories by title; those the data do not have are left out.
        patients: [N] integers; pairs of unknown patients have one each.
        studies: [N] integers, -1 where not known.
        labels: by finding, [N] int8: 1 present, 0 absent, -1 uncertain or not judged.
        flags: by known defect, [N] bool.
    """

    groups: dict[str, Category]
    patients: np.ndarray
    studies: np.ndarray
    labels: dict[str, np.ndarray]
    flags: dict[str, np.ndarray]


def read_columns(dataset: Dataset) -> Columns:
    """The columns of a training split (see `data_scripts.schema.FEATURES`) that the report is made of."""
    scalars = [name for name in (*_GROUPS, "age_years", "patient_id", "study_id") if name in dataset.column_names]
    table = dataset.select_columns(scalars).with_format("arrow")[:] if scalars else pa.table({})
    groups = {title: _category(table[name]) for name, title in _GROUPS.items() if name in scalars}
    if "age_years" in scalars:
        groups["Age"] = _age_category(table["age_years"])
    groups["Report length"] = _band(_word_counts(dataset), LENGTH_BANDS, " words")
    patients, studies = (_identities(table, name, len(dataset)) for name in ("patient_id", "study_id"))
    alone = np.arange(len(dataset)) + patients.max(initial=0) + 1
    patients = np.where(patients < 0, alone, patients)
    return Columns(groups, patients, studies, _read_labels(dataset), _read_flags(dataset))


def _encode(column: pa.ChunkedArray) -> tuple[list, np.ndarray]:
    """Distinct values of a column, and for each row the index of its value, -1 where it is null."""
    encoded = pc.dictionary_encode(column).unify_dictionaries()
    names = encoded.chunk(0).dictionary.to_pylist() if encoded.num_chunks else []
    codes = [chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in encoded.chunks]
    return names, np.concatenate(codes).astype(np.int64) if codes else np.empty(0, np.int64)


def _category(column: pa.ChunkedArray) -> Category:
    names, codes = _encode(column)
    return Category([*names, _UNKNOWN], np.where(codes < 0, len(names), codes))


def _identities(table: pa.Table, name: str, rows: int) -> np.ndarray:
    """[rows] a number for each patient or study, -1 where it is null or the column missing."""
    if name not in table.column_names:
        return np.full(rows, -1)
    names, codes = _encode(table[name])
    if "source" not in table.column_names:
        return codes
    # Two corpora may use one name for two patients.
    _, sources = _encode(table["source"])
    return np.where(codes < 0, -1, codes + (sources + 1) * len(names))


def _band(values: np.ndarray, ends: tuple[int, ...], unit: str) -> Category:
    """Whole numbers in bands up to and with each of `ends`."""
    starts = [1, *(end + 1 for end in ends)]
    names = [f"{start} to {end}{unit}" for start, end in zip(starts, ends, strict=False)]
    return Category([*names, f"{starts[-1]}{unit} or more"], np.searchsorted(ends, values))


def _age_category(column: pa.ChunkedArray) -> Category:
    ages = pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy()
    starts = (0, *AGE_BANDS)
    names = [f"{start} to {end - 1} years" for start, end in zip(starts, AGE_BANDS, strict=False)]
    names = [*names, f"{AGE_BANDS[-1]} years or more", _UNKNOWN]
    return Category(names, np.where(np.isnan(ages), len(names) - 1, np.searchsorted(AGE_BANDS, ages, side="right")))


def _batches(dataset: Dataset, name: str):
    """Number of the first row, and the column, of one batch after the other."""
    start = 0
    for table in dataset.select_columns([name]).with_format("arrow").iter(_ROWS_AT_ONCE):
        yield start, table[name].combine_chunks()
        start += len(table)


def _word_counts(dataset: Dataset) -> np.ndarray:
    """[N] how many words each report has."""
    counts = [
        pc.fill_null(pc.list_value_length(pc.utf8_split_whitespace(pc.utf8_trim_whitespace(column))), 0).to_numpy()
        for _, column in _batches(dataset, "report")
    ]
    return np.concatenate(counts)


def _read_labels(dataset: Dataset) -> dict[str, np.ndarray]:
    labels: dict[str, np.ndarray] = {}
    for start, column in _batches(dataset, "labels") if "labels" in dataset.column_names else ():
        entries = pc.list_flatten(column)
        rows = start + pc.list_parent_indices(column).to_numpy()
        values = pc.fill_null(entries.field("value").cast(pa.int8()), -1).to_numpy()
        names, codes = _encode(pa.chunked_array([entries.field("name")]))
        for code, name in enumerate(names):
            mine = codes == code
            labels.setdefault(name, np.full(len(dataset), -1, np.int8))[rows[mine]] = values[mine]
    return labels


def _read_flags(dataset: Dataset) -> dict[str, np.ndarray]:
    flags: dict[str, np.ndarray] = {}
    for start, column in _batches(dataset, "flags") if "flags" in dataset.column_names else ():
        rows = start + pc.list_parent_indices(column).to_numpy()
        names, codes = _encode(pa.chunked_array([pc.list_flatten(column)]))
        for code, name in enumerate(names):
            flags.setdefault(name, np.zeros(len(dataset), bool))[rows[codes == code]] = True
    return flags
