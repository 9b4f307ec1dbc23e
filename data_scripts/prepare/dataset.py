"""A prepared dataset folder: its arguments, and how it is written."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from data_scripts.films.images import COMPRESSIONS
from data_scripts.loaders import load_loader
from data_scripts.prepare.card import write_card
from data_scripts.prepare.listing import VERSION, list_records, public_options
from data_scripts.prepare.rows import COUNTED, Job
from data_scripts.prepare.shards import Shard, run_shards
from data_scripts.prepared.duplicates import write_duplicates
from data_scripts.reading.film_lists import parse_counts, parse_lists
from data_scripts.schema import SPLITS, DataError, Skipped


@dataclass
class PrepareArguments:
    """Arguments of `data_scripts.prepare`, beside those of the loader."""

    out: str = field(metadata={"help": "Folder to write the dataset into."})
    raw: str | None = field(default=None, metadata={"help": "Folder of the raw download (not for synthetic)."})
    image_size: int = field(
        default=378, metadata={"help": "Short side and crop in pixels, as the model will see it; 0 keeps the size."}
    )
    compression: str = field(
        default="fast",
        metadata={
            "help": "Of the films, both lossless PNG. fast: compressed by Parquet alone (60 kB a film at 378 px; 143 "
            "kB in memory and in the cache of load_dataset; 7,900 films/s decoded on one core). small: compressed "
            "within the PNG (57 kB everywhere; 1,300 films/s).",
            "choices": list(COMPRESSIONS),
        },
    )
    mapping: str | None = field(
        default=None, metadata={"help": "YAML file with any arguments of the loader; those given here come first."}
    )
    skip_bad: bool = field(
        default=False,
        metadata={
            "help": "List what cannot be used, and films that look broken, in skipped.jsonl and go on; else stop."
        },
    )
    allow_empty_reports: bool = field(
        default=False,
        metadata={
            "help": "Keep records without a report if they have labels or masks, or nothing but films was named."
        },
    )
    extract_labels: bool = field(
        default=False,
        metadata={"help": "Take the labels of unlabelled English reports from their text, by the rules of extraction."},
    )
    drop_priors: bool = field(
        default=False,
        metadata={
            "help": "Take comparisons with earlier films out of English training reports, by rules (prepare/priors.py)."
        },
    )
    split_lists: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Splits by lists of films in place of the corpus's own: train=FILE validation=FILE test=FILE, a "
            "path a line. Films in no list are left out."
        },
    )
    split_counts: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Splits sampled by patient in place of the corpus's own: validation=11219 test=22433 films, the "
            "rest for training; the seed is the loader's split_seed. Without test=, test films stay."
        },
    )
    limit: int = field(default=0, metadata={"help": "Only the first so many records, for a trial; 0: all."})
    dry_run: bool = field(
        default=False, metadata={"help": "Write nothing: show the first records and what would be skipped."}
    )
    near_duplicates: bool = field(
        default=False, metadata={"help": "Report look-alikes in duplicates.json too, not only films of equal pixels."}
    )
    num_workers: int = field(default=os.cpu_count() or 1, metadata={"help": "Processes that decode images."})
    shard_megabytes: int = field(default=500, metadata={"help": "Size of a Parquet file, estimated beforehand."})
    rows_per_shard: int = field(default=0, metadata={"help": "At most so many records a Parquet file; 0: by size."})
    num_shards: int = field(default=1, metadata={"help": "Hosts that share the work."})
    shard_index: int = field(default=0, metadata={"help": "Which of them this is, from 0."})

    def __post_init__(self):
        if self.split_lists and self.split_counts:
            raise ValueError("give split_lists or split_counts, not both: either says which film is of which split")
        # Refuse now what listing the records would refuse.
        self.lists, self.counts = parse_lists(self.split_lists), parse_counts(self.split_counts)
        if self.image_size < 0 or 0 < self.image_size < 32:
            raise ValueError(f"image_size is {self.image_size}: give at least 32, or 0 to keep the original size")
        for name, least in (("num_workers", 1), ("shard_megabytes", 1), ("num_shards", 1), ("rows_per_shard", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least {least}")
        if self.limit < 0:
            raise ValueError(f"limit is {self.limit}, it must be at least 0")
        if not 0 <= self.shard_index < self.num_shards:
            raise ValueError(f"shard_index is {self.shard_index}, it must be 0 to {self.num_shards - 1} (num_shards)")
        if self.compression not in COMPRESSIONS:
            raise ValueError(f"compression is {self.compression!r}, there are {COMPRESSIONS}")


def prepare(loader_name: str, arguments: PrepareArguments, options) -> dict:
    """Write the dataset folder and return its summary (also in `summary.json`).

    Where other hosts have not finished their share, the result is {"complete_shards": n, "shards": m} alone, and
    neither card nor summary is written.

    Raises:
        DataError: the raw data cannot be used; the first ten culprits are named.
    """
    loader = load_loader(loader_name)
    raw = raw_folder(loader_name, arguments)
    out = Path(arguments.out)
    work = out / ".prepare"
    listing = list_records(loader, raw, options, arguments, work)
    # Written last: a folder without it is not finished.
    (out / "summary.json").unlink(missing_ok=True)
    (out / "data").mkdir(exist_ok=True)
    shards = [
        Shard(path, out / "data" / f"{path.stem}-of-{len(paths):05d}.parquet")
        for paths in listing.paths.values()
        for path in paths
    ]
    job = Job(
        loader_name,
        dataclasses.asdict(options),
        str(raw),
        arguments.image_size or None,
        arguments.compression,
        arguments.skip_bad,
    )
    own = shards[arguments.shard_index :: arguments.num_shards]
    run_shards(own, job, arguments.num_workers, arguments.skip_bad)
    complete = [shard for shard in shards if shard.is_complete()]
    if len(complete) < len(shards):
        return {"complete_shards": len(complete), "shards": len(shards)}
    outcomes = [json.loads(shard.outcome.read_text()) for shard in shards]
    skipped = listing.skipped + [Skipped(**skip) for outcome in outcomes for skip in outcome["skipped"]]
    summary = {**_summarise(loader, loader_name, arguments, options, outcomes, skipped), **listing.patients}
    if arguments.drop_priors:
        summary["drop_priors"] = listing.priors
    if not summary["written"]:
        raise DataError(f"{raw}: none of the {summary['read']} records could be used; the first: {skipped[0].reason}")
    summary["sha256"] = {
        shard.target.name: outcome["sha256"] for shard, outcome in zip(shards, outcomes, strict=True) if outcome["rows"]
    }
    summary["duplicates"] = write_duplicates(out, arguments.near_duplicates)
    if getattr(options, "hash_ids", None):
        skipped = [options.conceal(skip) for skip in skipped]
        _drop_names(shards, options)
    (out / "skipped.jsonl").write_text("".join(json.dumps(dataclasses.asdict(skip)) + "\n" for skip in skipped))
    write_card(out, loader.SOURCE, summary)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _drop_names(shards: list[Shard], options) -> None:
    """Delete what names raw files: beside hashed ids it would tell whose they are."""
    for shard in shards:
        shard.listing.unlink(missing_ok=True)
        outcome = json.loads(shard.outcome.read_text())
        outcome["skipped"] = [dataclasses.asdict(options.conceal(Skipped(**skip))) for skip in outcome["skipped"]]
        shard.outcome.write_text(json.dumps(outcome))


def raw_folder(loader_name: str, arguments: PrepareArguments) -> Path:
    if arguments.raw is None and load_loader(loader_name).SOURCE.access != "synthetic":
        raise DataError(f"loader {loader_name!r} reads files: name their folder with --raw")
    raw = Path(arguments.raw or ".")
    if not raw.is_dir():
        raise DataError(f"--raw {raw}: there is no such folder")
    return raw


def _describe_lists(arguments: PrepareArguments) -> dict[str, dict[str, str]]:
    return {
        split: {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        for split, file in arguments.lists.items()
    }


def _summarise(loader, loader_name, arguments, options, outcomes: list[dict], skipped: list[Skipped]) -> dict:
    splits = Counter()
    for outcome in outcomes:
        splits[outcome["split"]] += outcome["rows"]
    totals = {
        name: dict(sum((Counter(outcome[name]) for outcome in outcomes), Counter()).most_common()) for name in COUNTED
    }
    written = sum(splits.values())
    return {
        "loader": loader_name,
        "source": loader.SOURCE.name,
        "version": VERSION,
        "image_size": arguments.image_size,
        "compression": arguments.compression,
        "limit": arguments.limit,
        "extract_labels": arguments.extract_labels,
        "options": public_options(options),
        # Which splits these are, where they are not the corpus's own.
        **({"split_lists": _describe_lists(arguments)} if arguments.lists else {}),
        **({"split_counts": arguments.counts} if arguments.counts else {}),
        "read": written + len(skipped),
        "written": written,
        "skipped": len(skipped),
        "skipped_reasons": dict(Counter(skip.kind for skip in skipped).most_common()),
        "splits": {split: splits[split] for split in SPLITS if splits[split]},
        "expected": loader.SOURCE.expected,
        "colour_images": totals["modes"].get("RGB", 0),
        **totals,
    }
