"""Films by view, sex, age band and source, where the data say so."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from datasets import Dataset

from data_scripts.prepared.columns import read_column
from eval.statistics.metrics import LEAST_PATIENTS

#: Lower ends of the age bands, in years; the last is open.
AGE_BANDS = (0, 18, 40, 65, 80)


def subgroups(dataset: Dataset) -> Iterator[tuple[str, str, np.ndarray]]:
    """Attribute, value and rows (bool [films]) of every group of at least `LEAST_PATIENTS` patients.

    Fewer could be told apart.

    An attribute that is not known, or the same for all films, gives none.
    """
    patients = np.asarray(read_column(dataset, "patient_id"))
    for attribute, column in (("view", "view"), ("sex", "sex"), ("age", "age_years"), ("source", "source")):
        if column not in dataset.column_names:
            continue
        values = dataset.select_columns([column])[column][:]
        if column == "age_years":
            values = [_age_band(age) for age in values]
        known = np.array([value if value not in (None, "UNKNOWN") else "" for value in values], dtype=object)
        names = sorted({*known} - {""}, key=_order)
        for name in names if len(names) > 1 else ():
            rows = known == name
            if len(np.unique(patients[rows])) >= LEAST_PATIENTS:
                yield attribute, name, rows


def _age_band(age: float | None) -> str | None:
    if age is None or np.isnan(age):
        return None
    low = max(band for band in AGE_BANDS if band <= age)
    if low == AGE_BANDS[-1]:
        return f"{low} and older"
    return f"{low} to {AGE_BANDS[AGE_BANDS.index(low) + 1] - 1}"


def _order(name: str) -> tuple[int, str]:
    """Age bands by age, other names by the alphabet."""
    first = name.split()[0]
    return (int(first), "") if first.isdigit() else (0, name)
