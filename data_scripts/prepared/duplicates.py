"""Films that occur twice in a prepared folder: equal pixels, and look-alikes on request."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from datasets import load_dataset

from data_scripts.prepared.fingerprints import as_words, difference_hash, look_alikes, pixel_hash
from data_scripts.progress import progress

COLUMNS = ("record_id", "patient_id", "source", "split", "pixels", "difference")


def read_fingerprints(folder: Path) -> pd.DataFrame:
    """`COLUMNS` of all films of a prepared folder; made from its images where the preparation left none."""
    files = sorted((folder / ".prepare").glob("*.fingerprints.parquet"))
    if files:
        return pd.concat([pq.read_table(file).to_pandas() for file in files], ignore_index=True)
    rows = []
    for name, split in load_dataset(str(folder)).items():
        ids = split.select_columns(["record_id", "patient_id", "source", "image"])
        for row in progress(ids, desc=f"fingerprints of {folder.name}/{name}", unit=" films"):
            film = row.pop("image")
            rows.append({**row, "split": name, "pixels": pixel_hash(film), "difference": difference_hash(film)})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def exact_groups(films: pd.DataFrame) -> list[list[int]]:
    """Rows of every set of films with equal pixels."""
    return [sorted(rows) for rows in films.groupby("pixels", sort=False).indices.values() if len(rows) > 1]


def near_pairs(films: pd.DataFrame) -> list[tuple[int, int, int]]:
    """Rows of every two look-alikes that are not equal, and the bits (of 256) by which they differ."""
    first, second, distance = look_alikes(as_words(films["difference"].tolist()))
    pixels = films["pixels"].to_numpy()
    differ = np.array([pixels[a] != pixels[b] for a, b in zip(first, second, strict=True)], bool)
    return [tuple(map(int, pair)) for pair in zip(first[differ], second[differ], distance[differ], strict=True)]


def write_duplicates(out: Path, near: bool) -> dict[str, dict[str, int]]:
    """Write `duplicates.json` of a prepared folder and return its counts, which hold no id."""
    films = read_fingerprints(out)
    found = {"exact": [_group(films, rows) for rows in exact_groups(films)]}
    if near:
        found["near"] = [{**_group(films, pair[:2]), "bits": pair[2]} for pair in near_pairs(films)]
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
