"""Adapters, heads and run folders behind the one interface, and the runners judging what they predict."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset, DatasetDict, Features, Value
from datasets import Image as HubImage
from peft import LoraConfig, get_peft_model
from PIL import Image
from sklearn.metrics import roc_auc_score
from tokenizers.processors import TemplateProcessing

from data_scripts.features import FEATURES
from data_scripts.prepared.folder import load_prepared
from data_scripts.prepared.masks import central_square
from eval.artifacts import load_artifact
from eval.benchmarks import Benchmark
from eval.models.adapted import FindingsModel, StructuresModel
from eval.models.load import load_evaluation_model
from eval.records.results import ProbeResult, load_result
from eval.scores import ZeroShotScores, scores_path
from eval.settings import EvaluationSettings
from eval.studies.models import compare_results
from eval.tasks.dice import dice, overlaps
from eval.tasks.disease_prediction import run as predict
from eval.tasks.report_generation import run as write
from eval.tasks.segmentation import run as segment
from modeling_chexficient import (
    CheXficientConfig,
    CheXficientForImageClassification,
    CheXficientForSemanticSegmentation,
    CheXficientImageProcessor,
    CheXficientModel,
    CheXficientProcessor,
)
from modeling_chexficient.adapters_chexficient import save_adapter
from modeling_chexficient.base_identity_chexficient import identify_base
from tests.run_records import adapt_run, pretrain_run
from tests.tiny_models import SIDE, TEXT, VISION, tiny_tokenizer
from tests.warm import run_python

LABELS = {0: "Nodule", 1: "Edema", 2: "Mass"}
STRUCTURES = {0: "heart", 1: "box", 2: "disc"}
BENCHMARK = Benchmark("findings", 1, "disease_prediction", "siim_acr", labels=("Edema", "Nodule"))
TEXTS = dict.fromkeys(("patient_id", "record_id"), Value("string"))
SETTINGS = EvaluationSettings(resamples=30, batch_size=5)
FILMS = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (70, 60), np.uint8)) for n in range(3)]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A whole CheXficient folder."""
    folder = tmp_path_factory.mktemp("base") / "model"
    tower = {name: value for name, value in VISION.items() if name != "intermediate_size"}
    torch.manual_seed(0)
    config = CheXficientConfig(
        {**tower, "model_type": "dinov2"}, {"model_type": "bert", **TEXT}, projection_dim=8,
        pretraining_sources=["synthetic"],
    )  # fmt: skip
    CheXficientModel(config).save_pretrained(folder)
    CheXficientProcessor(CheXficientImageProcessor(SIDE), tiny_tokenizer()).save_pretrained(folder)
    return folder


def make_head(
    base: Path, task: str, seed: int = 1, names: dict | None = None, problem_type: str = "multi_label_classification"
):
    """A head on the tower of the base, and an adapter on it with weights other than 0."""
    kind, own_names, extra = {
        "image-classification": (CheXficientForImageClassification, LABELS, {}),
        "semantic-segmentation": (CheXficientForSemanticSegmentation, STRUCTURES, {"mask_decoder": "linear"}),
    }[task]
    names = names or own_names
    labels = {"id2label": names, "label2id": {name: number for number, name in names.items()}}
    torch.manual_seed(seed)
    model = kind.from_pretrained(base, problem_type=problem_type, **labels, **extra).eval()
    head = "classifier" if task == "image-classification" else "decode_head"
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], modules_to_save=[head]))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name or head in name:
                weight.normal_(std=0.5)
    return adapted.eval()


@pytest.fixture(scope="module")
def run_folder(base, tmp_path_factory):
    """A run of train.adapt by task: an adapter, and what was recorded of its training."""
    root = tmp_path_factory.mktemp("runs")

    def get(task: str, name: str = "run", names: dict | None = None, **changes) -> Path:
        folder = root / task / name
        if not folder.is_dir():
            seed = sum(map(ord, name))
            save_adapter(
                make_head(base, task, seed, names), folder / "adapter", identify_base(str(base)), task,
                CheXficientImageProcessor(SIDE),
            )  # fmt: skip
            of_base = {"task": task, "base": dataclasses.asdict(identify_base(str(base)))}
            defaults = {"label_share": 0.1, "seed": 3, "sources": ["nih_chestxray14"]}
            adapt_run(**of_base | defaults | changes).write(folder)
        return folder

    return get


@pytest.fixture(scope="module")
def films() -> DatasetDict:
    """Two films a patient with a judgement of two labels; some test patients are in training, too."""

    def make(split: str, patients: int, first: int) -> Dataset:
        generator, rows = np.random.default_rng(first), []
        for number in range(2 * patients):
            image = Image.fromarray(generator.integers(0, 256, (60, 70), np.uint8))
            labels = [{"name": name, "value": int(generator.integers(0, 2))} for name in ("Edema", "Nodule", "Gout")]
            labels[0]["value"] = -1 if number % 7 == 0 else labels[0]["value"]
            rows.append(
                {
                    "image": image, "labels": labels, "patient_id": str(first + number // 2),
                    "record_id": f"{split}/{number}", "view": "PA" if number % 2 else "AP", "source": "nih_chestxray14",
                }
            )  # fmt: skip
        return Dataset.from_list(rows)

    return DatasetDict(train=make("train", 6, 0), validation=make("validation", 4, 100), test=make("test", 20, 3))


def test_an_adapter_is_judged_by_its_own_logits(base, run_folder):
    """Whether the run, or the adapter in it, is named: the logits are those of the adapted model itself."""
    folder = run_folder("image-classification")
    model = load_evaluation_model(str(folder))
    assert isinstance(model, FindingsModel)
    assert model.label_names == list(LABELS.values())
    pixels = model.pixels(FILMS)
    torch.testing.assert_close(pixels, CheXficientImageProcessor(SIDE)(FILMS, return_tensors="pt")["pixel_values"])
    with torch.no_grad():
        expected = make_head(base, "image-classification", sum(map(ord, "run")))(pixel_values=pixels).logits
        plain = CheXficientModel.from_pretrained(base).eval().vision_model(pixel_values=pixels).pooler_output
    torch.testing.assert_close(model.predict_labels(pixels), expected)
    # Its features are those of the adapted tower, not of the base's.
    assert (model.tower_features(pixels) - F.normalize(plain, dim=-1)).abs().max() > 1e-3
    assert model.name == str(folder / "adapter")
    assert model.pretraining_sources == ["synthetic"]
    assert (model.adaptation.method, model.adaptation.label_share, model.adaptation.train_films) == ("lora", 0.1, 24)
    assert model.adaptation.base_sha256 == identify_base(str(base)).weights_sha256
    alone = load_evaluation_model(str(folder / "adapter"))
    torch.testing.assert_close(alone.predict_labels(pixels), expected)
    assert alone.adaptation == model.adaptation
    assert alone.identity == model.identity


def test_a_base_that_was_moved_is_named_anew_and_another_refused(base, run_folder, tmp_path):
    shutil.copytree(run_folder("image-classification") / "adapter", tmp_path / "adapter")
    shutil.copytree(base, tmp_path / "moved")
    config = json.loads((tmp_path / "adapter" / "chexficient_adapter.json").read_text())
    config["base"]["name"] = str(tmp_path / "gone")
    (tmp_path / "adapter" / "chexficient_adapter.json").write_text(json.dumps(config))
    with pytest.raises(OSError, match="gone"):
        load_evaluation_model(str(tmp_path / "adapter"))
    model = load_evaluation_model(str(tmp_path / "adapter"), base=str(tmp_path / "moved"))
    assert model.adaptation.method == "head"
    other = CheXficientModel.from_pretrained(base)
    with torch.no_grad():
        next(other.vision_model.parameters()).add_(1)
    other.save_pretrained(tmp_path / "moved")
    with pytest.raises(ValueError, match=r"gone .*the weights differ"):
        load_evaluation_model(str(tmp_path / "adapter"), base=str(tmp_path / "moved"))


def test_a_whole_head_in_a_run_or_alone(base, tmp_path):
    model = make_head(base, "semantic-segmentation", problem_type="single_label_classification").merge_and_unload()
    run = tmp_path / "run"
    model.save_pretrained(run / "model")
    CheXficientImageProcessor(SIDE).save_pretrained(run / "model")
    alone = load_evaluation_model(str(run / "model"))
    assert isinstance(alone, StructuresModel)
    assert (alone.adaptation.method, alone.adaptation.base) == ("head", None)
    adapt_run(method="full").write(run)
    assert load_evaluation_model(str(run)).adaptation.method == "full"
    pixels = alone.pixels(FILMS)
    logits = alone.predict_masks(pixels)
    torch.testing.assert_close(logits, model(pixel_values=pixels).logits.detach())
    # Exactly one class is right: inside is where it leads.
    decided, enlarged = alone.decide(logits, 90), F.interpolate(logits, (90, 90), mode="bilinear")
    assert torch.equal((decided > 0).sum(dim=1), torch.ones(3, 90, 90, dtype=torch.int64))
    assert torch.equal((decided > 0).float().argmax(dim=1), enlarged.argmax(dim=1))


def test_a_run_of_pretraining_is_its_model(base, tmp_path):
    shutil.copytree(base, tmp_path / "run" / "model")
    pretrain_run().write(tmp_path / "run")
    model = load_evaluation_model(str(tmp_path / "run"))
    assert model.sees_text
    assert model.adaptation is None
    shutil.rmtree(tmp_path / "run" / "model")
    with pytest.raises(ValueError, match="its training did not finish"):
        load_evaluation_model(str(tmp_path / "run"))


def test_heads_that_no_benchmark_judges_are_refused(base, tmp_path):
    model = make_head(base, "image-classification", problem_type="regression").merge_and_unload()
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="estimates numbers"):
        load_evaluation_model(str(tmp_path))
    model.config.problem_type = "single_label_classification"
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="lacks its image processor"):
        load_evaluation_model(str(tmp_path))
    CheXficientImageProcessor(SIDE).save_pretrained(tmp_path)
    one_of_all = load_evaluation_model(str(tmp_path))
    scores = one_of_all.predict_labels(one_of_all.pixels(FILMS))
    torch.testing.assert_close(scores.exp().sum(dim=1), torch.ones(3))


def test_logits_are_matched_by_name_and_kept_for_comparison(run_folder, films, tmp_path):
    """The head's order is another than the benchmark's."""
    model = load_evaluation_model(str(run_folder("image-classification")))
    result = predict(BENCHMARK, model, films, dataclasses.replace(SETTINGS, out=tmp_path))
    logits = model.predict_labels(model.pixels(films["test"]["image"])).numpy()
    for label, column in zip(result.shares[0].labels, (1, 0), strict=True):
        values = [next(one["value"] for one in row if one["name"] == label.name) for row in films["test"]["labels"]]
        judged = np.isin(values, (0, 1))
        assert label.films == judged.sum()
        expected = roc_auc_score(np.array(values)[judged], logits[judged, column])
        assert label.auroc.value == pytest.approx(expected), label.name
    (share,) = result.shares
    assert (result.method, result.features, share.label_share, share.seeds) == ("lora", None, 0.1, [3])
    assert (share.training_films, share.training_patients, share.regularisation) == ([24], [12], [])
    assert result.headline == ("macro AUROC, lora, 10% of labels", share.macro)
    assert result.adaptation == model.adaptation
    assert [(group.value, group.films) for group in result.subgroups] == [("AP", 20), ("PA", 20)]
    result.save(tmp_path / "findings.json")
    assert load_result(tmp_path / "findings.json") == result
    scores = ZeroShotScores.load(scores_path(tmp_path / "findings.json"), result.scores_sha256)
    np.testing.assert_allclose(scores.scores, logits[:, [1, 0]], atol=1e-6)


def test_what_the_head_saw_stands_beside_the_figure(run_folder, films, tmp_path):
    model = load_evaluation_model(str(run_folder("image-classification")))
    result = predict(BENCHMARK, model, films, SETTINGS)
    assert result.notes == [
        "The model was adapted before (lora) on 24 films of 12 patients (10% of the labels).",
        "It was adapted to nih_chestxray14, which may hold films of this benchmark.",
        "3 of 20 evaluated patients have films in split 'train' too.",
    ]
    assert result.provenance.seen_sources == ["nih_chestxray14"]
    films["test"].select(range(8)).to_parquet(tmp_path / "data" / "train.parquet")
    model.training_folders = [str(tmp_path / "data"), str(tmp_path / "gone")]
    told = predict(BENCHMARK, model, films, SETTINGS)
    assert told.notes[2:] == ["4 of 20 evaluated patients have films in the split that the model was adapted to."]
    # What a benchmark's own training split is for needs no warning.
    own = dataclasses.replace(BENCHMARK, dataset="nih_chestxray14")
    assert predict(own, model, films, SETTINGS).provenance.seen_sources == []


def test_labels_that_a_head_lacks(run_folder, films):
    model = load_evaluation_model(str(run_folder("image-classification")))
    asked = dataclasses.replace(BENCHMARK, labels=("Edema", "Gout"))
    with pytest.raises(ValueError, match=r"does not give \['Gout'\], which findings evaluates: its labels are \["):
        predict(asked, model, films, SETTINGS)
    whatever = predict(dataclasses.replace(BENCHMARK, labels=()), model, films, SETTINGS)
    assert [label.name for label in whatever.shares[0].labels] == ["Edema", "Nodule"]
    assert whatever.undefined == ["Gout"]
    assert whatever.notes[0] == "The head does not give these labels of the data: Gout."
    only_gout = films.map(lambda row: {"labels": [one for one in row["labels"] if one["name"] == "Gout"]})
    with pytest.raises(ValueError, match="does not give"):
        predict(dataclasses.replace(BENCHMARK, labels=()), model, only_gout, SETTINGS)
    ill = films["test"].filter(lambda row: all(one["value"] == 1 for one in row["labels"][:2]))
    with pytest.raises(ValueError, match="there is no AUROC"):
        predict(BENCHMARK, model, DatasetDict({**films, "test": ill}), SETTINGS)


def test_methods_are_compared_on_the_same_films(run_folder, films, tmp_path):
    paths, results = [], []
    for name, method in (("run", "lora"), ("other", "linear")):
        model = load_evaluation_model(str(run_folder("image-classification", name, method=method)))
        results.append(predict(BENCHMARK, model, films, dataclasses.replace(SETTINGS, out=tmp_path / name)))
        paths.append(tmp_path / name / "findings.json")
        results[-1].save(paths[-1])
    difference = compare_results(*paths, resamples=20, seed=0).difference
    expected = results[0].shares[0].macro.value - results[1].shares[0].macro.value
    assert difference.macro.value == pytest.approx(expected)
    assert expected != 0


def row(number: int, side: int = 40) -> dict:
    generator = np.random.default_rng(number)
    y, x = np.mgrid[:side, : side + 6]
    disc = (y - generator.uniform(8, 30)) ** 2 + (x - generator.uniform(8, 30)) ** 2 < 60
    film = (generator.normal(60, 6, disc.shape) + 120 * disc).clip(0, 255).astype(np.uint8)
    unknown = np.where(np.arange(disc.shape[1])[None] < 4, 127, np.uint8(255) * disc).astype(np.uint8)
    masks = [{"name": "disc", "image": Image.fromarray(unknown)}]
    return {"image": Image.fromarray(film), "masks": masks, "patient_id": str(number // 2), "record_id": str(number)}


def test_masks_are_judged_in_the_films_own_resolution(run_folder, tmp_path):
    """By channel name, in the film's central square, without the pixels that nobody judged; nothing is trained."""
    rows = [row(number) for number in range(8)]
    columns = Features({"image": HubImage(), "masks": FEATURES["masks"], **TEXTS})
    splits = DatasetDict(test=Dataset.from_list(rows, features=columns))
    discs = Benchmark("discs", 1, "segmentation", structures={"disc": ("disc",)})
    model = load_evaluation_model(str(run_folder("semantic-segmentation")))
    result = segment(discs, model, splits, dataclasses.replace(SETTINGS, out=tmp_path, show_films=True))
    counts = []
    for one in rows:
        square, mask = central_square(one["image"]), np.asarray(central_square(one["masks"][0]["image"]))
        logits = model.predict_masks(model.pixels([square]))
        found = F.interpolate(logits, square.size, mode="bilinear")[0, 2].numpy() > 0
        counts.append(overlaps(found, mask))
    (structure,) = result.structures
    expected = dice(np.stack(counts))
    assert structure.dice.value == pytest.approx(expected.mean(), abs=1e-6)
    assert 0 < structure.dice.value < 1
    assert (structure.decoder, structure.films, result.decoders) == ("lora", 8, {})
    assert result.headline == ("mean Dice, lora", result.macro_dice["lora"])
    assert result.adaptation.method == "lora"
    arrays, values = load_artifact(tmp_path, "discs")
    np.testing.assert_allclose(arrays["dice_lora"][:, 0], expected, atol=1e-6)
    assert arrays["patients"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert values["decoder"] == "lora"
    lacking = dataclasses.replace(discs, structures={"lungs": ("disc",)})
    with pytest.raises(ValueError, match=r"does not outline \['lungs'\], which discs evaluates: its structures are"):
        segment(lacking, model, splits, SETTINGS)


def test_older_results_are_of_embeddings(tmp_path, films, base):
    """Results say what probes saw; those that did not were of the embeddings."""
    model = load_evaluation_model(str(base))
    settings = dataclasses.replace(SETTINGS, label_shares=(1.0,))
    of_tower = predict(BENCHMARK, model, films, settings)
    of_embedding = predict(BENCHMARK, model, films, dataclasses.replace(settings, probe_features="embedding"))
    assert (of_tower.features, of_embedding.features) == ("tower", "embedding")
    assert of_tower.provenance.settings["probe_features"] == "tower"
    assert of_tower.shares[-1].macro.value != of_embedding.shares[-1].macro.value
    of_embedding.save(tmp_path / "probe.json")
    values = json.loads((tmp_path / "probe.json").read_text())
    del values["features"], values["adaptation"]
    (tmp_path / "probe.json").write_text(json.dumps(values))
    assert ProbeResult.load(tmp_path / "probe.json") == of_embedding
    with pytest.raises(ValueError, match="probe_features 'patches' are unknown"):
        EvaluationSettings(probe_features="patches")


def test_an_adapter_on_a_report_model(base, tmp_path, films):
    """The base was put together by the run itself and is found beside the adapter, wherever the run is moved."""
    from modeling_chexficient.modeling_chexficient_report import CheXficientForReportGeneration

    tokenizer = tiny_tokenizer()
    # A prompt is continued: no end behind it.
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("[BOS] $A", special_tokens=[("[BOS]", 1)])
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model, processor = CheXficientForReportGeneration.from_vision_language(
        str(base), {"model_type": "llama", "max_position_embeddings": 64, **sizes}, tokenizer
    )
    run = tmp_path / "run"
    model.save_pretrained(run / "base")
    processor.save_pretrained(run / "base")
    lora = LoraConfig(r=2, target_modules=r".*language_model.*\.(q_proj|v_proj)", init_lora_weights=False)
    adapted = get_peft_model(model, lora).eval()
    identity = identify_base(str(run / "base"))
    save_adapter(adapted, run / "adapter", identity, "report-generation", processor)
    task = "report-generation"
    adapt_run(task=task, base=dataclasses.asdict(identity), train_films=7, train_patients=7).write(run)
    run.rename(tmp_path / "moved")
    generator = load_evaluation_model(str(tmp_path / "moved"))
    assert (generator.adaptation.method, generator.adaptation.train_films) == ("lora", 7)
    generator.max_new_tokens = 4
    inputs = processor(images=FILMS[:1], text=generator.prompt, return_tensors="pt")
    tokens = adapted.generate(**inputs, do_sample=False, max_new_tokens=4)[:, inputs["input_ids"].shape[1] :]
    assert generator.generate(FILMS[:1]) == [processor.tokenizer.decode(tokens[0], skip_special_tokens=True).strip()]
    written = films.map(lambda row: {"report": "There is edema."})
    result = write(Benchmark("reports", 1, "report_generation"), generator, written, SETTINGS)
    assert result.adaptation.method == "lora"
    assert "The model was adapted before (lora) on 7 films of 7 patients (100% of the labels)." in result.notes


def test_two_processes_judge_heads_as_one(run_folder, tiny_corpus, tmp_path):
    """Findings, structures, and what is fitted on the towers of adapted models beside them."""
    known = load_prepared(str(tiny_corpus), ("labels",))["test"]["labels"][0]
    labels = dict(enumerate(one["name"] for one in known[:4]))
    models = [
        run_folder("image-classification", "of-synthetic", labels),
        run_folder("semantic-segmentation", "of-synthetic", {0: "heart", 1: "right_lung", 2: "left_lung"}),
    ]
    words = ["-m", "eval.run", "--suite", "synthetic", "--limit", "30", "--resamples", "20", "--batch_size", "8"]
    words += ["--decoder_epochs", "1", "--label_shares", "1", "--data", str(tiny_corpus), "--model", *map(str, models)]
    for processes, out in ((1, "one"), (2, "two")):
        done = run_python([*words, "--out", str(tmp_path / out)], processes=processes)
        assert done.returncode == 0, done.stderr[-3000:]
    paths = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").glob("*/*.json"))
    judged = [str(path) for path in paths if path.parent.name != "artifacts"]
    for path in judged:
        values = [json.loads((tmp_path / out / path).read_text()) for out in ("one", "two")]
        for one in values:
            for name in ("seconds", "processes"):
                del one["provenance"][name]
        assert values[0] == values[1], path
    methods = {path: load_result(tmp_path / "two" / path).adaptation.method for path in judged}
    tasks = ("synthetic_probe", "synthetic_segmentation", "synthetic_reports")
    assert len(methods) == 2 * len(tasks)
    table = (tmp_path / "two" / "table.md").read_text()
    assert "| synthetic_probe | macro AUROC | 30 |" in table
    assert "(lora, 10% of labels) PARTIAL (seen) |" in table
    assert "(100% of labels) PARTIAL (seen) |" in table
    assert set(methods.values()) == {"lora"}
