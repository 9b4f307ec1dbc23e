"""One unit of preparation: the records of a list become one Parquet file, complete or not at all."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from data_scripts.images import encode_png, open_image, prepare_film, prepare_mask
from data_scripts.schema import FEATURES, DataError, Label, Record, Skipped, to_row, within

LOADERS = ("synthetic", "folder", "nih_chestxray14")
#: How many problems an error names.
SHOWN_PROBLEMS = 10
#: Rows a Parquet row group: what a reader decodes at once.
ROW_GROUP_SIZE = 256


def load_loader(name: str) -> ModuleType:
    if name not in LOADERS:
        raise DataError(f"unknown loader {name!r}, there are {', '.join(LOADERS)}")
    return importlib.import_module(f"data_scripts.loaders.{name}")


@dataclass(frozen=True)
class Shard:
    """One unit of work: the records of a list file become one Parquet file."""

    loader: str
    options: dict
    raw: str
    listing: str
    target: str
    image_size: int | None
    skip_bad: bool

    @property
    def outcome(self) -> Path:
        return Path(self.listing).with_suffix(".done.json")

    def is_complete(self) -> bool:
        """Whether the outcome is there, and the Parquet file unless all records were skipped."""
        if not self.outcome.is_file():
            return False
        return Path(self.target).is_file() or json.loads(self.outcome.read_text())["rows"] == 0


def describe_problems(skipped: list[Skipped]) -> str:
    shown = "\n".join(f"  {one.key}: {one.reason}" for one in skipped[:SHOWN_PROBLEMS])
    return f"these records cannot be used (the first {len(skipped[:SHOWN_PROBLEMS])}):\n{shown}\n" + (
        "mend them, or pass --skip_bad to leave them out (they will be listed in skipped.jsonl)"
    )


def run_shards(shards: list[Shard], num_workers: int) -> Iterator[dict]:
    """The outcome of every shard, in order; those already complete are not made again."""
    todo = [shard for shard in shards if not shard.is_complete()]
    sizes = {shard.listing: _count_lines(shard.listing) for shard in shards}
    with tqdm(total=sum(sizes.values()), desc="preparing", unit=" films", smoothing=0.05) as bar:
        bar.update(sum(sizes.values()) - sum(sizes[shard.listing] for shard in todo))
        if num_workers == 1 or len(todo) <= 1:
            for shard in todo:
                write_shard(shard)
                bar.update(sizes[shard.listing])
        else:
            _run_parallel(todo, min(num_workers, len(todo)), lambda shard: bar.update(sizes[shard.listing]))
    for shard in shards:
        yield json.loads(shard.outcome.read_text())


def _run_parallel(shards: list[Shard], num_workers: int, done: Callable[[Shard], None]) -> None:
    with ProcessPoolExecutor(num_workers) as pool:
        jobs = {pool.submit(write_shard, shard): shard for shard in shards}
        try:
            for job in as_completed(jobs):
                job.result()
                done(jobs[job])
        except BaseException:
            # The first error (or Ctrl-C) ends the work: what is complete stays complete.
            pool.shutdown(cancel_futures=True)
            raise


def _count_lines(path: str) -> int:
    with Path(path).open("rb") as file:
        return sum(1 for _ in file)


def write_shard(shard: Shard) -> None:
    """Read the images of one shard and write its Parquet file and outcome, each complete or not at all."""
    loader = load_loader(shard.loader)
    options = loader.Options(**shard.options)
    rows, skipped = [], []
    for line in Path(shard.listing).read_text().splitlines():
        record = _record_from_json(line)
        try:
            rows.append(_row(loader, options, Path(shard.raw), record, shard.image_size))
        except ValueError as error:
            kind = error.kind if isinstance(error, DataError) else "image cannot be converted"
            skipped.append(Skipped(record.record_id, str(error), kind))
            if not shard.skip_bad and len(skipped) >= SHOWN_PROBLEMS:
                break
    if skipped and not shard.skip_bad:
        raise DataError(describe_problems(skipped))
    # `load_dataset` fails on a file without rows.
    if rows:
        temporary = Path(shard.target).with_suffix(".tmp")
        table = pa.Table.from_pylist(rows, schema=FEATURES.arrow_schema)
        pq.write_table(table, temporary, row_group_size=ROW_GROUP_SIZE)
        temporary.replace(shard.target)
    outcome = {"rows": len(rows), "skipped": [dataclasses.asdict(one) for one in skipped], **_counts(rows)}
    temporary = shard.outcome.with_suffix(".tmp")
    temporary.write_text(json.dumps(outcome))
    temporary.replace(shard.outcome)


def _record_from_json(line: str) -> Record:
    values = json.loads(line)
    values["labels"] = [Label(**label) for label in values["labels"]]
    return Record(**values)


def _row(loader: ModuleType, options, raw: Path, record: Record, image_size: int | None) -> dict:
    if hasattr(loader, "read_image"):
        image, masks = loader.read_image(raw, record, options)
    else:
        image = open_image(within(raw, record.image_path))
        masks = {name: open_image(within(raw, path)) for name, path in record.mask_paths.items()}
    film = prepare_film(image, image_size)
    return {
        **to_row(record),
        # File names may hold ids of patients: the bytes alone are kept.
        "image": {"bytes": encode_png(film), "path": None, "mode": film.mode},
        "masks": [
            {"name": name, "image": {"bytes": encode_png(prepare_mask(mask, image_size)), "path": None}}
            for name, mask in masks.items()
        ],
    }


def _counts(rows: list[dict]) -> dict:
    return {
        "split": rows[0]["split"] if rows else None,
        "colour_images": sum(row["image"]["mode"] == "RGB" for row in rows),
        "views": Counter(row["view"] for row in rows),
        "flags": Counter(flag for row in rows for flag in row["flags"]),
        "positives": Counter(label["name"] for row in rows for label in row["labels"] if label["value"] == 1),
        "negatives": Counter(label["name"] for row in rows for label in row["labels"] if label["value"] == 0),
        "uncertain": Counter(label["name"] for row in rows for label in row["labels"] if label["value"] == -1),
    }
