"""Raw corpus to one dataset folder that `load_dataset` opens.

    python -m data_scripts.prepare nih_chestxray14 --raw DIR --out DIR
    python -m data_scripts.prepare folder --raw DIR --out DIR --table films.csv --report_column report
    python -m data_scripts.prepare synthetic --out DIR --image_size 112

The records are listed first, cut into shards, and every shard becomes one Parquet file; a shard that is complete is
not made again, so an interrupted preparation goes on where it stopped. Everything read is either written or listed
with its reason.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from tqdm import tqdm
from transformers import HfArgumentParser

from data_scripts.card import write_card
from data_scripts.schema import SPLITS, DataError, Record, Skipped, check_record
from data_scripts.shards import LOADERS, SHOWN_PROBLEMS, Shard, describe_problems, load_loader, run_shards

#: Bump when the same raw data would give other rows.
VERSION = 1


@dataclass
class PrepareArguments:
    """Arguments of `data_scripts.prepare`, beside those of the loader."""

    out: str = field(metadata={"help": "Folder to write the dataset into."})
    raw: str | None = field(default=None, metadata={"help": "Folder of the raw download (not for synthetic)."})
    image_size: int = field(
        default=378, metadata={"help": "Short side and crop in pixels, as the model will see it; 0 keeps the size."}
    )
    skip_bad: bool = field(
        default=False, metadata={"help": "List what cannot be used in skipped.jsonl and go on, instead of stopping."}
    )
    num_workers: int = field(default=os.cpu_count() or 1, metadata={"help": "Processes that decode images."})
    rows_per_shard: int = field(default=1000, metadata={"help": "Records a Parquet file."})

    def __post_init__(self):
        if self.image_size < 0 or 0 < self.image_size < 32:
            raise ValueError(f"image_size is {self.image_size}: give at least 32, or 0 to keep the original size")
        for name in ("num_workers", "rows_per_shard"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")


def prepare(loader_name: str, arguments: PrepareArguments, options) -> dict:
    """Write the dataset folder and return its summary (also in `summary.json`).

    Raises:
        DataError: the raw data cannot be used; the first ten culprits are named.
    """
    loader = load_loader(loader_name)
    if arguments.raw is None and not hasattr(loader, "read_image"):
        raise DataError(f"loader {loader_name!r} reads files: name their folder with --raw")
    raw = Path(arguments.raw or ".")
    if not raw.is_dir():
        raise DataError(f"--raw {raw}: there is no such folder")
    out = Path(arguments.out)
    work = out / ".prepare"
    listing, skipped = _list_records(loader, raw, options, arguments, work)
    # Written last: a folder without it is not finished.
    (out / "summary.json").unlink(missing_ok=True)
    shards = _shards(loader_name, options, raw, out, listing, arguments)
    outcomes = list(run_shards(shards, arguments.num_workers))
    skipped += [Skipped(**one) for outcome in outcomes for one in outcome["skipped"]]
    summary = _summarise(loader, loader_name, arguments, options, outcomes, skipped)
    if not summary["written"]:
        raise DataError(f"{raw}: none of the {summary['read']} records could be used; the first: {skipped[0].reason}")
    (out / "skipped.jsonl").write_text("".join(json.dumps(dataclasses.asdict(one)) + "\n" for one in skipped))
    write_card(out, loader.SOURCE, summary)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _usable(loader: ModuleType, raw: Path, options) -> Iterator[Record | Skipped]:
    """The loader's records; what breaks the schema, has no text or repeats an id comes as `Skipped`."""
    seen = set()
    for record in loader.read_records(raw, options):
        if isinstance(record, Skipped):
            yield record
            continue
        try:
            check_record(record)
        except DataError as error:
            yield Skipped(record.record_id, str(error), error.kind)
            continue
        if record.record_id in seen:
            yield Skipped(record.record_id, "duplicate id: an earlier record has it", "duplicate id")
        elif not record.report:
            yield Skipped(record.record_id, "the report is empty", "empty report")
        else:
            seen.add(record.record_id)
            yield record


def _list_records(
    loader: ModuleType, raw: Path, options, arguments: PrepareArguments, work: Path
) -> tuple[dict[str, list[Path]], list[Skipped]]:
    """Write the records as JSON lines, a file for each shard; refuse a folder that holds another preparation."""
    staging = work.with_name(".prepare.listing")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    settings = {"version": VERSION, "loader": loader.__name__, "options": dataclasses.asdict(options)}
    settings |= {"image_size": arguments.image_size, "rows_per_shard": arguments.rows_per_shard}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    counts, skipped = Counter(), []
    for record in tqdm(_usable(loader, raw, options), desc="listing", unit=" records"):
        if isinstance(record, Skipped):
            skipped.append(record)
            if len(skipped) >= SHOWN_PROBLEMS and not arguments.skip_bad:
                break
            continue
        line = json.dumps(record, default=vars) + "\n"
        digest.update(line.encode())
        number = counts[record.split] // arguments.rows_per_shard
        with (staging / f"{record.split}-{number:05d}.jsonl").open("a") as file:
            file.write(line)
        counts[record.split] += 1
    if skipped and not arguments.skip_bad:
        raise DataError(describe_problems(skipped))
    if not counts:
        raise DataError(f"{raw}: no usable record was found ({len(skipped)} skipped)")
    _adopt(staging, work, digest.hexdigest())
    return {split: sorted(work.glob(f"{split}-*.jsonl")) for split in SPLITS if counts[split]}, skipped


def _adopt(staging: Path, work: Path, digest: str) -> None:
    """Go on with the earlier listing where it is the same, take the new one where there is none."""
    identity = work / "digest"
    if not work.exists():
        (staging / "digest").write_text(digest)
        staging.rename(work)
        return
    shutil.rmtree(staging)
    if not identity.is_file() or identity.read_text() != digest:
        raise DataError(
            f"{work.parent} holds a dataset prepared from other data or with other arguments: choose another --out, "
            "or delete it first"
        )


def _shards(loader_name, options, raw, out, listing: dict[str, list[Path]], arguments) -> list[Shard]:
    (out / "data").mkdir(exist_ok=True)
    return [
        Shard(
            loader_name,
            dataclasses.asdict(options),
            str(raw),
            str(path),
            str(out / "data" / f"{path.stem}-of-{len(paths):05d}.parquet"),
            arguments.image_size or None,
            arguments.skip_bad,
        )
        for paths in listing.values()
        for path in paths
    ]


def _summarise(loader, loader_name, arguments, options, outcomes: list[dict], skipped: list[Skipped]) -> dict:
    splits = Counter()
    for outcome in outcomes:
        splits[outcome["split"]] += outcome["rows"]
    splits.pop(None, None)
    totals = {
        name: dict(sum((Counter(outcome[name]) for outcome in outcomes), Counter()).most_common())
        for name in ("views", "flags", "positives", "negatives", "uncertain")
    }
    reasons = Counter(one.kind for one in skipped)
    written = sum(splits.values())
    return {
        "loader": loader_name,
        "version": VERSION,
        "image_size": arguments.image_size,
        "options": dataclasses.asdict(options),
        "read": written + len(skipped),
        "written": written,
        "skipped": len(skipped),
        "skipped_reasons": dict(reasons.most_common()),
        "splits": {split: splits[split] for split in SPLITS if splits[split]},
        "expected": loader.SOURCE.expected,
        "colour_images": sum(outcome["colour_images"] for outcome in outcomes),
        **totals,
    }


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0].startswith("-"):
        raise SystemExit(f"usage: python -m data_scripts.prepare LOADER --out DIR ...; LOADER is one of {LOADERS}")
    try:
        loader = load_loader(arguments[0])
        parser = HfArgumentParser((PrepareArguments, loader.Options), prog=f"data_scripts.prepare {arguments[0]}")
        prepare_arguments, options = parser.parse_args_into_dataclasses(arguments[1:])
        summary = prepare(arguments[0], prepare_arguments, options)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    print(
        f"read {summary['read']:,}, written {summary['written']:,} {summary['splits']}, skipped {summary['skipped']:,}"
    )
    for reason, count in summary["skipped_reasons"].items():
        print(f"  skipped {count:,}: {reason}")
    expected = sum(summary["expected"].values())
    if expected and summary["written"] != expected:
        print(f"  the complete corpus has {expected:,} images")
    if summary["colour_images"]:
        print(f"  {summary['colour_images']:,} images have colour and were kept in RGB")
    print(f"dataset in {prepare_arguments.out}")


if __name__ == "__main__":
    main()
