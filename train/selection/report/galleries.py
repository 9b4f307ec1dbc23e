"""Films to look at in the curation report."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from datasets import Dataset
from PIL import Image

from data_scripts.prepared.films import PairDataset
from modeling_chexficient import to_eight_bit
from train.selection.outcome import Role
from train.selection.state import CurationState

_FILMS, _WORDS, _SIDE = 6, 25, 192


@dataclass(frozen=True)
class Film:
    """A film as a data URI, the beginning of its report, its known defects, and its distance (None: none known)."""

    picture: str
    report: str
    flags: list[str]
    distance: float | None


@dataclass(frozen=True)
class Gallery:
    """Typical films of a role, given in words."""

    words: str
    films: list[Film]


def choose_examples(state: CurationState, role: Role, count: int, seed: int) -> list[int]:
    """Up to `count` typical rows of a role, nearest to their prototype first.

    Sampled at random (`seed`) from the middle half of the role's distances; from all its rows where there are none.
    """
    rows = (state.roles == role).nonzero().squeeze(1).numpy()
    distances = state.distances.numpy()[rows].astype(np.float64)
    known = np.isfinite(distances)
    if known.any():
        low, high = np.quantile(distances[known], [0.25, 0.75])
        rows = rows[known & (distances >= low) & (distances <= high)]
    chosen = np.random.default_rng((seed, int(role))).permutation(rows)[:count]
    return chosen[np.argsort(state.distances.numpy()[chosen], kind="stable")].tolist()


def make_galleries(dataset: Dataset, state: CurationState, words: Mapping[Role, str], seed: int) -> list[Gallery]:
    """Typical films of every role in `words`; a role without films is left out."""
    pairs = PairDataset(dataset)
    flags = dataset.select_columns(["flags"]) if "flags" in dataset.column_names else None
    galleries = []
    for role in sorted(words, reverse=True):
        rows = choose_examples(state, role, _FILMS, seed)
        films = []
        for row in rows:
            pair, distance = pairs[row], float(state.distances[row])
            films.append(
                Film(
                    _data_uri(pair["image"]),
                    _beginning(pair["report"]),
                    [] if flags is None else list(flags[row]["flags"] or []),
                    distance if np.isfinite(distance) else None,
                )
            )
        if films:
            galleries.append(Gallery(words[role], films))
    return galleries


def _beginning(report: str) -> str:
    words = report.split()
    return " ".join(words[:_WORDS]) + (" …" if len(words) > _WORDS else "")


def _data_uri(image: Image.Image) -> str:
    """The film made small, as a JPEG that stands in the page itself."""
    small = to_eight_bit(image)
    small.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
