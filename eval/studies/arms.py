"""Evaluated runs as the cells of one question: runs that differ in nothing but their seed are one cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.records.runs import AdaptRun, PretrainRun
from eval.studies.runs import JudgedRun, load_judged

#: Name of the arm, and level (see `JudgedRun.level`).
CellKey = tuple[str, float | None]

#: Settings that make a variant of a selection, and how the name of an arm says so.
_VARIANTS = {
    "score_image_size": "scored at {} px",
    "low_resolution_size": "first trained at {} px",
    "low_resolution_share": "low-resolution share {}",
    "patch_drop_share": "first trained without {} of the patches",
    "patch_drop_steps_share": "so in {} of the steps",
    "curation_trains_on": "after a pass over {}",
    "discount_wrong_reports": "wrong reports discounted",
    "balance_findings": "findings balanced by {}",
    "objective": "{}",
}
#: How the name of an arm says other settings that arms are told apart by; those not listed come by their name.
_WORDS = {"num_train_epochs": "passes: {}"}
#: Settings that tell adaptations apart without making another arm of them.
_OF_ONE_RUN = {"output_dir", "seed", "data_seed", "run_name", "logging_dir", "label_share", "method"}
#: What else must be equal among pretrainings of one arm; what older runs did not write down is None.
_OF_ONE_ARM = ("schedule", "corpus_pairs", "corpus_fingerprint", "keep_share_asked")


def load_runs(folders: Sequence[Path], benchmark: str | None, by: Sequence[str] = ()) -> list[JudgedRun]:
    """The runs in the order of `folders`.

    Args:
        benchmark: see `load_judged`.
        by: settings that make another arm; adaptations that differ in them may be trained on other films.

    Raises:
        ValueError: see `load_judged`; or two runs, which are named, are not of the same question: another kind of run,
            benchmark or version of it, other films, labels or base, or, of adaptations, other training films for one
            share and seed.
    """
    runs = [load_judged(folder, benchmark) for folder in folders]
    check_same_question(runs, by)
    return runs


def check_same_question(runs: Sequence[JudgedRun], by: Sequence[str] = ()) -> None:
    """Raise ValueError where two runs are not of one question; see `load_runs`."""
    trained: dict[tuple, JudgedRun] = {}
    for run in runs:
        _check_same_question(runs[0], run)
        beside = trained.setdefault((run.label_share, run.seed), run)
        if isinstance(run.record, AdaptRun) and not by:
            for name in ("train_films", "train_patients", "sources"):
                _check_equal(
                    beside,
                    run,
                    f"{name}, of one share and seed",
                    getattr(beside.record, name),
                    getattr(run.record, name),
                )


def _check_same_question(first: JudgedRun, run: JudgedRun) -> None:
    for name, told in {
        "kind of run": lambda run: run.record.kind,
        "benchmark": lambda run: run.result.benchmark,
        "benchmark version": lambda run: run.result.benchmark_version,
        "prompts": lambda run: run.prompts,
        "number of evaluated films": lambda run: run.result.provenance.films,
        "evaluated films": lambda run: run.result.provenance.dataset_fingerprint,
        "labels or structures": lambda run: run.names,
        "which findings are rare": lambda run: run.rare,
        "weights of the base": lambda run: run.record.base["weights_sha256"] if run.label_share else None,
    }.items():
        _check_equal(first, run, name, told(first), told(run))
    for name in ("targets", "patients"):
        if not np.array_equal(getattr(run, name), getattr(first, name), equal_nan=name == "targets"):
            raise ValueError(f"{first.folder} and {run.folder} cannot be compared: their {name} differ")


def _check_equal(first: JudgedRun, run: JudgedRun, name: str, expected: Any, found: Any) -> None:
    if expected != found:
        raise ValueError(
            f"{first.folder} and {run.folder} cannot be compared: they differ in {name}: {expected} and {found}"
        )


def arm_name(record: PretrainRun | AdaptRun, by: Sequence[str] = ()) -> str:
    """What a run is called in tables, such as "quantile 22.7% (scored at 56 px)" or "lora (rank 4)".

    Of a pretraining: selection, kept share and variant; of an adaptation: the method.

    Args:
        record: of the run.
        by: further settings, named where they differ from their default, or fields of the record such as "steps", that
            tell arms apart.
    """
    variants = _VARIANTS
    if isinstance(record, AdaptRun):
        name, variants = record.method, {}
    elif record.selection == "none":
        name = "full data"
    elif record.keep_share_asked:
        name = f"{record.selection} {record.keep_share_asked:.1%}"
    else:
        name = f"{record.selection} (published constants)"
    words = variants | {setting: _WORDS.get(setting, f"{setting} {{}}") for setting in by}
    values = {setting: record.settings.get(setting, getattr(record, setting, None)) for setting in words}
    notes = [words[setting].format(_as_text(value)) for setting, value in values.items() if value is not None]
    return f"{name} ({'; '.join(notes)})" if notes else name


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {inner}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def group_runs(runs: Sequence[JudgedRun], by: Sequence[str] = ()) -> dict[CellKey, list[JudgedRun]]:
    """Runs of each cell by seed.

    Raises:
        ValueError: two runs of a cell differ in more than the seed, or not even in that.
    """
    groups: dict[CellKey, list[JudgedRun]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        groups.setdefault((arm_name(run.record, by), run.level), []).append(run)
    for (arm, _), members in groups.items():
        if len({run.seed for run in members}) < len(members):
            raise ValueError(f"{arm!r} holds runs with the same seed: {[str(run.folder) for run in members]}")
        _check_settings(members)
    return groups


def _check_settings(members: Sequence[JudgedRun]) -> None:
    first = _settings(members[0])
    for run in members[1:]:
        settings = _settings(run)
        different = sorted(name for name in {*first, *settings} if first.get(name) != settings.get(name))
        if different:
            raise ValueError(
                f"{members[0].folder} and {run.folder} differ in more than the seed: {different}; if that makes "
                "another arm, say so with --by"
            )


def _settings(run: JudgedRun) -> dict:
    """All that must be equal among the runs of a cell."""
    if isinstance(run.record, AdaptRun):
        return {name: value for name, value in run.record.settings.items() if name not in _OF_ONE_RUN}
    return {**run.record.settings, **{name: getattr(run.record, name) for name in _OF_ONE_ARM}, "seed": None}
