"""The head of DINO and iBOT, and its file beside the weights."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from train.self_supervised.published_names import head_from_published

#: The file of a head, as RAD-DINO publishes it.
HEAD_FILE = "dino_head.safetensors"


class Prototypes(nn.Module):
    """A linear layer without bias whose rows are `weight_g` long, as torch's old weight normalisation names it."""

    def __init__(self, width: int, count: int):
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(count, 1))
        self.weight_v = nn.Parameter(torch.empty(count, width))
        nn.init.kaiming_uniform_(self.weight_v, a=5**0.5)

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight_g * self.weight_v / self.weight_v.norm(dim=1, keepdim=True))


class DinoHead(nn.Module):
    """Logits [n, prototypes] of features [n, width]: three layers, a feature of unit length, prototypes.

    Args:
        width: of the features.
        prototypes, hidden, bottleneck: sizes; published: 65,536, 2,048, 256.
    """

    def __init__(self, width: int, prototypes: int, hidden: int = 2048, bottleneck: int = 256):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer = Prototypes(bottleneck, prototypes)

    @property
    def prototypes(self) -> int:
        return len(self.last_layer.weight_g)

    def forward(self, features: Tensor) -> Tensor:
        bottleneck = F.normalize(self.mlp(features), dim=-1, eps=1e-6 if features.dtype == torch.float16 else 1e-12)
        return self.last_layer(bottleneck)


def load_head(file: Path, width: int) -> DinoHead:
    """The head of a file, published names or ours, of the sizes that its tensors have.

    Raises:
        ValueError: it lacks tensors or has others, or it belongs to features of another width.
    """
    tensors = {name: tensor.float() for name, tensor in head_from_published(load_file(file)).items()}
    try:
        hidden, own_width = tensors["mlp.0.weight"].shape
        prototypes, bottleneck = tensors["last_layer.weight_v"].shape
    except KeyError as error:
        raise ValueError(f"{file} is no DINO head of three layers: it lacks {error}") from error
    if own_width != width:
        raise ValueError(
            f"{file} is a head for features of width {own_width}, this tower's have {width}: put the head that belongs "
            "to the tower beside it, or train a new one (--new_head)"
        )
    head = DinoHead(width, prototypes, hidden, bottleneck)
    own = head.state_dict()
    different = sorted(own.keys() ^ tensors.keys())
    different += sorted(name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape)
    if different:
        raise ValueError(f"{file} is no DINO head of three layers: {different} do not fit")
    head.load_state_dict(tensors)
    return head


def save_head(head: DinoHead, folder: Path) -> None:
    """Write `dino_head.safetensors` by its published names."""
    save_file({name: tensor.cpu().contiguous() for name, tensor in head.state_dict().items()}, folder / HEAD_FILE)
