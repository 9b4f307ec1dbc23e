"""Several processes: each does its part, all get the whole, and the error of one stops all at once."""

import pytest

from eval.processes import share_batches, together
from tests.warm import run_python

SCRIPT = """
import sys
from pathlib import Path
from accelerate import PartialState
from eval.processes import share_batches, together

state = PartialState(cpu=True)
done, told = [], []
squares = share_batches(lambda batch: (done.extend(batch), [n * n for n in batch])[1], 7, 2, "squaring")
told.append(f"{squares} of {done}, {share_batches(lambda batch: batch, 1, 2, 'one batch')}")
for kind in (ValueError, OSError, TypeError):
    try:
        with together():
            if state.process_index == 1:
                raise kind("row 7 cannot be read")
    except Exception as error:
        told.append(f"{type(error).__name__}: {error}")
Path(sys.argv[1], str(state.process_index)).write_text("\\n".join(told))
state.wait_for_everyone()
state.destroy_process_group()
"""


def test_what_one_process_runs_into_stops_all(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    # Long before any time-out of an exchange.
    done = run_python([str(tmp_path / "script.py"), str(tmp_path)], processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = ((tmp_path / str(number)).read_text().splitlines() for number in (0, 1))
    assert one == [
        "[0, 1, 4, 9, 16, 25, 36] of [0, 1, 4, 5], [0]",
        "ValueError: process 1: row 7 cannot be read",
        "ValueError: process 1: row 7 cannot be read",
        "RuntimeError: process 1: row 7 cannot be read",
    ]
    assert other == [
        "[0, 1, 4, 9, 16, 25, 36] of [2, 3, 6], [0]",
        "ValueError: row 7 cannot be read",
        "OSError: row 7 cannot be read",
        "TypeError: row 7 cannot be read",
    ]


def test_one_process_alone_passes_errors_on():
    with pytest.raises(KeyError, match="whatever"), together():
        raise KeyError("whatever")
    assert share_batches(lambda batch: [-n for n in batch], 5, 2, "negating") == [0, -1, -2, -3, -4]

    def work(batch: list[int]) -> list[int]:
        if batch[0] == 2:
            raise ValueError("batch 2")
        return batch

    with pytest.raises(ValueError, match="batch 2"):
        share_batches(work, 5, 2, "failing")
