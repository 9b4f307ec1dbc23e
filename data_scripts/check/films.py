"""Checks of a prepared folder's films: pixels, masks, and labels beside the report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from datasets import Dataset

from data_scripts.check.problem import Problem, error, warning
from data_scripts.extraction import report_labels
from data_scripts.films.files import reading
from data_scripts.prepared.films import FilmDataset
from data_scripts.progress import progress
from data_scripts.schema import INSIDE, DataError
from modeling_chexficient.input_check_chexficient import BROKEN, OTHERS, check_film

#: The columns that these checks need; masks where the folder has them.
COLUMNS = ("image", "record_id", "report", "report_origin", "language", "labels", "view")
_FRONTAL = ("PA", "AP")
#: More of a film is inside no structure.
_MOST_INSIDE = 0.95


@dataclass
class Seen:
    """What one film shows: its record, and the kinds of problems it has."""

    record_id: str
    kinds: list[str] = field(default_factory=list)


#: Of reasons of the input check; an inverted film is found whatever its view. Not "cropped": the preparation itself
#: cuts films to squares, for which 6 of 97 frontal films of covid_chestxray were taken for parts.
_LOOKS = {
    "inverted": "film looks inverted",
    "lateral": "frontal film looks lateral",
    "turned": "frontal film looks turned",
    "doubled": "frontal film looks doubled",
    "other": "frontal film does not look like one",
}
#: Kinds of problems: whether it is an error, and advice.
KINDS = {
    "film cannot be decoded": (True, "prepare the folder anew"),
    "blank film": (True, "one or two greys: leave it out"),
    BROKEN: (True, "prepare with --skip_bad to leave it out"),
    _LOOKS["inverted"]: (True, "black and white are exchanged: look at it"),
    **{name: (False, f"most like: {OTHERS[kind]}; look at it") for kind, name in _LOOKS.items() if kind != "inverted"},
    "mask of another size than its film": (True, "prepare the folder anew"),
    "mask is empty": (False, "nothing is inside: a structure that is not there should have no mask"),
    "mask covers the whole film": (False, "inside and outside may be exchanged"),
    "labels contradict the report": (False, "read by rules, which err: look at some before trusting either"),
}


class _Looked(torch.utils.data.Dataset):
    """What `look` says of each film."""

    def __init__(self, films: FilmDataset, compare_labels: bool):
        self.films, self.compare_labels = films, compare_labels

    def __len__(self) -> int:
        return len(self.films)

    def __getitem__(self, position: int) -> Seen:
        try:
            return look(self.films[position], self.compare_labels)
        except DataError:
            return Seen(self.films.dataset[position]["record_id"], ["film cannot be decoded"])


def check_films(dataset: Dataset, compare_labels: bool, num_workers: int) -> list[Problem]:
    """Problems of `KINDS` in one split.

    Args:
        compare_labels: whether labels are compared with what the report says; not where they come from it.
    """
    columns = [*COLUMNS, "masks"] if "masks" in dataset.column_names else list(COLUMNS)
    looked = _Looked(FilmDataset(dataset, np.arange(len(dataset)), columns), compare_labels)
    loader = torch.utils.data.DataLoader(looked, batch_size=32, num_workers=num_workers, collate_fn=list)
    found: dict[str, list[str]] = {}
    with progress(total=len(dataset), desc="looking at films", unit=" films") as bar:
        for batch in loader:
            bar.update(len(batch))
            for film in batch:
                for kind in film.kinds:
                    found.setdefault(kind, []).append(film.record_id)
    return [
        problem
        for kind, (is_error, advice) in KINDS.items()
        for problem in (error if is_error else warning)(kind, advice, found.get(kind, ()))
    ]


def look(row: dict, compare_labels: bool) -> Seen:
    """The problems of one row with its film and masks decoded (as of `FilmDataset`)."""
    kinds = [*_film_kinds(row["image"], row["view"]), *_mask_kinds(row.get("masks") or (), row["image"].size)]
    if compare_labels and _contradicts(row):
        kinds.append("labels contradict the report")
    return Seen(row["record_id"], list(dict.fromkeys(kinds)))


def _film_kinds(film, view: str) -> Iterable[str]:
    if reading().is_blank(film):
        return ["blank film"]
    kinds = [reason.kind for reason in check_film(film)]
    if "broken" in kinds:
        return [BROKEN]
    return [_LOOKS[kind] for kind in kinds if kind in _LOOKS and (kind == "inverted" or view in _FRONTAL)]


def _mask_kinds(masks: Iterable[dict], size: tuple[int, int]) -> Iterable[str]:
    for mask in masks:
        if mask["image"].size != size:
            yield "mask of another size than its film"
            continue
        inside = float((np.asarray(mask["image"]) == INSIDE).mean())
        if inside == 0:
            yield "mask is empty"
        if inside > _MOST_INSIDE:
            yield "mask covers the whole film"


def _contradicts(row: dict) -> bool:
    """Whether a finding is present by the labels and absent by the report's rules, or the other way round."""
    if row["language"] != "en" or row["report_origin"] == "labels" or not row["report"]:
        return False
    given = {label["name"]: label["value"] for label in row["labels"]}
    told = {label.name: label.value for label in report_labels(row["report"])}
    return any({given[name], told[name]} == {0, 1} for name in given.keys() & told.keys())
