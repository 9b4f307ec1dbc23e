"""BRAX: an index column, labels 1, 0, -1 and blank, a row of blanks (no text can be made), one AccessionNumber of two
patients, an age `85 or more`, views of their own spelling, a film without a row; each film as PNG (one of 16 bits) and
as DICOM (one MONOCHROME1).
"""

from pathlib import Path

from tests.fake_files import clouds, write_dicom, write_png

HEADER = (
    ",DicomPath,PngPath,PatientID,PatientSex,PatientAge,AccessionNumber,StudyDate,No Finding,"
    "Enlarged Cardiomediastinum,Cardiomegaly,Lung Lesion,Lung Opacity,Edema,Consolidation,Pneumonia,Atelectasis,"
    "Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices,ViewPosition,Rows,Columns,Manufacturer"
)
#: Patient, what follows up to the labels, labels, view.
FILMS = (
    ("p1", "F,45,900,20150101", ",,1.0,,,0.0,-1.0,,,,,,,0.0", "PA"),
    ("p1", "F,45,900,20150101", ",,1.0,,,0.0,-1.0,,,,,,,0.0", "L"),
    ("p2", "M,85 or more,900,20160101", "1.0,,,,,,,,,,,,,", "AP LLD"),
    ("p3", "O,,901,20160101", ",,,,,,,,,,,,,", "RLO"),
    ("p4", "F,30,902,20160101", ",,,,,,,,,1,1,-1,0,1", ""),
    ("p5", "F,30,903,20160101", "0,0,0,0,0,0,0,0,0,0,0,0,0,2", "PA"),
)


def name(number: int, patient: str) -> str:
    return f"id_{patient}/Study_1.2.{number}/Series_1.3.{number}/image-1.4.{number}"


def build(root: Path) -> Path:
    raw = root / "brax"
    lines = [HEADER]
    for number, (patient, about, labels, view) in enumerate(FILMS):
        path = name(number, patient)
        lines.append(
            f"{number},Anonymized_DICOMs/{path}.dcm,images/{path}.png,{patient},{about},{labels},{view},40,48,1"
        )
        write_png(raw / f"images/{path}.png", bits=16 if number == 1 else 8, seed=number)
        photometric = "MONOCHROME1" if number == 1 else "MONOCHROME2"
        write_dicom(raw / f"Anonymized_DICOMs/{path}.dcm", clouds(bits=12, seed=number), photometric)
    write_png(raw / "images/id_p9/Study_1/Series_1/image-9.png")
    (raw / "master_spreadsheet_update.csv").write_text("\n".join(lines) + "\n")
    return raw
