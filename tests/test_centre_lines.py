"""Centre-line Dice of thin structures: by hand, which references are thin, and what a result says of it."""

import numpy as np
import pytest

from eval.records.results import StructureResult
from eval.tasks.dice import THIN, centre_line_dice, centre_lines, judge, mean_width, overlaps

SIDE = 112


def tube(rows=(20, 90), column=50, width=3) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[rows[0] : rows[1], column : column + width] = 255
    return mask


def of(found: np.ndarray, mask: np.ndarray) -> float:
    return float(centre_line_dice(centre_lines(found[None] > 0, mask[None]))[0])


def test_by_hand():
    reference = tube()
    assert of(reference, reference) == 1
    # Half of it, all within: precision 1, sensitivity a half (ends of centre lines are a pixel or two shorter).
    assert of(tube((20, 55)), reference) == pytest.approx(2 / 3, abs=0.02)
    # One pixel aside, where the lines still lie within each other: Dice falls to 2/3, the centre line does not.
    aside = tube(column=51)
    counts = overlaps(aside[None] > 0, reference[None])
    assert 2 * counts[0, 0] / counts[0, 1:].sum() == pytest.approx(2 / 3)
    assert of(aside, reference) == 1
    assert of(tube(column=54), reference) == 0
    assert of(np.zeros_like(reference), reference) == 0
    # A broad patch covers it all, and its own centre line is partly elsewhere.
    patch = tube((20, 90), 30, 40)
    assert 0 < of(patch, reference) < 0.9


@pytest.mark.parametrize(("width", "thin"), [(1, True), (3, True), (12, False)])
def test_only_thin_references_count(width, thin):
    mask = tube(width=width)
    assert mean_width(mask > 0) == pytest.approx(width, rel=0.15)
    assert (mean_width(mask > 0) <= THIN * SIDE) == thin
    assert np.isfinite(centre_lines(mask[None] > 0, mask[None])).all() == thin


def test_pixels_that_nobody_judged_stay_out():
    reference = tube()
    reference[55:] = 127
    found = tube()
    assert of(found, reference) == 1
    assert mean_width(np.zeros((4, 4), bool)) == 0


def test_results_tell_it_of_thin_structures_alone():
    masks = np.stack([np.stack([tube(column=column), tube(width=30)]) for column in (20, 40, 60, 80)] * 6)
    found = masks > 0
    found[::2, 0, 55:] = False
    counts = np.concatenate([overlaps(found, masks), centre_lines(found, masks)], axis=-1)
    structures, macro = judge("unet", ["tube", "lung"], counts, np.arange(24), 50, 0)
    assert structures[0].thin_films == 24
    assert structures[0].centre_line_dice.value == pytest.approx((1 + 2 / 3) / 2, abs=0.02)
    assert structures[0].centre_line_dice.low < structures[0].centre_line_dice.value
    assert (structures[1].centre_line_dice, structures[1].thin_films) == (None, 0)
    plain, same = judge("unet", ["tube", "lung"], counts[..., :3], np.arange(24), 50, 0)
    assert same == macro
    assert plain[0].dice == structures[0].dice
    assert plain[0].centre_line_dice is None
    assert isinstance(plain[0], StructureResult)
