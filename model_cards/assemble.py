"""Puts together what will be published: files from the lists of `model_cards.staging`, the card, and every check."""

from __future__ import annotations

import json
from pathlib import Path

from huggingface_hub import DatasetCard, ModelCard

from model_cards.adapted import render_adapted_card, render_report_base_card
from model_cards.datasets import public_summary, read_dataset, render_dataset_card
from model_cards.publication import Wish
from model_cards.refusals import (
    _closed_sources,
    _config,
    _public_weights,
    _small_groups,
    changed_shards,
    forbidden_data,
    forbidden_files,
    ids_or_reports,
    leaks,
    missing_code,
    wrong_content,
)
from model_cards.render import render_base_card
from model_cards.results import load_results
from model_cards.runs import folders_of_data, read_run
from model_cards.staging import Staged, stage_base, stage_files, stage_results
from model_cards.upload import HEADS_FILE, PublishError


def assemble(wish: Wish, folder: Path) -> Staged:
    """Put what will be published into the empty `folder`, card included.

    Raises:
        PublishError: with all that forbids it.
        ValueError: the run is not finished or has no results of its own, or a file is damaged.
    """
    staged = Staged(folder)
    if wish.kind == "dataset":
        card, problems = _assemble_dataset(wish, staged)
        folders = [wish.source]
    else:
        card, problems = _assemble_model(wish, staged)
        folders = folders_of_data(read_run(wish.run_dir), load_results(wish.results_dir).values())
    tables = [table for one in folders for table in sorted((one / "data").glob("*.parquet"))]
    if gone := [one for one in folders if not (one / "data").is_dir()]:
        staged.notes.append(
            f"{', '.join(map(str, gone))}: no longer here, so nobody looked whether ids or reports of it go along"
        )
    card.save(folder / "README.md")
    problems += wrong_content(folder) + leaks(folder) + missing_code(folder) + ids_or_reports(folder, tables)
    if problems:
        raise PublishError(
            "\n".join([f"{wish.source} cannot be published:", *(f"- {problem}" for problem in problems)])
        )
    return staged


def _assemble_model(wish: Wish, staged: Staged) -> tuple[ModelCard, list[str]]:
    """Files and card of a model or adapter, and what was found against it so far."""
    run = read_run(wish.run_dir)
    problems = forbidden_files(wish.weights_dir) + _public_weights(wish, run)
    if str(run.get("git_commit")).endswith("+changes") and not wish.uncommitted:
        problems.append(
            f"{wish.run_dir} was made by code with uncommitted changes, so nobody can make it again: commit and run it "
            "anew, or say --uncommitted (the card tells it)"
        )
    stage_files(wish.weights_dir, staged, "adapter" if wish.kind == "adapter" else "model")
    staged.notes += _notes(run, staged.folder) + _small_groups(run, wish)
    if wish.kind == "report_base":
        return render_report_base_card(wish.source, wish.repo, not wish.public), problems
    if wish.kind == "adapter":
        stage_base(wish.weights_dir, staged, wish.base_repo, wish.base_revision)
    results = wish.results_dir
    stage_results(results, staged, wish.repo, wish.base_repo)
    if wish.kind == "base":
        return render_base_card(wish.source, wish.repo, results, not wish.public), problems
    base = wish.base_repo, wish.base_revision
    return render_adapted_card(wish.source, staged.folder, wish.repo, results, not wish.public, *base), problems


def _notes(run: dict, folder: Path) -> list[str]:
    """What whoever publishes a model should think of; nothing that forbids it."""
    settings, closed = run["settings"], _closed_sources(run, folder)
    notes = []
    if _config(folder).get("architectures") == ["CheXficientModel"] and not (folder / HEADS_FILE).is_file():
        notes.append(
            f"its code is of an earlier version, without {HEADS_FILE}: adapters on it cannot be loaded as their cards "
            "tell. AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER) with this version writes the code anew"
        )
    if not closed:
        return notes
    notes.append(
        f"trained on data that are not open ({', '.join(closed)}): read whether their terms allow to pass on weights"
    )
    new_words = "language_model_config" in settings or not {"model", "text_model"} & set(settings)
    if new_words and "tokenizer" not in settings and (folder / "tokenizer.json").is_file():
        notes.append("the words of tokenizer.json were learnt from their reports: look through them before you go on")
    return notes


def _assemble_dataset(wish: Wish, staged: Staged) -> tuple[DatasetCard, list[str]]:
    """Files and card of a dataset, and what was found against it so far."""
    data = read_dataset(wish.source, wish.prepared_from)
    problems = forbidden_data(data, wish.public, wish.own_data_cleared_by) + changed_shards(data)
    stage_files(wish.source / "data", staged, "dataset", "data")
    summary = None if data.summary is None else public_summary(data.summary)
    for name, content in (("summary.json", summary), ("curation.json", data.curation)):
        if content is not None:
            (staged.folder / name).write_text(json.dumps(content, indent=2) + "\n")
    if data.summary is not None and not data.summary.get("sha256"):
        staged.notes.append(
            "summary.json has no checksums (an earlier version wrote it), so the files were not compared"
        )
    kept = {"data", "README.md", "summary.json", "curation.json"}
    staged.left_out += sorted(path.name for path in wish.source.iterdir() if path.name not in kept)
    return render_dataset_card(data, wish.repo, not wish.public, wish.own_data_cleared_by), problems
