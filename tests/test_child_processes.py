"""What must not outlive the process that started it."""

import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from data_scripts.child_processes import run_apart

#: Holds a lock for ten minutes, as long as it runs.
WAITS = """
import fcntl, time
lock = open("lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
open("begun", "w").close()
time.sleep(600)
"""
STARTS = "import runpy; from data_scripts.child_processes import run_apart; run_apart(runpy.run_path, 'waits.py')"


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGKILL], ids=lambda signal_: signal_.name)
def test_what_runs_apart_ends_with_what_started_it(tmp_path, signal_):
    """A run of `train.baselines` that was stopped trained on, for hours, in the folder of the next one."""
    (tmp_path / "waits.py").write_text(WAITS)
    place = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    started = subprocess.Popen([sys.executable, "-c", STARTS], cwd=tmp_path, env=place)
    deadline = time.monotonic() + 120
    while not (tmp_path / "begun").is_file():
        assert started.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    started.send_signal(signal_)
    assert started.wait(60) == -signal_
    began = time.monotonic()
    with (tmp_path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    assert time.monotonic() - began < 60


def test_the_exit_code_is_that_of_the_work():
    assert run_apart(time.sleep, 0) == 0
    assert run_apart(sys.exit, 3) == 3
