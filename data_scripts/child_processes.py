"""Processes of `multiprocessing` that must not outlive the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from multiprocessing.connection import wait


def run_apart(work: Callable[..., object], *arguments) -> int:
    """`work(*arguments)` in a new process, which ends with this one; its exit code (negative: the signal that killed
    it). Both are handed over by `pickle`.
    """
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(work, arguments))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _work(work: Callable[..., object], arguments: tuple) -> None:
    end_with_parent()
    work(*arguments)


def end_with_parent() -> None:
    """End this process as soon as the one that started it has ended, however that came about.

    Left alone, it would wait for work for ever, or go on with what nobody wants any more.
    """
    sentinel = multiprocessing.parent_process().sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
