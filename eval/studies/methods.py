"""Methods of adaptation over bases, label problems and shares of the labels: who wins where, and by how much.

    python -m eval.studies.methods runs/lora/grid/*/ --out runs/lora/methods

Every run folder is a finished one of `train.adapt` with its result on test films. Runs of one base, evaluated on the
same labels of the same films, are one problem; within it every method is set against the reference (full fine-tuning)
at the same share of the labels, paired by film and seed, as in arXiv 2401.12215. Writes `OUT.md`, `OUT.json` and
`OUT.png`, a panel for each base and problem.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from transformers import HfArgumentParser

from data_scripts.command_line import print_long, split_positional
from eval.records.json_values import write_json
from eval.records.runs import AdaptRun
from eval.studies.arms import check_same_question
from eval.studies.cells import Cell, Comparison, compare_runs
from eval.studies.figures import METHOD_COLOURS, STEP, draw_shares, label_shares
from eval.studies.runs import JudgedRun, load_judged
from eval.studies.table import format_spread
from eval.tables import format_difference

FORMAT_VERSION = 1
#: More labels than these are counted in the heading, not named.
_MOST_NAMES = 3


@dataclass(frozen=True)
class Wins:
    """In how many cells (base, problem, share) a method is better than the reference.

    Args:
        cells: in which both are.
        better, worse: by the mean over seeds.
        surely_better, surely_worse: the 95 % interval of the difference does not hold 0.
        mean_difference: over the cells; None without any.
    """

    method: str
    cells: int
    better: int
    worse: int
    surely_better: int
    surely_worse: int
    mean_difference: float | None


@dataclass(frozen=True)
class Problem:
    """One base on one label problem, and all that was learnt there."""

    base: str
    name: str
    comparison: Comparison


@dataclass(frozen=True)
class MethodStudy:
    """All problems, and each method against the reference over all of them and by share of the labels."""

    reference: str
    problems: list[Problem]
    wins: list[Wins]
    wins_by_share: dict[str, list[Wins]]
    format_version: int = FORMAT_VERSION


@dataclass
class MethodArguments:
    """Arguments of `eval.studies.methods`, after the run folders."""

    out: str | None = field(
        default=None,
        metadata={"help": "Path of what is written, without suffix; default: `methods` beside the runs."},
    )
    reference: str = field(default="full", metadata={"help": "Method that the others are set against."})
    by: list[str] = field(
        default_factory=list, metadata={"help": "Settings that tell methods apart as well, such as use_dora."}
    )
    benchmark: str | None = field(
        default=None, metadata={"help": "Name of the results; default: the only one of each run."}
    )
    resamples: int = field(default=1000, metadata={"help": "Bootstrap resamples."})
    seed: int = field(default=0, metadata={"help": "Seed of the bootstrap."})

    def __post_init__(self):
        if self.resamples < 2:
            raise ValueError(f"resamples is {self.resamples}, it must be at least 2")


def base_name(base: dict) -> str:
    """A short name of a base: of a run folder's `model/` that of the run."""
    path = Path(base["name"])
    return path.parent.name if path.name in ("model", "adapter") and path.parent.name else path.name


def problem_name(names: Sequence[str]) -> str:
    """Of the labels: their names, or how many they are."""
    return ", ".join(names) if len(names) <= _MOST_NAMES else f"{len(names)} labels"


def group_problems(runs: Sequence[JudgedRun]) -> dict[tuple, list[JudgedRun]]:
    """The runs of each base and problem, in the order of the first of them.

    Raises:
        ValueError: a run is no adaptation (named).
    """
    groups: dict[tuple, list[JudgedRun]] = {}
    for run in runs:
        if not isinstance(run.record, AdaptRun):
            raise ValueError(f"{run.folder} is a run of {run.record.kind}: methods are those of train.adapt")
        result = run.result
        key = (run.record.base["weights_sha256"], tuple(run.names), result.provenance.dataset_fingerprint)
        groups.setdefault(key, []).append(run)
    return groups


def study_methods(
    runs: Sequence[JudgedRun], reference: str, by: Sequence[str] = (), resamples: int = 1000, seed: int = 0
) -> MethodStudy:
    """Compare all runs, problem by problem.

    Raises:
        ValueError: see `eval.studies.arms.load_runs`; or a problem lacks the reference.
    """
    problems = []
    for members in group_problems(runs).values():
        check_same_question(members, by)
        comparison = compare_runs(members, reference, by, resamples, seed)
        problems.append(Problem(base_name(members[0].record.base), problem_name(comparison.names), comparison))
    cells = [cell for problem in problems for cell in problem.comparison.cells]
    shares = sorted({cell.level for cell in cells if cell.level is not None})
    return MethodStudy(
        reference,
        problems,
        count_wins(cells, reference),
        {
            format_share(share): count_wins([cell for cell in cells if cell.level == share], reference)
            for share in shares
        },
    )


def count_wins(cells: Sequence[Cell], reference: str) -> list[Wins]:
    """For each method but the reference."""
    wins = []
    for method in dict.fromkeys(cell.arm for cell in cells if cell.arm != reference):
        figures = [cell.figures["macro"].difference for cell in cells if cell.arm == method]
        differences = [found for found in figures if found is not None and found.value is not None]
        values = [found.value for found in differences]
        wins.append(
            Wins(
                method,
                len(values),
                better=sum(value > 0 for value in values),
                worse=sum(value < 0 for value in values),
                surely_better=sum(found.low is not None and found.low > 0 for found in differences),
                surely_worse=sum(found.high is not None and found.high < 0 for found in differences),
                mean_difference=mean(values) if values else None,
            )
        )
    return wins


def format_share(share: float) -> str:
    return f"{100 * share:g} %"


def format_study(study: MethodStudy) -> str:
    """Markdown: who wins, every cell, and what each method costs."""
    parts = ["## Wins", "", *_wins_table(study), "", "## Cells", "", *_cells_table(study), ""]
    parts += ["## Costs", "", *_costs_table(study), "", _reading(study)]
    return "\n".join(parts)


def _wins_table(study: MethodStudy) -> list[str]:
    lines = [
        f"| method | labels | cells | better than {study.reference} | surely | worse | surely | mean difference |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for share, wins in {**study.wins_by_share, "all": study.wins}.items():
        for row in wins:
            gain = "-" if row.mean_difference is None else f"{row.mean_difference:+.3f}"
            numbers = (row.cells, row.better, row.surely_better, row.worse, row.surely_worse)
            lines.append(f"| {row.method} | {share} | {' | '.join(map(str, numbers))} | {gain} |")
    return lines


def _cells_table(study: MethodStudy) -> list[str]:
    methods = [row.method for row in study.wins]
    titles = " | ".join(f"{method} | {method} minus {study.reference}" for method in methods)
    lines = [
        f"| base | labels learnt | share | films | {study.reference} | {titles} |",
        "|---|---|---:|---:|---|" + "---|---|" * len(methods),
    ]
    for problem in study.problems:
        cells = {(cell.arm, cell.level): cell for cell in problem.comparison.cells}
        for share in sorted({cell.level for cell in problem.comparison.cells if cell.level is not None}):
            own = cells.get((study.reference, share))
            any_cell = next(cell for (_, level), cell in cells.items() if level == share)
            columns = [problem.base, problem.name, format_share(share), f"{any_cell.train_films:,.0f}", _mean(own)]
            for method in methods:
                cell = cells.get((method, share))
                difference = None if cell is None else cell.figures["macro"].difference
                columns += [_mean(cell), "-" if difference is None else format_difference(difference)]
            lines.append(f"| {' | '.join(columns)} |")
    return lines


def _mean(cell: Cell | None) -> str:
    return "-" if cell is None else format_spread(cell.figures["macro"])


def _costs_table(study: MethodStudy) -> list[str]:
    """Means over all cells and seeds of a method at a share."""
    lines = ["| method | labels | trainable | saved | seconds | peak memory |", "|---|---:|---:|---:|---:|---:|"]
    cells = [cell for problem in study.problems for cell in problem.comparison.cells]
    for method in dict.fromkeys(cell.arm for cell in cells):
        for share in sorted({cell.level for cell in cells if cell.level is not None}):
            own = [cell for cell in cells if (cell.arm, cell.level) == (method, share)]
            if not own:
                continue
            columns = [method, format_share(share)]
            for name, unit, pattern in _COSTS:
                values = [getattr(cell, name) for cell in own]
                columns.append("-" if None in values else pattern.format(mean(values) / unit))
            lines.append(f"| {' | '.join(columns)} |")
    return lines


#: Fields of `Cell`, the unit they are told in, and how.
_COSTS = (
    ("trainable_share", 1, "{:.2%}"),
    ("bytes", 1e6, "{:.2f} MB"),
    ("seconds", 1, "{:,.0f}"),
    ("peak_memory", 1e6, "{:,.0f} MB"),
)


def _reading(study: MethodStudy) -> str:
    comparisons = [problem.comparison for problem in study.problems]
    kept = sum(cell.kept_start for comparison in comparisons for cell in comparison.cells)
    of_runs = sum(len(cell.seeds) for comparison in comparisons for cell in comparison.cells)
    metrics = " or ".join(dict.fromkeys(comparison.metric for comparison in comparisons))
    start = f" {kept} of {of_runs} runs kept their start: nothing learnt was better on validation." if kept else ""
    return (
        f"{metrics} on test films: mean over seeds [lowest, highest seed]. Differences are to {study.reference} at the "
        "same share, on the same films and seeds, with the 95 % interval of a paired bootstrap over patients and seeds "
        f"({comparisons[0].resamples:,} resamples); surely: the interval does not hold 0. Of n seeds it is too narrow "
        f"by sqrt(1 - 1/n). Seconds and memory are those of whole runs with their evaluations.{start}"
    )


def plot_study(study: MethodStudy, path: Path) -> None:
    """A row of panels for each base, a column for each problem: the figure over the share of the labels."""
    bases = list(dict.fromkeys(problem.base for problem in study.problems))
    rows = {base: [problem for problem in study.problems if problem.base == base] for base in bases}
    columns = max(map(len, rows.values()))
    figure, grid = plt.subplots(
        len(bases), columns, figsize=(1.2 + 3.6 * columns, 0.8 + 3 * len(bases)), layout="constrained", squeeze=False
    )
    methods = [study.reference, *(row.method for row in study.wins)]
    for base, panels in zip(bases, grid, strict=True):
        for panel in panels[len(rows[base]) :]:
            panel.set_axis_off()
        for problem, panel in zip(rows[base], panels, strict=False):
            _plot_problem(panel, problem, methods)
    handles = {
        label: handle for panel in grid.flat for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), frameon=False, loc="outside upper center", ncols=len(handles))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _plot_problem(panel, problem: Problem, methods: Sequence[str]) -> None:
    shares = sorted({cell.level for cell in problem.comparison.cells if cell.level is not None})
    for number, method in enumerate(methods):
        cells = [cell for cell in problem.comparison.cells if cell.arm == method and cell.level is not None]
        cells.sort(key=lambda cell: cell.level)
        offset = STEP ** (number - (len(methods) - 1) / 2)
        if cells:
            draw_shares(panel, cells, offset, METHOD_COLOURS.get(method, f"C{number % 10}"))
    label_shares(panel, shares)
    panel.set_xlabel("share of the labels")
    panel.set_ylabel(problem.comparison.metric)
    panel.set_title(f"{problem.base}: {problem.name}", fontsize=9, loc="left", wrap=True)
    panel.grid(axis="y", alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)


def main(arguments: list[str] | None = None) -> None:
    names, named = split_positional(arguments)
    folders = [Path(name) for name in names]
    try:
        parser = HfArgumentParser(MethodArguments, prog="eval.studies.methods RUN_DIR [RUN_DIR ...]")
        (parsed,) = parser.parse_args_into_dataclasses(named)
        if not folders:
            raise ValueError("no run folder: python -m eval.studies.methods RUN_DIR [RUN_DIR ...] [--out PATH]")
        runs = [load_judged(folder, parsed.benchmark) for folder in folders]
        study = study_methods(runs, parsed.reference, parsed.by, parsed.resamples, parsed.seed)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    out = parsed.out or str(folders[0].parent / "methods")
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    text = format_study(study)
    Path(f"{out}.md").write_text(text + "\n")
    write_json(study, Path(f"{out}.json"))
    plot_study(study, Path(f"{out}.png"))
    print_long(f"{text}\n\nwritten: {', '.join(f'{out}.{suffix}' for suffix in ('md', 'json', 'png'))}")


if __name__ == "__main__":
    main()
