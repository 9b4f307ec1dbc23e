"""Long tables written in parts, so that a run that was killed goes on where it was and ends in the same file.

Rows are cut into parts and batches at places that depend on nothing but their number; each process writes the parts
that are its own into the folder `OUT.parts`. When all are there they become the row groups of one Parquet file, whose
metadata (key `METADATA`) say what it holds.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from accelerate import PartialState

from data_scripts.progress import progress
from data_scripts.schema import Skipped
from eval.processes import together
from eval.records.json_values import write_json

METADATA = b"chexficient"
_JOB = "job.json"
#: From batches of rows to their tables and what had to be left out, in order.
Work = Callable[[Sequence[range]], Iterator[tuple[pa.Table, list[Skipped]]]]


class PartedTable:
    """A Parquet file that is written in parts.

    Args:
        out: the file; beside it, `NAME.skipped.jsonl` lists what was left out.
        job: plain values that decide what the rows hold; they are kept in the file's metadata.
        count: rows, with those that will be left out.
        unit: what a row is about, for the progress.

    Raises:
        ValueError: `out`, or its parts, are of another job; the message says what differs and what to do. Or the
            folder cannot be written.
    """

    def __init__(self, out: Path, job: dict, count: int, batch_size: int, part_size: int, unit: str):
        # As JSON gives it back.
        self.out, self.count, self.unit = out, count, unit
        self.job = json.loads(
            json.dumps({**job, "rows_asked": count, "batch_size": batch_size, "part_size": part_size})
        )
        self.batch_size, self.part_size = batch_size, part_size
        self.folder = out.with_name(f"{out.name}.parts")
        self.skipped_file = out.with_suffix(".skipped.jsonl")
        with together():
            self.is_finished = out.is_file()
            if self.is_finished:
                _check_same(read_job(out), self.job, f"{out} is there already and of another run", "delete it")
            elif (self.folder / _JOB).is_file():
                before = json.loads((self.folder / _JOB).read_text())
                _check_same(before, self.job, f"{self.folder} has parts of another run", "delete that folder")
        with together(), self._writing():
            if not self.is_finished and PartialState().is_main_process:
                write_json(self.job, self.folder / _JOB)

    def write(self, work: Work, schema: pa.Schema, skipped_before: Sequence[Skipped] = ()) -> Counter:
        """Write all parts that are not there yet, then the whole; returns what was left out, counted by its kind.

        All processes must call it.

        Args:
            skipped_before: what was left out before there were rows.

        Raises:
            ValueError, RuntimeError: see `eval.processes.together`; or the list of what was left out is gone.
        """
        if not self.is_finished:
            with together():
                self._write_parts(work)
            with together(), self._writing():
                if PartialState().is_main_process:
                    self._merge(schema, skipped_before)
        if PartialState().is_main_process:
            shutil.rmtree(self.folder, ignore_errors=True)
        if not self.skipped_file.is_file():
            raise ValueError(f"{self.skipped_file}, which belongs to {self.out}, is gone: delete {self.out}, too")
        with self.skipped_file.open() as lines:
            return Counter(json.loads(line)["kind"] for line in lines)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise ValueError(
                f"--out {self.out} cannot be written: {error}. Make room, or choose a folder that can be written; what "
                f"is in {self.folder} stays, and the same command goes on from there"
            ) from error

    def _part(self, start: int) -> Path:
        return self.folder / f"{start:012}.parquet"

    def _write_parts(self, work: Work) -> None:
        state, starts = PartialState(), range(0, self.count, self.part_size)
        parts = [range(start, min(start + self.part_size, self.count)) for start in starts]
        mine = parts[state.process_index :: state.num_processes]
        todo = [part for part in mine if not self._part(part.start).is_file()]
        batches = [[part[i : i + self.batch_size] for i in range(0, len(part), self.batch_size)] for part in todo]
        done = work([batch for of_part in batches for batch in of_part])
        total, missing = sum(map(len, mine)), sum(map(len, todo))
        options = {"total": total, "initial": total - missing, "unit": f" {self.unit}", "desc": f"reading {self.unit}"}
        with progress(**options, disable=not state.is_main_process) as bar:
            for part, of_part in zip(todo, batches, strict=True):
                made = []
                for batch in of_part:
                    made.append(next(done))
                    bar.update(len(batch))
                with self._writing():
                    self._write_part(part.start, made)

    def _write_part(self, start: int, made: Sequence[tuple[pa.Table, list[Skipped]]]) -> None:
        """What was left out first: a part whose Parquet file is there is whole."""
        path = self._part(start)
        write_skipped([film for _, skipped in made for film in skipped], path.with_suffix(".skipped.jsonl"))
        unfinished = path.with_suffix(".unfinished")
        pq.write_table(pa.concat_tables([table for table, _ in made]), unfinished, compression="zstd")
        unfinished.replace(path)

    def _merge(self, schema: pa.Schema, skipped_before: Sequence[Skipped]) -> None:
        parts = [self._part(start) for start in range(0, self.count, self.part_size)]
        unfinished = self.folder / "whole.unfinished"
        whole = schema.with_metadata({METADATA: json.dumps(self.job, sort_keys=True)})
        with pq.ParquetWriter(unfinished, whole, compression="zstd") as writer:
            for part in parts:
                table = pq.read_table(part)
                if table.num_rows:
                    writer.write_table(table.cast(whole))
        lines = [json.dumps(_plain(film)) + "\n" for film in skipped_before]
        lines += [part.with_suffix(".skipped.jsonl").read_text() for part in parts]
        self.skipped_file.write_text("".join(lines))
        unfinished.replace(self.out)


def read_job(path: Path) -> dict:
    """What `PartedTable` was told about a file.

    Raises:
        ValueError: it is no Parquet file, or was not written by this project.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not readable as Parquet ({error})") from error
    if METADATA not in metadata:
        raise ValueError(f"{path} was not written by this command: its metadata lack {METADATA.decode()!r}")
    return json.loads(metadata[METADATA])


def _check_same(before: dict, now: dict, problem: str, advice: str) -> None:
    different = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if different:
        raise ValueError(f"{problem} (other {', '.join(different)}): {advice}, or choose another --out")


def _plain(skipped: Skipped) -> dict:
    values = asdict(skipped)
    return {"path": values["key"], "kind": values["kind"], "reason": values["reason"]}


def write_skipped(skipped: Sequence[Skipped], path: Path) -> None:
    """List what was left out, as JSON lines."""
    path.write_text("".join(json.dumps(_plain(film)) + "\n" for film in skipped))
