"""R2Gen's MIMIC-CXR: a film an item, films below another download, a study without labels, ids that are numbers."""

import json
from pathlib import Path

from tests.film_files import write_film, write_table

FILMS = {"aaaa1111-bbbb2222": (10000001, 50000001, "train"), "cccc3333-dddd4444": (11000002, 50000002, "val")}
LABELS = (
    "Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,Lung Opacity,"
    "No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices"
)
OPTIONS = {"mimic_dir": "mimic-cxr-jpg"}


def path_of(dicom_id: str) -> str:
    subject, study, _ = FILMS[dicom_id]
    return f"p{str(subject)[:2]}/p{subject}/s{study}/{dicom_id}.jpg"


def build(root: Path) -> Path:
    raw = root / "mimic"
    mimic = raw / "mimic-cxr-jpg"
    lists, rows = {"train": [], "val": [], "test": []}, []
    for number, (dicom_id, (subject, study, split)) in enumerate(FILMS.items()):
        write_film(mimic / "files" / path_of(dicom_id), seed=number)
        text = f"Invented findings {number}."
        item = {"id": dicom_id, "study_id": study, "subject_id": subject, "report": text, "split": split}
        lists[split].append({**item, "image_path": [path_of(dicom_id)]})
        rows.append(f"{dicom_id},{subject},{study},{('PA', 'LATERAL')[number]}")
    (raw / "annotation.json").write_text(json.dumps(lists))
    write_table(mimic / "mimic-cxr-2.0.0-metadata.csv", "dicom_id,subject_id,study_id,ViewPosition", *rows)
    write_table(
        mimic / "mimic-cxr-2.0.0-chexpert.csv",
        f"subject_id,study_id,{LABELS}",
        "10000001,50000001,,1.0,,0.0,-1.0" + "," * 9,
    )
    return raw
