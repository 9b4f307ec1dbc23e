"""Renamed: `python -m eval.studies`, which this runs."""

import sys

from eval.studies.__main__ import main

if __name__ == "__main__":
    print("eval.compare is now eval.studies: give that name in its place", file=sys.stderr)
    main()
