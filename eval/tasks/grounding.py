"""Grounding: does the heat map of a phrase or a finding point at the region that readers marked for it?

A pair is a film and a finding that it shows, with a mask or boxes. The map of a text (MS-CXR: the marked phrase, else
the positive prompt of the finding), or of a head's finding, is laid over the central square of the film, as in
segmentation, and scored by `eval.tasks.localisation`. So are two maps that know nothing of the film, one that points at
its middle and noise, and the model's own map of a finding that the film does not show: where that is as good, the maps
show what is conspicuous and not what was asked for (as in arXiv 1810.03292). Regions of several boxes are one.

Published figures on MS-CXR are CNR and mIoU of cosines (arXiv 2204.09817); its films are cut to the square here, and a
film larger than `LARGEST` is scored at that size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

import numpy as np
from datasets import Dataset, DatasetDict
from PIL import Image

from data_scripts.prepared.columns import read_column
from data_scripts.prepared.masks import central_square, read_masks
from data_scripts.schema import INSIDE
from eval.artifacts import save_artifact
from eval.benchmarks import Benchmark
from eval.models.encoders import EvaluationModel
from eval.processes import share_batches
from eval.records.results import GroundedFinding, GroundingResult, PointingScores, Subgroup
from eval.settings import MAP_METHODS, EvaluationSettings
from eval.statistics.significance import by_patient_intervals
from eval.statistics.subgroups import subgroups
from eval.tasks.dice import weighted_means
from eval.tasks.film_maps import enlarge, square_maps
from eval.tasks.grounding_pairs import Pairs, find_pairs
from eval.tasks.localisation import (
    centre_map,
    contrast_to_noise,
    mean_iou,
    pointing_hit,
    random_map,
    scaled,
)
from eval.tasks.predicted_labels import describe_adapted, training_notes
from eval.tasks.segmentation_data import seen_share
from eval.tasks.segmentation_examples import EXAMPLES, PICTURE_SIZE, choose_examples

MAPS = ("model", "centre map", "random map", "another finding")
OF_THE_MODEL = MAPS[0], MAPS[-1]
FIGURES = tuple(field.name for field in fields(PointingScores))
#: A finding is focal where its regions take less than this share of the film on average.
FOCAL_BELOW = 0.05
#: Side in pixels at which larger films are scored: that of the published evaluation.
LARGEST = 512
BATCH_SIZE = 16
#: Side of the noise: that of the last map of a tower with 16 pixels to a cell, at 224 pixels.
RANDOM_CELLS = 14


def run(
    benchmark: Benchmark, model: EvaluationModel, splits: DatasetDict, settings: EvaluationSettings
) -> GroundingResult:
    """Score the maps of all pairs of the benchmark's split.

    Raises:
        ValueError: the model has neither texts nor findings, none of the findings, or no spatial features; the data
            have no masks of findings, or lack the phrases.
    """
    films = splits[benchmark.split]
    pairs, notes = find_pairs(benchmark, model, films, settings)
    share = seen_share(model)
    method = settings.map_method or MAP_METHODS[0]
    scores = _score_pairs(model, films, pairs, share, method, settings)
    seen = scores[:, 0] > 0
    if not seen.any():
        raise ValueError("every region lies outside of the central square of its film: nothing can be pointed at")
    if not seen.all():
        notes.append(f"{(~seen).sum():,} of {len(pairs):,} regions lie outside of the square and were left out.")
    _keep_examples(benchmark, model, films, pairs, scores, share, settings)
    patients = np.asarray(read_column(films, "patient_id"))[pairs.rows]
    findings, means = summarise(pairs.findings, scores, patients, settings.resamples, settings.seed)
    return GroundingResult(
        benchmark.name,
        benchmark.version,
        provenance=replace(
            describe_adapted(benchmark, model, films, settings),
            films=len(set(np.asarray(pairs.rows)[seen].tolist())),
            patients=len(np.unique(patients[seen])),
        ),
        metric=benchmark.metric,
        method=method,
        thresholded="cosines" if method == "similarity" else "maps scaled to 0..1",
        findings=findings,
        **means,
        subgroups=list(_evaluate_subgroups(benchmark, films, pairs, scores, patients, settings)),
        notes=training_notes(benchmark, model, splits) + notes,
        adaptation=model.adaptation,
    )


def _score_pairs(
    model: EvaluationModel,
    films: Dataset,
    pairs: Pairs,
    share: float,
    method: str,
    settings: EvaluationSettings,
) -> np.ndarray:
    """[pairs, 1 + maps * figures]: the region's share of the square, and the figures of each of `MAPS`."""

    def score(positions: list[int]) -> list[np.ndarray]:
        found = [maps_of(model, films, pairs, positions, share, method)]
        if pairs.others:
            found.append(maps_of(model, films, replace(pairs, phrases=pairs.others), positions, share, method))
        scores = []
        for position, ((_, heat_map, region), *other) in zip(positions, zip(*found, strict=True), strict=True):
            own = [heat_map, *(one for _, one, _ in other)]
            scores.append(_score_pair(own, region, method == "similarity", (settings.seed, position)))
        return scores

    return np.stack(share_batches(score, len(pairs), BATCH_SIZE, "pointing"))


def maps_of(
    model: EvaluationModel, films: Dataset, pairs: Pairs, positions: Sequence[int], share: float, method: str | None
) -> Iterator[tuple[Image.Image, np.ndarray, np.ndarray]]:
    """Of each pair the square of its film, the map fp32 [S, S] at the model's size, and the region uint8 [side, side].

    The square and the region are of at most `LARGEST` pixels a side.
    """
    records = {row: films[row] for row in dict.fromkeys(pairs.rows[position] for position in positions)}
    maps = {}
    for phrase in dict.fromkeys(pairs.phrases[position] for position in positions):
        own = [position for position in positions if pairs.phrases[position] == phrase]
        images = [records[pairs.rows[position]]["image"] for position in own]
        found = square_maps(model, images, [phrase], share, method)
        maps |= {position: heat_map[0].numpy() for position, heat_map in zip(own, found, strict=True)}
    for position in positions:
        row, finding = pairs.rows[position], pairs.findings[position]
        square = central_square(records[row]["image"])
        (mask,) = read_masks(records[row], row, {finding: (finding,)}, no_mask_is_empty=False)
        size = (min(square.width, LARGEST),) * 2
        region = central_square(Image.fromarray(mask)).resize(size, Image.Resampling.NEAREST)
        yield square.resize(size), maps[position], np.asarray(region)


def _score_pair(own: Sequence[np.ndarray], region: np.ndarray, is_cosine: bool, seed: tuple[int, int]) -> np.ndarray:
    """The region's share, and the figures in the order of `MAPS`; `own`: maps of the finding, and perhaps another."""
    side = len(region)
    model, *another = (enlarge(heat_map, side) for heat_map in own)
    maps = [model, centre_map(side), enlarge(random_map((RANDOM_CELLS,) * 2, *seed), side), *another]
    figures = [
        _figures(heat_map, heat_map if is_cosine and name in OF_THE_MODEL else scaled(heat_map), region)
        for name, heat_map in zip(MAPS, maps, strict=False)
    ]
    return np.concatenate([[(region == INSIDE).mean()], *figures])


def _figures(heat_map: np.ndarray, thresholded: np.ndarray, region: np.ndarray) -> list[float]:
    """In the order of `FIGURES`."""
    contrast = contrast_to_noise(heat_map, region)
    strict = pointing_hit(heat_map, region, tolerance=0)
    return [contrast, abs(contrast), mean_iou(thresholded, region), pointing_hit(heat_map, region), strict]


def summarise(
    findings: Sequence[str], scores: np.ndarray, patients: np.ndarray, resamples: int, seed: int
) -> tuple[list[GroundedFinding], dict[str, dict[str, PointingScores]]]:
    """Means of every finding and over findings, with intervals by patient.

    Args:
        findings: [pairs].
        scores: [pairs, 1 + maps * figures] of `_score_pairs`; pairs without a region (share 0) are left out.
        patients: [pairs].

    Returns:
        the findings, those of most pairs first, and `macro`, `macro_focal`, `differences` and `differences_focal`.
    """
    seen = scores[:, 0] > 0
    of_pair, scores, patients = np.asarray(findings)[seen], scores[seen], patients[seen]
    names, counts = np.unique(of_pair, return_counts=True)
    names = names[np.argsort(-counts, kind="stable")]
    shares = np.array([scores[of_pair == name, 0].mean() for name in names])
    focal = shares < FOCAL_BELOW
    maps = MAPS[: (scores.shape[1] - 1) // len(FIGURES)]
    shape = len(names), len(maps), len(FIGURES)
    values = np.full((len(scores), *shape), np.nan)
    for number, name in enumerate(names):
        values[of_pair == name, number] = scores[of_pair == name, 1:].reshape(-1, *shape[1:])

    def figures(weights: np.ndarray) -> np.ndarray:
        means = weighted_means(values.reshape(len(values), -1), weights).reshape(len(weights), *shape)
        macros = [_mean_of_findings(means), _mean_of_findings(means[:, focal])]
        differences = [macro[:, :1] - macro[:, 1:] for macro in macros]
        return np.concatenate([part.reshape(len(weights), -1) for part in (means, *macros, *differences)], axis=1)

    estimates = iter(by_patient_intervals(figures, patients, resamples, seed))

    def scores_by_map(names: Sequence[str]) -> dict[str, PointingScores]:
        return {name: PointingScores(*(next(estimates) for _ in FIGURES)) for name in names}

    results = [
        GroundedFinding(
            str(name), int((of_pair == name).sum()), float(share), bool(is_focal), scores=scores_by_map(maps)
        )
        for name, share, is_focal in zip(names, shares, focal, strict=True)
    ]
    groups = {"macro": maps, "macro_focal": maps, "differences": maps[1:], "differences_focal": maps[1:]}
    return results, {group: scores_by_map(of_group) for group, of_group in groups.items()}


def _mean_of_findings(means: np.ndarray) -> np.ndarray:
    """[R, maps, figures] of [R, findings, maps, figures], findings that a resample lacks left out."""
    defined = np.isfinite(means)
    count = defined.sum(axis=1)
    return np.where(defined, means, 0).sum(axis=1) / np.where(count > 0, count, np.nan)


def _evaluate_subgroups(
    benchmark: Benchmark,
    films: Dataset,
    pairs: Pairs,
    scores: np.ndarray,
    patients: np.ndarray,
    settings: EvaluationSettings,
) -> Iterator[Subgroup]:
    """The headline among the films of each group."""
    group, figure = GroundingResult.HEADLINES[benchmark.metric]
    for attribute, value, of_film in subgroups(films):
        rows = of_film[pairs.rows] & (scores[:, 0] > 0)
        if not rows.any():
            continue
        own = [name for name, is_in in zip(pairs.findings, rows, strict=True) if is_in]
        found, means = summarise(own, scores[rows], patients[rows], settings.resamples, settings.seed)
        count = sum(finding.focal for finding in found) if group == "macro_focal" else len(found)
        films_there = len({row for row, is_in in zip(pairs.rows, rows, strict=True) if is_in})
        estimate = getattr(means[group]["model"], figure)
        yield Subgroup(attribute, value, films_there, len(np.unique(patients[rows])), estimate, count)


def _keep_examples(
    benchmark: Benchmark,
    model: EvaluationModel,
    films: Dataset,
    pairs: Pairs,
    scores: np.ndarray,
    share: float,
    settings: EvaluationSettings,
) -> None:
    """Leave the contrast of every pair, and where films may be shown the best, median and worst of them with maps."""
    contrast = np.where(scores[:, 0] > 0, scores[:, 1 + FIGURES.index("cnr")], np.nan)
    chosen = choose_examples(contrast, EXAMPLES)
    places = [(place, position) for place, positions in chosen.items() for position in positions]
    arrays = {"cnr": contrast.astype(np.float32)}
    values = {"findings": pairs.findings, "places": [place for place, _ in places]}
    if places and settings.show_films:
        positions = [position for _, position in places]
        found = [next(maps_of(model, films, pairs, [position], share, settings.map_method)) for position in positions]
        size = (PICTURE_SIZE,) * 2
        arrays["rows"] = np.array(positions)
        arrays["films"] = np.stack([np.asarray(square.convert("L").resize(size)) for square, _, _ in found])
        arrays["maps"] = np.stack([enlarge(heat_map, PICTURE_SIZE) for _, heat_map, _ in found])
        arrays["masks"] = np.stack(
            [np.asarray(Image.fromarray(region).resize(size, Image.Resampling.NEAREST)) for _, _, region in found]
        )
        values["phrases"] = [pairs.phrases[position] for position in positions]
    save_artifact(settings.out, benchmark.name, arrays, values)
