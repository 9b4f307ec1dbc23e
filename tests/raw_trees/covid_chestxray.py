"""covid-chestxray: findings as a list and as a path, `todo` and `Unknown`, a view "?", a CT row, a film listed again
under another patient, blank and different licences, one note for two films, outlines named after the film or with
"_mask", 127 in them, a blank outline of a lateral film, an RGBA film, the unnamed last column.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.film_files import write_film, write_mask, write_table

HEADER = (
    "patientid,offset,sex,age,finding,survival,intubated,intubation_present,went_icu,in_icu,needed_supplemental_O2,"
    "extubated,temperature,pO2_saturation,leukocyte_count,neutrophil_count,lymphocyte_count,view,modality,date,location,"
    "folder,filename,doi,url,license,clinical_notes,other_notes,Unnamed: 28"
)
OPTIONS = {"mask_dir": "outlines"}


def _row(patient, offset, sex, age, finding, view, name, licence, note, modality="X-ray", folder="images") -> str:
    person, film = f'{patient},{offset},{sex},{age},"{finding}"', f"{view},{modality},2020,,{folder},{name}"
    return f"{person}{',' * 13}{film},,,{licence},{note},,"


def build(root: Path) -> Path:
    raw = root / "covid"
    write_table(
        raw / "metadata.csv",
        HEADER,
        _row(2, 0, "M", 65, "Pneumonia/Viral/COVID-19", "PA", "a.jpg", "CC BY", "Invented case of two films."),
        _row(2, 3, "M", 65, "Pneumonia/Viral/COVID-19", "L", "b.png", "CC BY", "Invented case of two films."),
        _row(3, "", "F", "", "COVID-19, ARDS", "AP Supine", "c.jpeg", "CC BY-NC-SA", "Invented case three."),
        _row(4, "", "", 30, "todo", "?", "d.jpg", "", "Invented case four."),
        _row(5, "?", "F", 41, "Streptococcus", "AP", "e.jpg", "CC BY", ""),
        _row(6, "", "M", 50, "No Finding", "PA", "f.jpg", "CC BY", "Invented case six."),
        _row(7, "", "M", 50, "Pneumonia/Viral/COVID-19", "Axial", "g.jpg", "CC BY", "", "CT", "volumes"),
        _row(8, "", "M", 50, "Pneumonia", "PA", "a.jpg", "CC BY", "Invented case two again."),
    )
    for number, name in enumerate(("a.jpg", "c.jpeg", "d.jpg", "e.jpg", "f.jpg")):
        write_film(raw / "images" / name, seed=number)
    write_film(raw / "images" / "b.png", mode="RGBA", seed=9)
    write_mask(raw / "outlines" / "a.png", (10, 10, 30, 50))
    outline = np.array(Image.open(raw / "outlines" / "a.png"))
    outline[30:40, 10:20] = 127
    Image.fromarray(outline).save(raw / "outlines" / "a.png")
    write_mask(raw / "outlines" / "c_mask.png", (10, 10, 30, 50))
    write_mask(raw / "outlines" / "b.png", (0, 0, 0, 0))
    return raw
