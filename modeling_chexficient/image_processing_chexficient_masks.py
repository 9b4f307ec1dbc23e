"""From the logits of a segmentation to masks and class maps of the whole film, of which the model saw a part.

A square is (top, left, height, width) in pixels of the film, as floats: the part that was cut out and resized for the
model. Logits [L, h, w] cover it; what lies outside was never seen. Structures are taken one after the other, so that
films of full size need the memory of one map, not of L.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

NOTHING = -1


def sampling_grid(film: tuple[int, int], square: tuple[float, float, float, float]) -> torch.Tensor:
    """Where the pixel centres of a film (height, width) lie in the square, from -1 to 1 inside: [1, H, W, 2] (x, y)."""
    top, left, height, width = square
    rows = (torch.arange(film[0]) + 0.5 - top) / height * 2 - 1
    columns = (torch.arange(film[1]) + 0.5 - left) / width * 2 - 1
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], dim=-1).unsqueeze(0)


def sampler(grid: torch.Tensor | None, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function that brings a map [h, w] onto the film, bilinearly, -inf where nothing was seen; None: no change."""
    if grid is None:
        return lambda values: values.float()
    grid = grid.to(device)
    seen = (grid[0].abs() <= 1).all(-1)

    def sample(scores: torch.Tensor) -> torch.Tensor:
        values = F.grid_sample(scores.float()[None, None], grid, padding_mode="border", align_corners=False)[0, 0]
        return values.masked_fill(~seen, -math.inf)

    return sample


def log_odds(logits: torch.Tensor, overlapping: bool) -> torch.Tensor:
    """[L, h, w] logarithmic odds of every structure: of its own sigmoid, or of the softmax over all."""
    return logits.float() if overlapping else logits.float().softmax(0).logit()


def class_map(logits: torch.Tensor, overlapping: bool, grid: torch.Tensor | None) -> torch.Tensor:
    """[H, W] int64: the structure of the highest logit; -1 outside the square, and where none is > 0 if overlapping."""
    sample = sampler(grid, logits.device)
    best = sample(logits[0])
    best = torch.full_like(best, 0.0 if overlapping else -math.inf)
    found = torch.full(best.shape, NOTHING, device=best.device)
    for number, structure_logits in enumerate(logits):
        value = sample(structure_logits)
        found[value > best] = number
        best = torch.maximum(best, value)
    return found


def class_scores(logits: torch.Tensor, grid: torch.Tensor | None) -> torch.Tensor:
    """fp32 [L, H, W]: the logits that `class_map` compares, -inf outside the square."""
    sample = sampler(grid, logits.device)
    return torch.stack([sample(structure_logits) for structure_logits in logits])


def structure_masks(
    logits: torch.Tensor, overlapping: bool, grid: torch.Tensor | None, threshold: float
) -> torch.Tensor:
    """bool [L, H, W]: where the probability of each structure exceeds `threshold`, from 0 to 1."""
    sample = sampler(grid, logits.device)
    limit = _logit(threshold)
    return torch.stack([sample(structure_odds) > limit for structure_odds in log_odds(logits, overlapping)])


def segments(
    logits: torch.Tensor,
    overlapping: bool,
    grid: torch.Tensor | None,
    threshold: float,
    mask_threshold: float,
    overlap_mask_area_threshold: float,
) -> tuple[torch.Tensor, list[dict]]:
    """The structures found, each pixel given to the most probable of those that claim it.

    Args:
        threshold: least probability that the surest pixel of a structure must have.
        mask_threshold: probability above which a structure claims a pixel.
        overlap_mask_area_threshold: share of its claim that a structure must be given.

    Returns:
        the map [H, W] int64 with the numbers of the structures, -1 elsewhere, and for each structure in it
        {"id", "label_id", "score"}, the score being the probability of its surest pixel.
    """
    sample = sampler(grid, logits.device)
    limit = _logit(mask_threshold)
    odds = log_odds(logits, overlapping)
    best = torch.full_like(sample(odds[0]), -math.inf)
    found = torch.full(best.shape, NOTHING, device=best.device)
    claims, scores = {}, {}
    for number, structure_odds in enumerate(odds):
        value = sample(structure_odds)
        claim = value > limit
        if not claim.any() or (score := value.max().sigmoid().item()) < threshold:
            continue
        claims[number], scores[number] = claim.sum().item(), score
        found[claim & (value > best)] = number
        best = torch.where(claim, torch.maximum(best, value), best)
    for number, claimed in list(claims.items()):
        given = found == number
        if given.sum().item() <= overlap_mask_area_threshold * claimed:
            found[given] = NOTHING
            del scores[number]
    return found, [{"id": number, "label_id": number, "score": score} for number, score in scores.items()]


def _logit(probability: float) -> float:
    """Logarithmic odds; -inf of 0, which every pixel that was seen exceeds, and inf of 1, which none does."""
    if not 0 <= probability <= 1:
        raise ValueError(f"A threshold is a probability from 0 to 1, not {probability}")
    if probability in (0, 1):
        return math.inf if probability else -math.inf
    return math.log(probability / (1 - probability))
