"""Less memory for the same gradients: checkpointing with adapters, and LoRA that holds its input alone."""

import copy
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Dinov2Config

from modeling_chexficient import CheXficientConfig, CheXficientForImageClassification
from modeling_chexficient.base_identity_chexficient import identify_base
from tests import adaptation
from tests.adaptation import film, read_arguments, save_base, words, write_corpus
from tests.published_runs import save_tiny_language_model
from train.adapt.__main__ import build_task, build_trainer
from train.adapt.lean_lora import DropoutLinear, save_memory
from train.runs.memory import peak_bytes

DEEP = Dinov2Config(
    hidden_size=32, num_hidden_layers=8, num_attention_heads=2, mlp_ratio=4, patch_size=14, image_size=adaptation.SIDE
)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    towers, adaptation.TOWERS = adaptation.TOWERS, adaptation.TOWERS | {"deep": DEEP}
    try:
        return save_base(tmp_path_factory.mktemp("base") / "model", "deep")
    finally:
        adaptation.TOWERS = towers


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    texts = ("No effusion. Normal heart.", "Large disc on the left. No effusion.")
    rows = [film(number, report=texts[number % 2]) for number in range(24)]
    return write_corpus(tmp_path_factory.mktemp("corpus") / "discs", train=rows[:16], validation=rows[16:])


def trained(base, corpus, out: Path, task: str, *more: str):
    """What two steps made of the weights, the gradients of a third, and the most that it held."""
    if task == "report_generation":
        save_tiny_language_model(out.with_name("language"))
        more = (*more, "--language_model", str(out.with_name("language")), "--max_text_length", "24")
    elif task == "classification":
        more = (*more, "--head_start", "random")
    arguments = read_arguments(*words(task, base, corpus, out, "--max_steps", "2", *more))
    task_of_run = build_task(arguments, arguments.data.read())
    trainer = build_trainer(arguments, task_of_run, identify_base(base))
    trainer.train()
    weights = {name: one.detach().clone() for name, one in trainer.model.named_parameters() if one.requires_grad}
    batch = task_of_run.collate([task_of_run.train_dataset[number] for number in range(16)])
    torch.manual_seed(0)
    peak = peak_bytes(
        lambda: trainer.training_step(trainer.model, batch, task_of_run.judged(batch, 0)), torch.device("cpu")
    )
    return weights, {name: one.grad for name, one in trainer.model.named_parameters() if one.requires_grad}, peak


@pytest.mark.parametrize("task", ["classification", "segmentation", "report_generation"])
def test_checkpointing_changes_no_gradient_and_holds_less(task, base, corpus, tmp_path):
    more = ["--adapt_tower", "true"] if task == "report_generation" else []
    weights, gradients, peak = trained(base, corpus, tmp_path / "plain", task, *more)
    more += ["--gradient_checkpointing", "true"]
    again, same, less = trained(base, corpus, tmp_path / "checkpointing", task, *more)
    assert any(".lora_B." in name and one.abs().max() > 0 for name, one in gradients.items())
    for name, gradient in gradients.items():
        torch.testing.assert_close(again[name], weights[name], rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(same[name], gradient, rtol=1e-5, atol=1e-7)
    # A decoder, which is not computed again, holds most of what segmentation does.
    assert less < (0.95 if task == "segmentation" else 0.9) * peak


def test_a_frozen_tower_is_not_run_backwards(base, corpus, tmp_path):
    """transformers would ask for the gradient of its patches, for checkpointing of another kind."""
    arguments = words("report_generation", base, corpus, tmp_path / "run", "--gradient_checkpointing", "true")
    save_tiny_language_model(tmp_path / "language")
    arguments = read_arguments(*arguments, "--language_model", str(tmp_path / "language"))
    task = build_task(arguments, arguments.data.read())
    trainer = build_trainer(arguments, task, identify_base(base))
    graphs = []

    def note(module, inputs, output):
        if torch.is_grad_enabled():
            graphs.append(output[0].requires_grad)

    trainer.tower.register_forward_hook(note)
    trainer.train()
    assert graphs
    assert not any(graphs)


def test_the_other_kind_of_checkpointing_is_refused(base, corpus, tmp_path):
    command = words("classification", base, corpus, tmp_path, "--gradient_checkpointing", "true")
    with pytest.raises(ValueError, match="use_reentrant gives layers on frozen inputs no gradient"):
        read_arguments(*command, "--gradient_checkpointing_kwargs", '{"use_reentrant": true}')


def held_bytes(model: nn.Module, inputs: dict) -> int:
    """Of what autograd saves in a forward pass beside parameters."""
    held: dict[int, int] = {}

    def pack(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(**inputs)
    parameters = {one.untyped_storage().data_ptr() for one in model.parameters()}
    return sum(size for place, size in held.items() if place not in parameters)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_lean_lora_is_peft_s_own_lora_to_the_last_bit(dropout):
    torch.manual_seed(0)
    config = CheXficientConfig(DEEP, num_labels=3, problem_type="multi_label_classification")
    plain = get_peft_model(
        CheXficientForImageClassification(config),
        LoraConfig(r=4, lora_dropout=dropout, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"]),
    )
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.1)
    lean = copy.deepcopy(plain)
    save_memory(lean)
    assert sum(isinstance(module, DropoutLinear) for module in lean.modules()) == 16
    assert lean.state_dict().keys() == plain.state_dict().keys()
    inputs = {"pixel_values": torch.randn(4, 3, 56, 56), "labels": torch.ones(4, 3)}
    results = []
    for model in (plain, lean):
        torch.manual_seed(1)
        loss = model.train()(**inputs).loss
        loss.backward()
        results.append((loss, {name: one.grad for name, one in model.named_parameters() if one.grad is not None}))
        held = held_bytes(model, inputs)
        results[-1] += (held,)
        results[-1] += (model.eval()(**inputs).logits,)
    (loss, gradients, held, logits), (same, others, fewer, again) = results
    assert torch.equal(loss, same)
    assert torch.equal(logits, again)
    assert gradients.keys() == others.keys()
    assert all(torch.equal(gradients[name], others[name]) for name in gradients)
    assert fewer < (0.85 * held if dropout else held + 1)
