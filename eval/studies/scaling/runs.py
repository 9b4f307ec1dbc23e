"""The runs of a scaling study: sizes, figures film by film, and whether they may be set side by side at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_scripts.prepared.id_files import check_nested
from eval.artifacts import artifact_path
from eval.records.results import ProbeResult, SegmentationResult, TaskResult, ZeroShotResult, load_results
from eval.records.runs import AdaptRun, Run, SelfSupervisedRun
from eval.statistics.significance import resample_statistics
from eval.studies.runs import Figures, check_weights, film_scores, findings_by_film, structures_by_film

#: The costs of the runs of one arm may lie so far apart, as a share: texts are padded to the longest of a chunk, which
#: moves the FLOP of equally many steps by up to 5 % between small subsets and a small image tower.
COST_TOLERANCE = 0.1
#: What the name of a benchmark of thin structures ends with where their centre lines are measured.
CENTRE_LINES = "_centre_lines"
#: Settings that runs of one arm may differ in.
_FREE = {"seed", "data_seed"}
#: Of the plan of a run on films alone, what follows from the films as it should, and where passes are equal, steps.
_OF_FILMS = {"films"}
_OF_STEPS = {"steps", "temperature_steps", "freeze_backbone", "freeze_last_layer"}
#: Settings of an evaluation that change no figure.
_OF_INTERVALS = {"resamples", "batch_size"}


@dataclass(frozen=True, eq=False)
class Measured:
    """The figure of a model on a benchmark.

    Args:
        metric, value: what is measured, the headline of the result or another figure of it; None: not defined.
        figures, patients: what the figure is made of film by film, and whose film each is; None where the task keeps
            nothing of single films.
    """

    path: Path
    result: TaskResult
    metric: str
    value: float | None
    figures: Figures | None
    patients: np.ndarray | None

    @property
    def error(self) -> float:
        """1 minus the figure.

        Raises:
            ValueError: it is not defined.
        """
        if self.value is None:
            raise ValueError(f"{self.path}: {self.metric} is not defined, so there is no error to fit")
        return 1 - self.value


@dataclass(frozen=True, eq=False)
class Reference:
    """A model to beat: its figures by benchmark, and the hash of its weights; its name where that is not known."""

    folder: Path
    measured: dict[str, Measured]
    weights: str


@dataclass(frozen=True, eq=False)
class ScalingRun:
    """A run and its figures by benchmark.

    Args:
        arm: what is compared, such as "reports" or "reports and labels (UniCL)".
        record: of the training whose films count: of an adaptation, that of its base.
        seed: of this training and, of an adaptation, its own.
    """

    folder: Path
    arm: str
    record: Run
    films: int
    seed: tuple[int, ...]
    measured: dict[str, Measured]

    @property
    def start(self) -> str | None:
        """The hash of the weights that it went on from; their name where that is not known (of the Hub)."""
        return self.record.start_sha256 or self.record.start

    @property
    def cost(self) -> float | None:
        """FLOP; None where they were not counted."""
        return self.record.flops.total if self.record.flops is not None and self.record.flops.total else None


def load_measured(folder: Path, run: Path | None = None) -> dict[str, Measured]:
    """The results in a folder by benchmark; of thin structures also BENCHMARK_centre_lines, by their centre-line Dice.

    Args:
        run: the run folder whose weights they must belong to.

    Raises:
        ValueError: there are none, or they do not belong to the weights.
    """
    measured = {}
    for name, result in load_results(folder).items():
        path = folder / name
        if run is not None:
            check_weights(run, path, result)
        patients = figures = None
        if isinstance(result, ZeroShotResult | ProbeResult) and result.scores_sha256 is not None:
            _, patients, _, figures = findings_by_film(film_scores(result, path))
        elif isinstance(result, SegmentationResult) and artifact_path(folder, path.stem).is_file():
            _, patients, _, figures = structures_by_film(result, path)
        metric, headline = result.headline
        measured[path.stem] = Measured(path, result, metric, headline.value, figures, patients)
        if isinstance(result, SegmentationResult) and figures is not None and result.centre_line_dice is not None:
            _, patients, _, figures = structures_by_film(result, path, centre_lines=True)
            metric = f"mean centre-line Dice, {result.decoder}"
            lines = Measured(path, result, metric, result.centre_line_dice, figures, patients)
            measured[f"{path.stem}{CENTRE_LINES}"] = lines
    return measured


def load_scaling_run(folder: Path, by: Sequence[str] = ()) -> ScalingRun:
    """A run folder with `run.json` and `results/`.

    Args:
        by: settings that make another arm.

    Raises:
        ValueError: the run is not finished or not evaluated, or nothing tells how many films it was trained on.
    """
    own = record = Run.load(folder)
    seed = (own.seed,)
    if isinstance(own, AdaptRun):
        base = Path(own.base["name"]).parent
        try:
            record = Run.load(base)
        except ValueError as error:
            raise ValueError(
                f"{folder} was adapted from {own.base['name']}, of which nothing tells the films: {error}"
            ) from error
        seed = (record.seed, own.seed)
    if record.corpus_films is None:
        raise ValueError(f"{folder}: a run of {record.kind} does not tell the films of its corpus")
    notes = [f"{name}: {record.settings[name]}" for name in by if record.settings.get(name) is not None]
    arm = f"{record.paradigm} ({'; '.join(notes)})" if notes else record.paradigm
    return ScalingRun(folder, arm, record, record.corpus_films, seed, load_measured(folder / "results", folder))


def load_reference(folder: Path) -> Reference:
    """From the folder that eval.run wrote, or a run folder with `results`.

    Raises:
        ValueError: as `load_measured`, or the results are of several models.
    """
    is_run = (folder / "results").is_dir()
    measured = load_measured(folder / "results", folder) if is_run else load_measured(folder)
    told = {one.path: one.result.provenance for one in measured.values()}
    weights = {path: of_model.model_sha256 or of_model.model for path, of_model in told.items()}
    first, *others = weights
    for path in others:
        if weights[path] != weights[first]:
            raise ValueError(
                f"{first} and {path} are of different models, so they are no one reference: evaluate one model anew "
                "into a folder of its own"
            )
    return Reference(folder, measured, weights[first])


def reference_of(members: Sequence[ScalingRun], references: Sequence[Reference]) -> Reference | None:
    """What the runs of an arm are to beat: the only reference, or of several the one that they started from.

    Raises:
        ValueError: they did not all start from one of several references.
    """
    if len(references) < 2:
        return references[0] if references else None
    started = {run.start for run in members}
    found = [one for one in references if started == {one.weights}]
    if not found:
        names = ", ".join(str(one.folder) for one in references)
        starts = ", ".join(sorted({run.record.start or "what they did not record" for run in members}))
        raise ValueError(
            f"the runs of {members[0].arm!r} did not all start from the weights of one of the references ({names}), "
            f"but from {starts}: name the start of every arm, or one reference for all"
        )
    return found[0]


def check_runs(runs: Sequence[ScalingRun], unequal_compute: bool) -> list[str]:
    """Whether runs may be set side by side; what could not be checked, in sentences.

    Raises:
        ValueError: runs of one arm differ in their start, their settings or what follows from these, or, unless
            `unequal_compute`, in what they cost; their subsets do not nest.
    """
    notes = _compare_corpora(runs)
    for arm in dict.fromkeys(run.arm for run in runs):
        members = sorted((run for run in runs if run.arm == arm), key=lambda run: (run.films, run.seed))
        _check_settings(arm, members, unequal_compute)
        if not unequal_compute:
            notes += _check_costs(arm, members)
        notes += _check_subsets(arm, members)
    return notes


def _check_settings(arm: str, members: Sequence[ScalingRun], unequal_compute: bool) -> None:
    # What was not recorded, in runs of early versions, is not known to differ.
    starts = {run.start: run.folder for run in members if run.start is not None}
    if len(starts) > 1:
        one, other = list(starts.values())[:2]
        raise ValueError(
            f"{one} and {other} are both {arm!r}, and did not go on from the same weights: train all sizes from one "
            "start"
        )
    first = _settings(members[0], unequal_compute)
    for run in members[1:]:
        settings = _settings(run, unequal_compute)
        different = sorted(name for name in {*first, *settings} if first.get(name) != settings.get(name))
        if different:
            raise ValueError(
                f"{members[0].folder} and {run.folder} are both {arm!r}, and differ in more than films and seed: "
                f"{different}; if that makes another arm, say so with --by; what was planned by the number of "
                "films must be given to the trainer"
            )


def _settings(run: ScalingRun, unequal_compute: bool) -> dict:
    """What must be equal in all runs of an arm, with what a run on films alone derived from its number of films."""
    of_corpus = _OF_FILMS | _OF_STEPS if unequal_compute else _OF_FILMS
    plan = run.record.plan if isinstance(run.record, SelfSupervisedRun) else {}
    derived = {f"{name} (planned)": value for name, value in plan.items() if name not in of_corpus}
    own = {name: value for name, value in run.record.settings.items() if name not in _FREE}
    return own | derived


def _compare_corpora(runs: Sequence[ScalingRun]) -> list[str]:
    """Where arms were trained on other films at one size and seed, in sentences."""
    notes: dict[tuple[str, str], str] = {}
    first: dict[tuple[int, int], tuple[str, str]] = {}
    for run in runs:
        if run.record.mixture is not None:
            folders = ", ".join(run.record.training_folders)
            corpus = run.record.mixture.get("subset") or folders
            arm, before = first.setdefault((run.films, run.seed[0]), (run.arm, corpus))
            if before != corpus:
                notes[arm, run.arm] = (
                    f"{arm} and {run.arm} were not trained on the same films, such as {before} and {corpus}: what "
                    "tells them apart may be the films."
                )
    return list(notes.values())


def _check_costs(arm: str, members: Sequence[ScalingRun]) -> list[str]:
    # Where FLOP were not counted, as many steps of one setting cost as much.
    counted = all(run.cost is not None for run in members)
    costs = [float(run.cost if counted and run.cost is not None else run.record.steps) for run in members]
    least, most = int(np.argmin(costs)), int(np.argmax(costs))
    if costs[most] > costs[least] * (1 + COST_TOLERANCE):
        unit = "FLOP" if counted else "steps"
        raise ValueError(
            f"the runs of {arm!r} differ in compute: {costs[least]:.4g} {unit} of {members[least].folder} "
            f"({members[least].films:,} films) and {costs[most]:.4g} of {members[most].folder} "
            f"({members[most].films:,} films), so that films and compute cannot be told apart. Train all sizes with "
            "the same max_steps, or say --unequal_compute true for runs of equally many passes"
        )
    return [] if counted else [f"{arm}: operations were not counted; the steps are equal."]


def _check_subsets(arm: str, members: Sequence[ScalingRun]) -> list[str]:
    """By seed, since each may have an order of patients of its own."""
    chains = set()
    for seed in dict.fromkeys(run.seed[0] for run in members):
        of_seed = {run.films: (run.record.mixture or {}).get("subset") for run in members if run.seed[0] == seed}
        # The largest may be the whole corpus, which holds every file of ids that could be trained on.
        files = [file for films, file in sorted(of_seed.items()) if file is not None or films < max(of_seed)]
        chains.add(tuple(files))
    for chain in chains:
        if any(file is None or not Path(file).is_file() for file in chain):
            return [f"{arm}: whether the sizes nest could not be checked, as their files of ids are not there."]
        check_nested([Path(file) for file in chain])
    return []


def resampled_errors(measured: Sequence[Measured], resamples: int, seed: int) -> tuple[np.ndarray, bool]:
    """Errors [models, 1 + resamples], the whole first, on the same resamples of patients; and whether there are any.

    A figure that is a mean over several fits, of which one is known film by film, varies as that one does.

    Raises:
        ValueError: the models were evaluated on other films.
    """
    first = measured[0]
    for other in measured[1:]:
        _check_same_films(first, other)
    errors = np.array([one.error for one in measured])[:, None]
    if any(one.figures is None for one in measured):
        return errors, False
    drawn = resample_statistics([one.figures for one in measured if one.figures], first.patients, resamples, seed)
    values = np.stack([one["macro"] for one in drawn])
    values = values[:, np.isfinite(values).all(axis=0)]
    return errors - (values - values[:, :1]), values.shape[1] > 1


def _check_same_films(first: Measured, other: Measured) -> None:
    def told(one: Measured) -> tuple:
        result = one.result
        settings = {name: value for name, value in result.provenance.settings.items() if name not in _OF_INTERVALS}
        films = result.provenance.dataset_fingerprint
        return (result.benchmark, result.benchmark_version, films, one.metric, settings)

    names = ("benchmark", "benchmark version", "evaluated films", "metric", "settings of the evaluation")
    for name, expected, found in zip(names, told(first), told(other), strict=True):
        if expected != found:
            raise ValueError(
                f"{first.path} and {other.path} cannot be compared: they differ in {name}: {expected} and {found}; "
                "evaluate both alike with eval.run"
            )
    if first.patients is not None and other.patients is not None and not np.array_equal(first.patients, other.patients):
        raise ValueError(f"{first.path} and {other.path} cannot be compared: their patients differ")
