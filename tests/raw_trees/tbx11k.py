"""TBX11K: labels by folder, list lines with a folder, boxes repeated by several JSON files, a film of tuberculosis
without a box, a category that is never used, test and extra films (not read).
"""

import json
from pathlib import Path

from tests.film_files import write_film, write_table

CATEGORIES = [
    {"id": 1, "name": "ActiveTuberculosis", "supercategory": "Tuberculosis"},
    {"id": 2, "name": "ObsoletePulmonaryTuberculosis", "supercategory": "Tuberculosis"},
    {"id": 3, "name": "PulmonaryTuberculosis", "supercategory": "Tuberculosis"},
]
IMAGES = [{"id": 7, "file_name": "tb/tb0005.png"}, {"id": 8, "file_name": "tb/tb1199.png"}]
BOXES = [
    {"id": 1, "image_id": 7, "category_id": 1, "bbox": [64.0, 128.0, 128.0, 64.0]},
    {"id": 2, "image_id": 7, "category_id": 1, "bbox": [256.0, 128.0, 64.0, 64.0]},
]


def build(root: Path) -> Path:
    raw = root / "tbx"
    base = raw / "TBX11K"
    for number, name in enumerate(
        ("health/h0001.png", "sick/s0001.png", "tb/tb0005.png", "tb/tb1199.png", "test/t1.png", "extra/da+db/x.png")
    ):
        write_film(base / "imgs" / name, seed=number)
    write_table(base / "lists" / "TBX11K_train.txt", "health/h0001.png", "tb/tb0005.png")
    write_table(base / "lists" / "TBX11K_val.txt", "sick/s0001.png", "tb/tb1199.png")
    folder = base / "annotations" / "json"
    folder.mkdir(parents=True)
    for name, boxes in (("TBX11K_train.json", BOXES), ("TBX11K_trainval.json", BOXES), ("TBX11K_val.json", [])):
        content = {"images": IMAGES, "annotations": boxes, "categories": CATEGORIES}
        (folder / name).write_text(json.dumps(content))
    return raw
