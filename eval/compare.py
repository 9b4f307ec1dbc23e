"""Finished runs side by side: what each selection cost and what it gave.

    python -m eval.compare runs/study/* --out runs/study/comparison

Every run folder holds `run.json` (of train.pretrain) and `results/BENCHMARK.json` (of eval.run). Runs that differ in
the seed alone are one row; all must be judged by the same version of the benchmark on the same films.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from statistics import mean

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from transformers import HfArgumentParser

from eval.results import ZeroShotResult

GROUPS = ("macro", "macro_common", "macro_rare")
_TITLES = {"macro": "all findings", "macro_common": "common findings", "macro_rare": "rare findings"}


@dataclass
class CompareArguments:
    """Arguments of `eval.compare`, after the run folders."""

    out: str = field(metadata={"help": "Path of the table (.md) and the picture (.png), without suffix."})
    benchmark: str = field(default="zero_shot_findings", metadata={"help": "Name of the result files."})


@dataclass(frozen=True)
class Run:
    """One run: what was done (`run.json`) and how it was judged."""

    folder: Path
    done: dict
    result: ZeroShotResult

    @property
    def arm(self) -> str:
        """Selection and kept share, the name of a row."""
        if self.done["selection"] == "none":
            return "full data"
        return (
            f"{self.done['selection']} {self.done['keep_share_asked']:.1%}"
            if self.done["keep_share_asked"]
            else (f"{self.done['selection']} (published constants)")
        )


def load_runs(folders: list[Path], benchmark: str) -> list[Run]:
    """Raises ValueError naming a folder that is no finished run, or runs that cannot be compared."""
    runs = []
    for folder in folders:
        files = folder / "run.json", folder / "results" / f"{benchmark}.json"
        missing = [str(file) for file in files if not file.is_file()]
        if missing:
            raise ValueError(f"{folder} is not a judged run: {', '.join(missing)} missing")
        runs.append(Run(folder, json.loads(files[0].read_text()), ZeroShotResult.load(files[1])))
    for name, values in {
        "benchmark version": {run.result.benchmark_version for run in runs},
        "prompts": {run.result.prompts for run in runs},
        "number of films": {run.result.provenance.films for run in runs},
        "data": {run.result.provenance.dataset_fingerprint for run in runs},
    }.items():
        if len(values) > 1:
            raise ValueError(f"the runs cannot be compared: they differ in {name}: {sorted(map(str, values))}")
    return runs


def group_by_arm(runs: list[Run]) -> dict[str, list[Run]]:
    """Runs of each arm by seed, the arm with the best mean first.

    Raises:
        ValueError: two runs of an arm differ in more than the seed, or not even in that.
    """
    arms = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.done["seed"]):
        arms[run.arm].append(run)
    for name, members in arms.items():
        if len({run.done["seed"] for run in members}) < len(members):
            raise ValueError(f"{name!r} holds runs with the same seed: {[str(run.folder) for run in members]}")
        first, *others = [_setting(run) for run in members]
        for run, other in zip(members[1:], others, strict=True):
            different = sorted(key for key in {*first, *other} if first.get(key) != other.get(key))
            if different:
                raise ValueError(f"{run.folder} differs from {members[0].folder} in more than the seed: {different}")
    return dict(sorted(arms.items(), key=lambda item: -mean(values_of(item[1], "macro"))))


def _setting(run: Run) -> dict:
    """All that must be equal among the runs of an arm."""
    names = ("schedule", "corpus_pairs", "keep_share_asked")
    return {**run.done["settings"], **{name: run.done[name] for name in names}, "seed": None}


def values_of(runs: list[Run], group: str) -> list[float]:
    return [getattr(run.result, group).value for run in runs]


def format_markdown(arms: dict[str, list[Run]]) -> str:
    """A table: mean over seeds, and the lowest and highest seed in brackets."""
    first = next(iter(arms.values()))[0].result
    lines = [
        f"Zero-shot AUROC on {first.provenance.films:,} held-out films ({first.provenance.patients:,} patients), "
        f"prompts `{first.prompts}`; mean over seeds [lowest, highest]. Rare: below {first.rare_below:.0%} of training "
        "films.",
        "",
        "| selection | seeds | kept | pairs trained | pairs scored | " + " | ".join(_TITLES[g] for g in GROUPS) + " |",
        "|---|---|---:|---:|---:|---|---|---|",
    ]
    for arm, runs in arms.items():
        done = [run.done for run in runs]
        cells = [arm, ", ".join(str(one["seed"]) for one in done)]
        cells += [f"{mean(one['keep_share_reached'] for one in done):.1%}"]
        cells += [f"{mean(one[name] for one in done):,.0f}" for name in ("pairs_trained", "pairs_scored")]
        for group in GROUPS:
            values = values_of(runs, group)
            cells.append(f"{mean(values):.3f} [{min(values):.3f}, {max(values):.3f}]")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(arms: dict[str, list[Run]], path: Path) -> None:
    """A panel for each group of findings: every seed with its interval by patient, the mean as a bar."""
    figure, panels = plt.subplots(
        1, len(GROUPS), figsize=(11, 1.6 + 0.55 * len(arms)), sharey=True, layout="constrained"
    )
    names = list(arms)[::-1]
    for panel, group in zip(panels, GROUPS, strict=True):
        for height, name in enumerate(names):
            runs = arms[name]
            colour = "#8a8a8a" if name.startswith(("full", "random")) else "#1f6f8b"
            for number, run in enumerate(runs):
                estimate, offset = getattr(run.result, group), (number - (len(runs) - 1) / 2) * 0.16
                panel.plot([estimate.low, estimate.high], [height + offset] * 2, color=colour, alpha=0.4, linewidth=1.5)
                panel.plot(estimate.value, height + offset, "o", color=colour, markersize=4)
            panel.plot([mean(values_of(runs, group))] * 2, [height - 0.36, height + 0.36], color=colour, linewidth=2.5)
        panel.set_title(_TITLES[group], fontsize=10)
        panel.set_xlabel("zero-shot AUROC")
        panel.grid(axis="x", alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(names)), names)
    figure.suptitle("Dots: seeds with 95 % interval by patient; bars: means", fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    words = sys.argv[1:] if arguments is None else arguments
    folders = [Path(word) for word in takewhile(lambda word: not word.startswith("-"), words)]
    (parsed,) = HfArgumentParser(CompareArguments).parse_args_into_dataclasses(words[len(folders) :])
    if not folders:
        sys.exit("usage: python -m eval.compare RUN_DIR [RUN_DIR ...] --out PATH")
    try:
        arms = group_by_arm(load_runs(folders, parsed.benchmark))
    except ValueError as error:
        sys.exit(f"error: {error}")
    out = Path(parsed.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    table = format_markdown(arms)
    out.with_suffix(".md").write_text(table + "\n")
    plot(arms, out.with_suffix(".png"))
    print(table)
    print(f"\ntable in {out}.md, picture in {out}.png")


if __name__ == "__main__":
    main()
