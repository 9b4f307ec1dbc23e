"""The synthetic corpus: films rendered by `data_scripts.synthetic`, no raw data needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from data_scripts.schema import Label, Record, Source
from data_scripts.synthetic import FINDINGS, SyntheticOptions, draw_film, make_case, write_report
from data_scripts.synthetic.findings import DEVICE_NAMES, WRONG_PLACEMENTS

SOURCE = Source(
    name="synthetic",
    title="Synthetic chest X-rays",
    version="1",
    url="-",
    licence="CC0-1.0",
    access="synthetic",
    traps=(
        "Drawn by a program, not taken of patients: nothing measured on it supports a clinical conclusion.",
        "Labels are what was rendered, so there is no reader disagreement and no uncertainty (-1).",
        "Some training films are spoilt on purpose (wrong reports, broken images, near-duplicates): see Record.flags.",
        '"No Finding" means no abnormal finding; lines and tubes may be there.',
        "Frontal views only.",
    ),
)
Options = SyntheticOptions


def read_records(raw: Path | None, options: SyntheticOptions) -> Iterator[Record]:
    """All records of the corpus in order; `raw` is ignored."""
    for index in range(options.num_records):
        yield make_record(index, options)


def make_record(index: int, options: SyntheticOptions) -> Record:
    """Record number `index`, made without the others; `IndexError` if it is outside the corpus."""
    case = make_case(index, options)
    findings, impression = write_report(case)
    present = {p.name for p in case.present}
    labels = [Label("No Finding", int(present <= DEVICE_NAMES))]
    labels += [Label(name, int(name in present)) for name in FINDINGS]
    if options.misplaced_tube_share:
        misplaced = {p.name for p in case.present if p.misplaced}
        labels += [Label(f"{name} Misplaced", int(name in misplaced)) for name in WRONG_PLACEMENTS]
    return Record(
        record_id=f"synthetic/{index:06d}",
        source=SOURCE.name,
        patient_id=case.patient_id,
        study_id=case.study_id,
        split=case.split,
        findings=findings,
        impression=impression,
        report_origin="simulated",
        labels=labels,
        flags=list(case.flags),
        view=case.view,
        sex=case.sex,
        age_years=float(case.age_years),
    )


def read_image(
    raw: Path | None, record: Record, options: SyntheticOptions
) -> tuple[Image.Image, dict[str, Image.Image]]:
    """The film of `record` and its masks by name, all of mode "L"; masks are 0 or 255. `raw` is ignored.

    `options` must be those the record was read with.
    """
    case = make_case(int(record.record_id.rsplit("/", 1)[1]), options)
    film, masks = draw_film(case, options.film_size)
    return Image.fromarray(film), {name: Image.fromarray(mask).convert("L") for name, mask in masks.items()}
