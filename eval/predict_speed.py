"""How fast `eval.predict` scores films, beside the pipeline of transformers, and whether the scores are the same.

    python -m eval.predict_speed
    python -m eval.predict_speed --model runs/demo/model --films 1000

Synthetic films as PNG files are read and scored by a head of random weights on the model's image tower, by both in
turns in one process: the ratio of processor time, median and range of the turns.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from transformers import pipeline

from data_scripts.progress import quiet_libraries
from data_scripts.speed import compare
from data_scripts.synthetic import SyntheticOptions, draw_film, make_case
from eval.models.load import load_evaluation_model
from eval.predict import PredictArguments, predict
from modeling_chexficient import CheXficientForImageClassification, CheXficientProcessor

FINDINGS = ("Cardiomegaly", "Pleural Effusion", "Atelectasis", "Edema", "Pneumothorax")


def write_films(folder: Path, count: int, size: int) -> list[Path]:
    """Synthetic films of `size` pixels as PNG files, in the order of their names."""
    folder.mkdir()
    options, paths = SyntheticOptions(num_records=count, seed=5, broken_image_share=0), []
    for number in range(count):
        paths.append(folder / f"{number:06}.png")
        Image.fromarray(draw_film(make_case(number, options), size)[0]).save(paths[-1])
    return paths


def write_head(base: str, folder: Path) -> Path:
    """A model with a head of random weights for `FINDINGS`, on the image tower of the model in `base`."""
    torch.manual_seed(0)
    names = dict(enumerate(FINDINGS))
    labels = {"id2label": names, "label2id": {name: number for number, name in names.items()}}
    head = CheXficientForImageClassification.from_pretrained(base, problem_type="multi_label_classification", **labels)
    head.save_pretrained(folder)
    CheXficientProcessor.from_pretrained(base).image_processor.save_pretrained(folder)
    return folder


def measure(base: str, films: int, size: int, turns: int) -> str:
    """Films per second of processor time, the ratio to the pipeline, and the largest difference of a probability."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        paths, head = write_films(folder / "films", films, size), write_head(base, folder / "head")
        model, out = load_evaluation_model(str(head)), folder / "scores.parquet"
        arguments = PredictArguments(model=str(head), out=str(out), films=str(folder / "films"))
        classify = pipeline("image-classification", model=str(head), device="cpu")
        spent, given = [], []

        def ours() -> None:
            out.unlink(missing_ok=True)
            start = time.process_time()
            predict(model, arguments)
            spent.append(time.process_time() - start)

        def peer() -> None:
            options = {"batch_size": arguments.batch_size, "top_k": None, "function_to_apply": "sigmoid"}
            given[:] = classify([str(path) for path in paths], **options)

        ratio = compare(ours, peer, turns)
        table = pq.read_table(out)
        own = np.stack([table[f"probability_{name}"].to_numpy() for name in FINDINGS], axis=1)
    theirs = [{one["label"]: one["score"] for one in scores} for scores in given]
    difference = np.abs(own - [[scores[name] for name in FINDINGS] for scores in theirs]).max()
    return (
        f"{films:,} films of {size} px: {films / np.median(spent[1:]):.0f} films per second of processor time; the "
        f"pipeline takes {ratio} times as much ({turns} turns); probabilities differ by {difference:.0e} at most"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="runs/demo/model", help="Model folder whose image tower is used.")
    parser.add_argument("--films", type=int, default=1000, help="Films.")
    parser.add_argument("--size", type=int, default=256, help="Their side, in pixels.")
    parser.add_argument("--turns", type=int, default=5, help="Turns, after one that is not counted.")
    chosen = parser.parse_args(arguments)
    quiet_libraries()
    print(measure(chosen.model, chosen.films, chosen.size, chosen.turns))


if __name__ == "__main__":
    main()
