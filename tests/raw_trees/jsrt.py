"""JSRT: big-endian values of 2,048 x 2,048 with air bright, tables without a header in the file's own order of columns,
masks of 1,024 pixels in two folds.
"""

from pathlib import Path

import numpy as np

from tests.film_files import write_mask, write_table


def build(root: Path) -> Path:
    raw = root / "jsrt"
    films = raw / "All247images"
    films.mkdir(parents=True)
    # The top half is air: bright in the raw file. A slope, since films are not flat.
    slope = np.linspace(0, 448, 2048).round()
    values = np.broadcast_to(1024 + slope, (2048, 2048)).astype(">u2")
    values[:1024] = 4095 - slope
    for name in ("JPCLN001", "JPCNN002"):
        (films / f"{name}.IMG").write_bytes(values.tobytes())
    write_table(
        raw / "CLNDAT_EN.txt",
        "JPCLN001.IMG\t5\t15\t53\tMale\t1634\t692\tmalignant\tl.upper lobe(S2)\tinvented",
        "",
        encoding="latin-1",
    )
    write_table(raw / "CNNDAT_EN.TXT", "JPCNN002.IMG\t?\tFemale\tnon-nodule")
    for structure, box in {"left lung": (600, 200, 900, 800), "right lung": (100, 200, 400, 800)}.items():
        write_mask(raw / "Masks" / "fold1" / "masks" / structure / "JPCLN001.gif", box, size=(1024, 1024))
    write_mask(raw / "Masks" / "fold2" / "masks" / "heart" / "JPCNN002.gif", (400, 500, 700, 800), size=(1024, 1024))
    return raw
