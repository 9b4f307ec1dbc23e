"""Words that programs write for an empty cell: they are blank, whatever the column."""

from __future__ import annotations

#: In small letters; as pandas, numpy, R, SQL and Excel write them.
BLANK_WORDS = frozenset(
    ("nan", "none", "null", "(null)", "<null>", "n/a", "#n/a", "na", "<na>", "nat", "nil", "#null!", "undefined")
)


def cell(text: str) -> str:
    """The text without white space around it; "" where all that it says is that nothing is there."""
    text = text.strip()
    return "" if text.lower() in BLANK_WORDS else text
