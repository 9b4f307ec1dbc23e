"""Two steps of training of a tower as distributed training takes them, and what was wrong with them.

`python -m torch.distributed.run --nproc_per_node 2 -m tests.tower_training FOLDER` takes them for every tower; each
process writes what it found, by tower, to a file named after its rank.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

import torch
from torch import nn
from torch.distributed import destroy_process_group, get_rank, init_process_group
from torch.nn.parallel import DistributedDataParallel

from modeling_chexficient import CheXficientConfig, CheXficientForSemanticSegmentation, CheXficientModel
from modeling_chexficient.decoders_chexficient import feature_pyramid
from modeling_chexficient.towers_chexficient import stage_widths
from tests.adapter_files import shake
from tests.tiny_towers import SIDE, TEXT, VISION, WITHOUT_FEATURE, WITHOUT_MAPS, images, texts

#: What is trained, and the towers it is trained with.
TRAINED = {
    "contrastive": {**VISION, **WITHOUT_MAPS},
    "text": TEXT,
    "segmentation": {**VISION, **WITHOUT_FEATURE},
}
# ViTDet has no last norm.
_NOT_NORMED = ("vitdet",)


def trouble(kind: str, name: str) -> list[str]:
    """What is wrong after two steps: errors, parameters without gradient, maps that are not normed."""
    torch.manual_seed(0)
    try:
        return _segmentation(name) if kind == "segmentation" else _contrastive(kind, name)
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]


def _contrastive(kind: str, name: str) -> list[str]:
    vision, text = (VISION["dinov2"], TEXT[name]) if kind == "text" else (TRAINED[kind][name], TEXT["bert"])
    model = CheXficientModel(CheXficientConfig(vision, text, projection_dim=8))
    return _train(model, {"pixel_values": images(), **texts(text), "return_loss": True})


def _segmentation(name: str) -> list[str]:
    config = CheXficientConfig(TRAINED["segmentation"][name], TEXT["bert"], num_labels=2, mask_decoder="unet")
    model = CheXficientForSemanticSegmentation(config)
    # New weights of some towers are so small that their maps are nearly constant.
    shake(model, trainable_only=True)
    found = _train(model, {"pixel_values": images(), "labels": torch.ones(2, 2, SIDE, SIDE)})
    return found + _maps_not_normed(model, name)


def _train(model: nn.Module, batch: dict) -> list[str]:
    wrapped = DistributedDataParallel(model.train())
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(2):
        optimiser.zero_grad()
        wrapped(**batch).loss.backward()
        optimiser.step()
    trainable = {name: one.grad for name, one in model.named_parameters() if one.requires_grad}
    return [
        f"no gradient: {name}" for name, grad in trainable.items() if grad is None or not bool(grad.isfinite().all())
    ]


def _maps_not_normed(model: CheXficientForSemanticSegmentation, name: str) -> list[str]:
    """Of a ViT the maps themselves have unit deviation, of a tower with stages what the decoder makes of them."""
    seen: list[torch.Tensor] = []
    if stage_widths(model.config.vision_config) or name in _NOT_NORMED:
        for module in model.decode_head.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_hook(lambda _module, _given, output: seen.append(output))
        model(images())
    else:
        seen += feature_pyramid(model.vision_model, images())
    deviations = [round(one.std().item(), 2) for one in seen]
    return [] if seen and all(0.7 < one < 1.4 for one in deviations) else [f"deviation of the maps: {deviations}"]


def _main(folder: str) -> None:
    init_process_group("gloo", timeout=timedelta(seconds=120))
    found = {f"{kind} {name}": trouble(kind, name) for kind, towers in TRAINED.items() for name in towers}
    Path(folder, f"{get_rank()}.json").write_text(json.dumps(found))
    destroy_process_group()


if __name__ == "__main__":
    _main(sys.argv[1])
