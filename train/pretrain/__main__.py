"""Curated contrastive pretraining, from prepared data to a model folder.

    accelerate launch -m train.pretrain train/recipes/demo.yaml [--argument value ...]
    torchrun --nproc_per_node 2 -m train.pretrain train/recipes/demo.yaml --use_cpu

Writes into `output_dir`: `model/` (loads with `AutoModel`, with our code beside the weights), `curated_subset.parquet`
(row and record id of every kept pair), `log.json`, `run.json` (what was done, at what cost) and `curation_report.html`.
With `--save_strategy steps --save_steps 500` a run that was stopped goes on by `--resume_from_checkpoint last`.
"""

from __future__ import annotations

import sys

from train.pretrain.arguments import ModelArguments, PretrainingArguments
from train.runs.recipes import DataArguments, asks_for_help, parse_recipe, show_own_help


def main(arguments: list[str] | None = None) -> None:
    words = sys.argv[1:] if arguments is None else arguments
    if asks_for_help(words):
        show_own_help((ModelArguments, DataArguments, PretrainingArguments))
    # Here, so that `--help` does not wait for them.
    from data_scripts.progress import quiet_libraries
    from train.pretrain.run import ARGUMENTS, pretrain

    quiet_libraries()
    try:
        pretrain(*parse_recipe(ARGUMENTS, words))
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
