"""Typed results as JSON, one class for each kind of task: what was measured, on how many films, with which versions."""

from __future__ import annotations

import json
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from eval.records.estimates import Estimate
from eval.records.json_values import from_json, write_json
from eval.records.provenance import Provenance, git_commit, package_versions
from eval.records.runs import Adaptation

#: Version of the format of the files; bump when a field changes its meaning.
FORMAT_VERSION = 1
_ANEW = "evaluate the model again with `python -m eval.run`"


@dataclass
class Subgroup:
    """The metric among the films of one view, sex, age band or source.

    `labels` is the number of labels in a macro mean (a small group lacks some: means of different labels do not
    compare), None where the metric is no such mean.
    """

    attribute: str
    value: str
    films: int
    patients: int
    estimate: Estimate
    labels: int | None = None


@dataclass
class TaskResult:
    """What the results of all tasks have.

    `notes` are plain sentences to be shown beside the figures. `adaptation` is of a model that was adapted
    before, be it evaluated by its own head or by a probe that was fitted on its tower.
    """

    task: ClassVar[str]
    benchmark: str
    benchmark_version: int
    _: KW_ONLY
    provenance: Provenance
    subgroups: list[Subgroup] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    adaptation: Adaptation | None = None
    format_version: int = FORMAT_VERSION

    @property
    def headline(self) -> tuple[str, Estimate]:
        """The one figure for a table of many benchmarks: its name and value."""
        raise NotImplementedError

    def save(self, path: Path) -> None:
        write_json({"task": self.task, **asdict(self)}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises ValueError if the file is no result of this task in this format version; it says how to make one."""
        values = _read(path)
        if values.get("task") != cls.task or values.get("format_version") != FORMAT_VERSION:
            raise ValueError(
                f"{path}: task {values.get('task')!r}, format {values.get('format_version')!r}; expected "
                f"{cls.task!r}, {FORMAT_VERSION}: {_ANEW}"
            )
        del values["task"]
        try:
            return from_json(cls, values)
        except TypeError as error:
            raise ValueError(
                f"{path} is not a result of task {cls.task!r}: it lacks a value or has an unknown one ({error}), as if "
                f"another version had written it: {_ANEW}"
            ) from error


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
class Direction:
    """Retrieval in one direction; keys of `r_at` and `chance` are "1", "5" and "10".

    Args:
        r_at: share of the queries with a correct answer among the first k.
        chance: expected share for a random order of the candidates.
        median_rank: rank of the first correct answer, 1 is best; `mean_rank` likewise.
    """

    r_at: dict[str, Estimate]
    chance: dict[str, float]
    median_rank: Estimate
    mean_rank: float
    queries: int
    candidates: int


@dataclass
class RetrievalResult(TaskResult):
    """Cross-modal retrieval, identical texts and all images of a study counted as correct."""

    task: ClassVar[str] = "retrieval"
    _: KW_ONLY
    image_to_text: Direction
    text_to_image: Direction
    n_images: int
    n_texts: int
    n_distinct_texts: int

    @property
    def headline(self) -> tuple[str, Estimate]:
        return "R@5 image to text", self.image_to_text.r_at["5"]


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


@dataclass
class StructureResult:
    """One structure by one decoder: "linear", "unet", or the method of an adapted model.

    Quantiles "0", "0.25", "0.5", "0.75", "1" are over films.

    `films` have the structure in their reference; `films_without` do not, and are no part of the Dice mean; in
    `false_alarms` of those something was segmented all the same.

    `centre_line_dice` (clDice, arXiv 2003.07311) is over `thin_films`, whose reference is a line or a tube; None where
    there is none.
    """

    decoder: str
    structure: str
    dice: Estimate
    iou: Estimate
    dice_quantiles: dict[str, float]
    films: int
    films_without: int
    false_alarms: int
    centre_line_dice: Estimate | None = None
    thin_films: int = 0


@dataclass
class SegmentationResult(TaskResult):
    """Segmentation by decoders fitted here on frozen features, or by the trained decoder of an adapted model.

    `decoders` holds `trainable` parameters and training `films` of those fitted here.
    """

    task: ClassVar[str] = "segmentation"
    _: KW_ONLY
    structures: list[StructureResult]
    macro_dice: dict[str, Estimate]
    decoders: dict[str, dict[str, int | float]]

    @property
    def headline(self) -> tuple[str, Estimate]:
        """Mean Dice of the last decoder (the U-Net where it was trained)."""
        decoder = list(self.macro_dice)[-1]
        return f"mean Dice, {decoder}", self.macro_dice[decoder]


@dataclass
class PointingScores:
    """How well heat maps point at regions, as means over pairs of a film and a phrase; see `eval.tasks.localisation`.

    Args:
        cnr: contrast-to-noise ratio with its sign; `cnr_absolute` is the published figure, which has none.
        miou: mean over thresholds of 0.1 to 0.5 of the IoU, 0 to 1.
        pointing: share of the maps whose highest point lies in the region or close to it (the pointing game);
            `pointing_strict` that of points within the region.
    """

    cnr: Estimate
    cnr_absolute: Estimate
    miou: Estimate
    pointing: Estimate
    pointing_strict: Estimate


@dataclass
class GroundedFinding:
    """One finding: its pairs of film and phrase, its scores by map (of `eval.tasks.grounding.MAPS`).

    `region_share` is the mean share of the film that its region takes; `focal` whether that is small.
    """

    name: str
    pairs: int
    region_share: float
    focal: bool
    scores: dict[str, PointingScores]


@dataclass
class GroundingResult(TaskResult):
    """Whether heat maps show where phrases or findings are; means over findings weigh each finding alike.

    Args:
        metric: the headline, one of `HEADLINES`.
        method: how the maps were made, of `heat_maps_chexficient.METHODS`.
        thresholded: what the thresholds of the mIoU are of: "cosines" (as published), or "maps scaled to 0..1".
        macro, macro_focal: by map, over all findings and over the focal ones.
        differences, differences_focal: model minus baseline map, in pairs, by the name of the baseline.
    """

    task: ClassVar[str] = "grounding"
    HEADLINES: ClassVar[dict[str, tuple[str, str]]] = {
        "CNR": ("macro", "cnr_absolute"),
        "pointing game, focal findings": ("macro_focal", "pointing"),
    }
    _: KW_ONLY
    metric: str
    method: str
    thresholded: str
    findings: list[GroundedFinding]
    macro: dict[str, PointingScores]
    macro_focal: dict[str, PointingScores]
    differences: dict[str, PointingScores]
    differences_focal: dict[str, PointingScores]

    @property
    def headline(self) -> tuple[str, Estimate]:
        means, figure = self.HEADLINES[self.metric]
        return self.metric, getattr(getattr(self, means)["model"], figure)


@dataclass
class TextScores:
    """Generated reports against their references; all shares are 0 to 1.

    Args:
        bleu1, bleu4, rouge_l, meteor: by the convention `words` of `ReportResult.conventions` (METEOR: nltk's, 2005).
        f1_micro, f1_macro: clinical F1 of the findings extracted from both texts; `f1_five_*` of the five main ones.
        mean_words: length of the generated reports.
        repeated: share of the 4-grams of a report that stood in it before.
        distinct: share of the generated reports that differ from all others.
        optional: further metrics by name, where their packages and weights are installed.
        by_convention: "bleu1" to "bleu4" and "rouge_l" by the name of another convention, where one was asked for; of
            "radeval" its own figures by its own names, without intervals.
    """

    bleu1: Estimate
    bleu4: Estimate
    rouge_l: Estimate
    meteor: Estimate | None
    f1_micro: Estimate
    f1_macro: Estimate
    f1_five_micro: Estimate
    f1_five_macro: Estimate
    mean_words: float
    repeated: float
    distinct: float
    optional: dict[str, float] = field(default_factory=dict)
    by_convention: dict[str, dict[str, Estimate]] = field(default_factory=dict)


@dataclass
class FindingScores:
    """One finding: in how many references and generated reports it is present, and how these agree; None: undefined."""

    name: str
    references: int
    generated: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass
class ReportResult(TaskResult):
    """Report generation. `baselines` by name ("most frequent report", "nearest neighbour") are scored likewise.

    `conventions` says of each convention by name how texts are cleaned, cut and counted; older results have none, and
    are all by that of words.
    """

    task: ClassVar[str] = "report_generation"
    _: KW_ONLY
    scores: TextScores
    baselines: dict[str, TextScores]
    findings: list[FindingScores]
    reference_words: float
    decoder: dict[str, int | float | str] = field(default_factory=dict)
    conventions: dict[str, str] = field(default_factory=dict)

    @property
    def headline(self) -> tuple[str, Estimate]:
        return "clinical F1 (micro)", self.scores.f1_micro


RESULTS: dict[str, type[TaskResult]] = {
    kind.task: kind
    for kind in (ZeroShotResult, RetrievalResult, ProbeResult, SegmentationResult, GroundingResult, ReportResult)
}


def load_result(path: Path) -> TaskResult:
    """The result in a file, of the class of its task.

    Raises:
        ValueError: the file is no result, or of another format version; the message says how to make one.
    """
    task = _task_in(path)
    if task not in RESULTS:
        raise ValueError(f"{path} is not a result: its task is {task!r}, known are {sorted(RESULTS)}: {_ANEW}")
    return RESULTS[task].load(path)


def load_results(folder: Path) -> dict[str, TaskResult]:
    """The results in a folder by file name, in the order of `RESULTS`; JSON files of something else are left out.

    Raises:
        ValueError: there is none, or a file is damaged or of another format version; the message says how to make one.
    """
    files = [file for file in sorted(folder.glob("*.json")) if _task_in(file) in RESULTS]
    if not files:
        raise ValueError(f"{folder} holds no result: evaluate the model first with `python -m eval.run`")
    results = {file.name: load_result(file) for file in files}
    order = list(RESULTS)
    return dict(sorted(results.items(), key=lambda item: (order.index(item[1].task), item[0])))


def _task_in(path: Path) -> str:
    return str(_read(path).get("task"))


def _read(path: Path) -> dict:
    """What a JSON file holds; nothing where that is no mapping."""
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not a result: it is no JSON ({error}): {_ANEW}") from error
    return values if isinstance(values, dict) else {}


__all__ = [
    "FORMAT_VERSION",
    "RESULTS",
    "Adaptation",
    "Calibration",
    "Direction",
    "Estimate",
    "FindingScores",
    "FrequencyGroup",
    "GroundedFinding",
    "GroundingResult",
    "LabelResult",
    "PointingScores",
    "ProbeLabel",
    "ProbeResult",
    "ProbeShare",
    "PromptResult",
    "Provenance",
    "ReportResult",
    "RetrievalResult",
    "SegmentationResult",
    "StructureResult",
    "Subgroup",
    "TaskResult",
    "TextScores",
    "Threshold",
    "ZeroShotResult",
    "git_commit",
    "load_result",
    "load_results",
    "package_versions",
]
