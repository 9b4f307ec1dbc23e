"""Templates of cards filled with values; how figures are written in all of them."""

from __future__ import annotations

import math
from pathlib import Path

from huggingface_hub import DatasetCard, DatasetCardData, ModelCard, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from model_cards.results import TASKS, exposure, headline
from modeling_chexficient.operating_points_chexficient import DO_NOT_TRAVEL

#: Tags of every card.
TAGS = ["chest-x-ray", "radiology", "chexficient"]
METHODS = {
    "linear_probe": "A linear probe: logistic regression on frozen features",
    "lora": "Low-rank adapters (LoRA) on the tower, and a trained head",
    "hira": "Hadamard high-rank adapters (HiRA) on the tower, and a trained head",
    "linear": "A linear head on the frozen tower, trained by gradient descent",
    "full": "All weights were trained",
}


def not_defined(value: float | None) -> bool:
    """None, or NaN: a record holds it where a figure that is always there could not be computed."""
    return value is None or math.isnan(value)


def number(value: float | None) -> str:
    return "not defined" if not_defined(value) else f"{value:.3f}"


def percent(value: float | None) -> str:
    """With the digits it needs: 12.3 %, 0.42 %, 0.031 %."""
    if not_defined(value):
        return "–"
    return f"{100 * value:.{1 if value >= 0.01 or value == 0 else 2 if value >= 0.001 else 3}f} %"


def plain(value: float | str | None) -> str:
    """Any value of a table."""
    if value is None or value != value:
        return "not defined"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def hours(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 3600:.2f} h" if seconds >= 360 else f"{seconds / 60:.1f} min"


def commit(name: str | None) -> str:
    """Of the code that made a run."""
    if not name:
        return "commit not recorded"
    return "commit " + name.replace("+changes", ", with uncommitted changes")


def flops(count: float | None) -> str:
    """In PFLOP, TFLOP or GFLOP."""
    if not count:
        return "not recorded"
    size, unit = next((unit for unit in ((1e15, "PFLOP"), (1e12, "TFLOP")) if count >= unit[0]), (1e9, "GFLOP"))
    return f"{count / size:.3g} {unit}"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "number": number,
        "percent": percent,
        "hours": hours,
        "flops": flops,
        "commit": commit,
        "count": lambda value: f"{value:,}",
        "rank": lambda value: "not defined" if not_defined(value) else f"{value:.4g}",
        "bytes": lambda value: f"{value / 1e6:.1f} MB" if value >= 1e5 else f"{value / 1e3:.0f} kB",
        "plain": plain,
        "average": lambda values: f"{sum(values) / len(values):,.0f}" if values else "not recorded",
        # A name must not end a table cell, nor begin a tag.
        "cell": lambda value: " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;"),
    }
    environment.globals |= {"tasks": TASKS, "headline": headline, "exposure": exposure, "methods": METHODS}
    environment.globals["do_not_travel"] = DO_NOT_TRAVEL
    return environment


def fill(template: str, data: ModelCardData | DatasetCardData, **values) -> ModelCard:
    """The card of a template beside this file; empty lines in a row become one."""
    text = _environment().get_template(template).render(card_data=data.to_yaml(), **values)
    lines = [line.rstrip() for line in text.strip().splitlines()]
    kept = [line for line, before in zip(lines, ["", *lines], strict=False) if line or before]
    return (DatasetCard if isinstance(data, DatasetCardData) else ModelCard)("\n".join(kept) + "\n")
