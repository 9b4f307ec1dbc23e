"""Evaluate models on prepared data.

    python -m eval.run --model runs/demo/model --data runs/demo/data
    python -m eval.run --model runs/demo/model --suite chexficient --data DIR
    python -m eval.run --model runs/demo/model runs/other/model openai/clip-vit-base-patch32 --suite synthetic \
        --data DIR --out runs/side_by_side
    python -m eval.run --model runs/findings --benchmark synthetic_probe --data runs/demo/data
    torchrun --nproc_per_node 4 -m eval.run ...

`--data` is a folder of prepared folders, one for each dataset; for benchmarks of a single dataset it may be the
prepared folder itself. Each benchmark writes `OUT/BENCHMARK.json`, and zero-shot ones `BENCHMARK.scores.safetensors`
(the score of every film, so that runs can be compared in pairs) and `BENCHMARK.png`; of several, `OUT/table.md` and the
page of `eval.report_page` have all. With several models each has a folder below OUT. What is finished is not run again:
a run that was stopped continues.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import HfArgumentParser

import modeling_chexficient  # noqa: F401 (registers the model with the Auto classes)
from data_scripts.progress import quiet_libraries
from eval.benchmarks import BENCHMARKS, SUITES
from eval.models.load import load_evaluation_model
from eval.prompts import PROMPT_FAMILIES, find_prompts
from eval.records.json_values import write_json
from eval.records.results import TaskResult, ZeroShotResult
from eval.report_page.page import write_page
from eval.settings import PRECISIONS, PROBE_FEATURES, EvaluationSettings
from eval.studies.models import compare_folders, format_differences
from eval.suite import judge_model
from eval.tables import Row, format_estimate, format_rows, format_table
from eval.tasks.text_conventions import CONVENTIONS
from eval.tasks.thresholds import parse_rule
from modeling_chexficient.heat_maps_chexficient import METHODS
from modeling_chexficient.precision_chexficient import place

_DEFAULT = "zero_shot_findings"


@dataclass
class EvaluationArguments:
    """Arguments of `eval.run`; those below `data` are `eval.settings.EvaluationSettings`."""

    model: list[str] = field(
        metadata={"help": "Model, adapter or run folders, or Hub ids; hog: a baseline without weights."}
    )
    data: str = field(metadata={"help": "Folder of prepared folders, or one prepared folder."})
    suite: str | None = field(default=None, metadata={"help": "Benchmarks together.", "choices": sorted(SUITES)})
    benchmark: str | None = field(
        default=None, metadata={"help": f"One benchmark; default: {_DEFAULT}.", "choices": sorted(BENCHMARKS)}
    )
    out: str | None = field(
        default=None, metadata={"help": "Results folder; default: results/ beside the model or in the run."}
    )
    cache: str | None = field(default=None, metadata={"help": "Folder of embeddings; default: OUT/.cache."})
    again: bool = field(default=False, metadata={"help": "Evaluate also what is finished."})
    prompts: str | None = field(
        default=None,
        metadata={
            "help": f"Prompt family ({', '.join(PROMPT_FAMILIES)}), or a YAML or JSON file; default: the benchmark's."
        },
    )
    threshold: str = field(default="youden", metadata={"help": "Rule of thresholds: youden, or sensitivity=0.95."})
    label_shares: list[float] = field(
        default_factory=lambda: [0.01, 0.1, 1.0], metadata={"help": "Shares of the training labels of probes."}
    )
    num_seeds: int = field(default=5, metadata={"help": "Draws of each label share below 1."})
    probe_features: str = field(
        default="tower",
        metadata={
            "help": "What probes see: the tower's pooled feature (published), or the embedding that texts are compared "
            "with.",
            "choices": sorted(PROBE_FEATURES),
        },
    )
    decoder_epochs: int | None = field(default=None, metadata={"help": "Passes over the films that decoders train on."})
    predictions: str | None = field(
        default=None, metadata={"help": "JSON lines (record_id, report) to score in place of the model's reports."}
    )
    map_method: str | None = field(
        default=None,
        metadata={"help": "Of heat maps; default: similarity, of heads gradient.", "choices": list(METHODS)},
    )
    text_conventions: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Conventions of BLEU and ROUGE-L reported beside ours; r2gen: that of the benchmark's corpus.",
            "choices": list(CONVENTIONS),
        },
    )
    batch_size: int = field(default=64, metadata={"help": "Films a forward pass."})
    num_workers: int = field(default=0, metadata={"help": "Processes that decode films."})
    precision: str = field(
        default="auto", metadata={"help": "Of the image tower; auto: fp16 on a GPU.", "choices": ["auto", *PRECISIONS]}
    )
    resamples: int = field(default=1000, metadata={"help": "Bootstrap resamples."})
    seed: int = field(default=0, metadata={"help": "Seed of the bootstrap, of label shares and decoders."})
    limit: int | None = field(default=None, metadata={"help": "Only the first films, for a trial; marked as such."})
    show_films: bool = field(
        default=False, metadata={"help": "Keep films and texts for pictures although the data are not open."}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that comes with the model."})
    revision: str | None = field(default=None, metadata={"help": "Commit or branch of models of the Hub."})
    base: str | None = field(
        default=None, metadata={"help": "Place of the base of those that are adapters, if it is not the one they name."}
    )

    def __post_init__(self):
        if self.suite is not None and self.benchmark is not None:
            raise ValueError("give --suite or --benchmark, not both")
        if len(set(self.model)) < len(self.model):
            raise ValueError(f"--model names a model twice: {self.model}")
        if self.out is None and len(self.model) > 1:
            raise ValueError("there are several models: say with --out where the results go")
        if self.out is None and not Path(self.model[0]).is_dir():
            raise ValueError(f"{self.model[0]!r} is not a folder: say with --out where the results go")
        # Refuse now what every benchmark would refuse.
        find_prompts(self.prompts or "published")
        parse_rule(self.threshold)
        self.settings(Path())

    @property
    def benchmarks(self) -> tuple[str, ...]:
        return SUITES[self.suite] if self.suite is not None else (self.benchmark or _DEFAULT,)

    @property
    def results_folder(self) -> Path:
        model = Path(self.model[0])
        return Path(self.out or (model / "results" if (model / "run.json").is_file() else model.with_name("results")))

    @property
    def folders(self) -> list[Path]:
        """The folder of each model's results."""
        out = self.results_folder
        return [out] if len(self.model) == 1 else [out / name for name in folder_names(self.model)]

    def settings(self, out: Path) -> EvaluationSettings:
        """The settings of a model whose results go to `out`. Raises ValueError for values out of range."""
        names = {setting.name for setting in dataclasses.fields(EvaluationSettings)} & {*vars(self)} - {"out", "cache"}
        values = {name: getattr(self, name) for name in names}
        values |= {"label_shares": tuple(self.label_shares), "text_conventions": tuple(self.text_conventions)}
        values |= {"predictions": self.predictions and Path(self.predictions)}
        return EvaluationSettings(
            **values, out=out, cache=Path(self.cache) if self.cache else self.results_folder / ".cache"
        )


def folder_names(models: list[str]) -> list[str]:
    """A folder name for each model: the last parts of its path or id, as many as tell them apart."""
    parts = [Path(model).parts for model in models]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["-".join(part[-count:]).replace("/", "").strip("-") for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{number}-{Path(model).name}" for number, model in enumerate(models)]


def judge_models(arguments: EvaluationArguments) -> tuple[list[Row], list[TaskResult]]:
    """Rows of all models and benchmarks, and the results of those evaluated; the table so far is saved after each.

    Raises:
        OSError, ValueError: the only model cannot be loaded; of several, that is a row.
    """
    out = arguments.results_folder
    names = arguments.benchmarks
    rows, results = [], []
    for model_name, folder in zip(arguments.model, arguments.folders, strict=True):
        try:
            model = load_evaluation_model(model_name, arguments.trust_remote_code, arguments.revision, arguments.base)
        except (OSError, ValueError) as error:
            if len(arguments.model) == 1:
                raise
            rows += [Row(model_name, name, "refused", f"the model cannot be loaded: {error}") for name in names]
            continue
        place(model.model, PartialState().device)
        settings = arguments.settings(folder)
        for row, result in judge_model(model, names, Path(arguments.data), settings, arguments.again):
            rows.append(row)
            results += [result] if result is not None else []
            if PartialState().is_main_process:
                _report(row, rows, out, len(names) * len(arguments.model))
    return rows, results


def _report(row: Row, rows: list[Row], out: Path, count: int) -> None:
    """Say on the terminal what became of a benchmark, and save the table so far (of one benchmark there is none)."""
    text = format_estimate(row.estimate) if row.estimate else f"{row.status}: {row.note}"
    print(f"[{len(rows)}/{count}] {row.model}, {row.benchmark}: {text}", file=sys.stderr, flush=True)
    if count == 1:
        return
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(format_rows(rows) + "\n")
    write_json([dataclasses.asdict(row) for row in rows], out / "artifacts" / "table.json")


def main(arguments: list[str] | None = None) -> None:
    quiet_libraries()
    try:
        (parsed,) = HfArgumentParser(EvaluationArguments).parse_args_into_dataclasses(arguments)
        # Joins the processes of torchrun; without a GPU that has to be asked for.
        PartialState(cpu=not torch.cuda.is_available())
        rows, results = judge_models(parsed)
        if not results:
            # The reason is that of the first; a table of several says all.
            first = rows[0]
            hint = f"its data are absent, prepare them with `{first.note}`" if first.status == "absent" else first.note
            more = f"\n{format_rows(rows)}" if len(rows) > 1 else ""
            raise ValueError(f"nothing was evaluated: {hint}{more}" if more else hint)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if not PartialState().is_main_process:
        return
    if len(rows) == 1 and isinstance(results[0], ZeroShotResult):
        path = parsed.results_folder / f"{results[0].benchmark}.json"
        print(format_table(results[0]))
        print(f"results in {path}, picture in {path.with_suffix('.png')}")
    else:
        print(_tables(parsed, rows))
        print(f"\nresults in {parsed.results_folder}, pictures in {write_page(parsed.results_folder)}")


def _tables(arguments: EvaluationArguments, rows: list[Row]) -> str:
    """The table of all models, and where there are several the paired differences; saved, too."""
    text = format_rows(rows)
    out = arguments.results_folder
    differences = compare_folders(arguments.folders, arguments.resamples, arguments.seed)
    if differences:
        text = f"{text}\n\n{format_differences(differences)}"
        write_json(
            [dataclasses.asdict(difference) for difference in differences], out / "artifacts" / "differences.json"
        )
    (out / "table.md").write_text(text + "\n")
    return text


if __name__ == "__main__":
    main()
