"""Results of tasks that tell findings: zero-shot and probes or heads."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar

from eval.records.estimates import Estimate
from eval.records.task_result import TaskResult


@dataclass
class Calibration:
    """How far the two-class softmax of positive and negative prompt is from a probability, over the evaluated films.

    The softmax is a ranking score, no calibrated probability; these figures say how wrong it is to read it as one.

    Args:
        ece: binary expected calibration error: of the softmax as probability of the finding, 15 bins of equal width, 0
            to 1, lower is better. That of the predicted class's confidence (top-label, arXiv 1706.04599) is another.
        brier: mean squared error, 0 to 1; `brier_of_prevalence` is that of always saying the label's prevalence.
        mean_score, prevalence: mean softmax, share of positive films.
    """

    ece: float
    brier: float
    brier_of_prevalence: float
    mean_score: float
    prevalence: float


@dataclass
class Threshold:
    """A threshold on the score, chosen on the validation split and evaluated on the test split.

    `rule` is "youden" or "sensitivity=0.95". The four counts are of the test split; the predictive values hold at its
    prevalence only.
    """

    rule: str
    value: float
    chosen_on: str
    sensitivity: Estimate
    specificity: Estimate
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int


@dataclass
class LabelResult:
    """One finding: its AUROC, how many films were evaluated, how many have it, and how frequent it is in training.

    `threshold` is None without a validation split that has both classes; the others where one class is missing.
    """

    name: str
    auroc: Estimate
    films: int
    positives: int
    prevalence: float
    rare: bool
    auprc: Estimate | None = None
    calibration: Calibration | None = None
    threshold: Threshold | None = None


@dataclass
class FrequencyGroup:
    """The findings whose frequency in training is at least `lowest` and below `below`, and their macro means."""

    name: str
    lowest: float
    below: float
    labels: list[str]
    auroc: Estimate
    auprc: Estimate


@dataclass
class PromptResult:
    """The same films evaluated with another family of prompts, or with several together (`families`)."""

    name: str
    families: list[str]
    macro: Estimate
    labels: dict[str, float | None]


@dataclass
class ZeroShotResult(TaskResult):
    """Zero-shot classification of findings. `macro` leaves out labels without both classes (listed in `undefined`).

    `macro_common` is of all findings that are not rare; `frequencies` has common, medium and rare apart. `prompt_pairs`
    are the texts themselves. `other_prompts` hold other families and the ensemble of all; they never enter `macro`.
    `scores_sha256` is the hash of the file of per-film scores (eval.scores) that belongs to it; None in older results,
    which kept none. Where films of a study were judged as one, `study_rule` names how, and `studies` counts them: all
    figures "of films" are of studies then.
    """

    task: ClassVar[str] = "zero_shot"
    prompts: str
    macro: Estimate
    macro_common: Estimate
    macro_rare: Estimate
    rare_below: float
    prevalence_from: str
    labels: list[LabelResult]
    undefined: list[str]
    _: KW_ONLY
    macro_auprc: Estimate | None = None
    frequencies: list[FrequencyGroup] = field(default_factory=list)
    prompt_pairs: dict[str, list[str]] = field(default_factory=dict)
    other_prompts: list[PromptResult] = field(default_factory=list)
    scores_sha256: str | None = None
    study_rule: str = "none"
    studies: int | None = None

    @property
    def headline(self) -> tuple[str, Estimate]:
        return "macro AUROC", self.macro


@dataclass
class ProbeLabel:
    """One label at one share of the training labels: mean AUROC over the seeds and its interval by patient."""

    name: str
    auroc: Estimate
    auroc_by_seed: list[float | None]
    films: int
    positives: int
    training_positives: list[int]


@dataclass
class ProbeShare:
    """All labels at one share (0 to 1) of the training labels; lists are by seed. `spread`: standard deviation.

    Of an adapted model there is one training: its share, seed, films and patients are there as far as recorded (None,
    or empty lists), and there is no `regularisation`.
    """

    label_share: float | None
    seeds: list[int]
    training_films: list[int]
    training_patients: list[int]
    regularisation: list[dict[str, float]]
    macro: Estimate
    macro_by_seed: list[float | None]
    spread: float | None
    labels: list[ProbeLabel]


@dataclass
class ProbeResult(TaskResult):
    """Disease prediction by a probe fitted here, or by the trained head of an adapted model.

    Args:
        method: "linear_probe" (logistic regression on frozen features), or that of `Adaptation`.
        shares: in ascending order; the last is all training labels. One of an adapted model.
        features: of the probe: "tower" (pooled, before any projection) or "embedding" (what `embed_images` gives, as
            in older results); None of an adapted model.
        study_rule, studies: as of `ZeroShotResult`.
    """

    task: ClassVar[str] = "disease_prediction"
    _: KW_ONLY
    method: str
    shares: list[ProbeShare]
    undefined: list[str] = field(default_factory=list)
    scores_sha256: str | None = None
    features: str | None = "embedding"
    study_rule: str = "none"
    studies: int | None = None

    @property
    def headline(self) -> tuple[str, Estimate]:
        last = self.shares[-1]
        trained = [] if self.method == "linear_probe" else [self.method]
        labels = [] if last.label_share is None else [f"{100 * last.label_share:g}% of labels"]
        return ", ".join(["macro AUROC", *trained, *labels]), last.macro
