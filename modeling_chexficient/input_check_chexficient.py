"""Whether an image is a film for the model: one whole upright frontal chest film with black air. From its pixels alone.

    for reason in check_film(image):
        print(reason.kind, reason.text)

Flat areas and noise are told by two measures (`film_quality`), everything else by one logistic regression
(`film_probabilities`) on a thumbnail of 12 x 12 pixels and a coarse map of edges. Its weights, in the JSON file beside
this one, were fitted to synthetic films, drawings and photographs by `python -m data_scripts.input_check.fit`, so that
all real films are there to judge it by (`data_scripts.input_check.judge`); `data_scripts/README.md` says how often it
errs. PA and AP are not told apart: a logistic regression on 16 x 16 pixels, made from 129 films of NIH, reached an
AUROC of 0.79 on the other 117 and of 0.63 on covid_chestxray.

Free of other imports of this package: the page of `model_cards.space` has a copy.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

#: The kind of a film that looks broken, where such films are counted, skipped or named.
BROKEN = "film looks broken (flat or noise)"
#: Short side in pixels at which the quality of a film is measured.
SIDE = 112
#: Blocks along the short side.
_BLOCKS = 7
_FLAT = 1.0
#: A film of which so much is flat is of nothing: what it shows is not asked.
_BLANK = 0.9

FRONTAL = "frontal"
#: What a film may be instead of a whole upright frontal chest film, and what a person is told.
OTHERS = {
    "inverted": "black and white are exchanged",
    "lateral": "a chest from the side",
    "turned": "on its side or upside down",
    "doubled": "two films in one image",
    "cropped": "a part of a chest film",
    "other": "no chest film",
}
CLASSES = (FRONTAL, *OTHERS)
#: Below this probability a film is not taken for a whole upright frontal chest film.
LEAST_FRONTAL = 0.1
WEIGHTS = Path(__file__).with_suffix(".json")
_THUMBNAIL, _EDGES, _EDGE_BLOCKS = 12, 48, 8


class FilmQuality(NamedTuple):
    """Two measures of a film reduced to a short side of 112 pixels, so that they mean the same at any size.

    - `flat_share`, 0 to 1: the share of blocks of 16 x 16 pixels (a seventh of the side, also of smaller films) whose
      greys (of 256) have a standard deviation below 1;
    - `neighbour_correlation`, -1 to 1: the correlation of pixels with their right neighbours; noise has none.
    """

    flat_share: float
    neighbour_correlation: float

    def looks_broken(self, most_flat: float = 0.35, least_correlation: float = 0.8) -> bool:
        """Whether more of the film is flat, or its neighbours correlate less, than in whole films.

        With these limits 928 of 928 broken synthetic films look broken, and none of 6,000 whole ones, 246 of NIH
        ChestX-ray14 and 138 of covid_chestxray. They are meant for films of 56 pixels or more a side.
        """
        return self.flat_share > most_flat or self.neighbour_correlation < least_correlation


class Reason(NamedTuple):
    """Why an image is no film for the model: `kind` is "broken" or one of `OTHERS`, `text` a sentence for people."""

    kind: str
    text: str


def check_film(image: Image.Image) -> list[Reason]:
    """The reasons against an image; an empty list where it looks like one whole upright frontal chest film.

    Args:
        image: grey or colour, of which the grey counts, as it comes: not yet cut to the square that the model sees. Of
            more than eight bits, its highest value becomes white. It is taken upright by its EXIF orientation.
    """
    image = _grey(ImageOps.exif_transpose(image))
    quality = film_quality(image)
    reasons = []
    if quality.looks_broken():
        text = (
            f"blank, half transmitted or noise: {quality.flat_share:.0%} of the image is flat, and neighbouring pixels "
            f"correlate by {quality.neighbour_correlation:.2f}"
        )
        reasons.append(Reason("broken", text))
    if quality.looks_broken(most_flat=_BLANK):
        return reasons
    probabilities = film_probabilities(image)
    if probabilities[FRONTAL] < LEAST_FRONTAL:
        kind = likeliest_other(probabilities)
        likelihood = f"(probability {probabilities[FRONTAL]:.3f})"
        text = f"not one whole upright frontal chest film {likelihood}; most like: {OTHERS[kind]}"
        reasons.append(Reason(kind, text))
    return reasons


def _grey(image: Image.Image) -> Image.Image:
    if not image.mode.startswith(("I", "F")):
        return image.convert("L")
    pixels = np.clip(np.asarray(image, dtype=np.float64), 0, None)
    return Image.fromarray((pixels * (255 / max(pixels.max(), 1e-6))).astype(np.uint8))


def likeliest_other(probabilities: dict[str, float]) -> str:
    """The likeliest of `OTHERS`; "other" where none of them has half of what is left beside frontal."""
    kind = max(OTHERS, key=lambda name: probabilities[name])
    return kind if probabilities[kind] >= (1 - probabilities[FRONTAL]) / 2 else "other"


def film_probabilities(image: Image.Image) -> dict[str, float]:
    """The probability of each of `CLASSES` by multinomial logistic regression on `film_features`; they sum to 1."""
    weights, bias = _weights()
    logits = weights @ film_features(image) + bias
    shares = np.exp(logits - logits.max())
    return dict(zip(CLASSES, (shares / shares.sum()).tolist(), strict=True))


@cache
def _weights() -> tuple[np.ndarray, np.ndarray]:
    """[classes, F] and [classes]."""
    stored = json.loads(WEIGHTS.read_text())
    return np.array([stored["weights"][name] for name in CLASSES]), np.array([stored["bias"][name] for name in CLASSES])


def film_features(image: Image.Image) -> np.ndarray:
    """What the regression sees of an image, fp32 [274]; contrast and brightness are taken out.

    The thumbnail (144, the whole image squeezed to a square), the share of edges across and down in 8 x 8 blocks (128),
    how like the thumbnail is to its mirror image (1), and the logarithm of width by height (1).
    """
    grey = image.convert("L")
    thumbnail = _standardised(grey, _THUMBNAIL, clip=True)
    finer = _standardised(grey, _EDGES)
    across = np.abs(np.diff(finer, axis=1, append=finer[:, -1:]))
    down = np.abs(np.diff(finer, axis=0, append=finer[-1:]))
    step = _EDGES // _EDGE_BLOCKS
    blocks = [edges.reshape(_EDGE_BLOCKS, step, _EDGE_BLOCKS, step).mean((1, 3)) for edges in (across, down)]
    mirror = (thumbnail * thumbnail[:, ::-1]).mean()
    shape = np.log(image.width / image.height)
    parts = [thumbnail.ravel(), *(np.sqrt(block).ravel() for block in blocks), [mirror, shape]]
    return np.concatenate(parts).astype(np.float32)


def _standardised(grey: Image.Image, side: int, clip: bool = False) -> np.ndarray:
    """The image at [side, side], of mean 0 and standard deviation 1 (0 where it has one grey)."""
    pixels = np.asarray(grey.resize((side, side), Image.Resampling.BOX), dtype=np.float32)
    if clip:
        # Markers and frames are no part of the contrast.
        pixels = np.clip(pixels, *np.percentile(pixels, (2, 98)))
    return (pixels - pixels.mean()) / max(float(pixels.std()), 1e-6)


def film_quality(film: Image.Image) -> FilmQuality:
    """The measures of an eight-bit film (mode L, or RGB, whose grey counts)."""
    grey = film.convert("L")
    scale = SIDE / min(grey.size)
    if scale < 1:
        grey = grey.resize([max(SIDE, round(side * scale)) for side in grey.size], Image.Resampling.BOX)
    pixels = np.asarray(grey, dtype=np.float32)
    return FilmQuality(_flat_share(pixels), _neighbour_correlation(pixels))


def _flat_share(pixels: np.ndarray) -> float:
    block = max(1, min(pixels.shape) // _BLOCKS)
    rows, columns = (side // block for side in pixels.shape)
    whole = pixels[: rows * block, : columns * block]
    deviations = whole.reshape(rows, block, columns, block).std(axis=(1, 3))
    return float((deviations < _FLAT).mean())


def _neighbour_correlation(pixels: np.ndarray) -> float:
    if pixels.shape[1] < 2:
        return 1.0
    left, right = pixels[:, :-1].ravel(), pixels[:, 1:].ravel()
    left, right = left - left.mean(), right - right.mean()
    spread = float(np.sqrt((left @ left) * (right @ right)))
    # A film of one grey is flat; its neighbours agree.
    return float(left @ right) / spread if spread > 0 else 1.0


__all__ = ["BROKEN", "CLASSES", "FRONTAL", "OTHERS", "FilmQuality", "Reason", "check_film", "film_quality"]
