"""Kermany: names of all versions, an RGB film, Kaggle's `val`, its second copy, `__MACOSX` and hidden files."""

from pathlib import Path

from tests.film_files import write_film


def build(root: Path) -> Path:
    raw = root / "kermany"
    films = raw / "chest_xray"
    for number, name in enumerate(
        (
            "train/NORMAL/IM-0115-0001.jpeg",
            "train/NORMAL/NORMAL2-IM-0035-0001.jpeg",
            "train/PNEUMONIA/person1_bacteria_1.jpeg",
            "train/PNEUMONIA/person1_bacteria_2.jpeg",
            "train/PNEUMONIA/BACTERIA-1008087-0001.jpeg",
            "val/PNEUMONIA/person1946_virus_4874.jpeg",
            "test/PNEUMONIA/person1_virus_6.jpeg",
            "test/NORMAL/IM-0001-0001.jpeg",
        )
    ):
        write_film(films / name, mode="RGB" if number == 2 else "L", seed=number)
    write_film(films / "chest_xray" / "train" / "NORMAL" / "IM-0115-0001.jpeg")
    for junk in (films / "__MACOSX" / "x.jpeg", films / "train" / "NORMAL" / "._IM-0115-0001.jpeg"):
        junk.parent.mkdir(exist_ok=True)
        junk.write_bytes(b"junk")
    (films / "train" / "NORMAL" / ".DS_Store").write_bytes(b"junk")
    return raw
