"""Shenzhen: spellings of sex and age (months, too), a reading on the first line, a film without outline, Thumbs.db."""

from pathlib import Path

from tests.film_files import write_film, write_mask, write_table


def build(root: Path) -> Path:
    raw = root / "shenzhen"
    base = raw / "ChinaSet_AllFiles"
    names = ("CHNCXR_0001_0", "CHNCXR_0327_1", "CHNCXR_0328_1", "CHNCXR_0329_1")
    for number, name in enumerate(names):
        write_film(base / "CXR_png" / f"{name}.png", seed=number, mode="RGB" if number else "L")
    (base / "CXR_png" / "Thumbs.db").write_bytes(b"junk")
    write_mask(raw / "mask" / "CHNCXR_0001_0_mask.png", (5, 10, 60, 50))
    readings = base / "ClinicalReadings"
    write_table(readings / "CHNCXR_0001_0.txt", "male 45yrs", "normal")
    write_table(readings / "CHNCXR_0327_1.txt", "Female, 18 months", "invented shadow", "  of the right apex")
    write_table(readings / "CHNCXR_0328_1.txt", "male 33yrs invented")
    return raw
