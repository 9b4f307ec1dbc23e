"""The films of a folder with what belongs to them: headers, reports, accession numbers, owners."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from data_scripts.own_files.films import Film, Headers, digest_of, normal_path, without_suffix
from data_scripts.own_files.ids import Names, Owner, Owners
from data_scripts.own_files.options import Options
from data_scripts.own_files.report_files import Accessions, ReportFiles


class Row(NamedTuple):
    """A row of the table (or a film without a row): its place, the named columns, its films."""

    where: str
    values: dict[str, str]
    films: list[str]


class Corpus:
    """The films with headers, reports, accession numbers, and whose they are."""

    def __init__(self, raw: Path, films: list[str], options: Options):
        self.raw, self.films, self.options = raw, films, options
        self.headers = Headers(raw, options.dicom_age_sex)
        needs_accessions = options.reports is not None or options.match_column is not None
        self.accessions = Accessions(self.headers.known(films) if needs_accessions else ())
        keys = [key_of(film, options) for film in films]
        self.reports = (
            ReportFiles(raw, options.reports, keys, self.accessions, options.encoding) if options.reports else None
        )
        self.names = Names(options.hash_ids, digest_of(raw, films))

    def settle(self, rows: Iterable[Row]) -> None:
        """Look at the ids of all films before the first is given."""
        pairs = ((film, row.values) for row in rows for path in row.films for film in self.headers.known([path]))
        self.owners = Owners((owner_of(*pair, self.options) for pair in pairs), self.options.keep_patient_ids)
        self.options.notes += self.owners.notes


def key_of(path: str, options: Options) -> str:
    """The path below the folder of images, without suffix."""
    return without_suffix(str(Path(path).relative_to(normal_path(options.image_root))))


def owner_of(film: Film, values: dict[str, str], options: Options) -> Owner:
    """Patient and study from the table, else the pattern (patients), else the header; "" where nothing tells them.

    Without a study's UID its accession number tells it.
    """
    patient, patient_in_header = values.get("patient", ""), False
    if not patient and options.patient_pattern:
        found = re.search(options.patient_pattern, film.path)
        patient = found[1] if found and found[1] else ""
    elif not patient and film.get("PatientID"):
        patient, patient_in_header = film.get("PatientID"), True
    if values.get("study"):
        return Owner(patient, values["study"], patient_in_header, False)
    return Owner(patient, film.get("StudyInstanceUID") or film.get("AccessionNumber"), patient_in_header, True)
