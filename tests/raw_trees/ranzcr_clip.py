"""RANZCR: several labels of a film, lines of different length as text, two lines of one label, films of different size,
test films without labels (not read).
"""

from pathlib import Path

from tests.film_files import write_film, write_table

COLUMNS = (
    "ETT - Abnormal,ETT - Borderline,ETT - Normal,NGT - Abnormal,NGT - Borderline,NGT - Incompletely Imaged,"
    "NGT - Normal,CVC - Abnormal,CVC - Borderline,CVC - Normal,Swan Ganz Catheter Present"
)
OPTIONS = {"tube_width": 3}


def build(root: Path) -> Path:
    raw = root / "ranzcr"
    write_film(raw / "train" / "1.2.826.1.jpg", size=(100, 80))
    write_film(raw / "train" / "1.2.826.2.jpg", size=(64, 96), seed=1)
    write_film(raw / "test" / "1.2.826.3.jpg")
    write_table(
        raw / "train.csv",
        f"StudyInstanceUID,{COLUMNS},PatientID",
        "1.2.826.1,0,0,1,0,0,0,0,0,0,1,0,ec89415d1",
        "1.2.826.2,0,0,0,0,0,1,0,0,0,0,0,bf4c6da3c",
    )
    write_table(
        raw / "train_annotations.csv",
        "StudyInstanceUID,label,data",
        '1.2.826.1,CVC - Normal,"[[10, 20], [60, 20], [60, 50]]"',
        '1.2.826.1,CVC - Normal,"[[5, 70], [20, 70]]"',
        '1.2.826.1,ETT - Normal,"[[50, 0], [50, 30]]"',
    )
    return raw
