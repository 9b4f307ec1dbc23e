"""Commands that take folders before their named arguments: `python -m eval.studies RUN_DIR ... --out PATH`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import takewhile


def split_positional(arguments: Sequence[str] | None = None) -> tuple[list[str], list[str]]:
    """The words before the first that starts with "-", and all others, for a parser of named arguments alone.

    Args:
        arguments: of the command; None: those that this process was started with.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    positional = list(takewhile(lambda word: not word.startswith("-"), words))
    return positional, words[len(positional) :]
