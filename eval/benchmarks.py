"""Benchmarks as records: what is asked of a model, on which data, and how it is scored."""

from __future__ import annotations

from dataclasses import dataclass

#: Findings in less than this share of the training films are reported apart, as rare.
RARE_BELOW = 0.01


@dataclass(frozen=True)
class Benchmark:
    """One benchmark. `labels` empty: all labels of the dataset. Bump `version` when figures stop being comparable."""

    name: str
    version: int
    task: str
    split: str = "test"
    labels: tuple[str, ...] = ()
    prompts: str = "published"
    rare_below: float = RARE_BELOW


BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("zero_shot_findings", 1, "zero_shot"),
        Benchmark("zero_shot_findings_validation", 1, "zero_shot", split="validation"),
    )
}
