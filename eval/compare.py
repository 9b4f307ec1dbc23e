"""Renamed: `python -m eval.studies`."""

raise SystemExit("eval.compare is now eval.studies: python -m eval.studies --help")
