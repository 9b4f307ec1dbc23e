"""Metrics with their intervals: by patient, between models, and in subgroups."""
