"""Operating points as people meet them: the command, pipelines, predictions, adaptations."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pandas as pd
import pytest
from transformers import pipeline

from eval.calibrate import main as calibrate
from eval.calibrate import notes_on_training
from eval.calibration.operating_points import choose_point
from eval.models.load import load_evaluation_model
from eval.predict import main as predict
from eval.prompts import find_prompts
from eval.tasks.zero_shot import pair_scores, prompt_embeddings
from modeling_chexficient import CheXficientImageProcessor
from modeling_chexficient.base_identity_chexficient import weights_sha256
from modeling_chexficient.operating_points_chexficient import (
    DO_NOT_TRAVEL,
    POINTS_FILE,
    OperatingPoints,
    ScoreCalibration,
)
from modeling_chexficient.peft_folders_chexficient import RECORD_FILE
from tests.adaptation import film, words, write_corpus
from tests.adapter_files import SIDE, in_the_cache, make_adapter, save_base
from tests.test_operating_points import RULES, points_of, simulated
from train.adapt.__main__ import main as adapt

FINDINGS = ["Cardiomegaly", "No Finding", "Pleural Effusion"]
FEW = ["--least_films", "10", "--resamples", "100"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_base(tmp_path_factory.mktemp("points") / "base")


@pytest.fixture(scope="module")
def zero_shot(base, tiny_corpus) -> OperatingPoints:
    """Points of the base, chosen on the training films, which are enough."""
    command = ["--model", str(base), "--data", str(tiny_corpus), "--split", "train", "--findings", *FINDINGS, "Mass"]
    calibrate([*command, *FEW])
    return OperatingPoints.load(base / POINTS_FILE)


@pytest.fixture(scope="module")
def head(base, tiny_corpus) -> Path:
    folder = make_adapter(base, base.parent / "head", labels=("Cardiomegaly", "Mass")).folder
    calibrate(["--model", str(folder), "--data", str(tiny_corpus), "--split", "train", *FEW])
    return folder


@pytest.fixture(scope="module")
def films(tiny_corpus):
    return datasets.load_dataset(str(tiny_corpus), split="test").select(range(4))["image"][:]


def refused(command, *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        command(list(words))
    return str(ended.value)


def test_a_place_that_cannot_be_written_is_told_before_films_are_scored(tiny_corpus, tmp_path):
    (tmp_path / "file").write_text("")
    place = str(tmp_path / "file" / "points.json")
    command = ["--model", str(tmp_path / "absent"), "--data", str(tiny_corpus), "--out", place]
    assert "points.json cannot be written" in refused(calibrate, *command)


def test_the_command_tells_what_was_chosen_and_how_it_does_elsewhere(zero_shot, base, tiny_corpus, capsys):
    assert list(zero_shot.points) == FINDINGS
    assert "positive films, at least 10 are needed" in zero_shot.refused["Mass"]
    assert (zero_shot.score, zero_shot.chosen_on) == ("logit_difference", "split train of synthetic")
    assert zero_shot.points["Cardiomegaly"].prompts == [["Cardiomegaly", "no Cardiomegaly"]]
    calibrate(["--model", str(base), "--data", str(tiny_corpus), "--split", "train", "--check"])
    said = capsys.readouterr().out
    assert "These are the films that the points were chosen on." in said
    assert DO_NOT_TRAVEL in said
    point = zero_shot.points["Cardiomegaly"]
    (line,) = (line for line in said.splitlines() if line.startswith("Cardiomegaly"))
    assert str(point.sensitivity) in line
    assert f"{point.positives} / {point.films}" in line
    assert "Inside the stated interval: sensitivity" in said


def test_points_chosen_on_what_a_model_was_trained_on_say_so(tmp_path):
    """Nothing told it: figures of films that a head knows by heart stood in its card."""
    rows = {
        split: [film(first + number) for number in range(6)] for split, first in (("train", 0), ("validation", 100))
    }
    corpus = write_corpus(tmp_path / "corpus", **rows)
    splits = datasets.load_dataset(str(corpus))
    too_good = "Of films that a model has learnt from, it knows more than of others."
    adapted = SimpleNamespace(training_folders=[str(corpus), str(tmp_path / "gone")], pretraining_sources=[])
    told = "3 of 3 evaluated patients have films in the split that the model was adapted to."
    assert notes_on_training(adapted, splits["train"], "train") == [told, too_good]
    assert notes_on_training(adapted, splits["validation"], "validation") == []
    pretrained = SimpleNamespace(training_folders=[], pretraining_sources=["discs", "others"])
    told = "The model was pretrained on training films of discs, as these are."
    assert notes_on_training(pretrained, splits["train"], "train") == [told, too_good]
    assert notes_on_training(pretrained, splits["validation"], "validation") == []


def test_what_cannot_be_chosen_or_checked_is_refused(base, zero_shot, tiny_corpus, tmp_path):
    common = ["--model", str(base), "--data", str(tiny_corpus)]
    assert "no point for Cardiomegaly:" in refused(
        calibrate, *common, "--findings", "Cardiomegaly", "--out", str(tmp_path / "p")
    )
    assert "no film is of views ['OBLIQUE']" in refused(calibrate, *common, "--views", "OBLIQUE")
    assert "--views pa: there are PA, AP, LATERAL" in refused(calibrate, *common, "--views", "pa", "AP")
    assert "--rule choose points" in refused(calibrate, *common, "--rule", "youden", "--check")
    assert "rule 'best' is unknown" in refused(calibrate, *common, "--rule", "best")
    other = save_base(tmp_path / "other", seed=1)
    assert "has no operating_points.json" in refused(calibrate, "--model", str(other), *common[2:], "--check")
    shutil.copy(base / POINTS_FILE, other)
    assert "other weights" in refused(calibrate, "--model", str(other), *common[2:], "--check")


def test_the_zero_shot_pipeline_asks_by_the_prompts_of_the_points(zero_shot, base, films):
    run = pipeline("zero-shot-image-classification", model=str(base))
    model = load_evaluation_model(str(base))
    embeddings = model.embed_images(model.pixels(films))
    positive, negative = model.embed_texts(["Cardiomegaly", "no Cardiomegaly"])
    expected = (model.logit_scale * embeddings @ (positive - negative)).numpy()
    point = zero_shot.points["Cardiomegaly"]
    found = [{one["label"]: one for one in told} for told in run(films, threshold="validated")]
    assert [set(told) for told in found] == [set(FINDINGS)] * 4
    scores = [told["Cardiomegaly"]["score"] for told in found]
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-expected)), rtol=1e-4)
    # Films at the threshold itself may be on either side, by rounding.
    clear = np.abs(expected - point.threshold) > 1e-4
    above = np.array([told["Cardiomegaly"]["above_threshold"] for told in found])
    assert (above == point.is_above(expected))[clear].all()
    # "No Finding" is told by the other findings, also where these are not asked for.
    (alone,) = run(films[0], candidate_labels=["No Finding"], threshold="validated")
    assert alone["score"] == pytest.approx(
        1 - max(found[0][name]["score"] for name in ("Cardiomegaly", "Pleural Effusion"))
    )
    with pytest.raises(ValueError, match="no operating point for 'Mass': "):
        run(films[0], candidate_labels=["Mass"], threshold="validated")
    with pytest.raises(ValueError, match="hypothesis_template does not go with threshold"):
        run(films[0], threshold="validated", hypothesis_template="{}")
    with pytest.raises(ValueError, match=r"threshold=0\.5 is neither 'validated' nor the path"):
        run(films[0], threshold=0.5)
    before = run(films[0], candidate_labels=["Cardiomegaly", "no Cardiomegaly"], hypothesis_template="{}")
    assert {one["label"]: one["score"] for one in before}["Cardiomegaly"] == pytest.approx(scores[0], rel=1e-4)


def test_points_by_contrast_score_alike_in_pipeline_and_evaluation(base, films, tiny_corpus, tmp_path):
    """By no prompt of its own against it: each finding beside the names of all others."""
    file, asked = tmp_path / "points.json", ["Cardiomegaly", "Pleural Effusion", "No Finding"]
    data = ["--data", str(tiny_corpus), "--split", "train"]
    calibrate(
        [
            "--model",
            str(base),
            *data,
            "--findings",
            *asked,
            "--least_films",
            "10",
            "--prompts",
            "contrast",
            "--out",
            str(file),
        ]
    )
    points = OperatingPoints.load(file)
    assert len(points.points["Cardiomegaly"].prompts) > 30
    # Code of before would take the first comparison for the score.
    assert points.format_version == 2
    found = {
        one["label"]: one["score"]
        for one in pipeline("zero-shot-image-classification", model=str(base))(films[0], threshold=str(file))
    }
    assert set(found) == set(asked)
    model, family = load_evaluation_model(str(base)), find_prompts("contrast")
    scores = pair_scores(model, model.embed_images(model.pixels(films[:1])), prompt_embeddings(model, family, asked))
    for name, score in zip(asked, scores[0], strict=True):
        assert found[name] == pytest.approx(1 / (1 + np.exp(-score)), rel=1e-4)


def test_the_pipeline_of_a_head_says_above_or_below(head, films, tmp_path):
    run = pipeline("image-classification", model=str(head))
    points = OperatingPoints.load(head / POINTS_FILE)
    plain = {one["label"]: one["score"] for one in run(films[0])}
    found = {one["label"]: one for one in run(films[0], threshold="validated")}
    assert {name: one["score"] for name, one in found.items()} == plain
    logit = np.log(plain["Cardiomegaly"] / (1 - plain["Cardiomegaly"]))
    point = points.points["Cardiomegaly"]
    assert found["Cardiomegaly"]["above_threshold"] == (logit >= point.threshold)
    assert found["Cardiomegaly"]["probability"] is None
    assert found["Mass"]["above_threshold"] is None
    assert found["Mass"]["no_point"] == points.refused["Mass"]
    told = {one["label"]: one for one in run(films[0], threshold=str(calibrated(head, tmp_path)))}
    assert told["Cardiomegaly"]["probability"] == pytest.approx(1 / (1 + np.exp(1 - 2 * logit)), rel=1e-4)


def test_no_finding_of_a_head_is_left_out(base, films, tmp_path):
    """transformers shows the five that are the likeliest: of findings, the sixth may be above its threshold."""
    names = [f"Finding {number}" for number in range(8)]
    folder = make_adapter(base, tmp_path / "eight", labels=names).folder
    scores, targets, patients = simulated()
    point = replace(choose_point(scores, targets, patients, RULES), threshold=-100.0)
    points_of(dict.fromkeys(names, point), model_sha256=None).save(folder / POINTS_FILE)
    run = pipeline("image-classification", model=str(folder))
    for told in (run(films[0]), run(films[0], threshold="validated"), *run(films[:2], threshold="validated")):
        assert {one["label"] for one in told} == set(names)
    assert all(one["above_threshold"] for one in told)
    assert len(run(films[0], top_k=3)) == len(run(films[0], top_k=3, threshold="validated")) == 3


def calibrated(model: Path, folder: Path) -> Path:
    """A file of the points of a model, with a calibration."""
    points = OperatingPoints.load(model / POINTS_FILE)
    fitted = ScoreCalibration("platt", brier=0.1, brier_before=0.2, scale=2, offset=-1)
    changed = replace(points.points["Cardiomegaly"], calibration=fitted)
    replace(points, points={"Cardiomegaly": changed}).save(folder / "calibrated.json")
    return folder / "calibrated.json"


def test_a_model_without_points_is_refused_and_those_of_other_weights_too(base, zero_shot, films, tmp_path):
    other = save_base(tmp_path / "other", seed=1)
    with pytest.raises(ValueError, match=r"has no operating_points\.json: choose operating points"):
        pipeline("zero-shot-image-classification", model=str(other), threshold="validated")
    with pytest.raises(ValueError, match="chosen with other weights"):
        pipeline("zero-shot-image-classification", model=str(other), threshold=str(base / POINTS_FILE))


def of_another_model(base: Path, head: Path, folder: Path) -> dict[str, tuple[Path, str]]:
    """Copies of the two with the same weights and points, and what is said of them."""
    copies = {
        name: Path(shutil.copytree(source, folder / name)) for name, source in {"size": base, "mean": head}.items()
    }
    CheXficientImageProcessor(2 * SIDE).save_pretrained(copies["size"])
    CheXficientImageProcessor(SIDE, image_mean=[0.5] * 3).save_pretrained(copies["mean"])
    order = copies["order"] = Path(shutil.copytree(head, folder / "order"))
    record = json.loads((order / RECORD_FILE).read_text())
    record["head"]["id2label"] = {"0": "Mass", "1": "Cardiomegaly"}
    (order / RECORD_FILE).write_text(json.dumps(record))
    said = {
        "size": rf"films prepared with size \{{'shortest_edge': {SIDE}\}} \(now \{{'shortest_edge': {2 * SIDE}\}}\)",
        "mean": r"films prepared with image_mean \[0\.48.*\(now \[0\.5, 0\.5, 0\.5\]\)",
        "order": r"outputs of the head were \['Cardiomegaly', 'Mass'\] \(now \['Mass', 'Cardiomegaly'\]\)",
    }
    return {name: (copy, said[name]) for name, copy in copies.items()}


def test_points_of_other_pixels_or_of_other_names_are_refused_as_those_of_other_weights(
    base, zero_shot, head, tiny_corpus, films, tmp_path
):
    (tmp_path / "films").mkdir()
    films[0].save(tmp_path / "films" / "0.png")
    for name, (model, said) in of_another_model(base, head, tmp_path).items():
        task, findings = ("zero-shot-", ["--findings", "Cardiomegaly"]) if name == "size" else ("", [])
        with pytest.raises(ValueError, match=said):
            pipeline(f"{task}image-classification", model=str(model), threshold="validated")
        common = ["--model", str(model)]
        command = [*common, "--films", str(tmp_path / "films"), "--out", str(tmp_path / "p.parquet"), *findings]
        assert re.search(said, refused(predict, *command))
        assert re.search(said, refused(calibrate, *common, "--data", str(tiny_corpus), "--split", "train", "--check"))
        # Chosen by an earlier version, which did not note them.
        old = replace(OperatingPoints.load(model / POINTS_FILE), preprocessing={}, outputs=[])
        old.save(model / POINTS_FILE)
        assert pipeline(f"{task}image-classification", model=str(model))(films[0], threshold="validated", **asked(name))


def asked(name: str) -> dict:
    return {"candidate_labels": ["Cardiomegaly"]} if name == "size" else {}


def test_points_of_a_model_of_the_hub_are_of_the_weights_of_a_commit(base, tiny_corpus, films, tmp_path):
    """With a file of points of one's own, `main` may have moved on since."""
    plain = Path(shutil.copytree(base, tmp_path / "plain", ignore=shutil.ignore_patterns(POINTS_FILE)))
    in_the_cache(plain, "ward/points", "1" * 40)
    own = str(tmp_path / "own.json")
    command = ["--model", "ward/points", "--data", str(tiny_corpus), "--split", "train", "--findings", "Cardiomegaly"]
    calibrate([*command, *FEW, "--out", own])
    assert OperatingPoints.load(own).model_sha256 == weights_sha256(base)
    assert len(pipeline("zero-shot-image-classification", model="ward/points")(films[0], threshold=own)) == 1
    in_the_cache(save_base(tmp_path / "later", seed=1), "ward/points", "2" * 40)
    with pytest.raises(ValueError, match="chosen with other weights"):
        pipeline("zero-shot-image-classification", model="ward/points", threshold=own)
    assert "other weights" in refused(calibrate, *command, "--out", own, "--check")
    pinned = pipeline("zero-shot-image-classification", model="ward/points", revision="1" * 40)
    assert len(pinned(films[0], threshold=own)) == 1


def test_predictions_have_columns_of_the_points(zero_shot, base, head, films, tmp_path, capsys):
    (tmp_path / "films").mkdir()
    for number, image in enumerate(films):
        image.save(tmp_path / "films" / f"{number}.png")

    def table(model: Path, *more: str) -> pd.DataFrame:
        out = tmp_path / f"{model.name}.parquet"
        command = ["--model", str(model), "--films", str(tmp_path / "films"), "--out", str(out), *more]
        assert refused(predict, *command) == "0"
        return pd.read_parquet(out)

    told = table(base, "--findings", "Cardiomegaly", "No Finding")
    cardiomegaly = zero_shot.points["Cardiomegaly"]
    assert (told["above_threshold_Cardiomegaly"] == cardiomegaly.is_above(told["logit_difference_Cardiomegaly"])).all()
    assert ("calibrated_probability_Cardiomegaly" in told) == (cardiomegaly.calibration is not None)
    # Told by "Cardiomegaly" alone here.
    assert "above_threshold_No Finding" not in told
    said = capsys.readouterr().out
    assert "above_threshold: 1 findings by rule youden, chosen on split train of synthetic" in said
    assert "no point for No Finding: its point was chosen with other prompts" in said
    told = table(head, "--operating_points", str(calibrated(head, tmp_path)))
    probabilities = told["probability_Cardiomegaly"]
    expected = 1 / (1 + np.exp(1 - 2 * np.log(probabilities / (1 - probabilities))))
    np.testing.assert_allclose(told["calibrated_probability_Cardiomegaly"], expected, rtol=1e-4)
    assert [name for name in told if name.startswith("above")] == ["above_threshold_Cardiomegaly"]
    run = pipeline("image-classification", model=str(head), threshold="validated")
    above = [{one["label"]: one for one in one_film}["Cardiomegaly"]["above_threshold"] for one_film in run(films)]
    assert told["above_threshold_Cardiomegaly"].tolist() == above


def test_an_adaptation_writes_the_points_of_its_validation(base, tiny_corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("train.adapt.points.LEAST_FILMS", 12)
    more = ["--labels", "No Finding", "Cardiomegaly", "--method", "linear", "--max_steps", "1", "--resamples", "100"]
    adapt(words("classification", base, tiny_corpus, tmp_path / "run", *more))
    assert "operating points of 1 of 2 findings" in capsys.readouterr().out
    file = tmp_path / "run" / "adapter" / POINTS_FILE
    points = OperatingPoints.load(file)
    assert (list(points.points), list(points.refused)) == (["No Finding"], ["Cardiomegaly"])
    assert points.split == "validation"
    assert "chose the best weights" in points.notes[0]
    # The command chooses the same.
    more = ["--least_films", "12", "--resamples", "100", "--out", str(tmp_path / "again.json")]
    calibrate(["--model", str(tmp_path / "run"), "--data", str(tiny_corpus), *more])
    assert OperatingPoints.load(tmp_path / "again.json").points == points.points
    assert json.loads(file.read_text())["model_sha256"] == load_evaluation_model(str(tmp_path / "run")).weights_sha256
