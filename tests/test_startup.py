"""A command answers `--help`, and refuses a wrong argument, before it imports what its work needs."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
#: Packages that take from half a second to five seconds; `modeling_chexficient` imports most of transformers.
HEAVY = ("torch", "datasets", "accelerate", "peft", "sklearn", "scipy", "matplotlib", "modeling_chexficient")
#: Runs a command as `python -m` would, and writes into a file what it has imported when it ends.
PROGRAM = """
import runpy, sys
from pathlib import Path
imported, module, *words = sys.argv[1:]
sys.argv = [module, *words]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
finally:
    Path(imported).write_text("\\n".join(sys.modules))
"""


def run(words: list[str], tmp_path: Path) -> tuple[subprocess.CompletedProcess, set[str]]:
    """What became of a command, and the heavy packages that it imported."""
    imported = tmp_path / "imported"
    program = [sys.executable, "-c", PROGRAM, str(imported), *words]
    done = subprocess.run(program, capture_output=True, text=True, cwd=REPOSITORY)
    return done, set(imported.read_text().split("\n")) & {*HEAVY}


@pytest.mark.parametrize(
    ("words", "shown", "allowed"),
    [
        (["data_scripts.prepare", "folder"], "--report_column", set()),
        (["eval.run"], "--benchmark", set()),
        # The rules that `--selection` lists are functions on tensors.
        (["train.pretrain"], "--super_batch_size", {"torch"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_help_does_not_wait_for_heavy_packages(words, shown, allowed, tmp_path):
    done, heavy = run([*words, "--help"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
    # What is to be typed, not the file that argparse sees.
    assert done.stdout.startswith(f"usage: python -m {' '.join(words)} [")
    assert heavy <= allowed


def test_a_wrong_argument_is_refused_as_soon(tmp_path):
    done, heavy = run(["eval.run", "--model", "a", "b", "--data", "c"], tmp_path)
    assert done.returncode == 1
    assert "say with --out" in done.stderr
    assert not heavy
