"""Own files: a table with a byte order mark, a line break within a report, blanks, spellings of views and splits."""

from pathlib import Path

from tests.film_files import write_film

ROWS = (
    "file,text,conclusion,patient,proj,split,age,Cardiomegaly,Edema",
    '0.png,"Enlarged heart,\nno effusion.",Cardiomegaly.,A,PA,train,60,1,0',
    "1.png,,Normal.,B,AP Supine,val,,0,",
    "2.png,Lungs clear.,,C,L,test,12.5,,-1",
    "3.png,Lungs clear.,,A,?,train,60,0.0,1.0",
)
OPTIONS = {
    "table": "films.csv",
    "image_root": "films",
    "image_column": "file",
    "findings_column": "text",
    "impression_column": "conclusion",
    "label_columns": ["Cardiomegaly", "Edema"],
    "patient_column": "patient",
    "view_column": "proj",
    "split_column": "split",
    "age_column": "age",
}


def build(root: Path) -> Path:
    raw = root / "own"
    (raw / "films").mkdir(parents=True)
    for number in range(4):
        write_film(raw / "films" / f"{number}.png", (90, 80), seed=number)
    (raw / "films.csv").write_text("\n".join(ROWS) + "\n", encoding="utf-8-sig")
    return raw
