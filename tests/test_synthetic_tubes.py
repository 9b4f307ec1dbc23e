"""Tubes of the synthetic corpus that lie wrong, or are more frequent, and that nothing else changes with them."""

import hashlib
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from data_scripts.extraction.rules import report_labels
from data_scripts.loaders import synthetic as loader
from data_scripts.synthetic import SyntheticOptions, draw_film, make_case, write_report
from data_scripts.synthetic.findings import BY_NAME, LINES_AND_TUBES, WRONG_PLACEMENTS, expected_tube_share
from data_scripts.synthetic.phrases import MISPLACED, PHRASES

USUAL = SyntheticOptions(num_records=3000, seed=3)
OPTIONS = replace(USUAL, misplaced_tube_share=0.4, tube_share=0.5)
PLACEMENTS = [(name, where) for name, places in WRONG_PLACEMENTS.items() for where in places]
#: Of record, film and masks as they were before tubes could lie wrong: films 0, 1, 11, ... of 400 with seed 3.
BEFORE = {
    0: "939e12d840d61f59",
    1: "a9f7e9c955b737da",
    11: "ceec0d0b67313ebf",
    14: "0b45ec3ba60701dc",
    18: "4bf6b0236cefc60d",
    29: "172978420e9c07d2",
    34: "79a5e47d9cc55612",
    40: "9b63e060cd3ea0c0",
}
#: Whether the lowest pixel of a misplaced tube is lower (1) or higher (-1) than that of the right one.
_DEEPER = {"right bronchus": 1, "too high": -1, "esophagus": -1, "coiled": -1}
_DEEPER |= {"atrium": 1, "ventricle": 1, "neck": -1}
RECORDS_BEFORE = "0d78236170cb4abf"


@pytest.fixture(scope="module")
def cases():
    return [make_case(index, OPTIONS) for index in range(OPTIONS.num_records)]


def names(case):
    return {p.name for p in case.present}


def misplaced(case):
    return {p.name: p.misplaced for p in case.present if p.misplaced}


def with_tube(case, name, where):
    """The case with its tube `name` in place (where is ""), or ending there."""
    present = tuple(replace(p, misplaced=where) if p.name == name else p for p in case.present)
    return replace(case, present=present, reported=present)


def test_films_are_as_before_without_the_options():
    options = SyntheticOptions(num_records=400, seed=3)
    for index, digest in BEFORE.items():
        record = loader.make_record(index, options)
        film, masks = loader.read_image(None, record, options)
        found = hashlib.sha256(repr(asdict(record)).encode() + film.tobytes())
        for name in sorted(masks):
            found.update(name.encode() + masks[name].tobytes())
        assert found.hexdigest()[:16] == digest, index
    records = loader.read_records(None, replace(options, num_records=640))
    text = "".join(repr(asdict(record)) for record in records)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == RECORDS_BEFORE


def test_labels_say_which_tubes_lie_wrong(cases):
    wanted = [f"{name} Misplaced" for name in WRONG_PLACEMENTS]
    for case in cases[:600]:
        labels = {label.name: label.value for label in loader.make_record(case.index, OPTIONS).labels}
        assert list(labels)[-3:] == wanted
        for name in WRONG_PLACEMENTS:
            assert labels[f"{name} Misplaced"] == int(name in misplaced(case))
            assert labels[name] == int(name in names(case))
    assert not any("Misplaced" in label.name for label in loader.make_record(0, USUAL).labels)


def test_shares_are_as_asked(cases):
    tubes = Counter(p.name for case in cases for p in case.present if p.name in WRONG_PLACEMENTS)
    places = Counter((p.name, p.misplaced) for case in cases for p in case.present if p.misplaced)
    for name, where in PLACEMENTS:
        share = 0.4 / len(WRONG_PLACEMENTS[name])
        assert places[name, where] / tubes[name] == pytest.approx(share, abs=0.05)
    shown = np.mean([not names(case).isdisjoint(LINES_AND_TUBES) for case in cases])
    assert shown == pytest.approx(0.5, abs=0.05)
    usual = np.mean([not names(make_case(i, USUAL)).isdisjoint(LINES_AND_TUBES) for i in range(3000)])
    assert usual == pytest.approx(expected_tube_share(), abs=0.025)


def test_nothing_else_changes(cases):
    """But for tubes added and where tubes end, the cases are those without the options."""
    for case in cases:
        usual = make_case(case.index, USUAL)
        kept = tuple(replace(p, misplaced="") for p in case.present[: len(usual.present)])
        assert kept == usual.present
        added = {p.name for p in case.present[len(usual.present) :]}
        assert added <= set(WRONG_PLACEMENTS)
        assert not added or names(usual).isdisjoint(LINES_AND_TUBES)
        # A film's wrong report tells of another stranger perhaps, but is as wrong.
        assert usual.wrong_report == case.wrong_report
        assert replace(case, present=usual.present, reported=usual.reported) == usual
    right = replace(OPTIONS, misplaced_tube_share=0.0)
    for case in cases[:300]:
        straight = make_case(case.index, right)
        assert [p.name for p in straight.present] == [p.name for p in case.present]
        assert not misplaced(straight)


def test_films_of_a_study_agree(cases):
    copies = [case for case in cases if case.duplicate_of is not None and names(case) & set(WRONG_PLACEMENTS)]
    assert len(copies) > 20
    assert any(misplaced(case) for case in copies)
    for copy in copies:
        assert copy.present == cases[copy.duplicate_of].present


@pytest.mark.parametrize("size", [112, 224])
@pytest.mark.parametrize(("name", "where"), PLACEMENTS)
def test_a_misplaced_tube_is_drawn_and_marked_elsewhere(cases, name, where, size):
    shown = [case for case in cases if misplaced(case).get(name) == where and not case.broken][:6]
    for case in shown:
        film, masks = draw_film(case, size)
        straight, right = draw_film(with_tube(case, name, ""), size)
        assert masks.keys() == right.keys()
        touched = _near(masks[name] | right[name])
        assert np.array_equal(film[~touched], straight[~touched])
        for other in masks.keys() - {name}:
            assert np.array_equal(masks[other], right[other])
        # Where it lies and should not, or should and does not, in more than a few pixels.
        assert (masks[name] ^ right[name]).sum() > 0.08 * size
        new = masks[name] & ~_near(right[name])
        if new.any():
            assert np.abs(film.astype(int) - straight)[new].mean() > 4
        lowest, usual = (np.flatnonzero(mask.any(axis=1)).max() for mask in (masks[name], right[name]))
        # A lower lobe may reach as low as a stomach under a raised diaphragm.
        assert where == "lung" or (lowest - usual) * _DEEPER[where] > 0.02 * size


def _near(mask):
    """Pixels of the mask and two around them."""
    return binary_dilation(mask, iterations=2)


def test_reports_tell_of_misplaced_tubes_alone(cases):
    """In several wordings, and without other findings that rules would read from them."""
    told = {p: set(MISPLACED[p].findings) | set(MISPLACED[p].impression) for _, p in PLACEMENTS}
    texts = {sentence for sentences in told.values() for sentence in sentences}
    assert texts.isdisjoint({text for one in PHRASES.values() for text in (*one.findings, *one.impression)})
    assert all(len(MISPLACED[where].findings) >= 4 for _, where in PLACEMENTS)
    used = Counter()
    for case in cases:
        findings, impression = write_report(case)
        assert len(f"{findings} {impression}".split()) <= 70
        said = {p: _said(findings, MISPLACED[p].findings, case) for p in told}
        used.update(where for where, found in said.items() if found)
        wrong = {p.misplaced for p in case.reported if p.misplaced}
        assert {where for where, found in said.items() if found} == wrong
        if wrong:
            assert "normal" not in impression.lower()
    assert set(used) == set(told)
    for text in texts:
        found = {label.name for label in report_labels(text.format(side="right")) if label.value == 1}
        assert found <= {"Support Devices"}, text


def _said(findings, templates, case):
    sides = {p.side for p in case.reported if p.name == "Central Venous Catheter"} or {""}
    texts = [template.format(side=side) for template in templates for side in sides]
    return any(text[0].upper() + text[1:] in findings for text in texts)


def test_too_few_tubes_are_refused():
    with pytest.raises(ValueError, match=r"tube_share is 0\.01, but 0\.\d+ of the films"):
        SyntheticOptions(tube_share=0.01)
    with pytest.raises(ValueError, match=r"misplaced_tube_share is 1\.5"):
        SyntheticOptions(misplaced_tube_share=1.5)
    assert set(WRONG_PLACEMENTS) <= set(BY_NAME)
