"""The command: models side by side, refusals and absent data as rows, a kill in between, many processes as one."""

import importlib
import json
import shlex
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import HfArgumentParser

from data_scripts.access import may_be_shown
from data_scripts.prepare import PrepareArguments
from data_scripts.prepared.labels import chosen_labels, label_matrix, label_targets, prevalences
from data_scripts.schema import DataError
from eval.arguments import folder_names
from eval.artifacts import load_artifact, save_artifact
from eval.benchmarks import BENCHMARKS, OWN, SUITES, TASKS, Benchmark
from eval.models.load import load_evaluation_model
from eval.prompts import find_prompts
from eval.records.results import Estimate, ZeroShotResult, load_result
from eval.run import main as run_main
from eval.settings import EvaluationSettings
from eval.splits import files_fingerprint, load_splits
from eval.statistics.subgroups import subgroups
from eval.studies.models import compare_folders, compare_results, format_differences
from eval.suite import judge, judge_model
from eval.tables import Row, format_rows
from tests.tiny_models import save_tiny_model
from tests.warm import Program, run_python

QUICK = ["--resamples", "20", "--batch_size", "16"]
SETTINGS = EvaluationSettings(resamples=20, batch_size=16)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    return str(save_tiny_model("clip", tmp_path_factory.mktemp("models") / "clip"))


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory) -> str:
    return str(save_tiny_model("dinov2", tmp_path_factory.mktemp("models") / "dinov2"))


@pytest.fixture
def data(tiny_corpus, tmp_path) -> Path:
    """A folder of prepared folders, which holds the synthetic one alone."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "synthetic").symlink_to(tiny_corpus)
    return tmp_path / "data"


def figures(path: Path) -> dict:
    """A result without what may differ between two runs that are equal: durations and where it ran."""
    values = json.loads(path.read_text())
    for name in ("seconds", "processes", "model", "dataset"):
        del values["provenance"][name]
    return values


def test_benchmarks_are_complete_and_their_commands_work():
    assert len(SUITES["chexficient"]) == len(set(SUITES["chexficient"])) == 20
    for suite in ("chexficient", "synthetic"):
        assert {BENCHMARKS[name].task for name in SUITES[suite]} == set(TASKS) - {"grounding"}
    assert {BENCHMARKS[name].task for name in SUITES["grounding"]} == {"grounding"}
    for one in BENCHMARKS.values():
        for command in one.how_to.split("; "):
            words = shlex.split(command)
            assert words[:3] == ["python", "-m", "data_scripts.prepare"]
            loader = importlib.import_module(f"data_scripts.loaders.{words[3]}")
            # Raises for an option that the loader does not have.
            HfArgumentParser((PrepareArguments, loader.Options)).parse_args_into_dataclasses(words[4:])
        if one.dataset != "synthetic":
            assert one.source
        # Of a hospital's own films they follow from its masks.
        assert bool(one.structures or (one.dataset == OWN and one.words)) >= (one.task == "segmentation")
        assert one.task == "segmentation" or not one.structures


def test_prompts_of_the_published_benchmarks():
    """Every label has two prompts of its own, without the underscores of some tables."""
    published = find_prompts("published")
    for name in SUITES["chexficient"][:8]:
        one = BENCHMARKS[name]
        assert one.task == "zero_shot"
        pairs = [published.pair(label) for label in one.labels]
        assert len({text for pair in pairs for text in pair}) == 2 * len(one.labels)
        assert not any("_" in text for pair in pairs for text in pair)
    assert [BENCHMARKS[name].expected for name in SUITES["chexficient"][:8]] == [
        *(500, 3_082, 25_596, 624, 1_372, 1_800, 3_000, 1_397)
    ]
    assert len(BENCHMARKS["nih_zero_shot"].labels) == 15


def test_models_side_by_side(clip, dinov2, tiny_corpus, tmp_path, capsys):
    other = str(save_tiny_model("siglip", tmp_path / "siglip"))
    run_main(["--model", clip, dinov2, other, "--data", str(tiny_corpus), "--out", str(tmp_path / "out"), *QUICK])
    printed = capsys.readouterr().out
    results = {kind: load_result(tmp_path / "out" / kind / "zero_shot_findings.json") for kind in ("clip", "siglip")}
    cells = [f"{one.macro.value:.3f} [{one.macro.low:.3f}, {one.macro.high:.3f}]" for one in results.values()]
    assert f"| zero_shot_findings | macro AUROC | {results['clip'].provenance.films} |" in printed
    assert f"| {cells[0]} | refused | {cells[1]} |" in printed
    assert f"- zero_shot_findings, {dinov2}: {dinov2} has no text tower" in printed
    assert (tmp_path / "out" / "table.md").read_text().strip() in printed
    (difference,) = json.loads((tmp_path / "out" / "artifacts" / "differences.json").read_text())
    expected = results["clip"].macro.value - results["siglip"].macro.value
    assert difference["difference"]["macro"]["value"] == pytest.approx(expected)
    rows = json.loads((tmp_path / "out" / "artifacts" / "table.json").read_text())
    assert [row["status"] for row in rows] == ["judged", "refused", "judged"]
    # Results of an earlier run lie there, of weights that a model may not have any more.
    words = ["--benchmark", "zero_shot_findings_validation", "--out", str(tmp_path / "out"), *QUICK]
    run_main(["--model", clip, dinov2, other, "--data", str(tiny_corpus), *words])
    compared = json.loads((tmp_path / "out" / "artifacts" / "differences.json").read_text())
    assert [pair["benchmark"] for pair in compared] == ["zero_shot_findings_validation"]


def test_benchmarks_are_run_in_the_order_named(clip, tiny_corpus, tmp_path, capsys):
    words = ["--benchmark", "synthetic_retrieval", "zero_shot_findings", "--resamples", "10"]
    run_main(["--model", clip, "--data", str(tiny_corpus), "--out", str(tmp_path), *words])
    table = capsys.readouterr().out
    assert -1 < table.rindex("| synthetic_retrieval |") < table.rindex("| zero_shot_findings |")
    assert {path.stem for path in tmp_path.glob("*.json")} == {"synthetic_retrieval", "zero_shot_findings"}


def test_a_vision_only_model_is_refused_plainly(dinov2, tiny_corpus, tmp_path):
    with pytest.raises(SystemExit, match="has no text tower"):
        run_main(["--model", dinov2, "--data", str(tiny_corpus), "--out", str(tmp_path), *QUICK])
    assert not (tmp_path / "zero_shot_findings.json").exists()


def test_absent_data_are_listed_and_the_rest_runs(clip, data, tmp_path):
    model = load_evaluation_model(clip)
    settings = replace(SETTINGS, out=tmp_path / "out")
    names = ["kermany_zero_shot", "zero_shot_findings", "chexpert_5_probe"]
    rows = [row for row, _ in judge_model(model, names, data, settings)]
    assert [row.status for row in rows] == ["absent", "judged", "absent"]
    table = format_rows(rows)
    assert "| kermany_zero_shot | AUROC | (624) | data absent |" in table
    assert "python -m data_scripts.prepare kermany --raw DOWNLOAD --out DATA/kermany" in table
    assert "--out DATA/chexpert_plus" in table
    with pytest.raises(SystemExit, match="nothing was evaluated: its data are absent"):
        run_main(["--model", clip, "--suite", "chexficient", "--data", str(data), "--out", str(tmp_path / "none")])


def test_what_is_finished_is_not_run_again(clip, data, tmp_path, monkeypatch):
    model = load_evaluation_model(clip)
    settings = replace(SETTINGS, out=tmp_path / "out", cache=tmp_path / "cache")
    benchmark, folders = BENCHMARKS["zero_shot_findings"], [data / "synthetic"]
    first = judge(model, benchmark, folders, settings)
    path = tmp_path / "out" / "zero_shot_findings.json"
    written = path.stat().st_mtime_ns
    assert judge(model, benchmark, folders, settings) == first == ZeroShotResult.load(path)
    assert path.stat().st_mtime_ns == written
    # Anything it depends on makes another result.
    for change in ({"seed": 1}, {"limit": 30}, {"prompts": "report"}, {"threshold": "sensitivity=0.9"}):
        changed = judge(model, benchmark, folders, replace(settings, **change))
        assert changed.provenance.settings != first.provenance.settings
        assert path.stat().st_mtime_ns > written
        written = path.stat().st_mtime_ns
    assert judge(model, replace(benchmark, version=2), folders, settings).benchmark_version == 2
    other = load_evaluation_model(str(save_tiny_model("clip", tmp_path / "other", seed=1)))
    assert judge(other, benchmark, folders, settings).macro.value != first.macro.value
    assert load_result(path).provenance.model_sha256 == other.weights_sha256 != model.weights_sha256
    again = judge(model, benchmark, folders, settings, again=True)
    assert again.labels == first.labels


def test_other_labels_in_files_of_the_same_size_are_other_data(tiny_corpus, tmp_path):
    """Those of training decide a probe, and nothing else of a finished result would tell that they changed."""
    folders = [shutil.copytree(tiny_corpus, tmp_path / name) for name in ("before", "after")]
    copied = [files_fingerprint([folder]) for folder in folders]
    assert copied[0] == copied[1]
    for folder, value in zip(folders, (0, 1), strict=True):
        (file,) = folder.glob("data/train-*.parquet")
        table = pq.read_table(file)
        rows = table.to_pylist()
        rows[0]["labels"][0]["value"] = value
        changed = pa.Table.from_pylist(rows, schema=table.schema)
        pq.write_table(changed, file, use_dictionary=False, compression="none")
    assert len({file.stat().st_size for folder in folders for file in folder.glob("data/train-*.parquet")}) == 1
    assert files_fingerprint(folders[:1]) != files_fingerprint(folders[1:])


def test_an_edited_file_of_prompts_or_processor_makes_another_result(clip, data, tmp_path):
    model, prompts = load_evaluation_model(clip), tmp_path / "prompts.yaml"
    prompts.write_text('{positive: "{}", negative: "no {}"}')
    settings = replace(SETTINGS, out=tmp_path / "out", prompts=str(prompts), limit=60, cache=tmp_path / "cache")
    benchmark, folders = BENCHMARKS["zero_shot_findings"], [data / "synthetic"]
    first = judge(model, benchmark, folders, settings)
    assert judge(model, benchmark, folders, settings) == first
    prompts.write_text('{positive: "there is {}", negative: "no {}"}')
    second = judge(model, benchmark, folders, settings)
    assert second.prompt_pairs["Edema"] == ["there is Edema", "no Edema"]
    assert second.macro != first.macro
    model.image_processor.image_mean = [0.1, 0.2, 0.3]
    third = judge(model, benchmark, folders, settings)
    assert third.provenance.processor_sha256 != second.provenance.processor_sha256
    assert third.macro != second.macro


def test_data_of_another_corpus_are_refused_or_named(clip, data, tmp_path):
    model, settings = load_evaluation_model(clip), replace(SETTINGS, out=tmp_path / "out", limit=40)
    # Right label, wrong films: the number would look like SIIM's.
    ((row, _),) = judge_model(model, ["siim_zero_shot"], data / "synthetic", settings)
    assert row.status == "refused"
    assert "was prepared from 'synthetic', but siim_zero_shot is about 'siim_acr'" in row.note
    # A folder of prepared folders without it: it is absent, with the command that prepares it.
    ((row, _),) = judge_model(model, ["siim_zero_shot"], data, settings)
    assert (row.status, row.note) == ("absent", BENCHMARKS["siim_zero_shot"].how_to)
    own = tmp_path / "own"
    shutil.copytree(data / "synthetic", own)
    (own / "summary.json").write_text('{"loader": "folder"}')
    ((row, result),) = judge_model(model, ["zero_shot_findings"], own, settings)
    assert row.status == "judged"
    assert result.notes[0] == "The films were prepared by the loader 'folder': they are not those of 'synthetic'."


def test_a_validation_split_without_labels_costs_thresholds_alone(clip, data):
    from eval.tasks.zero_shot import run

    splits = load_splits(BENCHMARKS["zero_shot_findings"], [data / "synthetic"], None)
    blank = splits["validation"].map(lambda row: {"labels": []}, features=splits["validation"].features)
    del splits["train"]
    result = run(
        BENCHMARKS["zero_shot_findings"],
        load_evaluation_model(clip),
        datasets.DatasetDict({**splits, "validation": blank}),
        SETTINGS,
    )
    assert all(label.threshold is None for label in result.labels)
    assert result.prevalence_from == "test"
    assert "There is no training split: how frequent findings are is their share of the films of 'test' itself." in (
        result.notes
    )


def test_results_of_different_versions_are_not_compared(clip, data, tmp_path):
    model = load_evaluation_model(clip)
    benchmark, folders = BENCHMARKS["zero_shot_findings"], [data / "synthetic"]
    paths = []
    for number, change in enumerate(({}, {"version": benchmark.version + 1})):
        judge(model, replace(benchmark, **change), folders, replace(SETTINGS, out=tmp_path / str(number)))
        paths.append(tmp_path / str(number) / "zero_shot_findings.json")
    with pytest.raises(ValueError, match="differ in benchmark version"):
        compare_results(*paths, resamples=10, seed=0)
    same = compare_results(paths[0], paths[0], resamples=10, seed=0)
    assert same.difference.macro.value == 0
    # An old file in a folder of results must not cost the comparison of the others.
    refused, fine = compare_folders([paths[0].parent, paths[1].parent, paths[0].parent], resamples=10, seed=0)
    assert refused.difference is None
    assert "not compared: " in format_differences([refused, fine])
    assert fine.difference.macro.value == 0


def test_a_suite_that_is_killed_continues(clip, data, tmp_path):
    words = ["--model", clip, "--suite", "synthetic", "--data", str(data), "--out", str(tmp_path / "out"), *QUICK]
    words += ["--limit", "20"]
    first = tmp_path / "out" / "zero_shot_findings.json"
    program = Program(["-m", "eval.run", *words])
    try:
        deadline = time.monotonic() + 600
        while not first.is_file() and program.process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        program.process.kill()
        done = program.wait()
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out" / "synthetic_reports.json").exists()
    written = first.stat().st_mtime_ns
    names = ["zero_shot_findings", "synthetic_retrieval"]
    settings = replace(SETTINGS, limit=20, out=tmp_path / "out", cache=tmp_path / "out" / ".cache")
    rows = [row for row, _ in judge_model(load_evaluation_model(clip), names, data, settings)]
    assert [row.status for row in rows] == ["judged", "judged"]
    assert all(row.partial for row in rows)
    assert "PARTIAL" in format_rows(rows)
    assert first.stat().st_mtime_ns == written


def test_two_processes_are_one(clip, data, tmp_path):
    """To the last digit: the figures of all five kinds of task, scores of films, and the embeddings behind them."""
    words = ["--model", clip, "--suite", "synthetic", "--data", str(data), *QUICK, "--limit", "40"]
    words += ["--decoder_epochs", "1", "--label_shares", "0.5", "1"]
    for processes, out in ((1, "one"), (2, "two")):
        done = run_python(["-m", "eval.run", *words, "--out", str(tmp_path / out)], processes=processes)
        assert done.returncode == 0, done.stderr[-3000:]
    for name in SUITES["synthetic"]:
        one, two = (tmp_path / folder / f"{name}.json" for folder in ("one", "two"))
        assert figures(one) == figures(two)
        assert load_result(two).provenance.processes == 2
    caches = [sorted((tmp_path / name / ".cache").iterdir()) for name in ("one", "two")]
    assert caches[0]
    for alone, shared in zip(*caches, strict=True):
        assert (alone.name, alone.read_bytes()) == (shared.name, shared.read_bytes())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("Edema", "Gout")}, r"labels \['Gout'\] are not in the data"),
        ({"views": ("LATERAL",)}, "is empty: it has no films of views"),
        ({"split": "holdout"}, "has no split 'holdout'"),
    ],
)
def test_benchmarks_that_do_not_fit_the_data_are_refused(clip, data, tmp_path, changes, message):
    benchmark = replace(BENCHMARKS["zero_shot_findings"], **changes)
    with pytest.raises(ValueError, match=message):
        judge(load_evaluation_model(clip), benchmark, [data / "synthetic"], replace(SETTINGS, out=tmp_path))
    assert not list(tmp_path.glob("*.json"))


def small_split(labels: list[dict], **columns) -> datasets.Dataset:
    rows = [[{"name": name, "value": value} for name, value in one.items()] for one in labels]
    return datasets.Dataset.from_dict({"labels": rows, **columns})


def test_a_label_that_two_corpora_write_in_two_ways_is_one():
    """As PadChest's pneumonia and NIH's Pneumonia: a mixture had two, each judged on the films of one corpus."""
    split = small_split(
        [{"pneumonia": 1}, {"Pneumonia": 0}, {"Pneumonia": 1, "Pleural_Effusion": 0}, {"pleural effusion": 1}]
    )
    names, values = label_matrix(split)
    assert names == ["pneumonia", "Pleural_Effusion"]
    np.testing.assert_array_equal(values, [[1, np.nan], [0, np.nan], [1, 0], [np.nan, 1]])
    asked, of_asked = chosen_labels(split, ["Pleural Effusion", "Pneumonia"])
    assert asked == ["Pleural Effusion", "Pneumonia"]
    np.testing.assert_array_equal(of_asked, values[:, ::-1])
    np.testing.assert_array_equal(label_targets(split, ["Edema", "PNEUMONIA"])[:, 1], values[:, 0])
    with pytest.raises(DataError, match=r"a film has a label twice, written in two ways, one of them \['edema'\]"):
        label_matrix(small_split([{"Edema": 1}, {"Edema": 1, "edema": 0}]))


def short(labels: list[dict]) -> list[dict]:
    return [{name: one[name] for name in ("name", "value")} for one in labels]


def test_a_benchmark_without_positives_is_refused(clip, data, tmp_path):
    from eval.tasks.zero_shot import run

    splits = load_splits(BENCHMARKS["zero_shot_findings"], [data / "synthetic"], None)
    healthy = splits["test"].filter(
        lambda row: not any(one["value"] for one in row["labels"] if one["name"] == "Edema")
    )
    splits["test"] = healthy
    benchmark = replace(BENCHMARKS["zero_shot_findings"], labels=("Edema",))
    with pytest.raises(ValueError, match="no film of split 'test' has any of the labels"):
        run(benchmark, load_evaluation_model(clip), splits, SETTINGS)
    # One of two labels has films of one class alone: it is named, and no part of the mean.
    result = run(replace(benchmark, labels=("Edema", "Cardiomegaly")), load_evaluation_model(clip), splits, SETTINGS)
    assert result.undefined == ["Edema"]
    assert result.labels[0].auroc == Estimate(None, None, None)
    assert result.labels[0].threshold is None
    assert result.macro.value == result.labels[1].auroc.value


def test_unlisted_labels_are_masked_or_absent():
    split = small_split([{"Edema": 1, "Mass": -1}, {"Mass": 1}, {"Edema": 0}])
    nan = np.nan
    np.testing.assert_array_equal(chosen_labels(split, ("Edema", "Mass"))[1], [[1, nan], [nan, 1], [0, nan]])
    np.testing.assert_array_equal(chosen_labels(split, ("Edema", "Mass"), True)[1], [[1, nan], [0, 1], [0, 0]])
    np.testing.assert_array_equal(label_targets(split, ("Gout", "Mass")), [[nan, nan], [nan, 1], [nan, nan]])
    np.testing.assert_array_equal(label_targets(split, ("Gout", "Mass"), True), [[0, nan], [0, 1], [0, 0]])


def test_a_finding_is_rare_by_its_share_of_all_films():
    """Three films have it, one has not, and nobody says for the others: 0.3 % of the films, not three of four."""
    split = small_split([{"Fracture": 1}] * 3 + [{"Fracture": 0}] + [{"Edema": -1}] * 996)
    assert prevalences(split) == {"Fracture": 0.003, "Edema": 0.0}


def test_views_and_first_films_of_studies(tiny_corpus):
    benchmark = replace(BENCHMARKS["zero_shot_findings"], views=("AP",))
    whole = load_splits(BENCHMARKS["zero_shot_findings"], [tiny_corpus], None)
    narrowed = load_splits(benchmark, [tiny_corpus], None)
    assert set(narrowed["test"]["view"]) == {"AP"}
    assert len(narrowed["test"]) == sum(view == "AP" for view in whole["test"]["view"])
    together = load_splits(replace(benchmark, views=(), split="all"), [tiny_corpus], None)
    assert len(together["all"]) == sum(len(split) for split in whole.values())
    limited = load_splits(benchmark, [tiny_corpus], 5)
    assert len(limited["test"]) == len(limited["validation"]) == 5
    # Frequencies in training need no images.
    assert len(limited["train"]) == len(narrowed["train"])


def test_first_films_of_studies():
    from eval.splits import _narrow

    split = datasets.Dataset.from_dict(
        {
            # Studies are numbered anew for every patient.
            "patient_id": ["p", "p", "p", "q", "q", "r"],
            "study_id": ["1", "1", "2", "1", "1", "1"],
            "view": ["LATERAL", "PA", "PA", "AP", "PA", "PA"],
            "row": list(range(6)),
        }
    )
    benchmark = Benchmark("x", 1, "zero_shot", views=("PA", "AP"), first_of_study=True)
    assert _narrow(split, benchmark)["row"][:] == [1, 2, 3, 5]


def test_subgroups_of_known_values_alone():
    split = datasets.Dataset.from_dict(
        {
            "view": ["PA"] * 12 + ["AP"] * 10 + ["UNKNOWN"] * 20,
            "sex": ["F"] * 42,
            "age_years": [4.0] * 12 + [17.9] * 10 + [18.0] * 9 + [85.0] * 10 + [None],
            "patient_id": [str(number) for number in range(42)],
        }
    )
    found = [(attribute, value, int(rows.sum())) for attribute, value, rows in subgroups(split)]
    # Nine films of 18 to 39 are too few; sex tells nothing apart.
    assert found == [("view", "AP", 10), ("view", "PA", 12), ("age", "0 to 17", 22), ("age", "80 and older", 10)]
    # Twelve films of one person are no group: their bootstrap would have no width.
    names = ["one"] * 12 + [str(number) for number in range(30)]
    alone = split.remove_columns("patient_id").add_column("patient_id", names)
    assert [value for attribute, value, _ in subgroups(alone) if attribute == "view"] == ["AP"]


def test_films_may_be_shown_only_where_both_rows_and_folder_say_so(tiny_corpus, tmp_path):
    split = datasets.load_dataset(str(tiny_corpus), split="test")
    assert may_be_shown(split, [str(tiny_corpus)])
    assert not may_be_shown(split, [str(tmp_path)])
    assert not may_be_shown(split.map(lambda row: {"source": "mimic_cxr_jpg"}), [str(tiny_corpus)])


def test_artifacts_survive_saving(tmp_path):
    save_artifact(tmp_path, "x", {"a": np.arange(6).reshape(2, 3).T}, {"names": ["é"]})
    arrays, values = load_artifact(tmp_path, "x")
    np.testing.assert_array_equal(arrays["a"], [[0, 3], [1, 4], [2, 5]])
    assert values == {"names": ["é"]}
    assert load_artifact(tmp_path, "y") is None


def test_folders_of_models_are_told_apart():
    assert folder_names(["runs/demo/model", "runs/other/model"]) == ["demo-model", "other-model"]
    assert folder_names(["a/clip", "b/dinov2/"]) == ["clip", "dinov2"]


def test_a_number_of_films_that_is_not_the_published_one_is_seen():
    row = Row("m", "kermany_zero_shot", "judged", metric="macro AUROC", estimate=Estimate(0.5, 0.4, 0.6), films=600)
    assert "| 600 of 624 |" in format_rows([row])
    assert "| 600 of 624 |" not in format_rows([replace(row, films=624)])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--suite", "synthetic", "--benchmark", "zero_shot_findings"], "not both"),
        (["--benchmark", "synthetic_probe", "synthetic_probe"], "names one twice"),
        (["--threshold", "best"], "threshold rule 'best'"),
        (["--prompts", "no_such_file.yaml"], "neither a file nor one of"),
        (["--label_shares", "0.1"], "--label_shares is of benchmarks of disease_prediction, which none of zero_shot_"),
        (["--benchmark", "synthetic_retrieval", "--study_rule", "max_score"], "--study_rule is of benchmarks of zero"),
        (["--benchmark", "synthetic_probe", "--prompts", "report"], "--prompts is of benchmarks of zero_shot and"),
        (["--benchmark", "synthetic_reports", "--decoder_epochs", "2"], "--decoder_epochs is of benchmarks of segment"),
        (["--suite", "grounding", "--threshold", "sensitivity=0.9"], "leave it out"),
        (["--predictions", __file__], "--predictions is of benchmarks of report_generation"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(clip, tiny_corpus, tmp_path, words, message):
    with pytest.raises(SystemExit, match=message):
        run_main(["--model", clip, "--data", str(tiny_corpus), "--out", str(tmp_path), *words])


def test_several_models_need_a_folder(clip, dinov2, tiny_corpus):
    with pytest.raises(SystemExit, match="say with --out"):
        run_main(["--model", clip, dinov2, "--data", str(tiny_corpus)])
