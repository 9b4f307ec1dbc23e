"""The films of a benchmark: prepared folders, narrowed down to what the benchmark is about."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, concatenate_datasets

from data_scripts.access import loader_of
from data_scripts.prepared.columns import read_column
from data_scripts.prepared.folder import load_prepared
from data_scripts.prepared.labels import label_matrix
from data_scripts.prepared.masks import mask_names
from data_scripts.schema import DataError
from eval.benchmarks import OWN, Benchmark

_COLUMNS = {
    "zero_shot": ("image", "labels", "patient_id"),
    "retrieval": ("image", "report", "patient_id", "study_id"),
    "disease_prediction": ("image", "labels", "patient_id"),
    "segmentation": ("image", "masks", "patient_id"),
    "grounding": ("image", "masks", "patient_id"),
    "report_generation": ("image", "report", "patient_id"),
}
#: A benchmark's split that stands for all splits together (sets that nothing was trained on).
ALL = "all"


def find_folders(benchmark: Benchmark, data: Path, alone: bool) -> list[Path] | None:
    """The prepared folders of a benchmark, that of its training split last; None where one is absent.

    Args:
        data: a folder of prepared folders; or, if `alone`, it may be the benchmark's prepared folder itself.
    """
    names = [benchmark.prepared]
    if benchmark.train_dataset is not None and benchmark.task != "zero_shot":
        names.append(benchmark.train_dataset)
    folders = [data / name for name in names]
    if all(folder.is_dir() for folder in folders):
        return folders
    # Where prepared folders lie below, it is no prepared folder itself: this one's is absent.
    below = any((folder / "summary.json").is_file() or (folder / ".prepare").is_dir() for folder in data.glob("*/"))
    return [data] if alone and len(names) == 1 and not below else None


def names_of_data(folder: Path) -> tuple[str, str]:
    """What a prepared folder is called in names of results, and the dataset that it was prepared from."""
    loader = loader_of(folder)
    name = folder.resolve().name if loader in (None, OWN) else loader
    return name, loader or name


def other_data(benchmark: Benchmark, folders: list[Path]) -> list[str]:
    """A note for each of the folders that holds other data than the benchmark's, by what its preparation noted.

    Raises:
        DataError: the benchmark is of one corpus and a folder was prepared from another.
    """
    notes = []
    for folder, wanted in zip(folders, (benchmark.dataset, benchmark.train_dataset), strict=False):
        loader = loader_of(folder)
        # Of one's own films, any corpus is.
        if loader in (None, wanted) or wanted == OWN:
            continue
        if loader != OWN and wanted != "synthetic":
            raise DataError(f"{folder} was prepared from {loader!r}, but {benchmark.name} is about {wanted!r}")
        notes.append(f"The films were prepared by the loader {loader!r}: they are not those of {wanted!r}.")
    return notes


def other_splits(benchmark: Benchmark, splits: DatasetDict) -> list[str]:
    """A note where the films of the splits are not as many as in the benchmark's published protocol."""
    found = {name: len(splits[name]) if name in splits else 0 for name in benchmark.splits}
    if found == dict(benchmark.splits):
        return []
    listed = ", ".join(f"{name} {found[name]:,} of {films:,}" for name, films in benchmark.splits.items())
    return [
        f"The films are not those of the published protocol ({listed}): figures do not compare with published ones."
    ]


def load_splits(benchmark: Benchmark, folders: list[Path], limit: int | None) -> DatasetDict:
    """The splits of a benchmark with the films that it is about.

    Args:
        folders: of `find_folders`.
        limit: so many of the first films of every split. Frequencies in training need no images: the training split
            of a zero-shot benchmark stays whole.

    Raises:
        DataError: a folder is no prepared dataset (see `load_prepared`) or lacks the split, or no film is left.
    """
    columns = _COLUMNS[benchmark.task]
    splits = load_prepared(str(folders[0]), columns)
    if len(folders) > 1:
        splits["train"] = load_prepared(str(folders[1]), columns)["train"]
    if benchmark.split == ALL:
        splits[ALL] = concatenate_datasets([splits[name] for name in splits])
    if benchmark.split not in splits:
        raise DataError(f"--data {str(folders[0])!r} has no split {benchmark.split!r}, it has {sorted(splits)}")
    splits = DatasetDict({name: _narrow(split, benchmark) for name, split in splits.items()})
    if len(splits[benchmark.split]) == 0:
        asked = f" of views {list(benchmark.views)}" if benchmark.views else ""
        raise DataError(f"split {benchmark.split!r} of {folders[0]} is empty: it has no films{asked}")
    if limit is None:
        return splits
    whole = ("train",) if benchmark.task == "zero_shot" and benchmark.split != "train" else ()
    return DatasetDict(
        {
            name: split if name in whole else split.select(range(min(limit, len(split))))
            for name, split in splits.items()
        }
    )


def of_these_data(benchmark: Benchmark, splits: DatasetDict) -> Benchmark:
    """The benchmark with those labels, or the union of those masks, of its split that its `words` mean.

    Raises:
        DataError: the data have none.
    """
    if not benchmark.words:
        return benchmark
    split = splits[benchmark.split]
    outlined = benchmark.task == "segmentation"
    if outlined:
        there = sorted(set().union(*mask_names(split))) if "masks" in split.column_names else []
    else:
        there = label_matrix(split)[0]
    named = tuple(name for name in there if set(benchmark.words).intersection(re.split(r"[\W_]+", name.lower())))
    if not named:
        what, words = "masks" if outlined else "labels", ", ".join(benchmark.words)
        raise DataError(f"the data have no {what} that are named by one of {words}; there are {there or 'none at all'}")
    return replace(benchmark, structures={" or ".join(named): named}) if outlined else replace(benchmark, labels=named)


def files_fingerprint(folders: list[Path]) -> str:
    """Hash of the files of prepared folders: of their names and sizes, and of what they hold beside images, as it is
    stored. Differs once they were prepared in another way; a label or an id that is another need not change a size.
    """
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.rglob("*.parquet")):
            digest.update(f"{file.relative_to(folder)} {file.stat().st_size}\n".encode())
            for column in _stored_beside_images(file):
                digest.update(column)
    return digest.hexdigest()[:16]


def _stored_beside_images(path: Path) -> Iterator[bytes]:
    """The columns of a Parquet file as they are stored, apart from the bytes of images."""
    about = pq.read_metadata(path)
    with path.open("rb") as file:
        for group in map(about.row_group, range(about.num_row_groups)):
            for column in map(group.column, range(group.num_columns)):
                if not column.path_in_schema.endswith(".bytes"):
                    file.seek(column.dictionary_page_offset or column.data_page_offset)
                    yield file.read(column.total_compressed_size)


def _narrow(split: Dataset, benchmark: Benchmark) -> Dataset:
    rows = list(range(len(split)))
    if benchmark.views:
        _require(split, "view", benchmark)
        views = split["view"][:]
        rows = [row for row in rows if views[row] in benchmark.views]
    if benchmark.first_of_study:
        _require(split, "study_id", benchmark)
        # A study's name need not be unique over patients.
        studies = list(zip(read_column(split, "patient_id"), read_column(split, "study_id"), strict=True))
        rows = list({studies[row]: row for row in reversed(rows)}.values())[::-1]
    return split if len(rows) == len(split) else split.select(rows)


def _require(split: Dataset, column: str, benchmark: Benchmark) -> None:
    if column not in split.column_names:
        raise DataError(f"{benchmark.name} needs the column {column!r}, the data have {split.column_names}")
