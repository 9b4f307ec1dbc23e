"""What the results of all tasks have, and how they are kept as JSON."""

from __future__ import annotations

import json
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from eval.records.estimates import Estimate
from eval.records.json_values import from_json, write_json
from eval.records.provenance import Provenance
from eval.records.runs import Adaptation

#: Version of the format of the files; bump when a field changes its meaning.
FORMAT_VERSION = 1
EVALUATE_ANEW = "evaluate the model again with `python -m eval.run`"


@dataclass
class Subgroup:
    """The metric among the films of one view, sex, age band or source.

    `labels` is the number of labels in a macro mean (a small group lacks some: means of different labels do not
    compare), None where the metric is no such mean.
    """

    attribute: str
    value: str
    films: int
    patients: int
    estimate: Estimate
    labels: int | None = None


@dataclass
class TaskResult:
    """What the results of all tasks have.

    `notes` are plain sentences to be shown beside the figures. `adaptation` is of a model that was adapted
    before, be it evaluated by its own head or by a probe that was fitted on its tower.
    """

    task: ClassVar[str]
    benchmark: str
    benchmark_version: int
    _: KW_ONLY
    provenance: Provenance
    subgroups: list[Subgroup] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    adaptation: Adaptation | None = None
    format_version: int = FORMAT_VERSION

    @property
    def headline(self) -> tuple[str, Estimate]:
        """The one figure for a table of many benchmarks: its name and value."""
        raise NotImplementedError

    def save(self, path: Path) -> None:
        write_json({"task": self.task, **asdict(self)}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises ValueError if the file is no result of this task in this format version; it says how to make one."""
        values = read_values(path)
        if values.get("task") != cls.task or values.get("format_version") != FORMAT_VERSION:
            raise ValueError(
                f"{path}: task {values.get('task')!r}, format {values.get('format_version')!r}; expected "
                f"{cls.task!r}, {FORMAT_VERSION}: {EVALUATE_ANEW}"
            )
        del values["task"]
        try:
            return from_json(cls, values)
        except TypeError as error:
            raise ValueError(
                f"{path} is not a result of task {cls.task!r}: it lacks a value or has an unknown one ({error}), as if "
                f"another version had written it: {EVALUATE_ANEW}"
            ) from error


def read_values(path: Path) -> dict:
    """What a JSON file holds; nothing where that is no mapping."""
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not a result: it is no JSON ({error}): {EVALUATE_ANEW}") from error
    return values if isinstance(values, dict) else {}
