"""SIIM-ACR: a space before the second column's name and its values, "-1", two masks of one film in two rows, films
three folders deep, the test folder labelled by the table of stage 2 but for one film.
"""

from pathlib import Path

from tests.fake_files import clouds, write_dicom
from tests.film_files import write_table

#: Column 0 from row 0, three pixels; after a gap of 1,021 pixels, at the top of column 1, two more.
RUNS = "0 3 1021 2"


def build(root: Path) -> Path:
    raw = root / "siim"
    for folder, name in (("train", "1.2.3.1"), ("train", "1.2.3.2"), ("test", "1.2.3.3"), ("test", "1.2.3.4")):
        write_dicom(
            raw / f"dicom-images-{folder}" / f"study{name}" / "series" / f"{name}.dcm",
            clouds((64, 64), seed=int(name[-1])),
        )
    write_table(
        raw / "stage_2_train.csv",
        "ImageId, EncodedPixels",
        f"1.2.3.1, {RUNS}",
        "1.2.3.1, 2048 1024",
        "1.2.3.2, -1",
        "1.2.3.3,-1",
    )
    return raw
