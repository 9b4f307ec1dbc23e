"""LoRA that holds fewer activations, with the same numbers.

PEFT's layer holds three tensors of the size of its input for the backward pass: the input in LoRA's type, the noise of
dropout, and their product. All follow from the input, which other layers share, and the random state: they are made
again in the backward pass (`torch.utils.checkpoint`), for the price of a dropout and a product of rank r.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class DropoutLinear(nn.Linear):
    """The matrix A of a LoRA layer with the cast and the dropout in front of it, which hold nothing but the input.

    Args:
        linear: as PEFT made it; its parameters are taken over.
        p: of dropout.
    """

    def __init__(self, linear: nn.Linear, p: float):
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias, self.p = linear.weight, linear.bias, p

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out], in the type of the weight."""
        if self.training and torch.is_grad_enabled():
            return checkpoint(self._product, x, use_reentrant=False)
        return self._product(x)

    def _product(self, x: Tensor) -> Tensor:
        return super().forward(F.dropout(x.to(self.weight.dtype), self.p, self.training))


def save_memory(model: PeftModel, name: str = "default") -> None:
    """Replace dropout and A of LoRA's layers on linear ones, in place; DoRA, which sees the input itself, stays."""
    for layer in model.modules():
        if not isinstance(layer, LoraLayer) or name not in layer.lora_A or layer.use_dora.get(name, False):
            continue
        matrix, dropout = layer.lora_A[name], layer.lora_dropout[name]
        if type(matrix) is nn.Linear:
            layer.lora_A[name] = DropoutLinear(matrix, dropout.p if isinstance(dropout, nn.Dropout) else 0.0)
            layer.lora_dropout[name] = nn.Identity()
            # The cast of the input is in front of the dropout, too.
            layer.cast_input_dtype_enabled = False
