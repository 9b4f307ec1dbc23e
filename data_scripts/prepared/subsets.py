"""Strictly nested subsets of a training corpus by patient, written once as files of record ids.

    python -m data_scripts.prepared.subsets DATA/own --out DATA/own_subsets --sizes 300 1000 3000
    python -m data_scripts.prepared.subsets DATA/own --out DATA/own_subsets --count 5 --smallest 300 --numbered
    python -m data_scripts.prepared.subsets DATA/nih_chestxray14 --out DATA/nih_subsets --lists train_1.txt train_10.txt

The patients of the training split are shuffled once by the seed; a size is the shortest run of them from the start that
has at least so many films. So a patient is never divided, every size holds the smaller ones, and nothing is stratified.
Writes `OUT/SIZE.txt` (`--subset` of `train.pretrain` and `train.adapt`) for every size asked for, and
`OUT/subsets.json` last, with what each size came to. With `--numbered` the files are `1.txt` and so on from the
smallest: names that a study can hold before it knows how many films there are.

`--lists` takes the subsets of a study as they were published, a film's path a line (see `reading/film_lists.py`), and
writes a file of ids of the same name for each. Whether they nest or divide patients is the study's affair.

To compare sizes at equal compute (as arXiv 2509.12818 does), train all with the same `--max_steps`; with the same
`--num_train_epochs` each film is seen equally often, and larger sizes cost more.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from transformers import HfArgumentParser

from data_scripts.command_line import command_name
from data_scripts.prepared.columns import read_column
from data_scripts.prepared.id_files import check_told_apart, write_ids
from data_scripts.prepared.mixture import Mixture, Part, load_mixture
from data_scripts.progress import quiet_libraries
from data_scripts.reading.film_lists import by_last_parts, read_film_list
from data_scripts.schema import DataError

#: What is written last.
LIST_FILE = "subsets.json"
#: Sizes that are spaced closer than this (our choice; arXiv 2509.12818 has 1.7 to 10) tell no curve.
LEAST_RATIO = 1.25


@dataclass
class SubsetArguments:
    """Arguments of this command, after the prepared folders."""

    out: str = field(metadata={"help": "Folder of the files of ids, which must not hold subsets yet."})
    sizes: list[int] = field(default_factory=list, metadata={"help": "Films of each subset."})
    count: int | None = field(
        default=None, metadata={"help": "In place of sizes: so many, evenly spaced in log up to all films."}
    )
    smallest: int | None = field(default=None, metadata={"help": "Films of the smallest one, with count."})
    numbered: bool = field(
        default=False, metadata={"help": "With count: files are named by their number from 1, not by their size."}
    )
    lists: list[str] = field(
        default_factory=list, metadata={"help": "In place of sizes: lists of films, one subset each."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of the order of the patients."})

    def __post_init__(self):
        spaced = self.count is not None and self.smallest is not None
        if sum((bool(self.sizes), spaced, bool(self.lists))) != 1 or (self.count is None) != (self.smallest is None):
            raise DataError("give sizes (such as --sizes 300 1000 3000), count with smallest, or lists")
        if self.numbered and not spaced:
            raise DataError("numbered goes with count and smallest: sizes that are given have names")
        if len({Path(file).name for file in self.lists}) < len(self.lists):
            raise DataError(f"lists {self.lists}: two are of one name, which the files of ids would have")
        if spaced and (self.count < 2 or self.smallest < 1):
            raise DataError(f"count is {self.count} and smallest {self.smallest}: at least 2 sizes, of 1 film or more")


@dataclass(frozen=True)
class Subset:
    """A size as asked for (of a list: its lines), and what it came to."""

    size: int
    films: int
    patients: int
    file: str


def spaced_sizes(count: int, smallest: int, films: int) -> list[int]:
    """`count` sizes from `smallest` to `films`, evenly spaced in log.

    Raises:
        DataError: the corpus has no more films than the smallest size, or so few that sizes would lie too close.
    """
    if smallest >= films:
        raise DataError(f"smallest is {smallest:,} and the corpus has {films:,} training films: lower it")
    ratio = (films / smallest) ** (1 / (count - 1))
    if ratio < LEAST_RATIO:
        raise DataError(
            f"{count} sizes from {smallest:,} to the {films:,} training films of the corpus would each be {ratio:.2f} "
            f"times the one before, too close to tell a curve (at least {LEAST_RATIO}): lower smallest or count"
        )
    return [int(size) for size in np.geomspace(smallest, films, count).round()]


def nested_rows(patients: Sequence[str], sizes: Sequence[int], seed: int) -> list[np.ndarray]:
    """Rows of each of the `sizes`, in the order of the corpus.

    Args:
        patients: [films], whose each film is.

    Raises:
        DataError: sizes that do not rise strictly, one above the corpus, or two that come to the same films, since the
            next patient has more films than lie between them.
    """
    if any(size < 1 for size in sizes) or any(later <= size for size, later in pairwise(sizes)):
        raise DataError(f"sizes are {list(sizes)}: they must be above 0 and rise strictly")
    if sizes[-1] > len(patients):
        raise DataError(f"size {sizes[-1]:,} is above the corpus, which has {len(patients):,} training films: lower it")
    names, numbers = np.unique(np.asarray(patients), return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    place = np.argsort(order)[numbers]
    films = np.cumsum(np.bincount(place))
    taken = [int(np.searchsorted(films, size)) + 1 for size in sizes]
    for number, (fewer, more) in enumerate(pairwise(taken)):
        if fewer == more:
            raise DataError(
                f"sizes {sizes[number]:,} and {sizes[number + 1]:,} come to the same {films[more - 1]:,} films of "
                f"{more:,} patients, as patients are not divided: space them further"
            )
    return [np.flatnonzero(place < count) for count in taken]


def listed_rows(ids: Sequence[str], file: Path) -> tuple[int, np.ndarray]:
    """Lines of a list of films, and the rows of those that are among `ids`.

    Raises:
        DataError: there is no such list, it lists a film twice, or none of the films.
    """
    listed = read_film_list(file)
    known, names = by_last_parts(listed, ids)
    rows = np.flatnonzero([name in known for name in names])
    if len(rows) == 0:
        raise DataError(f"{file}: no line, such as {listed[0].path}, is one of the films, such as {ids[0]}")
    return len(listed), rows


def write_subsets(folders: Sequence[str], arguments: SubsetArguments) -> list[Subset]:
    """Write the files of ids, and `subsets.json` last.

    Raises:
        DataError: see `nested_rows` and `listed_rows`; no prepared data; films of two folders have one id; `out` holds
            subsets already, which runs may know.
    """
    out = Path(arguments.out)
    if (out / LIST_FILE).exists():
        raise DataError(f"{out} holds subsets already, which are written once: choose another --out")
    columns = ("record_id", "patient_id")
    corpus = load_mixture(Mixture(tuple(map(Part, folders))), "train", columns)
    patients, ids = (np.asarray(read_column(corpus, name)) for name in columns[::-1])
    if len(np.unique(ids)) < len(ids):
        parts = [load_mixture(Mixture((Part(folder),)), "train", columns) for folder in folders]
        check_told_apart(folders, [read_column(part, "record_id") for part in parts])
    if arguments.lists:
        names = [Path(file).name for file in arguments.lists]
        sizes, chosen = zip(*(listed_rows(ids.tolist(), Path(file)) for file in arguments.lists), strict=True)
    else:
        sizes = arguments.sizes or spaced_sizes(arguments.count, arguments.smallest, len(ids))
        names = [f"{number if arguments.numbered else size}.txt" for number, size in enumerate(sizes, 1)]
        chosen = nested_rows(patients, sizes, arguments.seed)
    out.mkdir(parents=True, exist_ok=True)
    subsets = []
    for name, size, rows in zip(names, sizes, chosen, strict=True):
        subsets.append(Subset(size, len(rows), len(np.unique(patients[rows])), name))
        write_ids(ids[rows].tolist(), out / name)
    about: dict = {"folders": list(folders), "seed": arguments.seed, "films": len(ids)}
    about["patients"] = len(np.unique(patients))
    about["subsets"] = [asdict(subset) for subset in subsets]
    (out / LIST_FILE).write_text(json.dumps(about, indent=2) + "\n")
    return subsets


def main(arguments: list[str] | None = None) -> None:
    quiet_libraries()
    usage = "%(prog)s DIR [DIR ...] --out OUT [--ARGUMENT VALUE ...]"
    parser = HfArgumentParser(SubsetArguments, prog=command_name(), usage=usage)
    parser.add_argument("folders", nargs="+", metavar="DIR", help="Prepared folders.")
    try:
        parsed, named = parser.parse_args_into_dataclasses(arguments)
        subsets = write_subsets(named.folders, parsed)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    for subset in subsets:
        print(f"{Path(parsed.out, subset.file)}: {subset.films:,} films of {subset.patients:,} patients")
        if parsed.lists and subset.films < subset.size:
            print(f"  warning: {subset.size - subset.films:,} lines of the list are no training films of the data")


if __name__ == "__main__":
    main()
