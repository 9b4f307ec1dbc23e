"""Object-CXR: all three shapes in one annotation, a blank annotation, corners outside of the film or reversed."""

from pathlib import Path

from tests.film_files import write_film, write_table


def build(root: Path) -> Path:
    raw = root / "object_cxr"
    for number, name in enumerate(("train/00001.jpg", "train/00002.jpg", "dev/08001.jpg")):
        write_film(raw / name, size=(100, 80), seed=number)
    write_table(
        raw / "train.csv",
        "image_name,annotation",
        "00001.jpg,0 10 10 20 15;1 40 40 60 50;2 70 10 90 10 90 30 70 30",
        "00002.jpg,",
    )
    write_table(raw / "dev.csv", "image_name,annotation", "08001.jpg,0 30 20 -5 -4")
    return raw
