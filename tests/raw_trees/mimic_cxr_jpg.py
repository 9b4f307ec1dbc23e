"""MIMIC-CXR-JPG: tables zipped and plain, subjects in two groups (p10, p11), a study of two films, the split
`validate`, a blank view, a study without labels, labels -1 and blank; reports whose lines begin with a space: findings
and impression, impression alone, no header at all, a last paragraph after an empty line, a special study, a report in
latin-1; a film without split, one without report, a film of the split table without metadata.
"""

import gzip
from pathlib import Path

from PIL import Image

from tests.fake_files import clouds

METADATA = (
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,"
    "ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning"
)
#: The order of the official table, which is not that of the CheXpert paper.
LABELS = (
    "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,"
    "Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices"
)
#: A study of the official parser's list, whose conclusion is in its section "recommendations".
SPECIAL = "50913680"


def dicom_id(number: int) -> str:
    return "-".join(f"{number:02d}{letter * 6}" for letter in "abcde")


#: Film, subject, study, view, split.
FILMS = (
    (dicom_id(1), "10000011", "50000001", "PA", "train"),
    (dicom_id(2), "10000011", "50000001", "LATERAL", "train"),
    (dicom_id(3), "10000011", "50000002", "", "train"),
    (dicom_id(4), "11000012", "50000003", "AP", "validate"),
    (dicom_id(5), "11000012", "50000004", "AP LLD", "validate"),
    (dicom_id(6), "11000013", SPECIAL, "AP", "test"),
    (dicom_id(7), "11000013", "50000006", "AP", "test"),
    (dicom_id(8), "11000013", "50000007", "AP", ""),
    (dicom_id(9), "11000013", "50000008", "AP", "test"),
)


def report(text: str) -> str:
    """As the files have it: a space before every line, also before the end of empty ones."""
    return "".join(f" {line}\n" for line in text.splitlines())


REPORTS = {
    "50000001": report("""FINAL REPORT
EXAMINATION:  CHEST (PA AND LAT)

INDICATION:  ___ year old invented person.

FINDINGS:

The heart is mildly enlarged since ___.
There is no effusion.

IMPRESSION:

Mild cardiomegaly.
"""),
    "50000002": report("""FINAL REPORT
INDICATION:  Cough.

IMPRESSION:  1.  Normal.
2.  No change.
"""),
    "50000003": " FINAL REPORT\n Lines are in place. Lungs are clear.\n",
    "50000004": " FINAL REPORT\n HISTORY:  Fall.\n \n Portable film is read as normal.\n",
    SPECIAL: " FINAL REPORT\n INDICATION:  Line.\n \n RECOMMENDATION(S):  Pull the line back.\n",
    "50000006": " FINAL REPORT\n IMPRESSION:  Temperature 38 °C.\n",
    "50000007": " FINAL REPORT\n IMPRESSION:  Normal.\n",
}
LABEL_ROWS = (
    "10000011,50000001,,1.0,,,,,,,,0.0,,,,",
    "10000011,50000002,,,,,,,,,1.0,,,,,",
    "11000012,50000003,,,,,,,,,,,,-1.0,,1.0",
    f"11000013,{SPECIAL},,,,,,,,,1.0,,,,,",
)


def build(root: Path) -> Path:
    raw = root / "mimic"
    raw.mkdir()
    rows = [
        f"{film},{subject},{study},CHEST,{view},2500,3000,21800101,1203.5,CHEST,,Erect"
        for film, subject, study, view, _ in FILMS
    ]
    (raw / "mimic-cxr-2.0.0-metadata.csv.gz").write_bytes(gzip.compress("\n".join([METADATA, *rows]).encode()))
    rows = [f"{film},{study},{subject},{split}" for film, subject, study, _, split in FILMS if split]
    rows.append(f"{dicom_id(99)},50000099,10000011,train")
    (raw / "mimic-cxr-2.0.0-split.csv").write_text("\n".join(["dicom_id,study_id,subject_id,split", *rows]) + "\n")
    (raw / "mimic-cxr-2.0.0-chexpert.csv.gz").write_bytes(gzip.compress("\n".join([LABELS, *LABEL_ROWS]).encode()))
    for seed, (film, subject, study, _, _) in enumerate(FILMS):
        folder = raw / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(clouds(seed=seed)).save(folder / f"{film}.jpg")
        if study in REPORTS:
            report = raw / "mimic-cxr-reports" / folder.relative_to(raw).with_suffix(".txt")
            report.parent.mkdir(parents=True, exist_ok=True)
            report.write_text(REPORTS[study], encoding="latin-1" if "°" in REPORTS[study] else "utf-8")
    return raw
