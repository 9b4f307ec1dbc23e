"""CheXpert 5x200: the original table's report column, blank and 0 labels, a list literal as path, the small copy's
folder, a lateral "view2".
"""

from pathlib import Path

from tests.film_files import write_film, write_table

HEADER = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,"
    "Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices,"
    "Report Impression"
)


def build(root: Path) -> Path:
    raw = root / "chexpert"
    write_film(raw / "CheXpert-v1.0" / "train" / "patient00101" / "study2" / "view1_frontal.jpg")
    write_film(raw / "CheXpert-v1.0-small" / "train" / "patient00102" / "study1" / "view2_frontal.jpg", seed=1)
    write_table(
        raw / "chexpert_5x200.csv",
        HEADER,
        "CheXpert-v1.0/train/patient00101/study2/view1_frontal.jpg,Male,64,Frontal,PA,"
        ',,0,,,,,,1.0,,0,,,,"Invented: atelectasis of the left base."',
        "\"['CheXpert-v1.0/train/patient00102/study1/view2_frontal.jpg']\",Female,0,Frontal,AP,"
        ",,1.0,,,,,,,,,,,,Invented: large heart.",
    )
    return raw
