"""What somebody who publishes a model should consider; what forbids it is in `model_cards.refusals`."""

from __future__ import annotations

from pathlib import Path

from model_cards.publication import Publication
from model_cards.refusals.hub import HEADS_FILE
from model_cards.runs import FinishedRun

#: Below this many, hospitals commonly do not tell how many patients there were.
FEW_PATIENTS = 10


def notes_of(publication: Publication, staged: Path) -> list[str]:
    """Notes on what was put together in the folder `staged`."""
    notes = []
    if gone := [folder for folder in publication.data_folders if not (folder / "data").is_dir()]:
        notes.append(
            f"{', '.join(map(str, gone))}: no longer here, so nobody looked whether ids or reports of it go along"
        )
    summary = None if publication.dataset is None else publication.dataset.summary
    if summary is not None and not summary.get("sha256"):
        notes.append("summary.json has no checksums (an earlier version wrote it), so the files were not compared")
    if publication.run is None:
        return notes
    return [*_of_code(publication.run, staged), *_of_closed_data(publication.run, staged), *notes]


def _of_code(run: FinishedRun, staged: Path) -> list[str]:
    if run.config.get("architectures") != ["CheXficientModel"] or (staged / HEADS_FILE).is_file():
        return []
    return [
        f"its code is of an earlier version, without {HEADS_FILE}: adapters on it cannot be loaded as their cards "
        "tell. AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER) with this version writes the code anew"
    ]


def _of_closed_data(run: FinishedRun, staged: Path) -> list[str]:
    """Of weights that were trained on data that are not open: terms, words of a new tokenizer, and small groups."""
    closed, settings = run.closed_sources, run.record.settings
    if not closed:
        return []
    notes = [
        f"trained on data that are not open ({', '.join(closed)}): read whether their terms allow to pass on weights"
    ]
    new_words = "language_model_config" in settings or not {"model", "text_model"} & set(settings)
    if new_words and "tokenizer" not in settings and (staged / "tokenizer.json").is_file():
        notes.append("the words of tokenizer.json were learnt from their reports: look through them before you go on")
    groups = [group for result in run.results.values() for group in result.subgroups]
    fewest = min((group.patients for group in groups), default=FEW_PATIENTS)
    # The base of a report model goes without results.
    if fewest < FEW_PATIENTS and run.kind != "report_base":
        notes.append(
            f"its results tell of groups of as few as {fewest} patients (subgroups): ask whether that may be told"
        )
    return notes
