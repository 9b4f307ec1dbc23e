"""Datasets that must not be published: by the terms of their films, or since they are not as they were prepared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from data_scripts.access import PUBLIC
from model_cards.corpora import HUB_LICENCES, access_of
from model_cards.datasets import DatasetFolder


def forbidden_data(data: DatasetFolder, public: bool, cleared_by: str | None) -> list[str]:
    """Why the terms of its films forbid to publish a dataset."""
    problems = []
    for maker in data.makers:
        if access_of(maker) not in (*PUBLIC, "own"):
            problems.append(
                f"{data.folder} holds films of {maker}, which is {access_of(maker)}: its terms forbid to pass them on; "
                "others prepare them from their own download with `data_scripts.prepare`"
            )
    if "own" in data.accesses:
        problems += _own_data(data, public, cleared_by)
    elif public:
        problems += [
            f"--public: the licence of {corpus.title} is {corpus.licence!r}, which does not clearly allow passing on "
            "changed copies: publish without --public"
            for corpus in data.corpora
            if corpus.licence not in HUB_LICENCES or "ND" in corpus.licence
        ]
    return problems


def _own_data(data: DatasetFolder, public: bool, cleared_by: str | None) -> list[str]:
    problems = []
    if public:
        problems.append(f"{data.folder} holds films of your own: these are published in private only, without --public")
    if not (cleared_by or "").strip():
        problems.append(
            f"{data.folder} holds films of your own: name who cleared them for a private repository with "
            '--own_data_cleared_by "NAME, ROLE"'
        )
    if data.summary is None or not data.summary["options"].get("hash_ids"):
        problems.append(
            f"{data.folder}: its ids are names of files or patients: prepare the films again with --hash_ids, and "
            "publish that folder"
        )
    return problems


def changed_shards(data: DatasetFolder) -> list[str]:
    """Shards that are not as they were prepared, and images that name the files they came from."""
    problems = []
    expected = (data.summary or {}).get("sha256") or {}
    if expected and set(expected) != {shard.name for shard in data.shards}:
        problems.append(f"{data.folder}/data holds other files than summary.json lists: prepare the data again")
    for shard in data.shards:
        if shard.name in expected and _sha256(shard) != expected[shard.name]:
            problems.append(f"{shard} was changed after it was prepared (SHA-256): prepare the data again")
        if any(_paths(shard)):
            problems.append(f"{shard}: its images name the files they came from: prepare the data again")
    return problems


def _paths(shard: Path) -> Iterator[str | None]:
    """Names of files that the images and masks of a shard keep."""
    for row in pq.ParquetFile(shard).read(columns=["image.path", "masks.list.element.image.path"]).to_pylist():
        yield (row["image"] or {}).get("path")
        yield from ((mask["image"] or {}).get("path") for mask in row.get("masks") or ())


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
