"""The published size (ViT-B/14 at 378 px) with LoRA: one training step of each head, saved and loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, resource, sys, tempfile, time
from pathlib import Path
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForImageClassification, AutoModelForSemanticSegmentation, BertConfig
from modeling_chexficient import CheXficientConfig, CheXficientModel, identify_base, load_adapter, save_adapter

torch.manual_seed(0)
work = Path(sys.argv[1])
text = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16)
CheXficientModel(CheXficientConfig(text_config=text)).save_pretrained(work / "base")
base = identify_base(str(work / "base"))
result = {}
for task, auto, head, labels in (
    ("image-classification", AutoModelForImageClassification, "classifier", torch.randint(0, 2, (1, 14)).float()),
    ("semantic-segmentation", AutoModelForSemanticSegmentation, "decode_head", torch.randint(0, 2, (1, 14, 378, 378))),
):
    model = auto.from_pretrained(work / "base", num_labels=14, problem_type="multi_label_classification")
    size = model.vision_model.config.image_size
    lora = LoraConfig(r=8, lora_alpha=32, target_modules=r"vision_model.*(q_proj|v_proj)", modules_to_save=[head])
    model = get_peft_model(model, lora).train()
    trainable, total = model.get_nb_trainable_parameters()
    optimiser = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad])
    pixels, start = torch.randn(1, 3, size, size), time.time()
    before = model(pixel_values=pixels, labels=labels).loss
    before.backward()
    optimiser.step()
    seconds = time.time() - start
    optimiser.zero_grad()
    model.eval()
    with torch.no_grad():
        logits = model(pixel_values=pixels).logits
    save_adapter(model, work / task, base, task)
    del model, optimiser
    again = load_adapter(work / task).eval()
    with torch.no_grad():
        same = torch.equal(again(pixel_values=pixels).logits, logits)
    del again
    files = sum(path.stat().st_size for path in (work / task).glob("adapter_model.safetensors"))
    result[task] = {
        "loss": before.item(), "size": size, "same": same, "trainable": trainable, "share": trainable / total,
        "adapter_bytes": files, "seconds": seconds,
    }
result["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print("RESULT" + json.dumps(result))
"""


@pytest.mark.slow
def test_one_step_of_each_head_at_the_published_size(tmp_path):
    """In a process of its own, whose memory is its own."""
    pytest.importorskip("peft")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=1200, check=False
    )
    assert "RESULT" in done.stdout, done.stderr[-3000:]
    result = json.loads(done.stdout.split("RESULT")[1])
    print(result)
    assert result["peak_gib"] < 4
    for task in ("image-classification", "semantic-segmentation"):
        assert result[task]["size"] == 378
        assert result[task]["same"]
        assert result[task]["share"] < 0.02
        assert result[task]["adapter_bytes"] < 8e6
