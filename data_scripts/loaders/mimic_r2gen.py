"""R2Gen's selection of MIMIC-CXR-JPG: films with a findings section, for report generation.

Layout: `annotation.json` (passed on by R2Gen's authors to holders of the credentials) and the films at `images/p10/...`
or those of MIMIC-CXR-JPG: with `--mimic_dir`, the folder that holds its tables and `files/`, the films are taken from
there and the records get labels and views.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data_scripts.loaders import mimic_cxr_jpg
from data_scripts.reading.matching import match_films
from data_scripts.reading.r2gen import read_items
from data_scripts.reading.views import normalise_view
from data_scripts.schema import DataError, Label, Record, Skipped, Source, is_file, within

SOURCE = Source(
    name="mimic_r2gen",
    title="MIMIC-CXR in the selection of R2Gen",
    version="R2Gen, 2020",
    url="https://github.com/zhjohnchan/R2Gen",
    licence="PhysioNet Credentialed Health Data License 1.5.0: not to be passed on",
    access="credentialed",
    traps=(
        "Exposure: films and reports are those of MIMIC-CXR, in its official split: pretrain on the training "
        "list alone.",
        "The numbers of films are known from publications alone and are not checked.",
        "Items are films, not studies: the report of a study repeats for each of its films.",
        "The text is the findings section alone; published figures are of lower-case text without punctuation and "
        "numbering, so clean both sides alike before comparing.",
        "Reports must not be sent to services of third parties.",
    ),
    shares_films_with=("mimic_cxr_jpg",),
)


@dataclass
class Options:
    """Arguments of this loader."""

    mimic_dir: str | None = field(
        default=None, metadata={"help": "Folder of MIMIC-CXR-JPG below the raw folder, for films, labels and views."}
    )


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    labels, views = {}, {}
    if options.mimic_dir is not None:
        mimic = raw / options.mimic_dir
        labels, bad_rows = mimic_cxr_jpg.read_labels(mimic)
        yield from bad_rows
        _, metadata = mimic_cxr_jpg.read_mimic_table(mimic, mimic_cxr_jpg.METADATA, ("dicom_id", "ViewPosition"))
        views = dict(zip(metadata["dicom_id"], metadata["ViewPosition"], strict=True))
    folder = PurePosixPath(options.mimic_dir or "", "files" if options.mimic_dir is not None else "images")
    items, skipped = read_items(raw / "annotation.json")
    yield from skipped
    # Of the hundreds of thousands of films in the folder only these are asked for.
    films = {item["id"]: path for _, item in items if _is_below(raw, path := _film(item, folder))}
    entries = ((where, item["id"], item) for where, item in items)
    yield from match_films(entries, films, lambda item, path: _record(item, path, labels, views), "annotation.json")


def _film(item: dict, folder: PurePosixPath) -> str:
    return str(folder / item["image_path"][0])


def _is_below(raw: Path, path: str) -> bool:
    try:
        return is_file(within(raw, path))
    except DataError:
        return False


def _record(item: dict, path: str, labels: dict[str, list[Label]], views: dict[str, str]) -> Record:
    missing = [name for name in ("subject_id", "study_id") if not item.get(name)]
    if missing:
        raise DataError(f"the item has no {missing}, it has {sorted(item)}", "id missing")
    study = str(item["study_id"])
    return Record(
        record_id=f"{SOURCE.name}/{item['id']}",
        source=SOURCE.name,
        patient_id=str(item["subject_id"]),
        study_id=study,
        split=item["split"],
        image_path=path,
        findings=item["report"],
        labels=labels.get(study, []),
        view=normalise_view(views.get(item["id"])),
    )
