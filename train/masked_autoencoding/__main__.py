"""Masked autoencoding of a ViT on films alone (MAE), from prepared data to a tower's folder.

    accelerate launch -m train.masked_autoencoding --vision_model facebook/vit-mae-base --dataset_dir DIR \
        --output_dir RUN
    torchrun --nproc_per_node 2 -m train.masked_autoencoding train/recipes/masked_autoencoding_demo.yaml --use_cpu

Writes into `output_dir`: `model/` (the encoder, a plain `ViTModel` that `AutoModel` loads, with its preprocessing),
`autoencoder/` (the same with its decoder, from which another run goes on), `log.json` and, last, `run.json`. With
`--save_strategy steps` a run that was stopped goes on by `--resume_from_checkpoint last`.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from transformers import set_seed

from data_scripts.prepared.mixture import Mixture
from data_scripts.progress import quiet_libraries
from train.film_runs.crops import Crops
from train.film_runs.preprocessing import save_preprocessing
from train.film_runs.run import FilmRunArguments, read_films, run_to_the_end, tower_probe
from train.masked_autoencoding.arguments import AutoencoderArguments, AutoencodingArguments
from train.masked_autoencoding.autoencoder import Autoencoder, load_autoencoder
from train.masked_autoencoding.trainer import AutoencodingTrainer, crop_arguments, make_plan
from train.runs.folder import replaced_whole
from train.runs.recipes import DataArguments, parse_recipe

ARGUMENTS = (AutoencoderArguments, DataArguments, AutoencodingArguments)
AUTOENCODER = "autoencoder"


@dataclasses.dataclass(frozen=True)
class Arguments(FilmRunArguments):
    """All arguments of a run, by concern."""

    tower: AutoencoderArguments
    data: DataArguments
    training: AutoencodingArguments

    @property
    def start(self) -> str | None:
        return self.tower.vision_model

    @property
    def learning(self) -> tuple:
        return self.tower, self.training


def build_trainer(arguments: Arguments, mixture: Mixture) -> tuple[AutoencodingTrainer, Autoencoder]:
    """The trainer of a run, and where its encoder came from.

    Raises:
        ValueError: of what the loading of data and encoder refuses.
    """
    args, started = arguments.training, time.perf_counter()
    read = read_films(args, mixture)
    films = read.films
    # New weights.
    set_seed(args.seed)
    autoencoder = load_autoencoder(arguments.tower, args.mask_ratio, args.normalise_patches)
    model, mean, std = autoencoder.model, autoencoder.mean, autoencoder.std
    plan = make_plan(args, model, len(films), read.side)
    evaluate_tower = tower_probe(args, read.probe_data, plan.image_size, mean, std)
    model.config.pretraining_sources = sorted({*read.sources, *autoencoder.sources})
    crops = Crops(crop_arguments(args), plan.image_size, plan.image_size, mean, std)
    if args.should_save:
        print(plan.words())
    settings = arguments.of_the_result()
    return AutoencodingTrainer(model, args, films, crops, plan, settings, evaluate_tower, started), autoencoder


def autoencode(arguments: Arguments) -> None:
    mixture = arguments.data.read()
    trainer, start = build_trainer(arguments, mixture)

    def save(folder: Path) -> None:
        """The encoder, and beside it the whole autoencoder."""
        encoder, whole = trainer.tower(), trainer.autoencoder
        encoder.config.pretraining_sources = whole.config.pretraining_sources
        with replaced_whole(folder.with_name(AUTOENCODER)) as beside:
            for model, staged in ((encoder, folder), (whole, beside)):
                model.save_pretrained(staged)
                save_preprocessing(staged, trainer.plan.image_size, start.mean, start.std)

    run_to_the_end(trainer, "masked autoencoding", arguments, mixture, save, (AUTOENCODER,))


def main(arguments: list[str] | None = None) -> None:
    quiet_libraries()
    try:
        autoencode(Arguments(*parse_recipe(ARGUMENTS, arguments)))
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
