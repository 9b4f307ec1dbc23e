"""Renamed: `python -m train.selection.report`, which this runs."""

import sys

from train.selection.report.__main__ import main

if __name__ == "__main__":
    print("train.curation_report is now train.selection.report: give that name in its place", file=sys.stderr)
    main()
