"""The smallest finished runs, as `model_cards` finds them: pretrained and adapted on the tiny corpus, and judged."""

from pathlib import Path

import torch
from tokenizers import processors
from transformers import LlamaConfig, LlamaForCausalLM

from eval.run import main as judge
from tests.tiny_models import tiny_tokenizer
from tests.training import RECIPE, REPOSITORY
from train.adapt.__main__ import main as adapt_main
from train.pretrain.__main__ import main as pretrain_main

#: Tasks by what is learnt, as recipes call them.
RECIPES = {"findings": "classification", "structures": "segmentation", "reports": "report_generation"}


def pretrain(corpus: Path, out: Path, seed: int = 0) -> Path:
    """A run folder of `train.pretrain` with one result."""
    words = ["--dataset_dir", str(corpus), "--output_dir", str(out), "--seed", str(seed)]
    pretrain_main([RECIPE, *words, "--max_steps", "8", "--curation_warmup_share", "0"])
    judge(["--model", str(out / "model"), "--data", str(corpus), "--resamples", "20"])
    return out


def adapt(corpus: Path, base: Path, out: Path, task: str, method: str) -> Path:
    """A run folder of `train.adapt` on the model of a pretrained run, with one result."""
    recipe = REPOSITORY / "train" / "recipes" / f"{RECIPES[task]}.yaml"
    words = ["--model", str(base / "model"), "--dataset_dir", str(corpus), "--output_dir", str(out), "--method", method]
    quick = ["--max_steps", "2", "--eval_steps", "2", "--per_device_train_batch_size", "8", "--resamples", "20"]
    own = {
        "findings": ["--labels", "Cardiomegaly", "Edema", "Pleural Effusion"],
        "structures": ["--structures", "left_lung", "heart"],
        "reports": ["--language_model", str(out.with_name("language_model"))],
    }
    if task == "reports":
        save_tiny_language_model(out.with_name("language_model"))
    adapt_main([str(recipe), *words, *own[task], *quick, "--use_cpu", "--disable_tqdm", "true"])
    return out


def save_tiny_language_model(folder: Path) -> None:
    """A causal language model of a few words with random weights, and its tokenizer, which does not end a text."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    beginning = processors.TemplateProcessing("[BOS] $A", special_tokens=[("[BOS]", tokenizer.bos_token_id)])
    tokenizer.backend_tokenizer.post_processor = beginning
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"pad_token_id": 0, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=256, **sizes, **ids)
    LlamaForCausalLM(config).save_pretrained(folder)
