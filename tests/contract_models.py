"""Our models at their smallest for what every model of transformers is held to, and the checks that do not apply."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, LlamaConfig, PreTrainedModel

from modeling_chexficient import (
    CheXficientConfig,
    CheXficientForImageClassification,
    CheXficientForReportGeneration,
    CheXficientForSemanticSegmentation,
    CheXficientModel,
)
from modeling_chexficient.configuration_chexficient_report import CheXficientReportConfig
from tests.tiny_towers import SIDE, TEXT, VISION, WORDS, images, texts

IMAGE_TOKEN = WORDS - 1
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_BERT = BertConfig(**TEXT["bert"].to_dict() | _NO_DROPOUT)
_LLAMA = LlamaConfig(**TEXT["llama"].to_dict() | {"max_position_embeddings": 64, "tie_word_embeddings": True})
# Six blocks, since the published decoder takes five maps.
_DEEP = type(VISION["dinov2"])(**VISION["dinov2"].to_dict() | {"num_hidden_layers": 6})
_MULTI = {"num_labels": 3, "problem_type": "multi_label_classification"}

#: Class, image tower and other arguments of the configuration, by the name a test bears.
MODELS: dict[str, tuple[type[PreTrainedModel], Any, dict]] = {
    "dual": (CheXficientModel, VISION["dinov2"], {"projection_dim": 8}),
    "dual_resnet": (CheXficientModel, VISION["resnet"], {"projection_dim": 8}),
    "classification": (CheXficientForImageClassification, VISION["dinov2"], _MULTI),
    "classification_resnet": (CheXficientForImageClassification, VISION["resnet"], _MULTI),
    **{
        f"segmentation_{decoder}": (CheXficientForSemanticSegmentation, _DEEP, {**_MULTI, "mask_decoder": decoder})
        for decoder in ("linear", "unet", "image_unet", "published_unet")
    },
    "segmentation_resnet": (
        CheXficientForSemanticSegmentation,
        VISION["resnet"],
        {**_MULTI, "mask_decoder": "unet"},
    ),
    "report": (CheXficientForReportGeneration, VISION["dinov2"], {}),
}
HEADS = [name for name in MODELS if name.startswith(("classification", "segmentation"))]
_OTHERS = [name for name in MODELS if name not in HEADS]
_WITHOUT_ATTENTION = [name for name in HEADS if name.endswith("resnet")]


def _for_all(check: str, names: list[str], reason: str) -> dict[tuple[str, str], str]:
    return {(check, name): reason for name in names}


_NO_ATTENTION = "a ResNet has no attention"
#: By check and model, why it does not apply.
NOT_APPLICABLE: dict[tuple[str, str], str] = {
    **_for_all("attention", _WITHOUT_ATTENTION, _NO_ATTENTION),
    **_for_all("attentions_of_the_whole", [*_WITHOUT_ATTENTION], _NO_ATTENTION),
    **_for_all("input_embeddings", _WITHOUT_ATTENTION, "transformers names none for a ResNet"),
    **_for_all("words", HEADS, "a head reads no words"),
    **_for_all("labels", _OTHERS, "the model has no labels"),
    **_for_all("generation", [name for name in MODELS if name != "report"], "the model writes nothing"),
    **_for_all("dropout", [*HEADS, "report"], "neither its towers nor what stands on them drop anything by default"),
    **_for_all("checkpointing", _WITHOUT_ATTENTION, "refused, since transformers' ResNet has no such layers"),
    **_for_all("refused_checkpointing", [name for name in MODELS if name not in _WITHOUT_ATTENTION], "it works there"),
    **_for_all("tied", [name for name in MODELS if name != "report"], "no two parts share weights"),
    **_for_all("fp32_parts", [name for name in MODELS if not name.startswith("dual")], "all parts follow the dtype"),
    **dict.fromkeys(
        [("hidden_states_of_the_whole", "report"), ("attentions_of_the_whole", "report")],
        "the parts of transformers' LLaVA read their own configurations",
    ),
    ("tuples_by_configuration", "report"): "transformers' LLaVA reads the fields of its body's output",
    ("export", "report"): "LLaVA joins a list with the features of each image, whose length a graph fixes",
}


#: All that `cases` was asked for.
CHECKS: set[str] = set()


def cases(check: str):
    """Parametrise a test by `name`; models the check does not apply to are skipped with the reason."""
    CHECKS.add(check)
    reasons = {name: NOT_APPLICABLE.get((check, name)) for name in MODELS}
    return pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=pytest.mark.skip(reason=reason) if reason else ())
            for name, reason in reasons.items()
        ],
    )


def configuration(name: str, **more) -> Any:
    model_class, vision, arguments = MODELS[name]
    if model_class is CheXficientForReportGeneration:
        tokens = {"image_token_index": IMAGE_TOKEN, "image_seq_length": 16, "tie_word_embeddings": True}
        return CheXficientReportConfig(vision_config=vision, text_config=_LLAMA, **{**tokens, **more})
    return CheXficientConfig(vision, _BERT, **{**arguments, **more})


def build(name: str, **more) -> PreTrainedModel:
    torch.manual_seed(0)
    return MODELS[name][0](configuration(name, **more)).eval()


def inputs(name: str, count: int = 2) -> dict[str, torch.Tensor]:
    """What `forward` takes, without labels."""
    if name in HEADS:
        return {"pixel_values": images(count)}
    if name != "report":
        return {"pixel_values": images(count), **texts(_BERT, count)}
    words = texts(_LLAMA, count)
    words["input_ids"] = words["input_ids"].clamp(max=IMAGE_TOKEN - 1)
    ids = torch.cat([torch.full((count, 16), IMAGE_TOKEN), words["input_ids"]], 1)
    mask = torch.cat([torch.ones(count, 16, dtype=torch.long), words["attention_mask"]], 1)
    return {"pixel_values": images(count), "input_ids": ids, "attention_mask": mask}


def labelled(name: str, count: int = 2) -> dict[str, Any]:
    """Inputs of a training step."""
    batch: dict[str, Any] = inputs(name, count)
    if name.startswith("dual"):
        return {**batch, "return_loss": True}
    if name == "report":
        return {**batch, "labels": batch["input_ids"].masked_fill(batch["input_ids"] == IMAGE_TOKEN, -100)}
    shape = (count, 3, SIDE, SIDE) if name.startswith("segmentation") else (count, 3)
    return {**batch, "labels": torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(2)).float()}


def outcome(name: str, output) -> torch.Tensor:
    """The tensor that an output is about."""
    return output["logits_per_image"] if name.startswith("dual") else output["logits"]


@torch.no_grad()
def run(name: str, model: nn.Module, count: int = 2) -> torch.Tensor:
    return outcome(name, model(**inputs(name, count)))


def inner_outputs(name: str, output) -> list:
    """The outputs that hold hidden states and attentions: of both towers, or of the head itself."""
    return [output.vision_model_output, output.text_model_output] if name.startswith("dual") else [output]
