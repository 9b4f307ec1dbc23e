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
import sys
import time
from functools import partial
from pathlib import Path

import torch
from transformers import set_seed

from data_scripts.prepared.films import FilmDataset
from data_scripts.prepared.mixture import Mixture
from data_scripts.progress import quiet_libraries
from eval.records.provenance import git_commit, package_versions
from eval.records.runs import SelfSupervisedRun
from modeling_chexficient import CheXficientImageProcessor
from modeling_chexficient.base_identity_chexficient import weights_sha256
from modeling_chexficient.towers_chexficient import feature_size, freeze_unused
from train.runs.arguments import changed_settings, settings_of_the_result
from train.runs.distributed import leave_together, wait_for_all, world_size
from train.runs.folder import LOG_FILE, MODEL, checkpoint_to_resume, forget_earlier_run, replaced_whole, write_log
from train.runs.recipes import DataArguments, parse_recipe
from train.self_supervised.arguments import SelfSupervisedArguments, TowerArguments
from train.self_supervised.crops import CropArguments, Crops
from train.self_supervised.films import load_films, side_of_first
from train.self_supervised.head import save_head
from train.self_supervised.network import Network
from train.self_supervised.plan import build_head, make_plan
from train.self_supervised.probe import load_probe_data, probe
from train.self_supervised.towers import Tower, check_masks, load_tower, save_preprocessing
from train.self_supervised.trainer import SelfDistillationTrainer

ARGUMENTS = (TowerArguments, DataArguments, CropArguments, SelfSupervisedArguments)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """All arguments of a run, by concern."""

    tower: TowerArguments
    data: DataArguments
    crops: CropArguments
    training: SelfSupervisedArguments

    @property
    def start(self) -> str | None:
        """What the tower is loaded from; None: it is new."""
        return self.tower.vision_model or self.tower.model

    def changed(self) -> dict:
        """What differs from the defaults, without paths and secrets."""
        return changed_settings(self.tower, self.crops, self.training)

    def of_the_result(self) -> dict:
        """What must be equal in a run that is resumed."""
        start = None if self.start is None else weights_sha256(self.start) or self.start
        return settings_of_the_result(self.tower, self.crops, self.training) | {"start": start}


def build_trainer(arguments: Arguments, mixture: Mixture) -> tuple[SelfDistillationTrainer, Tower]:
    """The trainer of a run, and where its tower came from.

    Raises:
        ValueError: of what the loading of data, tower and head refuses.
    """
    args, started = arguments.training, time.perf_counter()
    with args.main_process_first(desc="loading the dataset"):
        dataset = load_films(mixture)
        evaluates = args.eval_strategy != "no"
        probe_data = load_probe_data(mixture, args.probe_films, args.seed) if evaluates else None
    films = FilmDataset(dataset, range(len(dataset)), ("image",))
    # New towers and heads.
    set_seed(args.seed)
    chosen = arguments.tower
    tower = load_tower(chosen.vision_model, chosen.vision_config, chosen.model, chosen.image_size)
    if args.ibot_weight:
        check_masks(tower.model)
    else:
        freeze_unused(tower.model)
    head, pretrained = build_head(chosen, tower, feature_size(tower.model.config), len(films))
    plan = make_plan(args, arguments.crops, tower, head, pretrained, len(films), side_of_first(films))
    evaluate_tower = None
    if probe_data is not None:
        processor = CheXficientImageProcessor(plan.image_size, image_mean=tower.mean, image_std=tower.std)
        evaluate_tower = partial(
            probe,
            image_processor=processor,
            data=probe_data,
            batch_size=args.per_device_eval_batch_size,
            seed=args.seed,
        )
    sources = set(dataset.unique("source")) if "source" in dataset.column_names else set()
    tower.model.config.pretraining_sources = sorted({*sources, *tower.sources})
    crops = Crops(arguments.crops, plan.image_size, plan.local_size, tower.mean, tower.std)
    network = Network(tower.model, head)
    if args.should_save:
        print(plan.words())
    settings = arguments.of_the_result()
    return SelfDistillationTrainer(network, args, films, crops, plan, settings, evaluate_tower, started), tower


def self_supervise(arguments: Arguments) -> None:
    args, mixture = arguments.training, arguments.data.read()
    trainer, tower = build_trainer(arguments, mixture)
    checkpoint = checkpoint_to_resume(args)
    if checkpoint is not None:
        trainer.resume(checkpoint)
    # All processes have looked for checkpoints before one of them clears up.
    wait_for_all()
    if args.should_save:
        forget_earlier_run(Path(args.output_dir), (MODEL, LOG_FILE))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    run = describe_run(trainer, arguments, mixture)
    leave_together()
    if args.should_save:
        save_run(trainer, tower, run)


def describe_run(trainer: SelfDistillationTrainer, arguments: Arguments, mixture: Mixture) -> SelfSupervisedRun:
    """The record of a run; all processes must call it."""
    args, spent = trainer.args, trainer.spent()
    losses = [entry for entry in trainer.state.log_history if "loss" in entry]
    start = arguments.start
    return SelfSupervisedRun(
        seed=args.seed,
        steps=trainer.state.global_step,
        seconds=spent.seconds,
        settings=arguments.changed(),
        start=start,
        start_sha256=None if start is None else weights_sha256(start),
        films=trainer.plan.films,
        corpus_fingerprint=trainer.corpus,
        films_trained=spent.samples,
        plan=dataclasses.asdict(trainer.plan),
        final_losses={name: value for name, value in losses[-1].items() if "loss" in name} if losses else {},
        probes=[{"step": step, **figures} for step, figures in sorted(trainer.evaluated.items())],
        processes=world_size(),
        device=torch.cuda.get_device_name() if args.device.type == "cuda" else str(args.device),
        flops=spent.flops,
        mixture=dataclasses.asdict(mixture),
        git_commit=git_commit(),
        packages=package_versions(),
    )


def save_run(trainer: SelfDistillationTrainer, tower: Tower, run: SelfSupervisedRun) -> None:
    """Write the teacher's tower and head, and what is known of the run; `run.json` last."""
    output_dir, teacher = Path(trainer.args.output_dir), trainer.teacher.network
    with replaced_whole(output_dir / MODEL) as staged:
        teacher.backbone.save_pretrained(staged)
        save_preprocessing(tower, staged)
        save_head(teacher.head, staged)
    write_log(trainer.state.log_history, output_dir)
    run.write(output_dir)
    cost = "" if run.flops is None else f" with {run.flops.total / 1e15:.3g} PFLOP"
    probes = [f"{entry['linear_auroc']:.3f} at step {entry['step']}" for entry in run.probes[:1] + run.probes[1:][-1:]]
    told = f"; linear probe {', '.join(probes)}" if probes else ""
    print(
        f"trained on {run.films_trained:,} films ({run.films:,} different ones){cost} in {run.seconds:,.0f} s"
        f"{told}: {output_dir / MODEL}"
    )


def main(arguments: list[str] | None = None) -> None:
    quiet_libraries()
    try:
        self_supervise(Arguments(*parse_recipe(ARGUMENTS, sys.argv[1:] if arguments is None else arguments)))
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
