"""How well a heat map points at a region: contrast-to-noise ratio, IoU over thresholds, pointing game; baseline maps.

All take a map fp32 [H, W] and its region uint8 [H, W]: 255 inside, 0 outside, 127 not judged.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

from data_scripts.schema import INSIDE, NOT_JUDGED

#: Of the published mIoU on MS-CXR (arXiv 2204.09817).
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
#: How far from the region the highest point may lie, as a share of the film's side: 15 pixels of about 500 in the
#: pictures that the pointing game was made for (arXiv 1608.00507).
TOLERANCE = 0.03


def contrast_to_noise(heat_map: np.ndarray, region: np.ndarray) -> float:
    """(mean inside - mean outside) / sqrt(variance inside + variance outside); NaN where one of them is empty.

    As of arXiv 2204.09817, which takes the absolute value: a map that is low in the region gains as well. Here
    it has its sign. 0 of a map without variance.
    """
    inside, outside = heat_map[region == INSIDE], heat_map[region == 0]
    if not (len(inside) and len(outside)):
        return float("nan")
    noise = np.sqrt(inside.var(dtype=np.float64) + outside.var(dtype=np.float64))
    contrast = inside.mean(dtype=np.float64) - outside.mean(dtype=np.float64)
    return float(contrast / noise) if noise > 0 else 0.0


def mean_iou(heat_map: np.ndarray, region: np.ndarray) -> float:
    """Mean over `THRESHOLDS` of the IoU of the region and where the map exceeds the threshold, 0 to 1."""
    inside, judged = region == INSIDE, region != NOT_JUDGED
    ious = []
    for threshold in THRESHOLDS:
        found = (heat_map > threshold) & judged
        ious.append((found & inside).sum() / max((found | inside).sum(), 1))
    return float(np.mean(ious))


def pointing_hit(heat_map: np.ndarray, region: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """1 where the map's highest judged point lies in the region or at most `tolerance` times the side from it, else 0.

    Where several points are highest, the share of them that do; NaN of an empty region.
    """
    if not (region == INSIDE).any():
        return float("nan")
    judged = region != NOT_JUDGED
    highest = judged & (heat_map == heat_map[judged].max())
    distance = distance_transform_edt(region != INSIDE)
    return float((distance[highest] <= tolerance * min(region.shape)).mean())


def scaled(heat_map: np.ndarray) -> np.ndarray:
    """The map from 0 to 1, as maps whose values are no cosines have to be for a threshold; 0 of a constant one."""
    low, high = heat_map.min(), heat_map.max()
    return (heat_map - low) / (high - low) if high > low else np.zeros_like(heat_map)


def centre_map(side: int) -> np.ndarray:
    """A map that points at the middle of every film: a Gaussian of a quarter of the side, fp32 [side, side]."""
    places = (np.arange(side) + 0.5) / side - 0.5
    line = np.exp(-(places**2) / (2 * 0.25**2))
    return np.outer(line, line).astype(np.float32)


def random_map(shape: tuple[int, int], *seed: int) -> np.ndarray:
    """Uniform noise fp32 of `shape`; the same numbers give the same map."""
    return np.random.default_rng(seed).random(shape, dtype=np.float32)
