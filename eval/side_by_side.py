"""The work of `eval.run`: several models on several benchmarks, their table, and the differences between them."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import torch
from accelerate import PartialState

from data_scripts.progress import quiet_libraries
from eval.arguments import EvaluationArguments
from eval.models.load import load_evaluation_model
from eval.records.json_values import write_json
from eval.records.results import TaskResult, ZeroShotResult
from eval.report_page.page import write_page
from eval.studies.models import compare_folders, format_differences
from eval.suite import judge_model
from eval.tables import Row, format_estimate, format_rows, format_table
from modeling_chexficient.precision_chexficient import place


def evaluate(arguments: EvaluationArguments) -> tuple[list[Row], list[TaskResult]]:
    """`judge_models`, in the processes that torchrun started.

    Raises:
        OSError, ValueError: as `judge_models`, or nothing was evaluated.
    """
    quiet_libraries()
    # Joins the processes of torchrun; without a GPU that has to be asked for.
    PartialState(cpu=not torch.cuda.is_available())
    rows, results = judge_models(arguments)
    if not results:
        # The reason is that of the first; a table of several says all.
        first = rows[0]
        hint = f"its data are absent, prepare them with `{first.note}`" if first.status == "absent" else first.note
        more = f"\n{format_rows(rows)}" if len(rows) > 1 else ""
        raise ValueError(f"nothing was evaluated: {hint}{more}" if more else hint)
    return rows, results


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


def show(arguments: EvaluationArguments, rows: list[Row], results: list[TaskResult]) -> None:
    """Print what was evaluated, and write the tables and the page of several benchmarks; the first process does."""
    if not PartialState().is_main_process:
        return
    if len(rows) == 1 and isinstance(results[0], ZeroShotResult):
        path = arguments.results_folder / f"{results[0].benchmark}.json"
        print(format_table(results[0]))
        print(f"results in {path}, picture in {path.with_suffix('.png')}")
    else:
        print(_tables(arguments, rows))
        print(f"\nresults in {arguments.results_folder}, pictures in {write_page(arguments.results_folder)}")


def _tables(arguments: EvaluationArguments, rows: list[Row]) -> str:
    """The table of all models, and where there are several the paired differences; saved, too."""
    text = format_rows(rows)
    out = arguments.results_folder
    # All rows of a model, then those of the next. Other results in these folders may be of weights that it had before.
    of_model = zip(*[iter(rows)] * len(arguments.benchmarks), strict=True)
    judged = {
        (row.benchmark, name)
        for folder, of_one in zip(arguments.folders, of_model, strict=True)
        for row in of_one
        if row.status == "judged"
        for name in (row.model, str(folder))
    }
    differences = [
        pair
        for pair in compare_folders(arguments.folders, arguments.resamples, arguments.seed)
        if judged >= {(pair.benchmark, pair.first), (pair.benchmark, pair.second)}
    ]
    if differences:
        text = f"{text}\n\n{format_differences(differences)}"
        write_json(
            [dataclasses.asdict(difference) for difference in differences], out / "artifacts" / "differences.json"
        )
    (out / "table.md").write_text(text + "\n")
    return text
