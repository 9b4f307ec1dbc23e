"""What a tower's features tell of findings: a linear probe and nearest neighbours, on validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel

from data_scripts.prepared.columns import read_column
from data_scripts.prepared.labels import label_matrix, label_targets
from data_scripts.prepared.mixture import Mixture, load_mixture
from data_scripts.prepared.patient_sample import draw_patients
from data_scripts.schema import DataError
from eval.features import image_embeddings
from eval.models.encoders import EvaluationModel
from eval.settings import EvaluationSettings
from eval.statistics.metrics import label_aurocs
from eval.tasks.probes import LabelledFeatures, fit_probe, nan_mean

_COLUMNS = ("record_id", "image", "labels", "patient_id")
#: Neighbours that vote, and the temperature of their votes (those of DINO's evaluation).
_NEIGHBOURS, _TEMPERATURE = 20, 0.07


@dataclass(frozen=True)
class ProbeData:
    """Labelled films to learn from and to evaluate on, with targets [films, labels] (1, 0, or NaN: not judged)."""

    names: list[str]
    train: Dataset
    train_targets: np.ndarray
    validation: Dataset
    validation_targets: np.ndarray


def load_probe_data(mixture: Mixture, most: int, seed: int) -> ProbeData:
    """At most `most` films of each split.

    Raises:
        ValueError: there is no validation split, or no label has both classes in it and in training.
    """
    advice = "leave eval_strategy out, or prepare the data with labels and a validation split"
    try:
        splits = [load_mixture(mixture, name, _COLUMNS) for name in ("train", "validation")]
    except DataError as error:
        raise ValueError(f"probes have nothing to be evaluated on ({error}): {advice}") from error
    chosen = []
    for split in splits:
        rows = np.random.default_rng(seed).permutation(len(split))[:most]
        chosen.append(split.select(np.sort(rows)))
    train, validation = chosen
    names = label_matrix(validation)[0]
    targets = [label_targets(split, names) for split in chosen]
    both = [all(set(np.unique(values[:, k])) >= {0.0, 1.0} for values in targets) for k in range(len(names))]
    kept = np.flatnonzero(both)
    if len(kept) == 0:
        raise ValueError(f"no label is both present and absent in training and in validation: {advice}")
    return ProbeData([names[k] for k in kept], train, targets[0][:, kept], validation, targets[1][:, kept])


def probe(tower: PreTrainedModel, image_processor, data: ProbeData, batch_size: int, seed: int) -> dict[str, float]:
    """Mean AUROC over labels, "linear_auroc" and "knn_auroc", and "feature_spread"; all processes must call it.

    The linear probe's penalty is chosen on half of the patients of validation and its figure is of the others; of
    neighbours all count. The spread is the mean standard deviation of a feature of unit length, times the root of its
    width: near 1 for features in all directions, 0 where all films have one.
    """
    training = tower.training
    tower.eval()
    model = EvaluationModel(tower, image_processor)
    settings = EvaluationSettings(batch_size=batch_size, precision="fp32")
    train, validation = (
        image_embeddings(model, split, settings, "tower_features").numpy() for split in (data.train, data.validation)
    )
    tower.train(training)
    patients = np.asarray(read_column(data.validation, "patient_id"))
    chooser = np.zeros(len(patients), dtype=bool)
    chooser[draw_patients(patients, 0.5, seed)] = True
    features = LabelledFeatures(train, data.train_targets, np.asarray(read_column(data.train, "patient_id")))
    choosing = LabelledFeatures(validation[chooser], data.validation_targets[chooser], patients[chooser])
    linear = fit_probe(data.names, features, choosing, validation[~chooser]).scores
    neighbours = _votes(train, data.train_targets, validation)
    return {
        "linear_auroc": _mean_auroc(linear, data.validation_targets[~chooser]),
        "knn_auroc": _mean_auroc(neighbours, data.validation_targets),
        "feature_spread": float(validation.std(0).mean() * validation.shape[1] ** 0.5),
    }


def _votes(train: np.ndarray, targets: np.ndarray, films: np.ndarray) -> np.ndarray:
    """Share [films, labels] of the nearest training films that have a label, weighted by similarity."""
    similarities = films @ train.T
    count = min(_NEIGHBOURS, len(train))
    nearest = np.argpartition(-similarities, count - 1, axis=1)[:, :count]
    weights = np.exp((np.take_along_axis(similarities, nearest, axis=1) - 1) / _TEMPERATURE)[:, :, None]
    of_nearest = targets[nearest]
    judged = weights * np.isfinite(of_nearest)
    return (judged * np.nan_to_num(of_nearest)).sum(1) / np.maximum(judged.sum(1), 1e-12)


def _mean_auroc(scores: np.ndarray, targets: np.ndarray) -> float:
    """Over the labels that have scores and both classes; NaN where there is none."""
    fitted = np.isfinite(scores).all(axis=0)
    aurocs = label_aurocs(scores[:, fitted], targets[:, fitted], np.ones((1, len(scores))))
    return float(nan_mean(aurocs[0], axis=0))
