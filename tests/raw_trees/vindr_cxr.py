"""VinDr-CXR: three readers a training film who disagree, also on "No finding"; a consensus without readers in the test
tables; "Other diseases" there and "Other disease" here; boxes of several readers and blank ones; MONOCHROME1; a film
without a row, boxes without a film, a reader listed twice, a damaged header.
"""

from pathlib import Path

from tests.fake_files import clouds, write_dicom

LABELS = (
    "Aortic enlargement,Atelectasis,Calcification,Cardiomegaly,Clavicle fracture,Consolidation,Edema,Emphysema,"
    "Enlarged PA,ILD,Infiltration,Lung Opacity,Lung cavity,Lung cyst,Mediastinal shift,Nodule/Mass,Pleural effusion,"
    "Pleural thickening,Pneumothorax,Pulmonary fibrosis,Rib fracture,Other lesion,COPD,Lung tumor,Pneumonia,"
    "Tuberculosis,Other diseases,No finding"
)
#: Image ids: 32 hexadecimal digits.
SICK, NORMAL, TWICE, BROKEN, TESTED, STRAY = (digit * 32 for digit in "abcdef")
VOTES = (
    (SICK, "R8", {"Cardiomegaly", "Nodule/Mass"}),
    (SICK, "R9", {"Cardiomegaly", "Other diseases"}),
    (SICK, "R10", {"No finding"}),
    (NORMAL, "R8", {"No finding"}),
    (NORMAL, "R9", {"No finding"}),
    (NORMAL, "R10", {"No finding"}),
    (TWICE, "R8", {"COPD"}),
    (TWICE, "R8", {"COPD"}),
    (BROKEN, "R8", {"COPD"}),
)
BOXES = (
    f"{SICK},R8,Cardiomegaly,10,20,30,30",
    f"{SICK},R9,Cardiomegaly,12.5,20.4,40,30",
    f"{SICK},R8,Nodule/Mass,0,0,4,4",
    f"{SICK},R10,No finding,,,,",
    f"{NORMAL},R8,No finding,,,,",
    f"{STRAY},R8,Cardiomegaly,1,1,9,9",
)


def cells(present: set[str]) -> str:
    return ",".join(str(int(name in present)) for name in LABELS.split(","))


def build(root: Path) -> Path:
    raw = root / "vindr-cxr"
    tables = raw / "annotations"
    tables.mkdir(parents=True)
    lines = [f"image_id,rad_id,{LABELS}", *(f"{image},{reader},{cells(found)}" for image, reader, found in VOTES)]
    (tables / "image_labels_train.csv").write_text("\n".join(lines) + "\n")
    header = f"image_id,{LABELS}".replace("Other diseases", "Other disease")
    (tables / "image_labels_test.csv").write_text(f"{header}\n{TESTED},{cells({'ILD', 'Other diseases'})}\n")
    (tables / "annotations_train.csv").write_text(
        "\n".join(["image_id,rad_id,class_name,x_min,y_min,x_max,y_max", *BOXES]) + "\n"
    )
    (tables / "annotations_test.csv").write_text(
        f"image_id,class_name,x_min,y_min,x_max,y_max\n{TESTED},ILD,1.5,2.5,20.5,30.5\n"
    )
    about = {"PatientSex": "F", "PatientAge": "054Y"}
    write_dicom(raw / f"train/{SICK}.dicom", clouds(bits=12, seed=1), "MONOCHROME1", **about)
    write_dicom(raw / f"train/{NORMAL}.dicom", clouds(bits=12, seed=2))
    write_dicom(raw / f"train/{TWICE}.dicom", clouds(bits=12, seed=3))
    (raw / f"train/{BROKEN}.dicom").write_bytes(b"no film")
    write_dicom(raw / f"test/{TESTED}.dicom", clouds(bits=12, seed=4), PatientSex="O", PatientAge="")
    write_dicom(raw / f"test/{'0' * 32}.dicom", clouds(bits=12, seed=5))
    return raw
