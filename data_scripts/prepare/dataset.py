"""How a prepared dataset folder is written."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from pathlib import Path

from data_scripts.loaders import load_loader
from data_scripts.prepare.arguments import PrepareArguments
from data_scripts.prepare.card import write_card
from data_scripts.prepare.listing import VERSION, list_records, public_options, raw_folder
from data_scripts.prepare.rows import COUNTED, Job
from data_scripts.prepare.shards import Shard, run_shards
from data_scripts.prepared.duplicates import write_duplicates
from data_scripts.schema import SPLITS, DataError, Skipped


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
        arguments.reduced_decoding,
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
        **({"reduced_decoding": True} if arguments.reduced_decoding else {}),
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
