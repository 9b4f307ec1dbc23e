"""RSNA: a row for each box, blank boxes, the class repeated for each box, a class name with a slash, test films without
labels (not read).
"""

from pathlib import Path

from tests.fake_files import clouds, write_dicom
from tests.film_files import write_table


def build(root: Path) -> Path:
    raw = root / "rsna"
    for number, name in enumerate(("aaaa-1", "bbbb-2", "cccc-3")):
        write_dicom(raw / "stage_2_train_images" / f"{name}.dcm", clouds((64, 64), seed=number))
    write_dicom(raw / "stage_2_test_images" / "dddd-4.dcm", clouds((64, 64)))
    write_table(
        raw / "stage_2_train_labels.csv",
        "patientId,x,y,width,height,Target",
        "aaaa-1,,,,,0",
        "bbbb-2,100.0,200.0,300.0,400.0,1",
        "bbbb-2,600.0,250.0,200.0,300.0,1",
        "cccc-3,,,,,0",
    )
    write_table(
        raw / "stage_2_detailed_class_info.csv",
        "patientId,class",
        "aaaa-1,Normal",
        "bbbb-2,Lung Opacity",
        "bbbb-2,Lung Opacity",
        "cccc-3,No Lung Opacity / Not Normal",
    )
    return raw
