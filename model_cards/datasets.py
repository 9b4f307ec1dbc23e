"""Whether and how prepared and curated datasets may be published, and their cards."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import DatasetCard, DatasetCardData

from data_scripts.schema import SPLITS, Source
from model_cards.corpora import HUB_LICENCES, access_of, known_corpus
from model_cards.filling import TAGS, fill

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_OWN = Source("own", "Own films", "-", "-", "as the owner says", "own")


@dataclass(frozen=True)
class DatasetFolder:
    """A folder of prepared (or curated) data as it stands on disk.

    Args:
        summary: of the preparation, None for a curated dataset.
        curation: of the curation, None for a prepared folder.
        makers: loaders that made it (`summary.json`), and the source of every row.
        splits: films by split.
        columns: name -> type.
    """

    folder: Path
    summary: dict | None
    curation: dict | None
    makers: list[str]
    splits: dict[str, int]
    columns: dict[str, str]

    @property
    def shards(self) -> list[Path]:
        return sorted((self.folder / "data").glob("*.parquet"))

    @property
    def accesses(self) -> set[str]:
        return {access_of(maker) for maker in self.makers}

    @property
    def corpora(self) -> list[Source]:
        corpora = [known_corpus(maker) or _OWN for maker in self.makers]
        return list({corpus.name: corpus for corpus in corpora}.values())


def read_dataset(folder: Path, prepared_from: list[str]) -> DatasetFolder:
    """What a dataset folder holds.

    Args:
        prepared_from: of a curated dataset, the prepared folders that it was chosen from.

    Raises:
        ValueError: it is not finished or empty, or nothing tells where its films come from.
    """
    summary, curation = _read(folder / "summary.json"), _read(folder / "curation.json")
    if summary is None and curation is None:
        raise ValueError(
            f"{folder}: its preparation was not finished; give the same `data_scripts.prepare` command again"
        )
    shards = sorted((folder / "data").glob("*.parquet"))
    if not shards:
        raise ValueError(f"{folder}/data holds no Parquet files: prepare the data again")
    loaders = [summary["loader"]] if summary else _loaders_of(folder, shards, [Path(path) for path in prepared_from])
    splits = Counter()
    sources = set()
    for shard in shards:
        file = pq.ParquetFile(shard)
        splits[shard.name.split("-")[0]] += file.metadata.num_rows
        if "source" not in file.schema_arrow.names:
            raise ValueError(f"{shard} has no column source, so whose films these are is not known: prepare them again")
        sources |= set(file.read(columns=["source"])["source"].to_pylist())
    counted = {split: splits[split] for split in SPLITS if splits[split]}
    columns = {field.name: _short_type(field.type) for field in file.schema_arrow}
    return DatasetFolder(folder, summary, curation, sorted({*loaders, *sources}), counted, columns)


def _read(file: Path) -> dict | None:
    return json.loads(file.read_text()) if file.is_file() else None


def _loaders_of(folder: Path, shards: list[Path], prepared: list[Path]) -> list[str]:
    """The loaders of the prepared folders that a curated dataset was chosen from; all its records must be in them."""
    if not prepared:
        raise ValueError(
            f"{folder} is a curated dataset, which does not tell who prepared it: name the folders it was chosen from "
            "with --prepared_from"
        )
    summaries = [_read(data / "summary.json") for data in prepared]
    if None in summaries:
        raise ValueError(
            f"--prepared_from {prepared[summaries.index(None)]}: there is no summary.json of a preparation"
        )
    known = {
        record_id
        for data in prepared
        for shard in sorted((data / "data").glob("*.parquet"))
        for record_id in _ids(shard)
    }
    strangers = sum(record_id not in known for shard in shards for record_id in _ids(shard))
    if strangers:
        raise ValueError(f"{folder}: {strangers} records are in none of --prepared_from: name all folders it came from")
    return [summary["loader"] for summary in summaries]


def _ids(shard: Path) -> list[str]:
    return pq.ParquetFile(shard).read(columns=["record_id"])["record_id"].to_pylist()


def _short_type(kind: pa.DataType) -> str:
    """A column's type in words."""
    if pa.types.is_list(kind):
        return f"list of {_short_type(kind.value_type)}"
    if not pa.types.is_struct(kind):
        return str(kind)
    names = [field.name for field in kind]
    return "image" if "bytes" in names else f"({', '.join(names)})"


def public_summary(summary: dict) -> dict:
    """The summary of a preparation without the user's own names of files and columns."""
    names = (
        "loader",
        "source",
        "version",
        "image_size",
        "compression",
        "limit",
        "read",
        "written",
        "skipped",
        "splits",
    )
    names += ("origins", "views", "positives", "negatives", "uncertain", "masks", "sha256")
    return {name: summary[name] for name in names if name in summary}


def render_dataset_card(data: DatasetFolder, repo: str, private: bool, cleared_by: str | None = None) -> DatasetCard:
    """The card: sources, licences, counts and columns; no text and no id of a record."""
    licences = {HUB_LICENCES.get(corpus.licence, "other") for corpus in data.corpora}
    licence = licences.pop() if len(licences) == 1 else "other"
    films = sum(data.splits.values())
    card_data = DatasetCardData(
        pretty_name=repo.split("/")[-1],
        license=licence,
        **({"license_name": "terms-of-the-corpora"} if licence == "other" else {}),
        size_categories=[next((name for limit, name in _SIZES if films < limit), "1M<n<10M")],
        task_categories=["zero-shot-image-classification", "image-classification", "image-to-text"],
        tags=TAGS,
    )
    labels = data.summary or {}
    names = [*labels.get("positives", ()), *labels.get("negatives", ()), *labels.get("uncertain", ())]
    return fill(
        "dataset.md.jinja",
        card_data,
        title=repo.split("/")[-1],
        repo=repo,
        corpora=data.corpora,
        curation=data.curation,
        summary=data.summary,
        splits=data.splits,
        columns=data.columns,
        labels=list(dict.fromkeys(names)),
        traps=[trap for corpus in data.corpora for trap in corpus.traps],
        only_drawn=data.accesses == {"synthetic"},
        cleared_by=cleared_by if "own" in data.accesses else None,
        private=private,
    )
