"""Report generation: reports of any generator against the written ones, beside baselines without a generator.

What is scored is, in this order: a file of predictions, the reports of a model that generates, or (for an encoder
alone) the training report whose film is nearest in the model's image embeddings. Two baselines always stand beside: the
most frequent report of the training split, and that nearest report.

A file of predictions is JSON lines, one for each film: {"record_id": "...", "report": "..."}.
"""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, DatasetDict

from data_scripts.prepared.columns import read_column
from data_scripts.schema import DataError
from eval.benchmarks import Benchmark
from eval.features import image_embeddings
from eval.models.encoders import EvaluationModel
from eval.processes import share_batches
from eval.records.provenance import package_versions
from eval.records.results import ReportResult, Subgroup
from eval.settings import EvaluationSettings
from eval.statistics.significance import by_patient_intervals
from eval.statistics.subgroups import subgroups
from eval.tasks.predicted_labels import describe_adapted, training_notes
from eval.tasks.radeval_metrics import RADEVAL, RadEvalMetrics
from eval.tasks.report_examples import keep_reports
from eval.tasks.report_scores import score_findings, score_reports
from eval.tasks.text_conventions import WORDS, chosen_conventions
from eval.tasks.text_metrics import finding_matrix, micro_f1, tokenise, weighted_agreement
from modeling_chexficient.prompts_chexficient import report_prompt

#: Names of the two baselines, and the name that stands in for a missing generator.
MOST_FREQUENT, NEAREST = "most frequent report", "nearest neighbour"
#: Similarities that are held at once: 128 MiB of fp32.
_BLOCK = 1 << 25


def run(
    benchmark: Benchmark,
    model: EvaluationModel,
    splits: DatasetDict,
    settings: EvaluationSettings,
) -> ReportResult:
    """Score the reports of `settings.predictions`, of the model, or those of the nearest training films.

    Args:
        model: with `generate(images[, prompts]) -> list[str]` it writes the reports; else its image embeddings choose
            them. Where a file of generated reports is given, it makes the nearest-neighbour baseline alone.

    Raises:
        ValueError: no film of the split has a report, there is nothing to score, the file of predictions is malformed
            or lacks films (DataError, with its line), or a text convention (`chosen_conventions`) or a metric of
            radeval (`RadEvalMetrics`) cannot be had.
    """
    whole = splits[benchmark.split]
    rows = rows_with_report(whole)
    if not rows:
        raise ValueError(f"no film of split {benchmark.split!r} has a report to compare with")
    conventions = chosen_conventions(settings.text_conventions, benchmark.dataset, splits.get("train"))
    radeval = RadEvalMetrics(settings.radeval_metrics) if settings.radeval_metrics else None
    test = whole.select(rows)
    references = read_column(test, "report")
    patients = np.asarray(read_column(test, "patient_id"))
    left_out = len(whole) - len(test)
    notes = [f"{left_out:,} of {len(whole):,} films have no report and were left out."] if left_out else []
    texts = {} if "train" not in splits else training_baselines(model, splits["train"], whole, rows, settings)
    if not texts:
        notes.append("There are no training reports, so there are no baselines.")
    if model.adaptation is not None:
        notes += training_notes(benchmark, model, splits)
    generated, how = _generate(model, test, texts, settings)
    scored = {
        name: score_reports(reports, references, patients, settings.resamples, settings.seed, conventions, radeval)
        for name, reports in {"": generated, **texts}.items()
    }
    keep_reports(benchmark, test, generated, texts, settings)
    return ReportResult(
        benchmark.name,
        benchmark.version,
        # Fingerprint of the whole split, so that a finished benchmark is recognised; numbers of the evaluated films.
        provenance=replace(
            describe_adapted(benchmark, model, whole, settings),
            films=len(test),
            patients=len(np.unique(patients)),
            packages=package_versions() | ({} if radeval is None else {RADEVAL: radeval.version}),
        ),
        scores=scored[""][0],
        baselines={name: scores for name, (scores, _) in scored.items() if name},
        findings=score_findings(generated, references),
        reference_words=float(np.mean([len(tokenise(text)) for text in references])),
        decoder=how,
        conventions={"words": WORDS}
        | {texts.convention.name: texts.convention.description for texts in conventions}
        | ({} if radeval is None else {RADEVAL: radeval.description}),
        subgroups=judge_subgroups(test, generated, references, settings),
        notes=notes + scored[""][1],
        adaptation=model.adaptation,
    )


def _generate(
    model: EvaluationModel,
    test: Dataset,
    texts: dict[str, list[str]],
    settings: EvaluationSettings,
) -> tuple[list[str], dict[str, str]]:
    """The reports to score, and how they came about."""
    if settings.predictions is not None:
        ids = read_column(test, "record_id")
        return read_predictions(settings.predictions, ids), {"reports": "file of predictions"}
    if hasattr(model, "generate"):
        return generate_reports(model, test, settings.batch_size), {"reports": "generated by the model"}
    if NEAREST in texts:
        return texts[NEAREST], {"reports": "of the nearest training film: the model generates no text"}
    raise ValueError(
        f"{model.name} generates no text and there are no training reports to choose from: give a file of predictions"
    )


def rows_with_report(dataset: Dataset) -> list[int]:
    """Rows of the films that have a report. Raises DataError where there is no such column."""
    if "report" not in dataset.column_names:
        raise DataError(f"column 'report' is missing, there are {dataset.column_names}")
    return [row for row, text in enumerate(read_column(dataset, "report")) if tokenise(text or "")]


def read_predictions(path: Path, record_ids: Sequence[str]) -> list[str]:
    """The generated report of every film, in the order of `record_ids`; films of other splits may be there, too.

    Raises:
        DataError: there is no such file, a line is not of the form, a film is there twice or is missing.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file of predictions")
    reports: dict[str, str] = {}
    # Not by `splitlines`: JSON may hold what else Python parts lines by, as a page break.
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path} line {number}: no JSON ({error})") from error
        if not isinstance(values, dict) or not all(isinstance(values.get(key), str) for key in ("record_id", "report")):
            raise DataError(f'{path} line {number}: expected {{"record_id": "...", "report": "..."}}')
        if values["record_id"] in reports:
            raise DataError(f"{path} line {number}: the film of this line was there before")
        reports[values["record_id"]] = values["report"]
    missing = [row for row, record_id in enumerate(record_ids) if record_id not in reports]
    if missing:
        raise DataError(
            f"{path}: the reports of {len(missing)} of {len(record_ids)} films are missing, first that of row "
            f"{missing[0]} of those with a report; what has no report needs an empty one"
        )
    return [reports[record_id] for record_id in record_ids]


def generate_reports(model: EvaluationModel, films: Dataset, batch_size: int) -> list[str]:
    """One report for each film by `model.generate`; the films are shared among the processes.

    A generator that takes `prompts` is told the view and the indication of each film, where the data have them.

    Raises:
        ValueError: the model gives another number of reports than of films.
    """
    columns = films.select_columns(
        [column for column in ("image", "view", "indication") if column in films.column_names]
    )
    takes_prompts = "prompts" in inspect.signature(model.generate).parameters

    def write(positions: list[int]) -> list[str]:
        batch = columns[positions]
        unknown = [None] * len(positions)
        told = zip(batch.get("indication", unknown), batch.get("view", unknown), strict=True)
        prompts = {"prompts": [report_prompt(*row) for row in told]} if takes_prompts else {}
        written = list(model.generate(batch["image"], **prompts))
        if len(written) != len(positions):
            raise ValueError(f"{model.name} gave {len(written)} reports for {len(positions)} films")
        return written

    return share_batches(write, len(films), batch_size, "generating reports")


def training_baselines(
    model: EvaluationModel, train: Dataset, test: Dataset, rows: Sequence[int], settings: EvaluationSettings
) -> dict[str, list[str]]:
    """The reports of the two baselines for the `rows` of `test`; empty where no training film has a report."""
    known = rows_with_report(train)
    if not known:
        return {}
    texts = train["report"][:]
    reports = [texts[row] for row in known]
    # Whole splits are embedded, as other tasks embed them, so that it is done once.
    films, candidates = image_embeddings(model, test, settings)[rows], image_embeddings(model, train, settings)[known]
    nearest = nearest_rows(films, candidates)
    return {MOST_FREQUENT: [most_frequent(reports)] * len(rows), NEAREST: [reports[row] for row in nearest]}


def most_frequent(reports: Sequence[str]) -> str:
    """The report whose words occur most often; of equals the first."""
    counts = Counter(tuple(tokenise(report)) for report in reports)
    words = counts.most_common(1)[0][0]
    return next(report for report in reports if tuple(tokenise(report)) == words)


def nearest_rows(queries: torch.Tensor, candidates: torch.Tensor) -> list[int]:
    """Row of the candidate [m, D] of the highest cosine for each query [n, D], unit length; the first of equals."""
    rows: list[int] = []
    for block in queries.split(max(1, _BLOCK // len(candidates))):
        rows += (block @ candidates.T).argmax(dim=1).tolist()
    return rows


def judge_subgroups(
    films: Dataset, generated: Sequence[str], references: Sequence[str], settings: EvaluationSettings
) -> list[Subgroup]:
    """Clinical F1 (micro) among the films of each group."""
    told, wanted = finding_matrix(generated), finding_matrix(references)
    patients = np.asarray(read_column(films, "patient_id"))
    groups = []
    for attribute, value, rows in subgroups(films):

        def figures(weights: np.ndarray, rows: np.ndarray = rows) -> np.ndarray:
            return micro_f1(weighted_agreement(told[rows], wanted[rows], weights))[:, None]

        (estimate,) = by_patient_intervals(figures, patients[rows], settings.resamples, settings.seed)
        groups.append(Subgroup(attribute, value, int(rows.sum()), len(np.unique(patients[rows])), estimate))
    return groups
