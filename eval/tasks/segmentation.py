"""Segmentation with frozen features: a linear and a U-Net decoder (of lines and tubes a U-Net that sees the film too),
trained here, evaluated by Dice and IoU.

A model that was adapted before (`train.adapt`) is evaluated by its own decoder, and nothing is trained. All figures are
of the central square of each film in the film's own resolution, whatever the model's image size, so that models can be
compared; pixels that nobody judged (127) are in neither loss nor metric.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast
from datasets import Dataset, DatasetDict
from torch import Tensor, nn

from data_scripts.prepared.columns import read_column
from data_scripts.prepared.masks import judged_rows, mask_names
from data_scripts.prepared.patient_sample import hold_out
from data_scripts.progress import progress
from eval.benchmarks import Benchmark
from eval.models.encoders import EvaluationModel
from eval.processes import share_batches
from eval.records.results import SegmentationResult, StructureResult, Subgroup
from eval.settings import EvaluationSettings
from eval.statistics.subgroups import subgroups
from eval.tasks.decoders import LARGE_STRUCTURES, THIN_STRUCTURES, DecoderTraining, train_decoders
from eval.tasks.dice import centre_lines, dice, judge, overlaps, weighted_means, with_structure
from eval.tasks.predicted_labels import adaptation_notes, describe_adapted, training_notes
from eval.tasks.predicted_masks import PredictedMasks, trained_decoder
from eval.tasks.segmentation_data import FilmFeatures, seen_share
from eval.tasks.segmentation_examples import keep_examples, segment

#: Of films that are evaluated. Each has maps of its full size in the decoder, so batches are small.
BATCH_SIZE = 16
#: Unless told otherwise: as many epochs as make `DecoderTraining.least_steps`, but at least so many.
LEAST_EPOCHS = 4
#: More films than these are left out, sampled by the seed: decoders of frozen features need no more.
TRAINING_FILMS, VALIDATION_FILMS = 4_000, 500
#: Bytes of features that are kept in memory.
MEMORY = 4 << 30


@dataclass(frozen=True)
class _Evaluated:
    """Films and decoders (by name) to evaluate, and notes; a decoder makes logits of maps and a side."""

    films: FilmFeatures
    decoders: dict[str, Callable[[list[Tensor], int], Tensor]]
    about: dict[str, dict[str, int | float]]
    notes: list[str]


def run(
    benchmark: Benchmark, model: EvaluationModel, splits: DatasetDict, settings: EvaluationSettings
) -> SegmentationResult:
    """Train decoders on the training split, choose their epoch on validation, evaluate on the benchmark's split.

    A model that `predict_masks` is evaluated by these instead.

    Raises:
        ValueError: a split lacks the masks, a mask is not of its image's size (DataError, with its row), the processor
            of the model cannot be matched with masks, or a trained decoder lacks a structure.
    """
    names = list(benchmark.structures)
    test = _with_masks(benchmark, splits, benchmark.split)
    prepare = _trained_before if hasattr(model, "predict_masks") else _train
    evaluated = prepare(benchmark, model, splits, test, settings)
    counts = {name: measure(decoder, evaluated.films) for name, decoder in evaluated.decoders.items()}
    patients = np.asarray(read_column(test, "patient_id"))
    results = {
        name: judge(name, names, of_decoder, patients, settings.resamples, settings.seed)
        for name, of_decoder in counts.items()
    }
    last = list(evaluated.decoders)[-1]
    keep_examples(benchmark, evaluated.decoders[last], evaluated.films, counts, patients, settings)
    return SegmentationResult(
        benchmark.name,
        benchmark.version,
        # Fingerprint of the whole split, so that a finished benchmark is recognised; numbers of the evaluated films.
        provenance=replace(
            describe_adapted(benchmark, model, splits[benchmark.split], settings),
            films=len(test),
            patients=len(np.unique(patients)),
        ),
        structures=[structure for structures, _ in results.values() for structure in structures],
        macro_dice={name: macro for name, (_, macro) in results.items()},
        decoders=evaluated.about,
        subgroups=list(_evaluate_subgroups(test, names, last, counts[last], settings)),
        notes=evaluated.notes + _notes(results[last][0]),
        adaptation=model.adaptation,
    )


def _trained_before(
    benchmark: Benchmark, model: EvaluationModel, splits: DatasetDict, test: Dataset, settings: EvaluationSettings
) -> _Evaluated:
    """The decoder of an adapted model."""
    decoder = trained_decoder(benchmark, model)
    share = seen_share(model)
    films = PredictedMasks(
        model, test, range(len(test)), benchmark, model.image_size, share, batch_size=settings.batch_size
    )
    return _Evaluated(films, {model.adaptation.method: decoder}, {}, training_notes(benchmark, model, splits))


def _train(
    benchmark: Benchmark, model: EvaluationModel, splits: DatasetDict, test: Dataset, settings: EvaluationSettings
) -> _Evaluated:
    """The decoders, trained on frozen features."""
    train, validation, notes = draw_training_films(benchmark, splits, settings.seed)
    share = seen_share(model)

    def features(dataset: Dataset, budget: int) -> FilmFeatures:
        return FilmFeatures(
            model, dataset, range(len(dataset)), benchmark, model.image_size, share, budget, settings.batch_size
        )

    # A quarter for validation, which is smaller but read as often.
    training, validating = features(train, MEMORY * 3 // 4), features(validation, MEMORY // 4)
    how = THIN_STRUCTURES if benchmark.thin else LARGE_STRUCTURES
    decoders, about = fit(how, training, validating, list(benchmark.structures), settings)
    return _Evaluated(features(test, 0), decoders, about, adaptation_notes(benchmark, model) + notes)


def _with_masks(benchmark: Benchmark, splits: DatasetDict, split: str) -> Dataset:
    """The films of a split that have something to evaluate.

    Raises:
        ValueError: there is no such split, or none of its films has a mask of the structures.
    """
    if split not in splits:
        raise ValueError(f"there is no split {split!r}, only {sorted(splits)}: segmentation needs it")
    dataset = splits[split]
    rows = judged_rows(dataset, benchmark.structures, benchmark.no_mask_is_empty)
    if not rows:
        there = sorted(set().union(*mask_names(dataset)))
        raise ValueError(
            f"no film of split {split!r} ({len(dataset)} films) has masks of {list(benchmark.structures)}; masks there "
            f"are of {there or 'nothing'}"
        )
    return dataset.select(rows)


def draw_training_films(benchmark: Benchmark, splits: DatasetDict, seed: int) -> tuple[Dataset, Dataset, list[str]]:
    """Films with masks to train on and to choose an epoch with, and notes on what was left out.

    Raises:
        ValueError: there are no training films with masks, or a structure is in none of them.
    """
    train = _with_masks(benchmark, splits, "train")
    notes = []
    for structure, names in benchmark.structures.items():
        if not any(found.intersection(names) for found in mask_names(train)):
            raise ValueError(f"no training film has a mask of {structure!r} ({list(names)}): it cannot be learnt")
    # The split that is evaluated must not choose.
    split = "validation" if benchmark.split != "validation" else None
    if split in splits and judged_rows(splits[split], benchmark.structures, benchmark.no_mask_is_empty):
        validation = _with_masks(benchmark, splits, split)
    else:
        patients = np.asarray(read_column(train, "patient_id"))
        held_out = hold_out(patients, seed)
        train, validation = train.select(np.flatnonzero(~held_out)), train.select(np.flatnonzero(held_out))
        count, of_all = len(np.unique(patients[held_out])), len(np.unique(patients))
        notes.append(f"No validation split with masks: {count} of {of_all} training patients chose the epoch.")
    for name, dataset, most in (("training", train, TRAINING_FILMS), ("validation", validation, VALIDATION_FILMS)):
        if len(dataset) > most:
            notes.append(f"{most:,} of {len(dataset):,} {name} films, sampled by the seed, were used.")
    return _draw(train, TRAINING_FILMS, seed), _draw(validation, VALIDATION_FILMS, seed), notes


def _draw(dataset: Dataset, most: int, seed: int) -> Dataset:
    if len(dataset) <= most:
        return dataset
    return dataset.select(np.sort(np.random.default_rng(seed).permutation(len(dataset))[:most]))


def fit(
    how: DecoderTraining,
    training: FilmFeatures,
    validation: FilmFeatures,
    names: list[str],
    settings: EvaluationSettings,
) -> tuple[dict[str, nn.Module], dict[str, dict[str, int | float]]]:
    """The trained decoders by name, in evaluation mode, and facts about their training.

    Every process trains them: it takes minutes, in which processes that only waited at a barrier would run into its
    time-out. All use one seed; the decoders of rank 0 are broadcast and evaluated, so that all evaluate the same.
    """
    pyramid, _ = training.batch([0])
    steps = -(-len(training) // how.batch_size)
    epochs = settings.decoder_epochs or max(LEAST_EPOCHS, -(-how.least_steps // steps))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        channels = [level.shape[1] for level in pyramid]
        decoders = {name: build(channels, len(names)) for name, build in how.decoders.items()}
    bar = progress(
        total=epochs * len(decoders),
        desc="training decoders",
        unit=" epochs",
        disable=not PartialState().is_main_process,
    )

    def validate(decoder: nn.Module) -> float:
        bar.update()
        return mean_dice(decoder, validation)

    best = train_decoders(decoders, how, training, validate, epochs, settings.seed)
    bar.close()
    about = {
        name: {
            "trainable": sum(parameter.numel() for parameter in decoder.parameters()),
            "films": len(training),
            "validation_films": len(validation),
            "epochs": epochs,
            "best_epoch": best[name][0],
            "validation_dice": best[name][1],
        }
        for name, decoder in decoders.items()
    }
    for decoder in decoders.values():
        for tensor in decoder.eval().state_dict().values():
            tensor.copy_(broadcast(tensor))
    return decoders, about


@torch.no_grad()
def mean_dice(decoder: nn.Module, features: FilmFeatures) -> float:
    """Mean Dice over structures at the size the decoder is trained at, to choose an epoch by; NaN where undefined."""
    parts = []
    for positions in _batches(len(features)):
        pyramid, masks = features.batch(positions)
        parts.append(overlaps((decoder(pyramid, features.size) > 0).cpu().numpy(), masks.cpu().numpy()))
    counts = np.concatenate(parts)
    means = weighted_means(with_structure(dice(counts), counts), np.ones((1, len(counts))))
    return float(weighted_means(means.T, np.ones((1, means.shape[1])))[0, 0])


def measure(decoder: Callable[[list[Tensor], int], Tensor], features: FilmFeatures) -> np.ndarray:
    """`overlaps` and `centre_lines` [films, structures, 7] of what is found with the masks; the films are shared among
    the processes.
    """

    def count(positions: list[int]) -> list[np.ndarray]:
        pairs = segment(decoder, features, positions)
        return [np.concatenate([overlaps(*pair), centre_lines(*pair)], axis=-1) for pair in pairs]

    return np.stack(share_batches(count, len(features), BATCH_SIZE, "segmenting"))


def _batches(count: int) -> list[list[int]]:
    return [list(range(start, min(start + BATCH_SIZE, count))) for start in range(0, count, BATCH_SIZE)]


def _evaluate_subgroups(
    films: Dataset, names: list[str], decoder: str, counts: np.ndarray, settings: EvaluationSettings
) -> Iterator[Subgroup]:
    """The mean Dice of one decoder among the films of each group."""
    patients = np.asarray(read_column(films, "patient_id"))
    for attribute, value, rows in subgroups(films):
        structures, macro = judge(decoder, names, counts[rows], patients[rows], settings.resamples, settings.seed)
        defined = sum(structure.dice.value is not None for structure in structures)
        yield Subgroup(attribute, value, int(rows.sum()), len(np.unique(patients[rows])), macro, defined)


def _notes(structures: list[StructureResult]) -> list[str]:
    return [
        f"No evaluated film shows {structure.structure!r}: its Dice is not defined and left out of the mean."
        for structure in structures
        if structure.films == 0
    ]
