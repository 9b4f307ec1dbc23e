"""R2Gen's split of Open-I (IU X-ray): 2,955 reports with two films each, for report generation.

Layout (the archive `iu_xray` of github.com/zhjohnchan/R2Gen): `annotation.json` and `images/CXR2384_IM-0942/0.png`,
`1.png`. With `--open_i`, the folder that holds Open-I's `ecgen-radiology/`, the records get labels from its MeSH
headings. A report makes one record for each of its films.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data_scripts.loaders import open_i
from data_scripts.reading.matching import films_below, match_films
from data_scripts.reading.r2gen import read_items
from data_scripts.schema import DataError, Record, Skipped, Source

SOURCE = Source(
    name="iu_r2gen",
    title="IU X-ray in the split of R2Gen",
    version="R2Gen, 2020",
    url="https://github.com/zhjohnchan/R2Gen",
    licence="CC BY-NC-ND 4.0",
    access="open",
    # Two films of each report.
    expected={"train": 4_138, "validation": 592, "test": 1_180},
    traps=(
        "Exposure: all of it is part of Open-I. A model pretrained on the whole of Open-I has seen the test reports.",
        "The text is the findings section alone, as written; published figures are of lower-case text without "
        "punctuation and numbering, so clean both sides alike before comparing.",
        "Only reports with findings and at least two films are in it, and only two films of each.",
        "Many reports have equal texts, across the splits, too.",
        "One film of a pair is mostly lateral; the file does not say which.",
        "The licence forbids passing on modified copies: keep the prepared dataset private.",
    ),
    shares_films_with=("open_i",),
)


@dataclass
class Options:
    """Arguments of this loader."""

    open_i: str | None = field(
        default=None, metadata={"help": "Folder of Open-I's ecgen-radiology/ (below the raw folder or an own path)."}
    )


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    films = films_below(raw, "images", (".png",), key=lambda path: f"{path.parent.name}/{path.name}")
    reports = {}
    if options.open_i is not None:
        found = open_i.read_reports(raw / options.open_i)
        # A broken report matters only where an item needs it.
        reports = {report.uid: report for report in found if isinstance(report, open_i.Report)}
    items, skipped = read_items(raw / "annotation.json")
    yield from skipped
    entries = ((where, film, item) for where, item in items for film in item["image_path"])
    yield from match_films(
        entries, films, lambda item, path: _record(item, path, reports if options.open_i else None), "annotation.json"
    )


def _record(item: dict, path: str, reports: dict[str, open_i.Report] | None) -> Record:
    report = item["id"].split("_")[0]
    if reports is not None and report not in reports:
        raise DataError(f"Open-I's report {report} is missing or broken", "report file missing")
    return Record(
        record_id=f"{SOURCE.name}/{item['id']}-{PurePosixPath(path).stem}",
        source=SOURCE.name,
        # The reports do not tell patients.
        patient_id=report,
        study_id=report,
        split=item["split"],
        image_path=path,
        findings=item["report"],
        labels=reports[report].labels if reports is not None else [],
    )
