"""Shared by the tests of adaptation: tiny bases, small corpora with known truths, runs through the command line."""

from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from transformers import BertConfig, Dinov2Config, ResNetConfig

from data_scripts.features import FEATURES
from modeling_chexficient import CheXficientConfig, CheXficientImageProcessor, CheXficientModel, CheXficientProcessor
from tests.tiny_models import tiny_tokenizer
from train.adapt.__main__ import ARGUMENTS, Arguments
from train.runs.recipes import parse_recipe

SIDE = 56
TOWERS = {
    "dinov2": Dinov2Config(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, mlp_ratio=2, patch_size=14, image_size=SIDE
    ),
    "resnet": ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 32], depths=[1, 1, 1], layer_type="basic"),
}
RECIPES = Path(__file__).parents[1] / "train" / "recipes"
#: A run of seconds, of which everything is the same each time.
SHORT = ["--use_cpu", "true", "--disable_tqdm", "true", "--max_steps", "4", "--eval_steps", "2", "--resamples", "5"]
SHORT += ["--per_device_train_batch_size", "16", "--dataloader_pin_memory", "false", "--logging_steps", "1"]


def save_base(folder: Path, kind: str = "dinov2", seed: int = 0) -> Path:
    """A CheXficient model with random weights and its processor."""
    torch.manual_seed(seed)
    text = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=12)
    CheXficientModel(CheXficientConfig(TOWERS[kind], text, projection_dim=8)).save_pretrained(folder)
    CheXficientProcessor(CheXficientImageProcessor(SIDE), tiny_tokenizer()).save_pretrained(folder)
    return folder


def film(number: int, labels: dict | None = None, masks: dict | None = None, size: int = SIDE, **columns) -> dict:
    """A row of `FEATURES`: a grey film with a bright disc where its first label is present."""
    generator = np.random.default_rng(number)
    y, x = np.mgrid[:size, :size]
    centre = generator.uniform(size * 0.3, size * 0.7, 2)
    disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < (size / 6) ** 2
    labels = {"Disc": number % 2, "Nothing": 1 - number % 2} if labels is None else labels
    shown = next(iter(labels.values()), 1) == 1
    pixels = (generator.normal(70, 8, (size, size)) + 120 * (disc & shown)).clip(0, 255).astype(np.uint8)
    masks = {"disc": np.uint8(255) * disc, "box": np.uint8(255) * (y < size // 2)} if masks is None else masks
    return {
        "record_id": f"discs/{number}",
        "image": Image.fromarray(pixels),
        "labels": [
            {"name": name, "value": value, "readers": None, "positive_readers": None} for name, value in labels.items()
        ],
        "masks": [{"name": name, "image": Image.fromarray(mask)} for name, mask in masks.items()],
        "patient_id": f"patient {number // 2}",
        **dict.fromkeys(("findings", "impression", "report", "report_origin", "language", "study_id", "licence"), ""),
        **{
            "flags": [],
            "view": "PA",
            "split": "train",
            "source": "discs",
            "sex": None,
            "age_years": None,
            "quality": None,
        },
        **columns,
    }


def write_corpus(folder: Path, **splits: list[dict]) -> Path:
    """Rows by split as a folder that `load_dataset` opens."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        Dataset.from_list(rows, features=FEATURES).to_parquet(folder / f"{name}-00000.parquet")
    return folder


def words(task: str, base: Path, data: Path, out: Path, *more: str) -> list[str]:
    """The command line of a short run."""
    places = ["--model", str(base), "--dataset_dir", str(data), "--output_dir", str(out)]
    return [str(RECIPES / f"{task}.yaml"), *places, *SHORT, *more]


def read_arguments(*command: str) -> Arguments:
    return Arguments(*parse_recipe(ARGUMENTS, list(command)))
