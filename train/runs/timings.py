"""The command of a module that times something: arguments in, a table out, its report as JSON where asked; a clock."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from train.runs.recipes import parse_recipe


def time_command(
    kinds: tuple[type, ...], run: Callable[..., dict], format_table: Callable[[dict], str], arguments: list[str] | None
) -> None:
    """What the `main` of such a module does.

    Args:
        kinds: dataclasses of arguments; the last has `out`, the file of the report or None.
        run: from one of each to the report.
        arguments: of the command line; None takes the process'.

    Raises:
        SystemExit: an argument is wrong, or what is to be timed cannot run; with the reason.
    """
    try:
        parsed = parse_recipe(kinds, arguments)
        report = run(*parsed)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(format_table(report))
    if parsed[-1].out:
        Path(parsed[-1].out).write_text(json.dumps(report, indent=2) + "\n")


def seconds_on(device: torch.device) -> float:
    """A clock: of the processor on the CPU, where other work would count otherwise; of the wall once a GPU is done."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()
