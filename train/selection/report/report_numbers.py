"""The numbers of the curation report, typed, as they stand in `curation_report.json` and on the page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np

from data_scripts.reading.labels import tells_normal
from eval.benchmarks import RARE_BELOW
from eval.records.runs import Flops, PretrainRun
from train.selection.outcome import Role
from train.selection.report.columns import Columns
from train.selection.report.intervals import (
    Correlation,
    Duplicates,
    Enrichment,
    Share,
    any_of,
    duplicate_pairs,
    enrichment,
    rank_correlation,
    share_of,
)
from train.selection.rules import rule_named
from train.selection.sampler import Schedule
from train.selection.state import CurationState

#: Bump when a field changes its meaning.
FORMAT_VERSION = 1
_RUN_FIELDS = (
    "selection", "keep_share_asked", "corpus_pairs", "corpus_fingerprint", "seed", "steps", "pairs_trained",
    "pairs_scored", "flops", "seconds", "device", "processes", "settings", "git_commit",
)  # fmt: skip


@dataclass(frozen=True)
class RoleCount:
    """How many scored pairs have a role, in words; `role` is the name of the `Role`."""

    role: str
    words: str
    kept: bool
    pairs: int
    share: float


@dataclass(frozen=True)
class Moment:
    """One entry of the log: share kept of the pairs scored so far, and the prototypes' health where there are any."""

    step: int
    kept_share: float | None
    usage_entropy: float | None
    mean_cosine: float | None


@dataclass(frozen=True)
class Prototype:
    """Pairs nearest to a prototype when they were scored, how many were kept, and how many updates it received."""

    pairs: int
    kept: int
    usage: int


@dataclass(frozen=True)
class Group:
    """The share kept of the pairs with each value of something."""

    title: str
    names: list[str]
    shares: list[Share]


@dataclass(frozen=True)
class Defect:
    """A known defect: the share that was dropped of the pairs that have it, and how many of them by which role."""

    name: str
    dropped: Share
    redundant: int
    outlier: int


@dataclass(frozen=True)
class Tail:
    """Whether rare findings are favoured.

    `rare` and `common` are pairs with any finding below, or from, `rare_below` in the corpus ("No Finding" is none);
    `correlation` is that of a finding's frequency with its enrichment: negative where rare ones are favoured.
    """

    rare_below: float
    rare: Enrichment
    common: Enrichment
    correlation: Correlation


@dataclass(frozen=True)
class CurationNumbers:
    """All of the report. `run` is taken from `run.json`; `phases` are the first steps of curation and subset phase.

    All numbers are of the `judged` pairs; `kept` of them were chosen. `prototypes` is empty where the
    selection has none, `duplicates` None where originals are not known.
    """

    run: dict
    judged: int
    kept: int
    kept_share: float
    roles: list[RoleCount]
    phases: tuple[int, int]
    course: list[Moment]
    prototypes: list[Prototype]
    groups: list[Group]
    findings: list[Enrichment]
    tail: Tail
    defects: list[Defect]
    duplicates: Duplicates | None
    format_version: int = field(default=FORMAT_VERSION)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False) + "\n")


def collect_numbers(run: PretrainRun, log: list[dict], state: CurationState, columns: Columns) -> CurationNumbers:
    """The numbers of a run: its `run.json` and `log.json`, what it chose, and the columns of its corpus.

    Raises:
        ValueError: no pair was scored, or the rule of the run is not known.
    """
    roles = state.roles.numpy()
    seen = roles >= 0
    if not seen.any():
        raise ValueError("no pair was judged: the run ended before its first selection")
    roles, patients = roles[seen], columns.patients[seen]
    kept = state.kept.numpy()[seen]
    findings = {name: values[seen] for name, values in columns.labels.items()}
    enrichments = [enrichment(name, kept, values, patients) for name, values in findings.items()]
    enrichments = sorted(
        (finding for finding in enrichments if finding.judged), key=lambda finding: (-finding.prevalence, finding.name)
    )
    flags = {name: rows[seen] for name, rows in columns.flags.items() if rows[seen].any()}
    duplicate = flags.get("near_duplicate")
    schedule = Schedule(**run.schedule)
    phases = schedule.warmup_steps // schedule.accumulate, schedule.curation_end // schedule.accumulate
    return CurationNumbers(
        run=_told_of(run),
        judged=len(kept),
        kept=int(kept.sum()),
        kept_share=float(kept.mean()),
        roles=_count_roles(roles, rule_named(run.selection).roles),
        phases=phases,
        course=_course(log, phases[0]),
        prototypes=_prototypes(state),
        groups=[
            _group(title, group.names, group.codes[seen], kept, patients) for title, group in columns.groups.items()
        ],
        findings=enrichments,
        tail=_tail(enrichments, findings, kept, patients),
        defects=[_defect(name, rows, roles, patients) for name, rows in sorted(flags.items())],
        duplicates=None if duplicate is None else duplicate_pairs(duplicate, columns.studies[seen], kept),
    )


def _count_roles(roles: np.ndarray, words: Mapping[Role, str]) -> list[RoleCount]:
    counts = {role: int((roles == role).sum()) for role in words}
    return [
        RoleCount(role.name.lower(), text, role >= Role.CENTRAL, counts[role], counts[role] / len(roles))
        for role, text in words.items()
    ]


def _course(log: list[dict], first: int) -> list[Moment]:
    """The log from step `first` on: before, nothing is scored."""
    names = ("kept_share", "prototype_usage_entropy", "prototype_mean_cosine")
    entries = [entry for entry in log if "kept_share" in entry and entry["step"] > first]
    return [Moment(entry["step"], *(entry.get(name) for name in names)) for entry in entries]


def _prototypes(state: CurationState) -> list[Prototype]:
    if state.prototypes is None:
        return []
    number, clusters = len(state.prototypes), state.clusters.numpy().astype(np.int64)
    pairs = np.bincount(clusters[clusters >= 0], minlength=number)
    kept = np.bincount(clusters[(clusters >= 0) & state.kept.numpy()], minlength=number)
    usage = state.usage.cpu().long().tolist()
    return [Prototype(*counts) for counts in zip(pairs.tolist(), kept.tolist(), usage, strict=True)]


def _group(title: str, names: list[str], codes: np.ndarray, kept: np.ndarray, patients: np.ndarray) -> Group:
    shares = {name: share_of(kept[codes == code], patients[codes == code]) for code, name in enumerate(names)}
    shares = {name: share for name, share in shares.items() if share.total}
    return Group(title, list(shares), list(shares.values()))


def _tail(
    enrichments: Iterable[Enrichment], findings: dict[str, np.ndarray], kept: np.ndarray, patients: np.ndarray
) -> Tail:
    # That nothing is found is a label, not a finding: it tells nothing about the tail.
    known = [finding for finding in enrichments if finding.ratio is not None and not tells_normal(finding.name)]
    pooled = []
    for title, chosen in (
        ("any rare finding", [finding for finding in known if finding.prevalence < RARE_BELOW]),
        ("any common finding", [finding for finding in known if finding.prevalence >= RARE_BELOW]),
    ):
        values = any_of([findings[finding.name] for finding in chosen], len(kept))
        pooled.append(enrichment(title, kept, values, patients))
    correlation = rank_correlation([finding.prevalence for finding in known], [finding.ratio for finding in known])
    return Tail(RARE_BELOW, *pooled, correlation)


def _defect(name: str, rows: np.ndarray, roles: np.ndarray, patients: np.ndarray) -> Defect:
    dropped = share_of(roles[rows] < Role.CENTRAL, patients[rows])
    counts = [int((roles[rows] == role).sum()) for role in (Role.REDUNDANT, Role.OUTLIER)]
    return Defect(name, dropped, *counts)


def _told_of(run: PretrainRun) -> dict:
    """What the report tells of the run itself."""
    values = {name: getattr(run, name) for name in _RUN_FIELDS}
    flops = run.flops or Flops(0.0)
    return values | {
        "flops": {"trained": flops.trained, "scored": flops.scored, "total": flops.total},
        "settings": _without_folders(run.settings),
    }


def _without_folders(value):
    """Settings with the last part alone of absolute paths: the others may name people or places."""
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, str) and PurePath(value).is_absolute():
        return f".../{PurePath(value).name}"
    return value
