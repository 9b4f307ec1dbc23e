"""Montgomery: outlines of both lungs apart, a missing outline, readings with sex and age, a missing one, Thumbs.db."""

from pathlib import Path

from tests.film_files import write_film, write_mask, write_table


def build(root: Path) -> Path:
    raw = root / "montgomery"
    base = raw / "MontgomerySet"
    for number, name in enumerate(("MCUCXR_0001_0", "MCUCXR_0104_1", "MCUCXR_0108_1")):
        write_film(base / "CXR_png" / f"{name}.png", seed=number)
        write_mask(base / "ManualMask" / "leftMask" / f"{name}.png", (40, 10, 60, 50))
    for name in ("MCUCXR_0001_0", "MCUCXR_0104_1"):
        write_mask(base / "ManualMask" / "rightMask" / f"{name}.png", (5, 10, 25, 50))
    (base / "CXR_png" / "Thumbs.db").write_bytes(b"junk")
    readings = base / "ClinicalReadings"
    write_table(readings / "MCUCXR_0001_0.txt", "Patient's Sex: F", "Patient's Age: 027Y", "normal ", "", "")
    write_table(readings / "MCUCXR_0104_1.txt", "Patient's Sex: M", "Patient's Age: 064Y", "invented", "second line")
    return raw
