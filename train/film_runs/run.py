"""A run on films alone from its trainer to its record: probes, resumption, what it says of itself, its folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel

from data_scripts.prepared.films import FilmDataset
from data_scripts.prepared.mixture import Mixture
from eval.records.provenance import git_commit, package_versions
from eval.records.runs import SelfSupervisedRun
from modeling_chexficient import CheXficientImageProcessor
from modeling_chexficient.base_identity_chexficient import weights_sha256
from train.film_runs.films import load_films, side_of_first
from train.film_runs.probe import ProbeData, load_probe_data, probe
from train.film_runs.trainer import FilmTrainer
from train.runs.arguments import changed_settings, settings_of_the_result
from train.runs.distributed import leave_together, wait_for_all, world_size
from train.runs.folder import LOG_FILE, MODEL, checkpoint_to_resume, forget_earlier_run, replaced_whole, write_log


class FilmRunArguments:
    """All arguments of a run, by concern; a subclass has them as its fields."""

    @property
    def start(self) -> str | None:
        """What the tower is loaded from; None: it is new."""
        raise NotImplementedError

    @property
    def learning(self) -> tuple:
        """Those that decide what is learnt: all but the data's."""
        raise NotImplementedError

    def changed(self) -> dict:
        """What differs from the defaults, without paths and secrets."""
        return changed_settings(*self.learning)

    def of_the_result(self) -> dict:
        """What must be equal in a run that is resumed."""
        start = None if self.start is None else weights_sha256(self.start) or self.start
        return settings_of_the_result(*self.learning) | {"start": start}


@dataclasses.dataclass(frozen=True)
class RunFilms:
    """What a run learns from.

    Args:
        sources: corpora (`source` of records) of the films.
        side: of the first film, in pixels.
        probe_data: what probes learn from and are evaluated on; None where nothing is evaluated.
    """

    films: FilmDataset
    sources: set[str]
    side: int
    probe_data: ProbeData | None


def read_films(args, mixture: Mixture) -> RunFilms:
    """Rank 0 reads (and caches) the data, the other ranks find them ready.

    Raises:
        ValueError: there are no films, or nothing that probes could be evaluated on.
    """
    with args.main_process_first(desc="loading the dataset"):
        dataset = load_films(mixture)
        evaluates = args.eval_strategy != "no"
        probe_data = load_probe_data(mixture, args.probe_films, args.seed) if evaluates else None
    films = FilmDataset(dataset, range(len(dataset)), ("image",))
    sources = set(dataset.unique("source")) if "source" in dataset.column_names else set()
    return RunFilms(films, sources, side_of_first(films), probe_data)


def tower_probe(
    args, data: ProbeData | None, image_size: int, mean: list[float], std: list[float]
) -> Callable[[PreTrainedModel], dict[str, float]] | None:
    """Probes of a tower on films of `image_size` pixels; None without data."""
    if data is None:
        return None
    processor = CheXficientImageProcessor(image_size, image_mean=mean, image_std=std)
    batch_size = args.per_device_eval_batch_size
    return partial(probe, image_processor=processor, data=data, batch_size=batch_size, seed=args.seed)


def run_to_the_end(
    trainer: FilmTrainer,
    objective: str,
    arguments: FilmRunArguments,
    mixture: Mixture,
    save: Callable[[Path], None],
    folders: tuple[str, ...] = (),
) -> None:
    """Train, from the checkpoint that the arguments name if any, and write the folder of the run; `run.json` last.

    Args:
        save: writes the result into `model/`, on the saving process.
        folders: that `save` writes beside it.
    """
    args, output_dir = trainer.args, Path(str(trainer.args.output_dir))
    checkpoint = checkpoint_to_resume(args)
    if checkpoint is not None:
        trainer.resume(checkpoint)
    # All processes have looked for checkpoints before one of them clears up.
    wait_for_all()
    if args.should_save:
        forget_earlier_run(output_dir, (MODEL, LOG_FILE, *folders))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    run = _describe(trainer, objective, arguments, mixture)
    leave_together()
    if args.should_save:
        with replaced_whole(output_dir / MODEL) as staged:
            save(staged)
        write_log(trainer.state.log_history, output_dir)
        run.write(output_dir)
        print(_words(run, output_dir / MODEL))


def _describe(trainer: FilmTrainer, objective: str, arguments: FilmRunArguments, mixture: Mixture) -> SelfSupervisedRun:
    """The record of a run; all processes must call it."""
    args, spent, start = trainer.args, trainer.spent(), arguments.start
    losses = [entry for entry in trainer.state.log_history if "loss" in entry]
    return SelfSupervisedRun(
        objective=objective,
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


def _words(run: SelfSupervisedRun, folder: Path) -> str:
    cost = "" if run.flops is None else f" with {run.flops.total / 1e15:.3g} PFLOP"
    probes = [f"{entry['linear_auroc']:.3f} at step {entry['step']}" for entry in run.probes[:1] + run.probes[1:][-1:]]
    told = f"; linear probe {', '.join(probes)}" if probes else ""
    return (
        f"trained on {run.films_trained:,} films ({run.films:,} different ones){cost} in {run.seconds:,.0f} s"
        f"{told}: {folder}"
    )
