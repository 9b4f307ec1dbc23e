"""Renamed: `python -m data_scripts.prepared.overlap`."""

raise SystemExit("data_scripts.overlap is now data_scripts.prepared.overlap: give that name in its place")
