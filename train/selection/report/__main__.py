"""What curation chose, made visible: one page that needs no network, and the same numbers as JSON.

    python -m train.selection.report RUN_DIR [--dataset_dir DIR ...] [--show_films]

Writes `curation_report.html` and `curation_report.json` into the run folder. Neither holds record or patient ids. Films
and the beginnings of their reports are on the page only where the data are known to be synthetic or open, or where
`--show_films` asks for them; never in the JSON.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data_scripts.command_line import command_name
from train.selection.report.page import load_corpus, load_run, write_report


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog=command_name(), description="Write the page and the numbers of what a run chose."
    )
    parser.add_argument("run_dir", type=Path, help="a finished run of train.pretrain")
    parser.add_argument("--dataset_dir", nargs="+", help="its prepared data, if they are no longer where they were")
    parser.add_argument(
        "--show_films", action="store_true", help="show films and report beginnings also of data that are not public"
    )
    options = parser.parse_args(arguments)
    try:
        run, _ = load_run(options.run_dir)
        dataset = load_corpus(run, options.dataset_dir)
        page = write_report(options.run_dir, dataset, options.show_films, options.dataset_dir)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(page)


if __name__ == "__main__":
    main()
