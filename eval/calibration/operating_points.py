"""Chooses operating points on films of known truth, and says how those of a model do on other films."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from datasets import Dataset

from data_scripts.prepared.columns import read_column
from data_scripts.prepared.labels import fingerprint
from eval.calibration.calibrators import earned_calibration
from eval.calibration.shares import differ, share_interval
from eval.features import image_embeddings
from eval.models.adapted import FindingsModel
from eval.models.encoders import EvaluationModel
from eval.prompts import PromptFamily
from eval.records.results import Calibration, Threshold
from eval.scores import ZeroShotScores
from eval.settings import EvaluationSettings
from eval.statistics.metrics import LEAST_PATIENTS
from eval.statistics.significance import resample_by_patient
from eval.tasks.calibration import calibration
from eval.tasks.thresholds import choose_step, judge_threshold, parse_rule, threshold_rates, weighted_roc
from eval.tasks.zero_shot import pair_embeddings, pair_scores, prompt_embeddings
from modeling_chexficient.operating_points_chexficient import (
    DIFFERENCE,
    FORMAT_OF_ONE_PAIR,
    FORMAT_VERSION,
    LOGIT,
    OperatingPoint,
    OperatingPoints,
    Share,
    logit_of,
    preprocessing_of,
)

#: Positive films, and negative ones, that a finding needs: of 50 the 95 % interval of a sensitivity of 0.9 is still 18
#: points wide (Clopper and Pearson, Biometrika 26(4), 1934), of 20 it is 30.
LEAST_FILMS = 50


@dataclass(frozen=True)
class PointRules:
    """How points are chosen.

    Args:
        rule: "youden" or "sensitivity=0.95".
        least_films: positive films, and negative ones, without which a finding is refused.
        resamples, seed: of the intervals and of what is held out.
    """

    rule: str = "youden"
    least_films: int = LEAST_FILMS
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self):
        parse_rule(self.rule)
        if self.least_films < LEAST_PATIENTS:
            raise ValueError(f"least_films is {self.least_films}: below {LEAST_PATIENTS} no interval means anything")


@dataclass(frozen=True)
class PointCheck:
    """A point on other films: what it promised, what came of it.

    `found` counts on these films; `sensitivity` and `specificity` are those there, None where their class is missing.
    `calibration` is that of the calibrated probabilities on them, None without any.
    """

    name: str
    point: OperatingPoint
    found: Threshold
    sensitivity: Share | None
    specificity: Share | None
    films: int
    calibration: Calibration | None

    def inside(self, kind: str) -> bool | None:
        """Whether the `kind` ("sensitivity" or "specificity") here lies in the interval stated; None: none here."""
        stated, found = getattr(self.point, kind), getattr(self, kind)
        return None if found is None else stated.low <= found.value <= stated.high

    def differs(self, kind: str) -> bool | None:
        """Whether it is further from what was stated than the chance of both samples of films explains."""
        stated, found = getattr(self.point, kind), getattr(self, kind)
        return None if found is None else differ(stated, found)


def refusal(targets: np.ndarray, patients: np.ndarray, least_films: int) -> str | None:
    """Why a finding gets no point from `targets` [n] (1, 0, NaN: not judged) of `patients` [n]; None where it does."""
    for value, kind in ((1, "positive"), (0, "negative")):
        films = targets == value
        count, people = int(films.sum()), len(np.unique(patients[films]))
        if count < least_films:
            return f"{count:,} {kind} films, at least {least_films} are needed"
        if people < LEAST_PATIENTS:
            return f"its {count:,} {kind} films are of {people} patients, at least {LEAST_PATIENTS} are needed"
    return None


def choose_points(
    scores: ZeroShotScores, rules: PointRules, family: PromptFamily | None = None
) -> tuple[dict[str, OperatingPoint], dict[str, str]]:
    """The operating points by finding, and why the other findings have none.

    Args:
        scores: of the films to choose on.
        rules: how.
        family: the prompts that gave the scores; None: a head did.
    """
    points, refused = {}, {}
    for name, own, targets in zip(scores.names, scores.scores.T, scores.targets.T, strict=True):
        why = refusal(targets, scores.patients, rules.least_films)
        if why is not None:
            refused[name] = why
            continue
        known = np.isfinite(targets)
        pairs, from_others = ([], False) if family is None else family.pairs_behind(name, scores.names)
        prompts = [list(pair) for pair in pairs]
        points[name] = choose_point(own[known], targets[known], scores.patients[known], rules, prompts, from_others)
    return points, refused


def choose_point(
    scores: np.ndarray,
    targets: np.ndarray,
    patients: np.ndarray,
    rules: PointRules,
    prompts: list[list[str]] | None = None,
    from_others: bool = False,
) -> OperatingPoint:
    """The point of one finding from `scores`, `targets` (0 or 1, both there) and `patients` [n]."""
    threshold, sensitivity, specificity = choose_with_shares(scores, targets, patients, rules)
    positives = int((targets > 0).sum())
    return OperatingPoint(
        threshold=threshold,
        sensitivity=sensitivity,
        specificity=specificity,
        films=len(targets),
        patients=len(np.unique(patients)),
        positives=positives,
        prevalence=positives / len(targets),
        calibration=earned_calibration(scores, targets, patients, rules.resamples, rules.seed),
        prompts=prompts or [],
        from_others=from_others,
    )


def choose_with_shares(
    scores: np.ndarray, targets: np.ndarray, patients: np.ndarray, rules: PointRules
) -> tuple[float, Share, Share]:
    """The threshold by `rules`, and the sensitivity and specificity to expect there of other films.

    Films that choose a threshold make it look better than it is. In each resample of patients it is therefore chosen
    anew and measured on the resample and on all films; the mean difference, taken off what was measured, gives the
    value (Efron's correction for optimism, as in Harrell et al., Statistics in Medicine 15(4), 1996), and the spread
    of the differences its interval (`share_interval`). How often these hold: `eval.calibration.coverage`.
    """
    whole = weighted_roc(scores, targets, np.ones((1, len(scores))))
    threshold = float(whole[0][choose_step(*whole[1:], rules.rule)[0]])

    def measured(weights: np.ndarray) -> np.ndarray:
        """[R, 4]: of each resample's own threshold the sensitivity there and on all films, then the specificities."""
        _, *shares = weighted_roc(scores, targets, weights)
        steps, rows = choose_step(*shares, rules.rule), np.arange(len(weights))
        return np.stack(
            [shares[0][rows, steps], whole[1][0, steps], shares[1][rows, steps], whole[2][0, steps]], axis=1
        )

    values = resample_by_patient(measured, patients, rules.resamples, rules.seed)
    sensitivity = _corrected(values[0, 0], values[1:, 0] - values[1:, 1], patients[targets > 0])
    specificity = _corrected(values[0, 2], values[1:, 2] - values[1:, 3], patients[targets <= 0])
    return threshold, sensitivity, specificity


def _corrected(apparent: float, optimism: np.ndarray, patients: np.ndarray) -> Share:
    """A share of the films of `patients` [n] less its `optimism` [resamples], and what their spread says of it."""
    corrected = np.clip(apparent - optimism[np.isfinite(optimism)], 0, 1)
    return share_interval(float(corrected.mean()), optimism, len(patients), len(np.unique(patients)))


def score_head(model: FindingsModel, films: Dataset, settings: EvaluationSettings) -> np.ndarray:
    """Logits [films, labels of the head] in float64."""
    logits = image_embeddings(model, films, settings, "predict_labels").numpy()
    return logit_of(logits) if model.one_of_all else logits.astype(np.float64)


def score_films(
    model: EvaluationModel,
    films: Dataset,
    targets: np.ndarray,
    names: Sequence[str],
    settings: EvaluationSettings,
    family: PromptFamily | None = None,
) -> ZeroShotScores:
    """Scores of `films` for the findings `names` by prompts of `family`, or without it by the head of a model.

    Args:
        targets: [films, names], 1, 0 or NaN.

    Raises:
        ValueError: see `score_head` and `eval.tasks.zero_shot.pair_scores`.
    """
    if family is None:
        scores = score_head(model, films, settings)[:, [model.label_names.index(name) for name in names]]
    else:
        prompts = prompt_embeddings(model, family, names)
        differences = pair_scores(model, image_embeddings(model, films, settings), prompts)
        scores = family.without_others(differences, names).astype(np.float64)
    return ZeroShotScores(list(names), scores, targets, np.asarray(read_column(films, "patient_id")))


def score_by_points(
    model: EvaluationModel, films: Dataset, points: OperatingPoints, names: Sequence[str], settings: EvaluationSettings
) -> np.ndarray:
    """Scores [films, names] as the points of `names` mean them: by the head, or by the prompts that each names."""
    if isinstance(model, FindingsModel):
        return score_head(model, films, settings)[:, [model.label_names.index(name) for name in names]]
    embeddings = image_embeddings(model, films, settings)
    columns = []
    for name in names:
        point = points.point(name)
        pairs = [(positive, negative) for positive, negative in point.prompts]
        differences = pair_scores(model, embeddings, pair_embeddings(model, pairs)).astype(np.float64)
        columns.append([point.score(row) for row in differences])
    return np.array(columns).T


def describe_points(
    model: EvaluationModel,
    films: Dataset,
    scores: ZeroShotScores,
    rules: PointRules,
    data: str,
    split: str,
    family: PromptFamily | None = None,
    views: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> OperatingPoints:
    """The points of `choose_points` with all that they were chosen by."""
    points, refused = choose_points(scores, rules, family)
    means = any(len(point.prompts) > 1 and not point.from_others for point in points.values())
    return OperatingPoints(
        score=LOGIT if family is None else DIFFERENCE,
        rule=rules.rule,
        points=points,
        refused=refused,
        least_films=rules.least_films,
        data=data,
        split=split,
        data_fingerprint=fingerprint(films),
        model_sha256=model.weights_sha256,
        resamples=rules.resamples,
        seed=rules.seed,
        views=list(views),
        notes=list(notes),
        preprocessing=preprocessing_of(model.image_processor),
        outputs=model.outputs or [],
        format_version=FORMAT_VERSION if means else FORMAT_OF_ONE_PAIR,
    )


def check_points(
    points: OperatingPoints, scores: ZeroShotScores, resamples: int, seed: int, where: str
) -> list[PointCheck]:
    """How the points of `scores.names` do on these films; findings that no film judges are left out."""
    checks = []
    for name, own, targets in zip(scores.names, scores.scores.T, scores.targets.T, strict=True):
        known, point = np.isfinite(targets), points.point(name)
        if not known.any():
            continue
        own, targets, patients = own[known], targets[known], scores.patients[known]
        rates = resample_by_patient(partial(threshold_rates, point.threshold, own, targets), patients, resamples, seed)
        found = judge_threshold(point.threshold, points.rule, where, own, targets, rates)
        here = [
            None
            if estimate.value is None
            else share_interval(estimate.value, resampled, len(people), len(np.unique(people)))
            for estimate, resampled, people in (
                (found.sensitivity, rates[1:, 0], patients[targets > 0]),
                (found.specificity, rates[1:, 1], patients[targets <= 0]),
            )
        ]
        fitted = point.calibration
        told = None if fitted is None else calibration(fitted.probability(own), targets)
        checks.append(PointCheck(name, point, found, *here, len(targets), told))
    return checks
