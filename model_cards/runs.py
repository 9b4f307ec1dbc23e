"""What a folder holds that somebody wants to describe or publish, recognised by its files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from jinja2 import UndefinedError

#: What goes wrong with folders that people have: said in one line, not as a traceback.
EXPECTED = (ValueError, OSError, KeyError, UndefinedError)


def read_run(run_dir: Path) -> dict:
    """What `run.json` says.

    Raises:
        ValueError: there is none, so the run is not finished.
    """
    file = run_dir / "run.json"
    if not file.is_file():
        raise ValueError(f"{run_dir} is not a finished run: {file} is missing")
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): run it again") from error


def kind_of(folder: Path) -> str:
    """What a folder holds.

    Returns:
        "base" (a pretrained model), "adapter", "head" (a whole model trained for a task), "report_base" (what a run of
        report generation put together for its adapter), or "dataset".

    Raises:
        ValueError: none of these, or a run that was not finished.
    """
    if (folder / "summary.json").is_file() or (folder / "curation.json").is_file() or (folder / ".prepare").is_dir():
        return "dataset"
    if folder.name == "base" and (folder / "config.json").is_file() and (folder.parent / "run.json").is_file():
        return "report_base"
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    if not any((folder / name).exists() for name in ("run.json", "model", "adapter", ".model")):
        raise ValueError(
            f"{folder} is not a finished run of train.pretrain or train.adapt (run.json), nor a prepared or curated "
            "dataset (summary.json, curation.json)"
        )
    run = read_run(folder)
    if "method" not in run:
        kind, part = "base", "model"
    else:
        kind, part = ("head", "model") if run["method"] == "full" else ("adapter", "adapter")
    if not (folder / part).is_dir():
        raise ValueError(f"{folder} is not a finished run: {folder / part} is missing")
    return kind


def folders_of_data(run: dict, results: Iterable[dict]) -> list[Path]:
    """The prepared folders that a run was trained on, and those that its results were measured on."""
    parts = (run.get("mixture") or {}).get("parts", [])
    folders = [part["folder"] for part in parts] or (run.get("settings") or {}).get("dataset_dir") or []
    folders = [folders] if isinstance(folders, str) else list(folders)
    folders += [result["provenance"]["dataset"] for result in results]
    return list(dict.fromkeys(Path(folder) for folder in folders))


def hub_id(name: str | None) -> str | None:
    """`name` if it is that of a repository of the Hub (ORG/NAME); None for a folder, which nobody else calls so."""
    return (
        name
        if name and name.count("/") == 1 and not name.startswith(("/", "~", ".")) and not Path(name).exists()
        else None
    )


def explain(error: Exception, folder: Path) -> str:
    """The line that a command ends with."""
    if isinstance(error, KeyError | UndefinedError):
        return f"error: {folder}: a record of the run or its results lacks a value ({error}): made by another version?"
    return f"error: {error}"
