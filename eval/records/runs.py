"""What a run says of itself (`run.json`): one class for each kind of run, written by its trainer, read by all else."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from eval.records.json_values import from_json, write_json

#: The record of a run, written last: a folder without it is not finished.
RUN_FILE = "run.json"
#: Version of the format; bump when a field changes its meaning. Files without one are of version 1.
FORMAT_VERSION = 2


@dataclass
class Flops:
    """Floating-point operations over all processes: of training (forward and backward), and of scoring pairs."""

    trained: float
    scored: float = 0.0

    @property
    def total(self) -> float:
        return self.trained + self.scored


@dataclass(kw_only=True)
class Run:
    """What every run has. Costs are over all processes and include what was spent before a resumption.

    Args:
        seed: of new weights and of all random choices.
        start, start_sha256: name or folder of the weights that went on, and the hash of these; None: they were new, or
            it was not recorded. An adaptation tells its base.
        steps: optimiser steps taken.
        seconds: wall-clock time of training.
        processes, device: how many trained, and on what.
        flops: counted operations; None where they were not counted.
        mixture: the prepared folders with their weights and caps (`data_scripts.prepared.mixture.Mixture` as a dict);
            None in runs of early versions.
        settings: arguments that differ from their defaults, without paths and secrets.
        git_commit, packages: of the code that ran.
        notes: plain sentences that a reader of its figures must know.
        weights_sha256: hash of the weights that it wrote, to which all else belongs; None in runs of early versions.
    """

    kind: ClassVar[str]
    command: ClassVar[str]
    seed: int
    steps: int
    seconds: float
    settings: dict
    start: str | None = None
    start_sha256: str | None = None
    processes: int = 1
    device: str = "cpu"
    flops: Flops | None = None
    mixture: dict | None = None
    git_commit: str | None = None
    packages: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    weights_sha256: str | None = None
    format_version: int = FORMAT_VERSION

    @property
    def training_folders(self) -> list[str]:
        """Prepared folders that it was trained on, which may have been moved since."""
        parts = (self.mixture or {}).get("parts") or ()
        folders = self.settings.get("dataset_dir") or []
        return [part["folder"] for part in parts] or ([folders] if isinstance(folders, str) else list(folders))

    @property
    def corpus_films(self) -> int | None:
        """Films of the training corpus, chosen ones and others; None for a kind of run that has no such number."""
        return None

    @property
    def paradigm(self) -> str:
        """What kind of training it was, such as "reports": runs of other sizes of data are set beside it by this."""
        return self.kind

    def is_of(self, weights: str | Path) -> bool:
        """Whether the weights in a folder are those that it wrote, as far as it says: others may have been saved over
        them, or copied there.
        """
        # Records are read by commands that need no model, whose import takes seconds.
        from modeling_chexficient.base_identity_chexficient import weights_sha256

        return self.weights_sha256 in (None, weights_sha256(weights))

    def write(self, folder: Path) -> Path:
        """Write `run.json` into the folder of the run, atomically."""
        values = dataclasses.asdict(self)
        if self.flops is not None:
            values["flops"]["total"] = self.flops.total
        write_json({"kind": self.kind, **values}, Path(folder) / RUN_FILE)
        return Path(folder) / RUN_FILE

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The record of a run folder, also of versions before this one.

        Raises:
            ValueError: the run is not finished, or is of another kind than this class (every kind for `Run` itself), or
                its file is damaged or lacks a value; the message names the command that makes it anew.
        """
        file = Path(folder) / RUN_FILE
        if not file.is_file():
            raise ValueError(f"{folder} is not a finished run: {file} is missing: finish it with {_commands(cls)}")
        try:
            values = json.loads(file.read_text())
        except ValueError as error:
            raise ValueError(f"{file} is damaged ({error}): make the run anew with {_commands(cls)}") from error
        if not isinstance(values, dict):
            raise ValueError(f"{file} is damaged (no mapping): make the run anew with {_commands(cls)}")
        told = values.pop("kind", None) or ("adaptation" if "method" in values else "pretraining")
        kind = KINDS.get(str(told))
        if kind is None or not issubclass(kind, cls):
            expected = " or ".join(name for name, known in KINDS.items() if issubclass(known, cls))
            raise ValueError(f"{file} is of a run of {told}, expected {expected}: make one with {_commands(cls)}")
        try:
            return from_json(kind, _of_this_version(kind, values))
        except (TypeError, KeyError) as error:
            raise ValueError(
                f"{file} lacks a value or has an unknown one ({error}), as if another version had written it: make the "
                f"run anew with {_commands(kind)}"
            ) from error


@dataclass(kw_only=True)
class PretrainRun(Run):
    """A run of `train.pretrain`.

    Args:
        selection: name of the rule that chose, or "none".
        selection_words: what that rule does, in a few words; empty in runs of early versions.
        keep_share_asked: share of the corpus to keep; None: the rule's published constants.
        keep_share_reached: share of the scored pairs that was kept.
        corpus_pairs, kept_pairs: of the training split, and those of them that were chosen.
        corpus_fingerprint: of the pairs trained on (`PairDataset.fingerprint`); None in runs of early versions.
        schedule: batches of each phase (`train.selection.sampler.Schedule` as a dict).
        pairs_trained, pairs_scored: a pair that is seen again counts again.
        skipped_batches: left out since their loss was not finite.
        final_loss: the last one that was logged.
    """

    kind: ClassVar[str] = "pretraining"
    command: ClassVar[str] = "python -m train.pretrain"
    selection: str
    keep_share_asked: float | None
    keep_share_reached: float
    corpus_pairs: int
    kept_pairs: int
    schedule: dict
    pairs_trained: int
    pairs_scored: int
    selection_words: str = ""
    corpus_fingerprint: str | None = None
    skipped_batches: int = 0
    final_loss: float | None = None

    @property
    def corpus_films(self) -> int:
        return self.corpus_pairs

    @property
    def paradigm(self) -> str:
        words = {"contrastive": "reports", "unicl": "reports and labels (UniCL)"}
        objective = self.settings.get("objective", "contrastive")
        return words.get(objective, objective)


@dataclass(kw_only=True)
class AdaptRun(Run):
    """A run of `train.adapt`.

    Args:
        task: name on the Hub, such as "image-classification".
        method: "lora", "hira", "linear" or "full".
        base: what was adapted (`BaseIdentity` as a dict: name, revision, weights_sha256, ...).
        head: fields of the configuration that make the head.
        label_share: share of the training patients whose labels were used.
        labels: names of the outputs.
        trainable_parameters, all_parameters, trainable_share: numbers of weights, and the share of these.
        train_films, train_patients: that it was trained on.
        validation: films, patients, the metric that chose the weights, its value, and all figures on validation.
        best_epoch, best_step: when the weights were the best on validation.
        sources: corpora (`source` of records) of the training films.
        augmentation: of the training films.
        adapter_bytes: size of the saved weights.
        peak_memory: most memory, in bytes, that the first process had: allocated on its GPU, or on the CPU resident,
            with Python and the libraries. None in runs of early versions.
        facts: what one task alone says.
    """

    kind: ClassVar[str] = "adaptation"
    command: ClassVar[str] = "python -m train.adapt"
    task: str
    method: str
    base: dict
    head: dict
    label_share: float
    labels: list[str]
    trainable_parameters: int
    all_parameters: int
    trainable_share: float
    train_films: int
    train_patients: int
    validation: dict
    best_epoch: float
    best_step: int
    sources: list[str] = field(default_factory=list)
    augmentation: dict = field(default_factory=dict)
    adapter_bytes: int | None = None
    peak_memory: int | None = None
    facts: dict = field(default_factory=dict)


@dataclass(kw_only=True)
class SelfSupervisedRun(Run):
    """A run of `train.self_supervised` or `train.masked_autoencoding`.

    Args:
        objective: "self-distillation" or "masked autoencoding".
        films, corpus_fingerprint: of the training split.
        films_trained: a film that is seen again counts again.
        plan: steps, sizes, and what else was decided at the start (`train.film_runs.trainer.FilmPlan`, or
            what has more than it, as a dict).
        final_losses: the last ones that were logged, by term.
        probes: figures on validation by step, of the start and the end at least; empty where nothing was evaluated.
    """

    kind: ClassVar[str] = "self-supervised pretraining"
    command: ClassVar[str] = "python -m train.self_supervised` or `python -m train.masked_autoencoding"
    objective: str = "self-distillation"
    films: int
    films_trained: int
    plan: dict
    corpus_fingerprint: str | None = None
    final_losses: dict[str, float] = field(default_factory=dict)
    probes: list[dict] = field(default_factory=list)

    @property
    def corpus_films(self) -> int:
        return self.films

    @property
    def paradigm(self) -> str:
        return f"films alone ({self.objective})"


KINDS: dict[str, type[Run]] = {kind.kind: kind for kind in (PretrainRun, AdaptRun, SelfSupervisedRun)}


def _commands(kind: type[Run]) -> str:
    """What makes runs of a kind; of `Run` itself, all that make any."""
    return " or ".join(f"`{known.command}`" for known in KINDS.values() if issubclass(known, kind))


def _of_this_version(kind: type[Run], values: dict) -> dict:
    """The values of a file as the class has them. In version 1, FLOP of adaptations were a number, and facts lay among
    the rest. Raises TypeError for a version that is not known yet.
    """
    version = values.get("format_version", 1)
    if version not in range(1, FORMAT_VERSION + 1):
        raise TypeError(f"format_version: {version!r}, known are 1 to {FORMAT_VERSION}")
    flops = values.get("flops")
    if isinstance(flops, dict):
        values["flops"] = {name: flops[name] for name in ("trained", "scored")}
    elif flops is not None:
        values["flops"] = {"trained": flops}
    if kind is AdaptRun and version < FORMAT_VERSION:
        known = {own.name for own in dataclasses.fields(kind)}
        values["facts"] = {name: values.pop(name) for name in sorted(values.keys() - known)}
    values["format_version"] = FORMAT_VERSION
    return values


@dataclass
class Adaptation:
    """How an adapted model came about, as the record of its run says (`AdaptRun`); None: not recorded.

    Args:
        method: "lora", "hira", "linear" (the head alone), "full", or "head" where nobody recorded it.
        base, base_revision, base_sha256: the model it was adapted from, its commit and the hash of its weights.
        label_share: share of the training patients whose labels were used, above 0 up to 1.
        seed: of the sample of these and of the training.
        train_films, train_patients: that it was trained on.
        trainable_parameters, all_parameters: numbers of weights.
        adapter_bytes: size of the saved adapter.
        seconds: of the training.
        sources: corpora (`source` of records) that the head was trained on.
    """

    method: str
    base: str | None = None
    base_revision: str | None = None
    base_sha256: str | None = None
    label_share: float | None = None
    seed: int | None = None
    train_films: int | None = None
    train_patients: int | None = None
    trainable_parameters: int | None = None
    all_parameters: int | None = None
    adapter_bytes: int | None = None
    seconds: float | None = None
    sources: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, run: AdaptRun | None, told: dict) -> Adaptation:
        """What a run recorded, else what its adapter tells of its base (`told`, a `BaseIdentity` as a dict)."""
        base = told if run is None else run.base
        of_base: dict[str, Any] = {name: base.get(key) for name, key in _OF_BASE.items()}
        if run is None:
            return cls("head", **of_base)
        same = ("label_share", "seed", "train_films", "train_patients", "trainable_parameters", "all_parameters")
        values = {name: getattr(run, name) for name in (*same, "adapter_bytes", "seconds")}
        return cls(run.method, **of_base, **values, sources=sorted(run.sources))


_OF_BASE = {"base": "name", "base_revision": "revision", "base_sha256": "weights_sha256"}


def weights_folder(name: str) -> str:
    """Where the weights are: `adapter` or `model` of a run folder; anything else is its own place.

    Raises:
        ValueError: the run folder holds neither, so it is not finished.
    """
    run = Path(name)
    if not (run / RUN_FILE).is_file() or (run / "config.json").is_file():
        return name
    found = [str(run / folder) for folder in ("adapter", "model") if (run / folder).is_dir()]
    if not found:
        raise ValueError(f"{name} is a run folder without `adapter` or `model`: its training did not finish")
    return found[0]


def adaptation_behind(weights: str) -> AdaptRun | None:
    """The record of the adaptation that a folder of weights comes from; None for any other model.

    Raises:
        ValueError: the record cannot be read.
    """
    run_dir = Path(weights).parent
    if not Path(weights).is_dir() or not (run_dir / RUN_FILE).is_file():
        return None
    run = Run.load(run_dir)
    return run if isinstance(run, AdaptRun) and run.is_of(weights) else None
