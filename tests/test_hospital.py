"""A hospital's own study: options, prices, benchmarks of whatever it has, a recommendation; and once, all of it."""

import csv
import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset, DatasetDict, Features, Value, load_dataset
from safetensors.torch import load_file

from data_scripts.prepared.subsets import SubsetArguments, spaced_sizes, write_subsets
from data_scripts.schema import DataError
from eval.benchmarks import BENCHMARKS, SUITES
from eval.records.estimates import Estimate
from eval.records.runs import Flops
from eval.splits import of_these_data, other_data
from eval.studies.scaling.power_laws import PowerLaws
from eval.studies.scaling.recommendation import recommend
from eval.studies.scaling.results import Curve, Extrapolation, Films, Fit, Pair, Point, Scaling
from modeling_chexficient import CheXficientModel
from tests.run_records import pretrain_run
from tests.training import assert_same_weights, run_recipe
from train.studies import trial
from train.studies.reading import read_study
from train.studies.running import Outcome
from train.study import main, parse_study

RECIPE = Path(__file__).parents[1] / "train" / "studies" / "hospital.yaml"
GIVEN = {"raw": "films", "mapping": "films.yaml", "reports_model": "starts/clip", "films_model": "starts/dino"}
WORDS = [word for name, value in GIVEN.items() for word in (f"--{name}", value)]


# Options.


def test_options_stand_in_every_value_as_what_they_are(tmp_path):
    study, _ = parse_study([str(RECIPE)], [*WORDS, "--out", str(tmp_path), "--films_steps", "7", "--bf16", "false"])
    cells = {cell.folder.relative_to(tmp_path).as_posix(): cell for cell in study.cells()}
    assert len(cells) == 30
    reports, films = cells["clip/reports-1-0"], cells["films/films_alone-5-2"]
    # Within a text, and as the whole of a value.
    assert films.arguments["subset"] == f"{tmp_path}/subsets/5.txt"
    assert (films.arguments["max_steps"], films.arguments["bf16"]) == (7, False)
    assert (reports.arguments["max_steps"], reports.arguments["learning_rate"]) == (2000, 1e-5)
    assert study.prepare["data"].arguments["mapping"] == "films.yaml"
    assert study.prepare["subsets"].command == f"data_scripts.prepared.subsets {tmp_path}/data"


def test_all_sizes_of_a_kind_cost_the_same_and_have_one_start():
    study = read_study(RECIPE, GIVEN)
    for name, start in {"clip": "model", "films": "vision_model"}.items():
        cells = [cell for cell in study.cells() if cell.grid == name]
        differing = {key for cell in cells for key in cell.arguments if len({str(c.arguments[key]) for c in cells}) > 1}
        assert differing == {"subset", "seed"}
        assert len({cell.arguments[start] for cell in cells}) == 1
        assert {cell.arguments["subset"] for cell in cells} == {f"runs/hospital/subsets/{n}.txt" for n in range(1, 6)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs --raw, --mapping, --reports_model, --films_model"),
        ([*WORDS, "--seeds", "3"], "--seeds"),
        ([*WORDS, "--trial_steps", "2"], "trial_steps is 2, it must be at least 4"),
    ],
)
def test_what_is_missing_or_unknown_is_refused(words, message):
    with pytest.raises(ValueError, match=message):
        parse_study([str(RECIPE)], words)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 3}, r"option 'rat' is unknown, did you mean 'rate'"),
        ({"only": "x"}, "are arguments of every study"),
        ({"sizes": [1, 2]}, "each with a text, a number, true, false or null"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message, tmp_path):
    grid = {"command": "trainer", "arguments": {"rate": "${rat}"}, "seeds": [0]}
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump({"output_dir": "o", "options": {"rate": 1.0} | options, "grids": {"one": grid}}))
    with pytest.raises(ValueError, match=message):
        parse_study([str(file)], [])


# What it costs.


def write_trial(folder: Path, steps: int, rates: list[float]) -> None:
    folder.mkdir(parents=True)
    run = pretrain_run(steps=steps, pairs_trained=steps * 8, seconds=90.0, flops=Flops(steps * 5e12))
    (folder / "log.json").write_text(json.dumps([{"pairs_per_second": rate} for rate in rates]))
    run.write(folder)


def test_the_first_steps_of_a_trial_do_not_count(tmp_path):
    write_trial(tmp_path / "a", steps=40, rates=[1.0, 16.0, 8.0, 16.0])
    assert trial.seconds_of_step(tmp_path / "a") == pytest.approx(8 / 16)
    write_trial(tmp_path / "b", steps=40, rates=[])
    assert trial.seconds_of_step(tmp_path / "b") == pytest.approx(90 / 40)


def test_a_study_is_priced_by_one_cell_of_each_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(RECIPE.parents[2])
    tried = []

    def run(cell, environment):
        tried.append(cell)
        write_trial(cell.folder, cell.arguments["max_steps"], [1.0, 16.0, 16.0, 16.0])
        return Outcome(cell, seconds=50.0)

    monkeypatch.setattr(trial, "run_cell", run)
    study = read_study(RECIPE, GIVEN | {"out": str(tmp_path), "reports_steps": 3600, "films_steps": 7200})
    prices = trial.try_out(study, study.cells(), 40, {})
    assert [(price.grid, price.cells, price.steps) for price in prices] == [("clip", 15, 3600), ("films", 15, 7200)]
    assert [cell.folder for cell in tried] == [tmp_path / "trial/clip-reports", tmp_path / "trial/films-films_alone"]
    # 0.5 s a step, and of 50 s what the 40 steps did not take.
    assert prices[0].hours == pytest.approx(15 * (3600 * 0.5 + 30) / 3600)
    text = trial.format_prices(prices, 40)
    assert f"about {sum(price.hours for price in prices):,.2g} hours" in text
    assert "| clip reports | 15 | 3,600 | 5 | 0.5 | 30 | 270 |" in text
    endless = read_study(RECIPE, GIVEN | {"reports_steps": 0})
    with pytest.raises(ValueError, match="has no max_steps"):
        trial.try_out(endless, endless.cells(), 40, {})


# Subsets and benchmarks of what the hospital has.


def test_subsets_have_names_that_do_not_depend_on_the_corpus(tiny_corpus, tmp_path):
    arguments = SubsetArguments(out=str(tmp_path), count=3, smallest=40, numbered=True)
    subsets = write_subsets([str(tiny_corpus)], arguments)
    assert [subset.file for subset in subsets] == ["1.txt", "2.txt", "3.txt"]
    assert subsets[-1].films == json.loads((tmp_path / "subsets.json").read_text())["films"], "all training films"
    with pytest.raises(DataError, match="numbered goes with count"):
        SubsetArguments(out="out", sizes=[3], numbered=True)


def test_too_few_films_for_a_curve_are_refused_before_any_training():
    with pytest.raises(DataError, match=r"5 sizes from 300 to the 400 .* each be 1.07 times the one before"):
        spaced_sizes(5, 300, 400)
    assert spaced_sizes(5, 300, 733)[-1] == 733


def splits_with(labels: list[str], masks: list[str] = ()) -> DatasetDict:
    row = {"labels": [{"name": name, "value": 1} for name in labels], "masks": [{"name": name} for name in masks]}
    kinds = {"labels": [{"name": Value("string"), "value": Value("int8")}], "masks": [{"name": Value("string")}]}
    return DatasetDict(test=Dataset.from_list([row, row], features=Features(kinds)))


def test_lines_and_tubes_are_those_that_the_hospital_names():
    splits = splits_with(["Edema", "ETT - Normal", "chest_tube", "Midline Shift"], ["PICC line", "heart"])
    assert of_these_data(BENCHMARKS["own_tubes"], splits).labels == ("ETT - Normal", "chest_tube")
    structures = of_these_data(BENCHMARKS["own_tube_outlines"], splits).structures
    assert structures == {"PICC line": ("PICC line",)}
    assert of_these_data(BENCHMARKS["own_findings"], splits) is BENCHMARKS["own_findings"]
    for name in ("own_tubes", "own_tube_outlines"):
        with pytest.raises(DataError, match=r"named by one of tube, .*there are \['Edema'\]|there are none at all"):
            of_these_data(BENCHMARKS[name], splits_with(["Edema"]))
    assert SUITES["hospital"][-1] == "own_findings", "the result that says that the others were tried"


def test_own_films_may_be_of_any_loader(tmp_path):
    (tmp_path / "summary.json").write_text('{"loader": "nih_chestxray14"}')
    assert other_data(BENCHMARKS["own_findings"], [tmp_path]) == []


# The recommendation.


def test_doubling_is_worth_it_up_to_where_it_brings_just_that():
    laws = PowerLaws(np.array([0.8, 3.2, 0.0]), np.array([0.18, 0.38, 0.0]), np.array([0.03, 0.06, 0.2]))
    films = laws.worth_doubling(0.01)
    errors = laws.errors(np.array([*films[:2], *2 * films[:2]]))
    assert [errors[0, 0] - errors[0, 2], errors[1, 1] - errors[1, 3]] == pytest.approx([0.01, 0.01])
    assert films[2] == 0


def curve(arm: str, error: float, state: str = "falls", seeds: int = 2, gain=(0.02, 0.01, 0.03), below=0.05) -> Curve:
    def near(value: float, spread: float) -> Estimate:
        return Estimate(value, value - spread, value + spread)

    points = [Point(films, [error] * seeds, near(error, 0.01), near(below, 0.01)) for films in (300, 900, 2700, 8000)]
    fit = held = None
    if state == "falls":
        worth = Films(20_000.0, 9_000.0, 90_000.0, 1.0, False, False)
        whole = near(0.5, 0.1)
        fit = Fit(whole, whole, whole, 0.001, Estimate(*gain), worth, 0.0, [], [], None, None)
        held = Extrapolation(8000, [300, 900, 2700], near(error, 0.02), near(error, 0.01), near(0.004, 0.02))
    reason = None if state == "falls" else "more films are neither shown to help nor shown not to"
    return Curve(
        "own_findings", "macro AUROC", arm, points, state, reason, near(0.1, 0.05), fit, held, None, None, 2e15
    )


def scaling_of(*curves: Curve, error: Estimate) -> Scaling:
    pair = Pair("own_findings", curves[0].arm, curves[1].arm, error, None, 8000, error, None)
    return Scaling(list(curves), [pair], [], "its start", 100, 0, False)


def test_the_arm_that_is_surely_better_is_recommended():
    scaling = scaling_of(curve("reports", 0.2), curve("films alone", 0.3), error=Estimate(-0.1, -0.12, -0.08))
    which, reports, _ = recommend(scaling)
    assert which == "Continue reports: surely the best on own_findings with all films."
    assert "surely better than its start (+0.050 [+0.040, +0.060])" in reports
    assert "Twice the films (16,000) would lower it by 0.0200 [0.0100, 0.0300]: worth it, at 0.005 or more" in reports
    assert "Doubling brings 0.005 up to 20,000 [9,000, 90,000] films" in reports
    assert "the 8,000 films held out, predicted minus found +0.0040 [-0.0160, +0.0240]" in reports
    # The other way round.
    scaling = scaling_of(curve("reports", 0.3), curve("films alone", 0.2), error=Estimate(0.1, 0.08, 0.12))
    assert recommend(scaling)[0].startswith("Continue films alone")


def test_what_is_best_for_one_task_is_not_recommended_where_it_is_the_worst_for_another():
    """Reports and labels beside them are alike on findings, and far ahead of films alone, which are ahead on tubes."""
    errors = {
        "own_findings": {"reports": 0.11, "labels": 0.108, "films": 0.3},
        "own_tubes": {"reports": 0.5, "labels": 0.5, "films": 0.4},
    }
    curves, pairs = [], []
    for benchmark, by_arm in errors.items():
        curves += [dataclasses.replace(curve(arm, error), benchmark=benchmark) for arm, error in by_arm.items()]
        for first, second in itertools.combinations(by_arm, 2):
            apart = by_arm[first] - by_arm[second]
            error = Estimate(apart, apart - 0.02, apart + 0.02)
            pairs.append(Pair(benchmark, first, second, error, None, 8000, error, None))
    scaling = Scaling(curves, pairs, [], "its start", 100, 0, False)
    assert recommend(scaling)[0] == (
        "It depends on the task, by what nothing surely beats with all films: labels or reports for own_findings; "
        "films for own_tubes."
    )
    of_findings = dataclasses.replace(scaling, curves=curves[:3])
    assert recommend(of_findings)[0] == (
        "Continue labels or reports, which are not told apart: surely better than the others on own_findings with all "
        "films."
    )


def test_a_gain_below_what_is_worth_it_or_around_it_is_said():
    for gain, words in {
        (0.002, 0.001, 0.003): "not worth it",
        (0.005, 0.001, 0.01): "whether that is worth 0.005",
    }.items():
        reports = curve("reports", 0.2, gain=gain)
        scaling = scaling_of(reports, curve("films alone", 0.3), error=Estimate(-0.1, -0.12, -0.08))
        assert words in recommend(scaling)[1]


def test_a_study_that_decides_nothing_says_so():
    curves = [curve(arm, 0.4, "flat", seeds=1, below=0.001) for arm in ("reports", "films alone")]
    which, _, _, seeds, nothing = recommend(scaling_of(*curves, error=Estimate(0.0, -0.1, 0.1)))
    assert which.startswith("Which to continue is not decided: On own_findings no arm is surely the best.")
    assert "reports: 2 PFLOP a run" in which
    assert "one seed" in seeds
    assert nothing.startswith("No curve surely falls")


# All of it.


@pytest.fixture
def hospital(tmp_path, tiny_corpus) -> list[str]:
    """A folder of films with a table, and the arguments of the smallest study of it."""
    raw = tmp_path / "raw"
    (raw / "films").mkdir(parents=True)
    rows = []
    for split in ("train", "test"):
        for number, row in enumerate(load_dataset(str(tiny_corpus), split=split)):
            row["image"].save(raw / "films" / f"{split}{number}.png")
            labels = {label["name"]: label["value"] for label in row["labels"]}
            # Of one length: beside so small films, longer texts would make a run dearer than the study allows.
            there = "a" if labels.get("Pleural Effusion") else "no"
            text, patient = f"Film {number % 10}: there is {there} pleural effusion.", row["patient_id"]
            rows.append([f"{split}{number}.png", text, patient, labels.get("Pleural Effusion", 0), number % 2])
    with (raw / "films.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "report", "patient", "Pleural Effusion", "Chest Tube"], *rows])
    mapping = {"table": "films.csv", "image_root": "films", "image_column": "file", "report_column": "report"}
    mapping |= {"patient_column": "patient", "label_columns": ["Pleural Effusion", "Chest Tube"], "test_share": 0.3}
    (raw / "films.yaml").write_text(yaml.safe_dump(mapping))
    return ["--raw", str(raw), "--mapping", str(raw / "films.yaml"), "--out", str(tmp_path / "study")]


@pytest.mark.slow
def test_from_a_folder_to_a_recommendation(hospital, tiny_corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(RECIPE.parents[2])
    start, tower = tmp_path / "start", tmp_path / "tower"
    run_recipe(tiny_corpus, start, "--selection", "none", "--max_steps", "2")
    CheXficientModel.from_pretrained(start / "model").vision_model.save_pretrained(tower)
    starts = ["--reports_model", str(start / "model"), "--films_model", str(tower)]
    size = ["--image_size", "56", "--reports_steps", "4", "--reports_batch", "16", "--reports_chunk", "16"]
    size += ["--films_steps", "4", "--films_batch", "8", "--head_steps", "2", "--resamples", "50", "--bf16", "false"]
    words = [str(RECIPE), *hospital, *starts, *size, "--workers", "0"]
    with pytest.raises(SystemExit, match="smallest is 10,000 and the corpus has"):
        main([*words, "--smallest", "10000"])
    part = ["--smallest", "20", "--only", "seed=0"]
    main([*words, *part, "--trial_steps", "4"])
    assert "hours, one cell after the other" in capsys.readouterr().out
    assert not (tmp_path / "study/clip").exists(), "a trial trains no cell"
    main([*words, *part])
    text = (tmp_path / "study/recommendation.md").read_text()
    assert text.startswith("## Which one to continue, and how many more films")
    assert "own_findings" in text
    assert "own_tubes" in text
    assert "Every size was trained with one seed" in text
    found = json.loads((tmp_path / "study/recommendation.json").read_text())
    assert {len(one["points"]) for one in found["curves"]} == {5}
    # The starts are what was given, at the size of the study.
    assert_same_weights(tmp_path / "study/reports_start", start, atol=0)
    before, after = (
        load_file(folder / "model.safetensors") for folder in (tower, tmp_path / "study/films_start/model")
    )
    assert all(torch.equal(before[name], after[name]) for name in before if "mask_token" not in name)
