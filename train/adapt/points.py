"""Operating points of a finished adaptation to findings, chosen on the films that chose its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from accelerate import PartialState

from data_scripts.prepared.columns import read_column
from data_scripts.prepared.mixture import Mixture
from eval.calibration.operating_points import LEAST_FILMS, PointRules, describe_points, refusal, score_films
from eval.models.load import load_evaluation_model
from eval.settings import EvaluationSettings
from eval.splits import names_of_data
from modeling_chexficient.operating_points_chexficient import POINTS_FILE
from modeling_chexficient.precision_chexficient import place
from train.adapt.arguments import AdaptTrainingArguments
from train.adapt.findings import FindingsTask
from train.adapt.tasks import Task

_CHOSE_THE_WEIGHTS = "These films chose the best weights, too: sensitivity and specificity may be a little too high."
_TOO_FEW = (
    f"no operating points: no finding has {LEAST_FILMS} positive and {LEAST_FILMS} negative films in validation; "
    "choose them on more films with `python -m eval.calibrate`"
)


def write_points(weights: Path, task: Task, mixture: Mixture, args: AdaptTrainingArguments) -> str | None:
    """Write the operating points beside the weights of a run, and say in words what came of it.

    None, and nothing is written, for other tasks than findings. All processes must call it.
    """
    if not isinstance(task, FindingsTask):
        return None
    splits, targets = task.splits, task.validation_dataset.targets.astype(np.float64)
    films = splits.validation.select(splits.validation_rows)
    patients = np.asarray(read_column(films, "patient_id"))
    # Before anything is computed: small validations are common.
    if all(refusal(column, patients, LEAST_FILMS) for column in targets.T):
        return _TOO_FEW
    model = load_evaluation_model(str(weights))
    place(model.model, args.device)
    settings = EvaluationSettings(batch_size=args.per_device_eval_batch_size)
    scores = score_films(model, films, targets, task.labels, settings)
    points = describe_points(
        model,
        films,
        scores,
        PointRules(least_films=LEAST_FILMS, resamples=args.resamples, seed=args.seed),
        data=" + ".join(names_of_data(Path(folder))[0] for folder in mixture.folders),
        split="validation" if splits.validation is not splits.train else "train (patients held out of training)",
        notes=[_CHOSE_THE_WEIGHTS],
    )
    if PartialState().is_main_process:
        points.save(weights / POINTS_FILE)
    return f"operating points of {len(points.points)} of {len(task.labels)} findings: {weights / POINTS_FILE}"
