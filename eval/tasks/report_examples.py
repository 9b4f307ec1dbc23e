"""Generated reports for pictures: the words they share with the written ones, and some beside their film."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from datasets import Dataset

from data_scripts.prepared.masks import central_square
from eval.artifacts import save_artifact
from eval.benchmarks import Benchmark
from eval.settings import EvaluationSettings
from eval.tasks.segmentation_examples import PICTURE_SIZE, choose_examples
from eval.tasks.text_metrics import rouge_l, tokenise

#: Reports of each kind: best, median and worst by ROUGE-L.
EXAMPLES = 2


def keep_reports(
    benchmark: Benchmark,
    films: Dataset,
    generated: Sequence[str],
    baselines: Mapping[str, Sequence[str]],
    settings: EvaluationSettings,
) -> None:
    """Leave ROUGE-L and lengths of all reports for pictures; some films and texts with `show_films`."""
    references = films["report"][:]
    scores = rouge_l(generated, references)
    places = [(place, film) for place, chosen in choose_examples(scores, EXAMPLES).items() for film in chosen]
    arrays = {
        "rouge_l": scores.astype(np.float32),
        "words": np.array([len(tokenise(text)) for text in generated]),
        "reference_words": np.array([len(tokenise(text)) for text in references]),
        "rows": np.array([film for _, film in places]),
    }
    values = {"places": [place for place, _ in places]}
    if settings.show_films:
        squares = [central_square(films[film]["image"]).convert("L") for _, film in places]
        arrays["films"] = np.stack([np.asarray(square.resize((PICTURE_SIZE,) * 2)) for square in squares])
        values["generated"] = [generated[film] for _, film in places]
        values["references"] = [references[film] for _, film in places]
        values["baselines"] = {name: [texts[film] for _, film in places] for name, texts in baselines.items()}
    save_artifact(settings.out, benchmark.name, arrays, values)
