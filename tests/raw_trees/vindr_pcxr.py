"""VinDr-PCXR: `rad_ID` with a capital ID, misspelt columns and box names, labels 0.0 and 1.0, a diagnosis without a
positive, one reader a film; MONOCHROME1.
"""

from pathlib import Path

from tests.fake_files import clouds, write_dicom

LABELS = (
    "No finding,Bronchitis,Brocho-pneumonia,Other disease,Bronchiolitis,Situs inversus,Pneumonia,Pleuro-pneumonia,"
    "Diagphramatic hernia,Tuberculosis,Congenital emphysema,CPAM,Hyaline membrane disease,Mediastinal tumor,Lung tumor"
)
SICK, NORMAL, TESTED = (digit * 32 for digit in "123")


def cells(present: set[str], ending: str = "") -> str:
    return ",".join(f"{int(name in present)}{ending}" for name in LABELS.split(","))


def build(root: Path) -> Path:
    raw = root / "vindr-pcxr"
    raw.mkdir(parents=True)
    header = f"image_id,rad_ID,{LABELS}"
    box_header = "image_id,rad_ID,class_name,x_min,y_min,x_max,y_max,class_id"
    (raw / "image_labels_train.csv").write_text(
        f"{header}\n{SICK},R1,{cells({'Brocho-pneumonia', 'CPAM', 'Diagphramatic hernia'}, '.0')}\n"
        f"{NORMAL},R2,{cells({'No finding'}, '.0')}\n"
    )
    (raw / "image_labels_test.csv").write_text(f"{header}\n{TESTED},R3,{cells({'Bronchitis'})}\n")
    (raw / "annotations_train.csv").write_text(
        f"{box_header}\n{SICK},R1,Diffuse aveolar opacity,2,3,20,30,5\n{SICK},R1,Bronchectasis,20,3,22,30,6\n"
        f"{NORMAL},R2,No finding,,,,,0\n"
    )
    (raw / "annotations_test.csv").write_text(f"{box_header}\n{TESTED},R3,Bronchial thickening,5,5,9,9,1\n")
    write_dicom(raw / f"train/{SICK}.dicom", clouds(seed=1), "MONOCHROME1", PatientSex="M", PatientAge="018M")
    write_dicom(raw / f"train/{NORMAL}.dicom", clouds(seed=2), PatientAge="003D")
    write_dicom(raw / f"test/{TESTED}.dicom", clouds(seed=3))
    return raw
