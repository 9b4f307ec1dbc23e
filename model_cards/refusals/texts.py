"""Texts that must not be published: local paths, access tokens, and ids, fields or reports of patients."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

import modeling_chexficient

#: What models carry for those who have no package of ours.
_OWN_CODE = Path(modeling_chexficient.__file__).parent
_TEXT = (".json", ".md", ".py", ".txt", ".jinja", ".yaml")
#: A path of a machine: below a usual root, in a home folder or on a drive. `//` (of an address) does not count.
_LOCAL_PATH = re.compile(
    r"(?<![\w/.:~-])/(?:home|root|tmp|mnt|media|data|scratch|srv|var|opt|export|net|local|work\w*|users|Users|Volumes"
    r"|private|cluster|projects?|storage|gpfs|lustre|beegfs|ceph\w*|nfs\w*|dbfs|kaggle|content)/[\w.-]+"
    r"|(?<!\w)~/[\w.-]+|(?<![\w/])[A-Z]:\\\\?\w+|file://"
    # A share of Windows, as JSON writes it.
    r"|(?<!\\)\\{4}\w[\w.-]*\\\\\w"
)
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")
#: Names of fields that hold a patient's identity, or text, wherever they stand.
_ID_FIELDS = {
    f"{name}_{ending}"
    for name in ("record", "patient", "study", "subject", "image", "dicom", "series", "hadm")
    for ending in ("id", "ids")
}
_ID_FIELDS |= {"accession_number", "accession", "mrn", "patient_name", "sop_instance_uid"}
_TEXT_FIELDS = {"report", "reports", "impression", "reference", "references", "hypothesis", "generated", "examples"}
#: In words: what stands in a field of text is longer than a description, and elsewhere no label or prompt is so long.
_DESCRIPTION, _LONGEST_TEXT = 12, 80
#: Sentences that `eval` itself writes, which list labels.
_OWN_TEXTS = ("notes",)
_ID_COLUMNS, _TEXT_COLUMNS = ("record_id", "patient_id", "study_id"), ("report", "findings", "impression")


def leaks(staged: Path) -> list[str]:
    """Local paths, access tokens, and (in results) fields or texts of patients, in the staged text files."""
    problems = []
    for path in _text_files(staged):
        name, text = path.relative_to(staged).as_posix(), path.read_text(encoding="utf-8", errors="replace")
        problems += [f"{name}: {problem}" for problem in problems_of_text(text)]
        if name.startswith("results/"):
            problems += [f"{name}: {problem}" for problem in _private_fields(json.loads(text))]
    return problems


def problems_of_text(text: str) -> Iterator[str]:
    """Local paths and access tokens in the text of a file."""
    found = _LOCAL_PATH.search(text)
    if found:
        yield f"holds a local path ({found.group()[:60]}...): it tells about your machine and helps nobody"
    if _TOKEN.search(text):
        yield "holds what looks like an access token: revoke it, and remove it there"


def _private_fields(value, name: str = "") -> Iterator[str]:
    """Problems of a value in a result; `name` is that of the field that holds it."""
    if name in _ID_FIELDS and value not in (None, [], {}):
        yield f"field {name} holds an id: take it out of the result"
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _private_fields(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _private_fields(item, name)
    elif isinstance(value, str) and name not in _OWN_TEXTS:
        words = len(value.split())
        if words > (_DESCRIPTION if name in _TEXT_FIELDS else _LONGEST_TEXT):
            yield f"field {name} holds a text of {words} words, which may be a patient's report: take it out"


def ids_or_reports(staged: Path, tables: list[Path]) -> list[str]:
    """Ids or whole reports of the data (Parquet `tables`) that stand in the staged text files; neither is shown. Short
    numbers are no ids here, since they stand everywhere; nor is our own code, untouched, a place for reports, though a
    sentence of it may be that of some.
    """
    words: dict[str, str] = {}
    lines: dict[str, str] = {}
    for path in _text_files(staged):
        if _is_own_code(path):
            continue
        name, text = path.relative_to(staged).as_posix(), path.read_text(encoding="utf-8", errors="replace")
        words |= dict.fromkeys(re.findall(r"[^\s\"'`|,;()\[\]{}<>]+", text), name)
        lines |= dict.fromkeys((line.strip(" |>*-\t") for line in re.split(r"\n|\\n|\"", text)), name)
    problems = set()
    for table in tables:
        file = pq.ParquetFile(table)
        columns = [name for name in (*_ID_COLUMNS, *_TEXT_COLUMNS) if name in file.schema_arrow.names]
        for batch in file.iter_batches(columns=columns):
            for column in columns:
                known, what = (words, "an id") if column in _ID_COLUMNS else (lines, "a report")
                for value in set(batch.column(column).to_pylist()) & known.keys():
                    if (column in _TEXT_COLUMNS and len(value.split()) > 3) or _is_telling(value):
                        problems.add(f"{known[value]} holds {what} of the data (column {column}): take it out")
    return sorted(problems)


def _is_own_code(path: Path) -> bool:
    own = _OWN_CODE / path.name
    return path.suffix == ".py" and own.is_file() and own.read_bytes() == path.read_bytes()


def _is_telling(value: str) -> bool:
    """Whether a string is an id that does not stand in a text by chance."""
    return len(value) >= 6 and any(letter.isdigit() for letter in value) and (len(value) >= 8 or not value.isdigit())


def _text_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in _TEXT and path.is_file())
