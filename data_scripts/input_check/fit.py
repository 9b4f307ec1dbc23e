"""Fit the input check to synthetic films, drawings and photographs: no film of a patient is used.

    python -m data_scripts.input_check.fit --out modeling_chexficient/input_check_chexficient.json

Takes about two minutes on one core. The regression is multinomial with an L2 penalty (scikit-learn); its weights are
written for features as they are, the standardisation taken in.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import HfArgumentParser

from data_scripts.command_line import command_name
from data_scripts.input_check.drawings import draw
from data_scripts.input_check.examples import SPOILERS, no_chest, photograph, photographs, varied
from data_scripts.progress import progress
from data_scripts.synthetic import SyntheticOptions, draw_film, make_case
from modeling_chexficient.input_check_chexficient import CLASSES, FRONTAL, film_features

#: Side in pixels of the synthetic films: the features see no more.
_SIDE = 96
#: Whole films for each film of every other class.
_WHOLE_FILMS = 2
#: Of the images without a chest, the share that are photographs and not drawings.
_PHOTOGRAPHS = 0.4


@dataclass
class FitArguments:
    """Arguments of `data_scripts.input_check.fit`."""

    out: str = field(metadata={"help": "JSON file to write the weights into."})
    films: int = field(default=2400, metadata={"help": "Synthetic films to make the examples of."})
    examples: int = field(default=1500, metadata={"help": "Examples of each class; twice as many whole films."})
    penalty: float = field(
        default=0.003, metadata={"help": "C of scikit-learn's LogisticRegression: less is stronger."}
    )
    seed: int = field(default=5, metadata={"help": "Of films and examples."})

    def __post_init__(self):
        for name in ("films", "examples", "penalty"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be above 0")


def fit(arguments: FitArguments) -> dict:
    """Weights and bias by class, rounded to six digits, with the arguments that made them."""
    features, classes = make_examples(arguments)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=arguments.penalty, max_iter=1000))
    model.fit(features, classes)
    scaler, regression = model[0], model[1]
    weights = regression.coef_ / scaler.scale_
    bias = regression.intercept_ - weights @ scaler.mean_
    names = regression.classes_.tolist()
    settings = {name: value for name, value in asdict(arguments).items() if name != "out"}
    return {
        "made_by": {"command": "data_scripts.input_check.fit", **settings},
        "bias": {name: float(f"{bias[names.index(name)]:.6g}") for name in CLASSES},
        "weights": {name: [float(f"{value:.6g}") for value in weights[names.index(name)]] for name in CLASSES},
    }


def make_examples(arguments: FitArguments) -> tuple[np.ndarray, np.ndarray]:
    """Features [n, F] and the names of their classes [n]."""
    rng = np.random.default_rng(arguments.seed)
    films = _synthetic_films(arguments.films, arguments.seed)
    # The others are for `data_scripts.input_check.judge`.
    pictures = photographs()[::2]
    features, classes = [], []
    for _ in progress(range(arguments.examples), desc="making examples"):
        views = [varied(films[rng.integers(len(films))], rng) for _ in range(_WHOLE_FILMS + 1)]
        laterals = [varied(draw("lateral", rng), rng) for _ in range(2)]
        either = [*views, *([laterals[0]] if rng.random() < 0.4 else [])]
        images = [(FRONTAL, view) for view in views[:_WHOLE_FILMS]]
        images += [
            (name, spoil(either if name in ("doubled", "inverted") else views, rng)) for name, spoil in SPOILERS.items()
        ]
        images.append(("lateral", laterals[1]))
        other = photograph(pictures, rng) if rng.random() < _PHOTOGRAPHS else no_chest(rng)
        images.append(("other", varied(other, rng)))
        features += [film_features(image) for _, image in images]
        classes += [name for name, _ in images]
    return np.array(features), np.array(classes)


def _synthetic_films(count: int, seed: int) -> list[Image.Image]:
    """Whole frontal films; of the broken ones of the corpus none."""
    options = SyntheticOptions(num_records=count, film_size=_SIDE, seed=seed, broken_image_share=0)
    return [Image.fromarray(draw_film(make_case(number, options), _SIDE)[0]) for number in range(count)]


def main(arguments: list[str] | None = None) -> None:
    try:
        (parsed,) = HfArgumentParser(FitArguments, prog=command_name()).parse_args_into_dataclasses(arguments)
        weights = fit(parsed)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    Path(parsed.out).write_text(json.dumps(weights) + "\n")
    print(f"weights of {len(CLASSES)} classes in {parsed.out}")


if __name__ == "__main__":
    main()
