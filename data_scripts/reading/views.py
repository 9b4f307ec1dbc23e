"""The spellings of projections and sexes in the corpora, and the schema's names for them."""

from __future__ import annotations

#: Of a schema view all spellings, in small letters, "_" and "-" as spaces. They come from the tables of MIMIC-CXR-JPG,
#: CheXpert (Plus), ReXGradient-160K, PadChest, BIMCV-COVID19, CASIA-CXR, Open-I (DICOM headers and the Kaggle table),
#: NIH, BRAX, RSNA and covid-chestxray-dataset, and from DICOM's View Position (0018,5101).
_SPELLINGS = {
    "PA": ("pa", "postero anterior", "posteroanterior", "pa erect", "pa upright", "pa view"),
    "AP": (
        *("ap", "antero posterior", "anteroposterior", "ap supine", "ap erect", "ap upright", "ap horizontal"),
        *("ap axial", "ap portable", "ap view", "portable", "supine"),
    ),
    "LATERAL": (
        *("l", "ll", "rl", "lat", "lateral", "left lateral", "right lateral", "large lateral", "xtable lateral"),
        *("l erect", "lateral view"),
    ),
    "OBLIQUE": ("lao", "rao", "lpo", "rpo", "rlo", "llo", "oblique"),
    "DECUBITUS": ("decubitus", "ap lld", "ap rld", "pa lld", "pa rld", "lld", "rld", "lt decub", "rt decub"),
    # Frontal films of unknown direction count as unknown: the schema has no such view, and guessing would be wrong.
    "UNKNOWN": ("", "unk", "unknown", "n/a", "na", "none", "null", "nan", "frontal", "erect", "chest"),
}
_VIEW_OF = {spelling: view for view, spellings in _SPELLINGS.items() for spelling in spellings}


def normalise_view(text: str | None) -> str:
    """A value of `schema.VIEWS` for a corpus's spelling; what is not known but given is "OTHER".

    "OTHER" is also what is no usual view of the chest: PadChest's COSTAL and EXCLUDE, MIMIC-CXR's SWIMMERS,
    ReXGradient's KUB and PICC LINE.
    """
    return _VIEW_OF.get(" ".join((text or "").lower().replace("_", " ").replace("-", " ").split()), "OTHER")


def normalise_sex(text: str | None) -> str | None:
    """A value of `schema.SEXES` for "F", "female", "Male" ...; None where it is blank or not known."""
    first = (text or "").strip().upper()
    return {"F": "F", "FEMALE": "F", "M": "M", "MALE": "M", "O": "O", "OTHER": "O"}.get(first)
