"""Renamed: `python -m train.selection.report`."""

raise SystemExit("train.curation_report is now train.selection.report: python -m train.selection.report --help")
