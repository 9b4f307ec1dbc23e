"""Splits of one's own choice: by files that list the films, as studies publish them, or sampled to numbers of films.

A list has one film a line: its path, and behind it the labels that the study gives it, if any (`00000001_000.png 0 1`).
Films are known by the last parts of their paths, without the suffix, as downloads are unpacked and converted in many
ways: by as few parts as tell all films apart, three at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_scripts.schema import SPLITS, DataError, Record, Skipped

#: Parts of a path that are looked at; CheXpert needs patient, study and view.
_MOST_PARTS = 3
#: Of films, as they are downloaded or converted; an id may have a point, too.
_SUFFIX = re.compile(r"\.(png|jpe?g|dcm|dicom|tiff?|bmp)$", re.IGNORECASE)
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True)
class ListedFilm:
    """A line of a list: the path, its list and line for messages, the split that the list is of, and the numbers behind
    the path.
    """

    path: str
    where: str
    split: str = ""
    values: tuple[str, ...] = ()


def read_film_list(file: Path, split: str = "") -> list[ListedFilm]:
    """The lines of a list, blank ones left out.

    Raises:
        DataError: there is no such file, or it lists no film.
    """
    if not file.is_file():
        raise DataError(f"{file}: there is no such list of films")
    listed = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), start=1):
        path, values = line.strip(), []
        while len(cut := path.rsplit(maxsplit=1)) == 2 and _NUMBER.fullmatch(cut[1]):
            path, values = cut[0], [cut[1], *values]
        if path:
            listed.append(ListedFilm(path, f"{file.name} line {number}", split, tuple(values)))
    if not listed:
        raise DataError(f"{file}: lists no film; a line is the path of a film")
    return listed


def by_last_parts(listed: Sequence[ListedFilm], paths: Sequence[str]) -> tuple[dict[str, ListedFilm], list[str]]:
    """Listed films by what they are known by, and what each of `paths` is known by.

    Raises:
        DataError: a film is listed twice; both lines are named.
    """
    groups = [[film.path for film in listed], paths]
    full = [len({_last_parts(path, _MOST_PARTS) for path in group}) for group in groups]
    parts = next(
        count
        for count in range(1, _MOST_PARTS + 1)
        if [len({_last_parts(path, count) for path in group}) for group in groups] == full
    )
    known: dict[str, ListedFilm] = {}
    for film in listed:
        first = known.setdefault(_last_parts(film.path, parts), film)
        if first is not film:
            raise DataError(
                f"{first.where} and {film.where} list the same film, {first.path} and {film.path}: a film is of one "
                "split and counts once, so strike one of the lines"
            )
    return known, [_last_parts(path, parts) for path in paths]


def _last_parts(path: str, count: int) -> str:
    return "/".join(_SUFFIX.sub("", path).replace("\\", "/").strip("/").split("/")[-count:])


def parse_lists(given: Iterable[str]) -> dict[str, Path]:
    """Files by split, of words as "train=FILE". Raises DataError for other words, splits and a split given twice."""
    return {split: Path(file) for split, file in _by_split("split_lists", given, SPLITS, "train=FILE").items()}


def parse_counts(given: Iterable[str]) -> dict[str, int]:
    """Films by split, of words as "test=3000". Raises DataError for other words, splits and a split given twice."""
    counts = {}
    for split, number in _by_split("split_counts", given, ("validation", "test"), "test=3000").items():
        if not number.isdecimal() or int(number) == 0:
            raise DataError(f"split_counts: {split}={number} is no number of films: give {split}=3000 or so")
        counts[split] = int(number)
    return counts


def _by_split(argument: str, given: Iterable[str], splits: Sequence[str], example: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for word in given:
        split, _, value = word.partition("=")
        if split not in splits or not value or split in values:
            raise DataError(f"{argument}: {word!r} is not {example} or so, each split ({', '.join(splits)}) once")
        values[split] = value
    return values


def assign_listed(outcomes: Iterable[Record | Skipped], lists: Mapping[str, Path]) -> Iterator[Record | Skipped]:
    """The records that a list names, with its split; `Skipped` are the films that none names, and lines without a film.

    Args:
        outcomes: of a loader; they are held in memory.
        lists: the file of each split.

    Raises:
        DataError: a film is in two lists, or of one list's film there are two, a patient is in two splits (both films
            are named), or no line means a film of the data.
    """
    outcomes = list(outcomes)
    records = [outcome for outcome in outcomes if isinstance(outcome, Record)]
    listed = [film for split, file in lists.items() for film in read_film_list(file, split)]
    known, names = by_last_parts(listed, [record.image_path or record.record_id for record in records])
    found: dict[str, Record] = {}
    patients: dict[str, ListedFilm] = {}
    for name, record in zip(names, records, strict=True):
        if name not in known:
            continue
        if name in found:
            raise DataError(
                f"{known[name].where}: {known[name].path} may mean {found[name].image_path} or {record.image_path}: "
                "keep one of them in the raw folder"
            )
        found[name] = record
        film = known[name]
        first = patients.setdefault(record.patient_id, film)
        if first.split != film.split:
            raise DataError(
                f"patient {record.patient_id}: {first.where} ({first.path}) is of split {first.split}, {film.where} "
                f"({film.path}) of split {film.split}: a patient belongs to one split, mend the lists"
            )
    if not found:
        example = f", such as {records[0].image_path or records[0].record_id}" if records else ""
        raise DataError(
            f"none of the {len(listed):,} lines of the lists, such as {listed[0].path}, is the path of one of the "
            f"{len(records):,} films{example}: are they lists of this corpus?"
        )
    splits = {id(record): known[name].split for name, record in found.items()}
    for outcome in outcomes:
        if isinstance(outcome, Record) and id(outcome) not in splits:
            yield Skipped(outcome.record_id, "no list names it", "film in no list of a split", on_request=True)
            continue
        if isinstance(outcome, Record):
            outcome.split = splits[id(outcome)]
        yield outcome
    for name, film in known.items():
        if name not in found:
            reason = f"{film.path} is none of the films that can be used"
            yield Skipped(film.where, reason, "line of a list without a film", on_request=True)


def assign_counts(
    outcomes: Iterable[Record | Skipped], counts: Mapping[str, int], seed: int
) -> Iterator[Record | Skipped]:
    """The records with splits sampled by patient: as many films of a split as whole patients give, at most its count.

    Patients are taken in a random order, and one with more films than are wanted still is passed over; the others are
    for training. Where no test films are sampled, those of the corpus stay.

    Args:
        outcomes: of a loader; they are held in memory.
        counts: of "test", "validation" or both.

    Raises:
        DataError: nothing would be left for training.
    """
    outcomes = list(outcomes)
    kept = set() if "test" in counts else {"test"}
    sampled = [outcome for outcome in outcomes if isinstance(outcome, Record) and outcome.split not in kept]
    patients, films = np.unique([record.patient_id for record in sampled], return_counts=True)
    wanted, splits = dict(counts), dict.fromkeys(patients.tolist(), "train")
    for number in np.random.default_rng(seed).permutation(len(patients)):
        split = next((split for split, missing in wanted.items() if films[number] <= missing), None)
        if split is not None:
            splits[patients[number].item()] = split
            wanted[split] -= int(films[number])
    if "train" not in splits.values():
        raise DataError(
            f"split_counts {dict(counts)} leave none of the {len(sampled):,} films for training: lower them"
        )
    for record in sampled:
        record.split = splits[record.patient_id]
    yield from outcomes
