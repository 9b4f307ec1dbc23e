"""Renamed: `python -m train.selection.agreement`, which this runs."""

import sys

from train.selection.agreement import main

if __name__ == "__main__":
    print("train.score_overlap is now train.selection.agreement: give that name in its place", file=sys.stderr)
    main()
