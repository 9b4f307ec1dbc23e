"""Films and report texts as they lie in somebody's folders: finding them, matching them, and hiding who they show."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import hmac
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_scripts.films.dicom import FOR_PROCESSING, LINKING_FIELDS, SUFFIXES, TECHNICAL_FIELDS, is_dicom, read_header
from data_scripts.films.dicom_display import CHEST
from data_scripts.schema import DataError, Skipped, is_file

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
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_AGE_FIELDS = ("PatientAge", "PatientSex")


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
        if hidden or path.name in _OTHER_NAMES or path.suffix.lower() in _OTHER_SUFFIXES or path.is_dir():
            continue
        try:
            if not path.is_file():
                raise DataError(f"{path}: the link leads to no file", "image file missing")
            if path.suffix.lower() not in IMAGE_SUFFIXES and not is_dicom(path):
                raise DataError(f"{path}: neither an image nor DICOM", "file of unknown kind")
            yield str(relative)
        except DataError as error:
            yield Skipped(str(relative), str(error), error.kind)


def digest_of(raw: Path, films: list[str]) -> str:
    """Eight characters that tell folders apart, not by where they lie: of names and beginnings of the first films."""
    digest = hashlib.sha256()
    for film in films[:100]:
        digest.update(film.encode("utf-8", "surrogateescape"))
        # What cannot be opened is named when it is read.
        with contextlib.suppress(OSError), (raw / film).open("rb") as file:
            digest.update(file.read(4096))
    return digest.hexdigest()[:8]


def without_suffix(path: str) -> str:
    """The path without an image suffix; a UID is a name with dots, of which none begins a suffix."""
    return str(Path(path).with_suffix("")) if Path(path).suffix.lower() in IMAGE_SUFFIXES else path


def read_film(raw: Path, path: str, age_and_sex: bool = False) -> Film:
    """The film with the header fields that are used (DICOM), or without; a missing file has none either.

    Raises:
        DataError: the file says that it is DICOM but cannot be read as such.
    """
    file = raw / path
    if not is_file(file) or file.stat().st_size == 0 or not is_dicom(file):
        return Film(path, {})
    return Film(path, read_header(file, TECHNICAL_FIELDS + LINKING_FIELDS + (_AGE_FIELDS if age_and_sex else ())))


def check_chest(film: Film, modalities: list[str], any_body_part: bool, multi_frame: str | None) -> None:
    """Raise `DataError` if the header says that this is no plain film of a chest; blanks say nothing."""
    modality, part = film.get("Modality").upper(), film.get("BodyPartExamined").upper()
    if modality and modality not in modalities:
        raise DataError(
            f"{film.path}: modality is {modality!r}, accepted are {modalities} (--modalities)", "other modality"
        )
    if part and not any_body_part and not any(word in part for word in CHEST):
        raise DataError(f"{film.path}: body part is {part!r}, not the chest (--any_body_part)", "other body part")
    frames = film.get("NumberOfFrames")
    if frames.isdigit() and int(frames) > 1 and multi_frame is None:
        raise DataError(
            f"{film.path}: {frames} frames (--multi_frame first or middle takes one)", "DICOM with several frames"
        )


def check_intent(film: Film, for_processing: bool, burned_in: bool) -> None:
    """Raise `DataError` if the header says that these are raw detector data or that text is burned into the pixels."""
    intent, raw_class = film.get("PresentationIntentType").upper(), film.get("SOPClassUID") in FOR_PROCESSING
    if not for_processing and (intent == "FOR PROCESSING" or raw_class):
        found = f"PresentationIntentType is {intent!r}" if intent else "SOPClassUID is one for processing"
        raise DataError(
            f"{film.path}: {found}: raw detector data, no picture (--for_processing takes them)", "raw detector data"
        )
    if not burned_in and film.get("BurnedInAnnotation").upper() == "YES":
        raise DataError(
            f"{film.path}: BurnedInAnnotation is 'YES': text in the pixels may name the patient (--burned_in takes it)",
            "burned-in annotation",
        )


class Names:
    """Ids as they may be written: hashed with a salt if there is one; otherwise those of DICOM are numbered.

    A hash is the first 64 bits of HMAC-SHA256 with the salt as key: without the salt, ids cannot be tried out.
    Numbers begin with `folder` (see `digest_of`), so that they still differ where folders are mixed.
    """

    def __init__(self, salt: str | None, folder: str = ""):
        self.salt, self.folder = salt, folder
        self.numbers: dict[str, dict[str, int]] = defaultdict(dict)

    def of_table(self, kind: str, value: str) -> str:
        """An id that the user's table or file names give."""
        return self._hashed(kind, value) if self.salt else value

    def of_header(self, kind: str, value: str) -> str:
        """An id of a DICOM file or its header, which is never written as it stands."""
        if self.salt:
            return self._hashed(kind, value)
        numbers = self.numbers[kind]
        return f"{kind}-{self.folder}-{numbers.setdefault(value, len(numbers) + 1):06d}"

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
        self.is_flat = all(Path(path).name == path for path in self.by_path)

    def find(self, key: str) -> str | None:
        """The file at the path `key`; for a bare name the only file of that name, wherever it lies.

        Raises:
            DataError: several have the name, so that each could be meant.
        """
        if key in self.by_path:
            return self.by_path[key]
        files = self.by_stem.get(key, [])
        if len(files) > 1:
            raise DataError(f"several files are called {key!r}: {files[:3]}", "name is not unique")
        return files[0] if files else None


class ReportFiles:
    """Texts below a folder; it keeps account of those that no film asked for."""

    def __init__(self, raw: Path, folder: str, films: list[str]):
        """`films` holds the paths of all films (below the folder of images, no suffix)."""
        root = raw / folder
        if not root.is_dir():
            raise DataError(f"{root}: there is no such folder of reports (--reports)")
        self.raw = raw
        self.films_called = Counter(Path(film).name for film in films)
        paths = sorted(path for path in root.rglob("*") if path.suffix.lower() == ".txt")
        self.files = ByName([(str(path.relative_to(root).with_suffix("")), str(path)) for path in paths])
        self.unused = dict.fromkeys(str(path) for path in paths)

    def text_of(self, film: Film, path: str) -> str:
        """The report named after the film's accession number, else after its `path` (below the folder of images, no
        suffix), else after its name; "" if there is none.

        Raises:
            DataError: several reports could be meant, or it is not sure that the one of its name is of this film.
        """
        accession = film.get("AccessionNumber")
        file = self.files.find(accession) if accession else None
        file = file or self.files.by_path.get(path) or self._of_name(path)
        if file is None:
            return ""
        self.unused.pop(file, None)
        return read_text(Path(file))

    def _of_name(self, path: str) -> str | None:
        name = Path(path).name
        if name not in self.files.by_stem:
            return None
        if self.films_called[name] > 1:
            raise DataError(
                f"several films are called {name!r}, none of the reports is {path}.txt", "name is not unique"
            )
        if path != name and not self.files.is_flat:
            found = self.files.by_stem[name][0]
            raise DataError(f"there is no {path}.txt, and {found} lies in another folder", "report in another folder")
        return self.files.find(name)

    def left_over(self) -> Iterator[Skipped]:
        for file in self.unused:
            reason = "no film has its name as accession number or file name"
            yield Skipped(str(Path(file).relative_to(self.raw)), reason, "report without a film")


def read_text(path: Path) -> str:
    """utf-16 with byte order mark, else utf-8 with or without, else latin-1.

    Raises:
        DataError: the file cannot be opened, or is no text in any of these.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-16" if content.startswith(_UTF_16) else "utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: the report cannot be opened ({error})", "report not readable") from error
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if "\0" in text:
        raise DataError(f"{path}: NUL characters: no text, or of an encoding other than utf-8", "report not readable")
    return text.strip()
