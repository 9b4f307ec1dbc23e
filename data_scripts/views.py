"""The spellings of projections in the corpora, and the schema's names for them."""

from __future__ import annotations

_SPELLINGS = {
    "PA": "pa|postero_anterior|posteroanterior|pa erect|pa upright",
    "AP": "ap|antero_posterior|anteroposterior|ap supine|ap erect|ap_horizontal|ap axial|portable",
    "LATERAL": "l|ll|rl|lat|lateral|left lateral|right lateral|xtable lateral",
    "OBLIQUE": "lao|rao|lpo|rpo|oblique",
    "DECUBITUS": "decubitus|ap lld|ap rld|pa lld|pa rld|lt-decub",
    "UNKNOWN": "|unk|unknown|n/a|none|nan",
}
_VIEW_OF = {spelling: view for view, spellings in _SPELLINGS.items() for spelling in spellings.split("|")}


def normalise_view(text: str | None) -> str:
    """A value of `schema.VIEWS` for a corpus's spelling; what is not known but given is "OTHER"."""
    return _VIEW_OF.get((text or "").strip().lower(), "OTHER")
