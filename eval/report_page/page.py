"""The page: results read, figures plotted, the template filled."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from eval.artifacts import load_artifact
from eval.benchmarks import BENCHMARKS, Benchmark
from eval.pages import page_environment, svg_uri
from eval.records.results import (
    Estimate,
    GroundingResult,
    ProbeResult,
    ReportResult,
    RetrievalResult,
    SegmentationResult,
    TaskResult,
    ZeroShotResult,
    load_result,
)
from eval.report_page import figures as draw
from eval.report_page import galleries
from eval.scores import ZeroShotScores, scores_path

PAGE_FILE = "report.html"
#: Folder beside results, of `eval.artifacts` and the table of `eval.run`.
ARTIFACTS = "artifacts"
_TEMPLATE = Path(__file__).with_name("page.html.jinja")
#: Order on the page, and what the kinds of task are called there.
TASKS = {
    "zero_shot": "Zero-shot findings",
    "retrieval": "Retrieval",
    "disease_prediction": "Disease prediction",
    "segmentation": "Segmentation",
    "grounding": "Grounding",
    "report_generation": "Report generation",
}


@dataclass
class Section:
    """One result with its figures (SVG text by name), its films, and what could not be plotted and why.

    `marks` name its differences from the other results of its benchmark.
    """

    result: TaskResult
    benchmark: Benchmark | None
    figures: dict[str, str] = field(default_factory=dict)
    gallery: object = None
    notes: list[str] = field(default_factory=list)
    anchor: str = ""
    marks: list[str] = field(default_factory=list)


def write_page(folder: Path, out: Path | None = None, show_films: bool = False) -> Path:
    """Write the page of all results in `folder`, or in the folders below it; returns its path.

    Raises:
        ValueError: there are no results, or a file is none.
    """
    found = [make_section(path, show_films) for path in find_results(folder)]
    # Of two results of one model and benchmark the later stands; those of the folders below come last.
    sections = list({(part.result.benchmark, part.result.provenance.model): part for part in found}.values())
    if not sections:
        raise ValueError(f"{folder} holds no results of `python -m eval.run`, nor do the folders below it")
    sections.sort(key=lambda section: list(TASKS).index(section.result.task))
    for number, section in enumerate(sections, start=1):
        section.anchor = f"result-{number}"
    mark_unlike(sections)
    out = out or folder / PAGE_FILE
    out.write_text(render_page(sections, _other_rows(folder)), encoding="utf-8")
    return out


def find_results(folder: Path) -> list[Path]:
    """Files of results in a folder, and in the folders below it (one for each model)."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder of results")
    below = [path for path in sorted(folder.glob("*/*.json")) if path.parent.name != ARTIFACTS]
    return sorted(folder.glob("*.json")) + below


def mark_unlike(sections: list[Section]) -> None:
    """Mark results that do not compare with the first of their benchmark on the page, or with today's benchmark, and
    the weights of each where a model has results of several: it was trained anew, and not all of it evaluated. Also
    those of reports that a file brought, which are not the model's.
    """
    first: dict[str, TaskResult] = {}
    weights = defaultdict(set)
    for section in sections:
        weights[section.result.provenance.model].add(section.result.provenance.model_sha256)
    for section in sections:
        result = section.result
        own, reference = _conditions(result), _conditions(first.setdefault(result.benchmark, result))
        section.marks = [f"other {name}" for name, value in own.items() if value != reference[name]]
        if result.provenance.settings.get("predictions") is not None:
            section.marks.append("reports of a file")
        if len(weights[result.provenance.model]) > 1:
            section.marks.append(f"of the weights {str(result.provenance.model_sha256)[:8]}")
        if section.benchmark is not None and section.benchmark.version != result.benchmark_version:
            section.marks.append(f"version {result.benchmark_version}, now {section.benchmark.version}")


def _conditions(result: TaskResult) -> dict[str, object]:
    """What two results must share for their figures to be compared."""
    provenance = result.provenance
    # These change a figure by rounding alone, or its interval.
    settings = {name: value for name, value in provenance.settings.items() if name not in ("batch_size", "resamples")}
    return {"version": result.benchmark_version, "films": provenance.dataset_fingerprint, "settings": settings}


def _other_rows(folder: Path) -> list[dict]:
    """Benchmarks that were not evaluated, as `eval.run` noted them."""
    table = folder / ARTIFACTS / "table.json"
    return [row for row in json.loads(table.read_text()) if row["status"] != "judged"] if table.is_file() else []


def make_section(path: Path, show_films: bool = False) -> Section:
    """A result with all that can be plotted of it. Raises ValueError where the file is no result."""
    result = load_result(path)
    section = Section(result, BENCHMARKS.get(result.benchmark))
    artifact = load_artifact(path.parent, path.stem)
    if isinstance(result, ZeroShotResult):
        _draw_zero_shot(section, result, path)
    elif isinstance(result, RetrievalResult):
        section.figures["recall"] = draw.draw_recall(result)
        if artifact is not None:
            section.gallery = galleries.retrieved(result, artifact[0], show_films)
    elif isinstance(result, ProbeResult):
        section.figures["shares"] = draw.draw_label_shares(result)
    elif isinstance(result, SegmentationResult) and artifact is not None:
        arrays, values = artifact
        dices = {name: arrays[f"dice_{name}"] for name in result.macro_dice}
        section.figures["dice"] = draw.draw_dice(dices, values["structures"])
        section.gallery = galleries.overlays(*artifact)
    elif isinstance(result, GroundingResult):
        section.figures["pointing"] = draw.draw_pointing(result)
        section.gallery = None if artifact is None else galleries.pointed(*artifact)
    elif isinstance(result, ReportResult) and artifact is not None:
        section.figures["texts"] = draw.draw_texts(
            *(artifact[0][name] for name in ("rouge_l", "words", "reference_words"))
        )
        section.gallery = galleries.reports(*artifact)
    if result.subgroups:
        metric, whole = result.headline
        section.figures["subgroups"] = draw.draw_subgroups(result.subgroups, metric, whole)
    if result.task in ("retrieval", "segmentation", "grounding", "report_generation") and not section.gallery:
        section.notes.append("No films are shown: the data are not open, or were not at hand.")
    return section


def _draw_zero_shot(section: Section, result: ZeroShotResult, path: Path) -> None:
    section.figures["aurocs"] = draw.draw_aurocs(result)
    try:
        scores = ZeroShotScores.load(scores_path(path), result.scores_sha256)
    except (ValueError, TypeError) as error:
        section.notes.append(f"No curves: {error}")
        return
    figures = {"roc": draw.draw_roc(result, scores), "reliability": draw.draw_reliability(result, scores)}
    section.figures |= {name: figure for name, figure in figures.items() if figure is not None}


def render_page(sections: list[Section], others: list[dict]) -> str:
    """The page as HTML; `others`: benchmarks that were not evaluated, with `benchmark`, `model`, `status`, `note`."""
    environment = page_environment(_TEMPLATE.parent)
    environment.filters |= {"estimate": format_estimate, "svg": svg_uri, "figure": format_figure}
    environment.filters["constant_baselines"] = galleries.constant_baselines
    environment.filters["first_upper"] = lambda text: text[:1].upper() + text[1:]
    models = list(dict.fromkeys(section.result.provenance.model for section in sections))
    return environment.get_template(_TEMPLATE.name).render(
        sections=sections,
        models=models,
        names=short_names(models),
        table={(section.result.benchmark, section.result.provenance.model): section for section in sections},
        benchmarks=list(dict.fromkeys(section.result.benchmark for section in sections)),
        tasks=TASKS,
        others=others,
    )


def short_names(models: list[str]) -> dict[str, str]:
    """The last parts of each model's path or id, as many as tell them apart; at least two, for `RUN/model`."""
    longest = max(len(Path(model).parts) for model in models)
    for count in range(2, longest + 1):
        names = {model: "/".join(Path(model).parts[-count:]) for model in models}
        if len(set(names.values())) == len(models):
            return names
    return {model: model for model in models}


def format_figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def format_estimate(estimate: Estimate | None, digits: int = 3) -> str:
    if estimate is None or estimate.value is None:
        return "–"
    if estimate.low is None:
        return format_figure(estimate.value, digits)
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"
