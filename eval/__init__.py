"""Evaluating a model: benchmark records, a runner for each kind of task, metrics and typed results."""
