"""Folders saved by an earlier version load, and say what they said then.

`golden/former_folders` was written by commit 0622a1c, before the configuration's field `decoder` became `mask_decoder`
and adapter folders could be given to auto classes: a base, a head of each kind, two adapters and a report model, all of
random weights; `expected.safetensors` holds what each said of `pixels()` at that commit.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForImageTextToText,
    AutoModelForSemanticSegmentation,
    AutoProcessor,
)

from modeling_chexficient import CheXficientProcessor
from modeling_chexficient.adapters_chexficient import AdapterSet, load_adapter
from tests.adapter_files import pixels

FOLDERS = Path(__file__).parent / "golden" / "former_folders"
BASE = FOLDERS / "base"
EXPECTED = load_file(FOLDERS / "expected.safetensors")


@torch.no_grad()
def test_a_model_and_its_processor():
    model = AutoModel.from_pretrained(BASE).eval()
    output = model(pixel_values=pixels(), input_ids=torch.tensor([[2, 5, 6, 3]]))
    for name in ("image_embeds", "text_embeds"):
        torch.testing.assert_close(output[name], EXPECTED[name])
    processor = AutoProcessor.from_pretrained(BASE)
    assert isinstance(processor, CheXficientProcessor)
    assert processor(text="no edema")["input_ids"].tolist() == [[2, 5, 6, 3]]


@torch.no_grad()
@pytest.mark.parametrize(
    ("folder", "auto_class"),
    [
        ("image-classification", AutoModelForImageClassification),
        ("semantic-segmentation", AutoModelForSemanticSegmentation),
    ],
)
def test_heads(folder, auto_class, tmp_path):
    model = auto_class.from_pretrained(FOLDERS / folder).eval()
    torch.testing.assert_close(model(pixels()).logits, EXPECTED[folder])
    assert model.config.id2label == {0: "effusion", 1: "edema"}
    # And what they are saved as now.
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(auto_class.from_pretrained(tmp_path)(pixels()).logits, EXPECTED[folder])


@torch.no_grad()
@pytest.mark.parametrize("folder", ["findings", "structures"])
@pytest.mark.filterwarnings("ignore:.*code")
def test_adapters(folder):
    torch.testing.assert_close(load_adapter(FOLDERS / folder, BASE)(pixel_values=pixels()).logits, EXPECTED[folder])
    adapters = AdapterSet(BASE)
    adapters.add(FOLDERS / folder, folder)
    torch.testing.assert_close(adapters.activate(folder)(pixels()).logits, EXPECTED[folder])


@torch.no_grad()
def test_a_report_model():
    model = AutoModelForImageTextToText.from_pretrained(FOLDERS / "report").eval()
    torch.testing.assert_close(model(input_ids=torch.arange(4).unsqueeze(0)).logits, EXPECTED["report"])
    processor = AutoProcessor.from_pretrained(FOLDERS / "report")
    assert processor.tokenizer("no edema")["input_ids"] == [4, 5]
