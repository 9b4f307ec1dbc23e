"""Films that occur twice in a prepared folder: equal pixels, and look-alikes on request."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from datasets import load_dataset

from data_scripts.prepared.fingerprints import as_words, difference_hashes, look_alikes, pixel_hash
from data_scripts.progress import progress

COLUMNS = ("record_id", "patient_id", "source", "split", "pixels", "difference", "inverted")


def read_fingerprints(folder: Path) -> pd.DataFrame:
    """`COLUMNS` of all films of a prepared folder; made from its images where the preparation left none, or fewer."""
    files = sorted((folder / ".prepare").glob("*.fingerprints.parquet"))
    if files and all("inverted" in pq.read_schema(file).names for file in files):
        return pd.concat([pq.read_table(file).to_pandas() for file in files], ignore_index=True)
    rows = []
    for name, split in load_dataset(str(folder)).items():
        ids = split.select_columns(["record_id", "patient_id", "source", "image"])
        for row in progress(ids, desc=f"fingerprints of {folder.name}/{name}", unit=" films"):
            film = row.pop("image")
            if film is None:
                # A text alone.
                continue
            difference, inverted = difference_hashes(film)
            row |= {"split": name, "pixels": pixel_hash(film), "difference": difference, "inverted": inverted}
            rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def exact_groups(films: pd.DataFrame) -> list[list[int]]:
    """Rows of every set of films with equal pixels."""
    return [sorted(rows) for rows in films.groupby("pixels", sort=False).indices.values() if len(rows) > 1]


def near_pairs(films: pd.DataFrame) -> list[tuple[int, int, int, bool]]:
    """Rows of every two look-alikes that are not equal, the bits (of 256) by which they differ, and whether one is the
    negative of the other."""
    count = len(films)
    pixels = films["pixels"].to_numpy()
    # Films, and behind them their negatives: a film beside another's negative is found from both sides.
    words = as_words([*films["difference"], *films["inverted"]])
    pairs = {}
    for first, second, bits in zip(*look_alikes(words), strict=True):
        a, b, inverted = int(first), int(second % count), bool(second >= count)
        if first < count and a != b and pixels[a] != pixels[b]:
            pairs.setdefault((min(a, b), max(a, b)), []).append((inverted, int(bits)))
    # Flat films resemble their negatives: what is alike as it stands is no negative.
    return [(a, b, bits, inverted) for (a, b), found in sorted(pairs.items()) for inverted, bits in [min(found)]]


def write_duplicates(out: Path, near: bool) -> dict[str, dict[str, int]]:
    """Write `duplicates.json` of a prepared folder and return its counts, which hold no id."""
    films = read_fingerprints(out)
    found = {"exact": [_group(films, rows) for rows in exact_groups(films)]}
    if near:
        found["near"] = [
            {**_group(films, pair[:2]), "bits": pair[2], "inverted": pair[3]} for pair in near_pairs(films)
        ]
    counts = {name: _counts(groups) for name, groups in found.items()}
    (out / "duplicates.json").write_text(json.dumps({"counts": counts, **found}, indent=1) + "\n")
    return counts


def _group(films: pd.DataFrame, rows) -> dict:
    chosen = films.iloc[list(rows)]
    return {
        "records": chosen["record_id"].tolist(),
        "splits": chosen["split"].tolist(),
        "patients_differ": bool(chosen["patient_id"].nunique() > 1),
    }


def _counts(groups: list[dict]) -> dict[str, int]:
    return {
        "groups": len(groups),
        "films": len({record for group in groups for record in group["records"]}),
        "across_splits": sum(len(set(group["splits"])) > 1 for group in groups),
        "across_patients": sum(group["patients_differ"] for group in groups),
    }
