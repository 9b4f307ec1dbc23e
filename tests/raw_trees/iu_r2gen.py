"""R2Gen's IU X-ray: two films of a report, a list whose name is blank in a mirror, Open-I's XML for labels, the report
with a number in its id.
"""

import json
from pathlib import Path

from tests.film_files import write_film, write_table

REPORTS = {"CXR1_1_IM-0001": "Invented clear lungs.", "CXR2384_IM-0942": "Invented large heart. XXXX."}
SPLITS = {"CXR1_1_IM-0001": "train", "CXR2384_IM-0942": "test"}
XML = """<eCitation><uId id="{uid}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="FINDINGS">{text}</AbstractText><AbstractText Label="IMPRESSION"></AbstractText>
</Abstract></Article></MedlineCitation><MeSH><major>{heading}</major></MeSH></eCitation>"""


def build(root: Path) -> Path:
    raw = root / "iu_xray"
    lists = {"train": [], "    ": [], "test": []}
    for number, (name, text) in enumerate(REPORTS.items()):
        paths = [f"{name}/0.png", f"{name}/1.png"]
        for path in paths:
            write_film(raw / "images" / path, mode="RGB", seed=number)
        item = {"id": name, "report": text, "image_path": paths, "split": SPLITS[name]}
        lists["    " if number == 0 else "test"].append(item)
        uid, heading = name.split("_")[0], ("normal", "Cardiomegaly/mild")[number]
        write_table(raw / "ecgen-radiology" / f"{uid[3:]}.xml", XML.format(uid=uid, text=text, heading=heading))
    (raw / "annotation.json").write_text(json.dumps(lists))
    return raw
