"""Puts together what will be published: files from the lists of `model_cards.staging`, and the card."""

from __future__ import annotations

import json
from pathlib import Path

from huggingface_hub import DatasetCard, ModelCard

from model_cards.adapted import render_adapted_card, render_report_base_card
from model_cards.datasets import DatasetFolder, public_summary, render_dataset_card
from model_cards.notes import notes_of
from model_cards.publication import Publication
from model_cards.render import render_base_card
from model_cards.runs import FinishedRun
from model_cards.staging import Staged, stage_base, stage_files, stage_results


def assemble(publication: Publication, folder: Path) -> Staged:
    """Put what will be published into the empty `folder`, card included; whether it may go is not checked here.

    Raises:
        ValueError: the results are of other weights, or a file is damaged.
    """
    staged = Staged(folder)
    if publication.dataset is not None:
        card = _assemble_dataset(publication, publication.dataset, staged)
    else:
        assert publication.run is not None
        card = _assemble_model(publication, publication.run, staged)
    card.save(folder / "README.md")
    staged.notes += notes_of(publication, folder)
    return staged


def _assemble_model(publication: Publication, run: FinishedRun, staged: Staged) -> ModelCard:
    """Files and card of a model or adapter."""
    repo, private = publication.repo, not publication.public
    stage_files(run.weights_dir, staged, "adapter" if run.kind == "adapter" else "model")
    if run.kind == "report_base":
        return render_report_base_card(run, repo, private)
    base = publication.base_repo, publication.base_revision
    if run.kind == "adapter":
        stage_base(run.weights_dir, staged, *base)
    stage_results(run, staged, repo, publication.base_repo)
    if run.kind == "base":
        return render_base_card(run, repo, private)
    return render_adapted_card(run, repo, private, *base, weights_dir=staged.folder)


def _assemble_dataset(publication: Publication, data: DatasetFolder, staged: Staged) -> DatasetCard:
    """Files and card of a dataset."""
    stage_files(data.folder / "data", staged, "dataset", "data")
    summary = None if data.summary is None else public_summary(data.summary)
    for name, content in (("summary.json", summary), ("curation.json", data.curation)):
        if content is not None:
            (staged.folder / name).write_text(json.dumps(content, indent=2) + "\n")
    kept = {"data", "README.md", "summary.json", "curation.json"}
    staged.left_out += sorted(path.name for path in data.folder.iterdir() if path.name not in kept)
    return render_dataset_card(data, publication.repo, not publication.public, publication.own_data_cleared_by)
