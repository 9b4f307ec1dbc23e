"""ChestDR: films in the folders of two archives, a name with dots, a row of zeros, an unknown label value, a film that
is absent, and the lists of the challenge (lines with and without labels).
"""

from pathlib import Path

from tests.fake_files import write_png

HEADER = (
    "img_id,pleural_effusion,nodule,pneumonia,cardiomegaly,hilar_enlargement,fracture_old,fibrosis,aortic_calcification,"
    "tortuous_aorta,thickened_pleura,TB,pneumothorax,emphysema,atelectasis,calcification,pulmonary_edema,"
    "increased_lung_markings,elevated_diaphragm,consolidation"
)
DOTTED = "DX.1.2.392.200036.1.2.3.png"
#: Findings present, by film.
FILMS = {
    "5E2653D72460CFB.png": {"pleural_effusion", "TB", "fracture_old"},
    DOTTED: set(),
    "5E2653D72460CFC.png": {"thickened_pleura"},
    "5E2653D72460CFD.png": {"nodule"},
}


def cells(present: set[str]) -> str:
    return ",".join(str(int(column in present)) for column in HEADER.split(",")[1:])


def build(root: Path) -> Path:
    raw = root / "chestdr"
    lines = [HEADER]
    lines += [f"{name},{cells(present)}" for name, present in FILMS.items()]
    lines += [f"absent.png,{cells(set())}", f"odd.png,{cells(set())[:-1]}9"]
    (raw / "MedFMC_trainval_annotation").mkdir(parents=True)
    (raw / "MedFMC_trainval_annotation" / "chestdr_published_19d.csv").write_text("\n".join(lines) + "\n")
    for seed, name in enumerate([*FILMS, "odd.png"]):
        write_png(raw / ("MedFMC_train" if seed < 2 else "MedFMC_val") / "chest" / "images" / name, seed=seed)
    first, second, third, fourth = FILMS
    lists = raw / "lists"
    lists.mkdir()
    (lists / "trainval.txt").write_text(f"{first} {cells(FILMS[first])}\nodd.png {cells(set())}")
    (lists / "test_WithLabel.txt").write_text(f"{second} {cells(set())}\nunknown.png {cells(set())}\n")
    (lists / "test_WithoutLabel.txt").write_text(f"{third}\n")
    assert fourth.endswith("CFD.png"), "the last film is in no list"
    return raw
