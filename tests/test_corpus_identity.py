"""A run that goes on is told when what it learns from has changed: labels, masks and reports, not films alone."""

import io

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from data_scripts.features import FEATURES
from data_scripts.prepared.films import FilmDataset, PairDataset
from train.adapt.findings import LabelledFilms
from train.adapt.reports import ReportedFilms
from train.adapt.structures import OutlinedFilms


def png(value: int) -> dict:
    stored = io.BytesIO()
    Image.new("L", (8, 8), value).save(stored, "PNG")
    return {"bytes": stored.getvalue(), "path": None}


def films(change: dict | None = None) -> Dataset:
    """Three films; the second with other values where `change` has them."""
    rows = [
        {
            "record_id": f"one/{number}",
            "image": png(number),
            "report": "Clear lungs.",
            "view": "PA",
            "labels": [{"name": "Edema", "value": 1.0}],
            "masks": [{"name": "heart", "image": png(255)}],
        }
        for number in range(3)
    ]
    rows[1] |= change or {}
    features = FEATURES.copy()
    return Dataset.from_list(rows, features=type(features)({name: features[name] for name in rows[0]}))


CHANGES = {
    "image": {"image": png(9)},
    "mask": {"masks": [{"name": "heart", "image": png(0)}]},
    "name of a mask": {"masks": [{"name": "left_lung", "image": png(255)}]},
    "label": {"labels": [{"name": "Edema", "value": 0.0}]},
    "report": {"report": "Edema."},
    "view": {"view": "AP"},
}
#: What changes each kind of films; the rest it does not learn from.
KINDS = {
    "findings": (lambda split: LabelledFilms(split, np.arange(3), np.array([[1], [0], [1]])), {"image"}),
    "structures": (
        lambda split: OutlinedFilms(split, np.arange(3)),
        {"image", "mask", "name of a mask", "label"},
    ),
    "reports": (lambda split: ReportedFilms(split, np.arange(3)), {"image", "report", "view"}),
    "films": (lambda split: FilmDataset(split, range(3), ("image",)), {"image"}),
    "masks alone": (lambda split: FilmDataset(split, range(3), ("masks",)), {"mask", "name of a mask"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_learnt_from_tells_films_apart(kind):
    make, expected = KINDS[kind]
    same = make(films()).fingerprint
    assert make(films()).fingerprint == same
    assert {name for name, change in CHANGES.items() if make(films(change)).fingerprint != same} == expected


def test_other_targets_are_other_films():
    """They may come from other labels, or from uncertain ones that are read in another way."""
    prints = {
        LabelledFilms(films(), np.arange(3), np.array([[1], [second], [1]])).fingerprint for second in (0, 1, np.nan)
    }
    assert len(prints) == 3


def test_further_columns_of_pairs_count_in_training_alone():
    plain, labelled = PairDataset(films()), PairDataset(films(), ("labels",))
    assert plain.training_fingerprint == plain.fingerprint == labelled.fingerprint
    other = PairDataset(films(CHANGES["label"]), ("labels",))
    assert other.fingerprint == labelled.fingerprint
    assert other.training_fingerprint != labelled.training_fingerprint
