"""The folder of a run: the names in it, how things are written into it, and the checkpoint that a run goes on from.

`run.json` (`eval.records.runs`) is written last: a folder without it is not finished.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import TrainingArguments

from eval.records.json_values import write_json
from eval.records.runs import RUN_FILE
from train.runs.checkpoints import STAGING, find_checkpoint, newest_checkpoint, why_incomplete
from train.runs.distributed import from_first, rank, sum_over_processes

#: What was logged: one mapping of figures for each time.
LOG_FILE = "log.json"
#: Folders: a whole model, an adapter, a base that was put together for the run, and results of evaluation.
MODEL, ADAPTER, BASE, RESULTS = "model", "adapter", "base", "results"


def forget_earlier_run(run_dir: Path, names: Iterable[str]) -> None:
    """Remove what an earlier run wrote, so that it is not taken for this one's. Checkpoints stay.

    Args:
        names: files and folders of `run_dir` to remove, beside its record and a checkpoint that is not whole.
    """
    # The record first: without it the folder is known as not finished.
    for name in (RUN_FILE, STAGING, *names):
        path = run_dir / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def replaced_whole(folder: Path) -> Iterator[Path]:
    """A hidden folder to write into, which takes the place of `folder` at the end; on an error that stays as it was."""
    staged = folder.with_name(f".{folder.name}")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    yield staged
    shutil.rmtree(folder, ignore_errors=True)
    staged.rename(folder)


def write_log(entries: list[dict], run_dir: Path) -> None:
    """Write `log.json`; a figure that is NaN or infinite, as the gradient's norm may be in fp16, becomes null."""
    finite = [{name: value if _is_json(value) else None for name, value in entry.items()} for entry in entries]
    write_json(finite, run_dir / LOG_FILE)


def _is_json(value) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def checkpoint_to_resume(args: TrainingArguments) -> Path | None:
    """The checkpoint to go on from, if that is wanted and there is one; rank 0 decides for all.

    Raises:
        ValueError: the one named is not whole, another process does not see it whole, or there are checkpoints and no
            word about them.
    """
    output_dir = Path(args.output_dir)
    problem = None
    checkpoint = None
    if rank() == 0:
        try:
            if args.resume_from_checkpoint:
                checkpoint = find_checkpoint(output_dir, args.resume_from_checkpoint)
                if checkpoint is None:
                    print(f"{output_dir} holds no whole checkpoint: starting from the beginning")
            elif newest_checkpoint(output_dir) is not None:
                problem = (
                    f"{output_dir} holds checkpoints of an earlier run: go on with --resume_from_checkpoint last, "
                    "choose another --output_dir, or delete them"
                )
        except ValueError as error:
            problem = str(error)
    checkpoint, problem = from_first((checkpoint, problem))
    if problem is None and checkpoint is not None:
        reason = why_incomplete(checkpoint)
        if sum_over_processes(torch.tensor(int(reason is not None))) > 0:
            problem = (
                f"{checkpoint}: not all processes see it whole ({reason or 'this one does'}); put it where all can"
            )
    if problem is not None:
        raise ValueError(problem)
    return checkpoint
