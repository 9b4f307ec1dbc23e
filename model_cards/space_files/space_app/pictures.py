"""Pictures and tables of the page as HTML. Films travel inside the page, so that none is written to disk."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from .findings import Finding

#: Told apart on grey film by most colour-blind readers (Okabe and Ito), then lighter ones.
PALETTE = (
    *((86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167), (0, 114, 178)),
    *((255, 255, 255), (150, 220, 120), (255, 150, 150), (170, 150, 255), (120, 230, 230)),
)
_OPACITY = 0.3
#: Labels of a trained head that are not folded away.
LABELS_SHOWN = 8


def colour(number: int) -> tuple[int, int, int]:
    """The colour of the `number`-th structure."""
    return PALETTE[number % len(PALETTE)]


def overlay(film: np.ndarray, masks: dict[int, np.ndarray]) -> np.ndarray:
    """The film with each mask tinted and outlined, uint8 [H, W, 3].

    Args:
        film: uint8 [H, W, 3].
        masks: bool [H, W] by the number of the structure, which gives its colour.
    """
    picture = film.astype(np.float32)
    for number, mask in masks.items():
        tint = np.array(colour(number), np.float32)
        picture[mask] = (1 - _OPACITY) * picture[mask] + _OPACITY * tint
    for number, mask in masks.items():
        picture[outline(mask)] = colour(number)
    return picture.round().astype(np.uint8)


def outline(mask: np.ndarray) -> np.ndarray:
    """Pixels of a bool mask [H, W] that have a neighbour (of four) outside, or lie on the border."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def image_html(picture: np.ndarray, description: str) -> str:
    """A uint8 picture [H, W, 3] as an <img> that holds its own bytes."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", compress_level=1)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img class="film" alt="{escape(description)}" src="data:image/png;base64,{data}">'


def legend_html(names: Sequence[str], masks: dict[int, np.ndarray]) -> str:
    """Colour, name and share of the picture of each mask shown; those that are empty are named together."""
    entries = []
    for number in (number for number, mask in masks.items() if mask.any()):
        swatch = '<span class="swatch" style="background:rgb({},{},{})"></span>'.format(*colour(number))
        share = f"{100 * masks[number].mean():.1f} % of the picture"
        entries.append(f"<li>{swatch}{escape(readable(names[number]))} <small>{share}</small></li>")
    absent = ", ".join(escape(readable(names[number])) for number, mask in masks.items() if not mask.any())
    none = f"<small>Not seen: {absent}.</small>" if absent else ""
    return f'<ul class="legend">{"".join(entries)}</ul>{none}'


def readable(name: str) -> str:
    """A label as people write it: "right_lung" is "right lung"."""
    return name.replace("_", " ")


def findings_html(
    findings: Sequence[Finding],
    scores: Sequence[float],
    ranks: Sequence[float] | None,
    verdicts: Sequence[bool | None] = (),
) -> str:
    """A row per finding: its score and, where there are reference films, its rank as a bar, the highest first.

    `verdicts`: whether each is above its operating point, None without one; none at all: no such column.
    """
    order = range(len(findings)) if ranks is None else sorted(range(len(findings)), key=lambda n: -ranks[n])
    rows = []
    for n in order:
        prompts = escape(f"“{findings[n].positive}” against “{findings[n].negative}”")
        bar = "" if ranks is None else f"<td>{_bar(ranks[n])}</td><td>{100 * ranks[n]:.0f} %</td>"
        rows.append(
            f'<tr><td title="{prompts}">{escape(readable(findings[n].name))}</td>{bar}<td>{scores[n]:+.3f}</td>'
            f"{_verdict(verdicts, n)}</tr>"
        )
    head = "" if ranks is None else '<th colspan="2">scores above … of the reference films</th>'
    head = f"<th>finding</th>{head}<th>score</th>{_verdict_head(verdicts)}"
    return f'<table class="scores"><tr>{head}</tr>{"".join(rows)}</table>'


def _verdict_head(verdicts: Sequence[bool | None]) -> str:
    return "<th>operating point</th>" if any(verdict is not None for verdict in verdicts) else ""


def _verdict(verdicts: Sequence[bool | None], number: int) -> str:
    """The cell of a row; nothing where no row has a verdict."""
    if not _verdict_head(verdicts):
        return ""
    words = {True: "above", False: "below", None: "–"}
    return f"<td>{words[verdicts[number]]}</td>"


def labels_html(names: Sequence[str], values: Sequence[float], verdicts: Sequence[bool | None] = ()) -> str:
    """Outputs of a trained head, within [0, 1], the highest first; what is not among the first is folded away.

    `verdicts`: see `findings_html`.
    """
    order = sorted(range(len(names)), key=lambda n: -values[n])
    rows = [
        f"<tr><td>{escape(readable(names[n]))}</td><td>{_bar(values[n])}</td><td>{values[n]:.2f}</td>"
        f"{_verdict(verdicts, n)}</tr>"
        for n in order
    ]
    head = f'<tr><th>label</th><th colspan="2">output</th>{_verdict_head(verdicts)}</tr>'
    first = f'<table class="scores">{head}{"".join(rows[:LABELS_SHOWN])}</table>'
    rest = f'<table class="scores">{"".join(rows[LABELS_SHOWN:])}</table>'
    count = len(rows) - LABELS_SHOWN
    return first + (f"<details><summary>{count} more</summary>{rest}</details>" if count > 0 else "")


def _bar(share: float) -> str:
    return f'<div class="bar"><div style="width:{100 * share:.0f}%"></div></div>'


def reports_html(reports: Sequence[tuple[str, float]]) -> str:
    """(text, cosine) of the nearest reports in order."""
    rows = [f"<li>{escape(text)} <small>cosine {cosine:.2f}</small></li>" for text, cosine in reports]
    return f'<ol class="reports">{"".join(rows)}</ol>'
