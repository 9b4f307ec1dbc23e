"""Renamed: `python -m eval.studies`."""

raise SystemExit("eval.adaptations is now eval.studies: python -m eval.studies --help")
