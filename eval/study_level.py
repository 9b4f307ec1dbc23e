"""Several films of one study (frontal and lateral, repeated, or with an earlier film of the study) judged as one.

Films of a study share patient and study id. Named rules: `mean_score` and `max_score` of the films' scores (the maximum
of the probabilities over the views is how CheXpert's baselines judge a study, arXiv 1901.07031), or the score of the
`mean_embedding`, of unit length again. Of the labels, a finding is present in a study where any of its films has it,
absent where none has and one was judged. That a film is normal ("No Finding", "Normal") says the opposite: a study
is where all films are that were judged, and the maximum is their minimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor

from data_scripts.prepared.columns import read_column
from data_scripts.reading.labels import tells_normal
from data_scripts.schema import DataError
from eval.settings import MAX_SCORE, MEAN_EMBEDDING, MEAN_SCORE, NONE

#: Those that need the scores of films alone.
SCORE_RULES = (NONE, MEAN_SCORE, MAX_SCORE)


def pool_scores(scores: np.ndarray, groups: np.ndarray, rule: str, labels: Sequence[str]) -> np.ndarray:
    """Scores [films, L] as scores [studies, L], by `mean_score` or `max_score`.

    Args:
        groups: number of each film's study, from 0 to studies - 1.
        labels: [L] names.
    """
    studies = int(groups.max()) + 1
    if rule == MAX_SCORE:
        # One film that shows something is enough to contradict.
        signs = np.array([-1 if tells_normal(name) else 1 for name in labels], scores.dtype)
        pooled = np.full((studies, scores.shape[1]), -np.inf, scores.dtype)
        np.maximum.at(pooled, groups, signs * scores)
        return signs * pooled
    sums = np.zeros((studies, scores.shape[1]))
    np.add.at(sums, groups, scores)
    return (sums / np.bincount(groups)[:, None]).astype(scores.dtype)


def pool_targets(targets: np.ndarray, groups: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Targets [films, L] (1, 0, NaN where nobody judged) of `labels` as targets [studies, L]: the highest that was
    judged, of normal films the lowest.
    """
    normal = np.array([tells_normal(name) for name in labels], bool)
    # Whatever loses against what was judged.
    unjudged = np.where(normal, 2.0, -1.0)
    pooled = pool_scores(np.where(np.isnan(targets), unjudged, targets), groups, MAX_SCORE, labels)
    return np.where(pooled == unjudged, np.nan, pooled)


def mean_embeddings(embeddings: Tensor, groups: np.ndarray) -> Tensor:
    """Embeddings [films, D] of unit length as those of studies [studies, D], of unit length."""
    sums = embeddings.new_zeros(int(groups.max()) + 1, embeddings.shape[1])
    return F.normalize(sums.index_add_(0, torch.from_numpy(groups), embeddings), dim=-1)


@dataclass(frozen=True)
class Studies:
    """Films by study, under a rule; under "none" every film stays as it is.

    Attributes:
        rule: one of `STUDY_RULES`.
        groups: [films] number of each film's study, in the order of their first films.
        first: [studies] row of each study's first film.
    """

    rule: str
    groups: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset, rule: str) -> Studies:
        """The studies of a split. Raises DataError where a rule is given and the data do not tell studies."""
        if rule == NONE:
            return cls(rule, np.arange(len(dataset)), np.arange(len(dataset)))
        if "study_id" not in dataset.column_names:
            raise DataError(f"study_rule {rule!r} needs the column 'study_id', the data have {dataset.column_names}")
        # A study's name need not be unique over patients.
        patients, names = read_column(dataset, "patient_id"), read_column(dataset, "study_id")
        return cls(rule, *group_rows(list(zip(patients, names, strict=True))))

    def embeddings(self, films: Tensor) -> Tensor:
        """What is scored: embeddings [films, D], or under "mean_embedding" those of the studies."""
        return mean_embeddings(films, self.groups) if self.rule == MEAN_EMBEDDING else films

    def scores(self, scores: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        """Scores [studies, L] of `labels` by the scores of what `embeddings` gave."""
        return pool_scores(scores, self.groups, self.rule, labels) if self.rule in (MEAN_SCORE, MAX_SCORE) else scores

    def targets(self, targets: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        """Targets [studies, L] of `labels` by those of the films."""
        return targets if self.rule == NONE else pool_targets(targets, self.groups, labels)

    def films(self, dataset: Dataset) -> Dataset:
        """A film of each study, without its view, for what all films of a study share (patient, sex, age, source)."""
        if self.rule == NONE:
            return dataset
        return dataset.select(self.first).remove_columns([name for name in ("view",) if name in dataset.column_names])

    @property
    def count(self) -> int | None:
        """Number of studies; None under "none"."""
        return None if self.rule == NONE else len(self.first)

    def notes(self) -> list[str]:
        """What a reader must know: that counts are of studies, or that the rule changes nothing."""
        if self.rule == NONE:
            return []
        films, studies = len(self.groups), len(self.first)
        if films == studies:
            return [f"Every study has one film: the study rule {self.rule!r} changes nothing."]
        several = int((np.bincount(self.groups) > 1).sum())
        return [
            f"{films:,} films were judged as {studies:,} studies by {self.rule!r} ({several:,} have several films): "
            "where figures are given for films, they count studies."
        ]


def group_rows(names: list) -> tuple[np.ndarray, np.ndarray]:
    """Number of each row's group [rows], in the order of their first rows, and those first rows [groups]."""
    numbers: dict = {}
    groups = np.array([numbers.setdefault(name, len(numbers)) for name in names])
    return groups, np.unique(groups, return_index=True)[1]
