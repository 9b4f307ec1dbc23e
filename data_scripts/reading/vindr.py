"""What the two corpora of VinDr share: tables of image-level labels and of boxes, by reader, and films as DICOM.

Layout: `image_labels_{train,test}.csv` and `annotations_{train,test}.csv` in the raw folder or in its `annotations/`,
films in `train/` and `test/` as `<image_id>.dicom`.
Or VinBigData as Kaggle hands it out: `train.csv` with the boxes of every reader, and no labels of test films.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_scripts.films.dicom import read_header
from data_scripts.reading.ages import parse_age
from data_scripts.reading.labels import merge_readers, parse_label
from data_scripts.reading.loader_options import SynthesisedReports, ValidationSplit
from data_scripts.reading.matching import films_below, match_films
from data_scripts.reading.reports import synthesise_report
from data_scripts.reading.tables import read_table, require_columns, rows_of
from data_scripts.reading.views import normalise_sex
from data_scripts.schema import DataError, Label, Mask, Record, Skipped, within

NO_FINDING = "No Finding"
KAGGLE_TABLE = "train.csv"
_BOX = ("x_min", "y_min", "x_max", "y_max")
_HEADER = ("Rows", "Columns", "PatientSex", "PatientAge")


@dataclass
class Options(SynthesisedReports, ValidationSplit):
    """Arguments of a loader of VinDr."""


@dataclass(frozen=True)
class Corpus:
    """What tells the corpora of VinDr apart.

    Args:
        source: name of the corpus.
        labels: names of the labels by the columns of `image_labels`; two columns of one name are spellings of it.
        findings: names of boxed findings by their spelling in `annotations`; others keep the spelling.
        view: of all films.
        boxed: class names of Kaggle's table of boxes; () where Kaggle has none.
        dropped_negatives: so many absent findings, chosen at random, are left out of each synthesised report.
    """

    source: str
    labels: Mapping[str, str]
    findings: Mapping[str, str]
    view: str
    dropped_negatives: int = 0
    boxed: tuple[str, ...] = ()


def read_corpus(raw: Path, corpus: Corpus, options: Options) -> Iterator[Record | Skipped]:
    """Records of both official parts; a finding is present if any reader says so, and its mask unites all boxes."""
    kaggle = raw / KAGGLE_TABLE
    if corpus.boxed and kaggle.is_file() and not _table(raw, "image_labels_train.csv").is_file():
        boxes = _rows_by_image(kaggle, None)
        votes = {image: _votes_of_boxes(found, corpus) for image, found in boxes.items()}
        yield from _read_part(raw, corpus, options, "train", (KAGGLE_TABLE, votes), (KAGGLE_TABLE, boxes))
        for path in sorted((raw / "test").glob("*.dicom")):
            reason = "Kaggle gives no labels of test films; those of PhysioNet have them"
            yield Skipped(f"test/{path.name}", reason, "test film without labels", on_request=True)
        return
    for split in ("train", "test"):
        listing, box_listing = f"image_labels_{split}.csv", f"annotations_{split}.csv"
        rows = _rows_by_image(_table(raw, listing), corpus)
        boxes = _rows_by_image(_table(raw, box_listing), None)
        yield from _read_part(raw, corpus, options, split, (listing, rows), (box_listing, boxes))


def _votes_of_boxes(rows: list[dict[str, str]], corpus: Corpus) -> list[dict[str, str]]:
    """A row of labels for every reader, as PhysioNet's table has them, from the boxes that Kaggle gives.

    Findings without a box (class names that Kaggle does not use) are not judged.
    """
    votes: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["class_name"] not in corpus.boxed:
            raise DataError(f"{row['where']}: class {row['class_name']!r} is unknown, expected are {corpus.boxed}")
        own = dict.fromkeys(corpus.boxed, "0")
        reader = votes.setdefault(
            row["rad_id"], {**own, **{name: row[name] for name in ("image_id", "rad_id", "where")}}
        )
        reader[row["class_name"]] = "1"
    for reader in votes.values():
        others = (reader[name] for name in corpus.boxed if corpus.labels[name] != NO_FINDING)
        if "1" in others:
            reader.update({name: "0" for name in corpus.boxed if corpus.labels[name] == NO_FINDING})
    return list(votes.values())


def _read_part(
    raw: Path,
    corpus: Corpus,
    options: Options,
    split: str,
    labels: tuple[str, dict[str, list[dict[str, str]]]],
    box_rows: tuple[str, dict[str, list[dict[str, str]]]],
) -> Iterator[Record | Skipped]:
    """Records of a part; `labels` and `box_rows` are names of tables with their rows by image."""
    (listing, rows), (box_listing, boxes) = labels, box_rows
    films = films_below(raw, split, (".dicom", ".dcm"), lambda path: path.stem)

    def make(image: str, path: str) -> Record:
        part = options.split_training(image) if split == "train" else split
        return _record(raw, corpus, path, rows[image], boxes.get(image, []), part, options.report_seed)

    yield from match_films(((f"{listing} {image}", image, image) for image in rows), films, make, listing)
    for image in sorted(set(boxes) - set(rows)):
        yield Skipped(f"{box_listing} {image}", f"{image} has no row in {listing}", "box without a row")


def _table(raw: Path, name: str) -> Path:
    return next((path for path in (raw / "annotations" / name, raw / name) if path.is_file()), raw / name)


def _rows_by_image(path: Path, corpus: Corpus | None) -> dict[str, list[dict[str, str]]]:
    """Rows by image. The reader's column is called rad_id or rad_ID, and missing where readers found a consensus.

    Raises:
        DataError: the table or a column is missing: those of boxes, or of the labels of `corpus`.
    """
    table = read_table(path)
    table.columns = ["rad_id" if column.lower() == "rad_id" else column for column in table.columns]
    if corpus is None:
        votes = ("rad_id",) if path.name == KAGGLE_TABLE else ()
        require_columns(table, ("image_id", "class_name", *votes, *_BOX), path)
    else:
        found = {corpus.labels[column] for column in table.columns if column in corpus.labels}
        first_spellings = [column for column, name in corpus.labels.items() if name not in found]
        require_columns(table, ("image_id", *first_spellings), path)
    rows: dict[str, list[dict[str, str]]] = {}
    for number, row in rows_of(table):
        rows.setdefault(row["image_id"], []).append({**row, "where": f"{path.name} row {number}"})
    return rows


def _labels(rows: list[dict[str, str]], names: Mapping[str, str]) -> list[Label]:
    """Labels of an image from its readers' rows, or from the one row of their consensus.

    "No Finding" is what nobody contradicts: as the findings of all readers count, so it needs all of them.
    """
    readers = [row.get("rad_id", "") for row in rows]
    if len(set(readers)) < len(readers):
        raise DataError(f"readers {readers}: one of them has several rows", "reader listed twice")
    labels = []
    for column, name in names.items():
        if column not in rows[0]:
            continue
        votes = [_vote(row, column) for row in rows]
        if "rad_id" not in rows[0]:
            labels.append(Label(name, votes[0]))
        else:
            label = merge_readers(votes, name)
            labels.append(Label(name, min(votes), len(votes), sum(votes)) if name == NO_FINDING else label)
    return labels


def _vote(row: dict[str, str], column: str) -> int:
    try:
        return parse_label(row[column], "binary")
    except DataError as error:
        raise DataError(f"{row['where']} column {column!r}: {error}", error.kind) from error


def _masks(rows: list[dict[str, str]], names: Mapping[str, str], size: tuple[int, int]) -> dict[str, Mask]:
    """The boxes of all readers by finding; rows of "No finding" have none."""
    boxes: dict[str, list[list[float]]] = {}
    for row in rows:
        corners = [row[side].strip() for side in _BOX]
        if not any(corners):
            continue
        try:
            left, top, right, bottom = map(float, corners)
        except ValueError as error:
            raise DataError(f"{row['where']}: the box is {corners}", "box cannot be used") from error
        name = names.get(row["class_name"], row["class_name"])
        boxes.setdefault(name, []).append([left, top, right - left, bottom - top])
    return {name: Mask("boxes", found, size) for name, found in boxes.items()}


def _record(
    raw: Path,
    corpus: Corpus,
    path: str,
    rows: list[dict[str, str]],
    boxes: list[dict[str, str]],
    split: str,
    report_seed: int,
) -> Record:
    image = rows[0]["image_id"]
    record_id = f"{corpus.source}/{image}"
    labels = _labels(rows, corpus.labels)
    header = read_header(within(raw, path), _HEADER)
    if not (header["Rows"].isdigit() and header["Columns"].isdigit()):
        raise DataError(f"{path}: the DICOM header has no size", "DICOM damaged")
    size = int(header["Rows"]), int(header["Columns"])
    return Record(
        record_id=record_id,
        source=corpus.source,
        # Nothing tells which films are of one patient.
        patient_id=image,
        study_id=image,
        split=split,
        image_path=path,
        findings=synthesise_report(labels, record_id, report_seed, drop_negatives=corpus.dropped_negatives),
        report_origin="labels",
        labels=labels,
        masks=_masks(boxes, corpus.findings, size),
        view=corpus.view,
        sex=normalise_sex(header["PatientSex"]),
        age_years=parse_age(header["PatientAge"]),
    )
