"""Zero-shot classification of findings by pairs of prompts (protocol of arXiv 2602.22843)."""

from __future__ import annotations

import numpy as np
from datasets import Dataset

from eval.embedding import embed_films, embed_texts
from eval.labels import label_matrix
from eval.metrics import bootstrap_weights, label_aurocs, macro_means
from eval.prompts import prompt_pair
from eval.results import Estimate, LabelResult
from eval.scores import ZeroShotScores


def score_split(
    model, processor, dataset: Dataset, labels: tuple[str, ...], prompts: str, batch_size: int = 64
) -> ZeroShotScores:
    """Score every film for every label: logit of the positive minus logit of the negative prompt.

    That difference orders films as the published two-class softmax does; neither is a calibrated probability.

    Raises:
        ValueError: the split is empty, holds no label, or lacks one that is asked for; or a score is not finite.
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
    broken = (~scores.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if broken:
        raise ValueError(f"the scores of {len(broken)} films are not finite, the first is row {broken[0]}")
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
    aurocs = label_aurocs(split.scores, split.targets, weights)
    films, positives = np.isfinite(split.targets).sum(axis=0), np.nansum(split.targets, axis=0)
    labels = [
        LabelResult(
            name,
            Estimate.of_resamples(aurocs[:, number]),
            int(films[number]),
            int(positives[number]),
            prevalence.get(name, 0.0),
            prevalence.get(name, 0.0) < rare_below,
        )
        for number, name in enumerate(split.names)
    ]
    macros = macro_means(aurocs, np.array([label.rare for label in labels]))
    return labels, {name: Estimate.of_resamples(values) for name, values in macros.items()}
