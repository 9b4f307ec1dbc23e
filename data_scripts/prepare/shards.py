"""Lists of records made into Parquet files, each complete or not at all, by several processes in constant memory.

Processes work on a few records at a time, whichever file those belong to, so that all are busy whatever the number of
files; this process writes the rows in their order.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from data_scripts.child_processes import end_with_parent
from data_scripts.features import FEATURES
from data_scripts.prepare.rows import COUNTED, Job, Rows, make_rows
from data_scripts.progress import progress
from data_scripts.schema import DataError, Record, Skipped, is_file, record_from_json

#: How many problems an error names.
SHOWN_PROBLEMS = 10
#: Records a process takes at a time: films of 10 megapixels take about a second then.
CHUNK = 8
#: A Parquet row group is what a reader holds at once: it ends at so many rows or bytes.
ROW_GROUP_SIZE = 256
ROW_GROUP_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Shard:
    """A list of records (JSON lines) and the Parquet file made of it."""

    listing: Path
    target: Path

    @property
    def split(self) -> str:
        return self.listing.stem.rsplit("-", 1)[0]

    @property
    def outcome(self) -> Path:
        """Counts, checksum and what was skipped: written last."""
        return self.listing.with_suffix(".done.json")

    @property
    def fingerprints(self) -> Path:
        return self.listing.with_suffix(".fingerprints.parquet")

    def records(self) -> list[Record]:
        with self.listing.open() as lines:
            return list(map(record_from_json, lines))

    def files_state(self, raw: Path) -> str:
        """Hash of the paths, sizes and times of modification of its films and masks: other ones make other rows."""
        digest = hashlib.sha256()
        for path in (path for record in self.records() for path in record.files):
            try:
                status = (raw / path).stat()
                state = f"{status.st_size} {status.st_mtime_ns}"
            except (OSError, ValueError):
                state = "missing"
            digest.update(f"{path}\0{state}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def is_complete(self) -> bool:
        """Whether the outcome is there, and the Parquet file it tells of unless all records were skipped."""
        if not self.outcome.is_file():
            return False
        outcome = json.loads(self.outcome.read_text())
        return outcome["rows"] == 0 or (self.target.is_file() and self.target.stat().st_size == outcome["bytes"])

    def is_current(self, raw: Path, skip_bad: bool) -> bool:
        """Whether it is complete, of the films as they are now, nothing that was skipped is to be tried again and no
        broken film to be skipped.

        A skipped record is tried again where bad records are not to be skipped, and where one of its files has appeared
        since (its change time tells, which unlike the time of modification cannot be older).
        """
        if not self.is_complete():
            return False
        outcome = json.loads(self.outcome.read_text())
        if skip_bad and outcome["broken"]:
            return False
        # Early versions did not note them.
        if "files" in outcome and outcome["files"] != self.files_state(raw):
            return False
        skipped = {skip["key"] for skip in outcome["skipped"]}
        if not skipped or not skip_bad:
            return not skipped
        made = self.outcome.stat().st_mtime_ns
        records = [record for record in self.records() if record.record_id in skipped]
        files = [raw / path for record in records for path in record.files]
        return not any(is_file(path) and path.stat().st_ctime_ns > made for path in files)


def describe_problems(skipped: list[Skipped]) -> str:
    shown = "\n".join(f"  {skip.key}: {skip.reason}" for skip in skipped[:SHOWN_PROBLEMS])
    return f"these records cannot be used (the first {len(skipped[:SHOWN_PROBLEMS])}):\n{shown}\n" + (
        "mend them, or pass --skip_bad to leave them out (they will be listed in skipped.jsonl)"
    )


def run_shards(shards: list[Shard], job: Job, num_workers: int, skip_bad: bool) -> None:
    """Make all shards that are not complete yet, whose films changed since, or whose skipped records may be mended.

    Raises:
        DataError: a record cannot be used and `skip_bad` is not set; complete shards stay complete.
    """
    todo = [shard for shard in shards if not shard.is_current(Path(job.raw), skip_bad)]
    sizes = {shard: _count_lines(shard.listing) for shard in shards}
    with progress(total=sum(sizes.values()), desc="preparing", unit=" films", smoothing=0.05) as bar:
        bar.update(sum(sizes.values()) - sum(sizes[shard] for shard in todo))
        chunks = (lines for shard in todo for lines in _chunks(shard.listing))
        with closing(_in_order(job, chunks, num_workers)) as made:
            for shard in todo:
                count = -(-sizes[shard] // CHUNK)
                _write_shard(shard, itertools.islice(made, count), Path(job.raw), skip_bad, bar)


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _chunks(listing: Path) -> Iterator[list[str]]:
    with listing.open() as file:
        while lines := list(itertools.islice(file, CHUNK)):
            yield lines


def _in_order(job: Job, chunks: Iterator[list[str]], num_workers: int) -> Iterator[Rows]:
    """`make_rows` of all chunks in order; only a few are under way at a time."""
    if num_workers == 1:
        for lines in chunks:
            yield make_rows(job, lines)
        return
    pool = ProcessPoolExecutor(num_workers, initializer=end_with_parent)
    waiting = deque()
    try:
        for lines in chunks:
            waiting.append(pool.submit(make_rows, job, lines))
            if len(waiting) > 3 * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # The first error (or Ctrl-C) ends the work.
        pool.shutdown(cancel_futures=True)


def _write_shard(shard: Shard, made: Iterator[Rows], raw: Path, skip_bad: bool, bar: tqdm) -> None:
    # Before any of them is read: one that changes meanwhile is read again next time.
    files = shard.files_state(raw)
    temporary = shard.target.with_suffix(".tmp")
    counts = {name: Counter() for name in COUNTED}
    skipped, fingerprints = [], []
    with _GroupWriter(temporary) as writer:
        for rows in made:
            skipped += rows.skipped
            if len(skipped) >= SHOWN_PROBLEMS and not skip_bad:
                break
            fingerprints += rows.fingerprints
            for name, counter in rows.counts.items():
                counts[name] += counter
            writer.add(rows.table)
            bar.update(rows.table.num_rows + len(rows.skipped))
    if skipped and not skip_bad:
        temporary.unlink(missing_ok=True)
        raise DataError(describe_problems(skipped))
    outcome = {
        "split": shard.split,
        "rows": writer.rows,
        "files": files,
        "skipped": [dataclasses.asdict(skip) for skip in skipped],
    }
    # `load_dataset` fails on a file without rows.
    if writer.rows:
        if fingerprints:
            pq.write_table(pa.Table.from_pylist(fingerprints), shard.fingerprints)
        with temporary.open("rb") as file:
            outcome["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        outcome["bytes"] = temporary.stat().st_size
        temporary.replace(shard.target)
    else:
        temporary.unlink()
    temporary = shard.outcome.with_suffix(".tmp")
    temporary.write_text(json.dumps({**outcome, **counts}))
    temporary.replace(shard.outcome)


class _GroupWriter:
    """A Parquet file written row group by row group."""

    def __init__(self, path: Path):
        schema = FEATURES.arrow_schema
        # Films differ from each other: a dictionary of them would only be tried in vain.
        once = [name for name in schema.names if name not in ("image", "masks", "record_id", "report")]
        self.writer = pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=once)
        self.tables: list[pa.Table] = []
        self.rows = 0

    def __enter__(self) -> _GroupWriter:
        return self

    def add(self, table: pa.Table) -> None:
        self.tables.append(table)
        if (
            sum(table.num_rows for table in self.tables) >= ROW_GROUP_SIZE
            or sum(table.nbytes for table in self.tables) >= ROW_GROUP_BYTES
        ):
            self._flush()

    def _flush(self) -> None:
        group = pa.concat_tables(self.tables).combine_chunks()
        self.tables.clear()
        if group.num_rows:
            self.writer.write_table(group, row_group_size=group.num_rows)
            self.rows += group.num_rows

    def __exit__(self, *exception) -> None:
        if self.tables:
            self._flush()
        self.writer.close()
