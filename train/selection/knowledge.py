"""What a rule may know of pairs beside their embeddings, at no pass through a model: from the prepared data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from data_scripts.extraction import FINDING_NAMES, NO_FINDING, extract_findings

if TYPE_CHECKING:
    # A second of importing, for a name.
    from datasets import Dataset


@dataclass(frozen=True)
class Knowledge:
    """One thing to know of every pair: the prepared column that it comes from, and how, from the values of a batch."""

    column: str
    of: Callable[[list], list]
    advice: str


_ABNORMAL = [name for name in FINDING_NAMES if name != NO_FINDING]


def _are_sound(qualities: list) -> list[bool]:
    # Here, so that the arguments of a run do not wait for the package.
    from modeling_chexficient.input_check_chexficient import FilmQuality

    return [not FilmQuality(**quality).looks_broken() for quality in qualities]


def _concepts(reports: list[str]) -> list[list[bool]]:
    """Findings that the extractor says are present; a report without any has the last concept."""
    found = [extract_findings(report) for report in reports]
    present = [[findings.get(name) == 1 for name in _ABNORMAL] for findings in found]
    return [[*row, not any(row)] for row in present]


def _have_no_defect(flags: list[list[str]]) -> list[bool]:
    return [_WORTHLESS.isdisjoint(of_pair) for of_pair in flags]


#: Flags of a record (`data_scripts.schema`) whose pairs teach nothing that is right.
_WORTHLESS = frozenset(("wrong_report", "broken_image"))
#: By the name that a rule's `needs` have for it: `sound` [N] bool, whether a film passes the gate on broken ones;
#: `no_defect` [N] bool, whether the corpus knows of no defect of the pair;
#: `concepts` [N, abnormal findings + 1] bool, the findings that the report says are present, the last one "none".
KNOWLEDGE = {
    "sound": Knowledge("quality", _are_sound, "prepare the data again, which measures the quality of every film"),
    "no_defect": Knowledge("flags", _have_no_defect, "prepare the data again"),
    "concepts": Knowledge("report", _concepts, "prepare the data with their reports"),
}


#: What comes of a model and not of the data: `reference` [N, 2 R], see `train.pretrain.reference`.
REFERENCE = "reference"


def know(names: Sequence[str], dataset: Dataset) -> dict[str, Tensor]:
    """For each of `names` but the reference a tensor [N, ...] of all pairs of `dataset`, on the CPU.

    `datasets` keeps them in its cache on disk.

    Raises:
        ValueError: the dataset lacks the column that it comes from, for all or some of its pairs.
    """
    known = {}
    for name in names:
        if name == REFERENCE:
            continue
        source = KNOWLEDGE[name]
        if source.column not in dataset.column_names:
            raise ValueError(f"the data have no column {source.column!r}, from which {name} is told: {source.advice}")
        columns = dataset.select_columns([source.column])
        # Empty where a part of a mixture was prepared before there was such a column.
        empty = sum(column.null_count for column in columns.with_format("arrow")[:].columns)
        if empty:
            raise ValueError(f"{empty} pairs have no {source.column!r}, from which {name} is told: {source.advice}")
        told = columns.map(
            lambda batch, source=source: {"known": source.of(batch[source.column])},
            batched=True,
            remove_columns=columns.column_names,
            desc=f"reading {source.column}",
        )
        known[name] = torch.as_tensor(told.with_format("numpy")["known"][:]).bool()
    return known
