"""Typed records of runs and results, and where they came from: data only."""
