"""Finished runs side by side: what each arm cost, what it gave, and how far it is from a reference.

    python -m eval.studies runs/study/*/ --out runs/study/comparison

Every run folder holds `run.json` (of train.pretrain) and `results/BENCHMARK.json` with its scores (of eval.run). Runs
that differ in the seed alone are one arm; all must be judged by the same version of the benchmark on the same films.

Writes `OUT.md` (tables), `OUT.json` (the same figures), `OUT.png` (every arm's seeds) and, where the runs counted their
operations, `OUT.flops.png` (AUROC against FLOPs).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from transformers import HfArgumentParser

from eval.studies.figures import plot_arms, plot_flops
from eval.studies.runs import Run, arm_name, group_by_arm, load_runs
from eval.studies.table import Comparison, compare_arms, format_markdown


@dataclass
class CompareArguments:
    """Arguments of `eval.studies`, after the run folders."""

    out: str | None = field(
        default=None,
        metadata={"help": "Path of what is written, without suffix; default: `comparison` beside the runs."},
    )
    reference: str | None = field(
        default=None,
        metadata={"help": "Arm that the others are set against; default: full data, or else that of the first run."},
    )
    by: list[str] = field(
        default_factory=list,
        metadata={"help": "What else makes an arm: settings such as num_prototypes, or steps."},
    )
    benchmark: str = field(default="zero_shot_findings", metadata={"help": "Name of the result files."})
    resamples: int = field(default=1000, metadata={"help": "Bootstrap resamples."})
    seed: int = field(default=0, metadata={"help": "Seed of the bootstrap."})

    def __post_init__(self):
        if self.resamples < 2:
            raise ValueError(f"resamples is {self.resamples}, it must be at least 2")


def choose_reference(arms: dict[str, list[Run]], asked: str | None, first: str) -> str:
    """The arm asked for, or full data (of several such arms the one that trained on most), or the arm named `first`.

    Raises:
        ValueError: there is no arm of the name asked for.
    """
    if asked is not None and asked not in arms:
        raise ValueError(f"--reference {asked!r} is none of the arms {sorted(arms)}")
    full = [name for name, runs in arms.items() if runs[0].done["selection"] == "none"]
    most = max(full, key=lambda name: (arms[name][0].done["pairs_trained"], -len(name)), default=first)
    return most if asked is None else asked


def write_comparison(comparison: Comparison, arms: dict[str, list[Run]], out: str) -> list[str]:
    """Tables, figures and pictures; returns the paths written."""
    paths = [f"{out}.md", f"{out}.json", f"{out}.png", f"{out}.flops.png"]
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(paths[0]).write_text(format_markdown(comparison) + "\n")
    comparison.save(Path(paths[1]))
    plot_arms(arms, Path(paths[2]))
    counted = {arm.name: arms[arm.name] for arm in comparison.arms if arm.flops}
    if not counted:
        # A picture of an earlier comparison must not stand for this one.
        Path(paths[3]).unlink(missing_ok=True)
        return paths[:3]
    plot_flops(counted, comparison.reference, [name for name in arms if name not in counted], Path(paths[3]))
    return paths


def main(arguments: list[str] | None = None) -> None:
    words = sys.argv[1:] if arguments is None else arguments
    folders = [Path(word) for word in takewhile(lambda word: not word.startswith("-"), words)]
    try:
        (parsed,) = HfArgumentParser(CompareArguments).parse_args_into_dataclasses(words[len(folders) :])
        if not folders:
            raise ValueError("no run folder: python -m eval.studies RUN_DIR [RUN_DIR ...] [--out PATH]")
        runs = load_runs(folders, parsed.benchmark)
        arms = group_by_arm(runs, parsed.by)
        reference = choose_reference(arms, parsed.reference, arm_name(runs[0].done, parsed.by))
        comparison = compare_arms(arms, reference, parsed.resamples, parsed.seed)
    except ValueError as error:
        sys.exit(f"error: {error}")
    paths = write_comparison(comparison, arms, parsed.out or str(folders[0].parent / "comparison"))
    print(format_markdown(comparison))
    print(f"\nwritten: {', '.join(paths)}")


if __name__ == "__main__":
    main()
