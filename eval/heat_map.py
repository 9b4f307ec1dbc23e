"""Where on films are findings or phrases: heat maps as arrays and as pictures.

    python -m eval.heat_map --model runs/demo/model --films film.png --phrases "Pleural Effusion" Nodule --out maps
    python -m eval.heat_map --model runs/findings --films DIR --out maps

Film number N of the folder or table becomes `maps/0000N.npz` with `maps` [phrases, H, W] fp32 on its own pixels, NaN
where the model does not see it, and `phrases`; and for every phrase an overlay `0000N.1.png`. `maps/films.csv` tells
which film is which. A model that compares films with texts is asked for any phrase, a trained head for its findings
(default: all). Only the order of the values within one map means something: a map of a finding that the film does not
show has a highest point, too. Whether maps point at the finding was measured by `eval.run --benchmark
synthetic_grounding`, on synthetic films.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_scripts.progress import progress
from data_scripts.schema import Skipped
from eval.films.commands import FilmArguments, run_command
from eval.films.files import Films, open_film
from eval.films.parts import write_skipped
from eval.models.adapted import FindingsModel
from eval.models.encoders import EvaluationModel
from eval.tasks.film_maps import on_film, square_maps
from eval.tasks.segmentation_data import seen_share
from modeling_chexficient import overlay_heat_map
from modeling_chexficient.heat_maps_chexficient import METHODS


@dataclass
class HeatMapArguments(FilmArguments):
    """Arguments of `eval.heat_map`."""

    phrases: list[str] = field(
        default_factory=list, metadata={"help": "Phrases to look for; of a head some of its findings (default: all)."}
    )
    map_method: str | None = field(default=None, metadata={"help": "Default: layercam.", "choices": list(METHODS)})

    def __post_init__(self):
        if self.films is None:
            raise ValueError("name with --films a film, a folder, or a table with the column path")


def draw_maps(model: EvaluationModel, arguments: HeatMapArguments) -> tuple[int, dict[str, int]]:
    """Write arrays and overlays of all films; the number of films, and of those left out by the cause.

    Raises:
        ValueError: the model cannot be asked for the phrases, or has no spatial features (`EvaluationModel.heat_maps`);
            `out` holds maps already; see `eval.films.files.Films.of`.
    """
    phrases = arguments.phrases or (model.label_names if isinstance(model, FindingsModel) else [])
    if not (model.sees_text or isinstance(model, FindingsModel)):
        raise ValueError(f"{model.name} has neither a text tower nor a head for findings: there is nothing to point at")
    if not phrases:
        raise ValueError(f"{model.name} compares films with texts: say with --phrases what to look for")
    films, out = Films.of(Path(arguments.films)), Path(arguments.out)
    if next(out.glob("[0-9]*.npz"), None) is not None:
        # Its maps would stand among these, as those of other phrases.
        raise ValueError(f"--out {out} holds maps of an earlier run: delete it, or choose another --out")
    share, skipped = seen_share(model), list(films.skipped)
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, film in enumerate(progress(films.files, desc="heat maps", unit=" films"), start=1):
        image = open_film(films.root, film.path, arguments.rules)
        if isinstance(image, Skipped):
            skipped.append(image)
            continue
        (maps,) = square_maps(model, [image], phrases, share, arguments.map_method)
        whole = on_film(maps, image.size)
        np.savez_compressed(out / f"{number:05}.npz", maps=whole, phrases=np.array(phrases))
        for place, heat_map in enumerate(whole, start=1):
            overlay_heat_map(image, heat_map).save(out / f"{number:05}.{place}.png")
        rows.append((f"{number:05}", film.id, film.path))
    with (out / "films.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("number", "id", "path"), *rows])
    write_skipped(skipped, out.with_suffix(".skipped.jsonl"))
    return len(rows), dict(Counter(film.kind for film in skipped))


def main(arguments: list[str] | None = None) -> None:
    run_command(HeatMapArguments, draw_maps, arguments)


if __name__ == "__main__":
    main()
