"""Films on the results page: masks drawn over them, what was retrieved, reports beside each other."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion

from data_scripts.access import may_be_shown
from data_scripts.prepared.masks import central_square
from data_scripts.schema import INSIDE, NOT_JUDGED, DataError
from eval.benchmarks import BENCHMARKS
from eval.provenance import films_fingerprint
from eval.records.results import RetrievalResult
from eval.splits import load_splits
from eval.tasks.retrieval import evaluation_texts
from modeling_chexficient import overlay_heat_map

#: Side in pixels of films that masks are drawn over, and of other films.
_LARGE, _SMALL = 448, 192
_FOUND, _REFERENCE, _BLIND = (255, 140, 40), (70, 200, 235), (150, 80, 200)
_LINE = 2


@dataclass(frozen=True)
class Overlay:
    """A film as a data URI with what was found and the reference; `place` is "best", "median" or "worst"."""

    place: str
    picture: str
    dices: list[tuple[str, float]]


@dataclass(frozen=True)
class Pointed:
    """A film as a data URI under the heat map of a phrase, with its contrast-to-noise ratio."""

    place: str
    picture: str
    phrase: str
    cnr: float


@dataclass(frozen=True)
class Report:
    """A film as a data URI, the report written for it, the generated one, and those of the baselines by name."""

    place: str
    picture: str
    reference: str
    generated: str
    baselines: dict[str, str]


@dataclass(frozen=True)
class Hit:
    """What was retrieved: a film as a data URI, or a text, and whether it is right."""

    content: str
    right: bool


@dataclass(frozen=True)
class Query:
    """A query (a film as a data URI, or a text), its first hits, and the rank of the first right answer."""

    content: str
    hits: list[Hit]
    rank: int


def overlays(arrays: dict[str, np.ndarray], values: dict) -> list[Overlay]:
    """Some films with masks; empty where the artifact of a segmentation holds no films."""
    if "films" not in arrays:
        return []
    dices = arrays[f"dice_{values['decoder']}"][arrays["rows"]]
    films = zip(values["places"], arrays["films"], arrays["found"], arrays["masks"], dices, strict=True)
    return [
        Overlay(
            place,
            _data_uri(draw_masks(film, found, masks)),
            [
                (name, float(value))
                for name, value in zip(values["structures"], dice, strict=True)
                if np.isfinite(value)
            ],
        )
        for place, film, found, masks, dice in films
    ]


def draw_masks(film: np.ndarray, found: np.ndarray, masks: np.ndarray) -> Image.Image:
    """The film [H, W] with the outlines of what was found (orange) and of the reference (blue).

    `found` and `masks` are uint8 [structures, H, W]: 255 inside, 0 outside, 127 not judged. What nobody judged in any
    structure is tinted violet, unless that is the whole film.
    """
    picture = np.asarray(Image.fromarray(film).resize((_LARGE, _LARGE), Image.Resampling.BICUBIC).convert("RGB")).copy()
    blind = _enlarge((masks == NOT_JUDGED).any(axis=0))
    if not blind.all():
        picture[blind] = (0.6 * picture[blind] + 0.4 * np.array(_BLIND)).astype(np.uint8)
    for of_one, colour in ((masks, _REFERENCE), (found, _FOUND)):
        for mask in of_one:
            inside = _enlarge(mask == INSIDE)
            # The film's border is an outline, too.
            picture[inside & ~binary_erosion(inside, iterations=_LINE)] = colour
    return Image.fromarray(picture)


def pointed(arrays: dict[str, np.ndarray], values: dict) -> list[Pointed]:
    """Some films with heat maps; empty where the artifact of a grounding holds no films."""
    if "films" not in arrays:
        return []
    contrasts = arrays["cnr"][arrays["rows"]]
    films = zip(
        values["places"], values["phrases"], *(arrays[name] for name in ("films", "maps", "masks")), strict=True
    )
    return [
        Pointed(place, _data_uri(draw_heat_map(film, heat_map, mask)), phrase, float(contrast))
        for (place, phrase, film, heat_map, mask), contrast in zip(films, contrasts, strict=True)
    ]


def draw_heat_map(film: np.ndarray, heat_map: np.ndarray, mask: np.ndarray) -> Image.Image:
    """The film [H, W] under its heat map [H, W], with the outline of the reference (blue)."""
    size = (_LARGE, _LARGE)
    large = Image.fromarray(film).resize(size, Image.Resampling.BICUBIC)
    warm = np.asarray(Image.fromarray(heat_map.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    picture = np.asarray(overlay_heat_map(large, warm)).copy()
    inside = _enlarge(mask == INSIDE)
    picture[inside & ~binary_erosion(inside, iterations=_LINE)] = _REFERENCE
    return Image.fromarray(picture)


def _enlarge(mask: np.ndarray) -> np.ndarray:
    """A mask at the size of the picture with smooth outlines."""
    image = Image.fromarray(np.uint8(255) * mask).resize((_LARGE, _LARGE), Image.Resampling.BILINEAR)
    return np.asarray(image) > 127


def reports(arrays: dict[str, np.ndarray], values: dict) -> list[Report]:
    """Some reports beside their film; empty where the artifact of a report generation holds no texts."""
    if "generated" not in values:
        return []
    return [
        Report(
            values["places"][number],
            _data_uri(Image.fromarray(film).resize((_SMALL, _SMALL), Image.Resampling.BICUBIC)),
            values["references"][number],
            values["generated"][number],
            {name: texts[number] for name, texts in values["baselines"].items()},
        )
        for number, film in enumerate(arrays["films"])
    ]


def constant_baselines(gallery: list[Report]) -> dict[str, str]:
    """Baselines that say the same of all these films, and what."""
    texts = {name: {example.baselines[name] for example in gallery} for name in gallery[0].baselines}
    return {name: next(iter(said)) for name, said in texts.items() if len(said) == 1 and len(gallery) > 1}


def retrieved(
    result: RetrievalResult, arrays: dict[str, np.ndarray], show_films: bool
) -> dict[str, list[Query]] | None:
    """Queries and hits of both directions from the prepared data; None where these are gone or may not be shown."""
    folder, benchmark = Path(result.provenance.dataset), BENCHMARKS.get(result.benchmark)
    if benchmark is None or not folder.is_dir():
        return None
    try:
        films = load_splits(benchmark, [folder], result.provenance.settings.get("limit"))[result.provenance.split]
    except DataError:
        return None
    if films_fingerprint(benchmark, films) != result.provenance.dataset_fingerprint:
        return None
    if not (show_films or may_be_shown(films, [str(folder)])):
        return None
    named = [array.ravel() for name, array in arrays.items() if name.endswith(("_queries", "_hits"))]
    rows = np.unique(np.concatenate(named))
    chosen = films.select(rows)
    texts = dict(zip(rows.tolist(), evaluation_texts(chosen), strict=True))
    pictures = {
        row: _data_uri(central_square(image).convert("L").resize((_SMALL, _SMALL)))
        for row, image in zip(rows.tolist(), chosen["image"], strict=True)
    }
    directions = {}
    for name, asked, given in (("image_to_text", pictures, texts), ("text_to_image", texts, pictures)):
        queries, hits, right, ranks = (
            arrays[f"{name}_{part}"].tolist() for part in ("queries", "hits", "right", "ranks")
        )
        directions[name] = [
            Query(asked[query], [Hit(given[hit], bool(good)) for hit, good in zip(found, marks, strict=True)], rank)
            for query, found, marks, rank in zip(queries, hits, right, ranks, strict=True)
        ]
    return directions


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=86)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
