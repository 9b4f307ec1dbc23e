"""Operating points: from which score on a finding is called present, as chosen on films whose truth is known.

`python -m eval.calibrate` and `train.adapt` write them as `operating_points.json` beside the weights or the adapter;
pipelines (`threshold="validated"`), `eval.predict`, cards and the page read them. A score is a logit of a head, or the
difference of the logits of two prompts. The page copies this file, so it imports nothing else of this package.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from transformers.utils import cached_file

POINTS_FILE = "operating_points.json"
#: Files that earlier versions of this package would read otherwise, with points of several prompts, are of version 2.
FORMAT_VERSION, FORMAT_OF_ONE_PAIR = 2, 1
# What a score is.
LOGIT, DIFFERENCE = "logit", "logit_difference"
# Of a processor, what says nothing about pixels.
_NOT_OF_PIXELS = ("auto_map", "image_processor_type", "feature_extractor_type", "processor_class")
DO_NOT_TRAVEL = (
    "Operating points do not travel between hospitals: devices, patients and labels differ, and sensitivity, "
    "specificity and probabilities with them. Choose them anew on films of your own: `python -m eval.calibrate`."
)


@dataclass(frozen=True)
class Share:
    """A share of films, 0 to 1, with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class ScoreCalibration:
    """How a score becomes a probability.

    Attributes:
        method: "temperature" (arXiv 1706.04599) is sigmoid(scale * score), "platt" (Platt, 1999) is
            sigmoid(scale * score + offset), "isotonic" (Zadrozny and Elkan, KDD 2002) goes straight from knot to knot.
        brier, brier_before: mean squared error of the probability, and of the sigmoid of the score, on films that were
            held out of the fit.
        scale, offset: of the first two.
        scores, probabilities: the knots [k], the scores ascending.
    """

    method: str
    brier: float
    brier_before: float
    scale: float = 1.0
    offset: float = 0.0
    scores: list[float] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)

    def probability(self, scores: ArrayLike) -> np.ndarray:
        """Probabilities [...] of `scores` [...]."""
        if self.method == "isotonic":
            return np.interp(np.asarray(scores, np.float64), self.scores, self.probabilities)
        return sigmoid(self.scale * np.asarray(scores, np.float64) + self.offset)


@dataclass(frozen=True)
class OperatingPoint:
    """One finding, called present where its score is at least `threshold`.

    Attributes:
        threshold: on the score.
        sensitivity, specificity: as expected of other films of the same population, whatever the threshold owes to the
            films that it was chosen on.
        films, patients, positives, prevalence: of the films that it was chosen on; `positives` are films.
        calibration: None where none made probabilities better than the sigmoid of the score.
        prompts: pairs of texts (positive, negative), the mean of whose differences of logits is the score; none for a
            head.
        from_others: the score is minus the highest difference of several pairs, those of the other findings.
    """

    threshold: float
    sensitivity: Share
    specificity: Share
    films: int
    patients: int
    positives: int
    prevalence: float
    calibration: ScoreCalibration | None = None
    prompts: list[list[str]] = field(default_factory=list)
    from_others: bool = False

    def score(self, differences: Sequence[float]) -> float:
        """The score of a film whose pairs of `prompts` have these differences of logits [pairs]."""
        return -max(differences) if self.from_others else sum(differences) / len(differences)

    def is_above(self, scores: ArrayLike) -> np.ndarray:
        """Whether the finding is called present, bool [...], by `scores` [...]."""
        return np.asarray(scores) >= self.threshold

    def probability(self, score: float) -> float | None:
        """The calibrated probability; None without a calibration."""
        return None if self.calibration is None else float(self.calibration.probability(score))


@dataclass(frozen=True)
class OperatingPoints:
    """The operating points of a model, and what they were chosen on.

    Attributes:
        score: "logit" or "logit_difference".
        rule: "youden" (highest sensitivity + specificity - 1; Youden, Cancer 3(1), 1950) or "sensitivity=0.95" (highest
            threshold that reaches it).
        points: by finding.
        refused: why a finding has none.
        least_films: positive films, and negative ones, that a finding needed.
        data, split, views, data_fingerprint: the name of the prepared folder, its split, the views that were taken of
            it (none: all), and a hash of ids and labels.
        model_sha256: hash of the weights (`base_identity_chexficient.weights_sha256`); None where it is not known.
        resamples, seed: of the intervals and of what is held out.
        notes: what a reader must know.
        preprocessing: how films were made pixels (`preprocessing_of`); empty in files of early versions.
        outputs: names of the outputs of a head, in their order; none for prompts, and in files of early versions.
    """

    score: str
    rule: str
    points: dict[str, OperatingPoint]
    refused: dict[str, str]
    least_films: int
    data: str
    split: str
    data_fingerprint: str
    model_sha256: str | None
    resamples: int
    seed: int
    views: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    preprocessing: dict = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    format_version: int = FORMAT_OF_ONE_PAIR

    @property
    def chosen_on(self) -> str:
        """The films, in words."""
        views = f", views {', '.join(self.views)}" if self.views else ""
        return f"split {self.split} of {self.data}{views}"

    def point(self, finding: str) -> OperatingPoint:
        """Raises ValueError for a finding without one, and says why it has none."""
        if finding not in self.points:
            why = self.refused.get(finding, f"it is none of {[*self.points, *self.refused]}")
            raise ValueError(f"there is no operating point for {finding!r}: {why}")
        return self.points[finding]

    def check_model(
        self, place: str | Path, sha256: str | None, processor=None, outputs: Sequence[str] | None = None
    ) -> None:
        """Raise ValueError where a model gives other scores than these were chosen on.

        Args:
            place: where the model is, for the message.
            sha256: of its weights; None where it is not known.
            processor: its image processor; None where there is none to compare.
            outputs: names of its head's outputs, in their order; None for a model that is asked by prompts.
        """
        differs = []
        if None not in (self.model_sha256, sha256) and sha256 != self.model_sha256:
            differs.append(
                f"with other weights (SHA-256 {str(self.model_sha256)[:12]}..., these are {str(sha256)[:12]}...)"
            )
        now = preprocessing_of(processor)
        # Another version of transformers may name more.
        changed = [name for name in sorted(self.preprocessing.keys() & now) if self.preprocessing[name] != now[name]]
        differs += [f"on films prepared with {name} {self.preprocessing[name]} (now {now[name]})" for name in changed]
        if self.outputs and outputs is not None and list(outputs) != self.outputs:
            differs.append(f"when the outputs of the head were {self.outputs} (now {list(outputs)})")
        if differs:
            raise ValueError(
                f"the operating points of {place} were chosen {', and '.join(differs)}: choose them anew with "
                "`python -m eval.calibrate`"
            )

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.unfinished")
        unfinished.write_text(json.dumps(asdict(self), indent=2, allow_nan=False) + "\n")
        unfinished.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> OperatingPoints:
        """Raises ValueError where the file is none of operating points, or of a later version of this package."""
        try:
            values = json.loads(Path(path).read_text())
            version = values["format_version"]
            if version > FORMAT_VERSION:
                raise ValueError(
                    f"it is of format {version}, this package reads up to {FORMAT_VERSION}: update the package"
                )
            points = {name: _point(point) for name, point in values.pop("points").items()}
            return cls(points=points, **values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} cannot be read as operating points: {error}") from error


def _point(values: dict) -> OperatingPoint:
    shares = {name: Share(**values[name]) for name in ("sensitivity", "specificity")}
    calibration = values["calibration"]
    fitted = None if calibration is None else ScoreCalibration(**calibration)
    return OperatingPoint(**{**values, **shares, "calibration": fitted})


def preprocessing_of(processor) -> dict:
    """What an image processor says of the pixels that it makes, as JSON has it; empty without one."""
    told = {} if processor is None else json.loads(json.dumps(processor.to_dict(), default=str))
    return {name: value for name, value in told.items() if name not in _NOT_OF_PIXELS and not name.startswith("_")}


def find_points(place: str | Path, revision: str | None = None) -> Path | None:
    """The file of operating points in a folder or Hub repository; None where there is none."""
    if Path(place).is_dir():
        file = Path(place) / POINTS_FILE
        return file if file.is_file() else None
    quiet = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors", "gated_repo")}
    found = cached_file(str(place), POINTS_FILE, revision=revision, **quiet)
    return None if found is None else Path(found)


def sigmoid(values: ArrayLike) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(np.asarray(values, np.float64), -500, 500)))


def logit_of(log_probabilities: ArrayLike) -> np.ndarray:
    """Logits [...] of log-probabilities [...], as a head gives them where one class alone is right."""
    # A probability that is rounded to 1 would give an infinite one.
    clipped = np.minimum(np.asarray(log_probabilities, np.float64), -1e-12)
    return clipped - np.log(-np.expm1(clipped))


__all__ = [
    "DO_NOT_TRAVEL",
    "POINTS_FILE",
    "OperatingPoint",
    "OperatingPoints",
    "ScoreCalibration",
    "Share",
    "find_points",
    "logit_of",
    "preprocessing_of",
    "sigmoid",
]
