"""Images that are no whole upright frontal chest film, made of such films, of drawings and of photographs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import skimage.data
import sklearn.datasets
from PIL import Image, ImageOps

from data_scripts.input_check.drawings import KINDS, draw

#: Drawn radiographs that show no chest.
NO_CHEST = tuple(kind for kind in KINDS if kind != "lateral")
#: Pictures that scikit-image ships in its wheel.
_PICTURES = (
    *("astronaut", "brick", "camera", "cell", "chelsea", "clock", "coffee", "coins", "colorwheel", "grass", "gravel"),
    *("horse", "hubble_deep_field", "immunohistochemistry", "logo", "microaneurysms", "moon", "page", "retina"),
    *("rocket", "text"),
)
Films = Sequence[Image.Image]


def inverted(films: Films, rng: np.random.Generator) -> Image.Image:
    return ImageOps.invert(_one(films, rng))


def turned(films: Films, rng: np.random.Generator) -> Image.Image:
    return _one(films, rng).rotate(int(rng.choice((90, 180, 270))), expand=True)


def cropped(films: Films, rng: np.random.Generator) -> Image.Image:
    """A fifth to a half of a film, from anywhere in it."""
    film = _one(films, rng)
    area, shape = rng.uniform(0.2, 0.5), np.exp(rng.normal(0, 0.25))
    wide = min(1.0, np.sqrt(area * shape))
    return _window(film, rng, wide, min(1.0, area / wide))


def doubled(films: Films, rng: np.random.Generator) -> Image.Image:
    """Two films beside each other, one time in five above each other, at equal height or width."""
    first, second = (_one(films, rng) for _ in range(2))
    above = rng.random() < 0.2
    if above:
        first, second = first.rotate(90, expand=True), second.rotate(90, expand=True)
    high, gap = min(first.height, second.height), int(rng.integers(0, 8))
    first, second = (film.resize((max(8, round(film.width * high / film.height)), high)) for film in (first, second))
    both = Image.new("L", (first.width + gap + second.width, high), int(rng.choice((0, 255))))
    both.paste(first, (0, 0))
    both.paste(second, (first.width + gap, 0))
    return both.rotate(-90, expand=True) if above else both


def photograph(pictures: Films, rng: np.random.Generator) -> Image.Image:
    """Between a sixth and the whole of a picture."""
    size, shape = rng.uniform(0.4, 1), np.exp(rng.normal(0, 0.15))
    return _window(_one(pictures, rng), rng, min(1.0, size * shape), min(1.0, size / shape))


#: How images of these classes are made of whole frontal films.
SPOILERS: dict[str, Callable[[Films, np.random.Generator], Image.Image]] = {
    "inverted": inverted,
    "turned": turned,
    "doubled": doubled,
    "cropped": cropped,
}


def photographs() -> list[Image.Image]:
    """Photographs, drawings, text and micrographs that scikit-image and scikit-learn ship, grey; nothing is fetched."""
    pictures = [np.asarray(getattr(skimage.data, name)()) for name in _PICTURES]
    pictures += sklearn.datasets.load_sample_images().images
    pictures += list((skimage.data.lfw_subset()[:100:4] * 255).astype(np.uint8))
    return [Image.fromarray(picture).convert("L") for picture in pictures]


def no_chest(rng: np.random.Generator) -> Image.Image:
    return draw(str(rng.choice(NO_CHEST)), rng)


def varied(film: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The film as other machines and people might have made it: other borders, shape, turn, contrast, and a marker."""
    framed = _other_borders(film, rng).rotate(rng.normal(0, 3), Image.Resampling.BILINEAR)
    wide = max(8, round(framed.width * np.exp(rng.normal(0.03, 0.1))))
    pixels = np.asarray(framed.resize((wide, framed.height)), dtype=np.float32) / 255
    pixels = pixels ** np.exp(rng.normal(0, 0.45))
    pixels = pixels * rng.uniform(0.8, 1.3) - rng.uniform(0, 0.1) * (pixels < 1)
    if rng.random() < 0.3:
        pixels = pixels + rng.uniform(0, 0.25) * (1 - pixels)
    if rng.random() < 0.15:
        top, left = (int(share * side) for share, side in zip(rng.uniform(0, 0.85, 2), pixels.shape, strict=True))
        pixels[top : top + len(pixels) // 12, left : left + len(pixels) // 10] = 1
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))


def _other_borders(film: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Up to a tenth cut off each side, or up to an eighth added; one time in five as a long film is cut to a square."""
    moves = np.where(rng.random(4) < 0.25, rng.uniform(-0.12, 0, 4), rng.uniform(0, 0.1, 4))
    if rng.random() < 0.2:
        moves = rng.uniform(0, 0.15) * np.tile(rng.permutation((0, 1)), 2)
    left, top, right, bottom = (moves * np.tile(film.size, 2)).astype(int).tolist()
    grey = int(rng.choice((0, 0, 0, 255, rng.integers(0, 120))))
    framed = Image.new("L", (film.width - left - right, film.height - top - bottom), grey)
    framed.paste(film, (-left, -top))
    return framed


def _window(film: Image.Image, rng: np.random.Generator, wide: float, high: float) -> Image.Image:
    """A part of so much of the width and of the height, at a place of chance, 8 pixels a side at least."""
    left, top = rng.uniform(0, 1 - wide) * film.width, rng.uniform(0, 1 - high) * film.height
    corner = (int(left), int(top))
    size = (max(8, round(wide * film.width)), max(8, round(high * film.height)))
    return film.crop((*corner, corner[0] + size[0], corner[1] + size[1]))


def _one(films: Films, rng: np.random.Generator) -> Image.Image:
    return films[rng.integers(len(films))]
