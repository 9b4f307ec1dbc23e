"""Disease prediction by a head that was trained before: its logits evaluated as they are, matched to labels by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict
from torch import Tensor

from data_scripts.prepared.columns import read_column
from data_scripts.prepared.folder import load_prepared
from data_scripts.prepared.labels import chosen_labels, find_label
from eval.benchmarks import Benchmark
from eval.features import image_embeddings
from eval.models.encoders import EvaluationModel
from eval.provenance import describe
from eval.records.provenance import Provenance
from eval.records.results import Estimate, ProbeLabel, ProbeResult, ProbeShare, Subgroup
from eval.records.runs import Adaptation
from eval.scores import ZeroShotScores, save_scores
from eval.settings import NONE, EvaluationSettings
from eval.statistics.metrics import macro_mean
from eval.statistics.ranked_labels import RankedLabels
from eval.statistics.significance import resample_by_patient
from eval.statistics.subgroups import subgroups
from eval.study_level import SCORE_RULES, Studies


def judge_head(
    benchmark: Benchmark, model: EvaluationModel, splits: DatasetDict, settings: EvaluationSettings
) -> ProbeResult:
    """Evaluate a model that `predict_labels` on the benchmark's split; nothing is fitted.

    Raises:
        ValueError: the head lacks a label that the benchmark asks for, or gives none of those in the data; the data
            lack one; no label has both classes.
    """
    dataset = splits[benchmark.split]
    names, targets = chosen_labels(dataset, benchmark.labels, benchmark.unlisted_is_absent)
    evaluated = _shared_labels(benchmark, model, names)
    studies = Studies.of(dataset, settings.study_rule)
    logits = image_embeddings(model, dataset, settings, "predict_labels")
    columns = [find_label(name, model.label_names) for name in evaluated]
    scores = ZeroShotScores(
        evaluated,
        np.ascontiguousarray(_of_studies(model, logits, studies)[:, columns]),
        np.ascontiguousarray(studies.targets(targets, names)[:, [names.index(name) for name in evaluated]]),
        np.asarray(read_column(dataset, "patient_id"))[studies.first],
    )
    share = _as_share(scores, model.adaptation, settings)
    if share.macro.value is None:
        raise ValueError(f"no label of {evaluated} has both classes in split {benchmark.split!r}: there is no AUROC")
    left_out = [name for name in names if name not in evaluated]
    notes = [f"The head does not give these labels of the data: {', '.join(left_out)}."] if left_out else []
    return ProbeResult(
        benchmark.name,
        benchmark.version,
        provenance=describe_adapted(benchmark, model, dataset, settings),
        method=model.adaptation.method,
        shares=[share],
        undefined=[label.name for label in share.labels if label.auroc.value is None] + left_out,
        scores_sha256=save_scores(scores, settings.out, benchmark.name),
        features=None,
        subgroups=list(judge_subgroups(studies.films(dataset), scores, settings)),
        notes=notes + studies.notes() + training_notes(benchmark, model, splits),
        adaptation=model.adaptation,
        study_rule=studies.rule,
        studies=studies.count,
    )


def _of_studies(model: EvaluationModel, logits: Tensor, studies: Studies) -> np.ndarray:
    """What films are ordered by [films, L]: logits; of studies [studies, L], by a rule over probabilities."""
    if studies.rule == NONE:
        return logits.numpy()
    if studies.rule not in SCORE_RULES:
        raise ValueError(f"study_rule {studies.rule!r} is for models without a head, a head has scores: {SCORE_RULES}")
    return studies.scores((logits.exp() if model.one_of_all else logits.sigmoid()).numpy(), model.label_names)


def _shared_labels(benchmark: Benchmark, model: EvaluationModel, names: list[str]) -> list[str]:
    """The evaluated labels, in the benchmark's order: those asked for, else all of the data that the head has."""
    evaluated = [name for name in names if find_label(name, model.label_names) is not None]
    missing = [name for name in names if name not in evaluated]
    if not evaluated or (benchmark.labels and missing):
        raise ValueError(
            f"the head of {model.name} does not give {missing}, which {benchmark.name} evaluates: its labels are "
            f"{model.label_names}"
        )
    return evaluated


def _as_share(scores: ZeroShotScores, adaptation: Adaptation, settings: EvaluationSettings) -> ProbeShare:
    """The figures of one training in the form of a probe's."""
    aurocs = _resampled(scores, settings)
    labels = [
        ProbeLabel(
            name,
            Estimate.of_resamples(aurocs[:, number]),
            [None if np.isnan(aurocs[0, number]) else float(aurocs[0, number])],
            int(np.isfinite(scores.targets[:, number]).sum()),
            int(np.nansum(scores.targets[:, number])),
            [],
        )
        for number, name in enumerate(scores.names)
    ]
    macro = Estimate.of_resamples(macro_mean(aurocs))

    def recorded(value: int | None) -> list[int]:
        return [] if value is None else [value]

    return ProbeShare(
        label_share=adaptation.label_share,
        seeds=recorded(adaptation.seed),
        training_films=recorded(adaptation.train_films),
        training_patients=recorded(adaptation.train_patients),
        regularisation=[],
        macro=macro,
        macro_by_seed=[macro.value],
        spread=None,
        labels=labels,
    )


def _resampled(scores: ZeroShotScores, settings: EvaluationSettings) -> np.ndarray:
    """AUROC [1 + resamples, labels]."""
    return resample_by_patient(
        RankedLabels(scores.scores, scores.targets).aurocs,
        scores.patients,
        settings.resamples,
        settings.seed,
    )


def judge_subgroups(dataset: Dataset, scores: ZeroShotScores, settings: EvaluationSettings) -> Iterator[Subgroup]:
    """Macro AUROC among the films of each group."""
    for attribute, value, rows in subgroups(dataset):
        own = ZeroShotScores(scores.names, scores.scores[rows], scores.targets[rows], scores.patients[rows])
        aurocs = _resampled(own, settings)
        yield Subgroup(
            attribute,
            value,
            int(rows.sum()),
            len(np.unique(own.patients)),
            Estimate.of_resamples(macro_mean(aurocs)),
            int(np.isfinite(aurocs[0]).sum()),
        )


def describe_adapted(
    benchmark: Benchmark, model: EvaluationModel, films: Dataset, settings: EvaluationSettings
) -> Provenance:
    """The provenance of a result of a trained head: also what it was trained on may hold films of the benchmark."""
    provenance = describe(benchmark, model, films, settings)
    return replace(provenance, seen_sources=sorted({*provenance.seen_sources, *_exposed(benchmark, model)}))


def _exposed(benchmark: Benchmark, model: EvaluationModel) -> set[str]:
    """Corpora of the head's training that share films with the benchmark, other than the benchmark's own data."""
    sources = model.adaptation.sources if model.adaptation is not None else []
    return (set(benchmark.exposure) - {benchmark.dataset, benchmark.train_dataset}) & set(sources)


def adaptation_notes(benchmark: Benchmark, model: EvaluationModel) -> list[str]:
    """What a reader must know of a model that was adapted before; nothing of any other."""
    told = model.adaptation
    if told is None:
        return []
    if told.train_films is None:
        notes = ["How the model was adapted is not recorded: whether it saw the evaluated patients is not known."]
    else:
        labels = "" if told.label_share is None else f" ({100 * told.label_share:g}% of the labels)"
        patients = "" if told.train_patients is None else f" of {told.train_patients:,} patients"
        notes = [f"The model was adapted before ({told.method}) on {told.train_films:,} films{patients}{labels}."]
    if exposed := _exposed(benchmark, model):
        notes.append(f"It was adapted to {', '.join(sorted(exposed))}, which may hold films of this benchmark.")
    return notes


def training_notes(benchmark: Benchmark, model: EvaluationModel, splits: DatasetDict) -> list[str]:
    """`adaptation_notes`, and whether the evaluated patients were among those that the model was adapted to."""
    evaluated = splits[benchmark.split]
    notes = adaptation_notes(benchmark, model) + patients_adapted_to(evaluated, model)
    if any(Path(folder).is_dir() for folder in model.training_folders):
        return notes
    # The data of the adaptation are not recorded: the benchmark's own data are the likeliest.
    others = {name: splits[name] for name in ("train", "validation") if name in splits}
    return notes + patients_on_both_sides(evaluated, others, benchmark.split)


def patients_adapted_to(evaluated: Dataset, model: EvaluationModel) -> list[str]:
    """How many patients of these films the model was adapted to, by the folders that it records."""
    notes, patients = [], _people(evaluated)
    for folder in filter(Path.is_dir, map(Path, model.training_folders)):
        trained = load_prepared(str(folder), ("patient_id",)).get("train")
        shared = patients & _people(trained) if trained is not None else ()
        if shared:
            notes.append(
                f"{len(shared):,} of {len(patients):,} evaluated patients have films in the split that the model was "
                "adapted to."
            )
    return notes


def _people(films: Dataset) -> set[tuple[str, str]]:
    """Patients by corpus: two corpora may give one name to different people."""
    sources = films["source"] if "source" in films.column_names else [""] * len(films)
    return set(zip(sources, read_column(films, "patient_id"), strict=True))


def patients_on_both_sides(evaluated: Dataset, others: dict[str, Dataset], split: str) -> list[str]:
    """A patient of the evaluated films who is in a training split, too, may be known to the model."""
    patients = set(evaluated["patient_id"])
    notes = []
    for name, films in others.items():
        shared = patients & set(read_column(films, "patient_id")) if name != split else ()
        if shared:
            notes.append(f"{len(shared):,} of {len(patients):,} evaluated patients have films in split {name!r} too.")
    return notes
