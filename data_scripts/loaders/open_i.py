"""Open-I (Indiana University chest X-rays): 3,955 reports with MeSH headings and 7,470 films.

Layout (https://openi.nlm.nih.gov/faq, "download the images and reports"): `NLMCXR_reports.tgz` unpacked to
`ecgen-radiology/1.xml` ..., `NLMCXR_png.tgz` to `NLMCXR_png/CXR1_1_IM-0001-3001.png` ... (or the PNGs directly in the
raw folder), or instead `NLMCXR_dcm.tgz` to `NLMCXR_dcm/1/1_IM-0001-3001.dcm` .... `indiana_projections.csv` of
the Kaggle copy, where it is there, tells lateral films. With `--texts_alone` the reports suffice.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_scripts.reading.loader_options import PatientSplit
from data_scripts.reading.reports import ReportText
from data_scripts.reading.tables import read_table, require_columns
from data_scripts.reading.views import normalise_view
from data_scripts.schema import DataError, Label, Record, Skipped, Source

SOURCE = Source(
    name="open_i",
    title="Open-I, Indiana University chest X-rays",
    version="2013, as downloaded from openi.nlm.nih.gov",
    url="https://openi.nlm.nih.gov",
    licence="CC BY-NC-ND 4.0",
    access="open",
    # There is no official split.
    expected={"train": 7_470},
    traps=(
        "The reports do not tell patients: each of the 3,955 reports counts as one.",
        "About one report in five repeats the text of another: equal texts occur in all splits.",
        "The customary test split of R2Gen is part of this corpus: leave it out of training to evaluate on it.",
        "The licence forbids passing on modified copies: keep the prepared dataset private.",
        "Reports tell no view; without the Kaggle table all views are unknown.",
        "A finding that no MeSH heading names counts as absent, though the indexers may have left it out.",
        "104 reports have no film, 28 neither findings nor impression.",
    ),
)

#: The official download has 28 reports without text: they are listed, and stop nothing.
EMPTY_REPORTS_KNOWN = True

#: Findings by the MeSH headings ("Cardiomegaly/mild") that name them. A film without such a heading counts as free.
MESH_LABELS = {
    "No Finding": "normal$",
    "Enlarged Cardiomediastinum": "Mediastinum.*/(enlarged|prominent)",
    "Cardiomegaly": "Cardiomegaly|(Cardiac Shadow|Heart|Heart Ventricles)/.*enlarged",
    "Lung Lesion": "(Nodule|Mass|Neoplasms?)\\b|Lung Neoplasms",
    "Lung Opacity": "Opacity|Infiltrate|Airspace Disease|Markings.*/interstitial|Density/(lung|.*retrocardiac)",
    "Edema": "Pulmonary Edema",
    "Consolidation": "Consolidation",
    "Pneumonia": "Pneumonia",
    "Atelectasis": "Pulmonary Atelectasis",
    "Pneumothorax": "Pneumothorax|Hydropneumothorax",
    "Pleural Effusion": "Pleural Effusion|Hydropneumothorax",
    "Pleural Other": "(Thickening|Cicatrix|Calcinosis)/pleura",
    "Fracture": "Fractures, Bone",
    "Support Devices": "Catheters, Indwelling|Implanted Medical Device|Tube, Inserted|Stents|Surgical Instruments"
    "|Medical Device",
    "Nodule": "Nodule",
    "Mass": "Mass",
    "Infiltration": "Infiltrate",
    "Airspace Disease": "Airspace Disease",
    "Blunted Costophrenic Angle": "Costophrenic Angle.*/blunted",
    "Emphysema": "(Pulmonary )?Emphysema",
    "COPD": "Pulmonary Disease, Chronic Obstructive",
    "Hyperinflation": "Lung.*/hyperdistention|Lung, Hyperlucent|Diaphragm.*/flattened",
    "Hypoinflation": "Lung.*/hypoinflation",
    "Fibrosis": "Pulmonary Fibrosis",
    "Scarring": "Cicatrix",
    "Pleural Thickening": "Thickening/pleura",
    "Granulomatous Disease": "Granulomatous Disease|Granuloma|Calcified Granuloma",
    "Calcification": "Calcinosis|Calcified Granuloma|Atherosclerosis",
    "Atherosclerosis": "Atherosclerosis|Calcinosis/aorta",
    "Tortuous Aorta": "Aorta.*/tortuous",
    "Degenerative Change": ".*/degenerative|Spondylosis|Osteophyte|Arthritis",
    "Scoliosis": "Scoliosis",
    "Kyphosis": "Kyphosis",
    "Osteopenia": "Bone Diseases, Metabolic|Osteoporosis",
    "Hiatal Hernia": "Hernia, Hiatal",
    "Elevated Diaphragm": "Diaphragm.*/elevated|Diaphragmatic Eventration",
    "Pulmonary Congestion": "Pulmonary Congestion",
    "Lymphadenopathy": "Lymph.*/(enlarged|prominent)|Lung.*/lymph nodes.*/(enlarged|prominent)",
    "Pericardial Effusion": "Pericardial Effusion",
    "Tuberculosis": "Tuberculosis",
}
#: Headings that say that nobody judged the film.
NOT_JUDGED = ("No Indexing", "Technical Quality of Image Unsatisfactory")
PROJECTIONS = "indiana_projections.csv"


@dataclass
class Options(ReportText, PatientSplit):
    """Arguments of this loader."""

    texts_alone: bool = field(
        default=False, metadata={"help": "One record a report, without films; the films need not be there."}
    )


@dataclass(frozen=True)
class Report:
    """One XML file: ids, the sections as written, MeSH headings and the ids of its films (stems of their files)."""

    uid: str
    findings: str
    impression: str
    headings: tuple[str, ...]
    image_ids: tuple[str, ...]

    @property
    def labels(self) -> list[Label]:
        """The findings of `MESH_LABELS`, present or absent; none where nobody indexed the report."""
        judged = [heading for heading in self.headings if heading not in NOT_JUDGED]
        if not judged:
            return []
        return [Label(name, int(any(re.match(p, heading) for heading in judged))) for name, p in MESH_LABELS.items()]


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    if options.texts_alone:
        for report in read_reports(raw):
            yield report if isinstance(report, Skipped) else make_record(report, report.uid, None, "UNKNOWN", options)
        return
    paths, views = image_paths(raw), read_views(raw)
    listed = set()
    for report in read_reports(raw):
        if isinstance(report, Skipped):
            yield report
            continue
        if not report.image_ids:
            # The official download has 104 of them.
            yield Skipped(report.uid, "the report names no film", "report without a film", on_request=True)
        for image_id in report.image_ids:
            listed.add(image_id)
            if image_id in paths:
                yield make_record(report, image_id, paths[image_id], views.get(image_id, "UNKNOWN"), options)
            else:
                yield Skipped(image_id, f"{image_id}.png of {report.uid} is not below {raw}", "image file missing")
    for image_id in sorted(set(paths) - listed):
        yield Skipped(image_id, f"{paths[image_id]}: no report names this film", "film without a report")


def make_record(report: Report, image_id: str, path: str | None, view: str, options: Options) -> Record:
    """The record of one film (None: of the text alone); all films of a report have its text, labels and split."""
    return Record(
        record_id=f"{SOURCE.name}/{image_id}",
        source=SOURCE.name,
        patient_id=report.uid,
        study_id=report.uid,
        split=options.split(report.uid),
        image_path=path,
        findings=options.tidy(report.findings),
        impression=options.tidy(report.impression),
        labels=report.labels,
        view=view,
    )


def read_reports(raw: Path) -> Iterator[Report | Skipped]:
    """All reports in the order of their numbers; a file that is no report comes as `Skipped`.

    Raises:
        DataError: there are no XML files.
    """
    folder = raw / "ecgen-radiology"
    files = sorted(folder.glob("*.xml"), key=lambda path: (len(path.stem), path.stem))
    if not files:
        raise DataError(f"{folder}: the report files (1.xml ...) of NLMCXR_reports.tgz are missing")
    for path in files:
        try:
            yield parse_report(path.read_bytes())
        # An encoding that Python does not know, or that XML may not have, is no ParseError.
        except (ElementTree.ParseError, LookupError, ValueError) as error:
            yield Skipped(path.name, f"{path}: not a report of Open-I ({error})", "broken XML")


def parse_report(xml: bytes) -> Report:
    """The report of an XML file.

    Raises:
        ElementTree.ParseError: it is no XML.
        DataError: it has no id.
    """
    root = ElementTree.fromstring(xml)
    uid = root.find("uId")
    if uid is None or not uid.get("id"):
        raise DataError("there is no uId", "broken XML")
    sections = {element.get("Label"): "".join(element.itertext()) for element in root.iter("AbstractText")}
    headings = ("".join(element.itertext()).strip() for element in root.iterfind("MeSH/major"))
    return Report(
        uid=uid.get("id"),
        findings=sections.get("FINDINGS", ""),
        impression=sections.get("IMPRESSION", ""),
        headings=tuple(heading for heading in headings if heading),
        # Some reports name a film twice.
        image_ids=tuple(dict.fromkeys(element.get("id") for element in root.iter("parentImage") if element.get("id"))),
    )


def image_paths(raw: Path) -> dict[str, str]:
    """Paths below `raw` by image id: PNG files, and DICOM files where there is no PNG."""
    dicom = {_image_id(path.stem): path for path in sorted(raw.glob("NLMCXR_dcm/*/*.dcm"))}
    png = {path.stem: path for folder in (".", "NLMCXR_png") for path in sorted((raw / folder).glob("CXR*.png"))}
    return {name: str(path.relative_to(raw)) for name, path in {**dicom, **png}.items()}


def read_views(raw: Path) -> dict[str, str]:
    """View by image id from the Kaggle table; empty without it. "Frontal" does not tell PA from AP: "UNKNOWN"."""
    path = raw / PROJECTIONS
    if not path.is_file():
        return {}
    table = read_table(path)
    require_columns(table, ("filename", "projection"), path)
    return {
        _image_id(name.removesuffix(".png").removesuffix(".dcm")): normalise_view(projection)
        for name, projection in zip(table["filename"], table["projection"], strict=True)
    }


def _image_id(stem: str) -> str:
    """The XML's id of a film whose DICOM file or Kaggle name begins with the report's number alone."""
    # The films of the first report alone keep the number in their id.
    return f"CXR1_{stem}" if stem.startswith("1_") else f"CXR{stem}"
