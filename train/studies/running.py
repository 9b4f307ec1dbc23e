"""Runs the cells of a study: what is there stays, what was stopped goes on, and what differs is refused.

A cell's folder holds, beside what its trainer writes, `study.json` (the arguments it was begun with) and `study.log`
(what its commands printed). The log is locked while a command writes into it: a second study waits for that command, so
no cell is trained by two at once.
"""

from __future__ import annotations

import fcntl
import json
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePath
from typing import IO, Any

from eval.records.json_values import write_json
from eval.records.runs import RUN_FILE, Run
from train.runs.recipes import as_words
from train.studies.plan import Cell, Step, Study
from train.studies.processes import run_module
from train.studies.reading import read_yaml

RECORD_FILE, LOG_FILE = "study.json", "study.log"
#: Lines of its log that are shown of a command that failed.
_TAIL = 12


@dataclass(frozen=True)
class Record:
    """The arguments that a cell or step was begun with: those of its recipe, and over them those of the study.

    `evaluate` says how its results were made; empty until they are there.
    """

    command: str
    arguments: dict
    evaluate: dict = field(default_factory=dict)

    @classmethod
    def of(cls, part: Cell | Step) -> Record:
        recipe = {}
        for word in shlex.split(part.command)[1:]:
            if word.endswith((".yaml", ".yml")):
                recipe = read_yaml(Path(word)) or {}
        arguments = {name: value for name, value in (recipe | part.arguments).items() if name != "output_dir"}
        evaluate = asdict(part.evaluate) if isinstance(part, Cell) and part.evaluate else {}
        # As it will be read again.
        return cls(**json.loads(json.dumps({"command": part.command, "arguments": arguments, "evaluate": evaluate})))

    @classmethod
    def load(cls, file: Path) -> Record | None:
        """Raises ValueError if the file is no such record; None if it is missing."""
        if not file.is_file():
            return None
        try:
            return cls(**json.loads(file.read_text()))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file} is damaged ({error}): delete the folder to run it anew") from error


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: `failure` is None, or says what went wrong."""

    cell: Cell
    seconds: float
    failure: str | None = None


def commands_left(cell: Cell) -> list[list[str]]:
    """The commands (words after the interpreter) that a cell still needs: training, evaluation, both or none.

    Raises:
        ValueError: what is there was made with other arguments, or cannot be read.
    """
    train, evaluate = training_command(cell), evaluation_command(cell)
    if not _is_trained(cell):
        return [train, *evaluate]
    if evaluate:
        before = Record.load(cell.folder / RECORD_FILE)
        present = all(file.is_file() for file in _results(cell))
        if not present or (before is not None and before.evaluate != Record.of(cell).evaluate):
            return evaluate
    return []


def _is_trained(cell: Cell) -> bool:
    """Whether the run of a cell is finished; raises ValueError where it is not the one that is asked for.

    One that was stopped (or failed) without a checkpoint is begun anew, so its earlier arguments do not matter.
    """
    wanted, before = Record.of(cell), Record.load(cell.folder / RECORD_FILE)
    finished = (cell.folder / RUN_FILE).is_file()
    # Raises ValueError for one that cannot be read.
    run = Run.load(cell.folder) if finished else None
    differences = [] if before is None else differing(before, wanted)
    if before is None and run is not None:
        # Not run by a study: what the trainer itself wrote down is all there is to compare.
        told = json.loads(json.dumps(run.settings)) | {"seed": run.seed}
        asked = {name: value for name, value in wanted.arguments.items() if name in told}
        differences = [f"{name} {told[name]!r} -> {asked[name]!r}" for name in asked if told[name] != asked[name]]
    if differences and (finished or _has_checkpoint(cell)):
        raise ValueError(
            f"{cell.folder} was {'run' if finished else 'begun'} with other arguments: {'; '.join(differences)}. Give "
            "the former values, choose another output_dir, or delete that folder to run it anew"
        )
    return finished


def differing(before: Record, now: Record) -> list[str]:
    """What differs in the training between two records, as "name old -> new"."""
    names = sorted({*before.arguments, *now.arguments})
    pairs = {name: (before.arguments.get(name), now.arguments.get(name)) for name in names}
    pairs = {"command": (before.command, now.command), **pairs}
    return [f"{name} {old!r} -> {new!r}" for name, (old, new) in pairs.items() if old != new]


def as_command(command: str, arguments: Mapping[str, Any], *positional: str) -> list[str]:
    """`-m MODULE WORDS POSITIONAL --name value ...`."""
    named = [word for name, value in arguments.items() for word in as_words(name, value)]
    return ["-m", *shlex.split(command), *positional, *named]


def training_command(cell: Cell) -> list[str]:
    words = [*as_command(cell.command, cell.arguments), "--output_dir", str(cell.folder)]
    # The checkpoint may be incomplete; the trainer passes over such a one.
    stopped = _has_checkpoint(cell) and not (cell.folder / RUN_FILE).is_file()
    return [*words, "--resume_from_checkpoint", "last"] if stopped else words


def _has_checkpoint(cell: Cell) -> bool:
    return any(cell.folder.glob("checkpoint-*"))


def evaluation_command(cell: Cell) -> list[list[str]]:
    """The command that evaluates a trained cell, in a list; an empty one where the trainer does that itself."""
    evaluate = cell.evaluate
    return [as_command(evaluate.command, {"model": str(cell.folder), **evaluate.arguments})] if evaluate else []


def run_cell(cell: Cell, environment: Mapping[str, str]) -> Outcome:
    """Run what a cell still needs; what went wrong is told in the outcome."""
    began, failure = time.monotonic(), None
    try:
        with locked_log(cell.folder / LOG_FILE) as log:
            # Looked up anew: another study may have run it while this one waited.
            commands = commands_left(cell)
            if commands:
                # Results that lie there are of an earlier training or setting until they are made anew.
                write_json(replace(Record.of(cell), evaluate={}), cell.folder / RECORD_FILE)
            for command in commands:
                run_command(command, environment, log)
            missing = [file for file in _files(cell) if not file.is_file()]
            if missing:
                raise ValueError(f"its commands ended well, but {missing[0]} is not there, {_tail(log)}")
            write_json(Record.of(cell), cell.folder / RECORD_FILE)
    except (ValueError, OSError) as error:
        failure = str(error)
    return Outcome(cell, time.monotonic() - began, failure)


def _files(cell: Cell) -> list[Path]:
    """The files that a finished cell has: its record and results."""
    return [cell.folder / RUN_FILE, *_results(cell)]


def _results(cell: Cell) -> list[Path]:
    names = cell.evaluate.results if cell.evaluate else ()
    return [cell.folder / "results" / f"{name}.json" for name in names]


def needed_steps(study: Study, cells: Sequence[Cell]) -> dict[str, Step]:
    """The steps that cells need: whose folder they, their evaluation or comparison, or a step that is needed name.

    A step whose folder nothing in the study names is needed by all.
    """
    folders = {name: PurePath(step.makes).parent for name, step in study.prepare.items()}
    needs = {name: _paths(Record.of(step).arguments) for name, step in study.prepare.items()}
    of_cells = {cell.folder: _paths_of_cell(study, cell) for cell in study.cells()}
    named = [*needs.values(), *of_cells.values()]
    waiting = [of_cells[cell.folder] for cell in cells]
    needed = {name for name, folder in folders.items() if not any(_touches(folder, paths) for paths in named)}
    waiting += [needs[name] for name in needed]
    while waiting:
        paths = waiting.pop()
        found = {name for name, folder in folders.items() if name not in needed and _touches(folder, paths)}
        needed |= found
        waiting += [needs[name] for name in found]
    return {name: step for name, step in study.prepare.items() if name in needed}


def _paths_of_cell(study: Study, cell: Cell) -> set[PurePath]:
    record, compare = Record.of(cell), study.grids[cell.grid].compare
    return _paths([record.arguments, record.evaluate, compare.arguments if compare is not None else {}])


def _paths(value: Any) -> set[PurePath]:
    """All texts in arguments, as the paths that they may be."""
    if isinstance(value, dict | list):
        return set().union(*map(_paths, value.values() if isinstance(value, dict) else value))
    return {PurePath(value)} if isinstance(value, str) else set()


def _touches(folder: PurePath, paths: Iterable[PurePath]) -> bool:
    return any(folder.is_relative_to(path) or path.is_relative_to(folder) for path in paths)


def step_left(step: Step, record: Path) -> bool:
    """Whether a step is still to be run. Raises ValueError where what it made was made with other arguments."""
    if not Path(step.makes).is_file():
        return True
    before = Record.load(record)
    differences = [] if before is None else differing(before, Record.of(step))
    if differences:
        raise ValueError(
            f"{step.makes} was made with other arguments: {'; '.join(differences)}. Give the former values, or delete "
            "it (and what was trained on it) to make it anew"
        )
    return False


def run_step(step: Step, record: Path, environment: Mapping[str, str]) -> None:
    """Run a step unless what it makes is there; its record and log are `record` with the endings .json and .log.

    Raises:
        ValueError: it failed, or did not make its file.
    """
    with locked_log(record.with_suffix(".log")) as log:
        if not step_left(step, record):
            return
        run_command(as_command(step.command, step.arguments), environment, log)
        if not Path(step.makes).is_file():
            raise ValueError(f"the command ended well, but {step.makes} is not there, {_tail(log)}")
        write_json(Record.of(step), record)


def run_command(command: Sequence[str], environment: Mapping[str, str], log: IO[str]) -> None:
    """Run a command to its end, its output into the log. Raises ValueError with the log's last lines if it fails."""
    log.write(f"$ python {shlex.join(command)}\n")
    log.flush()
    began = log.tell()
    code = run_module(command, log.fileno(), environment)
    if code != 0:
        raise ValueError(f"exit {code}, {_tail(log, began)}")


def _tail(log: IO[str], began: int = 0) -> str:
    """The last lines that were printed into a log from `began` on."""
    with Path(log.name).open(errors="replace") as printed:
        printed.seek(began)
        lines = [line for line in printed.read().splitlines() if line.strip()]
    told = "\n".join(f"    {line}" for line in lines[-_TAIL:])
    return f"last lines of {log.name}:\n{told}"


@contextmanager
def locked_log(file: Path):
    """A log to append to, open and locked; waits while another process writes into it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{file} is being written by another process: waiting for it", flush=True)
            fcntl.flock(log, fcntl.LOCK_EX)
        yield log
