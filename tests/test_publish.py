"""What `model_cards.publish` shows before it sends anything, and what it refuses."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import load_file, save_file

from eval.calibration.operating_points import choose_point
from eval.records.results import load_result
from eval.records.runs import Adaptation, PretrainRun
from model_cards import upload
from model_cards.publish import main
from model_cards.refusals import forbidden_files, leaks, missing_code, wrong_content
from model_cards.refusals.hub import HEADS_FILE
from model_cards.refusals.texts import ids_or_reports
from model_cards.results import publishable
from model_cards.upload import retry
from modeling_chexficient import CheXficientImageProcessor, heat_maps_chexficient
from modeling_chexficient.heat_maps_chexficient import NORMAL
from modeling_chexficient.operating_points_chexficient import DO_NOT_TRAVEL, POINTS_FILE
from modeling_chexficient.peft_folders_chexficient import RECORD_FILE
from tests.published_runs import adapt, pretrain
from tests.test_operating_points import RULES, points_of, simulated
from train.selection.subset import save_curated_dataset


@pytest.fixture(scope="module")
def finished(tiny_corpus, tmp_path_factory) -> Path:
    return pretrain(tiny_corpus, tmp_path_factory.mktemp("runs") / "base")


@pytest.fixture(scope="module")
def finished_adapter(tiny_corpus, finished) -> Path:
    return adapt(tiny_corpus, finished, finished.with_name("adapter"), "findings", "lora")


@pytest.fixture
def run(finished, tmp_path) -> Path:
    return copied(finished, tmp_path)


def copied(folder: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(folder, tmp_path / folder.name))


def dry_run(folder: Path, *words: str) -> None:
    main([str(folder), "--repo", "ward/model", "--dry_run", *(words or ["--uncommitted"])])


def refusal(folder: Path, *words: str) -> str:
    with pytest.raises(SystemExit) as refused:
        dry_run(folder, *words)
    assert str(refused.value).startswith("error: ")
    return str(refused.value)


def change_json(file: Path, change) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def result_file(run: Path) -> Path:
    return next((run / "results").glob("*.json"))


def test_a_dry_run_shows_every_file_and_the_card_and_asks_nobody(run, capsys, monkeypatch):
    monkeypatch.setattr(upload.HfApi, "whoami", lambda *_: pytest.fail("the network was asked"))
    dry_run(run)
    shown, card = capsys.readouterr().out.split("\n---\n", 1)
    files = {line.split()[1] for line in shown.splitlines() if line.startswith("  ")} - {"bytes"}
    code = {path.name for path in (run / "model").glob("*.py")}
    beside = {"README.md", "config.json", "model.safetensors", "processor_config.json", "tokenizer.json"}
    assert files == code | beside | {"tokenizer_config.json", f"results/{result_file(run).name}"}
    assert "private repository ward/model" in shown
    # What eval keeps of films stays here.
    assert "results/zero_shot_findings.scores.safetensors" in shown
    assert "# model\n" in card
    assert card.endswith("dry run: nothing was sent\n")


def test_operating_points_are_kept_shown_and_checked(run, capsys):
    scores, targets, patients = simulated()
    point = choose_point(scores, targets, patients, RULES)
    sha256 = load_result(result_file(run)).provenance.model_sha256
    points = points_of({"Edema": point}, refused={"Mass": "3 positive films"}, model_sha256=sha256)
    points.save(run / "model" / POINTS_FILE)
    dry_run(run)
    shown, card = capsys.readouterr().out.split("\n---\n", 1)
    assert POINTS_FILE in {word for line in shown.splitlines() if line.startswith("  ") for word in line.split()}
    assert DO_NOT_TRAVEL in card
    sensitivity = point.sensitivity
    assert f"| {sensitivity.value:.3f} | {sensitivity.low:.3f} to {sensitivity.high:.3f} |" in card
    assert "None for these, which have fewer than 50 positive or negative films, or too few patients: Mass." in card
    replace(points, model_sha256="0123").save(run / "model" / POINTS_FILE)
    assert "were chosen with other weights" in refusal(run)
    replace(points, preprocessing={"do_resize": False}).save(run / "model" / POINTS_FILE)
    assert "were chosen on films prepared with do_resize False (now True)" in refusal(run)


def test_figures_that_belong_to_other_pixels_or_names_stay_here(run, finished_adapter, tmp_path):
    """The same weights are another model with another image processor, or with its outputs in another order."""
    CheXficientImageProcessor(96).save_pretrained(run / "model")
    assert "was measured with another image processor than that in" in refusal(run)
    adapter = copied(finished_adapter, tmp_path)
    result = load_result(result_file(adapter))
    first, second, *others = result.provenance.outputs
    turned = {str(number): name for number, name in enumerate([second, first, *others])}
    change_json(adapter / "adapter" / RECORD_FILE, lambda content: content["head"].update(id2label=turned))
    words = ["--uncommitted", "--base_repo", "ward/base"]
    assert f"was measured when its outputs were {[first, second, *others]}, in" in refusal(adapter, *words)
    # Evaluated again, the results are of the new names; what the run tells of its training is not.
    change_json(result_file(adapter), lambda content: content["provenance"].update(outputs=[second, first, *others]))
    assert "figures of its record are not theirs" in refusal(adapter, *words)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("pytorch_model.bin", "a pickle"),
        ("training_args.bin", "a pickle"),
        ("old/weights.pt", "a pickle"),
        ("weights.pth", "a pickle"),
        ("scores.PKL", "a pickle"),
        ("checkpoint-500/model.safetensors", "the state of a training"),
        ("optimizer.safetensors", "the state of a training"),
        ("trainer_state.json", "the state of a training"),
        ("film.png", "a picture or page"),
        ("curation_report.html", "a picture or page"),
        ("curated_subset.parquet", "a table"),
        ("skipped.jsonl", "a table"),
    ],
)
def test_what_has_no_place_beside_the_weights(run, name, what):
    file = run / "model" / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"x")
    message = refusal(run)
    assert f"model/{name.split('/')[0]}" in message
    assert what in message


def test_a_clean_folder_has_nothing_forbidden(finished):
    assert forbidden_files(finished / "model") == []


def test_whoever_publishes_is_told_of_closed_data_and_learnt_words(run, capsys):
    dry_run(run)
    assert "note:" not in capsys.readouterr().out
    change_json(run / "model" / "config.json", lambda config: config.update(pretraining_sources=["brax"]))
    dry_run(run)
    shown = capsys.readouterr().out
    assert "note: trained on data that are not open (brax)" in shown
    assert "note: the words of tokenizer.json were learnt from their reports" in shown


def test_what_is_no_weights_nor_code_stays_here(run, capsys):
    (run / "model" / "notes.txt").write_text("ours")
    dry_run(run)
    assert "model/notes.txt" in capsys.readouterr().out.split("stays here: ")[1]


def test_pickles_under_other_names_and_broken_weights(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(pickle.dumps({"a": 1}))
    save_file({"a": torch.ones(4)}, tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "broken.safetensors").write_bytes(whole[:-3])
    first, second = wrong_content(tmp_path)
    assert "broken.safetensors cannot be read" in first
    assert "tokenizer.json is a pickle" in second


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        (["seen in /home/ward/films"], "holds a local path"),
        (["C:\\films\\one"], "holds a local path"),
        (["\\\\pacs\\films"], "holds a local path"),
        (["/cluster/ward/films"], "holds a local path"),
        (["hf_" + "a1" * 15], "looks like an access token"),
    ],
)
def test_results_that_tell_of_the_machine(run, notes, message):
    change_json(result_file(run), lambda result: result.update(notes=notes))
    assert message in refusal(run)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("record_id", "synthetic/1", "field record_id holds an id"),
        ("patients_seen", {"patient_ids": [12]}, "field patient_ids holds an id"),
        ("patient_ids", {"p12": 0.3}, "field patient_ids holds an id"),
        ("mrn", "12", "field mrn holds an id"),
        ("examples", ["The heart is large and there is fluid on both sides, more on the right one."], "words"),
        ("undefined", [" ".join(["effusion"] * 90)], "90 words"),
    ],
)
def test_results_that_tell_too_much(run, tmp_path, field, value, message):
    # Where a record had such a field ...
    staged = tmp_path / "staged" / "results" / "findings.json"
    staged.parent.mkdir(parents=True)
    staged.write_text(json.dumps({"task": "zero_shot", field: value}))
    (problem,) = leaks(tmp_path / "staged")
    assert message in problem
    # ... and as things are: a record with a field that it should not have is not read at all.
    change_json(result_file(run), lambda result: result.update({field: value}))
    assert (message if field == "undefined" else f"unexpected keyword argument '{field}'") in refusal(run)


def test_reports_and_ids_of_the_training_data_are_found_and_not_repeated(run, tiny_corpus):
    film = pq.read_table(next((tiny_corpus / "data").glob("train*"))).slice(0, 1).to_pylist()[0]
    for column, value in (("record_id", f"see {film['record_id']}"), ("report", film["report"])):
        change_json(result_file(run), lambda result, value=value: result.update(notes=[value]))
        message = refusal(run)
        assert f"of the data (column {column})" in message
        assert film[column] not in message


def test_reports_and_ids_of_the_data_it_was_judged_on_are_found(run, films):
    rewrite_shards(films, record_id="elsewhere/1234", report="Small effusion on the left side only.")
    for value in ("elsewhere/1234", "Small effusion on the left side only."):

        def judged_there(result, value=value):
            result["provenance"]["dataset"], result["notes"] = str(films), [value]

        change_json(result_file(run), judged_there)
        message = refusal(run)
        assert "of the data (column" in message
        assert value not in message


def test_data_that_are_gone_are_told(run, films, capsys):
    change_json(result_file(run), lambda result: result["provenance"].update(dataset=str(films)))
    shutil.rmtree(films)
    dry_run(run)
    assert f"note: {films}: no longer here, so nobody looked" in capsys.readouterr().out


def test_regular_expressions_of_a_tokenizer_are_no_path(tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps({"Regex": r"[^\r\n\p{L}]?\s+|\S\d", "chat": "Q: a\nA: b"}))
    assert leaks(tmp_path) == []


def test_weights_of_closed_data_are_public_only_if_somebody_allowed_it(run):
    change_json(run / "model" / "config.json", lambda config: config.update(pretraining_sources=["brax", "st_mary"]))
    message = refusal(run, "--public", "--uncommitted")
    assert "--public: trained on data that are not open (brax, st_mary)" in message
    dry_run(run, "--uncommitted")
    dry_run(run, "--uncommitted", "--public", "--own_data_cleared_by", "A. Name, head of radiology")


def test_few_patients_of_closed_data_are_told(run, capsys):
    estimate = {"value": 0.5, "low": None, "high": None}
    group = {"attribute": "age", "value": "80 or more", "films": 4, "estimate": estimate}
    groups = [group | {"patients": number} for number in (30, 3)]
    change_json(result_file(run), lambda result: result.update(subgroups=groups))
    dry_run(run)
    assert "as few as" not in capsys.readouterr().out
    change_json(run / "model" / "config.json", lambda config: config.update(pretraining_sources=["st_mary"]))
    dry_run(run)
    assert "groups of as few as 3 patients" in capsys.readouterr().out


def test_code_without_heads_is_told(run, capsys):
    (run / "model" / "modeling_chexficient_heads.py").unlink()
    code = run / "model" / "modeling_chexficient.py"
    code.write_text("\n".join(line for line in code.read_text().splitlines() if "import HEADS" not in line))

    def forget_heads(config):
        auto_map = config["auto_map"]
        config["auto_map"] = {name: one for name, one in auto_map.items() if "heads" not in one}

    change_json(run / "model" / "config.json", forget_heads)
    dry_run(run)
    assert "without modeling_chexficient_heads.py" in capsys.readouterr().out


def test_a_base_whose_code_has_no_heads(monkeypatch):
    files = [SimpleNamespace(rfilename="model.safetensors", lfs=SimpleNamespace(sha256="ab"))]
    files += [SimpleNamespace(rfilename="prototypes.safetensors", lfs=SimpleNamespace(sha256="cd"))]
    info = SimpleNamespace(siblings=files, sha="0123456789abcdef")
    monkeypatch.setattr(upload.HfApi, "model_info", lambda *_, **__: info)
    monkeypatch.setattr(upload.HfApi, "whoami", lambda *_: {"name": "ward"})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub = upload.Hub("hf_" + "a" * 30)
    assert hub.commit_of("ward/base", "ab") == info.sha
    # Tensors beside the weights do not keep other weights from being told.
    with pytest.raises(upload.PublishError, match="holds other weights"):
        hub.commit_of("ward/base", "cd")
    with pytest.raises(upload.PublishError, match=r"without modeling_chexficient_heads\.py"):
        hub.commit_of("ward/base", "ab", code=HEADS_FILE)


def test_options_that_would_do_nothing(run, films):
    assert "--base_repo has no meaning for a base" in refusal(run, "--base_repo", "ward/base", "--uncommitted")
    assert "--prepared_from has no meaning for a base" in refusal(run, "--prepared_from", str(films), "--uncommitted")
    assert "--results has no meaning for a dataset" in refusal(films, "--results", str(run / "results"))


def test_a_path_in_the_configuration(run):
    change_json(run / "model" / "config.json", lambda config: config.update(tower="/mnt/weights/tower"))
    assert "config.json: holds a local path" in refusal(run)


def test_where_it_was_loaded_from_is_left_out(run, capsys):
    def spoil(config):
        config["_name_or_path"] = "/home/ward/base"
        config["vision_config"]["_name_or_path"] = "/home/ward/tower"

    change_json(run / "model" / "config.json", spoil)
    dry_run(run)
    assert "/home/ward" not in capsys.readouterr().out


def test_publishable_results_name_no_folder(finished):
    result = replace(load_result(result_file(finished)), adaptation=Adaptation("lora", base=str(finished)))
    published = publishable(result, "ward/model", "ward/base")
    assert (published.provenance.model, published.provenance.dataset) == ("ward/model", "data")
    assert "prompts" in result.provenance.settings
    assert "prompts" not in published.provenance.settings
    assert published.adaptation == Adaptation("lora", base="ward/base")
    assert result.adaptation.base == str(finished)


def test_code_that_is_missing(run):
    (run / "model" / "configuration_chexficient.py").unlink()
    message = refusal(run)
    assert "config.json refers to configuration_chexficient.py" in message
    assert "modeling_chexficient.py imports configuration_chexficient.py" in message


def test_runs_that_are_not_finished_judged_or_clean(run):
    change_json(run / "run.json", lambda content: content.update(git_commit="abc+changes"))
    assert "uncommitted changes" in refusal(run, "--public")
    change_json(run / "run.json", lambda content: content.update(git_commit="abc"))
    dry_run(run, "--public")
    other = load_file(run / "model" / "model.safetensors")
    save_file({name: value + 1 for name, value in other.items()}, run / "model" / "model.safetensors")
    assert "holds other weights than" in refusal(run)
    # Of a run of an early version.
    change_json(run / "run.json", lambda content: content.pop("weights_sha256"))
    assert "was measured on other weights" in refusal(run)
    shutil.rmtree(run / "results")
    assert "holds no result: evaluate the model first" in refusal(run)
    (run / "run.json").unlink()
    assert "is not a finished run" in refusal(run)
    assert "is not a finished run" in refusal(run / "model")
    assert "there is no such folder" in refusal(run / "nowhere")


def test_records_that_are_damaged_or_of_another_version(run):
    result, content = result_file(run), result_file(run).read_text()
    result.write_text("{")
    assert "is no JSON" in refusal(run)
    result.write_text(content)
    change_json(run / "run.json", lambda content: content.pop("schedule"))
    assert "lacks a value" in refusal(run)
    change_json(run / "run.json", lambda content: content.pop("selection"))
    assert "lacks a value" in refusal(run)
    (run / "run.json").write_text("{")
    assert "run.json is damaged" in refusal(run)


def test_all_problems_are_told_at_once(run):
    (run / "model" / "weights.pt").write_bytes(b"x")
    change_json(result_file(run), lambda result: result.update(notes=["~/films"]))
    message = refusal(run)
    assert "weights.pt" in message
    assert "holds a local path" in message


def test_an_adapter_needs_a_base_that_others_can_load(finished_adapter, capsys):
    message = refusal(finished_adapter)
    assert "publish that" in message
    assert "--base_repo" in message
    dry_run(finished_adapter, "--base_repo", "ward/base", "--uncommitted")
    shown = capsys.readouterr().out
    assert "base_model: ward/base" in shown
    assert str(finished_adapter.parent) not in shown


def test_an_adapter_with_a_pickle(finished_adapter, tmp_path):
    spoilt = copied(finished_adapter, tmp_path)
    (spoilt / "adapter" / "adapter_model.bin").write_bytes(pickle.dumps({}))
    assert "adapter/adapter_model.bin is a pickle" in refusal(spoilt, "--base_repo", "ward/base", "--uncommitted")


# Datasets.


@pytest.fixture
def films(tiny_corpus, tmp_path) -> Path:
    return copied(tiny_corpus, tmp_path)


def rewrite_shards(folder: Path, **columns) -> None:
    """Give every row of every shard other values; the summary then lists no checksums."""
    for shard in sorted((folder / "data").glob("*.parquet")):
        table = pq.read_table(shard)
        for name, value in columns.items():
            values = pa.array([value] * len(table), table.schema.field(name).type)
            table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), values)
        pq.write_table(table, shard)
    change_json(folder / "summary.json", lambda summary: summary.pop("sha256", None))


def made_by(folder: Path, loader: str, **options) -> None:
    change_json(folder / "summary.json", lambda summary: summary.update(loader=loader, source=loader, options=options))


def test_a_dataset_goes_as_it_was_prepared(films, capsys):
    dry_run(films, "--public")
    shown = capsys.readouterr().out
    for name in ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet", "summary.json"):
        assert name in shown
    assert "stays here: .prepare, duplicates.json, skipped.jsonl" in shown
    assert "public repository" in shown


@pytest.mark.parametrize("loader", ["mimic_cxr_jpg", "padchest"])
def test_closed_corpora_are_never_published(films, loader):
    made_by(films, loader)
    for words in (["--public"], ["--own_data_cleared_by", "A, head"], ["--uncommitted"]):
        assert f"holds films of {loader}, which is" in refusal(films, *words)
    # Nor under the name of another loader.
    rewrite_shards(films, source=loader)
    made_by(films, "synthetic")
    assert f"holds films of {loader}" in refusal(films)


def test_own_films_need_a_name_hashed_ids_and_stay_private(films, capsys):
    made_by(films, "folder", hash_ids=None)
    rewrite_shards(films, source="st_mary")
    message = refusal(films, "--public")
    for part in ("published in private only", "--own_data_cleared_by", "with --hash_ids"):
        assert part in message
    assert "st_mary" not in message
    made_by(films, "folder", hash_ids="(given, not stored)")
    dry_run(films, "--own_data_cleared_by", "A. Name, head of radiology")
    assert "note: summary.json has no checksums" in capsys.readouterr().out
    assert "--own_data_cleared_by" in refusal(films, "--own_data_cleared_by", " ")
    # A name that no loader has, in data that are not said to be one's own.
    made_by(films, "synthetic")
    assert "holds films of your own" in refusal(films)


def test_licences_that_do_not_allow_changed_copies(films):
    made_by(films, "open_i")
    assert "'CC BY-NC-ND 4.0', which does not clearly allow" in refusal(films, "--public")
    dry_run(films)


def test_changed_and_unfinished_datasets(films):
    shard = next((films / "data").glob("test*"))
    pq.write_table(pq.read_table(shard).slice(0, 5), shard)
    assert "was changed after it was prepared" in refusal(films)
    rewrite_shards(films, image={"bytes": b"x", "path": "patient_7.png"})
    assert "its images name the files they came from" in refusal(films)
    masks = [{"name": "heart", "image": {"bytes": b"x", "path": "patient_7_heart.png"}}]
    rewrite_shards(films, image={"bytes": b"x", "path": None}, masks=masks)
    assert "its images name the files they came from" in refusal(films)
    (films / "summary.json").unlink()
    assert "its preparation was not finished" in refusal(films)


def test_a_curated_dataset_is_as_free_as_what_it_was_chosen_from(finished, films, tmp_path, capsys):
    rows = torch.arange(10)
    curated = tmp_path / "curated"
    run = PretrainRun.load(finished)
    save_curated_dataset(datasets.load_dataset(str(films), split="train"), rows, run, curated)
    assert "--prepared_from" in refusal(curated)
    dry_run(curated, "--prepared_from", str(films))
    assert "| train | 10 |" in capsys.readouterr().out
    made_by(films, "brax")
    assert "holds films of brax" in refusal(curated, "--prepared_from", str(films))
    rewrite_shards(films, record_id="another/1")
    assert "10 records are in none of --prepared_from" in refusal(curated, "--prepared_from", str(films))


# The way to the Hub.


@pytest.fixture
def online(monkeypatch, tmp_path):
    """As if the network might be asked, at an address where nobody answers, without a token."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)


def push(folder: Path, *words: str) -> str:
    with pytest.raises(SystemExit) as refused:
        main([str(folder), "--repo", "ward/model", *words])
    return str(refused.value)


def test_without_network_or_token(finished, online, monkeypatch):
    assert push(finished) == "error: there is no token: run `hf auth login`, or set HF_TOKEN"
    message = push(finished, "--token", "hf_" + "a" * 30)
    assert message.startswith("error: http://127.0.0.1:9 cannot be reached")
    assert "hf_aaa" not in message
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in push(finished)


def test_a_token_that_may_only_read(finished, online, monkeypatch):
    user = {"name": "ward", "auth": {"accessToken": {"role": "read"}}}
    monkeypatch.setattr(upload.HfApi, "whoami", lambda *_: user)
    assert "the token may only read" in push(finished)


class Response:
    headers: dict = {}  # noqa: RUF012
    request = None

    def __init__(self, status: int):
        self.status_code = status


def test_what_passes_is_tried_again_and_what_does_not_is_not():
    calls = []

    def fail(*errors):
        def action():
            calls.append(1)
            if len(calls) <= len(errors):
                raise errors[len(calls) - 1]
            return "done"

        return action

    busy = HfHubHTTPError("busy", response=Response(503))
    assert retry(fail(busy, ConnectionError()), pause=0) == "done"
    assert len(calls) == 3
    calls.clear()
    with pytest.raises(HfHubHTTPError):
        retry(fail(HfHubHTTPError("no", response=Response(403))), pause=0)
    assert len(calls) == 1
    calls.clear()
    with pytest.raises(ConnectionError):
        retry(fail(*[ConnectionError()] * 9), pause=0)
    assert len(calls) == 4


def test_checks_find_nothing_in_an_empty_folder(tmp_path):
    assert leaks(tmp_path) == missing_code(tmp_path) == []


def test_a_sentence_of_our_own_code_is_nobodys_report_unless_somebody_wrote_there(tmp_path):
    pq.write_table(pa.table({"impression": [NORMAL]}), tmp_path / "rows.parquet")
    staged = tmp_path / "staged"
    staged.mkdir()
    code = Path(heat_maps_chexficient.__file__)
    shutil.copy(code, staged)
    assert ids_or_reports(staged, [tmp_path / "rows.parquet"]) == []
    (staged / code.name).write_text(code.read_text() + "\n# mine\n")
    (problem,) = ids_or_reports(staged, [tmp_path / "rows.parquet"])
    assert problem.startswith(f"{code.name} holds a report of the data (column impression)")
