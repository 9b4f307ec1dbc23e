"""Judge the input check on prepared folders: false alarms on frontal films, and how many others it finds.

    python -m data_scripts.prepare nih_chestxray14 --raw NIH --out DATA/nih --image_size 0
    python -m data_scripts.input_check.judge DATA/nih [DATA/covid_chestxray ...] [--out judged.json]

Films that the folder calls PA or AP are the whole frontal films, those that it calls LATERAL the laterals; of each
frontal film one inverted, turned, doubled (with another film) and cropped image is made, and as many drawings and
photographs that the check was not fitted to are looked at. Intervals are Wilson's, of 95 %, over images: films of one
patient are alike, so they are somewhat too narrow.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import binomtest
from transformers import HfArgumentParser

from data_scripts.command_line import command_name
from data_scripts.input_check.examples import SPOILERS, no_chest, photograph, photographs
from data_scripts.prepared.folder import load_prepared
from data_scripts.progress import progress, quiet_libraries
from data_scripts.schema import DataError
from modeling_chexficient.image_processing_chexficient import to_eight_bit
from modeling_chexficient.input_check_chexficient import FRONTAL, check_film

#: Views of whole frontal films, and those that are looked for.
_VIEWS = {"PA": FRONTAL, "AP": FRONTAL, "LATERAL": "lateral"}


@dataclass
class JudgeArguments:
    """Arguments of `data_scripts.input_check.judge`, beside the folders."""

    out: str | None = field(default=None, metadata={"help": "JSON file for the table."})
    seed: int = field(default=7, metadata={"help": "Of what is made of the films."})


@dataclass
class Judged:
    """What the check said of images of one kind.

    Attributes:
        kind: of `CLASSES`, for "other" by its source.
        images, patients: their numbers; 0 patients where nobody is shown.
        found: images with at least one reason.
        named: images with each reason.
        low, high: interval of found / images.
    """

    kind: str
    images: int
    patients: int
    found: int
    named: dict[str, int]
    low: float
    high: float


def judge(folder: str, seed: int = 7) -> list[Judged]:
    """What the check says of the films of one prepared folder, and of what is made of them.

    Raises:
        DataError: it is no prepared folder, or has no frontal film.
    """
    kinds: dict[str, list[list[str]]] = {}
    patients: dict[str, set[str]] = {}
    for kind, patient, image in progress(_images(folder, seed), desc="checking films", unit=" images"):
        kinds.setdefault(kind, []).append([reason.kind for reason in check_film(image)])
        patients.setdefault(kind, set()).update({patient} - {""})
    return [_judged(kind, said, len(patients[kind])) for kind, said in kinds.items()]


def _judged(kind: str, said: list[list[str]], patients: int) -> Judged:
    found = sum(bool(reasons) for reasons in said)
    interval = binomtest(found, len(said)).proportion_ci(method="wilson")
    named = Counter(name for reasons in said for name in reasons)
    return Judged(kind, len(said), patients, found, dict(named.most_common()), interval.low, interval.high)


def _images(folder: str, seed: int) -> Iterator[tuple[str, str, Image.Image]]:
    """Kind, patient ("" for drawings and photographs) and image."""
    rng, pictures = np.random.default_rng(seed), photographs()[1::2]
    splits = load_prepared(folder, ("image", "view", "patient_id"))
    films: list[tuple[str, Image.Image]] = []
    for split in splits.values():
        for row in split:
            if row["view"] in _VIEWS:
                film = to_eight_bit(row["image"])
                yield _VIEWS[row["view"]], row["patient_id"], film
                if _VIEWS[row["view"]] == FRONTAL:
                    films.append((row["patient_id"], film.convert("L")))
    if not films:
        raise DataError(f"{folder}: no film is PA or AP by its view, so there is nothing to judge false alarms by")
    for number, (patient, film) in enumerate(films):
        # Another patient's, or the same one's film beside it.
        neighbour = films[(number + 1) % len(films)][1]
        for kind, spoil in SPOILERS.items():
            yield kind, patient, spoil([film, neighbour] if kind == "doubled" else [film], rng)
        yield "other, drawn", "", no_chest(rng)
        yield "other, photographs", "", photograph(pictures, rng)


def table(judged: list[Judged]) -> str:
    """The lines that are printed."""
    lines = ["| kind | images | patients | found | 95 % | named |", "|---|---:|---:|---:|---|---|"]
    for row in judged:
        named = ", ".join(f"{name} {count}" for name, count in row.named.items())
        share = f"{100 * row.found / row.images:.1f} % ({row.found})"
        interval = f"{100 * row.low:.1f} to {100 * row.high:.1f}"
        lines.append(f"| {row.kind} | {row.images} | {row.patients} | {share} | {interval} | {named} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    usage = "%(prog)s DIR [DIR ...] [--ARGUMENT VALUE ...]"
    parser = HfArgumentParser(JudgeArguments, prog=command_name(), usage=usage)
    parser.add_argument("folders", nargs="+", metavar="DIR", help="Prepared folders.")
    quiet_libraries()
    results = {}
    try:
        given, named = parser.parse_args_into_dataclasses(arguments)
        for folder in named.folders:
            results[folder] = judge(folder, given.seed)
            print(f"{folder}\n\n{table(results[folder])}\n")
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    if given.out:
        plain = {folder: [asdict(row) for row in judged] for folder, judged in results.items()}
        Path(given.out).write_text(json.dumps(plain, indent=1) + "\n")


if __name__ == "__main__":
    main()
