"""Commands as processes of their own, without the ten seconds that Python and its libraries take to start.

A server imports torch and the Hugging Face libraries once; every command is a fork of it, which begins at
`python -m MODULE`. It never touches a GPU, and it has the environment of the first command. A command ends with the
process that started it, however that ended.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import reduction
from multiprocessing.connection import wait
from pathlib import Path

from data_scripts.child_processes import end_with_parent

_STARTING = threading.Lock()
_CONTEXT = multiprocessing.get_context("forkserver")
#: Libraries alone: what a command computes must not depend on what was imported of this project before.
_PRELOADED = (
    *("torch", "transformers.trainer", "transformers.models.auto.modeling_auto", "peft", "datasets", "accelerate"),
    *("sklearn.linear_model", "scipy.stats", "matplotlib.pyplot"),
)


def run_module(words: Sequence[str], output: int, environment: Mapping[str, str]) -> int:
    """Run `python WORDS` (which begin with `-m`) to its end; its exit code (negative: the signal that killed it).

    Args:
        output: file descriptor for what it writes. The process holds the same open file, so locks on it last as long
            as it runs.
        environment: variables beside those of this process. What libraries read as they are imported (threads, where
            models lie) is taken from the first command's.
    """
    with _STARTING:
        os.environ.update(environment)
        _CONTEXT.set_forkserver_preload(list(_PRELOADED))
        process = _CONTEXT.Process(target=_become, args=(list(words), _OpenFile(output), dict(os.environ)))
        process.start()
    # Reads nothing. Starting a process asks all others for their exit codes, which each can be read once only.
    wait([process.sentinel])
    with _STARTING:
        process.join()
    assert process.exitcode is not None
    return process.exitcode


class _OpenFile:
    """A file descriptor that is handed over to a process as it starts."""

    def __init__(self, descriptor: int):
        self.descriptor = descriptor

    def __getstate__(self):
        return reduction.DupFd(self.descriptor)

    def __setstate__(self, handed):
        self.descriptor = handed.detach()


def _become(words: list[str], output: _OpenFile, environment: dict[str, str]) -> None:
    """In the fork: be the command."""
    end_with_parent()
    os.environ.update(environment)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for old, new in ((nothing, 0), (output.descriptor, 1), (output.descriptor, 2)):
        os.dup2(old, new)
    sys.stdout.reconfigure(line_buffering=True)
    if words[0] != "-m":
        raise ValueError(f"{words}: commands begin with -m MODULE")
    sys.argv = ["-m", *words[2:]]
    sys.path.insert(0, str(Path.cwd()))
    runpy.run_module(words[1], run_name="__main__", alter_sys=True)
