"""Zero-shot classification of findings by pairs of prompts (protocol of arXiv 2602.22843)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset, DatasetDict
from torch import Tensor

from data_scripts.prepared.columns import read_column
from data_scripts.prepared.labels import chosen_labels, label_targets, prevalences
from eval.benchmarks import COMMON_FROM, Benchmark
from eval.features import embed_texts, image_embeddings
from eval.models.encoders import EvaluationModel
from eval.prompts import PROMPT_FAMILIES, PromptFamily, find_prompts, unused_pairs
from eval.provenance import describe
from eval.records.results import Estimate, FrequencyGroup, LabelResult, PromptResult, Subgroup, ZeroShotResult
from eval.scores import ZeroShotScores, save_scores
from eval.settings import EvaluationSettings
from eval.statistics.metrics import macro_mean, macro_means
from eval.statistics.ranked_labels import RankedLabels
from eval.statistics.significance import resample_all, resample_by_patient
from eval.statistics.subgroups import subgroups
from eval.study_level import Studies
from eval.tasks.calibration import calibration, two_class_softmax
from eval.tasks.thresholds import choose_threshold, judge_threshold, parse_rule, threshold_rates

#: The bootstrap cannot show patients that are not there: with so few of one class its intervals are too narrow.
_FEW_PATIENTS = 10
_NO_PROBABILITY = (
    "Scores are differences of two logits; their two-class softmax orders films alike but is no calibrated "
    "probability: see the calibration error."
)
#: Names of what is resampled.
_WHOLE, _RATES, _PROMPTS, _GROUP = "whole", "rates", "prompts", "group"


@dataclass(frozen=True)
class ChosenThreshold:
    """A threshold, and in words where it was chosen."""

    value: float
    where: str


def run(
    benchmark: Benchmark, model: EvaluationModel, splits: DatasetDict, settings: EvaluationSettings
) -> ZeroShotResult:
    """Evaluate a model on `benchmark.split` of `splits`.

    Raises:
        ValueError: the model has no text tower, labels or prompts do not match the data, a split is empty, no label
            has both positive and negative films, or the rule of the threshold is unknown.
    """
    parse_rule(settings.threshold)
    family = find_prompts(settings.prompts or benchmark.prompts)
    if not model.sees_text:
        raise ValueError(f"{model.name} has no text tower: zero-shot classification needs one")
    dataset = splits[benchmark.split]
    names, targets = chosen_labels(dataset, benchmark.labels, benchmark.unlisted_is_absent)
    if benchmark.labels and not (np.nansum(targets, axis=0) > 0).any():
        raise ValueError(f"no film of split {benchmark.split!r} has any of the labels {names}: nothing can be found")
    studies = Studies.of(dataset, settings.study_rule)
    targets = studies.targets(targets, names)
    embeddings = studies.embeddings(image_embeddings(model, dataset, settings))
    unused = unused_pairs(family, names)
    notes = [f"The prompts have pairs for {unused}, which are none of the labels."] if unused else []
    notes += _no_training_split(splits, benchmark.split) + studies.notes()
    prompts = prompt_embeddings(model, family, names)
    patients = np.asarray(read_column(dataset, "patient_id"))[studies.first]
    scores = studies.scores(pair_scores(model, embeddings, prompts), names)
    split = ZeroShotScores(names, family.without_others(scores, names), targets, patients)
    if not ((targets == 0).any(axis=0) & (targets == 1).any(axis=0)).any():
        raise ValueError(f"no label of split {benchmark.split!r} has both positive and negative films: no AUROC")
    frequency_split = "train" if "train" in splits else benchmark.split
    frequency = prevalences(splits[frequency_split])
    thresholds = _thresholds(benchmark, model, splits, family, prompts, names, settings)
    groups, families = list(subgroups(studies.films(dataset))), _other_scores(model, family, embeddings, studies, names)
    values = resample_all(
        {
            _WHOLE: RankedLabels(split.scores, targets).both,
            **{
                (_RATES, n): partial(threshold_rates, threshold.value, split.scores[:, n], targets[:, n])
                for n, threshold in thresholds.items()
            },
            **{(_PROMPTS, name): RankedLabels(scores, targets).aurocs for name, (_, scores) in families.items()},
            **{(_GROUP, attribute, value): _aurocs_among(rows, split) for attribute, value, rows in groups},
        },
        patients,
        settings.resamples,
        settings.seed,
    )
    aurocs, precisions = values[_WHOLE].swapaxes(0, 1)
    labels, macros = _summarise(split, aurocs, frequency, benchmark.rare_below)
    labels = [
        _detail(label, n, split, precisions[:, n], thresholds.get(n), values.get((_RATES, n)), settings)
        for n, label in enumerate(labels)
    ]
    return ZeroShotResult(
        benchmark=benchmark.name,
        benchmark_version=benchmark.version,
        prompts=family.name,
        **macros,
        macro_auprc=Estimate.of_resamples(macro_mean(precisions)),
        rare_below=benchmark.rare_below,
        prevalence_from=frequency_split,
        labels=labels,
        undefined=[label.name for label in labels if label.auroc.value is None],
        frequencies=frequency_groups(labels, aurocs, precisions, benchmark.rare_below),
        prompt_pairs={name: family.describe(name) for name in names},
        other_prompts=[
            _prompt_result(name, parts, names, values[_PROMPTS, name]) for name, (parts, _) in families.items()
        ],
        subgroups=[
            _subgroup(attribute, value, rows, split, values[_GROUP, attribute, value])
            for attribute, value, rows in groups
        ],
        notes=[*notes, *_few_patients(split, labels), _NO_PROBABILITY],
        scores_sha256=save_scores(split, settings.out, benchmark.name),
        study_rule=studies.rule,
        studies=studies.count,
        provenance=describe(benchmark, model, dataset, settings),
    )


def score_split(
    model: EvaluationModel, dataset: Dataset, labels: Sequence[str], prompts: str, settings: EvaluationSettings
) -> ZeroShotScores:
    """Score every film for every label (empty `labels`: all of the data) by prompts of the family `prompts`.

    Raises:
        ValueError: the split is empty, holds no label, or lacks one that is asked for; or a score is not finite.
    """
    if len(dataset) == 0:
        raise ValueError("the split is empty: there is nothing to evaluate on")
    names, targets = chosen_labels(dataset, labels)
    family = find_prompts(prompts)
    embedded = prompt_embeddings(model, family, names)
    scores = family.without_others(pair_scores(model, image_embeddings(model, dataset, settings), embedded), names)
    return ZeroShotScores(names, scores, targets, np.asarray(read_column(dataset, "patient_id")))


def pair_embeddings(model: EvaluationModel, pairs: Sequence[tuple[str, str]]) -> Tensor:
    """Embeddings [pairs, 2, D] of the positive and the negative prompt of every pair."""
    # Many pairs may share a prompt.
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompt for pair in pairs for prompt in pair))}
    return embed_texts(model, list(places))[torch.tensor([[places[prompt] for prompt in pair] for pair in pairs])]


def prompt_embeddings(model: EvaluationModel, family: PromptFamily, labels: Sequence[str]) -> Tensor:
    """Embeddings [labels, 2, D] of what is for every label and what is against it: the means over its comparisons."""
    comparisons = [family.comparisons(label) for label in labels]
    embeddings = pair_embeddings(model, [pair for pairs in comparisons for pair in pairs])
    return torch.stack([of_label.mean(dim=0) for of_label in embeddings.split([len(pairs) for pairs in comparisons])])


def pair_scores(model: EvaluationModel, films: Tensor, prompts: Tensor) -> np.ndarray:
    """Scores [films, labels]: logit of the positive minus logit of the negative prompt.

    That difference orders films as the published two-class softmax does; neither is a calibrated probability.

    Args:
        films: embeddings [films, D] of unit length.
        prompts: [labels, 2, D] of `prompt_embeddings` or `pair_embeddings`.

    Raises:
        ValueError: a score is not finite.
    """
    scores = model.logit_scale * films @ (prompts[:, 0] - prompts[:, 1]).T
    broken = (~scores.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if broken:
        raise ValueError(f"the scores of {len(broken)} films are not finite, the first is row {broken[0]}")
    return scores.numpy()


def judge(
    split: ZeroShotScores, prevalence: Mapping[str, float], rare_below: float, resamples: int, seed: int
) -> tuple[list[LabelResult], dict[str, Estimate]]:
    """AUROC of every label, and the macro means ("macro", "macro_common", "macro_rare"), with intervals by patient.

    Labels with one class only have no AUROC and stay out of the means. A resample without a positive film of some
    label leaves that label out of that resample's mean.
    """
    aurocs = resample_by_patient(RankedLabels(split.scores, split.targets).aurocs, split.patients, resamples, seed)
    return _summarise(split, aurocs, prevalence, rare_below)


def _summarise(
    split: ZeroShotScores, aurocs: np.ndarray, prevalence: Mapping[str, float], rare_below: float
) -> tuple[list[LabelResult], dict[str, Estimate]]:
    films, positives = np.isfinite(split.targets).sum(axis=0), np.nansum(split.targets, axis=0)
    labels = [
        LabelResult(
            name,
            Estimate.of_resamples(aurocs[:, number]),
            int(films[number]),
            int(positives[number]),
            prevalence.get(name, 0.0),
            prevalence.get(name, 0.0) < rare_below,
        )
        for number, name in enumerate(split.names)
    ]
    macros = macro_means(aurocs, np.array([label.rare for label in labels]))
    return labels, {name: Estimate.of_resamples(values) for name, values in macros.items()}


def frequency_groups(
    labels: Sequence[LabelResult], aurocs: np.ndarray, precisions: np.ndarray, rare_below: float
) -> list[FrequencyGroup]:
    """Common, medium and rare findings apart, by their frequency in training; groups without a finding are left out.

    `aurocs`, `precisions`: [1 + resamples, labels].
    """
    groups = []
    for name, lowest, below in (
        ("common", COMMON_FROM, 1.01),
        ("medium", rare_below, COMMON_FROM),
        ("rare", 0.0, rare_below),
    ):
        members = [number for number, label in enumerate(labels) if lowest <= label.prevalence < below]
        if members:
            estimates = (Estimate.of_resamples(macro_mean(values[:, members])) for values in (aurocs, precisions))
            groups.append(
                FrequencyGroup(name, lowest, min(below, 1.0), [labels[number].name for number in members], *estimates)
            )
    return groups


def _detail(
    label: LabelResult,
    number: int,
    split: ZeroShotScores,
    precisions: np.ndarray,
    chosen: ChosenThreshold | None,
    rates: np.ndarray | None,
    settings: EvaluationSettings,
) -> LabelResult:
    """The label with average precision, calibration and threshold; those are left out where a class is missing."""
    if label.auroc.value is None:
        return label
    films = np.isfinite(split.targets[:, number])
    scores, targets = split.scores[films, number], split.targets[films, number]
    threshold = None
    if chosen is not None:
        threshold = judge_threshold(chosen.value, settings.threshold, chosen.where, scores, targets, rates)
    return replace(
        label,
        auprc=Estimate.of_resamples(precisions),
        calibration=calibration(two_class_softmax(scores), targets),
        threshold=threshold,
    )


def _no_training_split(splits: DatasetDict, split: str) -> list[str]:
    if "train" in splits:
        return []
    return [f"There is no training split: how frequent findings are is their share of the films of {split!r} itself."]


def _few_patients(split: ZeroShotScores, labels: Sequence[LabelResult]) -> list[str]:
    few = []
    for label, targets in zip(labels, split.targets.T, strict=True):
        sides = [len(np.unique(split.patients[targets == value])) for value in (0, 1)]
        if label.auroc.value is not None and min(sides) < _FEW_PATIENTS:
            few.append(label.name)
    if not few:
        return []
    # The average precision of few positives is too high in the mean; that of a resample, which repeats them, more so.
    return [
        f"Fewer than {_FEW_PATIENTS} patients with or without it, so intervals are too narrow, and average precisions "
        f"and their intervals, also of the mean, too high: {', '.join(few)}."
    ]


def _thresholds(
    benchmark: Benchmark,
    model: EvaluationModel,
    splits: DatasetDict,
    family: PromptFamily,
    prompts: Tensor,
    names: list[str],
    settings: EvaluationSettings,
) -> dict[int, ChosenThreshold]:
    """Thresholds by the number of their label, where there is a split to choose on and the label has both classes."""
    split = benchmark.threshold_split
    if split is None or split not in splits or len(splits[split]) == 0:
        return {}
    studies = Studies.of(splits[split], settings.study_rule)
    targets = studies.targets(label_targets(splits[split], names, benchmark.unlisted_is_absent), names)
    if not np.isfinite(targets).any():
        return {}
    embeddings = studies.embeddings(image_embeddings(model, splits[split], settings))
    scores = studies.scores(pair_scores(model, embeddings, prompts), names)
    scores = family.without_others(scores, names)
    chosen = {}
    for number, known in enumerate(np.isfinite(targets).T):
        judged = targets[known, number]
        value = choose_threshold(scores[known, number], judged, settings.threshold)
        if value is not None:
            where = f"{split} ({int(judged.sum())} of {len(judged)} films positive)"
            chosen[number] = ChosenThreshold(value, where)
    return chosen


def _other_scores(
    model: EvaluationModel, family: PromptFamily, embeddings: Tensor, studies: Studies, labels: list[str]
) -> dict[str, tuple[list[str], np.ndarray]]:
    """Parts and scores [films, labels] of the other families, and of the ensemble: the mean of all embeddings of
    different words, again of unit length.
    """
    families = {**PROMPT_FAMILIES, family.name: family}
    texts = {name: prompt_embeddings(model, member, labels) for name, member in families.items()}
    # The words of "default" and "contrast" are those of "published".
    worded = [name for name, member in families.items() if not (member.no_finding_from_others or member.against)]
    members = {name: [name] for name in texts if name != family.name} | {"ensemble": worded}
    texts["ensemble"] = F.normalize(torch.stack([texts[name] for name in worded]).mean(dim=0), dim=-1)
    scored = {}
    for name, parts in members.items():
        scores = studies.scores(pair_scores(model, embeddings, texts[name]), labels)
        scored[name] = parts, families[name].without_others(scores, labels) if name in families else scores
    return scored


def _prompt_result(name: str, parts: list[str], labels: list[str], aurocs: np.ndarray) -> PromptResult:
    """The result of a family whose AUROCs are `aurocs` [1 + resamples, labels]."""
    single = dict(zip(labels, (None if np.isnan(auroc) else float(auroc) for auroc in aurocs[0]), strict=True))
    return PromptResult(name, parts, Estimate.of_resamples(macro_mean(aurocs)), single)


def _aurocs_among(rows: np.ndarray, split: ZeroShotScores) -> Callable[[np.ndarray], np.ndarray]:
    """AUROCs [R, labels] among the films `rows` (bool [films]), as a function of weights [R, films]."""
    return RankedLabels(split.scores, np.where(rows[:, None], split.targets, np.nan)).aurocs


def _subgroup(attribute: str, value: str, rows: np.ndarray, split: ZeroShotScores, aurocs: np.ndarray) -> Subgroup:
    return Subgroup(
        attribute,
        value,
        int(rows.sum()),
        len(set(split.patients[rows])),
        Estimate.of_resamples(macro_mean(aurocs)),
        int(np.isfinite(aurocs[0]).sum()),
    )
