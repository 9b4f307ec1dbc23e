"""Puts together what will be published: files from the lists of `model_cards.staging`, the card, and every check."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import DatasetCard, ModelCard

from data_scripts.access import PUBLIC
from model_cards.adapted import render_adapted_card, render_report_base_card
from model_cards.corpora import access_of
from model_cards.datasets import changed_shards, forbidden_data, public_summary, read_dataset, render_dataset_card
from model_cards.refusals import forbidden_files, ids_or_reports, leaks, missing_code, wrong_content
from model_cards.render import render_base_card
from model_cards.results import load_results
from model_cards.runs import folders_of_data, read_run
from model_cards.staging import Staged, stage_base, stage_files, stage_results
from model_cards.upload import HEADS_FILE, PublishError

#: Below this many, hospitals commonly do not tell how many patients there were.
FEW_PATIENTS = 10


@dataclass(frozen=True)
class Wish:
    """What somebody wants to publish, and how; see `model_cards.publish.PublishArguments`.

    Args:
        source: folder of the run or dataset.
        kind: of it, as `model_cards.runs.kind_of` tells.
        base_revision: commit of `base_repo`, where it is known.
    """

    source: Path
    kind: str
    repo: str
    public: bool = False
    results: str | None = None
    uncommitted: bool = False
    base_repo: str | None = None
    base_revision: str | None = None
    prepared_from: tuple[str, ...] = ()
    own_data_cleared_by: str | None = None

    @property
    def run_dir(self) -> Path:
        return self.source.parent if self.kind == "report_base" else self.source

    @property
    def results_dir(self) -> Path:
        return Path(self.results or self.run_dir / "results")

    @property
    def weights_dir(self) -> Path:
        return self.source / {"adapter": "adapter", "report_base": "."}.get(self.kind, "model")


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


def _closed_sources(run: dict, weights: Path) -> list[str]:
    """Corpora behind the weights in a folder that are not open to anybody."""
    pretraining = _config(weights).get("pretraining_sources") or []
    return sorted({name for name in [*pretraining, *(run.get("sources") or [])] if access_of(name) not in PUBLIC})


def _config(weights: Path) -> dict:
    """The configuration of a model; an adapter has none."""
    file = weights / "config.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def _public_weights(wish: Wish, run: dict) -> list[str]:
    """Why weights must not be shown to anybody: they can give away what they were trained on."""
    closed = _closed_sources(run, wish.weights_dir)
    if not wish.public or not closed or (wish.own_data_cleared_by or "").strip():
        return []
    return [
        f"--public: trained on data that are not open ({', '.join(closed)}), which weights can give away, those of a "
        'language model above all: publish without --public, or name who allowed it with --own_data_cleared_by "NAME, '
        'ROLE"'
    ]


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


def _small_groups(run: dict, wish: Wish) -> list[str]:
    """A note where results that go along tell of so few patients of closed data that these may be recognised."""
    if wish.kind == "report_base" or not _closed_sources(run, wish.weights_dir):
        return []
    groups = [group for one in load_results(wish.results_dir).values() for group in one.get("subgroups") or []]
    fewest = min((group["patients"] for group in groups), default=FEW_PATIENTS)
    if fewest >= FEW_PATIENTS:
        return []
    return [f"its results tell of groups of as few as {fewest} patients (subgroups): ask whether that may be told"]


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
