"""The page of results: what is on it, what must not be, and the figures' numbers."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import load_dataset
from sklearn.metrics import roc_curve
from transformers import BitImageProcessorPil, ResNetConfig, ResNetModel

from eval.artifacts import save_artifact
from eval.benchmarks import BENCHMARKS
from eval.models.encoders import EvaluationModel
from eval.records.results import Estimate, LabelResult, ReportResult, ZeroShotResult, load_result
from eval.report_page.__main__ import main
from eval.report_page.figures import _share_name, draw_label_shares, roc_points
from eval.report_page.galleries import draw_masks
from eval.report_page.page import (
    Section,
    find_results,
    format_estimate,
    make_section,
    mark_unlike,
    short_names,
    write_page,
)
from eval.scores import ZeroShotScores, scores_path
from eval.settings import EvaluationSettings
from eval.suite import judge_model


class Sighted(EvaluationModel):
    """An encoder whose texts are embedded by their length: enough to have something to draw."""

    sees_text, logit_scale = True, 10.0

    def embed_texts(self, texts):
        angles = torch.tensor([float(len(text)) for text in texts])[:, None] * torch.arange(1, 17)
        return torch.nn.functional.normalize(torch.sin(angles), dim=1)


@pytest.fixture(scope="module")
def results(tiny_corpus, tmp_path_factory):
    """The results of all kinds of task on the synthetic corpus."""
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    processor = BitImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    model = Sighted(ResNetModel(config).eval(), processor, name="somewhere/tiny", sha256="0" * 64)
    out = tmp_path_factory.mktemp("results")
    settings = EvaluationSettings(resamples=20, num_seeds=1, decoder_epochs=1, out=out, label_shares=(0.5, 1.0))
    names = [name for name in BENCHMARKS if name.startswith("synthetic_") and BENCHMARKS[name].prepared == "synthetic"]
    rows = [row for row, _ in judge_model(model, ["zero_shot_findings", *names], tiny_corpus, settings)]
    assert [row.status for row in rows] == ["judged"] * 6, [row.note for row in rows]
    return out


@pytest.fixture(scope="module")
def page(results) -> str:
    return write_page(results).read_text()


def test_all_kinds_are_on_the_page_with_their_figures(results, page):
    for path in find_results(results):
        _, estimate = load_result(path).headline
        assert page.count(format_estimate(estimate)) >= 2
    for alt in ("AUROC of every finding", "ROC curves", "Reliability diagrams", "Recall at 1, 5 and 10"):
        assert f'alt="{alt}"' in page
    for alt in ("AUROC by share of labels", "Dice of every film", "ROUGE-L and lengths", "Figures by group of films"):
        assert f'alt="{alt}"' in page
    assert page.count('alt="film with outlines"') == 6
    assert 'alt="Pointing game of every finding"' in page
    assert page.count('alt="film under a heat map"') == 6
    assert "At the threshold" in page


def test_the_page_fetches_nothing_and_runs_nothing(page):
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "default-src 'none'" in page
    assert "{{" not in page


def test_no_ids_are_on_the_page_and_texts_only_of_open_data(results, page, tiny_corpus, tmp_path):
    films = load_dataset(str(tiny_corpus), split="test")
    for column in ("record_id", "patient_id", "study_id"):
        assert not any(one in page for one in set(films[column]))
    texts = set(films["report"])
    assert sum(text in page for text in texts) > 3

    # The same results of data that nobody says are open: neither films nor texts of the gallery.
    closed, data = tmp_path / "closed", tmp_path / "data"
    shutil.copytree(results, closed)
    shutil.copytree(tiny_corpus, data)
    (data / "summary.json").write_text(json.dumps({"loader": "mimic_cxr_jpg"}))
    values = json.loads((closed / "synthetic_retrieval.json").read_text())
    values["provenance"]["dataset"] = str(data)
    (closed / "synthetic_retrieval.json").write_text(json.dumps(values))
    section = make_section(closed / "synthetic_retrieval.json")
    assert section.gallery is None
    assert section.notes == ["No films are shown: the data are not open, or were not at hand."]
    assert set(make_section(closed / "synthetic_retrieval.json", show_films=True).gallery) == {
        "image_to_text",
        "text_to_image",
    }
    # Other films under the same name are not those of the result.
    values["provenance"]["dataset_fingerprint"] = "another"
    (closed / "synthetic_retrieval.json").write_text(json.dumps(values))
    assert make_section(closed / "synthetic_retrieval.json", show_films=True).gallery is None
    # Data that can no longer be read cost the gallery, not the page.
    (data / "summary.json").unlink()
    assert make_section(closed / "synthetic_retrieval.json", show_films=True).gallery is None


def test_a_page_without_artifacts_says_so(results, tmp_path):
    for path in results.glob("*.json"):
        shutil.copy(path, tmp_path)
    page = write_page(tmp_path).read_text()
    assert "No curves:" in page
    assert page.count("No films are shown") == 4
    assert 'alt="film' not in page


def test_results_of_other_weights_of_a_model_are_marked(results, tmp_path):
    """A model that was trained anew in its place, and evaluated on one benchmark since, had one column of both."""
    names = ("synthetic_probe", "synthetic_segmentation")
    old, new = (load_result(results / f"{name}.json") for name in names)
    old.provenance = replace(old.provenance, model="m", model_sha256="0123456789")
    for sha256, marked in (
        ("0123456789", []),
        ("abcdefabcdef", ["of the weights 01234567", "of the weights abcdefab"]),
    ):
        new.provenance = replace(new.provenance, model="m", model_sha256=sha256)
        sections = [Section(result, None) for result in (old, new)]
        mark_unlike(sections)
        assert [mark for section in sections for mark in section.marks] == marked
        for name, result in zip(names, (old, new), strict=True):
            result.save(tmp_path / f"{name}.json")
    assert "of the weights abcdefab" in write_page(tmp_path).read_text()
    of_file = replace(old.provenance, settings={**old.provenance.settings, "predictions": "0" * 64})
    old.provenance = of_file
    section = Section(old, None)
    mark_unlike([section])
    assert section.marks == ["reports of a file"]


def test_names_are_escaped(results, tmp_path):
    result = load_result(results / "synthetic_probe.json")
    result.notes = ["<b>bold</b>"]
    result.provenance = replace(result.provenance, model="a/<script>alert(1)</script>", limited=True)
    result.save(tmp_path / "synthetic_probe.json")
    page = write_page(tmp_path).read_text()
    assert "<script" not in page
    assert "&lt;b&gt;bold" in page
    assert '<span class="mark">partial</span>' in page


def test_several_models_stand_side_by_side(results, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        result = load_result(results / "synthetic_probe.json")
        result.provenance = replace(result.provenance, model=f"runs/{name}/model")
        result.save(tmp_path / name / "synthetic_probe.json")
    rows = [{"model": "runs/two/model", "benchmark": "nih_probe", "status": "absent", "note": "get it"}]
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "table.json").write_text(json.dumps(rows))
    page = write_page(tmp_path).read_text()
    assert '<th scope="col">one/model</th><th scope="col">two/model</th>' in page
    assert page.count("<h2>Disease prediction: synthetic_probe</h2>") == 2
    assert "1 not judged" in page
    assert "data absent, prepare with <code>get it</code>" in page


def test_unlike_results_side_by_side_are_marked(results, tmp_path):
    for name, change in {
        "one": {},
        "same": {},
        "films": {"dataset_fingerprint": "another"},
        "settings": {"settings": {"seed": 9}},
    }.items():
        result = load_result(results / "zero_shot_findings.json")
        result.provenance = replace(result.provenance, model=f"runs/{name}/model", **change)
        result.benchmark_version += name == "films"
        result.save(tmp_path / name / "zero_shot_findings.json")
    sections = [make_section(path) for path in find_results(tmp_path)]
    # By name of the folder: films, one, same, settings. The first is what the others are held against.
    sections = [sections[1], sections[0], sections[2], sections[3]]
    mark_unlike(sections)
    version = sections[0].result.benchmark_version
    assert [one.marks for one in sections] == [
        [],
        ["other version", "other films", f"version {version + 1}, now {version}"],
        [],
        ["other settings"],
    ]
    assert '<span class="mark">other settings</span>' in write_page(tmp_path).read_text()


def test_results_of_models_are_not_hidden_by_an_older_one_beside_their_folders(results, tmp_path):
    for folder, model in ((tmp_path, "old"), (tmp_path / "a", "old"), (tmp_path / "b", "new")):
        result = load_result(results / "synthetic_probe.json")
        result.provenance = replace(result.provenance, model=model, seconds=float(len(folder.parts)))
        result.save(folder / "synthetic_probe.json")
    page = write_page(tmp_path).read_text()
    assert page.count("<h2>Disease prediction: synthetic_probe</h2>") == 2
    assert f"{float(len(tmp_path.parts)):.1f} s" not in page


def test_the_number_of_the_complete_benchmark_and_more_than_the_auroc_are_on_the_page(results, page, tmp_path):
    result = load_result(results / "zero_shot_findings.json")
    assert isinstance(result, ZeroShotResult)
    assert page.count(format_estimate(result.macro_auprc)) >= 1
    for group in result.frequencies:
        assert f"{group.name} ({len(group.labels)})" in page
    assert "share of train films" in page
    for label in result.labels:
        if label.auprc is not None:
            assert format_estimate(label.auprc) in page
    result.benchmark, result.prevalence_from = "kermany_zero_shot", "test"
    result.save(tmp_path / "kermany_zero_shot.json")
    other = write_page(tmp_path).read_text()
    assert f"{result.provenance.films:,} of 624" in other
    assert "train films" not in other


def test_a_trained_head_whose_share_is_not_recorded_is_drawn(results, tmp_path):
    result = load_result(results / "synthetic_probe.json")
    result.shares = [replace(result.shares[-1], training_films=[], training_patients=[], seeds=[])]
    assert draw_label_shares(result).startswith("<svg")
    assert _share_name(replace(result.shares[0], label_share=None)) == "trained head\n"


def test_roc_points_equal_scikit_learn():
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 10, 200).astype(float)
    targets = (generator.random(200) < 0.3).astype(float)
    weights = np.vstack([np.ones(200), generator.integers(0, 4, 200), targets])
    grid = np.linspace(0, 1, 51)
    points = roc_points(scores, targets, weights, grid)
    for row in (0, 1):
        false, true, _ = roc_curve(targets, scores, sample_weight=weights[row], drop_intermediate=False)
        # Where the curve rises straight up, a rate has many sensitivities.
        inner = ~np.isin(grid, false)
        np.testing.assert_allclose(points[row, inner], np.interp(grid, false, true)[inner], atol=1e-12)
    assert np.isnan(points[2]).all()


def test_masks_are_outlined_in_their_colours():
    film = np.full((224, 224), 80, np.uint8)
    found, masks = np.zeros((2, 1, 224, 224), np.uint8)
    found[0, 20:90, 20:90] = 255
    masks[0, 120:190, 120:190], masks[0, 200:210] = 255, 127
    picture = np.asarray(draw_masks(film, found, masks))
    assert picture[110, 41].tolist() == [255, 140, 40]
    assert picture[310, 241].tolist() == [70, 200, 235]
    assert picture[110, 110].tolist() == picture[310, 310].tolist() == [80, 80, 80]
    assert picture[410, 100, 2] > picture[410, 100, 0] > 80 > picture[410, 100, 1] - 1


def test_undefined_figures_are_dashes():
    assert format_estimate(Estimate(None, None, None)) == "–"
    assert format_estimate(None) == "–"
    assert format_estimate(Estimate(0.5, 0.25, 0.75), 2) == "0.50 [0.25, 0.75]"
    assert short_names(["a/model"]) == {"a/model": "a/model"}
    assert short_names(["x/a/model", "y/a/model"]) == {"x/a/model": "x/a/model", "y/a/model": "y/a/model"}


def test_a_result_in_which_nothing_is_defined_can_be_drawn(results, tmp_path):
    """One class everywhere: no curve, no threshold, no finding told."""
    zero = load_result(results / "zero_shot_findings.json")
    nothing = Estimate(None, None, None)
    scores = ZeroShotScores(["Edema"], np.zeros((4, 1)), np.zeros((4, 1)), np.arange(4))
    digest = scores.save(scores_path(tmp_path / "zero_shot_findings.json"))
    labels = [LabelResult("Edema", nothing, 4, 0, 0.0, True)]
    assert isinstance(zero, ZeroShotResult)
    empty = replace(
        zero, macro=nothing, labels=labels, undefined=["Edema"], scores_sha256=digest, subgroups=[], other_prompts=[]
    )
    empty.save(tmp_path / "zero_shot_findings.json")
    reports = load_result(results / "synthetic_reports.json")
    assert isinstance(reports, ReportResult)
    reports.scores = replace(reports.scores, f1_micro=nothing, f1_macro=nothing)
    reports.baselines = {}
    reports.save(tmp_path / "synthetic_reports.json")
    arrays = {"rouge_l": np.zeros(3), "words": np.zeros(3, int), "reference_words": np.zeros(3, int)}
    save_artifact(tmp_path, "synthetic_reports", arrays, {"places": []})
    page = write_page(tmp_path).read_text()
    assert "One class only, so no AUROC: Edema." in page
    assert "<b>–</b>" in page


def test_what_is_no_folder_of_results_is_refused(tmp_path, results):
    with pytest.raises(SystemExit, match="holds no results"):
        main([str(tmp_path)])
    with pytest.raises(SystemExit, match="is not a folder of results"):
        main([str(tmp_path / "none")])
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(SystemExit, match="is not a result"):
        main([str(tmp_path)])
