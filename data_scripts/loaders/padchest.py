"""PadChest: 160,861 films of 67,000 patients of San Juan Hospital (Spain) with Spanish reports and 193 labels.

Layout: `PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv` (or `.csv.gz`), and the films anywhere below the raw
folder: `0/` ... `54/` as the archives unpack, or all in `images/`. Translations (`--translations`) are found by the
column `ImageID`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from data_scripts.films.images import open_image
from data_scripts.reading.ages import age_between
from data_scripts.reading.bimcv import clean, common_labels, finding_labels, flags, invert_grey, parse_list
from data_scripts.reading.loader_options import PatientSplit
from data_scripts.reading.matching import films_below, match_films
from data_scripts.reading.tables import read_table, require_columns, rows_of
from data_scripts.reading.translations import Translations, report_fields
from data_scripts.reading.views import normalise_sex, normalise_view
from data_scripts.schema import Record, Skipped, Source, within

SOURCE = Source(
    name="padchest",
    title="PadChest",
    version="160K, 01.02.19",
    url="https://bimcv.cipf.es/bimcv-projects/padchest/",
    licence="BIMCV research use agreement; no redistribution",
    access="registration",
    # There is no official split.
    expected={"train": 160_861},
    traps=(
        "The reports are Spanish, and were stemmed, lower-cased and stripped of accents before release; English text "
        "comes from translations made elsewhere, which --translations takes.",
        "About a quarter of the label lists are by physicians, the rest by a network that read the reports "
        "(column MethodLabel).",
        "A finding that is not listed was not mentioned: common findings then count as absent, but not beside "
        "`unchanged`, which leaves out what an earlier report told. A list without findings and `normal` gives none.",
        "Films of studies labelled `exclude` or `suboptimal study` are kept and flagged.",
        "Films of header polarity MONOCHROME1 carry the flag `monochrome1`. torchxrayvision does not invert them, and "
        "neither is done here by default: look at some before training on them (--invert_monochrome1).",
        "21 films are missing from the archives or damaged; they are skipped by name, which takes --skip_bad.",
        "Films are 16-bit; opening them as 8-bit clips instead of scaling.",
        "There are children (column Pediatric).",
    ),
)

TABLES = tuple(f"PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv{end}" for end in ("", ".gz"))
COLUMNS = (
    *("ImageID", "StudyID", "PatientID", "Projection", "Report", "Labels", "StudyDate_DICOM", "PatientBirth"),
    *("PatientSex_DICOM", "PhotometricInterpretation_DICOM"),
)
#: Missing from the archives, broken or truncated, as torchxrayvision's PC_Dataset found; their common begin and end
#: are left out.
_BAD_BEGIN, _BAD_END = "216840111366964", ".png"
KNOWN_BAD = frozenset(
    f"{_BAD_BEGIN}{middle}{_BAD_END}"
    for middle in (
        "012819207061112010307142602253_04-014-084",
        "012989926673512011074122523403_00-163-058",
        "012959786098432011033083840143_00-176-115",
        "012558082906712009327122220177_00-102-064",
        "012339356563862009072111404053_00-043-192",
        "013076187734852011291090445391_00-196-188",
        "012373310883942009117084022290_00-064-025",
        "012283393834152009033102258826_00-059-087",
        "012373310883942009170084120009_00-097-074",
        "012819207061112010315104455352_04-024-184",
        "012819207061112010306085429121_04-020-102",
        "012989926673512011083134050913_00-168-009",
        "012373310883942009152114636712_00-102-045",
        "012819207061112010281134410801_00-129-131",
        "012487858717522009280135853083_00-075-001",
        "012989926673512011151082430686_00-157-045",
        "013686042548532013208193054515_02-026-007",
        "013590140476722013058110301622_02-056-111",
        "013590140476722013043111952381_02-065-198",
        "013829543166512013353113303615_02-092-190",
        "013962490064942014134093945580_01-178-104",
    )
)


@dataclass
class Options(Translations, PatientSplit):
    """Arguments of this loader."""

    absent_min_count: int = field(
        default=500,
        metadata={"help": "Labels listed for so many films at least count as absent where they are not listed."},
    )
    invert_monochrome1: bool = field(
        default=False, metadata={"help": "Invert the films that are MONOCHROME1 by their header."}
    )


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    table_path = next((raw / name for name in TABLES if (raw / name).is_file()), raw / TABLES[0])
    table = read_table(table_path)
    require_columns(table, COLUMNS, table_path)
    translations = options.read(raw, "ImageID")
    common = common_labels(table["Labels"], options.absent_min_count)
    films = films_below(raw, ".", (".png",))
    for name in sorted(KNOWN_BAD & {*table["ImageID"], *films}):
        films.pop(name, None)
        yield Skipped(name, f"{name} is missing from the release or damaged in it", "known bad film")
    entries = (
        (f"{table_path.name} row {number}", row["ImageID"], row)
        for number, row in rows_of(table[list(COLUMNS)])
        if row["ImageID"] not in KNOWN_BAD
    )
    yield from match_films(
        entries, films, lambda row, path: _record(row, path, common, translations, options), table_path.name
    )


def _record(row: dict[str, str], path: str, common: list[str], translations, options: Options) -> Record:
    listed = parse_list(row["Labels"])
    monochrome1 = clean(row["PhotometricInterpretation_DICOM"]) == "MONOCHROME1"
    return Record(
        record_id=f"{SOURCE.name}/{row['ImageID'].removesuffix('.png')}",
        source=SOURCE.name,
        patient_id=row["PatientID"],
        study_id=row["StudyID"],
        split=options.split(row["PatientID"]),
        image_path=path,
        labels=finding_labels(listed, common),
        flags=[*flags(listed), *(["monochrome1"] if monochrome1 else [])],
        view=normalise_view(row["Projection"]),
        sex=normalise_sex(row["PatientSex_DICOM"]),
        age_years=age_between(row["PatientBirth"], row["StudyDate_DICOM"]),
        **report_fields(clean(row["Report"]), "es", row["ImageID"], translations, options.translation_language),
    )


def read_image(raw: Path, record: Record, options: Options) -> tuple[Image.Image, dict]:
    """The film, inverted if asked for and its header says MONOCHROME1; no masks."""
    image = open_image(within(raw, record.image_path))
    if options.invert_monochrome1 and "monochrome1" in record.flags:
        image = invert_grey(image)
    return image, {}
