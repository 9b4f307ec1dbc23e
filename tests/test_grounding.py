"""Grounding: figures by hand, baselines, pairs by patient, models that point rightly, wrongly or not at all."""

import json
from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from data_scripts.loaders import ms_cxr
from data_scripts.prepare import PrepareArguments, prepare
from eval.benchmarks import BENCHMARKS, Benchmark
from eval.models.adapted import FindingsModel
from eval.models.encoders import CheXficientEncoder, EvaluationModel
from eval.records.results import GroundingResult
from eval.report_page.page import make_section, render_page
from eval.settings import EvaluationSettings
from eval.suite import judge_model
from eval.tasks.grounding import FIGURES, MAPS, run, summarise
from eval.tasks.localisation import (
    centre_map,
    contrast_to_noise,
    mean_iou,
    pointing_hit,
    random_map,
    scaled,
)
from tests.bright_models import bright_head, bright_model, bright_processor, film_with_square
from tests.conftest import load_raw_tree
from tests.test_segmentation import films, row

BRIGHT = Benchmark("bright", 1, "grounding", metric="pointing game, focal findings", prompts="default")
SETTINGS = EvaluationSettings(resamples=50)
#: All texts of the bright model are alike: it cannot tell one from what it is compared with.
BY_PATCHES = replace(SETTINGS, map_method="similarity")


def region(*inside: tuple[int, int], side: int = 4) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    for place in inside:
        mask[place] = 255
    return mask


def test_figures_by_hand():
    heat_map = np.array([[0.9, 0.7], [0.1, -0.3]], np.float32)
    mask = np.array([[255, 255], [0, 0]], np.uint8)
    # Means 0.8 and -0.1, variances 0.01 and 0.04.
    assert contrast_to_noise(heat_map, mask) == pytest.approx(0.9 / 0.05**0.5)
    assert contrast_to_noise(-heat_map, mask) == pytest.approx(-0.9 / 0.05**0.5)
    assert contrast_to_noise(heat_map * 0, mask) == 0
    assert np.isnan(contrast_to_noise(heat_map, mask * 0))
    # Above 0.1 to 0.5 lie the two pixels inside; 0.1 itself does not exceed 0.1.
    assert mean_iou(heat_map, mask) == 1
    assert mean_iou(heat_map - 0.45, mask) == pytest.approx(np.mean([1, 1, 0.5, 0.5, 0]))
    assert mean_iou(-heat_map, mask) == pytest.approx(np.mean([0, 0, 0, 0, 0]))
    np.testing.assert_allclose(scaled(heat_map), (heat_map + 0.3) / 1.2, rtol=1e-6)
    assert (scaled(heat_map * 0) == 0).all()


def test_pixels_that_nobody_judged_count_nowhere():
    heat_map = np.array([[1.0, 0.8, 0.2, 5.0]], np.float32)
    mask = np.array([[255, 255, 0, 127]], np.uint8)
    assert pointing_hit(heat_map, mask, tolerance=0) == 1
    assert mean_iou(heat_map, mask) == pytest.approx(np.mean([2 / 3, 1, 1, 1, 1]))
    assert contrast_to_noise(heat_map, mask) == pytest.approx(0.7 / 0.1)


def test_the_pointing_game_by_hand():
    heat_map = np.zeros((100, 100), np.float32)
    heat_map[50, 53] = 1
    assert pointing_hit(heat_map, region((50, 53), side=100), tolerance=0) == 1
    assert pointing_hit(heat_map, region((50, 50), side=100), tolerance=0) == 0
    # Three pixels of a hundred away, and the next one.
    assert pointing_hit(heat_map, region((50, 50), side=100)) == 1
    assert pointing_hit(heat_map, region((50, 49), side=100)) == 0
    # One of two highest points.
    heat_map[0, 0] = 1
    assert pointing_hit(heat_map, region((50, 50), side=100)) == 0.5
    assert np.isnan(pointing_hit(heat_map, region(side=100)))


def test_baseline_maps():
    middle = centre_map(9)
    assert np.unravel_index(middle.argmax(), middle.shape) == (4, 4)
    np.testing.assert_array_equal(middle, middle.T)
    first, again, other = random_map((3, 4), 1, 2), random_map((3, 4), 1, 2), random_map((3, 4), 1, 3)
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()
    assert first.shape == (3, 4)


def test_means_weigh_findings_alike_and_differences_are_paired(few_patients):
    """Two findings, one focal; the model hits 3 of 4 and 0 of 1, the centre map 1 of 4 and 1 of 1."""
    scores = np.zeros((6, 1 + len(MAPS) * len(FIGURES)))
    hit = {name: 1 + number * len(FIGURES) + FIGURES.index("pointing") for number, name in enumerate(MAPS)}
    scores[:, 0] = [0.01, 0.01, 0.01, 0.01, 0.4, 0]
    scores[:, hit["model"]] = [1, 1, 1, 0, 0, 1]
    scores[:, hit["centre map"]] = [1, 0, 0, 0, 1, 1]
    findings, means = summarise(["a"] * 4 + ["b", "b"], scores, np.array(list("pqrstu")), 200, 0)
    assert [(one.name, one.pairs, one.focal) for one in findings] == [("a", 4, True), ("b", 1, False)]
    assert findings[0].scores["model"].pointing.value == 0.75
    assert means["macro"]["model"].pointing.value == pytest.approx((0.75 + 0) / 2)
    assert means["macro"]["centre map"].pointing.value == pytest.approx((0.25 + 1) / 2)
    assert means["differences"]["centre map"].pointing.value == pytest.approx(-0.25)
    assert means["macro_focal"]["model"].pointing.value == 0.75
    difference = means["differences_focal"]["centre map"].pointing
    assert difference.value == 0.5
    # Paired: the film that both miss, or both hit, says nothing; unpaired it would reach below -0.2.
    assert difference.low >= 0


def bright_row(number: int, size: tuple[int, int], corner: tuple[int, int]) -> dict:
    mask = np.zeros(size[::-1], np.uint8)
    mask[corner[1] : corner[1] + 12, corner[0] : corner[0] + 12] = 255
    made = row(number, size, {"bright": mask, "lung": mask}, {"bright": 1, "lung": 0})
    return made | {"image": film_with_square(size, corner), "patient_id": f"p{number}", "view": "AP"}


@pytest.fixture(scope="module")
def splits() -> DatasetDict:
    """Twelve films with a bright square off the middle, of which one lies outside of the central square."""
    generator = np.random.default_rng(1)
    corners = map(tuple, generator.integers((24, 0), (32, 50), (11, 2)).tolist())
    rows = [bright_row(number, (104, 64), corner) for number, corner in enumerate(corners)]
    return DatasetDict(test=films([*rows, bright_row(11, (104, 64), (0, 20))]))


def test_a_model_that_reads_bright_squares_points_at_them(splits, tmp_path):
    model = CheXficientEncoder(bright_model(), bright_processor(), name="bright")
    result = run(BRIGHT, model, splits, replace(BY_PATCHES, out=tmp_path, show_films=True))
    assert result.headline[0] == BRIGHT.metric
    assert result.headline[1].value == 1
    assert (result.method, result.thresholded) == ("similarity", "cosines")
    (finding,) = result.findings
    assert set(finding.scores) == {"model", "centre map", "random map"}, "there is no other finding to ask for"
    assert (finding.name, finding.pairs, finding.focal) == ("bright", 11, True)
    assert finding.region_share == pytest.approx(12 * 12 / 64 / 64)
    assert result.macro["centre map"].pointing.value == 0
    assert result.differences["centre map"].pointing.value == 1
    assert result.macro["model"].cnr.value > 3 > result.macro["random map"].cnr.value
    assert result.provenance.films == 11
    assert "1 of 12 regions lie outside of the square and were left out." in result.notes
    assert any("not compared with those of another one" in note for note in result.notes)
    result.save(tmp_path / "bright.json")
    assert GroundingResult.load(tmp_path / "bright.json") == result
    section = make_section(tmp_path / "bright.json")
    assert [one.place for one in section.gallery] == ["best", "best", "median", "median", "worst", "worst"]
    section.anchor = "one"
    page = render_page([section], [])
    assert page.count('alt="film under a heat map"') == 6
    assert 'alt="Pointing game of every finding"' in page


def test_a_head_is_asked_for_its_own_findings(splits):
    model = FindingsModel(bright_head(), bright_processor().image_processor, name="head")
    result = run(BRIGHT, model, splits, SETTINGS)
    assert (result.method, result.thresholded) == ("layercam", "maps scaled to 0..1")
    assert result.headline[1].value == 1
    model.model.config.id2label = {0: "edema", 1: "mass"}
    with pytest.raises(ValueError, match=r"no film has a mask of a finding that head knows; masked are \['bright'\]"):
        run(BRIGHT, model, splits, SETTINGS)


def test_the_map_of_another_finding_is_scored_beside_the_own_one(splits):
    """Its films show no "dull", of which the head's map is 0 throughout: every point is highest."""
    rows = splits["test"].to_list()
    dull = np.zeros((64, 104), np.uint8)
    dull[:8, 24:32] = 255
    rows[11] = row(11, (104, 64), {"dull": dull}, {"dull": 1}) | {"patient_id": "p11", "view": "AP"}
    more = DatasetDict(test=Dataset.from_list(rows, features=splits["test"].features))
    model = FindingsModel(bright_head(), bright_processor().image_processor, name="head")
    result = run(BRIGHT, model, more, SETTINGS)
    (bright,) = (one for one in result.findings if one.name == "bright")
    assert bright.scores["model"].pointing.value == 1
    assert 0 < bright.scores["another finding"].pointing.value < 0.2
    assert bright.scores["another finding"].cnr.value == 0
    assert result.differences["another finding"].pointing.value > 0


def test_models_that_cannot_be_asked_are_refused(splits):
    model = EvaluationModel(bright_model().vision_model, bright_processor().image_processor, name="tower")
    with pytest.raises(ValueError, match="tower has no text tower and no head"):
        run(BRIGHT, model, splits, SETTINGS)
    model = CheXficientEncoder(bright_model(), bright_processor(), name="bright")
    with pytest.raises(ValueError, match="column 'masks' is missing"):
        run(BRIGHT, model, DatasetDict(test=splits["test"].remove_columns("masks")), SETTINGS)


def test_phrases_and_boxes_of_ms_cxr(tmp_path):
    raw = load_raw_tree("ms_cxr").build(tmp_path)
    out = tmp_path / "data" / "ms_cxr"
    prepare(
        "ms_cxr",
        PrepareArguments(raw=str(raw), out=str(out), num_workers=1),
        ms_cxr.Options(mimic_dir="mimic-cxr-jpg/2.1.0"),
    )
    asked = []

    class Asked(CheXficientEncoder):
        def embed_texts(self, texts):
            asked.extend(texts)
            return super().embed_texts(texts)

    model = Asked(bright_model(), bright_processor(), name="bright")
    ((told, result),) = judge_model(
        model,
        ["ms_cxr_grounding"],
        out,
        EvaluationSettings(resamples=5, out=tmp_path / "out", map_method="similarity"),
    )
    assert told.status == "judged", told.note
    assert set(asked) == {"invented consolidation of both bases", "invented large heart", "invented effusion"}
    assert {one.name for one in result.findings} == {"Cardiomegaly", "Consolidation", "Pleural Effusion"}
    assert told.metric == "CNR"
    assert not json.loads((tmp_path / "out" / "ms_cxr_grounding.json").read_text())["provenance"]["limited"]
    assert BENCHMARKS["ms_cxr_grounding"].split == "all"
