"""Disease prediction: logistic regression on frozen image features, at several shares of the training labels.

The model itself is not trained here. A model that was adapted before (`train.adapt`) is evaluated by its own head.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from datasets import DatasetDict

from data_scripts.prepared.columns import read_column
from data_scripts.prepared.labels import chosen_labels, label_targets
from data_scripts.prepared.patient_sample import hold_out
from eval.benchmarks import Benchmark
from eval.features import image_embeddings
from eval.models.encoders import EvaluationModel
from eval.records.results import ProbeResult, ProbeShare
from eval.scores import ZeroShotScores, save_scores
from eval.settings import PROBE_FEATURES, EvaluationSettings
from eval.splits import ALL
from eval.study_level import Studies
from eval.tasks.predicted_labels import (
    adaptation_notes,
    describe_adapted,
    judge_head,
    judge_subgroups,
    patients_on_both_sides,
)
from eval.tasks.probes import FittedProbe, LabelledFeatures, probe_share


class _Share(NamedTuple):
    """One label share and the probes of its samples."""

    result: ProbeShare
    fits: list[FittedProbe]


def run(benchmark: Benchmark, model: EvaluationModel, splits: DatasetDict, settings: EvaluationSettings) -> ProbeResult:
    """Fit probes on the training split, choose their penalty on validation, evaluate them on the benchmark's split.

    A model that `predict_labels` is evaluated by what it predicts instead (see `judge_head`).

    Raises:
        ValueError: there are no training films apart from the evaluated ones, a label asked for is missing there or
            among the evaluated films, no label has both classes on validation, or none could be fitted and evaluated.
    """
    if hasattr(model, "predict_labels"):
        return judge_head(benchmark, model, splits, settings)
    names, parts, notes = prepare_features(benchmark, model, splits, settings)
    dataset = splits[benchmark.split]
    studies = Studies.of(dataset, settings.study_rule)
    parts["test"] = test = _of_studies(parts["test"], studies, names)
    pool = partial(studies.scores, labels=names)
    shares = []
    for share in sorted(set(settings.label_shares)):
        # All labels are one sample, whatever the seed.
        seeds = range(settings.seed, settings.seed + (settings.num_seeds if share < 1 else 1))
        drawn = probe_share(names, parts, share, list(seeds), settings.resamples, settings.seed, pool)
        shares.append(_Share(*drawn))
    last = shares[-1]
    if last.result.macro.value is None:
        raise ValueError(
            f"no label of {names} could be fitted in all samples of {last.result.label_share:.0%} of the training "
            f"patients and has both classes in split {benchmark.split!r}: there is no AUROC"
        )
    scores = _fitted_scores(names, last.fits[0], test)
    return ProbeResult(
        benchmark.name,
        benchmark.version,
        provenance=describe_adapted(benchmark, model, dataset, settings),
        method="linear_probe",
        shares=[share.result for share in shares],
        undefined=[label.name for label in last.result.labels if label.auroc.value is None],
        scores_sha256=save_scores(scores, settings.out, benchmark.name),
        features=settings.probe_features,
        # Of the largest label share (its first sample).
        subgroups=list(judge_subgroups(studies.films(dataset), scores, settings)),
        adaptation=model.adaptation,
        study_rule=studies.rule,
        studies=studies.count,
        notes=[
            *adaptation_notes(benchmark, model),
            *notes,
            *studies.notes(),
            *(note for share in shares for note in share_notes(names, *share)),
        ],
    )


def _of_studies(test: LabelledFeatures, studies: Studies, names: list[str]) -> LabelledFeatures:
    """The test with targets and patients of studies; its features stay those of films where scores are pooled."""
    features = studies.embeddings(torch.from_numpy(test.features)).numpy()
    return LabelledFeatures(features, studies.targets(test.targets, names), test.patients[studies.first])


def prepare_features(
    benchmark: Benchmark, model: EvaluationModel, splits: DatasetDict, settings: EvaluationSettings
) -> tuple[list[str], dict[str, LabelledFeatures], list[str]]:
    """Names of the labels; features and targets of "train", "validation" and "test"; notes about the splits.

    Raises:
        ValueError: see `run`.
    """
    if benchmark.split in ("train", ALL) or "train" not in splits:
        raise ValueError(
            f"a probe of split {benchmark.split!r} needs a split 'train' apart from it, there are {sorted(splits)}: "
            "prepare the data with a training split"
        )
    names, targets = chosen_labels(splits[benchmark.split], benchmark.labels, benchmark.unlisted_is_absent)
    used = {"train": "train", "test": benchmark.split}
    # The split that is evaluated must not choose.
    if benchmark.split != "validation" and len(splits.get("validation", ())):
        used["validation"] = "validation"
    parts = {}
    for part, split in used.items():
        values = targets if part == "test" else label_targets(splits[split], names, benchmark.unlisted_is_absent)
        method = PROBE_FEATURES[settings.probe_features]
        features = image_embeddings(model, splits[split], settings, method).numpy()
        parts[part] = LabelledFeatures(features, values, np.asarray(read_column(splits[split], "patient_id")))
    unjudged = [name for name, column in zip(names, parts["train"].targets.T, strict=True) if np.isnan(column).all()]
    if benchmark.labels and unjudged:
        raise ValueError(f"labels {unjudged} are judged in no training film: they cannot be learnt")
    others = {name: splits[name] for name in ("train", "validation") if name in parts}
    notes = patients_on_both_sides(splits[benchmark.split], others, benchmark.split)
    apart = "of the validation split"
    if "validation" not in parts or not _can_choose(parts["validation"]):
        train, held_out = parts["train"], hold_out(parts["train"].patients, settings.seed)
        parts["train"], parts["validation"] = train.rows(~held_out), train.rows(held_out)
        apart = "sampled by the seed and held out of training, since no validation split has a label with both classes"
    if not _can_choose(parts["validation"]):
        raise ValueError("no label has both positive and negative films on validation: no penalty can be chosen")
    films, patients = len(parts["validation"].patients), len(np.unique(parts["validation"].patients))
    notes.append(f"Penalties were chosen on {films:,} films of {patients:,} patients {apart}.")
    return names, parts, notes


def _can_choose(validation: LabelledFeatures) -> bool:
    """Whether any label has both classes."""
    return any({0, 1} <= set(column[np.isfinite(column)].tolist()) for column in validation.targets.T)


def share_notes(names: list[str], share: ProbeShare, fits: list[FittedProbe]) -> list[str]:
    """What a reader must know about the probes of a label share: what was not fitted, chosen or converged."""
    notes = []
    missing = {name: sum(name not in fit.regularisation for fit in fits) for name in names}
    if any(missing.values()):
        listed = ", ".join(f"{name} in {count}" for name, count in missing.items() if count)
        notes.append(
            f"{share.label_share:.0%} of labels, samples: {len(fits)}; labels not fitted, so not in the macro mean "
            f"(one value only among the sampled films): {listed}. Means of different labels do not compare."
        )
    for reason, attribute in (
        ("took the penalty that is best for the others (one value only on validation)", "chosen_together"),
        ("had not converged at the last iteration", "not_converged"),
    ):
        found = sorted({name for fit in fits for name in getattr(fit, attribute)})
        if found:
            notes.append(f"{share.label_share:.0%} of labels: probes that {reason}: {', '.join(found)}.")
    return notes


def _fitted_scores(names: list[str], fit: FittedProbe, test: LabelledFeatures) -> ZeroShotScores:
    """The scores of the labels that could be fitted, as they are kept for comparisons of models film by film."""
    fitted = [number for number, name in enumerate(names) if name in fit.regularisation]
    # Picked columns are stored column by column, which a file of scores would not show.
    scores, targets = (np.ascontiguousarray(columns[:, fitted]) for columns in (fit.scores, test.targets))
    return ZeroShotScores([names[number] for number in fitted], scores, targets, test.patients)
