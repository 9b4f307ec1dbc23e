"""How fast films are prepared, and loaded again, beside the ways that come to mind first.

    python -m data_scripts.prepare.speed
    python -m data_scripts.prepare.speed --films_of DIR

Ratios of processor time on one core, median and range of turns in one process: `datasets.map` with PIL and pydicom
against `make_rows`, on random films as JPEG, PNG, uncompressed DICOM and JPEG 2000, where `--reduced_decoding` does
something with it too; and a `datasets` image column with a torch DataLoader against the training loader, on the films
that were prepared. With `--films_of`, nothing is timed: it tells how far the greys of reduced decoding are off.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import torch
from PIL import Image

from data_scripts.command_line import command_name, positive
from data_scripts.features import FEATURES
from data_scripts.films.images import open_image, prepare_film
from data_scripts.own_files.films import find_films
from data_scripts.prepare.rows import Job, make_rows
from data_scripts.prepared.films import PairDataset, film_pixels
from data_scripts.schema import DataError, Record, Skipped
from data_scripts.speed import Ratio, compare

#: Side of the prepared films in pixels.
SIZE = 378
#: Name, suffix, and how a film is written.
KINDS = ("JPEG", "PNG", "DICOM", "JPEG 2000")
#: Those that `prepare --reduced_decoding` decodes at a part of their size.
REDUCED = ("JPEG", "JPEG 2000")


def random_film(number: int, height: int, width: int) -> np.ndarray:
    """uint8 [H, W]: broad shapes and a little noise, which compress about as films do."""
    generator = np.random.default_rng(number)
    shapes = Image.fromarray(generator.integers(0, 256, (24, 20), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return np.clip(np.asarray(shapes, np.float32) + generator.normal(0, 4, (height, width)), 0, 255).astype(np.uint8)


def write_film(folder: Path, number: int, kind: str, height: int, width: int) -> str:
    """Write a film and return its name."""
    pixels = random_film(number, height, width)
    if kind in ("JPEG", "PNG"):
        name = f"{number}.{kind.lower()}"
        Image.fromarray(pixels).save(folder / name, quality=90)
        return name
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, JPEG2000Lossless

    stored = pixels.astype(np.uint16) * 16
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    compressed = kind == "JPEG 2000"
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless if compressed else ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"1.2.3.{number}"
    header = {"Modality": "DX", "BodyPartExamined": "CHEST", "Rows": height, "Columns": width, "SamplesPerPixel": 1}
    header |= {"PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}
    for field, value in (header | {"PixelRepresentation": 0, "WindowCenter": 2048, "WindowWidth": 4096}).items():
        setattr(dataset, field, value)
    if compressed:
        file = io.BytesIO()
        Image.fromarray(stored).save(file, "JPEG2000", irreversible=False, no_jp2=True)
        dataset.PixelData = encapsulate([file.getvalue()])
    else:
        dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OB" if compressed else "OW"
    dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return f"{number}.dcm"


def write_films(folder: Path, kind: str, films: int, size: tuple[int, int]) -> tuple[list[str], list[str]]:
    """Make the folder and write films into it; their names, and a record of each as JSON."""
    folder.mkdir()
    names = [write_film(folder, number, kind, *size) for number in range(films)]
    records = (Record(name, "own", name, name, "train", image_path=name, findings="Clear.") for name in names)
    return names, [json.dumps(record, default=vars) for record in records]


def map_film(row: dict) -> dict:
    """What a `datasets.map` does with a film first: decode, window, resize the short side, crop, and keep it as PNG."""
    path = row["path"]
    if path.endswith(".dcm"):
        import pydicom

        dataset = pydicom.dcmread(path)
        low = float(dataset.WindowCenter) - float(dataset.WindowWidth) / 2
        grey = np.clip((dataset.pixel_array - low) / float(dataset.WindowWidth), 0, 1) * 255
        film = Image.fromarray(grey.astype(np.uint8))
    else:
        film = Image.open(path).convert("L")
    scale = SIZE / min(film.size)
    film = film.resize((round(film.width * scale), round(film.height * scale)), Image.Resampling.BICUBIC)
    left, top = (film.width - SIZE) // 2, (film.height - SIZE) // 2
    file = io.BytesIO()
    film.crop((left, top, left + SIZE, top + SIZE)).save(file, "PNG")
    return {"image": {"bytes": file.getvalue(), "path": None}}


def prepare_ratio(
    folder: Path, kind: str, films: int, size: tuple[int, int], repeats: int, reduced: bool = False
) -> Ratio:
    """How many times the processor time of `make_rows` a `datasets.map` takes for the same films."""
    names, lines = write_films(folder, kind, films, size)
    options = {"table": None}
    job = Job("folder", options, str(folder), SIZE, "fast", reduced_decoding=reduced)
    listed = datasets.Dataset.from_list([{"path": str(folder / name)} for name in names])
    features = datasets.Features({"path": datasets.Value("string"), "image": datasets.Image()})

    def ours() -> None:
        rows = make_rows(job, lines)
        if rows.skipped:
            raise ValueError(f"{rows.skipped[0].reason}")

    def peer() -> None:
        listed.map(map_film, features=features, load_from_cache_file=False)

    return compare(ours, peer, repeats)


def grey_differences(folder: Path, size: int) -> list[float]:
    """Mean difference of the greys (0 to 255) of each film below `folder` that reduced decoding reads at less."""
    differences = []
    for path in find_films(folder, ""):
        if isinstance(path, Skipped):
            continue
        try:
            films = [open_image(folder / path, "first", reduce_to) for reduce_to in (None, size)]
        except DataError:
            # It is no film either way.
            continue
        if films[0].size != films[1].size:
            whole, reduced = (np.asarray(prepare_film(film, size), np.float64) for film in films)
            differences.append(float(np.abs(whole - reduced).mean()))
    return differences


def loader_ratio(folder: Path, films: int, repeats: int) -> Ratio:
    """How many times the processor time of the training loader an image column with a DataLoader takes for a film."""
    names, lines = write_films(folder, "PNG", films, (512, 420))
    table = make_rows(Job("folder", {"table": None}, str(folder), SIZE, "fast"), lines).table
    prepared = PairDataset(datasets.Dataset(table, info=datasets.DatasetInfo(features=FEATURES)))
    usual = [map_film({"path": str(folder / name)}) for name in names]
    column = datasets.Dataset.from_list(usual, features=datasets.Features({"image": datasets.Image()}))

    def to_floats(rows: list[dict]) -> torch.Tensor:
        return torch.stack(
            [torch.from_numpy(np.asarray(row["image"].convert("RGB"), np.float32) / 255) for row in rows]
        ).permute(0, 3, 1, 2)

    def ours() -> None:
        for start in range(0, films, 32):
            pairs = prepared.__getitems__(list(range(start, min(start + 32, films))))
            film_pixels([pair["image"] for pair in pairs], SIZE)

    def peer() -> None:
        for _ in torch.utils.data.DataLoader(column, batch_size=32, collate_fn=to_floats):
            pass

    return compare(ours, peer, repeats)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=command_name(), description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=positive, default=4, help="Prepared in a turn; 32 times as many are loaded.")
    parser.add_argument("--size", type=positive, nargs=2, default=(3000, 2500), help="Height and width of the films.")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS, help="Kinds of files.")
    parser.add_argument("--films_of", help="Folder of films whose greys are compared.")
    parser.add_argument("--repeats", type=positive, default=5, help="Turns; medians and ranges are shown.")
    parsed = parser.parse_args(arguments)
    if parsed.films_of:
        differences = grey_differences(Path(parsed.films_of), SIZE)
        if not differences:
            parser.error(f"--films_of {parsed.films_of}: no film there would be decoded at less than its size")
        mean, most = np.mean(differences), max(differences)
        print(f"{len(differences)} films at {SIZE} px: greys are off by {mean:.2f} of 255, by {most:.2f} at worst")
        return
    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    ways = [(kind, False) for kind in parsed.kinds] + [(kind, True) for kind in parsed.kinds if kind in REDUCED]
    measured: dict[str, Callable[[Path], Ratio]] = {
        f"prepare, {kind}{', reduced decoding' if reduced else ''}": partial(
            prepare_ratio,
            kind=kind,
            films=parsed.films,
            size=parsed.size,
            repeats=parsed.repeats,
            reduced=reduced,
        )
        for kind, reduced in ways
    }
    measured["loader"] = lambda folder: loader_ratio(folder, 32 * parsed.films, parsed.repeats)
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, measure) in enumerate(measured.items()):
            print(f"{name}: the usual way takes {measure(Path(scratch) / str(number))} times ours", flush=True)


if __name__ == "__main__":
    main()
