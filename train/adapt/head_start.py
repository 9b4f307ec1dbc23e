"""A start for the head of findings: logistic regression on the features of the base as it is.

From a random head, the first steps bend the tower's features towards a head that knows nothing yet, and what was
pretrained is lost (arXiv 2202.10054: linear probing, then fine-tuning). A fitted one also spares the search for a
learning rate that suits the scale of a tower's features.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from transformers import PreTrainedModel

from eval.tasks.probes import LabelledFeatures, fit_linear
from modeling_chexficient.precision_chexficient import place
from train.adapt.findings import FindingsTask

#: Features of at most so many films of each split are computed for it.
FILMS = 5_000
#: A start need not have converged.
_ITERATIONS = 200


def start_head(task: FindingsTask, device: torch.device, batch_size: int, num_workers: int = 0) -> str:
    """Fit the classifier of the task's model as a probe is fitted (`eval.tasks.probes`), in place; says how in words.

    The films are not augmented, and as many as `FILMS`, sampled by the seed. A label that has one value only among
    them cannot be fitted and gets a bias that says so.
    """
    parts = {}
    for part, dataset in (("train", task.train_dataset), ("validation", task.validation_dataset)):
        order = np.random.default_rng(task.seed).permutation(len(dataset))[:FILMS]
        loader = DataLoader(
            Subset(dataset, np.sort(order).tolist()), batch_size, collate_fn=task.collate, num_workers=num_workers
        )
        features, targets = _features(task, loader, device)
        # The probe's own samples are by patient; here the films were sampled before.
        parts[part] = LabelledFeatures(features, targets, np.arange(len(features)))
    train = parts["train"]
    probe = fit_linear(task.labels, train, parts["validation"], _ITERATIONS)
    weight, bias = probe.as_layer()
    unfitted = np.isnan(bias)
    share = (np.nansum(train.targets, axis=0) + 0.5) / (np.isfinite(train.targets).sum(0) + 1)
    weight[unfitted], bias[unfitted] = 0.0, np.log(share / (1 - share))[unfitted]
    classifier = task.model.classifier
    with torch.no_grad():
        classifier.weight.copy_(torch.from_numpy(weight))
        classifier.bias.copy_(torch.from_numpy(bias))
    chosen = "" if np.isnan(probe.chosen_auroc) else f" (AUROC {probe.chosen_auroc:.3f} on validation)"
    return f"The head starts from logistic regression on {len(train.features):,} films{chosen}."


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
