"""The page of a run: its data read, its numbers collected, its template filled."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset

from data_scripts.access import may_be_shown
from data_scripts.prepared.films import COLUMNS, PairDataset
from data_scripts.prepared.mixture import Mixture, load_mixture
from eval.pages import page_environment, svg_uri
from eval.records.runs import PretrainRun
from train.selection.report.columns import read_columns
from train.selection.report.feature_map import map_features
from train.selection.report.figures import draw_course, draw_enrichment, draw_map, draw_prototypes
from train.selection.report.galleries import make_galleries
from train.selection.report.report_numbers import CurationNumbers, collect_numbers
from train.selection.report.summary import DEFECTS, frequency, interval, percent, ratio, summarise
from train.selection.rules import rule_named
from train.selection.state import STATE_FILE, CurationState

PAGE_FILE, NUMBERS_FILE = "curation_report.html", "curation_report.json"
_TEMPLATE = Path(__file__).with_name("page.html.jinja")


def write_report(
    run_dir: Path, dataset: Dataset, show_films: bool = False, folders: Sequence[str] | None = None
) -> Path:
    """Write the page and the numbers of a run into its folder.

    Args:
        run_dir: with `run.json`, `log.json` and the state of curation.
        dataset: the training split of the run with all its columns.
        show_films: show films and report beginnings whatever their source.
        folders: where `dataset` was loaded from; default: as `run.json` says.

    Returns:
        the page.

    Raises:
        ValueError: the run is not finished or chose nothing, or `dataset` has another number of rows.
    """
    run_dir = Path(run_dir)
    run, state = load_run(run_dir)
    if len(dataset) != state.num_rows:
        raise ValueError(f"{run_dir} judged a corpus of {state.num_rows:,} pairs, the data have {len(dataset):,}")
    log = json.loads((run_dir / "log.json").read_text())
    numbers = collect_numbers(run, log, state, read_columns(dataset))
    shown = show_films or may_be_shown(dataset, Mixture.from_json(run.mixture).folders if folders is None else folders)
    page = render_page(numbers, state, dataset if shown else None)
    numbers.save(run_dir / NUMBERS_FILE)
    (run_dir / PAGE_FILE).write_text(page, encoding="utf-8")
    return run_dir / PAGE_FILE


def load_run(run_dir: Path) -> tuple[PretrainRun, CurationState]:
    """What `run.json` says, and the state of curation.

    Raises:
        ValueError: the run is not finished, or chose nothing, or by a rule that is not known.
    """
    run = PretrainRun.load(run_dir)
    if not rule_named(run.selection).selects:
        raise ValueError(
            f"{run_dir} was trained on all pairs (selection {run.selection}): there is no choice to report"
        )
    if not (run_dir / STATE_FILE).is_file():
        raise ValueError(f"{run_dir} has no {STATE_FILE}, so what was chosen, and why, is not known")
    if run.corpus_fingerprint is None:
        raise ValueError(f"{run_dir} is a run of an earlier version, which noted too little for a report: run it again")
    return run, CurationState.load(run_dir)


def render_page(numbers: CurationNumbers, state: CurationState, dataset: Dataset | None) -> str:
    """The page as HTML; with galleries if a `dataset` is given."""
    rule = rule_named(numbers.run["selection"])
    features = map_features(state)
    figures = {"course": draw_course(numbers)}
    if numbers.prototypes:
        figures["prototypes"] = draw_prototypes(numbers)
    if any(finding.ratio is not None for finding in numbers.findings):
        figures["enrichment"] = draw_enrichment(numbers)
    if features is not None:
        figures["map"] = draw_map(features, rule.roles)
    environment = page_environment(_TEMPLATE.parent)
    formats = {"percent": percent, "frequency": frequency, "ratio": ratio, "interval": interval}
    environment.filters |= formats | {"setting": _format_setting}
    return environment.get_template(_TEMPLATE.name).render(
        numbers=numbers,
        rule=rule,
        statements=summarise(numbers),
        figures={name: svg_uri(figure) for name, figure in figures.items()},
        features=features,
        galleries=None if dataset is None else make_galleries(dataset, state, rule.roles, numbers.run["seed"]),
        defect_names=DEFECTS,
        settings={name: value for name, value in numbers.run["settings"].items() if value not in (None, "", [], {})},
        share_place=_share_scale(numbers),
        ratio_place=_ratio_scale(numbers),
        defect_place=lambda value: round(100 * value, 2),
    )


def _share_scale(numbers: CurationNumbers):
    """Where a share kept lies on the little scales of the page, in per cent of their width."""
    # Wide intervals of small groups are cut off rather than press the others together.
    values = [share.value for group in numbers.groups for share in group.shares if share.total >= 20]
    # Where nothing was kept, everything lies at 0.
    end = min(1.0, max([2.5 * numbers.kept_share, *(1.2 * value for value in values)])) or 1.0
    return lambda value: round(100 * min(value / end, 1), 2)


def _ratio_scale(numbers: CurationNumbers):
    """The same for an enrichment, on a logarithmic scale with 1 in the middle."""
    known = [finding.ratio for finding in numbers.findings if finding.ratio]
    reach = min(10.0, 1.2 * max([2.0, *known, *(1 / value for value in known)]))
    return lambda value: round(50 + 50 * max(-1.0, min(1.0, math.log(max(value, 1e-9)) / math.log(reach))), 2)


def _format_setting(value) -> str:
    """A setting in one line; the settings of a tower as "name value, name value"."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_format_setting(setting)}" for name, setting in value.items())
    return str(value)


def load_corpus(run: PretrainRun, folders: Sequence[str] | None = None) -> Dataset:
    """The training split that a run chose from; `folders` are where its data are now, in the run's order.

    Raises:
        ValueError: the data in `folders` are not (or no longer) those of the run.
    """
    mixture = Mixture.from_json(run.mixture)
    if folders is not None:
        mixture = mixture.moved(folders)
    dataset = load_mixture(mixture, "train", COLUMNS)
    found = PairDataset(dataset).fingerprint
    if found != run.corpus_fingerprint:
        raise ValueError(
            f"the data in {mixture.folders} are not those of the run (fingerprint {found}, the run's is "
            f"{run.corpus_fingerprint}): name the run's folders, in the run's order, with --dataset_dir"
        )
    return dataset
