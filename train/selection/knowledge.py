"""What a rule may know of pairs beside their embeddings, at no pass through a model: from the prepared data."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from data_scripts.extraction import ABNORMALITY_NAMES, extract_findings, present_abnormalities

if TYPE_CHECKING:
    # A second of importing, for a name.
    from datasets import Dataset


@dataclass(frozen=True)
class Knowledge:
    """One thing to know of every pair: the prepared columns that it comes from, and how, from the values of a batch."""

    columns: tuple[str, ...]
    of: Callable[..., list]
    advice: str


#: What `concepts` are told apart. The last one is that of pairs without any other.
CONCEPT_NAMES = (*ABNORMALITY_NAMES, "none")


def _are_sound(qualities: list) -> list[bool]:
    # Here, so that the arguments of a run do not wait for the package.
    from modeling_chexficient.input_check_chexficient import FilmQuality

    return [not FilmQuality(**quality).looks_broken() for quality in qualities]


def _concepts(reports: list[str], labels: list[list[dict]]) -> list[list[bool]]:
    present = [_abnormalities(report, of_pair) for report, of_pair in zip(reports, labels, strict=True)]
    return [[*(name in found for name in ABNORMALITY_NAMES), found.isdisjoint(ABNORMALITY_NAMES)] for found in present]


def _abnormalities(report: str, labels: list[dict]) -> set[str]:
    """What the report says is there; where the rules understand nothing of it (another language), what labels say."""
    found = present_abnormalities(report)
    if found or extract_findings(report):
        return found
    return {label["name"] for label in labels if label["value"] == 1}


def _have_no_defect(flags: list[list[str]]) -> list[bool]:
    return [_WORTHLESS.isdisjoint(of_pair) for of_pair in flags]


#: Flags of a record (`data_scripts.schema`) whose pairs teach nothing that is right.
_WORTHLESS = frozenset(("wrong_report", "broken_image"))
#: By the name that a rule's `needs` have for it: `sound` [N] bool, whether a film passes the gate on broken ones;
#: `no_defect` [N] bool, whether the corpus knows of no defect of the pair;
#: `concepts` [N, len(CONCEPT_NAMES)] bool, what the report says is there, the last one "none".
KNOWLEDGE = {
    "sound": Knowledge(("quality",), _are_sound, "prepare the data again, which measures the quality of every film"),
    "no_defect": Knowledge(("flags",), _have_no_defect, "prepare the data again"),
    "concepts": Knowledge(("report", "labels"), _concepts, "prepare the data with their reports"),
}


#: Reading the reports of so many pairs takes about a minute, from which on another process is worth its start.
_PAIRS_A_PROCESS = 50_000
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
        for column in source.columns:
            if column not in dataset.column_names:
                raise ValueError(f"the data have no column {column!r}, from which {name} is told: {source.advice}")
        columns = dataset.select_columns(list(source.columns))
        # Empty where a part of a mixture was prepared before there was such a column.
        table = columns.with_format("arrow")[:]
        for column in source.columns:
            if empty := table[column].null_count:
                raise ValueError(f"{empty} pairs have no {column!r}, from which {name} is told: {source.advice}")
        processes = min(os.cpu_count() or 1, len(columns) // _PAIRS_A_PROCESS)
        told = columns.map(
            lambda batch, source=source: {"known": source.of(*(batch[column] for column in source.columns))},
            batched=True,
            remove_columns=columns.column_names,
            num_proc=processes if processes > 1 else None,
            desc=f"reading {' and '.join(source.columns)}",
        )
        known[name] = torch.as_tensor(told.with_format("numpy")["known"][:]).bool()
    return known
