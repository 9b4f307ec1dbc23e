"""NIH ChestX-ray14: header with brackets, findings joined by "|", ages "058Y" and 411, an RGBA film, lists without a
last line break, a film in neither list; boxes under a header that spreads over four columns, two of one finding, one
called `Infiltrate`, one of a film that does not exist. The films with boxes are square, as all are in the corpus.
"""

from pathlib import Path

from tests.film_files import write_film

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
ROWS = (
    "00000001_000.png,Cardiomegaly|Pleural_Thickening,0,1,058Y,M,PA,2682,2749,0.143,0.143",
    "00000001_001.png,No Finding,1,1,58,M,AP,2682,2749,0.143,0.143",
    "00000002_000.png,Hernia,0,2,411,F,PA,2500,2048,0.168,0.168",
    "00000003_000.png,No Finding,0,3,33,F,PA,2500,2048,0.168,0.168",
)
BOX_ROWS = (
    "Image Index,Finding Label,Bbox [x,y,w,h],,,",
    "00000001_000.png,Cardiomegaly,256.0,512.0,512.0,256.0,,,",
    "00000001_000.png,Infiltrate,0.0,0.0,128.0,128.0,,,",
    "00000001_000.png,Infiltrate,896.0,0.0,128.0,128.0,,,",
    "00000099_000.png,Mass,10.0,10.0,50.0,50.0,,,",
)


def build(root: Path) -> Path:
    raw = root / "nih"
    raw.mkdir(parents=True)
    (raw / "Data_Entry_2017_v2020.csv").write_text("\n".join([HEADER, *ROWS]) + "\n")
    (raw / "BBox_List_2017.csv").write_text("\n".join(BOX_ROWS) + "\n")
    (raw / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png")
    (raw / "test_list.txt").write_text("00000002_000.png")
    write_film(raw / "images_001" / "images" / "00000001_000.png", (64, 64))
    write_film(raw / "images_001" / "images" / "00000001_001.png", (90, 80), mode="RGBA")
    write_film(raw / "images_002" / "images" / "00000002_000.png", (90, 80))
    return raw
