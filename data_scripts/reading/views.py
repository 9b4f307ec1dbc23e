"""The spellings of projections and sexes in the corpora, and the schema's names for them."""

from __future__ import annotations

from data_scripts.reading.blanks import BLANK_WORDS
from data_scripts.schema import DataError

#: All spellings of each view of the schema, in small letters, "_" and "-" as spaces. They come from the tables of
#: MIMIC-CXR-JPG, CheXpert (Plus), ReXGradient-160K, PadChest, BIMCV-COVID19, CASIA-CXR, Open-I (DICOM headers and the
#: Kaggle table), NIH, BRAX, RSNA and covid-chestxray-dataset, and from DICOM's View Position (0018,5101).
_SPELLINGS = {
    "PA": ("pa", "postero anterior", "posteroanterior", "pa erect", "pa upright", "pa view", "p a", "p/a"),
    "AP": (
        *("ap", "antero posterior", "anteroposterior", "ap supine", "ap erect", "ap upright", "ap horizontal"),
        *("ap axial", "ap portable", "ap view", "portable", "supine", "a p", "a/p"),
    ),
    "LATERAL": (
        *("l", "ll", "rl", "lat", "lateral", "left lateral", "right lateral", "large lateral", "xtable lateral"),
        *("l erect", "lateral view", "seitlich", "latéral", "laterale", "profil", "de profil", "perfil"),
    ),
    "OBLIQUE": ("lao", "rao", "lpo", "rpo", "rlo", "llo", "oblique"),
    "DECUBITUS": ("decubitus", "ap lld", "ap rld", "pa lld", "pa rld", "lld", "rld", "lt decub", "rt decub"),
    # Frontal films of unknown direction count as unknown: the schema has no such view, and guessing would be wrong.
    "UNKNOWN": ("", "unk", "unknown", "n/a", "na", "none", "null", "nan", "frontal", "erect", "chest"),
}
_VIEW_OF = {spelling: view for view, spellings in _SPELLINGS.items() for spelling in spellings}
#: Say nothing about the projection: the part of the body, how the patient stood, how it was taken.
_OTHER_WORDS = frozenset(
    {
        *("chest", "thorax", "torax", "thoracic", "lung", "lungs", "cxr", "xr", "xray", "x", "ray", "dx", "cr", "rx"),
        *("film", "radiograph", "projection", "view", "views", "single", "one", "1", "routine", "adult", "child"),
        *("erect", "upright", "standing", "stehend", "sitting", "sitzend", "supine", "liegend", "bed", "portable"),
        *("mobile", "grid", "bucky", "wall", "table", "inspiration", "expiration", "paediatric", "pediatric"),
    }
)
#: Words of free texts that name one projection. A lone "l" is a side there.
_WORDS = {
    word: view
    for view, words in {
        "PA": "pa posteroanterior",
        "AP": "ap anteroposterior",
        "LATERAL": "lat lateral ll rl lateralis seitlich lateralview",
        "OBLIQUE": "lao rao lpo rpo oblique obl",
        "DECUBITUS": "decubitus decub lld rld",
    }.items()
    for word in words.split()
}
#: Codes of DICOM's view (CID 4010: SRT, SNOMED CT).
_CODES = {
    code: view
    for view, codes in {
        "PA": "R-10214 272479007",
        "AP": "R-10206 399348003",
        "LATERAL": "R-10236 399173006 R-10232 399198007 R-102CD 399067008",
        "OBLIQUE": "R-10220 399135007 399356000 R-10212 399006002 R-10210 399038007 R-102C1 399182000 R-10238 "
        "399184004 R-10234 399236003 R-10208 399312000 R-10216 399059000",
        "UNKNOWN": "R-10202 399033003",
    }.items()
    for code in codes.split()
}
#: Header fields that may name the projection, the most reliable first.
_DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription")


def normalise_view(text: str | None) -> str:
    """A value of `schema.VIEWS` for a corpus's spelling; what is not known but given is "OTHER".

    "Chest PA", "P.A." and "PA STEHEND" are PA: words that say nothing about the projection do not count. "OTHER" is
    also what is no usual view of the chest: PadChest's COSTAL and EXCLUDE, MIMIC-CXR's SWIMMERS, ReXGradient's KUB and
    PICC LINE.
    """
    words = _words_of(text)
    exact = _VIEW_OF.get(" ".join(words))
    if exact is not None:
        return exact
    rest = " ".join(word for word in words if word not in _OTHER_WORDS)
    return _VIEW_OF.get(rest, "OTHER") if rest else "UNKNOWN"


def view_of_header(header: dict[str, str]) -> str:
    """The view that a DICOM header names: View Position, else View Code Sequence (as `read_header` gives it: value and
    meaning), else a description that names a single one.
    """
    position = normalise_view(header.get("ViewPosition"))
    if position not in ("UNKNOWN", "OTHER"):
        return position
    value, _, meaning = header.get("ViewCodeSequence", "").partition(" ")
    named = normalise_view(meaning)
    # The meaning is what was read when the code was chosen; a code of a wrong table is found only by a machine.
    coded = named if named not in ("UNKNOWN", "OTHER") else _CODES.get(value.upper(), named)
    if coded != "UNKNOWN":
        return coded
    if position == "OTHER":
        return position
    for field in _DESCRIPTIONS:
        views = {_WORDS[word] for word in _words_of(header.get(field)) if word in _WORDS}
        if "DECUBITUS" in views:
            return "DECUBITUS"
        if len(views) == 1:
            return views.pop()
    return "UNKNOWN"


def _words_of(text: str | None) -> list[str]:
    """Small letters, "P.A." as "pa", and "_", "-", "," and brackets as spaces."""
    plain = (text or "").lower().replace(".", "")
    return "".join(" " if letter in "_-,;:()[]" else letter for letter in plain).split()


#: In small letters; English, German, French, Spanish, Portuguese and Italian.
_SEXES = {
    word: sex
    for sex, words in {
        "F": "f female w woman girl weiblich frau femme féminin feminin mujer femenino mulher feminino donna femmina",
        "M": "m male man boy männlich maennlich mann homme masculin hombre masculino homem uomo maschio",
        "O": "o other x d divers diverse non-binary nonbinary",
    }.items()
    for word in words.split()
}
_NO_SEX = frozenset(("", "u", "unk", "unknown", "unspecified", "not known", "not stated", "?", "-", *BLANK_WORDS))


def normalise_sex(text: str | None) -> str | None:
    """A value of `schema.SEXES` for "F", "female", "Male" ...; None where it is blank or not known."""
    return _SEXES.get((text or "").strip().lower())


def require_sex(text: str) -> str | None:
    """As `normalise_sex`, of a table that somebody wrote.

    Raises:
        DataError: something is given, and it is neither a sex nor says that it is not known.
    """
    sex = normalise_sex(text)
    if sex is None and text.strip().lower() not in _NO_SEX:
        raise DataError(f"sex is {text!r}: write F, M, O (other) or nothing", "sex not readable")
    return sex
