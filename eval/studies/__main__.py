"""Finished runs side by side: what each arm cost, what it gave, and how far it is from a reference.

    python -m eval.studies runs/study/full-* runs/study/quantile-* --out runs/study/comparison
    python -m eval.studies runs/adapted/findings/*/ --by rank --out runs/adapted/findings_compared

Every run folder is one of train.pretrain or train.adapt, with `run.json` and `results/BENCHMARK.json` with its scores
(of eval.run, or of the adaptation itself): of pretrainings zero-shot findings, or linear probes. Runs that differ in
the seed alone are one cell; all must be of one kind and evaluated by the same version of the benchmark on the same
films, adaptations also adapted from the same base.

Writes `OUT.md` (tables), `OUT.json` (the same figures) and `OUT.png`: of pretrainings every arm's seeds, of adaptations
methods over shares of the labels. Where pretrainings counted their operations, `OUT.flops.png` is AUROC against FLOPs;
of pretrainings with a budget (`compute_passes`), which are set against the reference of the same budget, a line for
each arm through its budgets.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from transformers import HfArgumentParser

from data_scripts.command_line import print_long, split_positional
from eval.records.json_values import write_json
from eval.records.runs import PretrainRun
from eval.studies.arms import load_runs
from eval.studies.cells import Comparison, compare_runs
from eval.studies.figures import plot_arms, plot_budgets, plot_flops, plot_shares
from eval.studies.table import format_markdown


@dataclass
class CompareArguments:
    """Arguments of `eval.studies`, after the run folders."""

    out: str | None = field(
        default=None,
        metadata={"help": "Path of what is written, without suffix; default: `comparison` beside the runs."},
    )
    reference: str | None = field(
        default=None,
        metadata={
            "help": "Arm that the others are set against; default: lora of adaptations, full data of pretrainings, or "
            "else that of the first run."
        },
    )
    by: list[str] = field(
        default_factory=list,
        metadata={"help": "What else makes an arm: settings such as num_prototypes or rank, or steps."},
    )
    benchmark: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Name of the results; default: zero_shot_findings of pretrainings, of adaptations the only one. Of "
            "several the second and further ones are written to OUT_BENCHMARK."
        },
    )
    resamples: int = field(default=1000, metadata={"help": "Bootstrap resamples."})
    seed: int = field(default=0, metadata={"help": "Seed of the bootstrap."})

    def __post_init__(self):
        if self.resamples < 2:
            raise ValueError(f"resamples is {self.resamples}, it must be at least 2")


def write_comparison(comparison: Comparison, out: str) -> list[str]:
    """Tables, figures and pictures; returns the paths written."""
    paths = [f"{out}.md", f"{out}.json", f"{out}.png"]
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(paths[0]).write_text(format_markdown(comparison) + "\n")
    write_json(comparison, Path(paths[1]))
    if comparison.kind != PretrainRun.kind:
        plot_shares(comparison, Path(paths[2]))
        return paths
    plot_arms(comparison, Path(paths[2]))
    flops = Path(f"{out}.flops.png")
    # A picture of an earlier comparison must not be taken for this one's.
    flops.unlink(missing_ok=True)
    has_budgets = any(cell.level is not None for cell in comparison.cells)
    plotted = (plot_budgets if has_budgets else plot_flops)(comparison, flops)
    return [*paths, str(flops)] if plotted else paths


def main(arguments: list[str] | None = None) -> None:
    names, named = split_positional(arguments)
    folders = [Path(name) for name in names]
    try:
        parser = HfArgumentParser(CompareArguments, prog="eval.studies RUN_DIR [RUN_DIR ...]")
        (parsed,) = parser.parse_args_into_dataclasses(named)
        if not folders:
            raise ValueError("no run folder: python -m eval.studies RUN_DIR [RUN_DIR ...] [--out PATH]")
        comparisons = []
        for benchmark in parsed.benchmark or [None]:
            runs = load_runs(folders, benchmark, parsed.by)
            comparisons.append(compare_runs(runs, parsed.reference, parsed.by, parsed.resamples, parsed.seed))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    first = parsed.out or str(folders[0].parent / "comparison")
    for number, comparison in enumerate(comparisons):
        paths = write_comparison(comparison, first if number == 0 else f"{first}_{comparison.benchmark}")
        print_long(f"{format_markdown(comparison)}\n\nwritten: {', '.join(paths)}\n")


if __name__ == "__main__":
    main()
