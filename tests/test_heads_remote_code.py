"""One folder serves every task, with the package and, by remote code, in a process that cannot import it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForSemanticSegmentation,
    AutoProcessor,
    BertConfig,
    BertTokenizer,
    Dinov2Config,
    pipeline,
)

from modeling_chexficient import (
    CheXficientConfig,
    CheXficientForImageClassification,
    CheXficientForSemanticSegmentation,
    CheXficientImageProcessor,
    CheXficientModel,
    CheXficientProcessor,
)
from tests.warm import run_without_project

CODE_FILES = {
    "configuration_chexficient.py",
    "decoders_chexficient.py",
    "heat_maps_chexficient.py",
    "image_processing_chexficient.py",
    "image_processing_chexficient_masks.py",
    "image_processing_chexficient_pixels.py",
    "modeling_chexficient_heads.py",
    "modeling_chexficient_losses.py",
    "spatial_features_chexficient.py",
    "towers_chexficient.py",
}
STRUCTURES = {0: "lungs", 1: "heart", 2: "tube"}
FINDINGS = {0: "edema", 1: "mass"}
SCRIPT = """
import json, sys
import torch
from PIL import Image
import transformers as hf

whole, classifier, segmenter, film, again = sys.argv[1:]
trust = {"trust_remote_code": True}
image = Image.open(film)
pixels = hf.AutoImageProcessor.from_pretrained(whole, **trust)(image, return_tensors="pt")["pixel_values"]
result = {"classes": [], "logits": [], "heat_maps": [], "pipelines": {}}
with torch.no_grad():
    for auto, folder in (
        (hf.AutoModel, whole),
        (hf.AutoModelForZeroShotImageClassification, whole),
        (hf.AutoModelForImageClassification, whole),
        (hf.AutoModelForSemanticSegmentation, whole),
        (hf.AutoModelForImageClassification, classifier),
        (hf.AutoModel, classifier),
        (hf.AutoModelForSemanticSegmentation, segmenter),
        (hf.AutoModel, segmenter),
    ):
        model = auto.from_pretrained(folder, **trust)
        result["classes"].append([type(model).__module__.split(".")[0], type(model).__name__])
        if folder != whole:
            result["logits"].append(model(pixels).logits.tolist())
        if hasattr(model, "heat_maps"):
            asked = model.config.id2label[0] if hasattr(model, "classifier") else "edema"
            (found,) = model.heat_maps(hf.AutoProcessor.from_pretrained(folder, **trust), image, [asked])
            result["heat_maps"].append([*found.shape, found[0, 20, 15].item()])
    hf.AutoModelForImageClassification.from_pretrained(classifier, **trust).save_pretrained(again)
    for task, folder in (
        ("image-classification", classifier),
        ("zero-shot-image-classification", whole),
        ("image-feature-extraction", whole),
        ("image-segmentation", segmenter),
    ):
        run = hf.pipeline(task, model=folder, **trust)
        arguments = {"candidate_labels": ["edema", "mass"]} if task.startswith("zero") else {}
        if task == "image-segmentation":
            arguments = {"threshold": 0.5, "overlap_mask_area_threshold": 0.0}
        found = run(image, **arguments)
        if task == "image-segmentation":
            found = [{**one, "mask": sum(one["mask"].tobytes()) // 255} for one in found]
        result["pipelines"][task] = found
print("RESULT" + json.dumps(result))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A whole model and two heads on its tower, each with its processor, and a film."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("saved")
    sizes = {"hidden_size": 16, "num_hidden_layers": 5, "num_attention_heads": 2}
    config = CheXficientConfig(
        Dinov2Config(**sizes, image_size=28, patch_size=14),
        BertConfig(**sizes, vocab_size=50, intermediate_size=32, max_position_embeddings=16),
        projection_dim=8,
    )
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "edema", "mass"]
    tokenizer = BertTokenizer(vocab={word: n for n, word in enumerate(words)}, model_max_length=16)
    CheXficientModel(config).save_pretrained(root / "whole")
    CheXficientProcessor(CheXficientImageProcessor(28), tokenizer).save_pretrained(root / "whole")
    image_processor = AutoImageProcessor.from_pretrained(root / "whole")
    heads = {
        "classifier": (AutoModelForImageClassification, FINDINGS),
        "segmenter": (AutoModelForSemanticSegmentation, STRUCTURES),
    }
    for name, (auto, labels) in heads.items():
        model = auto.from_pretrained(root / "whole", id2label=labels, problem_type="multi_label_classification")
        model.save_pretrained(root / name)
        image_processor.save_pretrained(root / name)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "film.png")
    return {name: root / name for name in ("whole", "classifier", "segmenter", "film.png")}


@pytest.fixture(scope="module")
def remote(folders, tmp_path_factory) -> dict:
    """What a process without the package gets out of the folders."""
    place = tmp_path_factory.mktemp("remote")
    done = run_without_project(SCRIPT, [*folders.values(), place / "again"], place)
    return {**json.loads(done.stdout.split("RESULT")[1]), "again": place / "again"}


def test_every_auto_class_finds_its_code_in_the_folder(remote):
    classifier, segmenter = "CheXficientForImageClassification", "CheXficientForSemanticSegmentation"
    names = ["CheXficientModel", "CheXficientModel", classifier, segmenter, classifier, classifier]
    assert remote["classes"] == [["transformers_modules", name] for name in [*names, segmenter, segmenter]]


@torch.no_grad()
def test_remote_heads_equal_the_package(remote, folders):
    pixels = CheXficientImageProcessor(28)(Image.open(folders["film.png"]), return_tensors="pt")["pixel_values"]
    for name, logits in zip(("classifier", "classifier", "segmenter", "segmenter"), remote["logits"], strict=True):
        torch.testing.assert_close(torch.tensor(logits), AutoModel.from_pretrained(folders[name])(pixels).logits)


def test_auto_model_gives_what_a_folder_holds(folders):
    kinds = {
        "whole": CheXficientModel,
        "classifier": CheXficientForImageClassification,
        "segmenter": CheXficientForSemanticSegmentation,
    }
    for name, kind in kinds.items():
        assert type(AutoModel.from_pretrained(folders[name])) is kind
    assert type(AutoModel.from_config(CheXficientConfig.from_pretrained(folders["whole"]))) is CheXficientModel


def test_heat_maps_by_remote_code_equal_the_package(folders, remote):
    """Of the whole model, twice; of a new head on it; of the classifier, twice."""
    film, values = Image.open(folders["film.png"]), []
    for name, auto, asked in (("whole", AutoModel, "edema"), ("classifier", AutoModel, FINDINGS[0])):
        model = auto.from_pretrained(folders[name])
        (found,) = model.heat_maps(AutoProcessor.from_pretrained(folders[name]), film, [asked])
        assert found.shape == (1, 40, 30)
        values.append([1, 40, 30, found[0, 20, 15].item()])
    whole, _, *classifier = remote["heat_maps"][1:]
    for found, expected in (
        (remote["heat_maps"][0], values[0]),
        (whole, values[0]),
        *((one, values[1]) for one in classifier),
    ):
        assert found == pytest.approx(expected, rel=1e-4)
    assert len(classifier) == 2


def test_folders_hold_all_the_code_and_name_no_class_they_cannot_serve(folders, remote):
    for name in ("whole", "classifier", "segmenter"):
        assert {path.name for path in folders[name].glob("*.py")} >= CODE_FILES
        # The whole model builds on the heads, not they on it.
        assert (folders[name] / "modeling_chexficient.py").exists() == (name == "whole")
        assert not list(folders[name].glob("*adapter*"))
    auto_map = json.loads((folders["segmenter"] / "config.json").read_text())["auto_map"]
    assert set(auto_map) == {"AutoConfig", "AutoModel", "AutoModelForSemanticSegmentation"}
    # What remote code saves is again a complete folder.
    # Of the files of the image processor, that of pixels comes with the heat maps.
    saved = {path.name for path in remote["again"].iterdir() if not path.name.startswith("image_processing")}
    assert saved == {
        path.name
        for path in folders["classifier"].iterdir()
        if "processor" not in path.name and not path.name.startswith("image_processing")
    }
    assert (remote["again"] / "image_processing_chexficient_pixels.py").is_file()
    assert type(AutoModel.from_pretrained(remote["again"])) is CheXficientForImageClassification


@pytest.mark.parametrize(
    ("task", "folder"),
    [
        ("image-classification", "classifier"),
        ("zero-shot-image-classification", "whole"),
        ("image-feature-extraction", "whole"),
        ("image-segmentation", "segmenter"),
    ],
)
def test_pipelines_with_and_without_the_package(task, folder, folders, remote, monkeypatch):
    asked = []
    monkeypatch.setattr("builtins.input", lambda question="": asked.append(question) or "n")
    run = pipeline(task, model=str(folders[folder]))
    arguments = {"candidate_labels": ["edema", "mass"]} if task.startswith("zero") else {}
    if task == "image-segmentation":
        arguments = {"threshold": 0.5, "overlap_mask_area_threshold": 0.0}
    found = run(Image.open(folders["film.png"]), **arguments)
    if task == "image-segmentation":
        assert {one["label"] for one in found} <= set(STRUCTURES.values())
        assert found
        assert all(one["mask"].size == (30, 40) for one in found)
        found = [{**one, "mask": sum(one["mask"].tobytes()) // 255} for one in found]
    assert not asked
    if task == "image-classification":
        # Of findings that may occur together each has its own probability.
        logits = run.model(run.image_processor(Image.open(folders["film.png"]), return_tensors="pt")["pixel_values"])
        expected = dict(zip(FINDINGS.values(), logits.logits.sigmoid()[0].tolist(), strict=True))
        assert {one["label"]: one["score"] for one in found} == pytest.approx(expected)
    assert _close(found, remote["pipelines"][task])


def _close(ours, theirs) -> bool:
    """Nested lists and dicts that agree up to rounding."""
    if isinstance(ours, dict):
        return set(ours) == set(theirs) and all(_close(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(_close(*pair) for pair in zip(ours, theirs, strict=True))
    return ours == theirs if isinstance(ours, str) else ours == pytest.approx(theirs, abs=1e-6)
