"""What a study is: steps, grids of runs over axes, and the cells that these make. How it is written: `reading`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command before the cells. `makes` is the file that it writes last: where that is, the step is done."""

    command: str
    makes: str
    arguments: dict = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a trained cell is evaluated: `command --model CELL`, which writes each result to `CELL/results/NAME.json`."""

    results: list
    arguments: dict = field(default_factory=dict)
    command: str = "eval.run"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is done with the cells of a grid when all are there: `command CELL CELL ... --arguments`.

    `beside` are further grids, of other trainers perhaps, whose cells are compared with them.
    """

    arguments: dict = field(default_factory=dict)
    command: str = "eval.studies"
    beside: list = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Arguments of the cells that have the values `cells` (a value, or a list of values, by name of an axis)."""

    cells: dict
    arguments: dict


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Runs of one trainer over axes: arms, further axes, seeds, in this order; an axis that is left out has no values.

    Args:
        command: module of the trainer, and its recipe; the trainer takes `--output_dir` and writes `run.json` last.
        folder: of its cells below that of the study; default: its name.
        arguments: of all cells; arms, axes and `where` come later and win.
        evaluate: None: the trainer evaluates its own result before it writes `run.json`.
    """

    command: str
    folder: str | None = None
    arguments: dict = field(default_factory=dict)
    arms: dict = field(default_factory=dict)
    axes: dict = field(default_factory=dict)
    seeds: list = field(default_factory=list)
    where: list = field(default_factory=list)
    evaluate: Evaluation | None = None
    compare: Comparison | None = None

    def values(self) -> dict[str, dict[Any, dict]]:
        """For each axis its values, and the arguments that each of them means."""
        axes = {"arm": self.arms} if self.arms else {}
        for name, values in self.axes.items():
            axes[name] = values if isinstance(values, dict) else {value: {name: value} for value in values}
        return axes | ({"seed": {seed: {"seed": seed} for seed in self.seeds}} if self.seeds else {})


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study file.

    Args:
        output_dir: folder of everything that the study writes.
        grids: by name.
        arguments: of the cells of all grids.
        prepare: steps by name.
        needs: files that must be there before, and the command that makes each.
        environment: variables of all commands.
        options: what the command line may set, by name; already put in place everywhere.
    """

    output_dir: str
    grids: dict[str, Grid]
    arguments: dict = field(default_factory=dict)
    prepare: dict[str, Step] = field(default_factory=dict)
    needs: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)

    def cells(self) -> list[Cell]:
        """All cells of all grids, grid by grid, the last axis (seeds) changing fastest.

        Raises:
            ValueError: two cells have the same folder.
        """
        cells = [cell for name, grid in self.grids.items() for cell in _cells_of_grid(self, name, grid)]
        folders = [cell.folder for cell in cells]
        repeated = sorted({str(folder) for folder in folders if folders.count(folder) > 1})
        if repeated:
            raise ValueError(f"several cells have the same folder: {repeated}; give their grids another `folder`")
        return cells


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Args:
        grid: name of its grid.
        place: its value on each axis.
        folder: output folder of the trainer.
        command, arguments: of the trainer, without those that say where it writes.
        evaluate: None where the trainer evaluates its own result.
    """

    grid: str
    place: dict[str, Any]
    folder: Path
    command: str
    arguments: dict
    evaluate: Evaluation | None

    @property
    def arm(self) -> str | None:
        return self.place.get("arm")


def _cells_of_grid(study: Study, name: str, grid: Grid) -> Iterator[Cell]:
    axes = grid.values()
    root = Path(study.output_dir) / (name if grid.folder is None else grid.folder)
    for values in itertools.product(*axes.values()):
        place = dict(zip(axes, values, strict=True))
        arguments = study.arguments | grid.arguments
        for axis, value in place.items():
            arguments = arguments | axes[axis][value]
        for condition in grid.where:
            if all(place[axis] in as_list(wanted) for axis, wanted in condition.cells.items()):
                arguments = arguments | condition.arguments
        folder = root / "-".join(map(str, values)) if place else root
        yield Cell(name, place, folder, grid.command, arguments, grid.evaluate)


def as_list(value: Any) -> list:
    return value if isinstance(value, list) else [value]
