"""Atomic checkpoints: whole or not there at all.

A checkpoint is written into a hidden folder, listed with the sizes of its files, and then renamed: a process killed at
any moment leaves the checkpoint before it as it was. One whose files do not match their list is passed over.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import NoReturn

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints, sort_checkpoints

MANIFEST_FILE = "manifest.json"
RUN_STATE_FILE = "run_state.json"
#: Where a checkpoint is written until it is whole.
STAGING = ".unfinished"


def finish_checkpoint(run_dir: Path, name: str, save_total_limit: int | None) -> Path:
    """Make the staged checkpoint `name` whole: list its files, force them to disk, and move it to its place."""
    staged, target = run_dir / STAGING / name, run_dir / name
    files = sorted(path for path in staged.rglob("*") if path.is_file())
    for path in files:
        _force_to_disk(path)
    sizes = {str(path.relative_to(staged)): path.stat().st_size for path in files}
    manifest = staged / MANIFEST_FILE
    manifest.write_text(json.dumps(sizes, indent=2) + "\n")
    _force_to_disk(manifest)
    shutil.rmtree(target, ignore_errors=True)
    staged.rename(target)
    _force_to_disk(run_dir)
    rotate_checkpoints(str(run_dir), save_total_limit)
    return target


def give_up_checkpoint(run_dir: Path, name: str, error: Exception) -> NoReturn:
    """Raise OSError that says what to do where checkpoint `name` could not be written, as on a full disk."""
    raise OSError(
        f"{run_dir / name} could not be saved ({error}): the checkpoint before it is as it was; make room, then go "
        "on with --resume_from_checkpoint last"
    ) from error


def _force_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def why_incomplete(checkpoint: Path) -> str | None:
    """What is missing in a checkpoint; None if it is whole."""
    manifest = checkpoint / MANIFEST_FILE
    if not manifest.is_file():
        return f"{MANIFEST_FILE} is missing"
    try:
        sizes = json.loads(manifest.read_text())
    except ValueError:
        return f"{MANIFEST_FILE} is damaged"
    for name, size in sizes.items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size:,} bytes in place of {size:,}"
    return None


def newest_checkpoint(run_dir: Path) -> Path | None:
    """The newest whole checkpoint of a run, with a warning for each newer one that is not; None if there is none."""
    for folder in reversed(sort_checkpoints(str(run_dir), PREFIX_CHECKPOINT_DIR)):
        reason = why_incomplete(Path(folder))
        if reason is None:
            return Path(folder)
        warnings.warn(f"{folder} is not whole ({reason}): it is passed over", stacklevel=2)
    return None


def find_checkpoint(run_dir: Path, wanted: str) -> Path | None:
    """The checkpoint to go on from: a folder, or "last" for the newest of the run (None if there is none yet).

    Raises:
        ValueError: the folder named is no whole checkpoint.
    """
    if wanted.lower() in ("last", "true"):
        return newest_checkpoint(run_dir)
    folder = Path(wanted)
    reason = why_incomplete(folder) if folder.is_dir() else "there is no such folder"
    if reason is not None:
        raise ValueError(f"--resume_from_checkpoint {wanted}: {reason}; give a whole checkpoint, or `last`")
    return folder


def check_same_run(checkpoint: Path, state: dict, present: dict) -> None:
    """Raise ValueError naming what differs between the run that wrote `state` and the present one.

    Args:
        state, present: of `train.runs.trainer.RunTrainer.run_state`; `state` also has the trainer's own ("own").
    """
    if not {*present, "own"} <= state.keys():
        raise ValueError(
            f"{checkpoint} was written by another version of this code: go on with that one, or start a new run in "
            "another output_dir"
        )
    if state["processes"] != present["processes"]:
        raise ValueError(
            f"{checkpoint} was written by {state['processes']} processes and there are {present['processes']} now: "
            "batches and random numbers would differ. Start as many processes as before"
        )
    before, now = state["settings"], present["settings"]
    other_data = state["corpus"] != present["corpus"]
    # Some settings decide what is learnt from, and how much there is decides the schedule.
    different = _differences(before, now, skipped={"schedule"} if other_data else set())
    if different:
        raise ValueError(
            f"{checkpoint}: the run would not be the same any more: {'; '.join(different)}. Give the former values, "
            "or start a new run in another output_dir"
        )
    if other_data:
        raise ValueError(
            f"{checkpoint}: the training data changed since (fingerprint {state['corpus']}, now {present['corpus']}): "
            "films, texts, labels or masks, or their order. Give the same data, or start a new run"
        )


def _differences(before: dict, now: dict, skipped: set[str]) -> list[str]:
    """ "NAME OLD -> NEW" for each setting that differs; of a schedule, which is a dict, for each of its numbers."""
    different = []
    for name in sorted({*before, *now} - skipped):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            different += [f"{name} {difference}" for difference in _differences(old, new, set())]
        elif old != new:
            # Settings are kept where they are not the default.
            words = (repr(settings[name]) if name in settings else "(default)" for settings in (before, now))
            different.append(f"{name} {' -> '.join(words)}")
    return different
