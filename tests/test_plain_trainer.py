"""`transformers.Trainer`, as users call it, on our models: resuming and the best model restore every tensor."""

import json

import pytest
import torch
from transformers import AutoConfig, PretrainedConfig, Trainer, TrainingArguments, default_data_collator

from modeling_chexficient import (
    CheXficientConfig,
    CheXficientForImageClassification,
    CheXficientForSemanticSegmentation,
    CheXficientModel,
    towers_chexficient,
)
from modeling_chexficient.adapter_files_chexficient import AdapterRecord
from tests.adapter_files import make_report_model, save_base, shake

TWO = {"id2label": {0: "effusion", 1: "edema"}, "problem_type": "multi_label_classification"}
PIXELS = torch.linspace(-1, 1, 3 * 28 * 28).unflatten(0, (3, 28, 28))
ROWS = {
    "classification": {"pixel_values": PIXELS, "labels": torch.tensor([1.0, 0.0])},
    "segmentation": {"pixel_values": PIXELS, "labels": torch.ones(2, 28, 28, dtype=torch.long)},
    "dual": {"pixel_values": PIXELS, "input_ids": torch.tensor([2, 5, 6, 3])},
}


def build(kind: str, base):
    if kind == "classification":
        return CheXficientForImageClassification.from_pretrained(base, **TWO)
    if kind == "segmentation":
        return CheXficientForSemanticSegmentation.from_pretrained(base, mask_decoder="unet", **TWO)
    return CheXficientModel.from_pretrained(base) if kind == "dual" else make_report_model(base)[0]


def trainer_of(model, folder, kind="dual", **arguments) -> Trainer:
    shared = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "logging_strategy": "no"}
    rows = [ROWS.get(kind)] * 4
    settings = TrainingArguments(folder, per_device_train_batch_size=2, **{**shared, **arguments})
    return Trainer(model, settings, collate, train_dataset=rows, eval_dataset=rows)


def collate(rows: list[dict]) -> dict:
    """As the contrastive example of transformers: the dual encoder gives a loss where it is asked to."""
    batch = default_data_collator(rows)
    return batch | {"return_loss": True} if "input_ids" in batch else batch


@pytest.mark.parametrize("tower", ["dinov2", "vit", "resnet"])
@pytest.mark.parametrize("kind", ["classification", "segmentation", "dual", "report"])
def test_a_checkpoint_restores_every_tensor(kind, tower, tmp_path):
    base = save_base(tmp_path / "base", tower)
    trained, fresh = build(kind, base), build(kind, base)
    shake(trained)
    trainer_of(trained, tmp_path / "run").save_model(tmp_path / "run" / "checkpoint-1")
    trainer_of(fresh, tmp_path / "other")._load_from_checkpoint(str(tmp_path / "run" / "checkpoint-1"))
    for name, tensor in trained.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], tensor), name


@pytest.mark.parametrize("kind", ["classification", "segmentation", "dual"])
def test_training_resumes_where_it_stopped(kind, tmp_path):
    base = save_base(tmp_path / "base")
    saving = {"save_strategy": "steps", "save_steps": 1, "learning_rate": 1e-2}
    whole = build(kind, base)
    trainer_of(whole, tmp_path / "whole", kind, max_steps=2, **saving).train()
    resumed = build(kind, base)
    checkpoint = str(tmp_path / "whole" / "checkpoint-1")
    trainer_of(resumed, tmp_path / "whole", kind, max_steps=2, **saving).train(resume_from_checkpoint=checkpoint)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, msg=name)


def test_the_best_model_is_loaded_whole(tmp_path):
    model = build("classification", save_base(tmp_path / "base"))
    steps = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 1, "save_steps": 1}
    # The learning rate spoils the model step by step, so the first checkpoint is the best.
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "greater_is_better": True}
    trainer = trainer_of(model, tmp_path / "run", "classification", max_steps=2, learning_rate=1e-2, **steps, **best)
    trainer.train()
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-1")
    stored = CheXficientForImageClassification.from_pretrained(trainer.state.best_model_checkpoint)
    for name, tensor in stored.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_tensors_in_another_form_on_disk_are_refused(tmp_path, monkeypatch):
    model = CheXficientModel.from_pretrained(save_base(tmp_path))
    monkeypatch.setattr(
        towers_chexficient,
        "revert_weight_conversion",
        lambda model, tensors: {"joined.weight": torch.cat([tensors["visual_projection.weight"]] * 2)},
    )
    with pytest.raises(ValueError, match=r"another form than the model, first joined.weight: .*from_pretrained"):
        model.load_state_dict({"joined.weight": torch.zeros(1)}, strict=False)
    # What no folder of ours holds is told as torch tells it.
    assert model.load_state_dict({"strange": torch.zeros(1)}, strict=False).unexpected_keys == ["strange"]
    with pytest.raises(RuntimeError, match="strange"):
        model.load_state_dict({"strange": torch.zeros(1)})


def test_the_old_name_of_the_decoder_is_read(tmp_path):
    """Folders, calls and adapters written while the field was called `decoder`."""
    head = build("segmentation", save_base(tmp_path / "base"))
    head.save_pretrained(tmp_path / "head")
    file = tmp_path / "head" / "config.json"
    fields = json.loads(file.read_text())
    # No checkpoint holds it any more: transformers reads it as a configuration and stops.
    assert "decoder" not in fields
    PretrainedConfig.from_json_file(file)
    file.write_text(json.dumps({**fields, "decoder": fields.pop("mask_decoder")}))
    old = CheXficientForSemanticSegmentation.from_pretrained(tmp_path / "head")
    assert torch.equal(old(PIXELS[None]).logits, head.eval()(PIXELS[None]).logits)
    file.write_text(json.dumps({**fields, "decoder": "linear"}))
    assert AutoConfig.from_pretrained(tmp_path / "head").mask_decoder == "linear"
    for name in ("decoder", "mask_decoder"):
        given = AutoConfig.from_pretrained(tmp_path / "head", **{name: "unet"})
        assert given.mask_decoder == CheXficientConfig(**{name: "unet"}).mask_decoder == "unet"
        assert not hasattr(given, "decoder")
    record = AdapterRecord("semantic-segmentation", None, "0" * 64, {"decoder": "linear"})
    assert record.head_arguments == {"mask_decoder": "linear"}


def test_the_text_configuration_is_found_without_help():
    config = CheXficientConfig()
    assert config.get_text_config() is config.get_text_config(decoder=True) is config.text_config
