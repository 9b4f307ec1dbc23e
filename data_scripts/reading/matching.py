"""What the loaders of evaluation sets share: entries of a table matched with films, and a split of one's own choice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from data_scripts.reading.loader_options import PatientSplit
from data_scripts.reading.splits import split_by_patient
from data_scripts.schema import DataError, Record, Skipped, within


@dataclass
class EvaluationSplit(PatientSplit):
    """Options of a set without an official split: by default the whole of it is for testing."""

    validation_share: float = field(default=0.0, metadata={"help": "Share of the patients for validation."})
    test_share: float = field(
        default=1.0, metadata={"help": "Share of the patients for testing; 1: all (zero-shot evaluation)."}
    )

    def __post_init__(self):
        if self.test_share != 1 or self.validation_share != 0:
            # Raises where the shares make no split.
            split_by_patient("-", self.validation_share, self.test_share)

    def split(self, patient_id: str) -> str:
        return "test" if self.test_share == 1 else super().split(patient_id)


_SECOND = "a second "


def is_second(key: str) -> bool:
    """Whether `films_below` made up this key because an earlier film already has the film's own key."""
    return key.startswith(_SECOND)


def films_below(
    raw: Path, folder: str, suffixes: Iterable[str] | None, key: Callable[[Path], str] | None = None
) -> dict[str, str]:
    """Paths relative to `raw` of the films anywhere below `raw / folder`, by file name (or `key` of the path).

    Of two films of one key the first has it; the second gets a key of its own that no table has, so that `match_films`
    lists it.

    Args:
        suffixes: of film files, in small letters with the dot; other files (Thumbs.db, ._copies) do not count. None:
            all files.

    Raises:
        DataError: the folder is missing.
    """
    if not (raw / folder).is_dir():
        archive = next(
            (candidate for candidate in (raw / f"{folder}.zip", raw / f"{folder}.tgz") if candidate.is_file()), None
        )
        hint = f"unpack {archive}" if archive else f"it is part of the download; {raw} holds {_some_names(raw)}"
        raise DataError(f"{raw / folder}: the folder of films is missing: {hint}", "folder missing")
    films: dict[str, str] = {}
    for path in sorted((raw / folder).rglob("*")):
        is_film = path.is_file() if suffixes is None else path.suffix.lower() in suffixes
        if not is_film or path.name.startswith(".") or "__MACOSX" in path.parts:
            continue
        name = key(path) if key else path.name
        relative = str(path.relative_to(raw))
        films[f"{_SECOND}{name} beside {films[name]}: {relative}" if name in films else name] = relative
    return films


def _some_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())[:10] if folder.is_dir() else []


def match_films(
    entries: Iterable[tuple[str, str, Any]],
    films: Mapping[str, str],
    make_record: Callable[[Any, str], Record],
    listing: str,
) -> Iterator[Record | Skipped]:
    """The record of every entry; then the films that no entry names. Nothing is lost: what has no record is `Skipped`.

    Args:
        entries: (where in the table, key of the film, what `make_record` needs).
        films: path of a film by its key.
        make_record: record of an entry and its film's path; its `DataError` skips the entry.
        listing: name of the table for messages.
    """
    first_seen: dict[str, str] = {}
    for where, key, content in entries:
        if key in first_seen:
            yield Skipped(where, f"{key} is listed a second time, first in {first_seen[key]}", "film listed twice")
            continue
        first_seen[key] = where
        if key not in films:
            yield Skipped(where, f"the film of {key} is missing", "image file missing")
            continue
        try:
            yield make_record(content, films[key])
        except DataError as error:
            yield Skipped(where, f"{key}: {error}", error.kind)
    for key in sorted(set(films) - set(first_seen)):
        if is_second(key):
            yield Skipped(films[key], f"{key}: keep one of them", "film found twice")
        else:
            yield Skipped(films[key], f"{key} is not in {listing}", "film without a row")


def frame_of(raw: Path, path: str) -> tuple[int, int]:
    """(height, width) of an image file from its header alone, for shapes that come without the size of their frame.

    Raises:
        DataError: the file is not an image.
    """
    try:
        with Image.open(within(raw, path)) as image:
            return image.height, image.width
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path}: its size cannot be read ({error})", "not an image") from error
