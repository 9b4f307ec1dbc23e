"""Films and report texts as they lie in somebody's folders: finding them, matching them, and hiding who they show."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_scripts.dicom import LINKING_FIELDS, SUFFIXES, TECHNICAL_FIELDS, is_dicom, read_header
from data_scripts.schema import DataError, Skipped

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", *SUFFIXES)
#: Lie beside films and are none.
_OTHER_SUFFIXES = (
    ".txt",
    ".csv",
    ".tsv",
    ".jsonl",
    ".json",
    ".xml",
    ".parquet",
    ".gz",
    ".yaml",
    ".yml",
    ".md",
    ".html",
)
_OTHER_NAMES = ("DICOMDIR", "Thumbs.db", "desktop.ini", "LICENSE", "VERSION")
#: Codes of DICOM's Body Part Examined (and free text) that mean the chest hold one of these.
_CHEST = ("CHEST", "THORAX", "LUNG", "TORAX", "THORACIC CAVITY")
_AGE_FIELDS = ("PatientAge", "PatientSex")
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
#: Higher ages are rare enough to tell who it is, so they become this one (45 CFR 164.514(b)(2)(i)(C)).
OLDEST = 90


@dataclass(frozen=True)
class Film:
    """An image file and what its header says, "" where there is none. `path` is relative to the raw folder."""

    path: str
    header: dict[str, str]

    def get(self, name: str) -> str:
        return self.header.get(name, "")


def find_films(raw: Path, root: str) -> Iterator[str | Skipped]:
    """Paths, relative to `raw`, of all images below `raw / root`, sorted; `Skipped` for files of unknown kind."""
    folder = raw / root
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder of images")
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(raw)
        hidden = any(part.startswith((".", "__MACOSX")) for part in relative.parts)
        if hidden or path.name in _OTHER_NAMES or path.suffix.lower() in _OTHER_SUFFIXES or not path.is_file():
            continue
        if path.suffix.lower() in IMAGE_SUFFIXES or is_dicom(path):
            yield str(relative)
        else:
            yield Skipped(str(relative), f"{path}: neither an image nor DICOM", "file of unknown kind")


def without_suffix(path: str) -> str:
    """The path without an image suffix; a UID is a name with dots, of which none begins a suffix."""
    return str(Path(path).with_suffix("")) if Path(path).suffix.lower() in IMAGE_SUFFIXES else path


def read_film(raw: Path, path: str, age_and_sex: bool = False) -> Film:
    """The film with the header fields that are used (DICOM), or without; a missing file has none either.

    Raises:
        DataError: the file says that it is DICOM but cannot be read as such.
    """
    file = raw / path
    if not file.is_file() or file.stat().st_size == 0 or not is_dicom(file):
        return Film(path, {})
    return Film(path, read_header(file, TECHNICAL_FIELDS + LINKING_FIELDS + (_AGE_FIELDS if age_and_sex else ())))


def check_chest(film: Film, modalities: list[str], any_body_part: bool, multi_frame: str | None) -> None:
    """Raise `DataError` if the header says that this is no plain film of a chest; blanks say nothing."""
    modality, part = film.get("Modality").upper(), film.get("BodyPartExamined").upper()
    if modality and modality not in modalities:
        raise DataError(
            f"{film.path}: modality is {modality!r}, accepted are {modalities} (--modalities)", "other modality"
        )
    if part and not any_body_part and not any(word in part for word in _CHEST):
        raise DataError(f"{film.path}: body part is {part!r}, not the chest (--any_body_part)", "other body part")
    frames = film.get("NumberOfFrames")
    if frames.isdigit() and int(frames) > 1 and multi_frame is None:
        raise DataError(
            f"{film.path}: {frames} frames (--multi_frame first or middle takes one)", "DICOM with several frames"
        )


def age_and_sex(film: Film) -> tuple[str, str]:
    """Age in years as text, at most `OLDEST`, and sex; "" where the header was not asked or does not say."""
    text = film.get("PatientAge")
    if not text:
        return "", film.get("PatientSex")
    digits, unit = text[:-1], text[-1].upper()
    if not digits.isdigit() or unit not in _YEARS:
        raise DataError(f"{film.path}: PatientAge is {text!r}, such as '045Y' is expected", "age not readable")
    return str(min(int(digits) * _YEARS[unit], OLDEST)), film.get("PatientSex")


class Names:
    """Ids as they may be written: hashed with a salt if there is one; otherwise those from headers are numbered.

    A hash is the first 64 bits of HMAC-SHA256 with the salt as key: without the salt, ids cannot be tried out.
    """

    def __init__(self, salt: str | None):
        self.salt = salt
        self.numbers: dict[tuple[str, str], int] = {}

    def of_table(self, kind: str, value: str) -> str:
        """An id that the user's table or file names give."""
        return self._hashed(kind, value) if self.salt else value

    def of_header(self, kind: str, value: str) -> str:
        """An id of a DICOM header, which is never written as it stands."""
        if self.salt:
            return self._hashed(kind, value)
        return f"{kind}{self.numbers.setdefault((kind, value), len(self.numbers) + 1):06d}"

    def _hashed(self, kind: str, value: str) -> str:
        return hmac.new(self.salt.encode(), f"{kind}/{value}".encode(), hashlib.sha256).hexdigest()[:16]


class ByName:
    """Files by their path below a folder and by their name, both without suffix."""

    def __init__(self, paths: list[tuple[str, str]]):
        """`paths` holds (path below the folder without suffix, file) pairs."""
        self.by_path = dict(paths)
        self.by_stem: dict[str, list[str]] = {}
        for path, file in paths:
            self.by_stem.setdefault(Path(path).name, []).append(file)

    def find(self, key: str) -> str | None:
        """The file at the path `key`, else the only one of that name, wherever it lies.

        Raises:
            DataError: several have the name, so that each could be meant.
        """
        if key in self.by_path:
            return self.by_path[key]
        files = self.by_stem.get(Path(key).name, [])
        if len(files) > 1:
            raise DataError(f"several files are called {Path(key).name!r}: {files[:3]}", "name is not unique")
        return files[0] if files else None


class ReportFiles:
    """Texts below a folder; it keeps account of those that no film asked for."""

    def __init__(self, raw: Path, folder: str):
        root = raw / folder
        if not root.is_dir():
            raise DataError(f"{root}: there is no such folder of reports (--reports)")
        self.raw = raw
        paths = sorted(root.rglob("*.txt"))
        self.files = ByName([(str(path.relative_to(root).with_suffix("")), str(path)) for path in paths])
        self.unused = dict.fromkeys(str(path) for path in paths)

    def text_of(self, film: Film, path: str) -> str:
        """The report named after the film's accession number, else after its `path` (below the folder of images, no
        suffix), else after its name; "" if there is none.

        Raises:
            DataError: several reports could be meant.
        """
        accession = film.get("AccessionNumber")
        file = (self.files.find(accession) if accession else None) or self.files.find(path)
        if file is None:
            return ""
        self.unused.pop(file, None)
        return read_text(Path(file))

    def left_over(self) -> Iterator[Skipped]:
        for file in self.unused:
            reason = "no film has its name as accession number or file name"
            yield Skipped(str(Path(file).relative_to(self.raw)), reason, "report without a film")


def read_text(path: Path) -> str:
    """utf-8 with or without byte order mark, else latin-1."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return content.decode("latin-1").strip()
