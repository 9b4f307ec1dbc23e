"""Renamed: `python -m train.selection.agreement`."""

raise SystemExit("train.score_overlap is now train.selection.agreement: python -m train.selection.agreement --help")
