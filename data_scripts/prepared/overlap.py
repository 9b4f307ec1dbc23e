"""Films that several prepared folders share, so that no film is evaluated that was trained on.

    python -m data_scripts.prepared.overlap runs/nih runs/rsna runs/siim --out overlap.json

Compares fingerprints (equal pixels; look-alikes, for copies that were scaled, compressed anew or inverted), and names
the pairs of corpora whose publishers say that they share films or patients. Ids are written into the
`--out` file alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import pandas as pd
from transformers import HfArgumentParser

from data_scripts.access import loader_of
from data_scripts.command_line import command_name
from data_scripts.loaders import sharing_films
from data_scripts.prepared.duplicates import exact_groups, near_pairs, read_fingerprints
from data_scripts.schema import DataError

_FROM_NIH = ("rsna_pneumonia", "siim_acr", "ranzcr_clip")
_MASKED = ("nih_chestxray14", "chexpert_plus", "mimic_cxr_jpg", "padchest", "vindr_cxr", "candid_ptx")
#: What is said of pairs that the loaders know (`Source.shares_films_with`) and that have no words of their own.
_SHARED = "they share films or patients, or took them from one corpus: their splits are not the same"
#: In other words, pairs of loaders whose corpora share films, patients or reports, as their publishers say.
KNOWN_OVERLAPS = {
    ("nih_chestxray14", "rsna_pneumonia"): "the RSNA films are films of NIH ChestX-ray14 under other ids",
    ("nih_chestxray14", "siim_acr"): "the SIIM-ACR films were taken from NIH ChestX-ray14",
    ("nih_chestxray14", "ranzcr_clip"): "the RANZCR CLiP films are thought to come from NIH ChestX-ray14",
    **dict.fromkeys(combinations(_FROM_NIH, 2), "both took films from NIH ChestX-ray14"),
    ("tbx11k", "montgomery"): "the folder `extra` of TBX11K holds the Montgomery films",
    ("tbx11k", "shenzhen"): "the folder `extra` of TBX11K holds the Shenzhen films",
    ("chexpert_plus", "chexpert_5x200"): "the 5x200 films are of CheXpert training patients: leave those patients out",
    (
        "chexpert_plus",
        "chexlocalize",
    ): "the films are CheXpert's validation and test films: do not train on those splits",
    ("open_i", "iu_r2gen"): "the R2Gen test reports are Open-I reports",
    ("mimic_cxr_jpg", "mimic_r2gen"): "the R2Gen films are MIMIC-CXR films with a split of their own",
    ("mimic_cxr_jpg", "ms_cxr"): "the MS-CXR films are MIMIC-CXR films, its split is not that of MIMIC-CXR",
    **dict.fromkeys(
        ((corpus, "chexmask") for corpus in _MASKED), "CheXmask holds masks of training and test films alike"
    ),
}


@dataclass
class OverlapArguments:
    """Arguments of `data_scripts.prepared.overlap`, beside the folders."""

    out: str | None = field(default=None, metadata={"help": "JSON file to write all pairs into, with their ids."})
    exact_only: bool = field(default=False, metadata={"help": "Equal pixels only, no look-alikes."})


def find_overlaps(folders: list[Path], exact_only: bool = False) -> pd.DataFrame:
    """Pairs of films of different folders: folder, split, record_id and source of each ("_a", "_b"), and `bits`, by
    which their difference hashes differ, -1 where all pixels are equal; `inverted`: one is like the other's negative.

    Raises:
        DataError: a folder is given twice or does not exist.
        FileNotFoundError: a folder holds no dataset.
    """
    if len({folder.resolve() for folder in folders}) < len(folders) or len(folders) < 2:
        raise DataError(f"name two or more different prepared folders, got {[str(folder) for folder in folders]}")
    parts = []
    for number, folder in enumerate(folders):
        if not folder.is_dir():
            raise DataError(f"{folder}: there is no such folder")
        parts.append(read_fingerprints(folder).assign(folder=str(folder), number=number))
    films = pd.concat(parts, ignore_index=True)
    numbers = films["number"].to_numpy()
    pairs = [(a, b, -1, False) for rows in exact_groups(films) for a, b in combinations(rows, 2)]
    if not exact_only:
        pairs += near_pairs(films)
    pairs = [pair for pair in pairs if numbers[pair[0]] != numbers[pair[1]]]
    names = ["folder", "split", "record_id", "source"]
    first, second = (films.iloc[[pair[side] for pair in pairs]][names].reset_index(drop=True) for side in (0, 1))
    overlaps = pd.concat([first.add_suffix("_a"), second.add_suffix("_b")], axis=1)
    return overlaps.assign(bits=[pair[2] for pair in pairs], inverted=[pair[3] for pair in pairs])


def known_overlaps(sources: set[str]) -> list[str]:
    """Warnings for the corpora (names of loaders) that are used together, by what their loaders say of each other."""
    told = {frozenset(pair): (pair, why) for pair, why in KNOWN_OVERLAPS.items()}
    pairs = map(frozenset, combinations(sorted(sources), 2))
    found = [told.get(pair) or (sorted(pair), _SHARED) for pair in pairs if pair in told or _share_films(*pair)]
    return [f"{a} and {b}: {why}" for (a, b), why in found]


def _share_films(first: str, second: str) -> bool:
    return first in sharing_films(second) or second in sharing_films(first)


def main(arguments: list[str] | None = None) -> None:
    usage = "%(prog)s DIR DIR [DIR ...] [--ARGUMENT VALUE ...]"
    parser = HfArgumentParser(OverlapArguments, prog=command_name(), usage=usage)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="Prepared folders, two or more.")
    try:
        given, named = parser.parse_args_into_dataclasses(arguments)
        overlaps = find_overlaps(named.folders, given.exact_only)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    rows = overlaps[["folder_a", "split_a", "folder_b", "split_b"]].itertuples(index=False, name=None)
    kinds = [
        "equal" if bits < 0 else "inverted look-alike" if inverted else "look-alike"
        for bits, inverted in zip(overlaps["bits"], overlaps["inverted"], strict=True)
    ]
    for place, count in sorted(Counter((*row, kind) for row, kind in zip(rows, kinds, strict=True)).items()):
        folder_a, split_a, folder_b, split_b, kind = place
        print(f"{folder_a} {split_a} | {folder_b} {split_b} | {kind}: {count:,} pairs")
    if overlaps.empty:
        print("no film of one folder was found in another")
    for warning in known_overlaps(loaders_of(named.folders)):
        print(f"known: {warning}")
    if given.out:
        Path(given.out).write_text(json.dumps(overlaps.to_dict("records"), indent=1) + "\n")


def loaders_of(folders: Iterable[str | Path]) -> set[str]:
    """Names of the loaders that made the folders, as far as they are known."""
    return {loader for folder in folders if (loader := loader_of(folder))}


if __name__ == "__main__":
    main()
