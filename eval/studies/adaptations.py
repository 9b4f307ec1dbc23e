"""Adapted models side by side: what each method gives with few and with all labels, and what it costs.

    python -m eval.studies.adaptations runs/findings/*/ --out runs/findings_compared

Every run folder is one of `train.adapt`, with `run.json` and `results/BENCHMARK.json`; all must be adapted from the
same base and judged by the same version of the benchmark on the same films. Runs that differ in the seed alone are one
row. Writes `OUT/adaptations.md`, `OUT/adaptations.json` and `OUT/adaptations.png`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from transformers import HfArgumentParser

from eval.records.json_values import write_json
from eval.studies.adaptation_figures import plot_adaptations
from eval.studies.adaptation_runs import load_runs
from eval.studies.adaptation_table import compare_runs, format_markdown


@dataclass
class AdaptationArguments:
    """Arguments of `eval.studies.adaptations`, after the run folders."""

    out: str = field(metadata={"help": "Folder of what is written."})
    benchmark: str | None = field(
        default=None, metadata={"help": "Name of the result files; default: the only one of each run."}
    )
    reference: str = field(default="lora", metadata={"help": "Method that the others are set against."})
    by: list[str] = field(
        default_factory=list, metadata={"help": "Settings that make another kind of a method, such as rank."}
    )
    resamples: int = field(default=1000, metadata={"help": "Bootstrap resamples."})
    seed: int = field(default=0, metadata={"help": "Seed of the bootstrap."})

    def __post_init__(self):
        if self.resamples < 2:
            raise ValueError(f"resamples is {self.resamples}, it must be at least 2")


def main(arguments: list[str] | None = None) -> None:
    words = sys.argv[1:] if arguments is None else arguments
    folders = [Path(word) for word in takewhile(lambda word: not word.startswith("-"), words)]
    try:
        (parsed,) = HfArgumentParser(AdaptationArguments).parse_args_into_dataclasses(words[len(folders) :])
        if not folders:
            raise ValueError("no run folder: python -m eval.studies.adaptations RUN_DIR [RUN_DIR ...] --out DIR")
        runs = load_runs(folders, parsed.benchmark, parsed.by)
        comparison = compare_runs(runs, parsed.reference, parsed.by, parsed.resamples, parsed.seed)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    out = Path(parsed.out)
    write_json(comparison, out / "adaptations.json")
    text = format_markdown(comparison)
    (out / "adaptations.md").write_text(text + "\n")
    plot_adaptations(comparison, out / "adaptations.png")
    print(f"{text}\n\nwritten to {out}")


if __name__ == "__main__":
    main()
