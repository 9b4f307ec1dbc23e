"""TBX11K: films of healthy people, of patients sick but without tuberculosis, and of tuberculosis with boxes.

Layout: `imgs/{health,sick,tb}/*.png`, `lists/TBX11K_{train,val}.txt`, `annotations/json/*.json` (COCO; boxes in pixels
of the 512-pixel films), in the raw folder or in `TBX11K/` below it. The test films have no public labels and are not
read; neither is `imgs/extra`, see the traps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_scripts.reading.matching import films_below, match_films
from data_scripts.schema import DataError, Label, Mask, Record, Skipped, Source

SOURCE = Source(
    name="tbx11k",
    title="TBX11K",
    version="2020",
    url="https://mmcheng.net/tb/",
    licence="CC BY-NC-SA 2.0",
    access="open",
    expected={"train": 6_600, "validation": 1_800},
    traps=(
        "Exposure: `imgs/extra` repeats Montgomery and Shenzhen film by film; it is not read, take those two loaders.",
        "Published zero-shot figures are on the validation list, since the labels of the test films are not public.",
        "tb1199.png is of tuberculosis but has no box, so its activity is not judged.",
        "The XML files give boxes in pixels of the original films (about 2,840), those in JSON of the 512-pixel films.",
        "There are no patient ids.",
    ),
)
TEXT_OPTIONAL = True

LISTS = {"TBX11K_train.txt": "train", "TBX11K_val.txt": "validation"}
FOLDERS = ("health", "sick", "tb")
#: Categories of the boxes, and our names.
CATEGORIES = {
    "ActiveTuberculosis": "Active Tuberculosis",
    "ObsoletePulmonaryTuberculosis": "Obsolete Tuberculosis",
}
#: Boxes are in pixels of films of this height and width.
FRAME = (512, 512)


@dataclass
class Options:
    """This loader has no arguments: the lists are official, the folders are the labels."""


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    root = "TBX11K/" if (raw / "TBX11K").is_dir() else ""
    boxes = _read_boxes(raw / root / "annotations" / "json")
    films: dict[str, str] = {}
    for folder in FOLDERS:
        films |= films_below(raw, f"{root}imgs/{folder}", (".png",), key=lambda path: f"{path.parent.name}/{path.name}")
    yield from match_films(
        _entries(raw / root / "lists"), films, lambda entry, path: _record(*entry, path, boxes), " or ".join(LISTS)
    )


def _entries(folder: Path) -> Iterator[tuple[str, str, tuple[str, str]]]:
    for name, split in LISTS.items():
        if not (folder / name).is_file():
            raise DataError(f"{folder / name}: the official list is missing")
        for number, line in enumerate((folder / name).read_text().split(), start=1):
            yield f"{name} line {number}", line, (line, split)


def _read_boxes(folder: Path) -> dict[str, dict[str, list[list[float]]]]:
    """Boxes by film ("tb/tb0005.png") and our name of the category; the files repeat each other's.

    Raises:
        DataError: there is no file, one cannot be read, or a category is unknown.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise DataError(f"{folder}: the annotations (*.json) are missing")
    boxes: dict[str, dict[str, list[list[float]]]] = {}
    for path in paths:
        try:
            content = json.loads(path.read_text())
            films = {image["id"]: image["file_name"] for image in content["images"]}
            categories = {category["id"]: category["name"] for category in content["categories"]}
            for annotation in content.get("annotations", []):
                name = CATEGORIES[categories[annotation["category_id"]]]
                found = boxes.setdefault(films[annotation["image_id"]], {}).setdefault(name, [])
                if annotation["bbox"] not in found:
                    found.append(annotation["bbox"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: not the COCO file of TBX11K ({type(error).__name__}: {error})") from error
    return boxes


def _record(key: str, split: str, path: str, boxes: dict[str, dict[str, list[list[float]]]]) -> Record:
    folder = key.split("/")[0]
    found = boxes.get(key, {})
    labels = [
        Label("Tuberculosis", int(folder == "tb")),
        Label("No Finding", int(folder == "health")),
    ]
    # Without a box nobody said whether the tuberculosis is active.
    if found or folder != "tb":
        labels += [Label(name, int(name in found)) for name in CATEGORIES.values()]
    return Record(
        record_id=f"{SOURCE.name}/{key.removesuffix('.png')}",
        source=SOURCE.name,
        patient_id=key,
        study_id=key,
        split=split,
        image_path=path,
        labels=labels,
        masks={name: Mask("boxes", corners, size=FRAME) for name, corners in found.items()},
    )
