"""Logistic regression on frozen features, with few and with all labels: the samples, the fits, the figures.

For every sample of patients: features are standardised by the sampled films, a model for each label is fitted for each
strength of the penalty in `C_GRID`, the strength is chosen by AUROC on validation, the test is evaluated once. The
whole validation split is used, however few labels are trained on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from accelerate import PartialState
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from data_scripts.prepared.patient_sample import draw_patients
from data_scripts.progress import progress
from eval.records.results import Estimate, ProbeLabel, ProbeShare
from eval.statistics.metrics import auroc
from eval.statistics.ranked_labels import RankedLabels
from eval.statistics.significance import resample_by_patient

#: Inverse strengths of the L2 penalty (scikit-learn's C) that validation chooses from, the strongest penalty first.
C_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
#: L-BFGS in fp32, each C started at the solution of the last. On one core, 100,000 films of 768 features take about 5 s
#: a label; fp64 takes twice as long, Newton's method with Cholesky factors three times; liblinear has no warm start.
_SOLVER, _MAX_ITERATIONS = "lbfgs", 1000


@dataclass(frozen=True)
class LabelledFeatures:
    """A split: `features` [n, D] fp32, `targets` [n, labels] (1, 0 or NaN: uncertain or not judged), `patients` [n]."""

    features: np.ndarray
    targets: np.ndarray
    patients: np.ndarray

    def rows(self, rows: np.ndarray) -> LabelledFeatures:
        return LabelledFeatures(self.features[rows], self.targets[rows], self.patients[rows])


@dataclass(frozen=True)
class FittedProbe:
    """The probes of one sample: `scores` [n, labels] of the test films, NaN for labels that could not be fitted.

    Args:
        regularisation: C by label; labels that were not fitted are missing.
        chosen_together: labels without both classes on validation; their C is the best of the others in the mean.
        not_converged: labels whose chosen probe was still improving at the last iteration.
        films, patients: of the sample; `positives` [labels] of it.
    """

    scores: np.ndarray
    regularisation: dict[str, float]
    chosen_together: list[str]
    not_converged: list[str]
    films: int
    patients: int
    positives: list[int]


@dataclass(frozen=True)
class LinearProbe:
    """One logistic regression a label, on features less `mean` [D], over `scale` [D].

    Args:
        weights, biases: [labels, D] and [labels]; NaN for labels that could not be fitted.
        regularisation, chosen_together, not_converged: as of `FittedProbe`.
        chosen_auroc: mean AUROC on validation of what was chosen; NaN where nothing could be.
    """

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    biases: np.ndarray
    regularisation: dict[str, float]
    chosen_together: list[str]
    not_converged: list[str]
    chosen_auroc: float

    def scores(self, features: np.ndarray) -> np.ndarray:
        """[n, labels] fp32 for features [n, D], in the order of the logits: without the biases, which change none."""
        return ((features - self.mean) / self.scale).astype(np.float32) @ self.weights.T

    def as_layer(self) -> tuple[np.ndarray, np.ndarray]:
        """Weight [labels, D] and bias [labels] of a linear layer on features as they are."""
        weight = self.weights / self.scale
        return weight, self.biases - weight @ self.mean


def fit_linear(
    names: Sequence[str],
    train: LabelledFeatures,
    validation: LabelledFeatures,
    max_iterations: int = _MAX_ITERATIONS,
) -> LinearProbe:
    """Fit one probe a label and choose its penalty on validation.

    A label with one class in the sample cannot be fitted; nor can any where no fitted label has both classes on
    validation, for then nothing tells which penalty is good.
    """
    scaler = StandardScaler().fit(train.features)
    train_features, validation_features = (
        scaler.transform(split.features).astype(np.float32) for split in (train, validation)
    )
    paths, aurocs = {}, {}
    for number, name in enumerate(names):
        films = np.isfinite(train.targets[:, number])
        if len(np.unique(train.targets[films, number])) < 2:
            continue
        paths[name] = _fit_path(train_features[films], train.targets[films, number], max_iterations)
        known = np.isfinite(validation.targets[:, number])
        aurocs[name] = [
            auroc(validation_features[known] @ fit.weights, validation.targets[known, number]) for fit in paths[name]
        ]
    best, together = _choose(aurocs)
    weights, biases = np.full((len(names), train.features.shape[1]), np.nan, np.float32), np.full(len(names), np.nan)
    for number, name in enumerate(names):
        if name in best:
            fit = paths[name][best[name]]
            weights[number], biases[number] = fit.weights, fit.bias
    chosen = [aurocs[name][index] for name, index in best.items() if name not in together]
    return LinearProbe(
        scaler.mean_,
        scaler.scale_,
        weights,
        biases,
        {name: C_GRID[index] for name, index in best.items()},
        together,
        [name for name, index in best.items() if not paths[name][index].converged],
        float(np.mean(chosen)) if chosen else float("nan"),
    )


def fit_probe(names: list[str], train: LabelledFeatures, validation: LabelledFeatures, test: np.ndarray) -> FittedProbe:
    """Fit by `fit_linear` and score the test features [n, D]."""
    probe = fit_linear(names, train, validation)
    return FittedProbe(
        probe.scores(test),
        probe.regularisation,
        probe.chosen_together,
        probe.not_converged,
        len(train.patients),
        len(np.unique(train.patients)),
        np.nansum(train.targets, axis=0).astype(int).tolist(),
    )


class _Fit(NamedTuple):
    weights: np.ndarray
    bias: float
    converged: bool


def _fit_path(features: np.ndarray, targets: np.ndarray, max_iterations: int) -> list[_Fit]:
    """A fit for each C of the grid, weights [D]."""
    model = LogisticRegression(solver=_SOLVER, max_iter=max_iterations, warm_start=True)
    path = []
    for strength in C_GRID:
        model.set_params(C=strength)
        with warnings.catch_warnings():
            # Told by label.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(features, targets)
        converged = bool(model.n_iter_[0] < max_iterations)
        path.append(_Fit(model.coef_[0].astype(np.float32), float(model.intercept_[0]), converged))
    return path


def _choose(aurocs: dict[str, list[float]]) -> tuple[dict[str, int], list[str]]:
    """Index of the best C by label (of equals the strongest penalty), and the labels for which the others chose."""
    defined = {name: values for name, values in aurocs.items() if np.isfinite(values).all()}
    if not defined:
        return {}, []
    common = int(np.argmax(np.mean(list(defined.values()), axis=0)))
    best = {name: int(np.argmax(defined[name])) if name in defined else common for name in aurocs}
    return best, [name for name in aurocs if name not in defined]


def probe_share(
    names: list[str],
    splits: dict[str, LabelledFeatures],
    share: float,
    seeds: Sequence[int],
    resamples: int,
    bootstrap_seed: int,
    pool: Callable[[np.ndarray], np.ndarray] = lambda scores: scores,
) -> tuple[ProbeShare, list[FittedProbe]]:
    """All samples of one label share, evaluated on the test split.

    A label's figure is the mean over the samples in which it could be fitted, and the macro mean is of the labels that
    could be in every sample; intervals are over the patients of the test, for the mean over the samples.

    Args:
        names: of the labels.
        splits: "train", "validation" and "test".
        share: of the training patients, above 0 and up to 1.
        seeds: one sample each.
        resamples, bootstrap_seed: of the intervals.
        pool: from scores of the test's features to those of its targets and patients, should these be studies of
            several films.
    """
    train, validation, test = (splits[name] for name in ("train", "validation", "test"))
    fits = []
    shown = {"desc": f"probes on {share:.0%} of the labels", "disable": not PartialState().is_main_process}
    for seed in progress(seeds, unit=" samples", **shown):
        sampled = train.rows(draw_patients(train.patients, share, seed))
        fit = fit_probe(names, sampled, validation, test.features)
        fits.append(replace(fit, scores=pool(fit.scores)))
    ranked = [_rank_fitted(fit.scores, test.targets) for fit in fits]
    aurocs = resample_by_patient(
        lambda weights: np.stack([labels_of_one.aurocs(weights) for labels_of_one in ranked], axis=1),
        test.patients,
        resamples,
        bootstrap_seed,
    )
    in_all = np.isfinite(aurocs[0]).all(axis=0)
    macros = nan_mean(aurocs[:, :, in_all], axis=2)
    by_label = nan_mean(aurocs, axis=1)
    labels = [
        ProbeLabel(
            name,
            Estimate.of_resamples(by_label[:, number]),
            [_or_none(value) for value in aurocs[0, :, number]],
            int(np.isfinite(test.targets[:, number]).sum()),
            int(np.nansum(test.targets[:, number])),
            [fit.positives[number] for fit in fits],
        )
        for number, name in enumerate(names)
    ]
    by_seed = [_or_none(value) for value in macros[0]]
    return ProbeShare(
        label_share=share,
        seeds=list(seeds),
        training_films=[fit.films for fit in fits],
        training_patients=[fit.patients for fit in fits],
        regularisation=[fit.regularisation for fit in fits],
        macro=Estimate.of_resamples(nan_mean(macros, axis=1)),
        macro_by_seed=by_seed,
        spread=float(np.std(by_seed, ddof=1)) if len(seeds) > 1 and in_all.any() else None,
        labels=labels,
    ), fits


def _rank_fitted(scores: np.ndarray, targets: np.ndarray) -> RankedLabels:
    """The labels, of which those without scores have no figures."""
    return RankedLabels(scores, np.where(np.isfinite(scores).all(axis=0), targets, np.nan))


def nan_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean over the defined values; NaN, without a warning, where there is none."""
    count = np.isfinite(values).sum(axis=axis)
    return np.nansum(values, axis=axis) / np.where(count > 0, count, np.nan)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
