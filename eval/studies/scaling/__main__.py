"""How error falls with one's own films: power laws over subsets, paradigms compared, films that are still worth it.

    python -m eval.studies.scaling runs/scaling/cells/* --reference runs/scaling/start --out runs/scaling/scaling

Every run folder is one of a trainer, with `run.json` and `results/BENCHMARK.json` (of eval.run); of an adaptation, the
films are those that its base was trained on. Runs that differ in films and seed alone are one arm: its errors (1 minus
the headline figure of each benchmark) are fitted by a n^-b + c. An arm needs three sizes; of four and more, the largest
is also predicted from the others. A curve that does not surely fall is said to be flat and is not fitted. Of the claims
of arXiv 2509.12818 it is said whether each holds here.

Writes `OUT.md` (which arm to continue and what more films would bring; tables; a few lines for a card), `OUT.json`
(the same figures), `OUT.txt` (the paragraph alone) and `OUT.png`. Runs of one arm must have cost the same (`max_steps`,
within 10 %); for equally many passes over every size (`num_train_epochs`), say `--unequal_compute true`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from transformers import HfArgumentParser

from data_scripts.command_line import split_positional
from eval.records.json_values import write_json
from eval.studies.scaling.curves import scale
from eval.studies.scaling.figure import plot_scaling
from eval.studies.scaling.results import WORTH, Scaling
from eval.studies.scaling.runs import check_runs, load_reference, load_scaling_run
from eval.studies.scaling.text import card_text, format_markdown


@dataclass
class ScalingArguments:
    """Arguments of `eval.studies.scaling`, after the run folders."""

    out: str | None = field(
        default=None, metadata={"help": "Path of what is written, without suffix; default: `scaling` beside the runs."}
    )
    benchmarks: list[str] = field(
        default_factory=list, metadata={"help": "Names of the results; default: all that there are."}
    )
    reference: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Results of the model to beat, such as the common start or open weights: the folder that eval.run "
            "wrote, or a run folder with `results`. Of several, each arm has to beat the one that it started from."
        },
    )
    reference_name: str = field(default="the reference", metadata={"help": "What the references are called."})
    by: list[str] = field(default_factory=list, metadata={"help": "Settings that make another arm."})
    unequal_compute: bool = field(
        default=False, metadata={"help": "Accept runs of one arm that cost more the more films they have."}
    )
    worth: float = field(
        default=WORTH,
        metadata={"help": "By how much twice the films must lower the error (1 minus the figure) to be worth it."},
    )
    resamples: int = field(default=1000, metadata={"help": "Bootstrap resamples."})
    seed: int = field(default=0, metadata={"help": "Seed of the bootstrap."})

    def __post_init__(self):
        if self.resamples < 2:
            raise ValueError(f"resamples is {self.resamples}, it must be at least 2")
        if self.worth <= 0:
            raise ValueError(f"worth is {self.worth}, it must be above 0")


def study_scaling(folders: list[Path], arguments: ScalingArguments) -> Scaling:
    """Load, check, fit.

    Raises:
        ValueError: see `load_scaling_run`, `check_runs` and `scale`.
    """
    runs = [load_scaling_run(folder, arguments.by) for folder in folders]
    notes = check_runs(runs, arguments.unequal_compute)
    references = [load_reference(Path(folder)) for folder in arguments.reference]
    return scale(
        runs,
        arguments.benchmarks,
        references,
        arguments.reference_name if references else None,
        arguments.resamples,
        arguments.seed,
        arguments.unequal_compute,
        notes,
        arguments.worth,
    )


def write_scaling(scaling: Scaling, out: str) -> list[str]:
    """Tables, figures, the lines for a card and the picture; returns the paths written."""
    paths = [f"{out}.md", f"{out}.json", f"{out}.txt", f"{out}.png"]
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(paths[0]).write_text(format_markdown(scaling) + "\n")
    write_json(scaling, Path(paths[1]))
    Path(paths[2]).write_text(card_text(scaling) + "\n")
    plot_scaling(scaling, Path(paths[3]))
    return paths


def main(arguments: list[str] | None = None) -> None:
    names, named = split_positional(arguments)
    folders = [Path(name) for name in names]
    try:
        parser = HfArgumentParser(ScalingArguments, prog="eval.studies.scaling RUN_DIR [RUN_DIR ...]")
        (parsed,) = parser.parse_args_into_dataclasses(named)
        if not folders:
            raise ValueError("no run folder: python -m eval.studies.scaling RUN_DIR [RUN_DIR ...] [--out PATH]")
        scaling = study_scaling(folders, parsed)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    paths = write_scaling(scaling, parsed.out or str(folders[0].parent / "scaling"))
    print(format_markdown(scaling))
    print(f"\nwritten: {', '.join(paths)}")


if __name__ == "__main__":
    main()
