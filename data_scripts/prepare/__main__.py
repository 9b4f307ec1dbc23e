"""Raw corpus to one dataset folder that `load_dataset` opens.

    python -m data_scripts.prepare nih_chestxray14 --raw DIR --out DIR
    python -m data_scripts.prepare folder --raw DIR --out DIR --table films.csv --report_column report
    python -m data_scripts.prepare synthetic --out DIR --image_size 112

The records are listed first, cut into shards, and every shard becomes one Parquet file; a shard that is complete is not
made again while its films stay as they are, so an interrupted preparation goes on where it stopped. Everything read is
either written or listed with its reason.

Several hosts share the work with `--num_shards N --shard_index 0` to `N-1` (all other arguments equal). On one file
system they name the same `--out`, and the last to end writes card and summary. Otherwise each host names a folder of
its own; copy all of them into one (`data/` and `.prepare/`) and run the command once more without those two arguments.
"""

from __future__ import annotations

import sys
from pathlib import Path

from transformers import HfArgumentParser

from data_scripts.command_line import command_name
from data_scripts.loaders import LOADERS, load_loader
from data_scripts.prepare.arguments import PrepareArguments
from data_scripts.prepare.mapping import read_mapping
from data_scripts.prepare.priors import CHANGED, KEPT, LEFT_OUT
from data_scripts.progress import quiet_libraries


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0].startswith("-"):
        raise SystemExit(f"usage: {command_name()} LOADER --out DIR ...; LOADER is one of {LOADERS}")
    try:
        loader = load_loader(arguments[0])
        parser = HfArgumentParser((PrepareArguments, loader.Options), prog=f"{command_name()} {arguments[0]}")
        mapping = parser.parse_known_args(arguments[1:])[0].mapping
        if mapping:
            parser.set_defaults(**read_mapping(Path(mapping), loader.Options))
        prepare_arguments, options = parser.parse_args_into_dataclasses(arguments[1:])
        # Here, so that neither `--help` nor a wrong argument waits for them.
        from data_scripts.prepare.dataset import prepare
        from data_scripts.prepare.listing import raw_folder, show_first

        quiet_libraries()
        if prepare_arguments.dry_run:
            print(show_first(loader, raw_folder(arguments[0], prepare_arguments), options, prepare_arguments))
            return
        summary = prepare(arguments[0], prepare_arguments, options)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    for note in getattr(options, "notes", ()):
        print(f"  warning: {note}")
    _report(summary, prepare_arguments.out)


def differs_from_expected(summary: dict) -> bool:
    """Whether numbers of films are not those of the complete corpus, split by split.

    Where the corpus has no official split, or its training part was divided, all splits but those that are named
    count as its first. Of other splits than the corpus's own (lists, counts) only the sum is known.
    """
    expected, splits = summary["expected"], dict(summary["splits"])
    if not expected:
        return False
    if "split_lists" in summary or "split_counts" in summary:
        return sum(splits.values()) != sum(expected.values())
    first = next(iter(expected))
    rest = sum(count for split, count in splits.items() if split not in expected)
    return any(splits.get(split, 0) + (rest if split == first else 0) != count for split, count in expected.items())


def _report(summary: dict, out: str) -> None:
    if "complete_shards" in summary:
        print(f"{summary['complete_shards']} of {summary['shards']} shards are complete; the last host writes the card")
        return
    print(
        f"read {summary['read']:,}, written {summary['written']:,} {summary['splits']}, skipped {summary['skipped']:,}"
    )
    for reason, count in summary["skipped_reasons"].items():
        print(f"  skipped {count:,}: {reason}")
    if summary["limit"]:
        print(f"  a trial: --limit {summary['limit']:,}")
    elif differs_from_expected(summary):
        print(f"  the complete corpus has {summary['expected']}")
    if summary["patients_across_splits"]:
        print(f"  warning: {summary['patients_across_splits']:,} patients have films in several splits")
    if load_loader(summary["loader"]).SOURCE.access == "own" and summary["patients"] == summary["written"] > 1:
        print("  warning: every film is of a patient of its own; if that is not so, patients cross splits: look at")
        print("  --patient_column or --patient_pattern")
    if priors := summary.get("drop_priors"):
        counts = ", ".join(f"{priors.get(what, 0):,} {what}" for what in (CHANGED, LEFT_OUT, KEPT))
        print(f"  priors: {priors.get('reports', 0):,} training reports changed; of their sentences {counts}")
    if summary["colour_images"]:
        print(f"  {summary['colour_images']:,} images have colour and were kept in RGB")
    for kind, count in summary["broken"].items():
        print(
            f"  warning: {count:,}: {kind}; --skip_bad leaves them out, `python -m data_scripts.check {out}` names them"
        )
    for name, counts in summary["duplicates"].items():
        if counts["films"]:
            print(
                f"  {name}: {counts['films']:,} films in {counts['groups']:,} groups, of which "
                f"{counts['across_splits']:,} cross splits and {counts['across_patients']:,} patients (duplicates.json)"
            )
    print(f"dataset in {out}")


if __name__ == "__main__":
    main()
