"""A start for the head of findings: logistic regression on the features of the base as it is.

From a random head, the first steps bend the tower's features towards a head that knows nothing yet, and what was
pretrained is lost (arXiv 2202.10054: linear probing, then fine-tuning). A fitted one also spares the search for a
learning rate that suits the scale of a tower's features.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from transformers import PreTrainedModel

from eval.metrics import label_aurocs
from modeling_chexficient.precision_chexficient import place
from train.adapt.findings import FindingsTask, both_classes

#: Features of at most so many films of each split are computed for it.
FILMS = 5_000
#: Inverse strengths of the L2 penalty that validation chooses from, the strongest first.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_ITERATIONS = 200


def start_head(task: FindingsTask, device: torch.device, batch_size: int, num_workers: int = 0) -> str:
    """Fit the classifier of the task's model, in place; says how in words.

    The films are not augmented, and as many as `FILMS`, sampled by the seed. A label that has one value only among them
    gets a bias that says so.
    """
    parts = {}
    for part, dataset in (("train", task.train_dataset), ("validation", task.validation_dataset)):
        order = np.random.default_rng(task.seed).permutation(len(dataset))[:FILMS]
        loader = DataLoader(
            Subset(dataset, np.sort(order).tolist()), batch_size, collate_fn=task.collate, num_workers=num_workers
        )
        parts[part] = _features(task, loader, device)
    features, targets = parts["train"]
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
    evaluated = (parts["validation"][0] - mean) / deviation
    heads = _fit((features - mean) / deviation, targets)
    aurocs = [
        np.nanmean(label_aurocs(evaluated @ weight.T, parts["validation"][1], np.ones((1, len(evaluated)))))
        for weight, _ in heads
    ]
    # As few films of validation as these may show no label both present and absent: then the strongest penalty.
    best = int(np.argmax(np.nan_to_num(aurocs, nan=-1)))
    weight, bias = heads[best]
    weight = weight / deviation
    classifier = task.model.classifier
    with torch.no_grad():
        classifier.weight.copy_(torch.from_numpy(weight))
        classifier.bias.copy_(torch.from_numpy(bias - weight @ mean))
    return (
        f"The head starts from logistic regression on {len(features):,} films (C = {STRENGTHS[best]:g}, AUROC "
        f"{aurocs[best]:.3f} on validation)."
    )


@torch.no_grad()
def _features(task: FindingsTask, loader: DataLoader, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """What the classifier sees [n, D] of unchanged films, and their targets [n, L]."""
    model: PreTrainedModel = place(task.model, device).eval()
    features: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        features.append(inputs[0].float().cpu())

    hook = model.classifier.register_forward_pre_hook(keep)
    targets = []
    for batch in loader:
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        model(pixel_values=task.inputs(batch, None)["pixel_values"])
        targets.append(batch["labels"].cpu())
    hook.remove()
    return torch.cat(features).numpy(), torch.cat(targets).numpy()


def _fit(features: np.ndarray, targets: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights [L, D] and biases [L] for each of `STRENGTHS`."""
    count = targets.shape[1]
    heads = [(np.zeros((count, features.shape[1])), np.zeros(count)) for _ in STRENGTHS]
    for label, column in enumerate(targets.T):
        known = np.isfinite(column)
        if not both_classes(column):
            share = (np.nansum(column) + 0.5) / (known.sum() + 1)
            for _, bias in heads:
                bias[label] = np.log(share / (1 - share))
            continue
        regression = LogisticRegression(max_iter=_ITERATIONS, warm_start=True)
        for (weight, bias), strength in zip(heads, STRENGTHS, strict=True):
            regression.set_params(C=strength)
            with warnings.catch_warnings():
                # A start need not have converged.
                warnings.simplefilter("ignore", ConvergenceWarning)
                regression.fit(features[known], column[known].astype(int))
            weight[label], bias[label] = regression.coef_[0], regression.intercept_[0]
    return heads
