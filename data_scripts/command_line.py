"""What commands share: folders before named arguments (`python -m eval.studies RUN_DIR ... --out PATH`), long text."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path


def split_positional(arguments: Sequence[str] | None = None) -> tuple[list[str], list[str]]:
    """The words before the first that starts with "-", and all others, for a parser of named arguments alone.

    Args:
        arguments: of the command; None: those that this process was started with.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    positional = list(takewhile(lambda word: not word.startswith("-"), words))
    return positional, words[len(positional) :]


def command_name() -> str:
    """What was typed, for usages: `python -m MODULE`, of which argparse alone would name the file (`__main__.py`)."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return Path(sys.argv[0]).name if spec is None else f"python -m {spec.name.removesuffix('.__main__')}"


def positive(word: str) -> int:
    """A number of argparse's that counts something (its `type`)."""
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"it is {number}, it must be at least 1")
    return number


def check_at_least_one(arguments: object, *names: str) -> None:
    """Raise ValueError for a number among these attributes that is below 1; None is none."""
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}, it must be at least 1")


def print_long(text: str) -> None:
    """Print what a reader may have seen enough of (`| head`): then the rest of the output goes nowhere, in silence."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
