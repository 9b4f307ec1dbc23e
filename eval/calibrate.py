"""Choose operating points of a model on films of known truth, or see how those it has do on other films.

    python -m eval.calibrate --model runs/demo/model --data runs/demo/data
    python -m eval.calibrate --model runs/findings --data runs/own/data --rule sensitivity=0.95
    python -m eval.calibrate --model runs/demo/model --data runs/other/data --split test --check

Of each finding: from which score on it is called present, with the sensitivity and specificity to expect of other films
of the same population, and a calibration where one makes better probabilities on films that were held out of its fit.
Findings with too few films are refused by name. The points are written as `operating_points.json` beside the weights
(`--out` for another place); pipelines read them there (`threshold="validated"`), and so does `eval.predict`. A head is
scored by its logits; a model that compares films with texts by pairs of prompts, which are kept with the points.
`--check` chooses nothing: it compares what the points state with what comes of them on `--data`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import HfArgumentParser

from data_scripts.command_line import command_name
from data_scripts.prepared.columns import read_column
from data_scripts.prepared.folder import load_prepared
from data_scripts.prepared.labels import chosen_labels, find_label, fingerprint, label_matrix, label_targets
from data_scripts.progress import quiet_libraries
from data_scripts.schema import VIEWS
from eval.calibration.operating_points import (
    LEAST_FILMS,
    PointCheck,
    PointRules,
    check_points,
    describe_points,
    score_by_points,
    score_films,
)
from eval.models.adapted import FindingsModel
from eval.models.encoders import EvaluationModel
from eval.models.load import load_evaluation_model
from eval.prompts import PROMPT_FAMILIES, find_prompts
from eval.records.json_values import check_writable
from eval.records.runs import weights_folder
from eval.scores import ZeroShotScores
from eval.settings import EvaluationSettings
from eval.splits import names_of_data
from eval.tasks.predicted_labels import patients_adapted_to
from modeling_chexficient.operating_points_chexficient import (
    DO_NOT_TRAVEL,
    POINTS_FILE,
    OperatingPoints,
    find_points,
)
from modeling_chexficient.precision_chexficient import place

_RULE = "youden"
_PROMPTS = "default"
_SHARES = ("sensitivity", "specificity")


@dataclass
class CalibrationArguments:
    """Arguments of `eval.calibrate`."""

    model: str = field(metadata={"help": "Model, adapter or run folder, or Hub id."})
    data: str = field(metadata={"help": "Prepared folder with labels."})
    split: str = field(default="validation", metadata={"help": "Of the data."})
    views: list[str] = field(default_factory=list, metadata={"help": "Only films of these views, as PA; default: all."})
    findings: list[str] = field(
        default_factory=list, metadata={"help": "Default: all of the head, or all that the data have labels of."}
    )
    prompts: str | None = field(
        default=None,
        metadata={
            "help": f"Prompt family ({', '.join(PROMPT_FAMILIES)}; default: {_PROMPTS}), or a YAML or JSON file."
        },
    )
    rule: str | None = field(default=None, metadata={"help": f"{_RULE} (default), or sensitivity=0.95."})
    least_films: int | None = field(
        default=None, metadata={"help": f"Positive and negative films that a finding needs; default: {LEAST_FILMS}."}
    )
    unlisted_is_absent: bool = field(
        default=False, metadata={"help": "A label that a film does not list is absent, not unknown."}
    )
    out: str | None = field(
        default=None, metadata={"help": f"File to write, or with --check to read; default: {POINTS_FILE} at the model."}
    )
    check: bool = field(default=False, metadata={"help": "Choose nothing: see how the points do on these films."})
    resamples: int = field(default=1000, metadata={"help": "Bootstrap resamples, by patient."})
    seed: int = field(default=0, metadata={"help": "Seed of the bootstrap, and of the folds of calibration."})
    batch_size: int = field(default=64, metadata={"help": "Films a forward pass."})
    num_workers: int = field(default=0, metadata={"help": "Processes that decode films."})
    precision: str = field(default="auto", metadata={"help": "Of the image tower: auto, fp32, fp16 or bf16."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that comes with the model."})
    revision: str | None = field(default=None, metadata={"help": "Commit or branch of a model of the Hub."})
    base: str | None = field(default=None, metadata={"help": "Place of an adapter's base, if it was moved."})

    def __post_init__(self):
        chosen = [name for name in ("prompts", "rule", "least_films") if getattr(self, name) is not None]
        if self.check and chosen:
            raise ValueError(f"--{', --'.join(chosen)} choose points, and --check takes those that are there")
        if len(set(self.findings)) < len(self.findings):
            raise ValueError(f"--findings names one twice: {self.findings}")
        unknown = [view for view in self.views if view not in VIEWS]
        if unknown:
            # Beside one that there is, it would leave its films out without a word.
            raise ValueError(f"--views {' '.join(unknown)}: there are {', '.join(VIEWS)}")
        if not self.check and self.out is None and not Path(self.model).is_dir():
            raise ValueError(f"{self.model} is not a folder: say with --out where the points go")
        find_prompts(self.prompts or _PROMPTS)
        _ = self.settings, self.rules

    @property
    def settings(self) -> EvaluationSettings:
        return EvaluationSettings(self.batch_size, self.num_workers, self.precision, self.resamples, self.seed)

    @property
    def rules(self) -> PointRules:
        least = LEAST_FILMS if self.least_films is None else self.least_films
        return PointRules(self.rule or _RULE, least, self.resamples, self.seed)

    @property
    def file(self) -> Path:
        """Where the points are, or go."""
        return Path(self.out) if self.out else Path(weights_folder(self.model)) / POINTS_FILE


def read_films(arguments: CalibrationArguments) -> Dataset:
    """The films to choose or check on. Raises ValueError where there are none."""
    splits = load_prepared(arguments.data, ("image", "labels", "patient_id", "view"))
    if arguments.split not in splits:
        raise ValueError(f"--data {arguments.data} has no split {arguments.split!r}, it has {sorted(splits)}")
    films = splits[arguments.split]
    if arguments.views:
        views = read_column(films, "view")
        films = films.select([row for row, view in enumerate(views) if view in arguments.views])
        if len(films) == 0:
            raise ValueError(
                f"no film is of views {arguments.views}, there are {sorted({str(view) for view in views})}"
            )
    return films


def calibrate(model: EvaluationModel, arguments: CalibrationArguments) -> OperatingPoints:
    """Choose the points of a model on the films that the arguments name.

    Raises:
        ValueError: the model has neither a head for findings nor a text tower, the data lack labels that are asked
            for, or no finding has enough films.
    """
    films = read_films(arguments)
    absent = arguments.unlisted_is_absent
    family = None
    if isinstance(model, FindingsModel):
        names = _findings_of_head(model, films, arguments)
    elif model.sees_text:
        family = find_prompts(arguments.prompts or _PROMPTS)
        names, _ = chosen_labels(films, arguments.findings, absent)
    else:
        raise ValueError(f"{model.name} has neither a head for findings nor a text tower: it has no scores")
    targets = label_targets(films, names, absent)
    scores = score_films(model, films, targets, names, arguments.settings, family)
    data, _ = names_of_data(Path(arguments.data))
    notes = ["A label that a film does not list counted as absent."] if absent else []
    notes += notes_on_training(model, films, arguments.split)
    points = describe_points(
        model, films, scores, arguments.rules, data, arguments.split, family, arguments.views, notes
    )
    if not points.points:
        raise ValueError(f"no finding has enough films, so there are no points:\n{_refusals(points)}")
    return points


def notes_on_training(model: EvaluationModel, films: Dataset, split: str) -> list[str]:
    """What a reader must know of points that were chosen on films which the model was trained on, or may have been."""
    notes = patients_adapted_to(films, model)
    sources = set(films.unique("source")) if "source" in films.column_names else set()
    seen = sorted(sources.intersection(model.pretraining_sources))
    if split == "train" and seen:
        notes.append(f"The model was pretrained on training films of {', '.join(seen)}, as these are.")
    return [*notes, "Of films that a model has learnt from, it knows more than of others."] if notes else []


def _findings_of_head(model: FindingsModel, films: Dataset, arguments: CalibrationArguments) -> list[str]:
    if arguments.prompts is not None:
        raise ValueError(f"{model.name} has a head of its own: --prompts are for models that compare films with texts")
    unknown = [name for name in arguments.findings if name not in model.label_names]
    if unknown:
        raise ValueError(f"{model.name} has no output for {unknown}, it has {model.label_names}")
    names = arguments.findings or model.label_names
    known, _ = label_matrix(films, arguments.unlisted_is_absent)
    if all(find_label(name, known) is None for name in names):
        raise ValueError(f"no film has a label of {names}: the data have {known}")
    return names


def check(
    model: EvaluationModel, points: OperatingPoints, arguments: CalibrationArguments
) -> tuple[list[PointCheck], list[str]]:
    """How the points do on the films that the arguments name, and what a reader must know of these films.

    Raises:
        ValueError: the points are of another model or lack a finding that is asked for, or no film tells of any.
    """
    points.check_model(model.name, model.weights_sha256, model.image_processor, model.outputs)
    films = read_films(arguments)
    names = arguments.findings or list(points.points)
    targets = label_targets(films, names, arguments.unlisted_is_absent)
    scores = score_by_points(model, films, points, names, arguments.settings)
    split = ZeroShotScores(list(names), scores, targets, np.asarray(read_column(films, "patient_id")))
    checks = check_points(points, split, arguments.resamples, arguments.seed, arguments.split)
    if not checks:
        raise ValueError(f"no film of split {arguments.split!r} tells of {names}: there is nothing to check by")
    same = fingerprint(films) == points.data_fingerprint
    return checks, ["These are the films that the points were chosen on."] if same else []


def format_points(points: OperatingPoints) -> str:
    """A table of points, and what it does not say."""
    head = f"{'finding':28} {'from score':>10} {'sensitivity':22} {'specificity':22} {'positive / films':>16}"
    lines = [f"{head} {'prevalence':>10}  probability"]
    for name, point in points.points.items():
        fitted = point.calibration
        told = "not calibrated"
        if fitted is not None:
            told = f"{fitted.method} (Brier {fitted.brier_before:.4f} to {fitted.brier:.4f})"
        films = f"{point.positives:,} / {point.films:,}"
        lines.append(
            f"{name:28} {point.threshold:>10.4g} {point.sensitivity!s:22} {point.specificity!s:22} {films:>16} "
            f"{point.prevalence:>10.1%}  {told}"
        )
    how = (
        f"Rule {points.rule}, on {points.chosen_on}; 95 % intervals by patient ({points.resamples:,} resamples, seed "
        f"{points.seed})."
    )
    refused = [_refusals(points)] if points.refused else []
    return "\n".join([*lines, how, *points.notes, *refused, DO_NOT_TRAVEL])


def _refusals(points: OperatingPoints) -> str:
    return "\n".join(f"no point for {name}: {why}" for name, why in points.refused.items())


def format_checks(points: OperatingPoints, checks: list[PointCheck], notes: list[str]) -> str:
    """What was stated beside what was found, and how often the two agree."""
    head = f"{'finding':28} {'sensitivity stated':22} {'here':28} {'specificity stated':22} {'here':28}"
    lines = [f"{head} {'positive / films':>16}"]
    for check in checks:
        cells = []
        for kind in _SHARES:
            found = getattr(check, kind)
            mark = "no film" if found is None else f"{found}{' OUT' if check.differs(kind) else ''}"
            cells.append(f"{getattr(check.point, kind)!s:22} {mark:28}")
        films = f"{check.found.true_positives + check.found.false_negatives:,} / {check.films:,}"
        lines.append(f"{check.name:28} {' '.join(cells)} {films:>16}")
    inside = _counts([(kind, [check.inside(kind) for check in checks]) for kind in _SHARES])
    outside = _counts([(kind, [check.differs(kind) for check in checks]) for kind in _SHARES])
    told = [
        f"OUT: other than stated by more than the chance of both samples of films explains: {outside}.",
        f"Inside the stated interval: {inside}; a share of few films lies outside more often, by its own chance.",
        f"Chosen on {points.chosen_on}.",
    ]
    return "\n".join([*lines, *told, *notes, DO_NOT_TRAVEL])


def _counts(answers: list[tuple[str, list[bool | None]]]) -> str:
    told = [(kind, [answer for answer in given if answer is not None]) for kind, given in answers]
    return ", ".join(f"{kind} {sum(given)} of {len(given)}" for kind, given in told)


def run(arguments: CalibrationArguments) -> str:
    """What the command prints; without `--check` the points are written, too.

    Raises:
        OSError, ValueError: there is no such model, or see `calibrate` and `check`.
    """
    found = None
    if arguments.check:
        found = arguments.file if arguments.out else find_points(weights_folder(arguments.model), arguments.revision)
        if found is None:
            raise ValueError(f"{arguments.model} has no {POINTS_FILE}: choose points first, without --check")
        points = OperatingPoints.load(found)
    else:
        # Before all films are scored.
        check_writable(arguments.file)
    model = load_evaluation_model(arguments.model, arguments.trust_remote_code, arguments.revision, arguments.base)
    place(model.model, PartialState().device)
    if found is not None:
        return format_checks(points, *check(model, points, arguments))
    points = calibrate(model, arguments)
    if PartialState().is_main_process:
        points.save(arguments.file)
    return f"{format_points(points)}\npoints in {arguments.file}"


def main(arguments: list[str] | None = None) -> None:
    quiet_libraries()
    try:
        parser = HfArgumentParser(CalibrationArguments, prog=command_name())
        (parsed,) = parser.parse_args_into_dataclasses(arguments)
        # Joins the processes of torchrun; without a GPU that has to be asked for.
        state = PartialState(cpu=not torch.cuda.is_available())
        text = run(parsed)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if state.is_main_process:
        print(text)


if __name__ == "__main__":
    main()
