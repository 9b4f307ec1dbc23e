"""What a decoder finds in films, and the best, median and worst of them for pictures."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import nn

from eval.artifacts import save_artifact
from eval.benchmarks import Benchmark
from eval.scores import numbered
from eval.settings import EvaluationSettings
from eval.tasks.dice import centre_line_dice, dice, with_structure
from eval.tasks.segmentation_data import FilmFeatures

#: Films of each kind (best, median, worst), and the side of their pictures in pixels.
EXAMPLES, PICTURE_SIZE = 2, 224


@torch.no_grad()
def segment(decoder: nn.Module, features: FilmFeatures, positions: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """What is found in the films at these positions, bool [structures, side, side], and their masks, uint8 likewise.

    Both are of the central square in the film's own resolution.
    """
    squares, masks = zip(*(features.film(position) for position in positions), strict=True)
    maps = [level.float() for level in features.maps(squares)]
    results = []
    for number, square in enumerate(squares):
        logits = decoder([level[number : number + 1] for level in maps], square.width)
        results.append(((logits[0] > 0).cpu().numpy(), np.stack(masks[number])))
    return results


def choose_examples(dices: np.ndarray, count: int) -> dict[str, list[int]]:
    """Films with the highest, middle and lowest of `dices` [films], up to `count` each, no film twice, NaN left out."""
    order = np.argsort(-dices, kind="stable")[: np.isfinite(dices).sum()].tolist()
    count = min(count, len(order) // 3) or min(1, len(order))
    middle = (len(order) - count) // 2
    places = {"best": order[:count], "median": order[middle : middle + count], "worst": order[len(order) - count :]}
    seen: set[int] = set()
    return {name: [film for film in films if not (film in seen or seen.add(film))] for name, films in places.items()}


def keep_examples(
    benchmark: Benchmark,
    decoder: nn.Module,
    features: FilmFeatures,
    counts: dict[str, np.ndarray],
    patients: np.ndarray,
    settings: EvaluationSettings,
) -> None:
    """Leave the Dice of every film (of thin structures, also that of centre lines) and what was found in some; their
    films and masks where these may be shown.

    `patients` [films] are kept as numbers that tell which films are one person's, not who.
    """
    dices = {name: with_structure(dice(count), count) for name, count in counts.items()}
    last = list(dices)[-1]
    with np.errstate(invalid="ignore"):
        of_film = np.array([row[np.isfinite(row)].mean() if np.isfinite(row).any() else np.nan for row in dices[last]])
    places = [(place, film) for place, films in choose_examples(of_film, EXAMPLES).items() for film in films]
    arrays = {f"dice_{name}": dice_values.astype(np.float32) for name, dice_values in dices.items()}
    lines = {name: centre_line_dice(count[..., 3:]) for name, count in counts.items()}
    arrays |= {
        f"centre_line_dice_{name}": one.astype(np.float32) for name, one in lines.items() if np.isfinite(one).any()
    }
    arrays["patients"] = numbered(patients)
    values = {"structures": list(benchmark.structures), "decoder": last, "places": [place for place, _ in places]}
    if places:
        films = [film for _, film in places]
        segmented = segment(decoder, features, films)
        arrays["rows"] = np.array(films)
        arrays["found"] = np.stack([_pictures(np.uint8(255) * found) for found, _ in segmented])
        if settings.show_films:
            squares = [features.film(film)[0].convert("L") for film in films]
            arrays["masks"] = np.stack([_pictures(masks) for _, masks in segmented])
            arrays["films"] = np.stack([np.asarray(square.resize((PICTURE_SIZE,) * 2)) for square in squares])
    save_artifact(settings.out, benchmark.name, arrays, values)


def _pictures(masks: np.ndarray) -> np.ndarray:
    """Masks uint8 [structures, side, side] at the size of pictures."""
    size = (PICTURE_SIZE,) * 2
    return np.stack([np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)) for mask in masks])
