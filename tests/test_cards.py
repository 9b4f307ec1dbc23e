"""The cards say what was measured, in words and for machines, and nothing else."""

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, ModelCard
from huggingface_hub.repocard import metadata_load
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from eval.records.results import RESULTS, load_result, load_results
from eval.run import main as judge
from model_cards.corpora import counts_of_folders, hub_licence, training_sources
from model_cards.datasets import read_dataset, render_dataset_card
from model_cards.filling import flops, hours, number, percent
from model_cards.render import main as render
from model_cards.render import render_base_card
from model_cards.results import TASKS, check_model, exposure, headline
from model_cards.runs import read_run
from modeling_chexficient import CheXficientModel
from modeling_chexficient.base_identity_chexficient import weights_sha256
from tests.published_runs import adapt, pretrain


@pytest.fixture(scope="module")
def finished(tiny_corpus, tmp_path_factory) -> Path:
    """A run judged on all kinds of task."""
    run = pretrain(tiny_corpus, tmp_path_factory.mktemp("runs") / "base")
    quick = ["--resamples", "20", "--decoder_epochs", "1", "--num_seeds", "1", "--label_shares", "0.5", "1"]
    words = ["--model", str(run / "model"), "--data", str(tiny_corpus), "--out", str(run / "results")]
    judge([*words, *quick, "--suite", "synthetic"])
    judge([*words, "--resamples", "20", "--benchmark", "synthetic_grounding"])
    return run


@pytest.fixture
def run(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def change_results(run: Path, change) -> None:
    for file in (run / "results").glob("*.json"):
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))


def saved_card(run: Path, part: str = "model") -> tuple[str, Path]:
    render([str(run)])
    return (run / part / "README.md").read_text(), run / part / "README.md"


def test_headlines_are_those_of_eval(finished):
    results = load_results(finished / "results")
    assert [result.task for result in results.values()] == list(TASKS) == list(RESULTS)
    for result in results.values():
        (name, estimate), (title, expected) = headline(result), result.headline
        assert name.replace(",", "") == title.replace(",", "")
        assert estimate == expected


def test_every_result_is_in_the_index_and_in_the_text(finished):
    text, file = saved_card(finished)
    card = ModelCard.load(file)
    assert card.data.to_dict() == metadata_load(file)
    name, entries = model_index_to_eval_results(metadata_load(file)["model-index"])
    assert eval_results_to_model_index(name, entries) == metadata_load(file)["model-index"]
    results = load_results(finished / "results")
    assert len(entries) == len(results) == 6
    for entry, result in zip(entries, results.values(), strict=True):
        (name, figure), provenance = headline(result), result.provenance
        assert (entry.dataset_type, entry.dataset_split) == (result.benchmark, "test")
        assert entry.metric_value == round(figure.value, 4)
        assert entry.metric_args == {"low_95": round(figure.low, 4), "high_95": round(figure.high, 4)}
        assert entry.dataset_args["films"] == provenance.films
        assert entry.dataset_args["corpus_in_training"] == "yes: synthetic"
        row = f"{name} | {number(figure.value)} | {number(figure.low)} to {number(figure.high)} | yes: synthetic |"
        assert row in text
        assert f"<code>{result.benchmark}</code>" in text


def test_the_card_tells_of_training_curation_and_cost(finished):
    text, _ = saved_card(finished)
    record = json.loads((finished / "run.json").read_text())
    numbers = json.loads((finished / "curation_report.json").read_text())
    assert f"kept {record['kept_pairs']} of 241 pairs" in text
    assert (
        f"| Synthetic chest X-rays (`synthetic`) | synthetic | CC0-1.0 | 241 | 100.0 % | {record['kept_pairs']} ("
        in text
    )
    assert f"{flops(record['flops']['total'])} counted" in text
    assert f"{hours(record['seconds'])} on 1 × cpu" in text
    assert "| prototypes (centres of clusters) | 4 |" in text
    model = CheXficientModel.from_pretrained(finished / "model")
    assert f"| image tower | dinov2, {model.vision_model.num_parameters():,} weights |" in text
    assert "| images | 56 px" in text
    tail = numbers["tail"]["rare"]
    assert f"| {number(tail['ratio'])} | {number(tail['low'])} to {number(tail['high'])} |" in text
    for one in numbers["findings"]:
        assert f"| {one['name']} | {percent(one['prevalence'])} | {percent(one['kept_prevalence'])} |" in text
    assert "- View: PA " in text
    assert "not a medical device" in text
    assert "nothing but drawn films" in text
    assert "arXiv:2602.22843" in text
    assert "license: apache-2.0" in text
    # Tables stand apart from the text before, and no template shows.
    lines = text.split("---\n", 2)[2].splitlines()
    for before, line in itertools.pairwise(lines):
        assert not (line.startswith("|") and before and not before.startswith("|")), (before, line)
    assert "{{" not in text
    assert "{%" not in text


def test_pairs_of_a_corpus_are_those_that_were_trained_on(tmp_path):
    """Not all of the folder: a subset of it, or a mixture, was."""
    for name, films in (("a", 900), ("b", 100)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps({"source": name, "splits": {"train": films}}))
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert counts_of_folders([a, b], 1000) == {"a": 900, "b": 100}
    assert counts_of_folders([a], 300) == {"a": 300}
    assert counts_of_folders([a, b], 300) == {}
    assert counts_of_folders([a, str(tmp_path / "gone")], 1000) == {}
    assert counts_of_folders([str(tmp_path / "gone")], 1000) == {}


def test_trials_unknown_exposure_and_undefined_figures_are_told(run):
    def spoil(result):
        result["provenance"] |= {"limited": True, "seen_sources": [], "pretraining_sources": []}
        if result["task"] == "zero_shot":
            result["macro"] = {"value": None, "low": None, "high": None}

    change_results(run, spoil)
    text, file = saved_card(run)
    assert text.count("is partial: not all films of the split were judged") == 6
    assert "| macro AUROC | not defined | – | not known |" in text
    assert len(model_index_to_eval_results(metadata_load(file)["model-index"])[1]) == 5
    provenance = next(iter(load_results(run / "results").values())).provenance
    assert exposure(replace(provenance, pretraining_sources=["brax"])) == "no"


def test_the_rule_is_described_by_the_run_itself(run):
    """By whatever rule it chose, also offline, and also where an earlier version did not record what the rule does."""
    record = json.loads((run / "run.json").read_text())
    text, _ = saved_card(run)
    assert f"| rule | `{record['selection']}`: {record['selection_words']} |" in text
    assert "in the curation epoch; later epochs saw these alone." in text
    record |= {"selection": "toy", "selection_words": "pairs that agree most"}
    record["schedule"] |= {"curation_epochs": 0}
    (run / "run.json").write_text(json.dumps(record))
    text, _ = saved_card(run)
    assert "| rule | `toy`: pairs that agree most |" in text
    assert "of 241 pairs (29.9 %) at once, before the first epoch on these alone." in text
    del record["selection_words"]
    (run / "run.json").write_text(json.dumps(record))
    assert "| rule | `toy` |" in saved_card(run)[0]


def test_names_cannot_break_the_card(run):
    def spoil(result):
        for label in result.get("labels", []):
            label["name"] = "a | b\n<script>"

    change_results(run, spoil)
    text, _ = saved_card(run)
    assert "| a \\| b &lt;script> |" in text


def test_the_name_of_the_repository_is_how_it_is_loaded(finished):
    private = str(render_base_card(read_run(finished), "ward/model", private=True))
    assert 'AutoModel.from_pretrained("ward/model", trust_remote_code=True)' in private
    assert "hf auth login" in private
    assert str(finished) not in private
    assert "hf auth login" not in str(render_base_card(read_run(finished), "ward/model"))


def test_reports_that_a_file_brought_are_not_those_of_the_model(tmp_path):
    """They were evaluated beside a model, and its card gave their clinical F1 as its own."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    result = load_result(Path(__file__).parent / "records_version_1" / "report_generation.json")
    measured = replace(result.provenance, model_sha256=weights_sha256(tmp_path))
    check_model({"reports": replace(result, provenance=measured)}, tmp_path, None)
    of_file = replace(measured, settings=measured.settings | {"predictions": "0" * 64})
    with pytest.raises(ValueError, match=r"was measured on the reports of a file \(--predictions\), not on"):
        check_model({"reports": replace(result, provenance=of_file)}, tmp_path, None)


def test_closed_corpora_change_licence_and_limits(run):
    file = run / "model" / "config.json"
    file.write_text(file.read_text().replace('"synthetic"', '"mimic_cxr_jpg", "st_mary"'))
    text, _ = saved_card(run)
    assert "license_name: terms-of-the-training-data" in text
    assert "(`mimic_cxr_jpg`) | credentialed | PhysioNet Credentialed Health Data License" in text
    assert "| own data (`st_mary`) | own | as the owner says | not recorded | – |" in text
    assert "Some training data are not open." in text
    assert "nothing but drawn films" not in text
    assert hub_licence(training_sources(["kermany"], {}, None)) == {"license": "apache-2.0"}
    assert hub_licence(training_sources(["open_i"], {}, None))["license"] == "other"
    assert hub_licence([])["license"] == "other"


@pytest.mark.parametrize(("method", "kind"), [("lora", "LoRA"), ("hira", "HiRA")])
def test_an_adapter(method, kind, finished, tiny_corpus):
    run = adapt(tiny_corpus, finished, finished.with_name(method), "findings", method)
    text, file = saved_card(run, "adapter")
    record = json.loads((run / "run.json").read_text())
    data = ModelCard.load(file).data
    assert (data.library_name, data.pipeline_tag) == ("peft", "image-classification")
    assert [line for line in text.splitlines() if line.startswith(("| 0 |", "| 1 |", "| 2 |"))] == [
        "| 0 | Cardiomegaly |",
        "| 1 | Edema |",
        "| 2 | Pleural Effusion |",
    ]
    share = 100 * record["trainable_parameters"] / record["all_parameters"]
    assert f"of {record['all_parameters']:,} weights ({share:.2f} %)" in text
    assert f"| {kind} rank | 8 |" in text
    assert (f"| {kind} alpha |" in text) == (method == "lora")
    assert method in data.tags
    assert f"PeftModel.from_pretrained(base, '{run / 'adapter'}')" in text
    assert "arXiv:2401.12215" in text


def test_a_dataset(tiny_corpus, tmp_path):
    card = render_dataset_card(read_dataset(tiny_corpus, ()), "ward/films", private=False)
    card.save(tmp_path / "README.md")
    data = DatasetCard.load(tmp_path / "README.md").data
    assert (data.license, data.size_categories, data.pretty_name) == ("cc0-1.0", ["n<1K"], "films")
    text = str(card)
    summary = json.loads((tiny_corpus / "summary.json").read_text())
    for split, films in summary["splits"].items():
        assert f"| {split} | {films} |" in text
    effusion = [summary[kind].get("Pleural Effusion", 0) for kind in ("positives", "negatives", "uncertain")]
    assert "| Pleural Effusion | {} | {} | {} |".format(*effusion) in text
    assert "| `labels` | list of (name, value, readers, positive_readers) |" in text
    assert 'load_dataset("ward/films")' in text


def test_results_of_another_folder(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("results"))
    shutil.copytree(finished / "results", tmp_path / "suite", ignore=shutil.ignore_patterns("synthetic_*"))
    render([str(tmp_path / "run"), "--results", str(tmp_path / "suite")])
    index = metadata_load(tmp_path / "run" / "model" / "README.md")["model-index"]
    assert [entry.dataset_type for entry in model_index_to_eval_results(index)[1]] == ["zero_shot_findings"]


def test_what_gets_no_card_here(finished, tiny_corpus, tmp_path):
    with pytest.raises(SystemExit, match="is a dataset, whose card"):
        render([str(tiny_corpus)])
    with pytest.raises(SystemExit, match="is not a finished run"):
        render([str(tmp_path)])
    with pytest.raises(SystemExit):
        render([])


def test_figures_are_written_with_the_digits_they_need():
    assert [percent(one) for one in (None, 0.0, 0.1234, 0.00423, 0.000312)] == [
        "–",
        "0.0 %",
        "12.3 %",
        "0.42 %",
        "0.031 %",
    ]
    assert [flops(one) for one in (None, 2.5e15, 3e12, 4.68e9)] == [
        "not recorded",
        "2.5 PFLOP",
        "3 TFLOP",
        "4.68 GFLOP",
    ]
    assert [hours(one) for one in (12, 90, 5400)] == ["12 s", "1.5 min", "1.50 h"]
