"""Zero-shot classification of findings by pairs of prompts (protocol of arXiv 2602.22843)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from datasets import Dataset

from eval.embedding import embed_films, embed_texts
from eval.labels import label_matrix
from eval.metrics import bootstrap_weights, percentile_interval, weighted_auroc
from eval.prompts import prompt_pair
from eval.results import Estimate, LabelResult


@dataclass
class ZeroShotScores:
    """Scores and truth of a split: `scores`, `targets` [films, labels] (NaN: not judged), `patients` [films]."""

    names: list[str]
    scores: np.ndarray
    targets: np.ndarray
    patients: np.ndarray


def score_split(
    model, processor, dataset: Dataset, labels: tuple[str, ...], prompts: str, batch_size: int = 64
) -> ZeroShotScores:
    """Score every film for every label: logit of the positive minus logit of the negative prompt.

    That difference orders films as the published two-class softmax does; neither is a calibrated probability.

    Raises:
        ValueError: the split is empty, holds no label, or lacks one that is asked for.
    """
    if len(dataset) == 0:
        raise ValueError("the split is empty: there is nothing to evaluate on")
    names, targets = label_matrix(dataset)
    missing = [label for label in labels if label not in names]
    if missing or not names:
        raise ValueError(f"labels {missing or '(any)'} are not in the data, which has {names}")
    if labels:
        targets = targets[:, [names.index(label) for label in labels]]
        names = list(labels)
    films = embed_films(model, processor, dataset, batch_size)
    texts = embed_texts(model, processor, [prompt for name in names for prompt in prompt_pair(name, prompts)])
    scale = model.logit_scale.detach().float().exp().cpu()
    scores = scale * films @ (texts[0::2] - texts[1::2]).T
    return ZeroShotScores(names, scores.numpy(), targets, np.asarray(dataset["patient_id"]))


def judge(
    split: ZeroShotScores, prevalence: dict[str, float], rare_below: float, resamples: int, seed: int
) -> tuple[list[LabelResult], dict[str, Estimate]]:
    """AUROC of every label, and the macro means ("macro", "macro_common", "macro_rare"), with intervals by patient.

    Labels with one class only have no AUROC and stay out of the means. A resample without a positive film of some
    label leaves that label out of that resample's mean.
    """
    whole = np.ones((1, len(split.patients)))
    weights = np.vstack([whole, bootstrap_weights(split.patients, resamples, seed)])
    columns, labels = [], []
    for number, name in enumerate(split.names):
        judged = np.isfinite(split.targets[:, number])
        targets = split.targets[judged, number]
        values = weighted_auroc(split.scores[judged, number], targets, weights[:, judged])
        rare = prevalence.get(name, 0.0) < rare_below
        labels.append(
            LabelResult(name, _estimate(values), len(targets), int(targets.sum()), prevalence.get(name, 0.0), rare)
        )
        columns.append(values)
    values = np.stack(columns, axis=1)
    values[:, np.isnan(values[0])] = np.nan
    rare = np.array([label.rare for label in labels])
    groups = {"macro": np.ones_like(rare), "macro_common": ~rare, "macro_rare": rare}
    return labels, {name: _estimate(_row_means(values[:, group])) for name, group in groups.items()}


def _row_means(values: np.ndarray) -> np.ndarray:
    """Mean of each row over its defined values; NaN where there is none."""
    defined = np.isfinite(values)
    count = defined.sum(axis=1)
    return np.where(defined, values, 0).sum(axis=1) / np.where(count > 0, count, np.nan)


def _estimate(values: np.ndarray) -> Estimate:
    """The first value is the figure itself, the others its resamples."""
    if np.isnan(values[0]):
        return Estimate(None, None, None)
    return Estimate(float(values[0]), *percentile_interval(values[1:]))
