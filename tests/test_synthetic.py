"""The synthetic corpus: its truth (labels, masks, words), its defects, and that it can be made in any order."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from data_scripts.loaders import synthetic as loader
from data_scripts.schema import check_record
from data_scripts.synthetic import (
    FINDINGS,
    Present,
    SyntheticOptions,
    draw_film,
    expected_prevalence,
    make_case,
    write_report,
)
from data_scripts.synthetic.case import BROKEN_KINDS
from data_scripts.synthetic.findings import DEVICE_NAMES
from data_scripts.synthetic.phrases import PHRASES
from data_scripts.synthetic.reports import ALL_WELL

OPTIONS = SyntheticOptions(num_records=6000, seed=3)
SIZE = 112


@pytest.fixture(scope="module")
def cases():
    return [make_case(index, OPTIONS) for index in range(OPTIONS.num_records)]


@pytest.fixture(scope="module")
def records():
    return list(loader.read_records(None, OPTIONS))


def case_with(*present):
    """A healthy patient's case, with the given findings put in."""
    case = next(case for case in (make_case(i, OPTIONS) for i in range(6000)) if not case.present and not case.flags)
    return replace(case, present=present, reported=present)


def truth(record):
    return {label.name for label in record.labels if label.value == 1}


def test_any_record_can_be_made_first():
    backwards = {index: loader.make_record(index, OPTIONS) for index in (901, 77, 76, 3)}
    in_order = list(loader.read_records(None, replace(OPTIONS, num_records=902)))
    for index, record in backwards.items():
        assert record == in_order[index]
        first, again = loader.read_image(None, record, OPTIONS), loader.read_image(None, record, OPTIONS)
        assert first[0].tobytes() == again[0].tobytes()
        assert first[1].keys() == again[1].keys()


def test_another_seed_gives_other_films():
    films = [draw_film(make_case(5, SyntheticOptions(seed=seed)), SIZE)[0] for seed in (0, 1)]
    assert np.abs(films[0].astype(int) - films[1]).mean() > 5


def test_records_follow_the_schema(records):
    for record in records:
        check_record(record)
        assert [label.name for label in record.labels] == ["No Finding", *FINDINGS]
    assert len({record.record_id for record in records}) == len(records)
    assert records[17].record_id == "synthetic/000017"


def test_prevalences_are_those_of_the_table(cases):
    count = Counter(present.name for case in cases for present in case.present)
    for name in FINDINGS:
        p = expected_prevalence(name)
        # Films of a patient with a chronic finding are alike, so the count varies more than independent films would.
        spread = 5 * np.sqrt(2 * p * (1 - p) / len(cases))
        assert abs(count[name] / len(cases) - p) < spread, name
    rare = [name for name in FINDINGS if expected_prevalence(name) < 0.01]
    assert len(rare) >= 6
    assert all(count[name] for name in rare)
    assert list(FINDINGS) == sorted(FINDINGS, key=expected_prevalence, reverse=True)


def test_about_half_the_films_show_no_finding(records):
    assert 0.46 < np.mean(["No Finding" in truth(record) for record in records]) < 0.54


def test_co_occurrence(cases):
    names = [{present.name for present in case.present} for case in cases]
    failing = [found for found in names if "Edema" in found]
    assert np.mean(["Cardiomegaly" in found for found in failing]) > 0.3
    tubes = [case.view for case, found in zip(cases, names, strict=True) if "Endotracheal Tube" in found]
    assert set(tubes) == {"AP"}


def test_shares_of_splits_and_defects(cases):
    share = {split: np.mean([case.split == split for case in cases]) for split in ("train", "validation", "test")}
    assert share["train"] == pytest.approx(0.8, abs=0.03)
    assert share["validation"] == pytest.approx(0.05, abs=0.015)
    assert share["test"] == pytest.approx(0.15, abs=0.03)
    flags = Counter(flag for case in cases for flag in case.flags)
    train = sum(case.split == "train" for case in cases)
    for flag, p in (("near_duplicate", 0.06), ("wrong_report", 0.03), ("broken_image", 0.02)):
        assert abs(flags[flag] / train - p) < 5 * np.sqrt(p * (1 - p) / train), flag


def test_held_out_films_have_no_defects(cases):
    spoilt = SyntheticOptions(num_records=500, near_duplicate_share=0.4, wrong_report_share=0.5, broken_image_share=0.3)
    for case in [*cases, *(make_case(index, spoilt) for index in range(500))]:
        if case.split != "train":
            assert case.flags == ()
            assert case.reported == case.present


def test_patients_stay_in_one_split(cases):
    splits = {}
    for case in cases:
        assert splits.setdefault(case.patient_id, case.split) == case.split
    films = Counter(case.patient_id for case in cases)
    assert sum(n > 1 for n in films.values()) > 0.2 * len(films)


def test_near_duplicates_are_alike_and_of_the_same_patient(cases):
    copies = [case for case in cases if case.duplicate_of is not None]
    alike, reworded = [], []
    for copy in copies[:60]:
        original = cases[copy.duplicate_of]
        assert original.index < copy.index
        assert (original.patient_id, original.split, original.present) == (copy.patient_id, "train", copy.present)
        assert original.duplicate_of is None
        films = [draw_film(case, SIZE)[0].astype(float) for case in (original, copy)]
        alike.append(np.corrcoef(films[0].ravel(), films[1].ravel())[0, 1])
        assert not np.array_equal(*films)
        reworded.append(write_report(copy) != write_report(original))
    strangers = [np.corrcoef(*(draw_film(cases[i], SIZE)[0].ravel() for i in (k, k + 1)))[0, 1] for k in range(20)]
    assert np.median(alike) > 0.96
    assert np.median(alike) > np.median(strangers) + 0.1
    assert np.mean(reworded) > 0.9


def test_wrong_reports_tell_of_other_findings(cases, records):
    wrong = [case for case in cases if "wrong_report" in case.flags]
    for case in wrong:
        assert {p.name for p in case.reported} != {p.name for p in case.present}
        assert truth(records[case.index]) - {"No Finding"} == {p.name for p in case.present}
    assert all(case.reported == case.present for case in cases if "wrong_report" not in case.flags)


def test_broken_images_are_useless_and_have_no_masks(cases):
    normal = np.median([draw_film(case, SIZE)[0].std() for case in cases[:50] if not case.broken])
    seen = {}
    for case in cases:
        if case.broken and case.broken not in seen:
            film, masks = draw_film(case, SIZE)
            assert masks == {}
            seen[case.broken] = film
    assert set(seen) == set(BROKEN_KINDS)
    assert seen["blank"].max() < 20
    assert seen["saturated"].min() > 235
    assert abs(np.corrcoef(seen["static"][:, :-1].ravel(), seen["static"][:, 1:].ravel())[0, 1]) < 0.05
    assert seen["half cut"][:, SIZE // 2 :].std() < 1 < normal


@pytest.mark.parametrize(("side", "half"), [("right", slice(0, 56)), ("left", slice(56, 112))])
@pytest.mark.parametrize("name", ["Pleural Effusion", "Consolidation", "Mass", "Pneumothorax", "Pleural Thickening"])
def test_the_patients_right_is_on_the_images_left(name, side, half):
    healthy = draw_film(case_with(), SIZE)[0].astype(int)
    film, masks = draw_film(case_with(Present(name, side, 2, "mid")), SIZE)
    change = np.abs(film.astype(int) - healthy)
    other = np.delete(change, np.r_[half], axis=1)
    assert change[:, half].mean() > 1.5 * other.mean()
    assert masks[name][:, half].sum() > 0.9 * masks[name].sum() > 0
    # Where the mask is, the film has changed.
    assert change[masks[name]].mean() > 3 * change[~masks[name]].mean()
    columns = np.arange(SIZE)
    centre = {lung: (masks[lung] * columns).sum() / masks[lung].sum() for lung in ("right_lung", "left_lung")}
    assert centre["right_lung"] < SIZE / 2 < centre["left_lung"]


def test_severer_findings_are_larger():
    for name in ("Pleural Effusion", "Consolidation", "Pneumothorax", "Mass", "Cardiomegaly"):
        side = "" if name == "Cardiomegaly" else "right"
        areas = [draw_film(case_with(Present(name, side, grade, "mid")), SIZE)[1][name].sum() for grade in range(3)]
        assert areas[0] < areas[1] < areas[2], name


@pytest.mark.parametrize("size", [64, 112, 200])
@pytest.mark.parametrize("name", FINDINGS)
def test_every_label_can_be_seen_and_has_a_mask(name, size):
    case = next(case for case in (make_case(i, OPTIONS) for i in range(6000)) if _shows(case, name))
    film, masks = draw_film(case, size)
    assert film.shape == (size, size)
    assert film.dtype == np.uint8
    assert {"left_lung", "right_lung", "heart", *(p.name for p in case.present)} == set(masks)
    assert all(mask.shape == film.shape and mask.dtype == bool for mask in masks.values())
    # A picture without the finding differs where the mask says.
    without = replace(case, present=tuple(p for p in case.present if p.name != name))
    change = np.abs(film.astype(int) - draw_film(without, size)[0])
    assert masks[name].any()
    assert change[masks[name]].mean() > 4


def _shows(case, name):
    return not case.broken and any(p.name == name for p in case.present)


def test_loader_gives_pillow_images():
    record = loader.make_record(0, OPTIONS)
    film, masks = loader.read_image(None, record, replace(OPTIONS, film_size=80))
    assert (film.mode, film.size) == ("L", (80, 80))
    for mask in masks.values():
        assert (mask.mode, mask.size) == ("L", film.size)
        assert set(np.unique(mask)) <= {0, 255}


def test_nothing_present_is_denied(cases):
    denials = {text: name for name, phrases in PHRASES.items() for text in phrases.absent}
    denials |= {text: excluded for texts, excluded in ALL_WELL for text in texts}
    used = Counter()
    for case in cases:
        reported = {p.name for p in case.reported}
        findings, impression = write_report(case)
        for sentence in re.findall(r"[^.]+\.", findings):
            sentence = sentence.strip()
            denied = denials.get(sentence, ())
            denied = {denied} if isinstance(denied, str) else set(denied)
            if re.match(r"(there is )?no\b", sentence, re.IGNORECASE):
                denied |= {name for name in FINDINGS if re.search(rf"\b{name.lower()}\b", sentence.lower())}
            assert denied.isdisjoint(reported), (sentence, reported)
            used.update(denied)
        if re.search(r"\bno\b|normal", impression, re.IGNORECASE):
            assert reported <= DEVICE_NAMES
    assert all(used[name] > 20 for name in FINDINGS)


def test_reports_name_what_is_there_with_its_side_and_severity(cases):
    named = []
    for case in cases:
        text = " ".join(write_report(case)).lower()
        named += [p.name.lower() in text for p in case.reported]
        for p in case.reported:
            if p.name in ("Pleural Effusion", "Consolidation", "Mass", "Pneumothorax"):
                assert p.side in text
                assert PHRASES[p.name].grades[p.severity] in text
    assert 0.6 < np.mean(named) < 0.95


def test_reports_are_short_and_varied(cases):
    reports = [" ".join(write_report(case)) for case in cases]
    words = [len(report.split()) for report in reports]
    assert 22 <= np.median(words) <= 45
    assert max(words) <= 70
    assert len(set(reports)) > 0.95 * len(reports)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("num_records", 0),
        ("film_size", 31),
        ("wrong_report_share", 1.2),
        ("test_share", -0.1),
        ("validation_share", 0.9),
    ],
)
def test_options_out_of_range_are_named(argument, value):
    with pytest.raises(ValueError, match=argument):
        SyntheticOptions(**{argument: value})


def test_an_index_outside_the_corpus_is_refused():
    with pytest.raises(IndexError, match="6000"):
        make_case(6000, OPTIONS)
