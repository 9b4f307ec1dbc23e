"""Python programs in processes of their own, without the ten seconds of processor time that their imports take.

A server imports torch and the Hugging Face libraries once in a session of tests; every program is a fork of it. Nothing
of this project is imported before, so a program can be barred from it. What libraries read from the environment as they
are imported (`HF_HOME`, `HF_ENDPOINT`) is that of the tests: where it must differ, start a real process.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
#: Ends what hangs; no test is about the time.
LIMIT = 600

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        *("torch", "transformers.trainer", "transformers.pipelines", "transformers.models.auto.modeling_auto"),
        *("transformers.models.bert.modeling_bert", "transformers.models.dinov2.modeling_dinov2"),
        *("peft", "datasets", "accelerate", "pandas", "sklearn.linear_model", "scipy.stats"),
    ]
)


class Program:
    """A program that runs, `words` as after `python`: `-m MODULE`, `-c CODE` or a file, and their arguments.

    `environment` is added to that of the tests.
    """

    def __init__(self, words: Sequence[str], cwd: Path = REPOSITORY, environment: dict[str, str] | None = None):
        self.words = list(words)
        self.output = tempfile.TemporaryDirectory(prefix="program-")
        files = [str(Path(self.output.name) / name) for name in ("out", "err")]
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        self.process: ForkServerProcess = CONTEXT.Process(target=_work, args=(self.words, str(cwd), variables, *files))
        self.process.start()

    def wait(self) -> subprocess.CompletedProcess:
        """Its exit code (negative: the signal that killed it) and what it wrote."""
        self.process.join(LIMIT)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"{self.words} did not end within {LIMIT} s")
        out, err = (path.read_text() if path.exists() else "" for path in self._files())
        self.output.cleanup()
        return subprocess.CompletedProcess(self.words, self.process.exitcode, out, err)

    def _files(self) -> tuple[Path, Path]:
        return Path(self.output.name, "out"), Path(self.output.name, "err")


def run_python(
    words: Sequence[str], cwd: Path = REPOSITORY, environment: dict[str, str] | None = None, processes: int = 1
) -> subprocess.CompletedProcess:
    """Like `subprocess.run([sys.executable, *words], capture_output=True, text=True)`.

    Several `processes` find each other as those of torchrun do; the result is that of the first one that failed.
    """
    shared = dict(environment or {})
    if processes > 1:
        shared |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {} for rank in range(processes)]
    programs = [Program(words, cwd, shared | rank) for rank in ranks]
    results = [program.wait() for program in programs]
    return next((result for result in results if result.returncode), results[0])


def run_without_project(
    script: str, words: Sequence[str], folder: Path, barred: Sequence[str] = ("modeling_chexficient",)
) -> subprocess.CompletedProcess:
    """`script` in `folder`, where the packages of this project called `barred` cannot be imported.

    Code from model folders is kept below `folder`, too, so nothing is left of earlier tests.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "script.py").write_text(f"import sys\n{_BARRIER.format(barred=tuple(barred))}\n{script}")
    code = {"HF_MODULES_CACHE": str(folder / "code")}
    done = run_python([str(folder / "script.py"), *map(str, words)], folder, code)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


# An editable install is always visible, so the names themselves are refused.
_BARRIER = """
class Barrier:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {barred}:
            raise ModuleNotFoundError(name)

loaded = [name for name in sys.modules if name.split(".")[0] in {barred}]
assert not loaded, loaded
sys.meta_path.insert(0, Barrier())
"""


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def _work(words: list[str], cwd: str, environment: dict[str, str], out: str, err: str) -> None:
    """In the fork: become the program."""
    for number, path in ((1, out), (2, err)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    import torch

    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    if "HF_MODULES_CACHE" in environment:
        _move_modules_cache(environment["HF_MODULES_CACHE"])
    kind, *rest = words
    if kind in ("-m", "-c"):
        name, *arguments = rest
        sys.argv = [kind, *arguments]
        sys.path.insert(0, cwd)
    if kind == "-m":
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    elif kind == "-c":
        exec(compile(name, "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = words
        runpy.run_path(kind, run_name="__main__")


def _move_modules_cache(folder: str) -> None:
    """Where transformers keeps the code of model folders; it was read from the environment at the import."""
    for module in list(sys.modules.values()):
        if "HF_MODULES_CACHE" in getattr(module, "__dict__", {}):
            module.HF_MODULES_CACHE = folder
