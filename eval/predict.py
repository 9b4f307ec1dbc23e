"""Findings of the films in a folder or a table, as one Parquet file.

    python -m eval.predict --model runs/findings --films DIR --out scores.parquet
    python -m eval.predict --model runs/demo/model --films films.csv --findings Edema "Pleural Effusion" --out OUT
    accelerate launch -m eval.predict ...

One row a film: `id`, `path`, and a column for each finding whose name says what the score is. A trained head gives
`probability_FINDING`: the sigmoid of its logit, or the softmax where one class alone is right, as well calibrated as
the head is. A model that compares films with texts gives `logit_difference_FINDING` of two prompts, as `eval.run`
scores them: above 0 the positive prompt is closer. That orders films but is no probability. Films that cannot be read
are listed in `scores.skipped.jsonl` with the cause. Killed and started again, it goes on and ends in the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from torch import Tensor

import modeling_chexficient  # noqa: F401 (registers the model with the Auto classes)
from eval.film_commands import FilmTableArguments, describe_model, run_command
from eval.film_files import FilmFile, Films, film_outputs
from eval.models.adapted import FindingsModel
from eval.models.encoders import EvaluationModel
from eval.parts import PartedTable
from eval.prompts import PROMPT_FAMILIES, find_prompts
from eval.tasks.zero_shot import pair_embeddings, pair_scores

_PROMPTS = "default"


@dataclass
class PredictArguments(FilmTableArguments):
    """Arguments of `eval.predict`."""

    findings: list[str] = field(
        default_factory=list,
        metadata={"help": "Findings to score; of a head some of its own (default: all), else what the prompts name."},
    )
    prompts: str | None = field(
        default=None,
        metadata={
            "help": f"Prompt family ({', '.join(PROMPT_FAMILIES)}; default: {_PROMPTS}), or a YAML or JSON file."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        if self.films is None:
            raise ValueError("name with --films a folder, or a table with the column path")
        if len(set(self.findings)) < len(self.findings):
            raise ValueError(f"--findings names one twice: {self.findings}")
        find_prompts(self.prompts or _PROMPTS)


@dataclass(frozen=True)
class Scorer:
    """How a model scores findings.

    Attributes:
        kind: what a score is, as the columns are named.
        findings: the names of the columns.
        method: of the model, from pixels to what `scores` takes.
        scores: from [B, D] to [B, findings] fp32.
        wording: the prompts of every finding; {} for a head.
    """

    kind: str
    findings: Sequence[str]
    method: str
    scores: Callable[[Tensor], np.ndarray]
    wording: dict

    @property
    def columns(self) -> list[str]:
        return [f"{self.kind}_{name}" for name in self.findings]


def make_scorer(model: EvaluationModel, findings: Sequence[str] = (), prompts: str | None = None) -> Scorer:
    """How `model` scores `findings`: by its head, or by pairs of prompts.

    Raises:
        ValueError: the model does neither, findings are missing or unknown to it, or a head was given prompts.
    """
    if isinstance(model, FindingsModel):
        return _head_scorer(model, findings, prompts)
    if not model.sees_text:
        raise ValueError(
            f"{model.name} ({type(model).__name__}) has neither a head for findings nor a text tower: adapt it with "
            "train.adapt, or take its embeddings with eval.embed"
        )
    if not findings:
        raise ValueError(f"{model.name} compares films with texts: say with --findings what to look for")
    family = find_prompts(prompts or _PROMPTS)
    pairs = pair_embeddings(model, [family.pair(name) for name in findings])

    def scores(embeddings: Tensor) -> np.ndarray:
        return family.without_others(pair_scores(model, embeddings, pairs), findings)

    wording = {name: family.describe(name) for name in findings}
    return Scorer("logit_difference", list(findings), "embed_images", scores, wording)


def _head_scorer(model: FindingsModel, findings: Sequence[str], prompts: str | None) -> Scorer:
    names = list(findings) or model.label_names
    unknown = [name for name in names if name not in model.label_names]
    if unknown:
        raise ValueError(f"{model.name} has no output for {unknown}, it has {model.label_names}")
    if prompts is not None:
        raise ValueError(f"{model.name} has a head of its own: --prompts are for models that compare films with texts")
    places, one_of_all = [model.label_names.index(name) for name in names], model.one_of_all

    def scores(logits: Tensor) -> np.ndarray:
        return (logits.exp() if one_of_all else logits.sigmoid())[:, places].numpy()

    return Scorer("probability", names, "predict_labels", scores, {})


def predict(model: EvaluationModel, arguments: PredictArguments) -> tuple[int, dict[str, int]]:
    """Score all films and write the table; the number of scored films, and of those left out by the cause.

    Raises:
        ValueError: see `make_scorer`, `eval.film_files.Films.of` and `eval.parts.PartedTable`.
    """
    scorer = make_scorer(model, arguments.findings, arguments.prompts)
    films, settings = Films.of(Path(arguments.films)), arguments.settings
    schema = pa.schema([("id", pa.string()), ("path", pa.string()), *((name, pa.float32()) for name in scorer.columns)])
    job = {
        "content": scorer.kind,
        "findings": list(scorer.findings),
        "prompts": scorer.wording,
        **describe_model(model, settings),
        "films_sha256": films.digest(arguments.rules),
    }
    table = PartedTable(Path(arguments.out), job, len(films.files), settings.batch_size, arguments.part_size, "films")

    def work(batches):
        for kept, outputs, skipped in film_outputs(model, films, arguments.rules, settings, scorer.method, batches):
            yield _rows(kept, scorer.scores(outputs) if kept else [], schema), skipped

    skipped = table.write(work, schema, films.skipped)
    return len(films.files) + len(films.skipped) - skipped.total(), dict(skipped)


def _rows(films: Sequence[FilmFile], scores, schema: pa.Schema) -> pa.Table:
    values = np.asarray(scores, np.float32).reshape(len(films), -1).T if films else [()] * (len(schema) - 2)
    columns = [[film.id for film in films], [film.path for film in films], *values]
    return pa.Table.from_arrays(
        [pa.array(column, one.type) for column, one in zip(columns, schema, strict=True)], schema=schema
    )


def main(arguments: list[str] | None = None) -> None:
    run_command(PredictArguments, predict, arguments)


if __name__ == "__main__":
    main()
