"""The folder of an adaptation: what may be in it, and the weights that are written into it."""

from __future__ import annotations

from pathlib import Path

from eval.records.runs import RUN_FILE, AdaptRun, Run
from modeling_chexficient.adapters_chexficient import save_adapter
from modeling_chexficient.base_identity_chexficient import BaseIdentity
from train.adapt.tasks import Task
from train.runs.folder import ADAPTER, BASE, LOG_FILE, MODEL, RESULTS, forget_earlier_run, replaced_whole, write_log


def check_run_folder(run_dir: Path, base: str) -> None:
    """Refuse a folder that something else than an adaptation was written into, before anything of it is removed.

    Raises:
        ValueError: the folder holds the base itself, or another kind of run.
    """
    if Path(base).resolve().is_relative_to(run_dir.resolve()) and Path(base).is_dir():
        raise ValueError(f"output_dir {run_dir} holds the base {base}: choose another output_dir")
    held = [name for name in (ADAPTER, MODEL, BASE, RESULTS, "data") if (run_dir / name).exists()]
    record = run_dir / RUN_FILE
    try:
        ours = isinstance(Run.load(run_dir), AdaptRun) if record.is_file() else not held
    except ValueError:
        ours = False
    # A run that was stopped has its log or checkpoints, and no record.
    if not ours and (record.is_file() or not (run_dir / LOG_FILE).is_file()):
        raise ValueError(
            f"output_dir {run_dir} holds {', '.join(held) or RUN_FILE} of something else than an adaptation: choose "
            "another output_dir, or empty this one"
        )


def start_run_folder(run_dir: Path) -> None:
    """Remove what an earlier adaptation wrote, so that it is not taken for this one's. Checkpoints stay."""
    # From here on the folder is known as one of an adaptation, however the run may end.
    write_log([], run_dir)
    forget_earlier_run(run_dir, (ADAPTER, MODEL, BASE, RESULTS))


def save_weights(task: Task, model, base: BaseIdentity, run_dir: Path) -> Path:
    """Write the adapter, or the whole model where all of it was trained, atomically. Returns the folder."""
    is_adapter = hasattr(model, "peft_config")
    target = run_dir / (ADAPTER if is_adapter else MODEL)
    with replaced_whole(target) as staged:
        if is_adapter:
            save_adapter(model, staged, base, task.name, task.processor, task.base_precision)
        else:
            model.save_pretrained(staged)
            task.processor.save_pretrained(staged)
    return target


def save_base(task: Task, run_dir: Path) -> Path:
    """Write a base that was put together for this run, before adapters are put on it. Returns the folder."""
    folder = run_dir / BASE
    with replaced_whole(folder) as staged:
        task.model.save_pretrained(staged)
        task.processor.save_pretrained(staged)
    return folder


def weights_bytes(folder: Path) -> int:
    """Size of the weights in a folder."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))
