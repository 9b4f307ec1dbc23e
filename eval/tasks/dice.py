"""Dice and IoU of masks, and their means over films with intervals by patient."""

from __future__ import annotations

import numpy as np

from data_scripts.schema import INSIDE, NOT_JUDGED
from eval.records.results import Estimate, StructureResult
from eval.significance import by_patient_intervals

QUANTILES = (0, 0.25, 0.5, 0.75, 1)


def overlaps(found: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Pixels found and in the reference, found, and in the reference, among the judged ones, [..., 3].

    `found` is bool [..., H, W], `masks` uint8 [..., H, W]: 255 inside, 0 outside, 127 not judged. NaN where no pixel is
    judged.
    """
    judged = masks != NOT_JUDGED
    inside, found = masks == INSIDE, found & judged
    counts = np.stack([mask.sum(axis=(-2, -1)) for mask in (found & inside, found, inside)], axis=-1)
    return np.where(judged.any(axis=(-2, -1))[..., None], counts, np.nan)


def dice(counts: np.ndarray) -> np.ndarray:
    """Dice [...], 0 to 1, of `overlaps` [..., 3]; NaN where both masks are empty, or nothing is judged."""
    both, found, inside = np.moveaxis(counts, -1, 0)
    return 2 * both / _nonzero(found + inside)


def iou(counts: np.ndarray) -> np.ndarray:
    """Intersection over union [...], 0 to 1, of `overlaps` [..., 3]; NaN as for `dice`."""
    both, found, inside = np.moveaxis(counts, -1, 0)
    return both / _nonzero(found + inside - both)


def _nonzero(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, np.nan)


def with_structure(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`values` [films, structures] where the reference has the structure, NaN elsewhere.

    A film without it has no Dice that says how well it was outlined: 0 for one wrong pixel, undefined for none.
    """
    return np.where(counts[..., 2] > 0, values, np.nan)


def weighted_means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Means [R, k] of the defined `values` [n, k] under each row of `weights` [R, n]; NaN where none weighs."""
    defined = np.isfinite(values)
    return weights @ np.where(defined, values, 0) / _nonzero(weights @ defined.astype(float))


def judge(
    decoder: str, names: list[str], counts: np.ndarray, patients: np.ndarray, resamples: int, seed: int
) -> tuple[list[StructureResult], Estimate]:
    """Dice and IoU of every structure, and the mean Dice over structures, with intervals by patient.

    Args:
        decoder: name for the results.
        names: of the structures.
        counts: `overlaps` [films, structures, 3].
        patients: [films], whose film each is.
    """
    dices, ious = with_structure(dice(counts), counts), with_structure(iou(counts), counts)

    def figures(weights: np.ndarray) -> np.ndarray:
        means = weighted_means(dices, weights)
        macro = weighted_means(means.T, np.ones((1, len(names))))[0]
        return np.hstack([means, weighted_means(ious, weights), macro[:, None]])

    estimates = by_patient_intervals(figures, patients, resamples, seed)
    structures = []
    for number, name in enumerate(names):
        known, own = dices[:, number], counts[:, number]
        known = known[np.isfinite(known)]
        structures.append(
            StructureResult(
                decoder,
                name,
                dice=estimates[number],
                iou=estimates[len(names) + number],
                dice_quantiles={f"{q:g}": float(np.quantile(known, q)) for q in QUANTILES} if len(known) else {},
                films=len(known),
                films_without=int((own[:, 2] == 0).sum()),
                false_alarms=int(((own[:, 2] == 0) & (own[:, 1] > 0)).sum()),
            )
        )
    return structures, estimates[-1]
