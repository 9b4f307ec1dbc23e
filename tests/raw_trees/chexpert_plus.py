"""CheXpert Plus: an index column, `.jpg` in paths though the films are PNG, sections blank on one or both sides and
over several lines, views AP, PA, LL and blank (laterals), a lateral `view1`, an unknown sex, an age of 0, a film
missing, one without a row, an unfinished download, an unknown split; labels of v1.0 (both prefixes; Lung Opacity before
Lung Lesion) and of CheXbert as JSON lines; the list 5x200 with a path and with a list of one path.
"""

import json
from pathlib import Path

from tests.fake_files import write_png

HEADER = (
    ",path_to_image,path_to_dcm,frontal_lateral,ap_pa,deid_patient_id,patient_report_date_order,report,"
    "section_narrative,section_clinical_history,section_history,section_comparison,section_technique,"
    "section_procedure_comments,section_findings,section_impression,section_end_of_impression,section_summary,"
    "section_accession_number,age,sex,race,ethnicity,interpreter_needed,insurance_type,recent_bmi,deceased,split"
)
V1_HEADER = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,"
    "Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
CHEXBERT = V1_HEADER.split(",")[5:]
#: Film, frontal or lateral, AP or PA, findings, impression, age, sex, split.
FILMS = (
    (
        "train/patient00001/study1/view1_frontal",
        "Frontal",
        "AP",
        "Heart is big.\n  No effusion.",
        "Big heart.",
        68,
        "Male",
    ),
    (
        "train/patient00001/study1/view2_lateral",
        "Lateral",
        "",
        "Heart is big.\n  No effusion.",
        "Big heart.",
        68,
        "Male",
    ),
    ("train/patient00002/study3/view1_lateral", "Lateral", "LL", "", "Normal.", 0, "Female"),
    ("train/patient00003/study1/view1_frontal", "Frontal", "PA", "Clear lungs.", "", 90, "Unknown"),
    ("train/patient00004/study1/view1_frontal", "Frontal", "PA", "", "", 55, "Female"),
    ("train/patient00005/study1/view1_frontal", "Frontal", "AP", "", "Film is missing.", 55, "Female"),
    ("valid/patient64541/study1/view1_frontal", "Frontal", "AP", "", "Edema.", 70, "Male"),
    ("train/patient00006/study1/view1_frontal", "Frontal", "AP", "", "Edema.", 70, "Male"),
)
MISSING = "train/patient00005/study1/view1_frontal"


def build(root: Path) -> Path:
    raw = root / "chexpertplus"
    lines = [HEADER]
    for number, (film, side, view, findings, impression, age, sex) in enumerate(FILMS):
        split = "hold" if "00006" in film else film.split("/")[0]
        patient = film.split("/")[1]
        lines.append(
            f'{number},{film}.jpg,{film}.dcm,{side},{view},{patient},1,"whole\nreport",,,,,,,"{findings}","{impression}"'
            f",,,,{float(age)},{sex},,,,,,,{split}"
        )
        if film != MISSING:
            write_png(raw / "PNG" / "PNG" / f"{film}.png", seed=number)
    write_png(raw / "PNG" / "PNG" / "train" / "patient00009" / "study1" / "view1_frontal.png")
    (raw / "PNG" / "PNG" / "train" / ".azDownload-1-view1_frontal.png").write_bytes(b"half")
    (raw / "df_chexpert_plus_240401.csv").write_text("\n".join(lines) + "\n")
    (raw / "train.csv").write_text(
        f"{V1_HEADER}\n"
        "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Male,68,Frontal,AP,,,1.0,,,-1.0,,,,0.0,,,,\n"
        "CheXpert-v1.0/train/patient00002/study3/view1_lateral.jpg,Female,0,Lateral,,1.0,,,,,,,,,,,,,\n"
    )
    (raw / "valid.csv").write_text(
        f"{V1_HEADER}\nCheXpert-v1.0/valid/patient64541/study1/view1_frontal.jpg,Male,70,Frontal,AP,"
        "0,0,0,1,0,1,0,0,0,0,0,0,0,1\n"
    )
    rows = [
        {"path_to_image": "train/patient00001/study1/view1_frontal.jpg", "Cardiomegaly": 1.0, "Lung Lesion": -1.0},
        {"path_to_image": "valid/patient64541/study1/view1_frontal.jpg", "Edema": 0.0},
    ]
    (raw / "chexbert_labels").mkdir()
    (raw / "chexbert_labels" / "report_fixed.json").write_text(
        "".join(json.dumps({**dict.fromkeys(CHEXBERT), **row}) + "\n" for row in rows)
    )
    (raw / "chexpert_5x200.csv").write_text(
        f"{V1_HEADER}\nCheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg,Male,68,Frontal,AP,,,1,,,,,,,,,,,\n"
        "\"['CheXpert-v1.0/train/patient00003/study1/view1_frontal.jpg']\",Male,90,Frontal,PA,,,1,,,,,,,,,,,\n"
    )
    return raw
