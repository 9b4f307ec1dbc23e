"""LoRA as published for chest films (arXiv 2401.12215): the same layers as PEFT's, and the same share of weights."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import ViTConfig

from modeling_chexficient import CheXficientConfig
from modeling_chexficient.modeling_chexficient_heads import CheXficientForImageClassification
from tests.test_adapt_methods import FINDINGS, head, train_a_little
from train.adapt.arguments import MethodArguments
from train.adapt.methods import apply_method, count_trainable

#: Percent of the weights that are trained, by rank, on ViT-B/16 with the 14 findings of NIH, as the paper prints them.
PUBLISHED = {4: 0.19, 8: 0.36, 16: 0.69, 32: 1.37}


@pytest.mark.parametrize(("rank", "percent"), PUBLISHED.items())
def test_the_share_of_the_weights_is_the_published_one(rank, percent):
    config = CheXficientConfig(ViTConfig(), num_labels=14, problem_type="multi_label_classification")
    with torch.device("meta"):
        model = apply_method(CheXficientForImageClassification(config), FINDINGS, MethodArguments(rank=rank))
    counted = count_trainable(model)
    # q and v of 12 blocks, the final norm, the head.
    assert counted.trainable == 12 * 2 * 2 * 768 * rank + 2 * 768 + 14 * 769
    assert round(100 * counted.share, 2) == pytest.approx(percent, abs=0.011)


@pytest.mark.parametrize("kind", ["vit", "dinov2", "clip"])
def test_ours_is_plain_lora_of_peft(kind):
    ours = apply_method(head(kind), FINDINGS, MethodArguments(rank=4, dropout=0.0))
    q, v = ("q_proj", "v_proj") if kind == "clip" else ("query", "value")
    norm = next(name for name, _ in head(kind).named_modules() if name.endswith(("layernorm", "post_layernorm")))
    names = [name for name, _ in head(kind).named_modules() if name.endswith((q, v, "q_proj", "v_proj"))]
    plain = LoraConfig(r=4, lora_alpha=32, lora_dropout=0.0, target_modules=names, modules_to_save=["classifier", norm])
    theirs = get_peft_model(head(kind), plain)
    assert [name for name, one in ours.named_parameters() if one.requires_grad] == [
        name for name, one in theirs.named_parameters() if one.requires_grad
    ]
    theirs.load_state_dict(ours.state_dict())
    for model in (ours, theirs):
        torch.manual_seed(0)
        train_a_little(model)
    mine, other = ours.state_dict(), theirs.state_dict()
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert any("lora_B" in name and mine[name].any() for name in mine)
