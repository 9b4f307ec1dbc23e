"""Renamed: `python -m data_scripts.prepared.overlap`, which this runs."""

import sys

from data_scripts.prepared.overlap import main

if __name__ == "__main__":
    print("data_scripts.overlap is now data_scripts.prepared.overlap: give that name in its place", file=sys.stderr)
    main()
