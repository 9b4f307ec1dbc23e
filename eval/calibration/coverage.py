"""How often what operating points state holds of other films, on drawn scores whose truth is known.

    python -m eval.calibration.coverage
    python -m eval.calibration.coverage --positives 50 --per_patient 2 --rule sensitivity=0.95 --draws 1000

Scores are normal with variance 1 around 0 and, of positive films, around `--distance`, four negative films for each
positive one. In each draw a point is chosen on as many positive films, then checked: whether the sensitivity and
specificity of all films (known here) lie in the stated intervals; whether a share found on other films does; and
whether `calibrate --check` finds that share to be as stated. All three are meant to be 95 %, but the second is not:
a share of few films has a chance of its own.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from scipy.stats import norm
from transformers import HfArgumentParser

from data_scripts.command_line import command_name
from eval.calibration.operating_points import PointRules, choose_with_shares
from eval.calibration.shares import differ, share_interval
from eval.statistics.significance import resample_by_patient
from eval.tasks.thresholds import threshold_rates

NEGATIVES = 4
#: Of the scores of two films of one patient, beyond what their class tells.
_CORRELATION = 0.7


@dataclass
class CoverageArguments:
    """Arguments of `eval.calibration.coverage`."""

    rule: str = field(default="youden", metadata={"help": "youden, or sensitivity=0.95."})
    distance: float = field(default=1.5, metadata={"help": "Between the classes; 1.5 is an AUROC of 0.856."})
    positives: list[int] = field(default_factory=lambda: [50, 200], metadata={"help": "Positive films that choose."})
    check_positives: list[int] = field(
        default_factory=lambda: [50, 500], metadata={"help": "Positive films that points are checked on."}
    )
    per_patient: int = field(default=1, metadata={"help": "Films of a patient, all of one class."})
    draws: int = field(default=200, metadata={"help": "How often all is drawn."})
    resamples: int = field(default=200, metadata={"help": "Bootstrap resamples, by patient."})
    seed: int = field(default=0, metadata={"help": "Of the draws."})

    def __post_init__(self):
        for name, least in (("per_patient", 1), ("draws", 1), ("resamples", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least {least}")
        for count in (*self.positives, *self.check_positives):
            if count < self.per_patient or count % self.per_patient:
                raise ValueError(f"{count} positive films are no whole patients of {self.per_patient} films")


@dataclass(frozen=True)
class Coverage:
    """Shares [2] of draws, of the sensitivity and of the specificity.

    `truth`: that of all films is in the stated interval. `inside` and `level` by positive films checked on: the share
    found is in it, and `calibrate --check` finds no difference. `width` is the mean width of the stated interval.
    """

    truth: np.ndarray
    width: np.ndarray
    inside: dict[int, np.ndarray]
    level: dict[int, np.ndarray]


def draw_films(
    generator: np.random.Generator, positives: int, distance: float, per_patient: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, targets and patients [n] of `positives` positive films and `NEGATIVES` times as many negative ones."""
    films = positives * (1 + NEGATIVES)
    targets, patients = (np.arange(films) < positives).astype(float), np.arange(films) // per_patient
    shared = _CORRELATION if per_patient > 1 else 0.0
    of_patient = generator.normal(size=patients.max() + 1)[patients]
    scores = np.sqrt(shared) * of_patient + np.sqrt(1 - shared) * generator.normal(size=films) + distance * targets
    return scores, targets, patients


def measure(arguments: CoverageArguments, positives: int) -> Coverage:
    """Choose a point on `positives` positive films, and check it, as often as the arguments say."""
    truth, width = np.zeros(2), np.zeros(2)
    inside, level = ({count: np.zeros(2) for count in arguments.check_positives} for _ in range(2))
    for draw in range(arguments.draws):
        generator = np.random.default_rng((arguments.seed, positives, draw))
        films = partial(draw_films, generator, distance=arguments.distance, per_patient=arguments.per_patient)
        rules = PointRules(arguments.rule, resamples=arguments.resamples, seed=draw)
        threshold, *stated = choose_with_shares(*films(positives), rules)
        known = norm.sf(threshold - arguments.distance), norm.cdf(threshold)
        truth += [share.low <= value <= share.high for share, value in zip(stated, known, strict=True)]
        width += [share.high - share.low for share in stated]
        for count in arguments.check_positives:
            scores, targets, patients = films(count)
            rates = partial(threshold_rates, threshold, scores, targets)
            values = resample_by_patient(rates, patients, arguments.resamples, draw)
            sizes = count, NEGATIVES * count
            found = [
                share_interval(*values[:1, k], values[1:, k], sizes[k], sizes[k] // arguments.per_patient)
                for k in range(2)
            ]
            pairs = list(zip(stated, found, strict=True))
            inside[count] += [share.low <= here.value <= share.high for share, here in pairs]
            level[count] += [not differ(share, here) for share, here in pairs]
    n = arguments.draws
    return Coverage(
        truth / n,
        width / n,
        {key: all_ / n for key, all_ in inside.items()},
        {key: all_ / n for key, all_ in level.items()},
    )


def page(arguments: CoverageArguments) -> str:
    """The table of all numbers of positive films, as Markdown; in each cell that of the sensitivity / specificity."""
    checked = arguments.check_positives
    heads = ["positives that chose", "width of the interval", "all films inside"]
    heads += [f"{count} others inside" for count in checked] + [f"{count} others as stated" for count in checked]
    lines = [f"| {' | '.join(heads)} |", "|" + "---:|" * len(heads)]
    for positives in arguments.positives:
        found = measure(arguments, positives)
        shares = [found.truth, *(found.inside[count] for count in checked), *(found.level[count] for count in checked)]
        cells = ["{:.3f} / {:.3f}".format(*found.width), *("{:.1%} / {:.1%}".format(*share) for share in shares)]
        lines.append(f"| {positives} | {' | '.join(cells)} |")
    how = (
        f"Rule {arguments.rule}, distance {arguments.distance}, {arguments.per_patient} films a patient, "
        f"{arguments.draws} draws, {arguments.resamples} resamples, seed {arguments.seed}."
    )
    return "\n".join([*lines, "", how])


def main(arguments: list[str] | None = None) -> None:
    try:
        parser = HfArgumentParser(CoverageArguments, prog=command_name())
        (parsed,) = parser.parse_args_into_dataclasses(arguments)
        text = page(parsed)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(text)


if __name__ == "__main__":
    main()
