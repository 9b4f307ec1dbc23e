"""covid-chestxray-dataset: films of COVID-19 and other pneumonias, collected from publications and case reports.

Layout (github.com/ieee8023/covid-chestxray-dataset): `metadata.csv` and films at `folder`/`filename`. `--mask_dir` is a
folder of lung outlines, files named as the film (or with "_mask" behind): `annotations/lungVAE-masks` of that project,
or outlines taken from github.com/v7labs/covid-19-xray-dataset; 127 in them is not judged (arrows, devices).

`finding` is a comma-separated list in copies of 2020, later a path such as `Pneumonia/Viral/COVID-19`, here and there a
phrase such as "Mycoplasma Bacterial Pneumonia"; all are read.
The text is `clinical_notes`: the history of a case, mostly one text for all its films.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from PIL import Image

from data_scripts.reading.ages import parse_age
from data_scripts.reading.matching import EvaluationSplit, match_films
from data_scripts.reading.tables import read_table, require_columns, rows_of
from data_scripts.reading.views import normalise_sex, normalise_view
from data_scripts.schema import DataError, Label, Mask, Record, Skipped, Source, is_file, within

SOURCE = Source(
    name="covid_chestxray",
    title="COVID-19 image data collection (covid-chestxray-dataset)",
    version="as cloned; the collection grew until 2021",
    url="https://github.com/ieee8023/covid-chestxray-dataset",
    licence="of each image (field licence): CC BY, CC BY-SA, CC BY-NC-SA and others, or not stated",
    access="open",
    traps=(
        "Exposure: COVIDx contains these films. None of our pretraining corpora does.",
        "The number of films depends on the copy and is not checked.",
        "Some films are listed again under another patient: the later row is left out.",
        "The text is about the case, not the film; films of one case share it (flag repeated_note).",
        "Findings `todo` and `Unknown` are no judgement: such films have no labels.",
        "A cause that is named rules out other causes, but 'Pneumonia' alone says nothing of the cause, and ARDS "
        "nothing of pneumonia: what is not judged has no label.",
        "Films are pictures of publications: JPEG, of 156 to 5,000 pixels, some with arrows or letters.",
        "Blank lung outlines (mostly of lateral films) mean that nobody drew any; they are left out (flag blank_mask).",
        "Lung outlines go behind the heart and diaphragm, unlike those of JSRT: Dice figures of both do not compare.",
        "Rows of other modalities (CT) are skipped.",
    ),
)
TEXT_OPTIONAL = True

COLUMNS = ("patientid", "sex", "age", "finding", "view", "modality", "folder", "filename", "license", "clinical_notes")
NOT_JUDGED = ("todo", "Unknown", "")
NORMAL, ARDS = "No Finding", "ARDS"
#: What each finding is a kind of, for copies that list findings without their path.
PARENTS = {
    **dict.fromkeys(("Viral", "Bacterial", "Fungal", "Lipoid", "Aspiration"), "Pneumonia"),
    **dict.fromkeys(("COVID-19", "SARS", "MERS-CoV", "Influenza", "Varicella", "Herpes", "H1N1"), "Viral"),
    **dict.fromkeys(
        (
            *("Streptococcus", "Klebsiella", "Legionella", "E.Coli", "Mycoplasma", "Chlamydophila", "Nocardia"),
            "Staphylococcus",
        ),
        "Bacterial",
    ),
    **dict.fromkeys(("Pneumocystis", "Aspergillosis"), "Fungal"),
    "MRSA": "Staphylococcus",
}
ROOTS = ("Pneumonia", "Tuberculosis", ARDS, NORMAL)
_KINDS_OF_PNEUMONIA = ("Viral", "Bacterial", "Fungal", "Lipoid", "Aspiration")


@dataclass
class Options(EvaluationSplit):
    """Arguments of this loader."""

    mask_dir: str | None = field(default=None, metadata={"help": "Folder of lung outlines, below the raw folder."})


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    path = raw / "metadata.csv"
    table = read_table(path)
    require_columns(table, COLUMNS, path)
    masks = _find_masks(raw, options.mask_dir)
    parents = _parents(set(table["finding"]))
    notes = Counter(row["clinical_notes"].strip() for _, row in rows_of(table))
    entries, films = [], {}
    for number, row in rows_of(table):
        where, film = f"{path.name} row {number}", f"{row['folder'] or 'images'}/{row['filename']}"
        if row["modality"] != "X-ray":
            yield Skipped(where, f"{film} is of modality {row['modality']!r}", "not a radiograph")
            continue
        entries.append((where, film, row))
        try:
            films |= {film: film} if is_file(within(raw, film)) else {}
        except DataError as error:
            entries.pop()
            yield Skipped(where, str(error), error.kind)

    def make_record(row: dict[str, str], film: str) -> Record:
        return _record(row, film, raw, masks, parents, notes, options)

    yield from match_films(entries, films, make_record, path.name)
    listed = {f"{row['folder'] or 'images'}/{row['filename']}" for _, row in rows_of(table)}
    yield from _unlisted(raw, listed, masks)


def _unlisted(raw: Path, listed: set[str], masks: dict[str, str]) -> Iterator[Skipped]:
    """Films in the folders of the table and outlines that no row names."""
    # A folder of a table's row may be anywhere; the row is skipped then.
    folders = {film.split("/")[0] for film in listed} - {"", ".", ".."}
    for folder in sorted(folders):
        for path in sorted((raw / folder).iterdir()) if (raw / folder).is_dir() else ():
            if path.is_file() and f"{folder}/{path.name}" not in listed:
                yield Skipped(f"{folder}/{path.name}", f"{path.name} is not in metadata.csv", "film without a row")
    for stem in sorted(set(masks) - {Path(film).stem for film in listed}):
        yield Skipped(masks[stem], f"the outline {masks[stem]} is of no film of metadata.csv", "mask without a film")


def _find_masks(raw: Path, mask_dir: str | None) -> dict[str, str]:
    """Paths of outlines below `raw` by the stem of their film."""
    if mask_dir is None:
        return {}
    folder = within(raw, mask_dir)
    if not folder.is_dir():
        raise DataError(f"--mask_dir {mask_dir}: there is no such folder below {raw}")
    return {path.stem.removesuffix("_mask"): f"{mask_dir}/{path.name}" for path in sorted(folder.iterdir())}


def _findings(text: str) -> list[list[str]]:
    """Every finding as its path: "COVID-19, ARDS" has two of one part, "Pneumonia/Viral" one of two."""
    paths = [[part.strip() for part in finding.split("/")] for finding in text.split(",")]
    return [[*path[:-1], *_in_one_phrase(path[-1])] for path in paths if path[-1] not in NOT_JUDGED]


def _in_one_phrase(finding: str) -> list[str]:
    """A finding such as "Mycoplasma Bacterial Pneumonia" as its path from the kind down; others alone, as written."""
    names = {name.lower(): name for name in (*PARENTS, *ROOTS)}
    words = finding.lower().split()
    if not words or words[-1] != "pneumonia" or finding in names.values():
        return [names.get(finding.lower(), finding)]
    kind = next((candidate for candidate in _KINDS_OF_PNEUMONIA if candidate.lower() in words[-2:-1]), None)
    cause = names.get(" ".join(words[: -2 if kind else -1]))
    path = [name for name in ("Pneumonia", kind, cause) if name]
    known = len(words) == 1 + bool(kind) or (
        cause is not None and (kind is None or kind in _with_parents(cause, PARENTS))
    )
    # What contradicts itself, or is unknown, stays as it is and is refused by name.
    return path[-1:] if known else [finding]


def _parents(texts: set[str]) -> dict[str, str]:
    """What each finding of this copy is a kind of: by its own paths, else by `PARENTS`."""
    parents = dict(PARENTS)
    for text in texts:
        for path in _findings(text):
            parents |= {child: parent for parent, child in pairwise(path)}
    return parents


def _with_parents(name: str, parents: dict[str, str]) -> list[str]:
    chain = [name]
    while chain[-1] in parents:
        chain.append(parents[chain[-1]])
    return chain


def _labels(text: str, parents: dict[str, str]) -> list[Label]:
    """What the finding says of every known finding; what it does not judge is left out.

    Raises:
        DataError: a finding is unknown and no path says what it is a kind of.
    """
    named = {finding for path in _findings(text) for finding in _with_parents(path[-1], parents)}
    unknown = named - set(parents) - set(ROOTS)
    if unknown:
        raise DataError(f"unknown finding {sorted(unknown)}, expected some of {sorted(parents)}", "unknown finding")

    def value(name: str) -> int | None:
        if name in named:
            return 1
        if not named:
            return None
        if name == NORMAL or NORMAL in named:
            return 0
        if name == ARDS:
            return None
        parent = parents.get(name)
        if parent is not None and parent not in named:
            return value(parent)
        # Its parent is present, or it has none: ruled out by another of the same parent.
        return 0 if any(parents.get(finding) == parent and finding != ARDS for finding in named) else None

    values = {name: value(name) for name in (*ROOTS, *parents)}
    return [Label(_label_name(name), found) for name, found in values.items() if found is not None]


def _label_name(finding: str) -> str:
    return f"{finding} Pneumonia" if finding in _KINDS_OF_PNEUMONIA else finding


def _masks(film: str, raw: Path, masks: dict[str, str]) -> tuple[dict[str, Mask], list[str]]:
    """The lung outline of a film where there is one, and flags."""
    path = masks.get(Path(film).stem)
    if path is None:
        return {}, []
    try:
        with Image.open(within(raw, path)) as mask:
            blank = mask.convert("L").getextrema() == (0, 0)
    except OSError as error:
        raise DataError(f"{path}: damaged mask ({error})", "mask damaged") from error
    return ({}, ["blank_mask"]) if blank else ({"lungs": Mask("file_ignore127", path)}, [])


def _record(row, film: str, raw: Path, masks: dict, parents: dict, notes: Counter, options: Options) -> Record:
    patient, note = row["patientid"].strip(), row["clinical_notes"].strip()
    outlines, flags = _masks(film, raw, masks)
    return Record(
        record_id=f"{SOURCE.name}/{Path(film).name}",
        source=SOURCE.name,
        patient_id=patient,
        # Days since the first symptom tell the studies of a patient apart; where they are unknown, the film does.
        study_id=f"{patient}-{row.get('offset', '').strip() or Path(film).stem}",
        split=options.split(patient),
        image_path=film,
        findings=note,
        report_origin="note",
        labels=_labels(row["finding"], parents),
        masks=outlines,
        flags=flags + (["repeated_note"] if note and notes[note] > 1 else []),
        view="UNKNOWN" if row["view"].strip() == "?" else normalise_view(row["view"]),
        sex=normalise_sex(row["sex"]),
        age_years=parse_age(row["age"]),
        licence=row["license"].strip() or "not stated",
    )
