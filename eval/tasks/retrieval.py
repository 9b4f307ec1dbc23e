"""Cross-modal retrieval: from a film to its report and from a report to its film (protocol of arXiv 2602.22843).

What counts as right, and how ties do, is said in `eval.tasks.ranking`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from datasets import Dataset, DatasetDict

from data_scripts.prepared.columns import read_column
from eval.artifacts import save_artifact
from eval.benchmarks import Benchmark
from eval.features import embed_texts, image_embeddings
from eval.models.encoders import EvaluationModel
from eval.provenance import describe
from eval.records.results import RetrievalResult, Subgroup
from eval.settings import EvaluationSettings
from eval.statistics.significance import by_patient_intervals
from eval.statistics.subgroups import subgroups
from eval.tasks.ranking import Pairs, judge_ranks, pair_up, recalls, retrieval_ranks, top_hits

#: Order of the sections in the published evaluation; the training text has findings first.
PUBLISHED_SECTIONS = ("impression", "findings")
#: Queries in each direction whose first hits are kept for pictures, and how many hits.
GALLERY_QUERIES, GALLERY_HITS = 6, 5
#: The k of R@k within subgroups; the headline's.
SUBGROUP_CUTOFF = 5


def run(
    benchmark: Benchmark, model: EvaluationModel, splits: DatasetDict, settings: EvaluationSettings
) -> RetrievalResult:
    """Evaluate a model on the films of `benchmark.split` that have a text.

    Raises:
        ValueError: the model has no text tower, the data have no sections of reports, or there are fewer than two
            distinct texts, so that nothing can be confused.
    """
    if not model.sees_text:
        raise ValueError(f"{model.name} has no text tower: retrieval compares films with texts")
    whole = splits[benchmark.split]
    texts = evaluation_texts(whole)
    rows = np.array([row for row, text in enumerate(texts) if text], dtype=np.int64)
    films = whole.select(rows)
    patients = np.asarray(read_column(films, "patient_id"))
    # A study's name need not be unique over patients.
    studies = list(zip(read_column(films, "patient_id"), read_column(films, "study_id"), strict=True))
    pairs = pair_up([texts[row] for row in rows], studies)
    if len(pairs.texts) < 2:
        raise ValueError(
            f"split {benchmark.split!r} ({len(whole)} films, {len(rows)} with a text) has {len(pairs.texts)} distinct "
            "texts: there is nothing to tell apart"
        )
    film_embeddings = image_embeddings(model, whole, settings).numpy()[rows]
    text_embeddings = embed_texts(model, pairs.texts, settings.batch_size).numpy()
    film_ranks, text_ranks = retrieval_ranks(film_embeddings, text_embeddings, pairs)
    directions = judge_ranks(film_ranks, text_ranks, pairs, patients, settings.resamples, settings.seed)
    gallery = choose_gallery(film_embeddings, text_embeddings, film_ranks, text_ranks, pairs, rows, settings.seed)
    save_artifact(settings.out, benchmark.name, gallery)
    return RetrievalResult(
        benchmark.name,
        benchmark.version,
        # Fingerprint of the whole split, so that a finished benchmark is recognised; numbers of the evaluated films.
        provenance=replace(
            describe(benchmark, model, whole, settings), films=len(rows), patients=len(np.unique(patients))
        ),
        image_to_text=directions[0],
        text_to_image=directions[1],
        n_images=len(rows),
        n_texts=len(rows),
        n_distinct_texts=len(pairs.texts),
        subgroups=list(_evaluate_subgroups(films, film_ranks, patients, settings)),
        notes=_notes(pairs, len(whole) - len(rows)),
    )


def evaluation_texts(dataset: Dataset) -> list[str]:
    """The text of every film: its `PUBLISHED_SECTIONS` in their order, white space normalised; empty where it has none.

    Raises:
        ValueError: a section is no column of the data.
    """
    missing = [name for name in PUBLISHED_SECTIONS if name not in dataset.column_names]
    if missing:
        raise ValueError(f"column(s) {missing} are missing, there are {dataset.column_names}: retrieval needs reports")
    columns = [dataset.select_columns([name])[name] for name in PUBLISHED_SECTIONS]
    return [" ".join(" ".join(part or "" for part in parts).split()) for parts in zip(*columns, strict=True)]


def choose_gallery(
    films: np.ndarray,
    texts: np.ndarray,
    film_ranks: np.ndarray,
    text_ranks: np.ndarray,
    pairs: Pairs,
    rows: np.ndarray,
    seed: int,
) -> dict[str, np.ndarray]:
    """Queries sampled by the seed with their first hits, in each direction: rows of the split, no films and no texts.

    A text is named by the row of the first film that has it.

    Args:
        films, texts: embeddings [n, D] and [t, D].
        film_ranks, text_ranks: [n] and [t], of `retrieval_ranks`.
        rows: [n], rows of the films in the split.

    Returns:
        For "image_to_text" and "text_to_image": `_queries` [q] rows, `_ranks` [q], `_hits` [q, hits] rows, best first,
        `_right` [q, hits] 1 where the hit is right.
    """
    # For each text the first of its films.
    first_film = np.unique(pairs.text_of_film, return_index=True)[1]
    right = set(zip(pairs.films.tolist(), pairs.right_texts.tolist(), strict=True))
    generator = np.random.default_rng(seed)
    arrays = {}
    for name, queries, candidates, ranks in (
        ("image_to_text", films, texts, film_ranks),
        ("text_to_image", texts, films, text_ranks),
    ):
        to_text = name == "image_to_text"
        sampled = np.sort(generator.permutation(len(queries))[:GALLERY_QUERIES])
        hits = top_hits(queries[sampled], candidates, GALLERY_HITS)
        asked, found = (sampled, first_film[hits]) if to_text else (first_film[sampled], hits)
        arrays[f"{name}_queries"], arrays[f"{name}_hits"] = rows[asked], rows[found]
        arrays[f"{name}_ranks"] = ranks[sampled]
        arrays[f"{name}_right"] = np.array(
            [
                [((query, hit) if to_text else (hit, query)) in right for hit in row]
                for query, row in zip(sampled, hits, strict=True)
            ],
            dtype=np.uint8,
        )
    return arrays


def _evaluate_subgroups(
    films: Dataset, ranks: np.ndarray, patients: np.ndarray, settings: EvaluationSettings
) -> Iterator[Subgroup]:
    """R@5 from the films of each group to all texts: the candidates are those of the whole."""
    for attribute, value, rows in subgroups(films):
        (estimate,) = by_patient_intervals(
            lambda weights, ranks=ranks[rows]: recalls(ranks, weights, SUBGROUP_CUTOFF)[:, None],
            patients[rows],
            settings.resamples,
            settings.seed,
        )
        yield Subgroup(attribute, value, int(rows.sum()), len(np.unique(patients[rows])), estimate)


def _notes(pairs: Pairs, without_text: int) -> list[str]:
    films = len(pairs.text_of_film)
    notes = ["R@k falls as candidates become more: figures of sets of different size do not compare."]
    if without_text:
        notes.append(f"{without_text:,} of {films + without_text:,} films have no text and were left out.")
    repeated = films - len(pairs.texts)
    if repeated:
        notes.append(f"{repeated:,} of {films:,} films have a text that an earlier film has: equal texts are one.")
    return notes
