"""MS-CXR: two boxes of one phrase, two phrases on one film, a split column of its own, films below another download."""

from pathlib import Path

from tests.film_files import write_film, write_table

HEADER = "dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height,split"
FILM_A = "files/p10/p10000001/s50000001/aaaa1111-bbbb2222.jpg"
FILM_B = "files/p11/p11000002/s50000002/cccc3333-dddd4444.jpg"
OPTIONS = {"mimic_dir": "mimic-cxr-jpg/2.1.0"}


def build(root: Path) -> Path:
    raw = root / "physionet"
    write_film(raw / "mimic-cxr-jpg" / "2.1.0" / FILM_A, size=(100, 80))
    write_film(raw / "mimic-cxr-jpg" / "2.1.0" / FILM_B, size=(100, 80), seed=1)
    write_table(
        raw / "ms-cxr" / "1.1.0" / "MS_CXR_Local_Alignment_v1.1.0.csv",
        HEADER,
        f"aaaa1111-bbbb2222,Consolidation,invented consolidation of both bases,{FILM_A},10,40,20,30,100,80,val",
        f"aaaa1111-bbbb2222,Consolidation,invented consolidation of both bases,{FILM_A},60,40,20,30,100,80,val",
        f"aaaa1111-bbbb2222,Cardiomegaly,invented large heart,{FILM_A},30,40,40,30,100,80,val",
        f"cccc3333-dddd4444,Pleural Effusion,invented effusion,{FILM_B},60,50,30,20,100,80,test",
    )
    return raw
