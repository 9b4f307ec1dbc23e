"""Cells as typed figures: what each cost, what it gave, and how far it is from a reference at the same level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from eval.benchmarks import RARE_BELOW
from eval.records.results import Estimate
from eval.records.runs import AdaptRun
from eval.statistics.significance import bootstrap_p_value, mean_statistics, resample_statistics
from eval.studies.arms import CellKey, group_runs
from eval.studies.runs import JudgedRun

FORMAT_VERSION = 3
#: The figures by name, and the findings that each is a mean over.
GROUPS = {"macro": "all findings", "macro_common": "common findings", "macro_rare": "rare findings"}
#: The method that other adaptations are compared with.
_REFERENCE_METHOD = "lora"
_METRICS = {"zero_shot": "zero-shot AUROC", "disease_prediction": "macro AUROC", "segmentation": "mean Dice"}
_OF_PROBES = "AUROC of linear probes"


@dataclass(frozen=True)
class Figure:
    """A figure of the runs of a cell.

    Args:
        by_seed: of every run, with its 95 % interval by patient.
        mean, lowest, highest: over the seeds; None where no label can be evaluated.
        interval: of the mean over seeds; over patients and seeds.
        difference: the mean minus that of the reference at the same level, paired by film and seed, over the seeds that
            both have; None without any.
        p_value: two-sided, of the difference.
    """

    by_seed: list[Estimate]
    mean: float | None
    lowest: float | None
    highest: float | None
    interval: Estimate
    difference: Estimate | None
    p_value: float | None

    @property
    def values(self) -> list[float | None]:
        return [estimate.value for estimate in self.by_seed]


@dataclass(frozen=True)
class Cell:
    """An arm at one level; costs are means over its runs, None where not recorded.

    Args:
        level: of adaptations the share of the labels, of pretrainings the passes over all data that a run was allowed
            to cost; None where nothing was said.
        figures: by the names of `GROUPS`.
        flops: "trained", "scored" and "total"; None where a run counted none. `flops_by_seed` are the totals, and
            `relative_flops` is the mean total as a share of the reference's.
        keep_share, pairs_trained, pairs_scored: of pretrainings.
        train_films, trainable_parameters, trainable_share, bytes: of adaptations; bytes of the saved weights.
        peak_memory: of adaptations, in bytes.
        kept_start: adaptations whose best weights on validation were those before the first step: they show the start
            of the head, and nothing of the method.
    """

    arm: str
    level: float | None
    seeds: list[int]
    figures: dict[str, Figure]
    seconds: float
    flops: dict[str, float] | None
    flops_by_seed: list[float] | None
    relative_flops: float | None
    keep_share: float | None = None
    pairs_trained: float | None = None
    pairs_scored: float | None = None
    train_films: float | None = None
    trainable_parameters: float | None = None
    trainable_share: float | None = None
    bytes: float | None = None
    peak_memory: float | None = None
    kept_start: int = 0


@dataclass(frozen=True)
class Comparison:
    """All cells, those of the reference first; then by name and rising level, without levels by falling figure.

    Args:
        kind: of the runs: "pretraining" or "adaptation".
        names: labels or structures in the mean.
        prompts: of zero-shot findings.
        rare_below: of pretrainings, in training, or where probes are compared among the evaluated films.
        base: what was adapted.
        interval: what the intervals cover.
    """

    kind: str
    benchmark: str
    benchmark_version: int
    metric: str
    names: list[str]
    prompts: str | None
    rare_below: float | None
    dataset_fingerprint: str
    films: int
    patients: int
    limited: bool
    base: dict | None
    resamples: int
    seed: int
    reference: str
    cells: list[Cell]
    interval: str = "95 % percentile interval of a bootstrap over patients, one for all runs, and over the seeds"
    format_version: int = FORMAT_VERSION


#: Settings by which films are not seen whole.
_CHEAPER_VIEWS = frozenset(("low_resolution_size", "patch_drop_share"))


def choose_reference(groups: dict[CellKey, list[JudgedRun]], asked: str | None, first: JudgedRun) -> str:
    """The arm asked for; else LoRA of adaptations, and full data of pretrainings (of several such arms one with whole
    films, of those the one that trained on most), or the arm of the run `first`.

    Raises:
        ValueError: there is no such arm.
    """
    arms = {arm: runs[0].record for (arm, _), runs in groups.items()}
    if isinstance(first.record, AdaptRun):
        asked = asked or _REFERENCE_METHOD
    if asked is not None:
        if asked not in arms:
            raise ValueError(f"--reference {asked!r} is none of {sorted(arms)}")
        return asked
    full = [arm for arm, record in arms.items() if record.selection == "none"]
    of_first = next(arm for (arm, _), runs in groups.items() if first in runs)

    def rank(arm: str) -> tuple:
        return _CHEAPER_VIEWS.isdisjoint(arms[arm].settings), arms[arm].pairs_trained, -len(arm)

    return max(full, key=rank, default=of_first)


def compare_runs(
    runs: Sequence[JudgedRun], reference: str | None, by: Sequence[str], resamples: int, seed: int
) -> Comparison:
    """Summarise runs (of `load_runs`) and set every arm against the reference at the same level.

    Raises:
        ValueError: see `group_runs` and `choose_reference`.
    """
    groups = group_runs(runs, by)
    reference = choose_reference(groups, reference, runs[0])
    of_runs = resample_statistics([run.figures for run in runs], runs[0].patients, resamples, seed)
    by_folder = {run.folder: values for run, values in zip(runs, of_runs, strict=True)}
    resampled = {key: [by_folder[run.folder] for run in members] for key, members in groups.items()}
    cells = [
        _summarise(key, groups[key], resampled, None if key[0] == reference else (reference, key[1]), groups)
        for key in groups
    ]
    if all(cell.level is None for cell in cells):
        cells.sort(key=lambda cell: (cell.arm != reference, -(cell.figures["macro"].mean or 0)))
    else:
        cells.sort(key=lambda cell: (cell.arm != reference, cell.arm, cell.level or 0))
    result = runs[0].result
    return Comparison(
        kind=runs[0].record.kind,
        benchmark=result.benchmark,
        benchmark_version=result.benchmark_version,
        metric=_OF_PROBES if getattr(result, "features", None) else _METRICS[result.task],
        names=runs[0].names,
        prompts=runs[0].prompts,
        rare_below=getattr(result, "rare_below", RARE_BELOW if runs[0].rare else None),
        dataset_fingerprint=result.provenance.dataset_fingerprint,
        films=len(runs[0].patients),
        patients=len(np.unique(runs[0].patients)),
        limited=any(run.result.provenance.limited for run in runs),
        base=getattr(runs[0].record, "base", None),
        resamples=resamples,
        seed=seed,
        reference=reference,
        cells=cells,
    )


def _summarise(
    key: CellKey,
    members: Sequence[JudgedRun],
    resampled: dict[CellKey, list[dict[str, np.ndarray]]],
    against: CellKey | None,
    groups: dict[CellKey, list[JudgedRun]],
) -> Cell:
    """The cell `key`; `against` is that of the reference at the same level, which may not be there."""
    own, difference = mean_statistics(resampled[key]), _difference(key, against, groups, resampled)
    flops, of_reference = _mean_flops(members), _mean_flops(groups.get(against or key, ()))
    by_seed = [run.flops and run.flops["total"] for run in members]
    return Cell(
        arm=key[0],
        level=key[1],
        seeds=[run.seed for run in members],
        figures={name: _figure(name, resampled[key], own, difference) for name in own},
        seconds=mean(run.record.seconds for run in members),
        flops=flops,
        flops_by_seed=None if flops is None else by_seed,
        relative_flops=flops["total"] / of_reference["total"] if flops and of_reference else None,
        **(_adaptation_costs(members) if isinstance(members[0].record, AdaptRun) else _pretraining_costs(members)),
    )


def _difference(
    key: CellKey,
    against: CellKey | None,
    groups: dict[CellKey, list[JudgedRun]],
    resampled: dict[CellKey, list[dict[str, np.ndarray]]],
) -> dict[str, np.ndarray] | None:
    """Figures of the cell `key` minus those of `against` [1 + resamples], over the seeds that both have.

    What the other seeds of either were by chance is no difference of arms. None where they have no seed in common.
    """
    if against not in groups:
        return None
    common = {run.seed for run in groups[key]} & {run.seed for run in groups[against]}
    if not common:
        return None
    first, second = (
        mean_statistics([run for run, member in zip(resampled[of], groups[of], strict=True) if member.seed in common])
        for of in (key, against)
    )
    return {name: first[name] - second[name] for name in first}


def _figure(
    name: str,
    runs: Sequence[dict[str, np.ndarray]],
    own: dict[str, np.ndarray],
    difference: dict[str, np.ndarray] | None,
) -> Figure:
    by_seed = [Estimate.of_resamples(run[name]) for run in runs]
    values = [estimate.value for estimate in by_seed]
    spread = (None, None, None) if None in values else (mean(values), min(values), max(values))
    told = (None, None)
    if difference is not None:
        told = Estimate.of_resamples(difference[name]), bootstrap_p_value(difference[name])
    return Figure(by_seed, *spread, Estimate.of_resamples(own[name]), *told)


def _mean_flops(runs: Sequence[JudgedRun]) -> dict[str, float] | None:
    counted = [run.flops for run in runs]
    if None in counted or not counted:
        return None
    return {name: mean(flops[name] for flops in counted) for name in ("trained", "scored", "total")}


def _pretraining_costs(runs: Sequence[JudgedRun]) -> dict:
    return {
        "keep_share": mean(run.record.keep_share_reached for run in runs),
        "pairs_trained": mean(run.record.pairs_trained for run in runs),
        "pairs_scored": mean(run.record.pairs_scored for run in runs),
    }


def _adaptation_costs(runs: Sequence[JudgedRun]) -> dict:
    saved, peaks = [run.record.adapter_bytes for run in runs], [run.record.peak_memory for run in runs]
    trainable = mean(run.record.trainable_parameters for run in runs)
    return {
        "train_films": mean(run.record.train_films for run in runs),
        "trainable_parameters": trainable,
        "trainable_share": trainable / mean(run.record.all_parameters for run in runs),
        "bytes": None if None in saved else mean(saved),
        "peak_memory": None if None in peaks else mean(peaks),
        "kept_start": sum(run.record.best_step == 0 for run in runs),
    }
