"""CXR-LT 2024: tables of tasks 1 and 3, films below another download, a film that is missing, one in two tables."""

from pathlib import Path

from data_scripts.loaders.cxr_lt_2024 import LONG_TAILED, UNSEEN
from tests.film_files import write_film, write_table

OPTIONS = {"mimic_dir": "mimic-cxr-jpg/2.1.0"}
IDS = "dicom_id,subject_id,study_id,ViewPosition,ViewCodeSequence_CodeMeaning,fpath"
#: By table: number of the film, its view, its findings.
ROWS = {
    "train_labeled.csv": [(1, "PA", {"Cardiomegaly"}), (2, "LATERAL", {"Cardiomegaly", "Kyphosis"})],
    "development_labeled_task1.csv": [(3, "AP", {"Normal"})],
    "test_labeled_task1.csv": [(4, "AP", {"Round(ed) Atelectasis"}), (5, "PA", set()), (1, "PA", set())],
    "development_labeled_task3.csv": [(3, "AP", {"Scoliosis"})],
    "test_labeled_task3.csv": [(4, "AP", {"Bulla", "Hilum"})],
}
MISSING = 5


def film(number: int) -> str:
    return f"files/p1{number}/p1{number}000001/s5000000{number}/{number:04}aaaa-{number:04}bbbb.jpg"


def build(root: Path) -> Path:
    raw = root / "physionet"
    for name, rows in ROWS.items():
        findings = UNSEEN if "task3" in name else sorted(LONG_TAILED)
        lines = [f"{IDS},{','.join(findings)}"]
        for number, view, present in rows:
            values = ",".join(str(float(finding in present)) for finding in findings)
            ids = f"{Path(film(number)).stem},1{number}000001,5000000{number},{view},,{film(number)}"
            lines.append(f"{ids},{values}")
            if number != MISSING:
                write_film(raw / OPTIONS["mimic_dir"] / film(number), seed=number)
        write_table(raw / "cxr-lt-iccv-workshop-cvamd" / "2.0.0" / "cxr-lt-2024" / name, *lines)
    return raw
