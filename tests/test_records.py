"""Records of runs and results: written and read again, those of the version before, and what is refused."""

import json
import math
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from eval.records.estimates import Estimate
from eval.records.json_values import from_json, write_json
from eval.records.results import RESULTS, ReportResult, SegmentationResult, load_result, load_results
from eval.records.runs import FORMAT_VERSION, RUN_FILE, Adaptation, AdaptRun, Flops, PretrainRun, Run, adaptation_behind
from modeling_chexficient.base_identity_chexficient import weights_sha256
from tests.run_records import adapt_run, pretrain_run

#: Written by the version before the typed records of runs, with most entries of long lists taken out.
BEFORE = Path(__file__).parent / "records_version_1"
OLD_RESULTS = sorted(path.name for path in BEFORE.glob("*.json") if not path.name.startswith("run_"))


def old_run(folder: Path, name: str, **changes) -> Path:
    """A folder with the record of a run of the version before; a value of None takes an entry away."""
    values = json.loads((BEFORE / f"run_{name}.json").read_text()) | changes
    kept = {key: value for key, value in values.items() if value is not None or key not in changes}
    (folder / RUN_FILE).write_text(json.dumps(kept))
    return folder


def test_a_pretraining_run_of_the_version_before(tmp_path):
    run = Run.load(old_run(tmp_path, "pretraining"))
    assert isinstance(run, PretrainRun)
    assert (run.selection, run.corpus_pairs, run.kept_pairs, run.format_version) == ("quantile", 241, 72, 2)
    assert run.flops.total == pytest.approx(run.flops.trained + run.flops.scored)
    assert run.flops.scored > 0
    assert run.training_folders == ["runs/data"]


def test_an_adaptation_of_the_version_before(tmp_path):
    """Its FLOP were a number, and what one task alone says lay among the rest."""
    run = Run.load(old_run(tmp_path, "adaptation"))
    assert isinstance(run, AdaptRun)
    assert run.flops == Flops(39152640.0)
    assert run.facts == {"reports_cut": 0, "max_text_length": 256, "films_without_report": 0}
    assert (run.task, run.method, run.adapter_bytes) == ("report-generation", "lora", 6320)
    # Where they were not counted, they were null.
    values = json.loads((tmp_path / RUN_FILE).read_text())
    (tmp_path / RUN_FILE).write_text(json.dumps(values | {"flops": None}))
    assert Run.load(tmp_path).flops is None


#: Entries that came since, and what they are of a result that has none.
ADDED = {
    "conventions": {},
    "by_convention": {},
    "centre_line_dice": None,
    "thin_films": 0,
    "study_rule": "none",
    "studies": None,
    "outputs": None,
}


def _without_added(value):
    """`value` without the entries of `ADDED` that say nothing; one that says something stays, to be seen."""
    if isinstance(value, list):
        return [_without_added(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _without_added(item) for key, item in value.items() if key not in ADDED or item != ADDED[key]}


@pytest.mark.parametrize("name", OLD_RESULTS)
def test_a_result_of_the_version_before_is_read_and_written_as_it_was(tmp_path, name):
    result = load_result(BEFORE / name)
    assert type(result) is RESULTS[json.loads((BEFORE / name).read_text())["task"]]
    assert isinstance(result.headline[1], Estimate)
    result.save(tmp_path / name)
    assert _without_added(json.loads((tmp_path / name).read_text())) == json.loads((BEFORE / name).read_text())
    assert load_result(tmp_path / name) == result


def test_the_version_before_wrote_a_result_of_each_task():
    results = load_results(BEFORE)
    assert [result.task for result in results.values()] == sorted(
        (result.task for result in results.values()), key=list(RESULTS).index
    )
    # Grounding came later.
    assert {result.task for result in results.values()} == set(RESULTS) - {"grounding"}
    assert list(results) != sorted(results)
    assert results["disease_prediction_adapted.json"].adaptation == Adaptation(
        "lora", "runs/base/model", None, "4f649b5f310992a1272608f09bad647978dc6a88ab241de2763d93156df09af2",
        1.0, 0, 241, 142, 2211, 38851, 10364, 2.6463, ["synthetic"],
    )  # fmt: skip


@pytest.mark.parametrize(
    "run",
    [
        pretrain_run(flops=Flops(2e12, 1e11), mixture={"parts": [{"folder": "a", "weight": 1.0}]}, final_loss=0.5),
        pretrain_run(keep_share_asked=None, notes=["a note"]),
        adapt_run(flops=Flops(3e9), facts={"films_without_report": 3}, sources=["brax"], adapter_bytes=None),
    ],
)
def test_what_a_run_writes_is_what_is_read(tmp_path, run):
    run.write(tmp_path)
    assert Run.load(tmp_path) == type(run).load(tmp_path) == run
    assert json.loads((tmp_path / RUN_FILE).read_text())["format_version"] == FORMAT_VERSION
    assert [path.name for path in tmp_path.iterdir()] == [RUN_FILE]


def test_nan_is_null_in_the_file(tmp_path):
    """Read again, it is NaN where a figure is always there, and None where it may be missing."""
    run = pretrain_run(keep_share_reached=math.nan, final_loss=math.nan)
    run.write(tmp_path)
    written = (tmp_path / RUN_FILE).read_text()
    assert (json.loads(written)["keep_share_reached"], json.loads(written)["final_loss"]) == (None, None)
    again = PretrainRun.load(tmp_path)
    assert math.isnan(again.keep_share_reached)
    assert again.final_loss is None
    again.write(tmp_path)
    assert (tmp_path / RUN_FILE).read_text() == written
    result = load_result(BEFORE / "report_generation.json")
    result.scores.mean_words, result.scores.f1_micro = math.nan, Estimate.of_resamples(np.array([0.5, np.nan]))
    result.save(tmp_path / "result.json")
    again = ReportResult.load(tmp_path / "result.json")
    assert math.isnan(again.scores.mean_words)
    assert again.scores.f1_micro == Estimate(0.5, None, None)


@pytest.mark.parametrize(
    ("kind", "changes", "told", "command"),
    [
        ("pretraining", {"selection": None}, "selection", "`python -m train.pretrain`"),
        ("pretraining", {"steps": "many"}, "steps: 'many' is no int", "`python -m train.pretrain`"),
        ("pretraining", {"flops": {"trained": 1.0}}, "scored", "`python -m train.pretrain`"),
        ("pretraining", {"weather": "fine"}, "weather", "`python -m train.pretrain`"),
        ("pretraining", {"format_version": 3}, "format_version: 3, known are 1 to 2", "`python -m train.pretrain`"),
        ("adaptation", {"validation": None}, "validation", "`python -m train.adapt`"),
        ("adaptation", {"sources": {"brax": 3}}, "sources: \"{'brax': 3}\" is no list", "`python -m train.adapt`"),
        ("adaptation", {"kind": "distillation"}, "expected pretraining or adaptation", "`python -m train.pretrain` or"),
    ],
)
def test_a_run_that_is_damaged_or_foreign_names_the_command(tmp_path, kind, changes, told, command):
    with pytest.raises(ValueError, match=RUN_FILE) as refused:
        Run.load(old_run(tmp_path, kind, **changes))
    assert told in str(refused.value)
    assert command in str(refused.value)


@pytest.mark.parametrize("content", ["{", "[]", "\x00"])
def test_a_file_that_is_no_run(tmp_path, content):
    (tmp_path / RUN_FILE).write_text(content)
    with pytest.raises(ValueError, match=r"is damaged .* with `python -m train.pretrain` or `python -m train.adapt`"):
        Run.load(tmp_path)
    with pytest.raises(ValueError, match=r"is damaged .* with `python -m train.adapt`$"):
        AdaptRun.load(tmp_path)
    (tmp_path / RUN_FILE).unlink()
    with pytest.raises(ValueError, match="is not a finished run"):
        Run.load(tmp_path)


def test_a_run_of_another_kind(tmp_path):
    with pytest.raises(ValueError, match=r"of a run of pretraining, expected adaptation: .* `python -m train.adapt`"):
        AdaptRun.load(old_run(tmp_path, "pretraining"))
    (tmp_path / "model").mkdir()
    assert adaptation_behind(str(tmp_path / "model")) is None
    old_run(tmp_path, "adaptation")
    assert adaptation_behind(str(tmp_path / "model")) == Run.load(tmp_path)
    # Weights that were saved over those of the run have another history.
    (tmp_path / "model" / "model.safetensors").write_bytes(b"of the run")
    run = replace(Run.load(tmp_path), weights_sha256=weights_sha256(tmp_path / "model"))
    run.write(tmp_path)
    assert adaptation_behind(str(tmp_path / "model")) == run
    (tmp_path / "model" / "model.safetensors").write_bytes(b"of another")
    assert adaptation_behind(str(tmp_path / "model")) is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda values: values.pop("structures"), "structures"),
        (lambda values: values.update(weather="fine"), "weather"),
        (lambda values: values.update(macro_dice=0.7), "macro_dice: '0.7' is no dict"),
        (lambda values: values["structures"][0].update(films="many"), "structures: films: 'many' is no int"),
        (lambda values: values["structures"][0]["dice"].pop("low"), "low"),
        (lambda values: values.update(provenance=None), "provenance: 'None' is no dict"),
        (lambda values: values.update(format_version=2), "format 2; expected 'segmentation', 1"),
        (lambda values: values.update(task="weather"), "its task is 'weather'"),
        (lambda values: values.update(task=["segmentation"]), "is not a result"),
    ],
)
def test_a_result_that_is_damaged_or_foreign_names_the_command(tmp_path, change, told):
    values, file = json.loads((BEFORE / "segmentation.json").read_text()), tmp_path / "result.json"
    change(values)
    file.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"result\.json") as refused:
        load_result(file)
    assert told in str(refused.value)
    assert "`python -m eval.run`" in str(refused.value)


def test_a_result_of_another_task():
    with pytest.raises(ValueError, match=r"task 'retrieval', format 1; expected 'segmentation', 1.*python -m eval.run"):
        SegmentationResult.load(BEFORE / "retrieval.json")


def test_a_folder_of_results(tmp_path):
    """Other JSON files are left out; a result that cannot be read is not."""
    (tmp_path / "table.json").write_text(json.dumps([1, 2]))
    with pytest.raises(ValueError, match="holds no result: evaluate the model first"):
        load_results(tmp_path)
    shutil.copyfile(BEFORE / "retrieval.json", tmp_path / "b.json")
    assert list(load_results(tmp_path)) == ["b.json"]
    (tmp_path / "a.json").write_text(json.dumps({"task": "retrieval"}))
    with pytest.raises(ValueError, match=r"a.json.*python -m eval.run"):
        load_results(tmp_path)


@dataclass
class Inner:
    share: float
    count: int = 0


@dataclass
class Outer:
    inner: Inner | None
    by_name: dict[str, list[Inner]] = field(default_factory=dict)
    mixed: dict[str, int | float | str] = field(default_factory=dict)
    flag: bool = False
    anything: dict = field(default_factory=dict)


@pytest.mark.parametrize(
    "value",
    [
        Outer(None),
        Outer(Inner(0.5), {"a": [Inner(1, 2)], "b": []}, {"a": 1, "b": 0.5, "c": "x"}, True, {"a": [None, {"b": 1}]}),
    ],
)
def test_dataclasses_in_dataclasses(tmp_path, value):
    write_json(value, tmp_path / "value.json")
    assert from_json(Outer, json.loads((tmp_path / "value.json").read_text())) == value


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "inner"),
        ({"inner": {"share": 0.5, "count": 1.5}}, "inner: count: '1.5' is no int"),
        ({"inner": {"share": 0.5, "count": True}}, "inner: count: 'True' is no int"),
        ({"inner": {"share": "0.5"}}, "inner: share: '0.5' is no float"),
        ({"inner": None, "by_name": {"a": {}}}, "by_name: '{}' is no list"),
        ({"inner": None, "mixed": {"a": [1]}}, "mixed: '[1]' is no str"),
        ({"inner": None, "flag": 1}, "flag: '1' is no bool"),
        ([], "'[]' is no dict"),
    ],
)
def test_values_of_another_type_are_refused(values, told):
    with pytest.raises(TypeError) as refused:
        from_json(Outer, values)
    assert told in str(refused.value)
