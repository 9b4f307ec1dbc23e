"""Self-distillation of an image tower on films alone (DINOv2), from prepared data to a tower's folder.

    accelerate launch -m train.self_supervised train/recipes/self_supervised.yaml --vision_model microsoft/rad-dino \
        --dataset_dir DIR --output_dir RUN
    torchrun --nproc_per_node 2 -m train.self_supervised train/recipes/self_supervised_demo.yaml --use_cpu

Writes into `output_dir`: `model/` (the teacher's tower, a plain model of transformers that `AutoModel` loads, with its
preprocessing and `dino_head.safetensors`), `log.json` and, last, `run.json`. With `--save_strategy steps`
a run that was stopped goes on by `--resume_from_checkpoint last`.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from transformers import set_seed

from data_scripts.prepared.mixture import Mixture
from data_scripts.progress import quiet_libraries
from modeling_chexficient.towers_chexficient import feature_size, freeze_unused
from train.film_runs.crops import CropArguments, Crops
from train.film_runs.preprocessing import save_preprocessing
from train.film_runs.run import FilmRunArguments, read_films, run_to_the_end, tower_probe
from train.runs.recipes import DataArguments, parse_recipe
from train.self_supervised.arguments import SelfSupervisedArguments, TowerArguments
from train.self_supervised.head import save_head
from train.self_supervised.network import Network
from train.self_supervised.plan import build_head, make_plan
from train.self_supervised.towers import Tower, check_masks, give_mask_token, load_tower
from train.self_supervised.trainer import SelfDistillationTrainer

ARGUMENTS = (TowerArguments, DataArguments, CropArguments, SelfSupervisedArguments)


@dataclasses.dataclass(frozen=True)
class Arguments(FilmRunArguments):
    """All arguments of a run, by concern."""

    tower: TowerArguments
    data: DataArguments
    crops: CropArguments
    training: SelfSupervisedArguments

    @property
    def start(self) -> str | None:
        return self.tower.vision_model or self.tower.model

    @property
    def learning(self) -> tuple:
        return self.tower, self.crops, self.training


def build_trainer(arguments: Arguments, mixture: Mixture) -> tuple[SelfDistillationTrainer, Tower]:
    """The trainer of a run, and where its tower came from.

    Raises:
        ValueError: of what the loading of data, tower and head refuses.
    """
    args, started = arguments.training, time.perf_counter()
    read = read_films(args, mixture)
    films = read.films
    # New towers and heads.
    set_seed(args.seed)
    chosen = arguments.tower
    tower = load_tower(chosen.vision_model, chosen.vision_config, chosen.model, chosen.image_size)
    if args.ibot_weight:
        give_mask_token(tower.model)
        check_masks(tower.model)
    else:
        freeze_unused(tower.model)
    head, pretrained = build_head(chosen, tower, feature_size(tower.model.config), len(films))
    plan = make_plan(args, arguments.crops, tower, head, pretrained, len(films), read.side)
    evaluate_tower = tower_probe(args, read.probe_data, plan.image_size, tower.mean, tower.std)
    tower.model.config.pretraining_sources = sorted({*read.sources, *tower.sources})
    crops = Crops(arguments.crops, plan.image_size, plan.local_size, tower.mean, tower.std)
    network = Network(tower.model, head)
    if args.should_save:
        print(plan.words())
    settings = arguments.of_the_result()
    return SelfDistillationTrainer(network, args, films, crops, plan, settings, evaluate_tower, started), tower


def self_supervise(arguments: Arguments) -> None:
    mixture = arguments.data.read()
    trainer, tower = build_trainer(arguments, mixture)

    def save(folder: Path) -> None:
        """The teacher's tower and head."""
        trainer.tower().save_pretrained(folder)
        save_preprocessing(folder, tower.image_size, tower.mean, tower.std)
        save_head(trainer.teacher.network.head, folder)

    run_to_the_end(trainer, "self-distillation", arguments, mixture, save)


def main(arguments: list[str] | None = None) -> None:
    quiet_libraries()
    try:
        self_supervise(Arguments(*parse_recipe(ARGUMENTS, arguments)))
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
