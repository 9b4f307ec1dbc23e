"""The training arguments of pretraining: ours, and those of transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from train.pretrain.arguments import PretrainingArguments
from train.runs.arguments import RunArguments


@dataclass
class CuratedTrainingArguments(PretrainingArguments, RunArguments):
    """`TrainingArguments` with the defaults and arguments of `PretrainingArguments`, and those of `RunArguments`."""

    refused: ClassVar[dict[str, str]] = RunArguments.refused | {
        "dataloader_drop_last": "no batch is incomplete",
        "torch_empty_cache_steps": "lower chunk_size where memory is short",
    }
    module: ClassVar[str] = "train.pretrain"
