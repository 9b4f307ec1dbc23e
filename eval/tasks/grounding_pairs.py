"""What grounding asks for: pairs of a film and a finding that it shows, and a finding that it does not show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from datasets import Dataset

from data_scripts.prepared.columns import read_column
from data_scripts.prepared.masks import mask_names
from eval.benchmarks import Benchmark
from eval.models.adapted import FindingsModel
from eval.models.encoders import EvaluationModel
from eval.prompts import find_prompts
from eval.settings import EvaluationSettings


@dataclass(frozen=True)
class Pairs:
    """For each pair the row of its film, its finding, and the text or the head's finding that is asked for.

    `others` are texts, or the head's findings, of another finding that the film does not show; empty where a film
    shows all that are asked for.
    """

    rows: list[int]
    findings: list[str]
    phrases: list[str]
    others: list[str]

    def __len__(self) -> int:
        return len(self.rows)


def find_pairs(
    benchmark: Benchmark, model: EvaluationModel, films: Dataset, settings: EvaluationSettings
) -> tuple[Pairs, list[str]]:
    """The pairs of a split, by finding, and notes on findings that were left out.

    Raises:
        ValueError: the model has neither texts nor findings, or none of the findings; the films have no masks of
            findings, or lack the phrases.
    """
    is_head = isinstance(model, FindingsModel)
    if not (is_head or model.sees_text):
        raise ValueError(f"{model.name} has no text tower and no head for findings: it cannot be asked where one is")
    if "masks" not in films.column_names:
        raise ValueError(f"column 'masks' is missing, there are {films.column_names}: grounding needs masks")
    shown = [{label["name"] for label in labels if label["value"] == 1} for labels in films["labels"]]
    marked = [of_film & names for of_film, names in zip(shown, mask_names(films), strict=True)]
    names = sorted(set().union(*marked).intersection(benchmark.labels or set().union(*marked)))
    unknown = [name for name in names if is_head and name not in model.label_names]
    names = [name for name in names if name not in unknown]
    if not names:
        raise ValueError(f"no film has a mask of a finding that {model.name} knows; masked are {unknown or 'none'}")
    texts = _texts(benchmark, films, names, is_head, settings)
    pairs = [(row, name) for row, of_film in enumerate(marked) for name in names if name in of_film]
    phrases = [texts(row, name) for row, name in pairs]
    others = _others(pairs, phrases, shown, settings.seed)
    # What is asked alike stands together, so that there are few phrases in a batch.
    order = sorted(range(len(pairs)), key=lambda k: (pairs[k][1], others[k] if others else "", pairs[k][0]))
    rows, findings = (list(column) for column in zip(*(pairs[k] for k in order), strict=True))
    notes = [f"The head has no output for {', '.join(unknown)}: left out."] if unknown else []
    if not others:
        notes.append("A film shows all findings that are asked for: maps are not compared with those of another one.")
    asked = [phrases[k] for k in order]
    return Pairs(rows, findings, asked, [others[k] for k in order] if others else []), notes


def _others(
    pairs: Sequence[tuple[int, str]], phrases: Sequence[str], shown: Sequence[set[str]], seed: int
) -> list[str]:
    """Of each pair a phrase of a finding that its film does not show, findings drawn alike; none where one has none."""
    by_finding: dict[str, list[str]] = {}
    for (_, finding), phrase in zip(pairs, phrases, strict=True):
        by_finding.setdefault(finding, []).append(phrase)
    draw, others = np.random.default_rng(seed), []
    for row, _ in pairs:
        absent = [name for name in by_finding if name not in shown[row]]
        if not absent:
            return []
        of_finding = by_finding[absent[draw.integers(len(absent))]]
        others.append(of_finding[draw.integers(len(of_finding))])
    return others


def _texts(
    benchmark: Benchmark, films: Dataset, names: list[str], is_head: bool, settings: EvaluationSettings
) -> Callable[[int, str], str]:
    """A function of a row and a finding: what the model is asked for."""
    if is_head:
        return lambda row, name: name
    if benchmark.phrase_column:
        if benchmark.phrase_column not in films.column_names:
            raise ValueError(f"column {benchmark.phrase_column!r} with the phrases is missing")
        phrases = read_column(films, benchmark.phrase_column)
        return lambda row, name: phrases[row] or name
    family = find_prompts(settings.prompts or benchmark.prompts)
    prompts = {name: family.pair(name)[0] for name in names}
    return lambda row, name: prompts[name]
