"""CheXlocalize: patients of val and test, a lateral film, a study whose two films share their labels, a film without a
positive finding (not segmented), empty segmentations, "Airspace Opacity", paths that begin with "test/" or
"CheXpert-v1.0/valid/".
"""

import json
from pathlib import Path

from tests.film_files import write_film, write_table

LABELS = (
    "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,"
    "Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
#: 64 x 80 (height, width), column by column: 128 pixels outside, 3 inside, 4,989 outside, in COCO's compressed form.
EDEMA = {"size": [64, 80], "counts": "P43mk4"}
#: All 5,120 outside.
EMPTY = {"size": [64, 80], "counts": "PP5"}


def build(root: Path) -> Path:
    raw = root / "chexlocalize"
    films = raw / "CheXpert"
    for number, name in enumerate(
        (
            "val/patient64541/study1/view1_frontal.jpg",
            "test/patient64741/study1/view1_frontal.jpg",
            "test/patient64741/study1/view2_lateral.jpg",
            "test/patient64742/study1/view1_frontal.jpg",
        )
    ):
        write_film(films / name, size=(80, 64), seed=number)
    write_table(
        films / "val_labels.csv",
        f"Path,Sex,Age,Frontal/Lateral,AP/PA,{LABELS}",
        "CheXpert-v1.0/valid/patient64541/study1/view1_frontal.jpg,Female,73,Frontal,AP,"
        "0.0,1.0,1.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0",
    )
    write_table(
        films / "test_labels.csv",
        f"Path,{LABELS}",
        "test/patient64741/study1/view1_frontal.jpg,0,0,0,1,0,1,0,0,0,0,0,0,0,0",
        "test/patient64741/study1/view2_lateral.jpg,0,0,0,1,0,1,0,0,0,0,0,0,0,0",
        "test/patient64742/study1/view1_frontal.jpg,1,0,0,0,0,0,0,0,0,0,0,0,0,0",
    )
    segmentations = raw / "CheXlocalize"
    segmentations.mkdir()
    tasks = {"Airspace Opacity": EDEMA, "Edema": EDEMA, "Cardiomegaly": EMPTY}
    (segmentations / "gt_segmentations_val.json").write_text(json.dumps({"patient64541_study1_view1_frontal": tasks}))
    (segmentations / "gt_segmentations_test.json").write_text(json.dumps({"patient64741_study1_view1_frontal": tasks}))
    return raw
