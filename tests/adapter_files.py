"""Tiny bases and adapters with random weights, as folders."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub.constants import HF_HUB_CACHE
from peft import HiraConfig, LoraConfig, get_peft_model
from peft.utils.constants import DUMMY_TARGET_MODULES
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import (
    BertConfig,
    BertTokenizer,
    Dinov2Config,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ViTConfig,
)

from modeling_chexficient import (
    CheXficientConfig,
    CheXficientForImageClassification,
    CheXficientForReportGeneration,
    CheXficientForSemanticSegmentation,
    CheXficientImageProcessor,
    CheXficientModel,
    CheXficientProcessor,
)
from modeling_chexficient.adapters_chexficient import identify_base, save_adapter

SIDE = 28
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
TOWERS = {
    "dinov2": Dinov2Config(**SIZES, mlp_ratio=2, image_size=SIDE, patch_size=14),
    "vit": ViTConfig(**SIZES, intermediate_size=32, image_size=SIDE, patch_size=14),
    "resnet": ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
}
HEAD = {
    "image-classification": (CheXficientForImageClassification, "classifier"),
    "semantic-segmentation": (CheXficientForSemanticSegmentation, "decode_head"),
}
ATTENTION = {"target_modules": r".*vision_model.*\.(q_proj|v_proj)", "modules_to_save": ["vision_model.layernorm"]}
HIRA = {**ATTENTION, "hira": True}
CONVOLUTIONS = {"target_modules": r".*vision_model.*layer\.\d\.convolution"}


@dataclass
class SavedAdapter:
    """An adapter folder and what its model said of `pixels` when it was saved."""

    folder: Path
    logits: Tensor
    tower_output: Tensor


def pixels(side: int = SIDE) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(5))


def save_base(folder: Path, kind: str = "dinov2", seed: int = 0) -> Path:
    """A CheXficient model with its processor."""
    torch.manual_seed(seed)
    text = BertConfig(**SIZES, vocab_size=8, intermediate_size=32, max_position_embeddings=16)
    model = CheXficientModel(CheXficientConfig(TOWERS[kind], text, projection_dim=8))
    shake(model)
    model.save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "edema"]
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)}, model_max_length=16)
    CheXficientProcessor(CheXficientImageProcessor(SIDE), tokenizer).save_pretrained(folder)
    return folder


def in_the_cache(folder: Path, name: str, commit: str) -> None:
    """As if the Hub's repository `name` with the files of `folder` had been loaded before."""
    place = Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / commit)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / "main").write_text(commit)


@torch.no_grad()
def shake(model: torch.nn.Module, trainable_only: bool = False) -> None:
    """Add noise to weights and running statistics, since zeros and ones would hide what is not loaded."""
    for parameter in model.parameters():
        if parameter.requires_grad or not trainable_only:
            parameter.add_(0.2 * torch.randn_like(parameter))
    for name, statistic in model.named_buffers():
        if name.endswith(("running_mean", "running_var")) and ("modules_to_save" in name or not trainable_only):
            statistic.add_(torch.rand_like(statistic))


@torch.no_grad()
def make_adapter(
    base: Path,
    folder: Path,
    task: str = "image-classification",
    labels=("effusion", "edema"),
    seed: int = 1,
    head: dict | None = None,
    **lora,
) -> SavedAdapter:
    """An adapter with random weights; without arguments for LoRA a head alone, with `hira` one of HiRA.

    `head` holds more fields of its configuration.
    """
    torch.manual_seed(seed)
    head_class, part = HEAD[task]
    fields = {"problem_type": "multi_label_classification", "id2label": dict(enumerate(labels))}
    if task == "semantic-segmentation":
        fields["mask_decoder"] = "linear"
    model = head_class.from_pretrained(base, **fields | (head or {}))
    lora = lora or {"target_modules": DUMMY_TARGET_MODULES}
    saved = [part, *lora.pop("modules_to_save", [])]
    hira = lora.pop("hira", False)
    config = HiraConfig(r=2, **lora) if hira else LoraConfig(r=2, lora_alpha=8, **lora)
    config.modules_to_save = saved
    peft_model = get_peft_model(model, config)
    shake(peft_model, trainable_only=True)
    peft_model.eval()
    save_adapter(peft_model, folder, identify_base(base), task, CheXficientImageProcessor(SIDE))
    tower = peft_model.get_base_model().vision_model
    return SavedAdapter(folder, peft_model(pixel_values=pixels()).logits, tower(pixels()).last_hidden_state)


def make_report_model(base: Path) -> tuple[CheXficientForReportGeneration, LlavaProcessor]:
    """A report model on the tower of a base, with a language model of a few words."""
    words = ["[PAD]", "[BOS]", "[EOS]", "[UNK]", "no", "edema"]
    core = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "bos_token": "[BOS]", "eos_token": "[EOS]", "unk_token": "[UNK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **special)
    language = {"model_type": "llama", **SIZES, "intermediate_size": 32, "max_position_embeddings": 64}
    return CheXficientForReportGeneration.from_vision_language(str(base), language, tokenizer)
