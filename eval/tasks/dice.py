"""Dice, IoU and centre-line Dice of masks, and their means over films with intervals by patient."""

from __future__ import annotations

import numpy as np
from skimage.morphology import skeletonize

from data_scripts.schema import INSIDE, NOT_JUDGED
from eval.records.results import Estimate, StructureResult
from eval.statistics.significance import by_patient_intervals

QUANTILES = (0, 0.25, 0.5, 0.75, 1)
#: A reference is thin (a tube, a line) where its mean width is at most this share of the film's shorter side.
THIN = 0.03


def overlaps(found: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Pixels found and in the reference, found, and in the reference, among the judged ones, [..., 3].

    `found` is bool [..., H, W], `masks` uint8 [..., H, W]: 255 inside, 0 outside, 127 not judged. NaN where no pixel is
    judged.
    """
    judged = masks != NOT_JUDGED
    inside, found = masks == INSIDE, found & judged
    counts = np.stack([mask.sum(axis=(-2, -1)) for mask in (found & inside, found, inside)], axis=-1)
    return np.where(judged.any(axis=(-2, -1))[..., None], counts, np.nan)


def centre_lines(found: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Of thin references, pixels of centre lines [..., 4]; NaN where the reference is not thin, empty, or not judged.

    They are: of the centre line of what was found those within the reference, and all; of the reference's own those
    that were found, and all. Arguments as of `overlaps`.
    """
    judged = masks != NOT_JUDGED
    pairs = zip(*(_films(values) for values in (found & judged, masks == INSIDE)), strict=True)
    return np.array([_of_one(*pair) for pair in pairs]).reshape(*masks.shape[:-2], 4)


def _films(masks: np.ndarray) -> np.ndarray:
    return masks.reshape(-1, *masks.shape[-2:])


def _of_one(found: np.ndarray, inside: np.ndarray) -> tuple[float, float, float, float]:
    if not 0 < mean_width(inside) <= THIN * min(inside.shape):
        return (np.nan,) * 4
    line, reference = skeletonize(found), skeletonize(inside)
    return float((line & inside).sum()), float(line.sum()), float((reference & found).sum()), float(reference.sum())


def mean_width(mask: np.ndarray) -> float:
    """Of a long shape in a mask [H, W]: twice its area over its outline, in pixels; 0 of an empty one."""
    padded = np.pad(mask, 1)
    outline = (padded[1:] != padded[:-1]).sum() + (padded[:, 1:] != padded[:, :-1]).sum()
    return 2 * mask.sum() / outline if outline else 0.0


def centre_line_dice(counts: np.ndarray) -> np.ndarray:
    """clDice [...], 0 to 1, of `centre_lines` [..., 4] (arXiv 2003.07311, equation 2); 0 where nothing was found."""
    line_within, line, reference_found, reference = np.moveaxis(counts, -1, 0)
    precision, sensitivity = line_within / np.maximum(line, 1), reference_found / reference
    return 2 * precision * sensitivity / np.maximum(precision + sensitivity, 1e-12)


def dice(counts: np.ndarray) -> np.ndarray:
    """Dice [...], 0 to 1, of `overlaps` [..., 3]; NaN where both masks are empty, or nothing is judged."""
    both, found, inside = np.moveaxis(counts[..., :3], -1, 0)
    return 2 * both / _nonzero(found + inside)


def iou(counts: np.ndarray) -> np.ndarray:
    """Intersection over union [...], 0 to 1, of `overlaps` [..., 3]; NaN as for `dice`."""
    both, found, inside = np.moveaxis(counts[..., :3], -1, 0)
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
    """Dice, IoU and, of thin ones, centre-line Dice of every structure, and the mean Dice over structures, with
    intervals by patient.

    Args:
        decoder: name for the results.
        names: of the structures.
        counts: `overlaps` [films, structures, 3], or these and `centre_lines` [films, structures, 7].
        patients: [films], whose film each is.
    """
    dices, ious = with_structure(dice(counts), counts), with_structure(iou(counts), counts)
    has_lines = counts.shape[-1] > 3
    lines = centre_line_dice(counts[..., 3:]) if has_lines else np.full_like(dices, np.nan)

    def figures(weights: np.ndarray) -> np.ndarray:
        means = weighted_means(dices, weights)
        macro = weighted_means(means.T, np.ones((1, len(names))))[0]
        return np.hstack([means, weighted_means(ious, weights), weighted_means(lines, weights), macro[:, None]])

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
                centre_line_dice=_if_defined(estimates[2 * len(names) + number]),
                thin_films=int(np.isfinite(lines[:, number]).sum()),
                dice_quantiles={f"{q:g}": float(np.quantile(known, q)) for q in QUANTILES} if len(known) else {},
                films=len(known),
                films_without=int((own[:, 2] == 0).sum()),
                false_alarms=int(((own[:, 2] == 0) & (own[:, 1] > 0)).sum()),
            )
        )
    return structures, estimates[-1]


def _if_defined(estimate: Estimate) -> Estimate | None:
    return None if estimate.value is None else estimate
