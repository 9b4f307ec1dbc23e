"""How large an image may be, checked on its header before anything is decoded."""

from __future__ import annotations

from pathlib import Path

from data_scripts.schema import DataError

#: A film of 10,000 x 10,000 pixels does not exist; a file that claims more is damaged or an attack.
MAX_PIXELS = 100_000_000
#: Smaller than this nothing can be read from a film.
MIN_SIDE = 32


def check_size(path: Path, width: int, height: int) -> None:
    """Raise `DataError` naming the file if no film has this size."""
    size = f"{path}: {width} x {height} pixels"
    if width * height > MAX_PIXELS:
        raise DataError(f"{size} is beyond the limit of {MAX_PIXELS:,}", "image too large")
    if min(width, height) < MIN_SIDE:
        raise DataError(f"{size} is too small for a film (at least {MIN_SIDE} a side)", "image too small")
