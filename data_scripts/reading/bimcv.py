"""Cells of the label tables of BIMCV (the medical imaging bank of the Valencia region), shared by its corpora.

Their tables hold Python lists and numpy arrays printed as text. Sources: the PadChest paper (arXiv 1901.07441), its
repository auriml/Rx-thorax-automatic-captioning, and the BIMCV-COVID19 paper (arXiv 2006.01174).
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from data_scripts.schema import DataError, Label

#: What stands for a missing value, beside a blank.
_MISSING = ("", "nan", "none")
#: Listed like findings, but about the study: marked in the record's flags.
FLAGS = {"exclude": "exclude", "suboptimal study": "suboptimal_study"}
#: Listed like findings, but none.
_NO_FINDINGS = (*FLAGS, "normal", "unchanged")


def clean(text: str) -> str:
    """The cell without surrounding spaces; "" where it spells a missing value."""
    text = text.strip()
    return "" if text.lower() in _MISSING else text


def parse_list(text: str) -> list[str] | None:
    """The items of a printed list, stripped, without empty ones and repetitions; None where the cell is missing.

    Raises:
        DataError: the cell is no list of texts.
    """
    text = clean(text)
    if not text:
        return None
    try:
        items = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise DataError(f"{text[:80]!r} is no list", "labels cannot be read") from error
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise DataError(f"{text[:80]!r} is no list of texts", "labels cannot be read")
    return list(dict.fromkeys(item.strip() for item in items if item.strip()))


def parse_cuis(text: str) -> list[str]:
    """The UMLS concepts (C and seven digits) of a printed numpy array, which has no commas between its items."""
    return re.findall(r"\bC\d{7}\b", text)


def common_labels(cells: Iterable[str], min_count: int) -> list[str]:
    """Findings that at least `min_count` of the cells list, sorted; cells that are no lists do not count."""
    counts: Counter[str] = Counter()
    for cell in cells:
        try:
            counts.update(parse_list(cell) or ())
        except DataError:
            continue
    return sorted(name for name, count in counts.items() if count >= min_count and name not in _NO_FINDINGS)


def tells_absent(listed: Sequence[str]) -> bool:
    """Whether a finding that a list does not name was not there.

    It says nothing of that beside "unchanged", which leaves out what an earlier report told, and where it holds no
    finding and not "normal" either: that nobody found anything is said by that word alone.
    """
    present = [name for name in listed if name not in _NO_FINDINGS]
    return "unchanged" not in listed if present else "normal" in listed


def finding_labels(listed: list[str] | None, common: Sequence[str]) -> list[Label]:
    """The listed findings as present, the rest of `common` as absent where the list tells that (`tells_absent`), and
    "No Finding" for a normal study.

    Nothing where the study has no list, or one that says nothing of findings.
    """
    if listed is None:
        return []
    present = {name for name in listed if name not in _NO_FINDINGS}
    if not present and "normal" not in listed:
        return []
    names = sorted({*common, *present} if tells_absent(listed) else present)
    return [*(Label(name, int(name in present)) for name in names), Label("No Finding", int(not present))]


def flags(listed: list[str] | None) -> list[str]:
    """What a list says about the study itself, as flags of the record."""
    return [flag for name, flag in FLAGS.items() if name in (listed or ())]


def invert_grey(image: Image.Image) -> Image.Image:
    """Black for white, over the full range of an 8-bit or 16-bit grey image."""
    pixels = np.asarray(image if image.mode.startswith("I;16") else image.convert("L"))
    return Image.fromarray(np.iinfo(pixels.dtype).max - pixels)
