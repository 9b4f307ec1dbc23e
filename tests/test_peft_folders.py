"""Adapter folders given straight to transformers: the model that was trained, or a refusal."""

import json
import shutil

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import (
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForSemanticSegmentation,
    Dinov2Model,
    pipeline,
)

from modeling_chexficient import (
    CheXficientForImageClassification,
    CheXficientImageProcessor,
    identify_base,
    load_adapter,
    save_adapter,
)
from tests.adapter_files import ATTENTION, CONVOLUTIONS, HIRA, TOWERS, make_adapter, pixels, save_base
from tests.warm import run_without_project

AUTO = {
    "image-classification": AutoModelForImageClassification,
    "semantic-segmentation": AutoModelForSemanticSegmentation,
}
WAYS = ["Auto class", "own class", "load_adapter", "pipeline"]
PIPELINES = {"image-classification": "image-classification", "semantic-segmentation": "image-segmentation"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def saved(base, tmp_path_factory) -> dict:
    """Adapters for findings and for structures."""
    root = tmp_path_factory.mktemp("adapters")
    labels = ("effusion", "edema", "mass")
    return {task: make_adapter(base, root / task, task, labels, **ATTENTION) for task in AUTO}


def give(way: str, task: str, folder, base):
    if way == "Auto class":
        return AUTO[task].from_pretrained(folder)
    if way == "own class":
        return type(load_adapter(folder).get_base_model()).from_pretrained(folder)
    if way == "load_adapter":
        model = AUTO[task].from_pretrained(base)
        model.load_adapter(str(folder))
        return model
    return pipeline(PIPELINES[task], model=str(folder)).model


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("task", AUTO)
@torch.no_grad()
def test_every_way_gives_the_model_as_trained(way, task, base, saved):
    model, right = give(way, task, saved[task].folder, base).eval(), load_adapter(saved[task].folder)
    torch.testing.assert_close(model(pixel_values=pixels()).logits, saved[task].logits, rtol=1e-5, atol=1e-5)
    for field in ("id2label", "label2id", "num_labels", "problem_type", "image_pooling", "clip_logits"):
        assert getattr(model.config, field) == getattr(right.config, field), field


@torch.no_grad()
def test_a_loaded_adapter_is_saved_with_its_record(saved, tmp_path):
    """transformers saves its two files alone, from which another head would be built."""
    adapter = saved["semantic-segmentation"]
    AutoModelForSemanticSegmentation.from_pretrained(adapter.folder).save_pretrained(tmp_path)
    model = AutoModelForSemanticSegmentation.from_pretrained(tmp_path).eval()
    assert list(model.config.id2label.values()) == ["effusion", "edema", "mass"]
    torch.testing.assert_close(model(pixel_values=pixels()).logits, adapter.logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_pooling_and_problem_type_as_trained(way, base, saved, tmp_path):
    folder = tmp_path / "adapter"
    make_adapter(base, folder, labels=("a", "b"), **ATTENTION)
    record = json.loads((folder / "chexficient_adapter.json").read_text())
    record["head"] |= {"image_pooling": "normalized", "problem_type": "single_label_classification"}
    (folder / "chexficient_adapter.json").write_text(json.dumps(record))
    model, right = give(way, "image-classification", folder, base).eval(), load_adapter(folder)
    assert (model.config.image_pooling, model.config.problem_type) == ("normalized", "single_label_classification")
    torch.testing.assert_close(model(pixel_values=pixels()).logits, right(pixel_values=pixels()).logits)


@torch.no_grad()
def test_a_convolutional_tower(tmp_path):
    base = save_base(tmp_path / "model", "resnet")
    adapter = make_adapter(base, tmp_path / "adapter", "semantic-segmentation", **CONVOLUTIONS)
    for way in WAYS:
        model = give(way, "semantic-segmentation", adapter.folder, base).eval()
        torch.testing.assert_close(model(pixel_values=pixels()).logits, adapter.logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_magnitudes_of_dora(way, base, tmp_path):
    """transformers itself does not find them by the names that PEFT saves."""
    adapter = make_adapter(base, tmp_path / "adapter", **ATTENTION, use_dora=True)
    model = give(way, "image-classification", adapter.folder, base).eval()
    torch.testing.assert_close(model(pixel_values=pixels()).logits, adapter.logits, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_hira_as_trained(base, tmp_path):
    adapter = make_adapter(base, tmp_path / "adapter", labels=("a", "b", "c"), **HIRA)
    for way in WAYS:
        model = give(way, "image-classification", adapter.folder, base).eval()
        torch.testing.assert_close(model(pixel_values=pixels()).logits, adapter.logits, rtol=1e-5, atol=1e-5)


def test_pipelines_show_the_names_and_probabilities(base, saved):
    film = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8))
    folder = saved["image-classification"].folder
    found = pipeline("image-classification", model=str(folder))(film)
    inputs = CheXficientImageProcessor.from_pretrained(folder)(film, return_tensors="pt")
    expected = load_adapter(folder)(**inputs).logits.sigmoid()[0].tolist()
    assert {entry["label"]: entry["score"] for entry in found} == pytest.approx(
        dict(zip(("effusion", "edema", "mass"), expected, strict=True)), abs=1e-5
    )


def test_what_an_adapter_does_not_fit_is_refused(base, saved, tmp_path):
    findings, structures = saved["image-classification"].folder, saved["semantic-segmentation"].folder
    for auto, folder in (
        (AutoModelForSemanticSegmentation, findings),
        (AutoModelForImageClassification, structures),
        (AutoModel, findings),
    ):
        with pytest.raises(ValueError, match=r"is an adapter for .* load it with AutoModelFor"):
            auto.from_pretrained(folder)
    other = save_base(tmp_path / "other", seed=9)
    with pytest.raises(ValueError, match=r"was trained on the vision tower of .* the weights differ"):
        AutoModelForImageClassification.from_pretrained(other).load_adapter(str(findings))
    make_adapter(base, tmp_path / "two", labels=("a", "b"), **ATTENTION)
    model = AutoModelForImageClassification.from_pretrained(findings)
    with pytest.raises(ValueError, match="another head than the adapters on this model"):
        model.load_adapter(str(tmp_path / "two"), adapter_name="two")


@pytest.mark.parametrize("way", ["Auto class", "load_adapter"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 99}, "it is of format 99, this code reads up to 1"),
        ({"head": {"num_labels": 3, "attention_rank": 4}}, "trained with newer code .* there is no attention_rank"),
        ({"head": {"image_pooling": "attention"}}, "trained with newer code .* image_pooling must be one of"),
    ],
)
def test_adapters_of_newer_code_are_refused(way, changes, message, base, saved, tmp_path):
    folder = shutil.copytree(saved["image-classification"].folder, tmp_path / "adapter")
    record = folder / "chexficient_adapter.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | changes))
    with pytest.raises(ValueError, match=message):
        give(way, "image-classification", folder, base)


@torch.no_grad()
def test_in_half_precision_the_base_is_still_looked_at(base, saved, tmp_path):
    """In fp16 the weights in memory have another hash; an adapter must not run on a base that was changed since."""
    adapter = saved["image-classification"]
    right = AutoModelForImageClassification.from_pretrained(adapter.folder, dtype=torch.float16).eval()
    torch.testing.assert_close(right(pixel_values=pixels().half()).logits.float(), adapter.logits, rtol=0.1, atol=0.1)
    folder = shutil.copytree(adapter.folder, tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(save_base(tmp_path / "changed", seed=9))
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"was trained on the vision tower of .* the weights differ"):
        AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float16)


def test_an_adapter_of_a_plain_tower_is_no_classifier_of_transformers(tmp_path):
    torch.manual_seed(0)
    Dinov2Model(TOWERS["dinov2"]).save_pretrained(tmp_path / "tower")
    model = CheXficientForImageClassification.from_vision_pretrained(str(tmp_path / "tower"), num_labels=2)
    for name, targets in (("names", ["q_proj"]), ("pattern", ATTENTION["target_modules"])):
        peft_model = get_peft_model(model, LoraConfig(r=2, target_modules=targets, modules_to_save=["classifier"]))
        save_adapter(peft_model, tmp_path / name, identify_base(tmp_path / "tower"), "image-classification")
        model = peft_model.unload()
        with pytest.raises((ValueError, RuntimeError), match=r"No modules were targeted|mismatched"):
            AutoModelForImageClassification.from_pretrained(tmp_path / name)


SCRIPT = """
import json, sys
import torch
import transformers as hf

adapter, base, pixels = sys.argv[1:]
trust = {"trust_remote_code": True}
direct = hf.AutoModelForImageClassification.from_pretrained(adapter, **trust).eval()
later = hf.AutoModelForImageClassification.from_pretrained(base, **trust)
later.load_adapter(adapter)
run = hf.pipeline("image-classification", model=adapter, **trust)
with torch.no_grad():
    logits = [model.eval()(torch.load(pixels)).logits.tolist() for model in (direct, later, run.model)]
head = hf.AutoModelForImageClassification.from_pretrained(base, **trust)
head.save_pretrained("head")
hf.AutoImageProcessor.from_pretrained(base, **trust).save_pretrained("head")
try:
    hf.pipeline("image-feature-extraction", model="head", **trust)
    refused = ""
except ValueError as error:
    refused = str(error)
result = {"module": type(direct).__module__, "logits": logits, "labels": run.model.config.id2label, "refused": refused}
print("RESULT" + json.dumps(result))
"""


def test_remote_code_does_the_same(base, saved, tmp_path):
    torch.save(pixels(), tmp_path / "pixels.pt")
    adapter = saved["image-classification"]
    done = run_without_project(SCRIPT, [adapter.folder, base, tmp_path / "pixels.pt"], tmp_path / "place")
    result = json.loads(done.stdout.split("RESULT")[1])
    assert result["module"].startswith("transformers_modules.")
    assert list(result["labels"].values()) == ["effusion", "edema", "mass"]
    for logits in result["logits"]:
        torch.testing.assert_close(torch.tensor(logits), adapter.logits, rtol=1e-5, atol=1e-5)
    assert "logits of CheXficientForImageClassification as features" in result["refused"]
