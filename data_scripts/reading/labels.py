"""How the corpora write labels down, and the schema's reading of it: 1 present, 0 absent, -1 uncertain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from data_scripts.schema import DataError, Label

#: The 14 observations of CheXpert (arXiv 1901.07031), in its order; MIMIC-CXR-JPG and BRAX share the names.
CHEXPERT_LABELS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Lesion",
    "Lung Opacity",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)

#: Names, as `plain_name` has them, of the label that a film shows nothing, in corpora and hospitals.
_NORMAL = frozenset(("no finding", "no findings", "no abnormality", "no abnormalities", "normal", "healthy"))

_BINARY = {"1": 1, "1.0": 1, "0": 0, "0.0": 0}
#: What a cell may hold under each encoding. None: nobody judged the finding, so there is no label.
ENCODINGS: dict[str, dict[str, int | None]] = {
    # Blank is "not mentioned". JSON tables spell it null, pandas nan.
    "chexpert": {**_BINARY, "-1": -1, "-1.0": -1, "": None, "nan": None, "None": None, "null": None},
    # Every cell is judged: a blank is an error.
    "binary": _BINARY,
    "yes_no": {"YES": 1, "NO": 0},
}


def plain_name(name: str) -> str:
    """The name of a label in small letters, with single spaces for "_" and any others."""
    return " ".join(name.lower().replace("_", " ").split())


def tells_normal(name: str) -> bool:
    """Whether a label says of a film that nothing is found: "No Finding", "no_finding", "Normal"."""
    return plain_name(name) in _NORMAL


def parse_label(text: str, encoding: str = "chexpert") -> int | None:
    """The value 1, 0, -1 or None (not judged) of a table cell.

    Args:
        text: the cell as text; spaces around it do not count.
        encoding: a key of `ENCODINGS`.

    Raises:
        DataError: the text is not a value of the encoding.
    """
    allowed = ENCODINGS[encoding]
    text = text.strip()
    if text not in allowed:
        raise DataError(f"label value is {text!r}: allowed are {sorted(allowed)}", "unknown label value")
    return allowed[text]


def row_labels(
    row: Mapping[str, str], columns: Mapping[str, str] | Iterable[str], encoding: str = "chexpert"
) -> list[Label]:
    """The judged findings of a table row, in the order of `columns`.

    Args:
        row: cells as text by column.
        columns: the columns; or a mapping of columns to the names of the labels, where these differ.

    Raises:
        DataError: a cell is not a value of the encoding; its column is named.
    """
    names = columns if isinstance(columns, Mapping) else {column: column for column in columns}
    labels = []
    for column, name in names.items():
        try:
            value = parse_label(row[column], encoding)
        except DataError as error:
            raise DataError(f"column {column!r}: {error}", error.kind) from error
        if value is not None:
            labels.append(Label(name, value))
    return labels


def listed_labels(present: Iterable[str], vocabulary: Sequence[str]) -> list[Label]:
    """Labels of a film whose table lists the findings present: all others of the vocabulary are absent.

    Args:
        present: names as listed; spaces around them and blank names do not count.

    Raises:
        DataError: a listed name is not in the vocabulary.
    """
    found = {name.strip() for name in present} - {""}
    unknown = sorted(found - set(vocabulary))
    if unknown:
        raise DataError(f"unknown finding {unknown}, expected some of {list(vocabulary)}", "unknown finding")
    return [Label(name, int(name in found)) for name in vocabulary]


def merge_readers(votes: Sequence[int], name: str) -> Label:
    """One label of several readers' votes (1 or 0): present if any reader says so, with the counts.

    The counts allow every other rule, such as a majority: `positive_readers > readers / 2`.

    Raises:
        DataError: there is no vote, or one that is neither 1 nor 0.
    """
    if not votes or not set(votes) <= {0, 1}:
        raise DataError(f"label {name!r}: the votes are {list(votes)}, expected are some of 1 and 0", "bad votes")
    return Label(name, max(votes), readers=len(votes), positive_readers=sum(votes))
