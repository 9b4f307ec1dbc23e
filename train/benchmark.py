"""Renamed: `python -m train.speed`."""

raise SystemExit("train.benchmark is now train.speed: python -m train.speed --help")
