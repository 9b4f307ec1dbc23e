"""A study: many runs that differ in arms, further axes and seeds, trained, evaluated, compared as one YAML file says.

    python -m train.study train/studies/selection.yaml
    python -m train.study train/studies/adaptation.yaml --jobs 2
    python -m train.study train/studies/adaptation.yaml --only lora,linear --dry_run
    python -m train.study train/studies/hospital.yaml --raw FOLDER ... --trial_steps 40

What is there stays: a cell is done when its `run.json` and its results are there. A study that was stopped goes on: the
cell it was at is resumed where it saved checkpoints (`save_strategy: steps` in its arguments), else begun anew. A cell
that was run with other arguments than the file now asks for is refused, and nothing is run. Each cell's commands print
into `study.log` in its folder. How the file is written: `train.studies.reading`; its options are arguments, too.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path

from transformers import HfArgumentParser

from data_scripts.command_line import check_at_least_one, command_name, print_long, split_positional
from train.studies import processes
from train.studies.plan import Cell, Study
from train.studies.reading import check_known, read_options, read_study
from train.studies.running import LOG_FILE, as_command, commands_left, needed_steps, run_cell, run_step, step_left
from train.studies.trial import format_prices, try_out

#: Comparisons print into what the study prints into.
_STDOUT = 1


@dataclass
class StudyArguments:
    """Arguments of `train.study`, after the file."""

    only: str | None = field(
        default=None,
        metadata={
            "help": "Only these grids, arms and values of axes, and the steps that they need: "
            "high,full,random,compute_passes=1,seed=0,seed=1."
        },
    )
    jobs: int = field(default=1, metadata={"help": "Cells that run at a time, which share the cores."})
    dry_run: bool = field(default=False, metadata={"help": "Print the commands that are left, and run nothing."})
    trial_steps: int | None = field(
        default=None,
        metadata={
            "help": "Tell what the cells that are left will cost: prepare, train one of each kind for so many steps, "
            "evaluate it, and end."
        },
    )

    def __post_init__(self):
        check_at_least_one(self, "jobs")
        if self.trial_steps is not None and self.trial_steps < 4:
            raise ValueError(f"trial_steps is {self.trial_steps}, it must be at least 4: the first ones are slower")


def choose_cells(study: Study, only: str | None) -> list[Cell]:
    """The cells of the arms, grids and values of axes named, all where none is; those of the first seed come first.

    Names of grids are one choice, those of arms another, and so is each axis: `high,full,random,seed=0,seed=1` are two
    arms of two seeds of one grid. Where a grid and an arm have one name, it is the grid's.

    Raises:
        ValueError: there is no such arm, grid, axis or value; the closest is named.
    """
    cells = study.cells()
    names = [name.strip() for name in only.split(",")] if only is not None else []
    # Grids last, whose names win.
    known = {name: choice for cell in cells for name, choice in _names(cell)} | {cell.grid: "grid" for cell in cells}
    wanted: dict[str, set[tuple[str, str]]] = {}
    for name in names:
        name = next((other for other in known if _says_the_same(name, other)), name)
        check_known(name, known, "--only")
        wanted.setdefault(known[name], set()).add((name, known[name]))
    chosen = [cell for cell in cells if all(choice & set(_names(cell)) for choice in wanted.values())]
    # A study that is run in parts has all its arms after each part.
    order = list(dict.fromkeys(cell.place.get("seed") for cell in chosen))
    return sorted(chosen, key=lambda cell: order.index(cell.place.get("seed")))


def _names(cell: Cell) -> list[tuple[str, str]]:
    """What `--only` may call a cell by, each with what it is a value of: an axis (arms are one), or the grids."""
    values = [(cell.arm if axis == "arm" else f"{axis}={value}", axis) for axis, value in cell.place.items()]
    return [*values, (cell.grid, "grid")]


def _says_the_same(name: str, other: str) -> bool:
    """Whether two names are one, or one value of an axis written otherwise: rate=2e-3 and rate=0.002."""
    (axis, _, value), (other_axis, _, other_value) = name.partition("="), other.partition("=")
    try:
        return axis == other_axis and float(value) == float(other_value)
    except ValueError:
        return name == other


def cells_left(cells: Sequence[Cell]) -> dict[Path, list[list[str]]]:
    """The commands that cells still need, by folder. Raises ValueError naming every cell that is refused."""
    left, refused = {}, []
    for cell in cells:
        try:
            left[cell.folder] = commands_left(cell)
        except ValueError as error:
            refused.append(str(error))
    if refused:
        raise ValueError("\n  ".join(["nothing was run:", *refused]))
    return {folder: commands for folder, commands in left.items() if commands}


def threads(study: Study, jobs: int) -> dict[str, str]:
    """Variables of all commands: those of the study, and threads so that all jobs together fill the cores."""
    environment = {name: str(value) for name, value in study.environment.items()}
    if jobs > 1 and "OMP_NUM_THREADS" not in {*environment, *os.environ}:
        environment["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // jobs))
    return environment


def run_study(study: Study, arguments: StudyArguments) -> list[str]:
    """Run what is left; what failed, a line or more each.

    Raises:
        ValueError: what the study needs is missing, a cell or step was made with other arguments, or a step failed.
    """
    records = {name: Path(study.output_dir) / "steps" / f"{name}.json" for name in study.prepare}
    cells = choose_cells(study, arguments.only)
    needed = needed_steps(study, cells) if arguments.only is not None else study.prepare
    steps = {name: step for name, step in needed.items() if step_left(step, records[name])}
    left, environment = cells_left(cells), threads(study, arguments.jobs)
    if arguments.dry_run:
        commands = [as_command(step.command, step.arguments) for step in steps.values()]
        commands += [command for folder in left for command in left[folder]]
        done = {cell.folder for cell in study.cells() if cell in cells or not _is_left(cell)}
        commands += comparisons(study, done, cells)[0].values()
        print_long("\n".join(shlex.join(["python", *command]) for command in commands))
        return []
    for file, how in study.needs.items():
        if not Path(file).exists():
            raise ValueError(f"{file} is missing: {how}")
    for name, step in steps.items():
        print(f"preparing {name}: {records[name].with_suffix('.log')}", flush=True)
        run_step(step, records[name], environment)
    waiting_cells = [cell for cell in cells if cell.folder in left]
    if arguments.trial_steps is not None:
        print(format_prices(try_out(study, waiting_cells, arguments.trial_steps, environment), arguments.trial_steps))
        return []
    failed = run_cells(waiting_cells, len(cells), arguments.jobs, environment)
    done = {cell.folder for cell in study.cells() if not _is_left(cell)}
    commands, waiting = comparisons(study, done, cells)
    for name, command in commands.items():
        print(f"\ncomparing {name}, {sum(str(cell.folder) in command for cell in study.cells())} cells", flush=True)
        if processes.run_module(command, _STDOUT, environment) != 0:
            failed.append(f"comparison of {name}")
    for name, count in waiting.items():
        print(f"{name} is not compared yet: {count} of its cells are not there")
    return failed


def _is_left(cell: Cell) -> bool:
    try:
        return bool(commands_left(cell))
    except ValueError:
        return True


def comparisons(study: Study, done: set[Path], chosen: Sequence[Cell]) -> tuple[dict[str, list[str]], dict[str, int]]:
    """The commands that compare grids, and for those that cannot be compared yet how many cells are missing.

    A comparison that is not complete is made of those of its cells that were chosen, where these are.
    """
    commands, waiting = {}, {}
    for name, grid in study.grids.items():
        if grid.compare is None:
            continue
        compared = {name, *grid.compare.beside}
        whole = [cell.folder for cell in study.cells() if cell.grid in compared]
        part = [cell.folder for cell in chosen if cell.grid in compared]
        missing = sum(folder not in done for folder in whole)
        folders = whole if missing == 0 else part
        if folders and done.issuperset(folders):
            commands[name] = as_command(grid.compare.command, grid.compare.arguments, *map(str, folders))
        else:
            waiting[name] = missing
    return commands, waiting


def run_cells(cells: Sequence[Cell], count: int, jobs: int, environment: dict[str, str]) -> list[str]:
    """Run cells, `jobs` at a time, with a line for each; the folders of those that failed.

    Args:
        cells: those that are left of `count`.
    """
    print(f"{count} cells: {count - len(cells)} are there, {len(cells)} to run, {jobs} at a time", flush=True)
    failed, began, kept = [], time.monotonic(), count - len(cells)

    def start(cell: Cell):
        print(f"starting {cell.folder}: {cell.folder / LOG_FILE}", flush=True)
        return run_cell(cell, environment)

    with ThreadPoolExecutor(jobs) as pool:
        for number, future in enumerate(as_completed([pool.submit(start, cell) for cell in cells]), 1):
            outcome, left = future.result(), len(cells) - number
            minutes = (time.monotonic() - began) / number * left / 60
            rest = f"; {left} left, about {minutes:,.0f} min" if left else ""
            place = f"[{kept + number}/{count}] {outcome.cell.folder}"
            if outcome.failure is None:
                print(f"{place}: done in {outcome.seconds:,.0f} s{rest}", flush=True)
            else:
                failed.append(str(outcome.cell.folder))
                print(f"{place}: FAILED after {outcome.seconds:,.0f} s{rest}\n{outcome.failure}", flush=True)
    return failed


def parse_study(files: Sequence[str], named: list[str]) -> tuple[Study, StudyArguments]:
    """The study and the arguments; options of its file are arguments, of the type of their defaults.

    Raises:
        ValueError: see `read_study`; not one file, or an argument that does not exist.
    """
    options = read_options(Path(files[0])) if len(files) == 1 else {}
    own = {argument.name for argument in fields(StudyArguments)}
    if own & set(options):
        raise ValueError(f"{files[0]}: options {sorted(own & set(options))} are arguments of every study: rename them")
    kinds = [
        (name, str | None if value is None else type(value), field(default=value, metadata={"help": "Of the study."}))
        for name, value in options.items()
    ]
    parser = HfArgumentParser((StudyArguments, make_dataclass("Options", kinds)), prog=f"{command_name()} STUDY.yaml")
    parsed, given = parser.parse_args_into_dataclasses(named)
    if len(files) != 1:
        raise ValueError("name one study: python -m train.study STUDY.yaml [--only ARM,...] [--jobs N] [--dry_run]")
    return read_study(Path(files[0]), vars(given)), parsed


def main(arguments: list[str] | None = None) -> None:
    files, named = split_positional(arguments)
    try:
        failed = run_study(*parse_study(files, named))
    except ValueError as error:
        sys.exit(f"error: {error}")
    if failed:
        sys.exit(f"error: {len(failed)} failed: {', '.join(failed)}")


if __name__ == "__main__":
    # Ctrl-C ends a study as every other signal does: at once, and its commands with it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
