"""Renamed: `python -m eval.studies`, whose `--out` is a path without suffix in place of a folder."""

raise SystemExit("eval.adaptations is now eval.studies, whose --out is a path: python -m eval.studies --help")
