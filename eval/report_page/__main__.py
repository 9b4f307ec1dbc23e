"""One page of all results in a folder, with pictures: it needs no network and runs no script.

    python -m eval.report_page RESULTS [--out PAGE.html] [--show_films]

RESULTS is what `eval.run --out` wrote: the results of one model, or a folder for each of several. Films and texts are
on the page only where the data are known to be synthetic or open, or where `--show_films` asks for them (there, and in
`eval.run`, which keeps some for masks and reports).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data_scripts.command_line import command_name
from eval.report_page.page import PAGE_FILE, write_page


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=command_name(), description="One page of results, with pictures.")
    parser.add_argument("results", type=Path, help="folder of results of eval.run")
    parser.add_argument("--out", type=Path, help=f"the page; default: {PAGE_FILE} in the folder")
    parser.add_argument("--show_films", action="store_true", help="show films and texts also of data that are not open")
    options = parser.parse_args(arguments)
    try:
        print(write_page(options.results, options.out, options.show_films))
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
