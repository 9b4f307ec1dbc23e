"""Dice and IoU of masks with pixels that were not judged: a module of `evaluate`."""

from __future__ import annotations

import datasets
import evaluate
import numpy as np

from data_scripts.schema import INSIDE, NOT_JUDGED
from eval.tasks.dice import dice, iou, overlaps, with_structure

_DESCRIPTION = "Dice coefficient and intersection over union of single-structure masks, by eval.tasks.dice."
_INPUTS = """
Args:
    predictions: masks [n][height][width], 0 is outside, everything else inside.
    references: masks of the same sizes, 255 inside, 0 outside, 127 not judged: no pixel of either counts there.

Returns:
    dice, iou: means over the films whose reference has the structure, 0 to 1; NaN if there is none.
    dice_by_film: NaN for films without the structure, whose Dice would not say how well it was outlined.
    films: with the structure; films_without: without it, or not judged at all.
    false_alarms: how many of the latter something was segmented in.
"""


class Dice(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        mask = datasets.List(datasets.List(datasets.Value("uint8")))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": mask, "references": mask}),
        )

    def _compute(self, predictions, references) -> dict:
        if not len(predictions):
            raise ValueError("there are no masks: give at least one prediction and its reference")
        counts = np.array([_overlaps(*pair) for pair in enumerate(zip(predictions, references, strict=True))])
        by_film, of_union = with_structure(dice(counts), counts), with_structure(iou(counts), counts)
        films = np.isfinite(by_film)
        return {
            "dice": float(by_film[films].mean()) if films.any() else float("nan"),
            "iou": float(of_union[films].mean()) if films.any() else float("nan"),
            "dice_by_film": by_film.tolist(),
            "films": int(films.sum()),
            "films_without": int((~films).sum()),
            "false_alarms": int((counts[~films, 1] > 0).sum()),
        }


def _overlaps(number: int, masks: tuple) -> np.ndarray:
    """Counts [3] of one film."""
    found, reference = (np.asarray(mask, dtype=np.uint8) for mask in masks)
    if found.shape != reference.shape:
        raise ValueError(f"film {number}: the prediction is {found.shape}, the reference {reference.shape}")
    if not np.isin(reference, (0, NOT_JUDGED, INSIDE)).all():
        raise ValueError(f"film {number}: the reference has values other than 0, {NOT_JUDGED} and {INSIDE}")
    return overlaps(found > 0, reference)
