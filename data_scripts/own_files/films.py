"""Films as they lie in somebody's folders: finding them, and reading what their headers say."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data_scripts.films.dicom import (
    FOR_PROCESSING,
    LINKING_FIELDS,
    TECHNICAL_FIELDS,
    read_header,
)
from data_scripts.films.files import DICOM_SUFFIXES, is_dicom
from data_scripts.schema import DataError, Skipped, is_file, within

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", *DICOM_SUFFIXES)
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


def normal_path(path: str) -> str:
    """As `find_films` writes paths; exports of Windows programs have backslashes."""
    return str(Path(path.strip().replace("\\", "/")))


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


class Headers:
    """Films with their headers, each file opened once."""

    def __init__(self, raw: Path, age_and_sex: bool = False):
        self.raw, self.age_and_sex = raw, age_and_sex
        self.films: dict[str, Film | DataError] = {}

    def of(self, path: str) -> Film:
        """As `read_film`.

        Raises:
            DataError: also where the path leaves the raw folder.
        """
        if path not in self.films:
            try:
                within(self.raw, path)
                self.films[path] = read_film(self.raw, path, self.age_and_sex)
            except DataError as error:
                self.films[path] = error
        found = self.films[path]
        if isinstance(found, DataError):
            raise found
        return found

    def known(self, paths: Iterable[str]) -> Iterator[Film]:
        """The films whose headers can be read; the others are named when they are asked for."""
        for path in paths:
            with contextlib.suppress(DataError):
                yield self.of(path)


def check_chest(film: Film, modalities: list[str], any_body_part: bool, multi_frame: str | None) -> None:
    """Raise `DataError` if the header says that this is no plain film of a chest; blanks say nothing."""
    # Here, as in `films.files`: the package takes seconds to import.
    from modeling_chexficient.image_processing_chexficient_dicom import CHEST

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
