"""BIMCV-COVID19+ (and its negative sister set BIMCV-COVID19-): some 56,000 films of the Valencia region with Spanish
reports, most of patients tested for COVID-19.

Layout: `sub-S.../ses-E.../mod-rx/sub-S..._ses-E..._run-1_bp-chest_vp-ap_cr.png` with a sidecar `.json` (the DICOM
header) beside each film, and `derivatives/labels/labels_covid19_posi.tsv` (`labels_SARS-cov-2_nega.tsv`); both anywhere
below the raw folder. CT volumes are not read. Translations (`--translations`) are found by the column `ReportID`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from data_scripts.films import files
from data_scripts.films.files import open_image
from data_scripts.reading.ages import parse_age
from data_scripts.reading.bimcv import clean, common_labels, finding_labels, flags, parse_cuis, parse_list, tells_absent
from data_scripts.reading.loader_options import PatientSplit
from data_scripts.reading.matching import films_below, is_second
from data_scripts.reading.tables import read_table, require_columns, rows_of
from data_scripts.reading.translations import Translations, report_fields
from data_scripts.reading.views import normalise_sex, normalise_view
from data_scripts.schema import DataError, Label, Record, Skipped, Source, within

SOURCE = Source(
    name="bimcv_covid19",
    title="BIMCV-COVID19",
    version="iterations 1 to 3",
    url="https://bimcv.cipf.es/bimcv-projects/bimcv-covid19/",
    licence="BIMCV research use agreement; no redistribution and no derivatives",
    access="registration",
    # No expected number: it depends on the iteration (3,296 films in the first, some 56,000 in all).
    traps=(
        "The PNGs hold the detector's values: they are windowed here, and inverted where the sidecar says "
        "MONOCHROME1. A film without a sidecar is skipped, since its polarity is unknown.",
        "The view in the file name is not reliable: the publishers list laterals called frontal.",
        "The label COVID-19 is what the report says (UMLS C5203670 present, C5203671 uncertain), not the PCR test.",
        "A finding that is not listed was not mentioned: common findings then count as absent, but not beside "
        "`unchanged`, which leaves out what an earlier report told. A list without findings and `normal` gives none.",
        "Sessions may have several films and one report, or a CT alone: such sessions are listed as skipped.",
        "Some films are burned in, cropped or of another body part.",
        "No number of films is expected: the iterations differ and grew.",
    ),
)

COLUMNS = ("PatientID", "ReportID", "Report", "Labels", "LabelCUIS")
COVID, COVID_CONCEPT, UNCERTAIN_CONCEPT = "COVID-19", "C5203670", "C5203671"
_NAME = re.compile(
    r"(?P<patient>sub-[^_]+)_(?P<session>ses-[^_]+)_(?:(?!vp-)[^_]+_)*(?:vp-(?P<view>[a-z]+)_)?(?:cr|dx)\.png"
)
#: Tags of the sidecars by the DICOM keyword.
PHOTOMETRIC, AGE, SEX, VIEW = "00280004", "00101010", "00100040", "00185101"
#: Group of the tags that say how stored values are shown.
_DISPLAY_GROUP = "0028"


@dataclass
class Options(Translations, PatientSplit):
    """Arguments of this loader."""

    absent_min_count: int = field(
        default=100,
        metadata={"help": "Labels listed for so many sessions at least count as absent where they are not listed."},
    )


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    translations = options.read(raw, "ReportID")
    sessions, repeated = _read_sessions(raw)
    yield from repeated
    common = common_labels((row["Labels"] for row in sessions.values()), options.absent_min_count)
    common = [name for name in common if not _is_covid(name)]
    seen = set()
    for name, path in films_below(raw, ".", (".png",)).items():
        if is_second(name):
            yield Skipped(path, f"{name}: keep one of them", "film found twice")
            continue
        match = _NAME.fullmatch(name)
        key = (match["patient"], match["session"]) if match else None
        if key not in sessions:
            reason = "its session has no row in the label tables" if match else "its name is not sub-..._ses-..._cr.png"
            yield Skipped(path, f"{path}: {reason}", "session without a report" if match else "name not understood")
            continue
        seen.add(key)
        try:
            yield _record(raw, path, match, sessions[key], common, translations, options)
        except DataError as error:
            yield Skipped(path, str(error), error.kind)
    for patient, session in sorted(set(sessions) - seen):
        yield Skipped(
            f"{patient} {session}", f"no film of {patient} {session} is below {raw}", "session without a film"
        )


def _read_sessions(raw: Path) -> tuple[dict[tuple[str, str], dict[str, str]], list[Skipped]]:
    """Rows of all label tables by patient and session, and the rows that repeat a session.

    Raises:
        DataError: there is no table, or a column is missing.
    """
    paths = sorted(raw.rglob("derivatives/labels/labels_*.tsv"))
    if not paths:
        raise DataError(f"{raw}: no label table, expected derivatives/labels/labels_covid19_posi.tsv below it")
    sessions, repeated = {}, []
    for path in paths:
        table = read_table(path)
        require_columns(table, COLUMNS, path)
        for number, row in rows_of(table):
            key = row["PatientID"], row["ReportID"]
            if key in sessions:
                where = f"{path.name} row {number}"
                repeated.append(Skipped(where, f"{' '.join(key)} has an earlier row", "session listed twice"))
            else:
                sessions[key] = row
    return sessions, repeated


def _is_covid(name: str) -> bool:
    """Whether the name stands for what the concepts say better."""
    return name.lower().replace("-", " ").startswith("covid 19")


def _labels(row: dict[str, str], listed: list[str] | None, common: list[str]) -> list[Label]:
    if listed is None:
        return []
    concepts = parse_cuis(row["LabelCUIS"])
    covid = 1 if COVID_CONCEPT in concepts else -1 if UNCERTAIN_CONCEPT in concepts else 0
    labels = [label for label in finding_labels(listed, common) if not _is_covid(label.name)]
    if covid:
        labels = [label for label in labels if label.name != "No Finding"] + [Label("No Finding", 0)]
    return [Label(COVID, covid), *labels] if covid or tells_absent(listed) else labels


def _read_sidecar(path: Path) -> dict[str, dict]:
    """The DICOM JSON beside a film.

    Raises:
        DataError: it is missing or damaged, or does not tell the polarity.
    """
    if not path.is_file():
        raise DataError(f"{path}: the sidecar is missing, so that the film's polarity is unknown", "sidecar missing")
    try:
        header = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except ValueError as error:
        raise DataError(f"{path}: damaged JSON ({error})", "sidecar damaged") from error
    if not isinstance(header, dict) or not _value(header, PHOTOMETRIC):
        raise DataError(f"{path}: no photometric interpretation ({PHOTOMETRIC})", "sidecar damaged")
    return header


def _value(header: dict[str, dict], tag: str) -> str:
    """The first value of a tag as text, "" where it has none."""
    element = header.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return str(values[0]) if isinstance(values, list) and values and values[0] is not None else ""


def _record(raw, path: str, match: re.Match, row: dict[str, str], common, translations, options: Options) -> Record:
    header = _read_sidecar(within(raw, path).with_suffix(".json"))
    listed = parse_list(row["Labels"])
    return Record(
        record_id=f"{SOURCE.name}/{Path(path).stem}",
        source=SOURCE.name,
        patient_id=match["patient"],
        study_id=match["session"],
        split=options.split(match["patient"]),
        image_path=path,
        labels=_labels(row, listed, common),
        flags=flags(listed),
        view=normalise_view(match["view"] or _value(header, VIEW)),
        sex=normalise_sex(_value(header, SEX)),
        age_years=parse_age(_value(header, AGE)),
        **report_fields(clean(row["Report"]), "es", row["ReportID"], translations, options.translation_language),
    )


def read_image(raw: Path, record: Record, options: Options) -> tuple[Image.Image, dict]:
    """The film as its header says that it is shown (window or VOI LUT, polarity), mode "L"; no masks.

    Raises:
        DataError: the film or its sidecar cannot be read.
    """
    path = within(raw, record.image_path)
    stored = np.asarray(open_image(path))
    if stored.ndim != 2:
        raise DataError(f"{path}: grey values of a detector are expected, the file has colour", "image has colour")
    header = _read_sidecar(path.with_suffix(".json"))
    display = {tag: element for tag, element in header.items() if tag.startswith(_DISPLAY_GROUP)}
    try:
        dataset = files.require_pydicom(path).Dataset.from_json(display)
        dataset.BitsStored = dataset.get("BitsStored") or 8 * stored.itemsize
        dataset.PixelRepresentation = dataset.get("PixelRepresentation") or 0
        return Image.fromarray(files.to_display(path, dataset, stored)), {}
    except DataError:
        raise
    except Exception as error:
        # pydicom raises whatever its parsing runs into.
        raise DataError(
            f"{path}: its sidecar cannot be applied ({type(error).__name__}: {error})", "sidecar damaged"
        ) from error
