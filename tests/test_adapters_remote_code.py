"""The lines of a card load adapters with peft and transformers alone, in a process that cannot import this package."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoImageProcessor, AutoModel

from modeling_chexficient import CheXficientForImageClassification
from modeling_chexficient.adapters_chexficient import identify_base, load_adapter, loading_snippet, save_adapter
from modeling_chexficient.tasks_chexficient import TASKS_ON_THE_HUB
from tests.adapter_files import (
    ATTENTION,
    CONVOLUTIONS,
    HIRA,
    make_adapter,
    make_report_model,
    pixels,
    save_base,
    shake,
)
from tests.tiny_models import save_tiny_model
from tests.warm import run_python, run_without_project

SCRIPT = """
import json, sys
snippet, inputs, result = sys.argv[1:]
exec(open(snippet).read())
import torch
from safetensors.torch import load_file
with torch.no_grad():
    logits = model(**load_file(inputs)).logits
things = model.get_base_model(), getattr(processor, "image_processor", processor)
modules = [type(thing).__module__ for thing in things]
json.dump({"logits": logits.tolist(), "modules": modules, "processor": type(processor).__name__}, open(result, "w"))
"""


def run_snippet(snippet, inputs, folder) -> dict:
    (folder / "snippet.py").write_text(snippet)
    save_file(inputs, folder / "inputs.safetensors")
    files = [folder / name for name in ("snippet.py", "inputs.safetensors", "result.json")]
    run_without_project(SCRIPT, files, folder, ("modeling_chexficient", "train", "eval", "data_scripts"))
    return json.loads(files[-1].read_text())


@pytest.mark.parametrize(
    ("task", "kind", "lora"),
    [
        ("image-classification", "dinov2", {**ATTENTION, "use_dora": True}),
        ("semantic-segmentation", "dinov2", ATTENTION),
        ("image-classification", "vit", HIRA),
        ("image-classification", "dinov2", {}),
        ("semantic-segmentation", "resnet", CONVOLUTIONS),
    ],
)
def test_heads(tmp_path, task, kind, lora):
    base = save_base(tmp_path / "model", kind)
    saved = make_adapter(base, tmp_path / "adapter", task, ("left lung", 'the "heart"', "tube"), **lora)
    result = run_snippet(loading_snippet(saved.folder), {"pixel_values": pixels()}, tmp_path)
    assert all(module.startswith("transformers_modules.") for module in result["modules"])
    assert result["processor"] == type(AutoImageProcessor.from_pretrained(saved.folder)).__name__
    torch.testing.assert_close(torch.tensor(result["logits"]), saved.logits, rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_report_model(tmp_path):
    model, processor = make_report_model(save_base(tmp_path / "model"))
    model.save_pretrained(tmp_path / "report")
    processor.save_pretrained(tmp_path / "report")
    config = LoraConfig(
        r=2, target_modules=r".*language_model.*\.(q_proj|v_proj)", modules_to_save=["multi_modal_projector"]
    )
    peft_model = get_peft_model(model, config)
    shake(peft_model, trainable_only=True)
    tokens = torch.tensor([[1] + [processor.image_token_id] * 4 + [5]])
    inputs = {"input_ids": tokens, "pixel_values": pixels()[:1], "attention_mask": torch.ones_like(tokens)}
    expected = peft_model.eval()(**inputs).logits
    save_adapter(peft_model, tmp_path / "adapter", identify_base(tmp_path / "report"), "report-generation", processor)

    assert torch.equal(load_adapter(tmp_path / "adapter", task="report-generation")(**inputs).logits, expected)
    snippet = loading_snippet(tmp_path / "adapter")
    assert "AutoModelForImageTextToText" in snippet
    result = run_snippet(snippet, inputs, tmp_path)
    torch.testing.assert_close(torch.tensor(result["logits"]), expected, rtol=0, atol=1e-5)

    # A run that made its own base has it beside the adapter, wherever it was moved to.
    (tmp_path / "moved").mkdir()
    (tmp_path / "report").rename(tmp_path / "moved" / "base")
    (tmp_path / "adapter").rename(tmp_path / "moved" / "adapter")
    assert torch.equal(load_adapter(tmp_path / "moved" / "adapter")(**inputs).logits, expected)


@pytest.mark.parametrize(
    ("task", "field", "value"),
    [
        ("semantic-segmentation", "mask_decoder", "image_unet"),
        ("image-classification", "image_pooling", "patches"),
    ],
)
def test_a_base_whose_code_is_too_old_for_the_head(tmp_path, task, field, value):
    """As if `value` had come later than the code that lies beside the base."""
    base = save_base(tmp_path / "model")
    code = base / "configuration_chexficient.py"
    code.write_text(code.read_text().replace(f'"{value}"', '"of_old"'))
    with pytest.warns(UserWarning, match=f"which does not know {field}='{value}': without this package"):
        saved = make_adapter(base, tmp_path / "adapter", task, head={field: value})
    # So that the lines of the card work.
    assert "load_adapter" in loading_snippet(saved.folder)
    script = """
import sys, transformers
auto_model = getattr(transformers, sys.argv[1])
try:
    auto_model.from_pretrained(sys.argv[2], trust_remote_code=True)
except ValueError as error:
    print(error)
"""
    auto_model = TASKS_ON_THE_HUB[task].auto_model
    message = run_without_project(script, [auto_model, saved.folder], tmp_path).stdout
    assert f"{saved.folder} was trained with newer code" in message
    assert f"not '{value}'" in message
    # What the warning tells to do.
    AutoModel.from_pretrained(base).save_pretrained(base)
    assert "PeftModel" in loading_snippet(saved.folder)
    assert not run_without_project(script, [auto_model, saved.folder], tmp_path).stdout


def test_models_without_adapters_need_no_peft():
    code = (
        "import sys; sys.modules['peft'] = None; import modeling_chexficient as m; m.identify_base; "
        "import modeling_chexficient.adapters_chexficient"
    )
    done = run_python(["-c", code])
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_a_snippet_says(tmp_path):
    saved = make_adapter(save_base(tmp_path / "model"), tmp_path / "adapter", **ATTENTION)
    record = saved.folder / "chexficient_adapter.json"
    fields = json.loads(record.read_text())
    fields["base"] |= {"name": "clinic/base", "revision": "abc123"}
    record.write_text(json.dumps(fields))
    snippet = loading_snippet(saved.folder, "clinic/findings")
    compile(snippet, "snippet", "exec")
    assert str(tmp_path) not in snippet
    for words in ("'clinic/base',\n    revision='abc123'", "PeftModel.from_pretrained(base, 'clinic/findings')"):
        assert words in snippet


def test_a_plain_tower_needs_the_package(tmp_path):
    save_tiny_model("dinov2", tmp_path / "tower")
    head = CheXficientForImageClassification.from_vision_pretrained(str(tmp_path / "tower"), num_labels=2)
    peft_model = get_peft_model(head, LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"]))
    save_adapter(peft_model, tmp_path / "adapter", identify_base(tmp_path / "tower"), "image-classification")
    names = {}
    exec(loading_snippet(tmp_path / "adapter"), names)
    with torch.no_grad():
        assert torch.equal(
            names["model"](pixel_values=pixels()).logits, peft_model.eval()(pixel_values=pixels()).logits
        )
