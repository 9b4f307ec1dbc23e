"""What a careful colleague would ask of a prepared folder, before anybody trains on it.

    python -m data_scripts.check runs/ours/data --out check.json

Prints each kind of problem with its number of films; their ids, which may tell patients, go into the file of `--out`
alone. The exit code is 0 without errors (there may be warnings), 1 with errors, 2 if the folder cannot be read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from transformers import HfArgumentParser

from data_scripts.check import films, tables
from data_scripts.check.problem import Problem, error, warning
from data_scripts.command_line import command_name
from data_scripts.prepared.duplicates import exact_groups, read_fingerprints
from data_scripts.prepared.folder import load_prepared
from data_scripts.progress import progress, quiet_libraries
from data_scripts.schema import TEXT_ALONE


@dataclass
class CheckArguments:
    """Arguments of `data_scripts.check`, beside the folder."""

    out: str | None = field(default=None, metadata={"help": "JSON file to write all problems into, with record ids."})
    num_workers: int = field(default=os.cpu_count() or 1, metadata={"help": "Processes that decode films."})


def check_folder(folder: Path, num_workers: int = 1) -> list[Problem]:
    """All problems of a prepared folder, errors first.

    Raises:
        DataError: it is no prepared folder, or was not finished.
    """
    splits = load_prepared(str(folder), tables.COLUMNS)
    summary = _summary(folder)
    rows = pd.concat(
        [split.select_columns(list(tables.COLUMNS)).to_pandas() for split in splits.values()], ignore_index=True
    )
    problems = [*_check_files(folder, summary), *tables.check_splits(rows), *tables.check_ids(rows)]
    problems += tables.check_texts(rows)
    if not summary.get("modes", {}).get(TEXT_ALONE):
        problems += _check_copies(folder)
        for split in splits.values():
            problems += films.check_films(split, not summary.get("extract_labels"), num_workers)
    return sorted(_merged(problems), key=lambda problem: not problem.is_error)


def _summary(folder: Path) -> dict:
    path = folder / "summary.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _check_files(folder: Path, summary: dict) -> list[Problem]:
    """Parquet files that are not those that were written."""
    damaged = []
    for name, digest in progress(summary.get("sha256", {}).items(), desc="checksums", unit=" files"):
        path = folder / "data" / name
        if not path.is_file():
            damaged.append(name)
            continue
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                damaged.append(name)
    return error("files missing or other than prepared (by summary.json)", "copy them anew, or prepare anew", damaged)


def _check_copies(folder: Path) -> list[Problem]:
    """Films with equal pixels in several splits, or of several patients."""
    fingerprints = read_fingerprints(folder)
    across: dict[str, list[str]] = {"split": [], "patient_id": []}
    for group in exact_groups(fingerprints):
        copies = fingerprints.iloc[group]
        for column, records in across.items():
            if copies[column].nunique() > 1:
                records += copies["record_id"].tolist()
    return [
        *error("equal films in several splits", "they are both learnt from and tested on", across["split"]),
        *warning("equal films of several patients", "one of the patients is wrong", across["patient_id"]),
    ]


def _merged(problems: list[Problem]) -> list[Problem]:
    """One problem of each kind: splits are looked at one by one."""
    merged: dict[str, Problem] = {}
    for problem in problems:
        before = merged.get(problem.kind)
        records = (before.records if before else ()) + problem.records
        merged[problem.kind] = dataclasses.replace(problem, records=records)
    return list(merged.values())


def main(arguments: list[str] | None = None) -> None:
    usage = "%(prog)s DIR [--ARGUMENT VALUE ...]"
    parser = HfArgumentParser(CheckArguments, prog=command_name(), usage=usage)
    parser.add_argument("folder", metavar="DIR", help="A prepared folder.")
    quiet_libraries()
    try:
        given, named = parser.parse_args_into_dataclasses(arguments)
        problems = check_folder(Path(named.folder), given.num_workers)
    except ValueError as problem:
        parser.exit(2, f"error: {problem}\n")
    for problem in problems:
        level = "error  " if problem.is_error else "warning"
        print(f"{level} {len(problem.records):>9,}  {problem.kind}: {problem.advice}")
    errors = sum(problem.is_error for problem in problems)
    print(f"{named.folder}: {errors} kinds of errors, {len(problems) - errors} of warnings")
    if given.out:
        found = {"folder": named.folder, "problems": [dataclasses.asdict(problem) for problem in problems]}
        Path(given.out).write_text(json.dumps(found, indent=1) + "\n")
    raise SystemExit(1 if errors else 0)


if __name__ == "__main__":
    main()
