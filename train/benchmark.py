"""Renamed: `python -m train.speed`, which this runs."""

import sys

from train.speed import main

if __name__ == "__main__":
    print("train.benchmark is now train.speed: give that name in its place", file=sys.stderr)
    main()
