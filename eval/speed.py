"""How fast evaluation is, beside the ways that come to mind first.

    python -m eval.speed
    python -m eval.speed --pairs 100000 --model runs/demo/model

Ratios of processor time, median and range of turns in one process: intervals of AUROC and average precision by patient
against a loop over scikit-learn (of few resamples, extrapolated), at the size of NIH ChestX-ray14's test split with
simulated scores; the ranks of retrieval against sorting the whole matrix, and their seconds and memory where no matrix
fits; with `--model`, embedding a folder of films against `pipeline("image-feature-extraction", batch_size=32)` on the
same tower with an image processor of transformers, and scoring them by a head of random weights on it against
`pipeline("image-classification")`. Memory is the peak of what arrays take, the data not counted.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from accelerate import PartialState
from sklearn.metrics import average_precision_score, roc_auc_score
from transformers import CLIPImageProcessorPil, ImageFeatureExtractionPipeline, Pipeline, pipeline

from data_scripts.command_line import command_name, positive
from data_scripts.prepare.speed import write_film
from data_scripts.progress import quiet_libraries
from data_scripts.speed import Ratio, compare
from eval.embed import EmbedArguments, embed
from eval.models.encoders import EvaluationModel
from eval.models.load import load_evaluation_model
from eval.predict import PredictArguments, predict
from eval.statistics.ranked_labels import RankedLabels
from eval.statistics.significance import resample_by_patient
from eval.tasks.ranking import Pairs, pair_up, retrieval_ranks
from modeling_chexficient import CheXficientForImageClassification, CheXficientImageProcessor, CheXficientProcessor

#: Test films and patients of NIH ChestX-ray14, and about the shares of its fourteen findings and "No Finding".
FILMS, PATIENTS = 25_596, 2_797
FINDINGS = ("Cardiomegaly", "Pleural Effusion", "Atelectasis", "Edema", "Pneumothorax")
SHARES = (0.13, 0.04, 0.18, 0.24, 0.07, 0.06, 0.02, 0.10, 0.07, 0.04, 0.04, 0.02, 0.045, 0.003, 0.39)


def simulate(films: int, patients: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores and targets [films, 15] of labels as frequent as NIH's, and whose film each is."""
    generator = np.random.default_rng(seed)
    targets = (generator.random((films, len(SHARES))) < SHARES).astype(float)
    return generator.standard_normal(targets.shape) + targets, targets, generator.integers(patients, size=films)


def intervals(scores: np.ndarray, targets: np.ndarray, patients: np.ndarray, resamples: int) -> np.ndarray:
    """AUROC and average precision [1 + resamples, 2, labels], resampled by patient."""
    return resample_by_patient(RankedLabels(scores, targets).both, patients, resamples, seed=0)


def loop_over_resamples(scores: np.ndarray, targets: np.ndarray, patients: np.ndarray, resamples: int) -> np.ndarray:
    """The same by scikit-learn, label by label and resample by resample: [resamples, labels, 2]."""
    generator = np.random.default_rng(0)
    films_of = [np.flatnonzero(patients == patient) for patient in np.unique(patients)]
    values = np.zeros((resamples, targets.shape[1], 2))
    for number in range(resamples):
        films = np.concatenate([films_of[patient] for patient in generator.integers(len(films_of), size=len(films_of))])
        for label in range(targets.shape[1]):
            truth, score = targets[films, label], scores[films, label]
            values[number, label] = roc_auc_score(truth, score), average_precision_score(truth, score)
    return values


def peak_bytes(work: Callable[[], object]) -> int:
    """The most that arrays made by `work` took at a time."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def interval_ratio(films: int, patients: int, resamples: int, looped: int, repeats: int) -> tuple[Ratio, int]:
    """Processor time of the loop over that of `intervals` for one resample, and the peak memory of `intervals`."""
    data = simulate(films, patients)
    ours = partial(intervals, *data, resamples)
    ratio = compare(ours, partial(loop_over_resamples, *data, looped), repeats, units=(resamples, looped))
    return ratio, peak_bytes(ours)


def simulate_pairs(count: int, width: int = 512) -> tuple[np.ndarray, np.ndarray, Pairs]:
    """Embeddings [count, width] of films and of their texts, most of which find each other, and the pairs."""
    generator = np.random.default_rng(0)
    films = generator.standard_normal((count, width), np.float32)
    texts = films + 4 * generator.standard_normal((count, width), np.float32)
    films, texts = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (films, texts))
    return films, texts, pair_up([str(number) for number in range(count)], list(range(count)))


def sorted_ranks(films: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same by sorting all candidates of all queries, as OpenCLIP's `get_clip_metrics` does."""
    similarities = films @ texts.T
    own = np.arange(len(films))[:, None]
    orders = (np.argsort(-matrix, axis=1) for matrix in (similarities, similarities.T))
    first, second = (np.nonzero(order == own)[1] + 1 for order in orders)
    return first, second


def time_retrieval(count: int) -> tuple[float, int]:
    """Processor seconds and peak memory of the ranks of `count` films among as many texts, both ways."""
    data = simulate_pairs(count)
    start = time.process_time()
    # Measured as it runs: the matrix products are not slowed by it.
    peak = peak_bytes(lambda: retrieval_ranks(*data))
    return time.process_time() - start, peak


def ranks_ratio(count: int, repeats: int) -> tuple[Ratio, int, int]:
    """Processor time of sorting over that of `retrieval_ranks`, and the peak memory of both, ours first."""
    films, texts, pairs = simulate_pairs(count)
    ours, peer = partial(retrieval_ranks, films, texts, pairs), partial(sorted_ranks, films, texts)
    return compare(ours, peer, repeats), peak_bytes(ours), peak_bytes(peer)


def embedding_ratio(scratch: Path, model: EvaluationModel, films: Sequence[Path], repeats: int) -> Ratio:
    """Processor time of a pipeline over that of `eval.embed` for the same films, which get the same features.

    Args:
        scratch: an empty folder.
        films: those of one folder, in the order of their names.

    Raises:
        ValueError: they do not; the model's processor or tower is none that a pipeline equals.
    """
    extract, outputs = peer_pipeline(model), (scratch / f"{number}.parquet" for number in itertools.count())
    paths = [str(film) for film in films]

    def ours() -> Path:
        out = next(outputs)
        embed(model, EmbedArguments(model.name, out=str(out), films=str(films[0].parent), features="tower"))
        return out

    own = np.stack(pq.read_table(ours())["embedding"].to_numpy())
    features = np.array(extract(paths)).reshape(len(paths), -1)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    if own.shape != features.shape or not np.allclose(own, features, atol=1e-5):
        raise ValueError(f"{model.name}: the pipeline's features are others than those of eval.embed --features tower")
    return compare(ours, lambda: extract(paths), repeats)


def scoring_ratio(scratch: Path, base: str, films: Sequence[Path], repeats: int) -> Ratio:
    """Processor time of a pipeline over that of `eval.predict` for the same films, which get the same probabilities.

    Args:
        scratch: an empty folder, for the head and the scores.
        base: model whose image tower a head of random weights for `FINDINGS` is put on.
        films: those of one folder, in the order of their names.

    Raises:
        ValueError: they do not.
    """
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(FINDINGS)), "problem_type": "multi_label_classification"}
    CheXficientForImageClassification.from_pretrained(base, **labels).save_pretrained(scratch / "head")
    CheXficientProcessor.from_pretrained(base).image_processor.save_pretrained(scratch / "head")
    head, out = str(scratch / "head"), scratch / "scores.parquet"
    model, arguments = load_evaluation_model(head), PredictArguments(head, out=str(out), films=str(films[0].parent))
    classify, paths = pipeline("image-classification", model=head, device="cpu"), [str(film) for film in films]

    def ours() -> None:
        out.unlink(missing_ok=True)
        predict(model, arguments)

    def peer() -> list[list[dict]]:
        return classify(paths, batch_size=arguments.batch_size, top_k=None, function_to_apply="sigmoid")

    ours()
    table = pq.read_table(out)
    scores = [{found["label"]: found["score"] for found in film} for film in peer()]
    for name in FINDINGS:
        if not np.allclose(table[f"probability_{name}"], [film[name] for film in scores], rtol=0, atol=1e-6):
            raise ValueError(f"{base}: the pipeline's probabilities of {name} are others than those of eval.predict")
    return compare(ours, peer, repeats)


def peer_pipeline(model: EvaluationModel) -> Pipeline:
    """transformers' own pipeline on the tower; in place of our image processor that of CLIP, which does the same."""
    processor = model.image_processor
    if isinstance(processor, CheXficientImageProcessor):
        side = {"height": model.image_size, "width": model.image_size}
        means = {"image_mean": processor.image_mean, "image_std": processor.image_std}
        processor = CLIPImageProcessorPil(size=dict(processor.size), crop_size=side, **means)
    return ImageFeatureExtractionPipeline(model=model.tower, image_processor=processor, batch_size=32, pool=True)


def read_by_kind(parsed: argparse.Namespace) -> None:
    """Print how many times ours a pipeline takes to embed and to score, for each kind of files."""
    quiet_libraries()
    PartialState(cpu=not torch.cuda.is_available())
    torch.set_num_threads(1)
    model = load_evaluation_model(parsed.model)
    height, width = parsed.film_size
    for kind in ("JPEG", "PNG"):
        with tempfile.TemporaryDirectory() as folder:
            films = Path(folder, "films")
            films.mkdir()
            paths = sorted(films / write_film(films, number, kind, height, width) for number in range(parsed.read))
            ratios = {
                "embedding": embedding_ratio(Path(folder), model, paths, parsed.repeats),
                "scoring": scoring_ratio(Path(folder), parsed.model, paths, parsed.repeats),
            }
        for what, ratio in ratios.items():
            print(f"{what} {kind} of {height} x {width}: a pipeline takes {ratio} times ours", flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=command_name(), description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=positive, default=FILMS, help="Films of the intervals.")
    parser.add_argument("--patients", type=positive, default=PATIENTS, help="Patients whose films they are.")
    parser.add_argument("--resamples", type=positive, default=1000, help="Resamples of ours.")
    parser.add_argument("--looped", type=positive, default=20, help="Resamples of the loop.")
    parser.add_argument("--pairs", type=positive, default=20_000, help="Films, and texts, of retrieval.")
    parser.add_argument("--sorted_pairs", type=positive, default=4_000, help="Of a matrix that is sorted.")
    parser.add_argument("--model", help="Model whose tower sees films; without it none are read.")
    parser.add_argument("--read", type=positive, default=64, help="Films that are embedded and scored.")
    parser.add_argument("--film_size", type=positive, nargs=2, default=(1024, 1024), help="Their height and width.")
    parser.add_argument("--repeats", type=positive, default=5, help="Turns; medians and ranges are shown.")
    parsed = parser.parse_args(arguments)
    ratio, peak = interval_ratio(parsed.films, parsed.patients, parsed.resamples, parsed.looped, parsed.repeats)
    print(
        f"intervals of {parsed.films:,} films: a loop takes {ratio} times ours, which takes {peak / 1e6:,.0f} MB",
        flush=True,
    )
    ratio, peak, peer_peak = ranks_ratio(parsed.sorted_pairs, parsed.repeats)
    print(
        f"ranks of {parsed.sorted_pairs:,} films and texts: sorting the matrix takes {ratio} times ours, and "
        f"{peer_peak / 1e6:,.0f} MB against {peak / 1e6:,.0f} MB",
        flush=True,
    )
    if parsed.model:
        read_by_kind(parsed)
    seconds, peak = time_retrieval(parsed.pairs)
    print(f"ranks of {parsed.pairs:,} films and texts: {seconds:.1f} s, {peak / 1e6:,.0f} MB", flush=True)


if __name__ == "__main__":
    main()
