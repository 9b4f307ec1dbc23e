"""Progress bars in a terminal; in a log, such as a file or a pipe, a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TextIO

from tqdm import tqdm

#: Seconds between two lines in a log.
LOG_SECONDS = 30.0


def shows_bars() -> bool:
    """Whether standard error is a terminal, where a bar can be drawn over itself."""
    return sys.stderr.isatty()


def progress(iterable: Iterable | None = None, **options) -> tqdm:
    """A bar of tqdm over `iterable`, with its options (`total`, `desc`, `unit`, `disable` ...).

    In a log it is a line at most every `LOG_SECONDS`, and none of work that takes less.
    """
    if not shows_bars():
        # `maxinterval` would have tqdm refresh a slow bar earlier; `delay` is the time before the first line.
        options |= {"mininterval": LOG_SECONDS, "maxinterval": float("inf"), "delay": LOG_SECONDS}
        options |= {"file": _Lines(sys.stderr)}
    return tqdm(iterable, **options)


def quiet_libraries() -> None:
    """In a log, silence the bars that the Hugging Face libraries draw of reading data and weights.

    Commands call it before they begin. The bar of training is an argument of the trainer: `disable_tqdm`.
    """
    # Here, since every command imports this file, for its `--help` as well.
    import datasets
    import huggingface_hub
    import transformers

    if not shows_bars():
        datasets.disable_progress_bars()
        huggingface_hub.utils.disable_progress_bars()
        transformers.utils.logging.disable_progress_bar()


class _Lines:
    """A log that gets as lines what tqdm draws over itself: without the characters that move the cursor."""

    def __init__(self, log: TextIO):
        self.log = log

    def write(self, text: str) -> None:
        line = text.replace("\x1b[A", "").strip()
        if line:
            self.log.write(line + "\n")

    def flush(self) -> None:
        self.log.flush()
