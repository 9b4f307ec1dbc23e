"""AUROC of every label and their mean, uncertain labels masked, with weights: a module of `evaluate`."""

from __future__ import annotations

import datasets
import evaluate
import numpy as np

from eval.statistics.metrics import label_aurocs

_DESCRIPTION = "Area under the ROC curve for several labels, ties counted half, by weighted_auroc of eval.statistics."
_INPUTS = """
Args:
    predictions: scores [n][labels], higher for present.
    references: [n][labels], 1 present, 0 absent, -1 or NaN uncertain or not judged: not counted for that label.
    sample_weight: [n], how much each film counts, at least 0; default: all alike.
    labels: names of the labels; default: "0", "1", ...

Returns:
    macro: mean over the labels that have both classes, NaN if there is none.
    by_label: AUROC by name, 0 to 1; NaN where a label has one class only.
    undefined: names of these labels.
"""


class MultilabelAuroc(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        rows = datasets.List(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": rows, "references": rows}),
        )

    def _compute(self, predictions, references, sample_weight=None, labels=None) -> dict:
        scores, targets = _matrix(predictions, "predictions"), _matrix(references, "references")
        if scores.shape != targets.shape:
            raise ValueError(f"predictions are {scores.shape}, references {targets.shape}: [films, labels] of each")
        if not np.isfinite(scores).all():
            raise ValueError("a prediction is not finite")
        unknown = sorted(set(targets[np.isfinite(targets)].tolist()) - {1, 0, -1})
        if unknown:
            raise ValueError(f"references hold {unknown}: allowed are 1, 0, and -1 or NaN for uncertain")
        weights = np.ones(len(scores)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
        if weights.shape != (len(scores),) or not (weights >= 0).all():
            raise ValueError(f"sample_weight must be {len(scores)} numbers of at least 0")
        names = [str(number) for number in range(scores.shape[1])] if labels is None else list(labels)
        if len(names) != scores.shape[1]:
            raise ValueError(f"{len(names)} names of labels for {scores.shape[1]} columns")
        aurocs = label_aurocs(scores, np.where(targets == -1, np.nan, targets), weights[None])[0]
        defined = np.isfinite(aurocs)
        return {
            "macro": float(aurocs[defined].mean()) if defined.any() else float("nan"),
            "by_label": dict(zip(names, aurocs.tolist(), strict=True)),
            "undefined": [name for name, known in zip(names, defined, strict=True) if not known],
        }


def _matrix(rows, name: str) -> np.ndarray:
    if not len(rows):
        raise ValueError(f"{name}: there are no films, give at least one")
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"{name}: all films need the same labels")
    return np.array(rows, dtype=float)
