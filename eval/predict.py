"""Findings of the films in a folder or a table, as one Parquet file.

    python -m eval.predict --model runs/findings --films DIR --out scores.parquet
    python -m eval.predict --model runs/demo/model --films films.csv --findings Edema "Pleural Effusion" --out OUT
    accelerate launch -m eval.predict ...

One row a film: `id`, `path`, and a column for each finding whose name says what the score is. A trained head gives
`probability_FINDING`: the sigmoid of its logit, or the softmax where one class alone is right, as well calibrated as
the head is. A model that compares films with texts gives `logit_difference_FINDING` of two prompts, as `eval.run`
scores them: above 0 the positive prompt is closer. That orders films but is no probability. Films that cannot be read
are listed in `scores.skipped.jsonl` with the cause. Killed and started again, it goes on and ends in the same file.

A table may have the column `study`: with `--study_rule mean_score` (or max_score) `scores.studies.parquet` holds a row
for each study, the scores of its films pooled, and how many films could be read; without any the scores are null.

With `--check_input` the column `input_check` says what speaks against a film being a whole upright frontal chest film
(kinds of `modeling_chexficient.input_check_chexficient`; "" where nothing does), and their numbers are printed. Such
films are scored all the same.

Where the model has operating points (`eval.calibrate`), findings that have one get `above_threshold_FINDING` and, where
the point has a calibration, `calibrated_probability_FINDING`; which points these are stands in the file's metadata.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from accelerate import PartialState
from torch import Tensor

from eval.films.commands import FilmTableArguments, describe_model, run_command
from eval.films.files import FilmFile, Films, film_outputs
from eval.films.parts import METADATA, PartedTable, read_job
from eval.models.adapted import FindingsModel
from eval.models.encoders import EvaluationModel
from eval.prompts import PROMPT_FAMILIES, find_prompts
from eval.settings import NONE
from eval.study_level import SCORE_RULES, group_rows, pool_scores
from eval.tasks.zero_shot import pair_scores, prompt_embeddings
from modeling_chexficient.operating_points_chexficient import (
    DIFFERENCE,
    DO_NOT_TRAVEL,
    LOGIT,
    OperatingPoint,
    OperatingPoints,
    find_points,
    logit_of,
    sigmoid,
)

_PROMPTS = "default"
#: The column of the reasons against a film.
INPUT_CHECK = "input_check"


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
    operating_points: str | None = field(
        default=None, metadata={"help": "File of operating points (eval.calibrate); default: that beside the model."}
    )

    study_rule: str = field(
        default=NONE,
        metadata={
            "help": "Also write OUT.studies.parquet: how scores of the films of one study (column study) are pooled.",
            "choices": list(SCORE_RULES),
        },
    )
    check_input: bool = field(
        default=False,
        metadata={"help": f"Ask of every film whether it is one for the model: reasons in the column {INPUT_CHECK}."},
    )

    def __post_init__(self):
        super().__post_init__()
        if self.films is None:
            raise ValueError("name with --films a folder, or a table with the column path")
        if self.check_input and self.reduced_decoding:
            raise ValueError("--check_input looks at whole films: leave out --reduced_decoding")
        if len(set(self.findings)) < len(self.findings):
            raise ValueError(f"--findings names one twice: {self.findings}")
        find_prompts(self.prompts or _PROMPTS)


@dataclass(frozen=True)
class Scorer:
    """How a model scores findings.

    Attributes:
        kind: what is shown of a score, as the columns are named.
        findings: the names of the columns.
        method: of the model, from pixels to what `scores` takes.
        scores: from [B, D] to [B, findings]: logits, or differences of them.
        shown: from these scores to what the columns hold.
        wording: the prompts of every finding; {} for a head.
        prompts: the pairs that each score comes from, and whether those are of other findings; {} for a head.
    """

    kind: str
    findings: Sequence[str]
    method: str
    scores: Callable[[Tensor], np.ndarray]
    shown: Callable[[np.ndarray], np.ndarray]
    wording: dict
    prompts: dict[str, tuple[list[list[str]], bool]]

    @property
    def columns(self) -> list[str]:
        return [f"{self.kind}_{name}" for name in self.findings]

    def points_that_fit(self, points: OperatingPoints) -> tuple[dict[str, OperatingPoint], dict[str, str]]:
        """The points by finding that these scores can be held against, and why the other findings have none."""
        fit, without = {}, {}
        for name in self.findings:
            point = points.points.get(name)
            if point is None:
                without[name] = points.refused.get(name, "no point was chosen for it")
            elif (point.prompts, point.from_others) != self.prompts.get(name, ([], False)):
                without[name] = "its point was chosen with other prompts, or told by other findings"
            else:
                fit[name] = point
        return fit, without


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
    embedded = prompt_embeddings(model, family, findings)

    def scores(embeddings: Tensor) -> np.ndarray:
        return family.without_others(pair_scores(model, embeddings, embedded), findings)

    wording = {name: family.describe(name) for name in findings}
    behind = {name: family.pairs_behind(name, findings) for name in findings}
    prompts = {name: ([list(pair) for pair in pairs], others) for name, (pairs, others) in behind.items()}
    return Scorer(DIFFERENCE, list(findings), "embed_images", scores, np.asarray, wording, prompts)


def _head_scorer(model: FindingsModel, findings: Sequence[str], prompts: str | None) -> Scorer:
    names = list(findings) or model.label_names
    unknown = [name for name in names if name not in model.label_names]
    if unknown:
        raise ValueError(f"{model.name} has no output for {unknown}, it has {model.label_names}")
    if prompts is not None:
        raise ValueError(f"{model.name} has a head of its own: --prompts are for models that compare films with texts")
    places, one_of_all = [model.label_names.index(name) for name in names], model.one_of_all

    def scores(outputs: Tensor) -> np.ndarray:
        logits = outputs[:, places].numpy()
        return logit_of(logits) if one_of_all else logits

    return Scorer("probability", names, "predict_labels", scores, sigmoid, {}, {})


def read_points(model: EvaluationModel, scorer: Scorer, file: str | None) -> OperatingPoints | None:
    """The operating points in `file`, or those beside the model; None where it has none.

    Raises:
        ValueError: they are of another model or another kind of score, or the file is none of operating points.
    """
    found = Path(file) if file is not None else find_points(model.name, model.revision)
    if found is None:
        return None
    points = OperatingPoints.load(found)
    points.check_model(model.name, model.weights_sha256, model.image_processor, model.outputs)
    wanted = DIFFERENCE if scorer.kind == DIFFERENCE else LOGIT
    if points.score != wanted:
        raise ValueError(f"{found} has points for a {points.score}, {model.name} gives a {wanted}")
    return points


def predict(model: EvaluationModel, arguments: PredictArguments) -> tuple[int, dict[str, int]]:
    """Score all films and write the table; the number of scored films, and of those left out by the cause.

    Raises:
        ValueError: see `make_scorer`, `eval.films.files.Films.of` and `eval.films.parts.PartedTable`.
    """
    scorer = make_scorer(model, arguments.findings, arguments.prompts)
    points = read_points(model, scorer, arguments.operating_points)
    fit, without = ({}, {}) if points is None else scorer.points_that_fit(points)
    films, settings = Films.of(Path(arguments.films)), arguments.settings
    if arguments.study_rule != NONE and any(film.study is None for film in films.files):
        raise ValueError(
            f"--study_rule {arguments.study_rule}: {arguments.films} does not tell studies: give a table with the "
            "columns path and study"
        )
    schema = _schema(scorer, fit, arguments.check_input)
    job = {
        "content": scorer.kind,
        "findings": list(scorer.findings),
        "prompts": scorer.wording,
        **describe_model(model, settings),
        "films_sha256": films.digest(arguments.rules),
        **({INPUT_CHECK: True} if arguments.check_input else {}),
    }
    if points is not None:
        job["operating_points"] = asdict(replace(points, points=fit, refused=without))
    table = PartedTable(Path(arguments.out), job, len(films.files), settings.batch_size, arguments.part_size, "films")
    read = (model, films, arguments.rules, settings, scorer.method)

    def work(batches):
        for kept, outputs, skipped in film_outputs(*read, batches, arguments.check_input):
            values = _values(scorer, fit, scorer.scores(outputs)) if kept else [()] * len(schema)
            yield _rows(kept, values, schema), skipped

    skipped = table.write(work, schema, films.skipped)
    if PartialState().is_main_process:
        if arguments.study_rule != NONE:
            by_column = dict(zip(scorer.columns, scorer.findings, strict=True))
            write_studies(Path(arguments.out), films.files, by_column, arguments.study_rule)
        if arguments.check_input:
            _report_reasons(Path(arguments.out))
        if points is not None:
            print(_told_of_points(points, fit, without))
    return len(films.files) + len(films.skipped) - skipped.total(), dict(skipped)


def write_studies(out: Path, films: Sequence[FilmFile], findings: dict[str, str], rule: str) -> Path:
    """Beside the scores of films in `out`, those of their studies by `rule`: one row a study; of one whose films could
    not be read the scores are null.

    Args:
        findings: whose scores are pooled, by column. Operating points are of films, so none is pooled.
    """
    scores = pq.read_table(out)
    # By id: a film may be listed under several.
    study_of = {film.id: (film.patient, film.study) for film in films}
    names = [study_of[film] for film in scores["id"].to_pylist()]
    whole = np.stack([scores[name].to_numpy() for name in findings], axis=1)
    groups, first = group_rows(names)
    pooled = pool_scores(whole, groups, rule, list(findings.values())) if names else whole
    place_of = {name: place for place, name in enumerate(dict.fromkeys(study_of.values()))}
    read = [place_of[names[row]] for row in first]
    counts, of_studies = np.zeros(len(place_of), np.int64), np.zeros((len(place_of), len(findings)), np.float32)
    counts[read], of_studies[read] = np.bincount(groups) if names else 0, pooled
    patients, studies = zip(*place_of, strict=True) if place_of else ((), ())
    # Where the table tells patients, studies of one name of two of them are two.
    told = {} if all(patient is None for patient in patients) else {"patient": pa.array(patients, pa.string())}
    table = {**told, "study": pa.array(studies, pa.string()), "films": pa.array(counts, pa.int64())}
    unread = counts == 0
    table |= {name: pa.array(of_studies[:, place], mask=unread) for place, name in enumerate(findings)}
    path = out.with_suffix(".studies.parquet")
    unfinished = path.with_suffix(".unfinished")
    metadata = {METADATA: json.dumps({**read_job(out), "study_rule": rule}, sort_keys=True)}
    pq.write_table(pa.table(table).replace_schema_metadata(metadata), unfinished, compression="zstd")
    unfinished.replace(path)
    return path


def _schema(scorer: Scorer, points: dict[str, OperatingPoint], check_input: bool) -> pa.Schema:
    fields = [("id", pa.string()), ("path", pa.string())]
    if check_input:
        fields.append((INPUT_CHECK, pa.string()))
    fields += [(name, pa.float32()) for name in scorer.columns]
    for name, point in points.items():
        fields.append((f"above_threshold_{name}", pa.bool_()))
        if point.calibration is not None:
            fields.append((f"calibrated_probability_{name}", pa.float32()))
    return pa.schema(fields)


def _values(scorer: Scorer, points: dict[str, OperatingPoint], scores: np.ndarray) -> list[np.ndarray]:
    """The columns of `_schema` from the scores on, each [films], of `scores` [films, findings]."""
    columns = list(scorer.shown(scores).T)
    for name, point in points.items():
        own = scores[:, scorer.findings.index(name)]
        columns.append(point.is_above(own))
        if point.calibration is not None:
            columns.append(point.calibration.probability(own))
    return columns


def _told_of_points(points: OperatingPoints, fit: dict[str, OperatingPoint], without: dict[str, str]) -> str:
    first = f"above_threshold: {len(fit)} findings by rule {points.rule}, chosen on {points.chosen_on}"
    return "\n".join([first, *(f"no point for {name}: {why}" for name, why in without.items()), DO_NOT_TRAVEL])


def _rows(films: Sequence[FilmFile], values: Sequence, schema: pa.Schema) -> pa.Table:
    """Of films with their `values`, of the columns from the scores on."""
    texts = {
        "id": [film.id for film in films],
        "path": [film.path for film in films],
        INPUT_CHECK: [", ".join(film.reasons) for film in films],
    }
    rest = iter(values)
    columns = [texts[one.name] if one.name in texts else next(rest) for one in schema]
    return pa.Table.from_arrays(
        [pa.array(column, one.type) for column, one in zip(columns, schema, strict=True)], schema=schema
    )


def _report_reasons(out: Path) -> None:
    reasons = Counter(pq.read_table(out, columns=[INPUT_CHECK])[INPUT_CHECK].to_pylist())
    fine = reasons.pop("", 0)
    kinds = ", ".join(f"{count:,} {kinds}" for kinds, count in reasons.most_common()) or "none"
    print(f"input check: nothing against {fine:,} films; of {reasons.total():,} others: {kinds}")


def main(arguments: list[str] | None = None) -> None:
    run_command(PredictArguments, predict, arguments)


if __name__ == "__main__":
    main()
