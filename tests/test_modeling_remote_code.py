"""Saved folders load with trust_remote_code in a process that cannot import the package, and with it by default."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor, BertConfig, BertTokenizer, Dinov2Config, pipeline

from modeling_chexficient import (
    CheXficientConfig,
    CheXficientImageProcessor,
    CheXficientModel,
    CheXficientProcessor,
)
from tests.dicom_files import write_dicom
from tests.warm import run_without_project

LABELS = ["pneumonia", "no pneumonia"]
SCRIPT = """
import json, sys
import torch
from PIL import Image
import transformers as hf

folder, again = sys.argv[1:]
trust = {"trust_remote_code": True}
config = hf.AutoConfig.from_pretrained(folder, **trust)
model = hf.AutoModel.from_pretrained(folder, **trust)
zero_shot = hf.AutoModelForZeroShotImageClassification.from_pretrained(folder, **trust)
processor = hf.AutoProcessor.from_pretrained(folder, **trust)
image_processor = hf.AutoImageProcessor.from_pretrained(folder, **trust)
image = Image.open(folder + "/film.png")
labels = ["pneumonia", "no pneumonia"]
inputs = processor(images=image, text=labels)
assert torch.equal(inputs["pixel_values"], image_processor(image, return_tensors="pt")["pixel_values"])
classify = hf.pipeline("zero-shot-image-classification", model=folder, **trust)
model.save_pretrained(again)
processor.save_pretrained(again)
with torch.no_grad():
    result = {
        "modules": [type(thing).__module__ for thing in (config, model, zero_shot, processor, image_processor)],
        "logits": model(**inputs).logits_per_image.tolist(),
        "zero_shot": zero_shot(**inputs).logits_per_image.tolist(),
        "dicom": image_processor(folder + "/film.dcm")["pixel_values"][0].tolist(),
        "pipeline": classify(image, candidate_labels=labels, hypothesis_template="{}"),
    }
print("RESULT" + json.dumps(result))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CheXficientConfig(
        Dinov2Config(**sizes, image_size=28, patch_size=14),
        BertConfig(**sizes, vocab_size=50, intermediate_size=32, max_position_embeddings=16),
        projection_dim=8,
    )
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "pneumonia"]
    tokenizer = BertTokenizer(vocab={word: n for n, word in enumerate(words)}, model_max_length=16)
    path = tmp_path_factory.mktemp("saved") / "tiny-chexficient"
    CheXficientModel(config).save_pretrained(path)
    CheXficientProcessor(CheXficientImageProcessor(28), tokenizer).save_pretrained(path)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
    Image.fromarray(pixels).save(path / "film.png")
    write_dicom(path / "film.dcm", np.tile(pixels, (1, 2)), PhotometricInterpretation="MONOCHROME1")
    return path


@torch.no_grad()
def test_remote_code_equals_the_package(folder, tmp_path):
    done = run_without_project(SCRIPT, [folder, tmp_path / "again"], tmp_path)
    result = json.loads(done.stdout.split("RESULT")[1])
    assert all(module.startswith("transformers_modules.") for module in result["modules"])

    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    image = Image.open(folder / "film.png")
    logits = model(**processor(images=image, text=LABELS)).logits_per_image
    torch.testing.assert_close(torch.tensor(result["logits"]), logits)
    pixels = processor(images=folder / "film.dcm")["pixel_values"][0]
    torch.testing.assert_close(torch.tensor(result["dicom"]), pixels)
    torch.testing.assert_close(torch.tensor(result["zero_shot"]), logits)
    scores = {entry["label"]: entry["score"] for entry in result["pipeline"]}
    torch.testing.assert_close(torch.tensor([[scores[label] for label in LABELS]]), logits.softmax(-1))

    # What remote code saves is again a complete folder.
    names = {path.name for path in (tmp_path / "again").iterdir()}
    assert names == {path.name for path in folder.iterdir()} - {"film.png", "film.dcm"}
    reloaded = AutoModel.from_pretrained(tmp_path / "again")
    assert torch.equal(reloaded.logit_scale, model.logit_scale)
    saved = json.loads((tmp_path / "again" / "config.json").read_text())["auto_map"]
    assert saved == json.loads((folder / "config.json").read_text())["auto_map"]


@torch.no_grad()
@pytest.mark.parametrize("trust_remote_code", [None, False, True])
def test_the_package_wins_over_the_code_in_the_folder(folder, trust_remote_code):
    classify = pipeline("zero-shot-image-classification", model=str(folder), trust_remote_code=trust_remote_code)
    assert isinstance(classify.model, CheXficientModel)
    assert isinstance(classify.image_processor, CheXficientImageProcessor)
    image = Image.open(folder / "film.png")
    entries = classify(image, candidate_labels=LABELS, hypothesis_template="{}")
    logits = classify.model(**AutoProcessor.from_pretrained(folder)(images=image, text=LABELS)).logits_per_image
    scores = torch.tensor([[next(e["score"] for e in entries if e["label"] == label) for label in LABELS]])
    torch.testing.assert_close(scores, logits.softmax(-1))


def test_feature_extraction_pipeline(folder):
    extract = pipeline("image-feature-extraction", model=str(folder))
    features = torch.tensor(extract(Image.open(folder / "film.png")))
    assert features.shape == (1, 8)
    torch.testing.assert_close(features.norm(), torch.tensor(1.0))
