"""What HTML pages of reports share: strict templates, and figures within the page."""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def page_environment(folder: Path) -> Environment:
    """Jinja templates of a folder: values are escaped, and one that is missing is an error."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def svg_uri(svg: str) -> str:
    """An SVG as an image of its own, so that names inside one figure do not clash with those of another."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
