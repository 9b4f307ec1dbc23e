"""CASIA-CXR: tables in UTF-8 with byte order mark, French accents, placeholder rows without ExamID, columns EndHere, #
and one without a name, films at different depths as .jpg and .JPG, ImageID with and without suffix, sections blank, a
patient in two folders, a film missing, one without a row, one name twice; English columns in one table of translations.
"""

from pathlib import Path

from PIL import Image

from tests.fake_files import clouds

HEADER = (
    "ExamID,ImageID,PatientID,ImageDir,StudyDate,PatientAge,PatientGender,PatientPosition,PositionView,Projection,"
    "ProjectionMethod,ImageWidth,ImageHeight,ReportID,Findings,Indication,Comparison,Impression,EndHere,#,"
)
#: Folder, ExamID, ImageID, patient, age, gender, view, ReportID, findings, impression, path below the folder.
FILMS = (
    (
        "Cardiomegaly",
        "E1",
        "I1.jpg",
        "P1",
        "58",
        "M",
        "PA",
        "R1",
        "Cœur élargi.\n Pas d'épanchement.",
        "Cardiomégalie.",
        "Images/I1.jpg",
    ),
    ("Cardiomegaly", "E2", "I2", "P2", "61.0", "F", "AP", "R2", "", "Cardiomégalie modérée.", "Images/2020/I2.JPG"),
    ("Cardiomegaly", "E3", "I3.jpg", "P3", "", "", "", "R3", "Film perdu.", "", None),
    ("PleuralEffusion", "E4", "I4.jpg", "P1", "200", "M", "PA", "", "Épanchement à gauche.", "", "I4.jpg"),
)


def build(root: Path) -> Path:
    raw = root / "casia"
    for finding in ("Cardiomegaly", "PleuralEffusion"):
        folder = raw / f"CASIA-CXR_{finding}"
        folder.mkdir(parents=True)
        lines = [HEADER]
        for name, exam, image, patient, age, gender, view, report, findings, impression, path in FILMS:
            if name == finding:
                lines.append(
                    f"{exam},{image},{patient},/data/{name},20200101,{age},{gender},Erect,{view},Frontal,DX,48,40,{report}"
                    f',"{findings}","Toux","","{impression}",,,'
                )
                if path is not None:
                    save(folder / path)
        lines += ["," * 20, "," * 20]
        (folder / f"CASIA-CXR_{finding}_Reports.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    save(raw / "CASIA-CXR_Cardiomegaly" / "Images" / "I9.jpg")
    save(raw / "CASIA-CXR_Cardiomegaly" / "copy" / "I1.jpg")
    (raw / "CASIA-CXR_Combined_Reports.csv").write_text(
        "ImageID,Findings_Eng,Impression_Eng\n"
        "I1.jpg,Enlarged heart. No effusion.,Cardiomegaly.\nI2,,Some cardiomegaly.\n,,\n"
    )
    return raw


def save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(clouds(seed=len(path.name))).save(path, format="JPEG")
