"""What a study will cost on this machine, from a few steps of each kind of its cells before it begins."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from eval.records.runs import Run
from train.runs.folder import LOG_FILE
from train.studies.plan import Cell, Study
from train.studies.running import Record, run_cell

#: Of the log of a run on films alone, and of one on pairs.
_RATES = ("films_per_second", "pairs_per_second")


@dataclass(frozen=True)
class Price:
    """What the cells of one arm of a grid will cost.

    Args:
        cells, steps: that are left, and steps of each.
        flops, seconds: of a step; the operations are counted (None where they are not), the seconds measured.
        beside: seconds of a cell beside its steps: starting, saving, evaluating.
    """

    grid: str
    arm: str | None
    cells: int
    steps: int
    flops: float | None
    seconds: float
    beside: float

    @property
    def hours(self) -> float:
        return self.cells * (self.steps * self.seconds + self.beside) / 3600


def try_out(study: Study, cells: Sequence[Cell], steps: int, environment: Mapping[str, str]) -> list[Price]:
    """Train and evaluate the first of the `cells` of each grid and arm for `steps` steps, below `output_dir`/trial.

    Raises:
        ValueError: a cell has no `max_steps`, so that nothing tells how long it would take, or one failed.
    """
    kinds: dict[tuple[str, str | None], list[Cell]] = {}
    for cell in cells:
        kinds.setdefault((cell.grid, cell.arm), []).append(cell)
    planned = {kind: Record.of(members[0]).arguments.get("max_steps") for kind, members in kinds.items()}
    open_ended = [f"{members[0].folder}" for kind, members in kinds.items() if not planned[kind]]
    if open_ended:
        raise ValueError(f"{open_ended[0]} has no max_steps, so its time cannot be told from a trial")
    prices = []
    for (grid, arm), members in kinds.items():
        # Four entries of the log, of which the first has the slow steps.
        changes = {"max_steps": steps, "logging_steps": steps // 4, "save_strategy": "no"}
        folder = Path(study.output_dir) / "trial" / "-".join(filter(None, (grid, arm)))
        shutil.rmtree(folder, ignore_errors=True)
        trial = replace(members[0], folder=folder, arguments=members[0].arguments | changes)
        print(f"trying {grid} {arm or ''}: {folder}", flush=True)
        outcome = run_cell(trial, environment)
        if outcome.failure is not None:
            raise ValueError(f"the trial {folder} failed\n{outcome.failure}")
        run, seconds = Run.load(folder), seconds_of_step(folder)
        flops = None if run.flops is None else run.flops.total / run.steps
        beside = max(0.0, outcome.seconds - run.steps * seconds)
        prices.append(Price(grid, arm, len(members), int(planned[grid, arm]), flops, seconds, beside))
    return prices


def seconds_of_step(folder: Path) -> float:
    """Of a finished run: by the throughput in its log without the first entry, else by its time as a whole."""
    run = Run.load(folder)
    entries = json.loads((folder / LOG_FILE).read_text()) if (folder / LOG_FILE).is_file() else []
    rates = [entry[name] for entry in entries for name in _RATES if entry.get(name)]
    samples = getattr(run, "films_trained", None) or getattr(run, "pairs_trained", None)
    if len(rates) < 2 or not samples:
        return run.seconds / run.steps
    return samples / run.steps / median(rates[1:])


def format_prices(prices: Sequence[Price], steps: int) -> str:
    """A table, and the sum."""
    if not prices:
        return "nothing is left to run"
    lines = [
        "| cells | number | steps | TFLOP a step | s a step | s beside the steps | PFLOP | hours |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for price in prices:
        counted = price.flops is not None
        lines.append(
            f"| {price.grid} {price.arm or ''} | {price.cells} | {price.steps:,} | "
            f"{price.flops / 1e12 if counted else float('nan'):,.3g} | {price.seconds:.3g} | {price.beside:,.0f} | "
            f"{price.cells * price.steps * price.flops / 1e15 if counted else float('nan'):,.3g} | {price.hours:,.2g} |"
        )
    lines.append(
        f"about {sum(price.hours for price in prices):,.2g} hours, one cell after the other: operations counted, "
        f"seconds measured here over {steps} steps of one cell of each kind, evaluation included"
    )
    return "\n".join(lines)
