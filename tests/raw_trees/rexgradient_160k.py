"""ReXGradient-160K: studies by key `p..._a..._s...`, paths `../deid_png/...`, two films in one study, views null, "N/A"
and spelled in DICOM's ways, ages in years and months, a null section, a study without films, lists of different length,
a path that leaves the folder, a missing field, a film of 16 bits.
"""

import json
from pathlib import Path

from tests.fake_files import write_png


def key(patient: str, accession: str) -> str:
    return f"p{patient}_a{accession}_s1.2.{accession}"


def film(patient: str, accession: str, number: int) -> str:
    return f"deid_png/{patient}/{accession}/studies/1.2.{accession}/series/1.3.1/instances/1.4.{number}.png"


def study(patient: str, accession: str, views: list, findings="Clear.", impression="Normal.", age="064Y", sex="F"):
    films = [f"../{film(patient, accession, number)}" for number in range(len(views))]
    return {
        **{"PatientID": patient, "AccessionNumber": accession, "StudyInstanceUid": f"1.2.{accession}"},
        **{"PatientSex": sex, "PatientAge": age, "StudyDate": "20200101", "Indication": "Cough.", "Comparison": None},
        **{"Findings": findings, "Impression": impression, "ImagePath": films, "ImageViewPosition": views},
        **{"ImageShape": [[48, 40]] * len(views), "ImageModality": ["DX"] * len(views)},
        "ImageBodyPart": ["CHEST"] * len(views),
    }


def parts() -> dict[str, dict]:
    train = {
        key("GRD1", "A1"): study("GRD1", "A1", ["POSTERO_ANTERIOR", "LL"], "Heart  is big.\n\nNo effusion."),
        key("GRD1", "A2"): study("GRD1", "A2", [None], impression=None, age="018M", sex="M"),
        key("GRD2", "A3"): study("GRD2", "A3", ["N/A", "AP (KUB)"], findings=None, age="", sex=None),
        key("GRD2", "A4"): study("GRD2", "A4", []),
        key("GRD2", "A5"): study("GRD2", "A5", ["PA"]) | {"ImageViewPosition": ["PA", "LATERAL"]},
        key("GRD2", "A6"): study("GRD2", "A6", ["PA"]) | {"ImagePath": ["../../deid_png/x.png"]},
        key("GRD2", "A7"): {"PatientID": "GRD2", "Findings": "Clear."},
    }
    return {
        "train": train,
        "valid": {key("GRD3", "B1"): study("GRD3", "B1", ["AP"])},
        "test": {key("GRD4", "C1"): study("GRD4", "C1", ["ERECT"])},
    }


def build(root: Path) -> Path:
    raw = root / "rexgradient"
    (raw / "metadata").mkdir(parents=True)
    for part, studies in parts().items():
        (raw / "metadata" / f"{part}_metadata_view_position.json").write_text(json.dumps(studies))
        for content in studies.values():
            for path in content.get("ImagePath", []):
                if path.startswith("../deid_png"):
                    write_png(raw / path.removeprefix("../"), bits=16 if part == "test" else 8, seed=len(path))
    return raw
