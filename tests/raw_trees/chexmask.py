"""CheXmask with NIH ChestX-ray14: runs that count pixels from 1 along the rows, an outline of poor quality, one without
a quality, a film without an outline, an outline without a film, a gzipped table with a byte order mark.
"""

import gzip
from pathlib import Path

from tests.film_files import write_film, write_table

HEADER = "Image Index,Dice RCA (Mean),Dice RCA (Max),Landmarks,Left Lung,Right Lung,Heart,Height,Width"
NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
OPTIONS = {"masks": "ChestX-Ray8.csv.gz"}
FILMS = ("00000001_000", "00000001_001", "00000002_000", "00000003_000")


def build(root: Path) -> Path:
    raw = root / "nih"
    rows = [f"{film}.png,No Finding,0,{int(film[:8])},58,M,PA,80,64,0.1,0.1" for film in FILMS]
    write_table(raw / "Data_Entry_2017_v2020.csv", NIH_HEADER, *rows)
    (raw / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png")
    (raw / "test_list.txt").write_text("00000002_000.png\n00000003_000.png")
    for number, film in enumerate(FILMS):
        write_film(raw / "images" / f"{film}.png", size=(80, 64), seed=number)
    table = [
        HEADER,
        # Row 0: pixels 0-2 and 4; row 1 (80 pixels a row): pixel 0.
        '00000001_000.png,0.91,0.95,"1,2,3",1 3 5 1,81 1,161 40,64,80',
        '00000001_001.png,0.42,0.50,"1,2,3",1 3,81 1,161 40,64,80',
        '00000002_000.png,,,"1,2,3",1 3,81 1,161 40,64,80',
        '99999999_000.png,0.91,0.95,"1,2,3",1 3,81 1,161 40,64,80',
    ]
    (raw / "ChestX-Ray8.csv.gz").write_bytes(gzip.compress("\n".join(table).encode("utf-8-sig")))
    return raw
