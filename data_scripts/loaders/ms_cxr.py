"""MS-CXR: 1,162 pairs of a phrase and its boxes on films of MIMIC-CXR, for phrase grounding.

Layout: a raw folder that holds both downloads, the table `MS_CXR_Local_Alignment_v1.1.0.csv` (or v1.0.0) anywhere below
it, or named by `--table`, and the films of MIMIC-CXR-JPG below `--mimic_dir` (the folder that holds `files/`).

One record is one phrase on one film: the phrase is its text, the boxes (a row each) its mask, named after the finding.
A film with three phrases makes three records.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data_scripts.reading.tables import read_table, require_columns, rows_of
from data_scripts.schema import DataError, Label, Mask, Record, Skipped, Source, within

SOURCE = Source(
    name="ms_cxr",
    title="MS-CXR: phrase grounding on MIMIC-CXR",
    version="1.1.0 (1.0.0 is read, too)",
    url="https://physionet.org/content/ms-cxr/",
    licence="PhysioNet Credentialed Health Data License 1.5.0: not to be passed on",
    access="credentialed",
    # Version 1.0.0 has no splits; the sum is the same.
    expected={"test": 1_162},
    traps=(
        "Exposure: all films are of MIMIC-CXR, of any of its splits. The `split` column here is not that of MIMIC: "
        "leave these 1,047 films' patients out of pretraining, or say that they were seen.",
        "Pairs are counted, not films: 1,162 pairs on 1,047 films with 1,448 boxes.",
        "Boxes are in pixels of the original JPGs, not of resized copies.",
        "A finding that is not listed for a film is not judged; it need not be absent.",
        "Reports of MIMIC-CXR must not be sent to services of third parties; the phrases are parts of them.",
    ),
    shares_films_with=("mimic_cxr_jpg", "mimic_r2gen"),
)
TEXT_OPTIONAL = True

TABLES = ("MS_CXR_Local_Alignment_v1.1.0.csv", "MS_CXR_Local_Alignment_v1.0.0.csv")
COLUMNS = ("dicom_id", "category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height")
FINDINGS = (
    "Cardiomegaly",
    "Lung Opacity",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
)
_SPLITS = {"train": "train", "val": "validation", "valid": "validation", "validate": "validation", "test": "test"}


@dataclass
class Options:
    """Arguments of this loader."""

    table: str | None = field(
        default=None, metadata={"help": "The table, below the raw folder; default: looked for by its official name."}
    )
    mimic_dir: str = field(
        default=".", metadata={"help": "Folder of MIMIC-CXR-JPG that holds files/, below the raw folder."}
    )


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    path = raw / options.table if options.table else _find_table(raw)
    table = read_table(path)
    require_columns(table, COLUMNS, path)
    phrases: dict[tuple[str, str], list[tuple[str, dict]]] = defaultdict(list)
    for number, row in rows_of(table):
        phrases[row["dicom_id"], row["label_text"]].append((f"{path.name} row {number}", row))
    count_of_film: Counter[str] = Counter()
    for (film, _), found in phrases.items():
        count_of_film[film] += 1
        where, rows = found[0][0], [row for _, row in found]
        try:
            yield _record(rows, count_of_film[film], raw, options)
        except DataError as error:
            yield Skipped(where, str(error), error.kind)


def _find_table(raw: Path) -> Path:
    """The newest of the official tables in the raw folder or up to two folders deeper (PROJECT/VERSION/)."""
    for name in TABLES:
        for pattern in (name, f"*/{name}", f"*/*/{name}"):
            if found := sorted(raw.glob(pattern)):
                return found[0]
    raise DataError(f"{raw}: the table is missing, expected {' or '.join(TABLES)}")


def _record(rows: list[dict[str, str]], number: int, raw: Path, options: Options) -> Record:
    """The `number`-th phrase of its film; `rows` are its boxes."""
    first = rows[0]
    film = str(PurePosixPath(options.mimic_dir) / first["path"])
    if not within(raw, film).is_file():
        raise DataError(
            f"{film} is missing below {raw}: is --mimic_dir the folder that holds files/?", "image file missing"
        )
    names = {row["category_name"] for row in rows}
    if not names <= set(FINDINGS):
        raise DataError(f"unknown finding {sorted(names)}, expected some of {FINDINGS}", "unknown finding")
    try:
        frame = (int(first["image_height"]), int(first["image_width"]))
        boxes = {
            name: [[float(row[side]) for side in ("x", "y", "w", "h")] for row in rows if row["category_name"] == name]
            for name in FINDINGS
            if name in names
        }
    except ValueError as error:
        raise DataError(f"a box or image size is not a number ({error})", "box malformed") from error
    # files/p10/p10000032/s50414267/<dicom_id>.jpg
    patient, study = PurePosixPath(first["path"]).parts[-3:-1]
    split = (first.get("split") or "test").strip().lower()
    if split not in _SPLITS:
        raise DataError(f"split is {split!r}, expected one of {sorted(_SPLITS)}", "unknown split")
    return Record(
        record_id=f"{SOURCE.name}/{first['dicom_id']}-{number}",
        source=SOURCE.name,
        patient_id=patient.removeprefix("p"),
        study_id=study.removeprefix("s"),
        split=_SPLITS[split],
        image_path=film,
        findings=first["label_text"],
        labels=[Label(name, 1) for name in boxes],
        masks={name: Mask("boxes", corners, size=frame) for name, corners in boxes.items()},
    )
