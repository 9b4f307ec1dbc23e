"""What a check found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """Records of one kind of problem.

    Attributes:
        kind: what is wrong, without names or ids.
        advice: what it means, or what to do.
        records: ids of the records; they may tell patients, so that they are written into files alone.
        is_error: whether figures measured on the folder would be wrong; otherwise somebody should look.
    """

    kind: str
    advice: str
    records: tuple[str, ...]
    is_error: bool


def error(kind: str, advice: str, records: Sequence[str]) -> list[Problem]:
    """An error, if any record has it."""
    return [Problem(kind, advice, tuple(records), True)] if len(records) else []


def warning(kind: str, advice: str, records: Sequence[str]) -> list[Problem]:
    """A warning, if any record has it."""
    return [Problem(kind, advice, tuple(records), False)] if len(records) else []
