#!/usr/bin/env bash
# OpenCLIP's trainer with `--accum-freq K` gives every weight the gradient of the whole batch, but the temperature K times
# that gradient: for each of the K parts the whole loss is differentiated again, with the features of the other parts held
# still, and the temperature takes part in all K of them.
# Why it matters: accumulation is meant to be the same step in less memory. Adam alone hides the factor; gradient clipping
# does not (`--grad-clip-norm` sees a norm that the temperature can dominate, and shortens the step of all weights), nor
# does any optimiser without a per-parameter scale. Whoever compares trainers by their gradients meets it at once.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "torch==2.14.1" "torchvision==0.29.1" "open_clip_torch==3.3.0" "numpy==2.4.6"
cat > "$place/temperature.py" <<'PY'
import sys
from types import SimpleNamespace

import torch
from open_clip.loss import ClipLoss
from open_clip_train.train import train_one_epoch
from torch import nn
from torch.nn import functional as F


class Towers(nn.Module):
    """The smallest dual encoder with the outputs that the trainer asks for."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(12, 8), nn.Linear(6, 8)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, images, texts):
        return {
            "image_features": F.normalize(self.image(images), dim=-1),
            "text_features": F.normalize(self.text(texts), dim=-1),
            "logit_scale": self.logit_scale.exp(),
        }


def gradients(parts):
    """Of one step over the same 16 pairs, in so many parts; the optimiser leaves them where they are."""
    torch.manual_seed(1)
    pairs = torch.randn(16, 12), torch.randn(16, 6)
    size = 16 // parts
    batches = [tuple(rows[start : start + size] for rows in pairs) for start in range(0, 16, size)]

    class Loader(list):
        num_batches, num_samples = parts, 16

    data = {"train": SimpleNamespace(dataloader=Loader(batches), set_epoch=lambda epoch: None)}
    args = SimpleNamespace(
        device="cpu", precision="fp32", distill=False, accum_freq=parts, skip_scheduler=True, horovod=False,
        grad_clip_norm=None, rank=0, local_rank=0, world_size=1, batch_size=size, log_every_n_steps=100, wandb=False,
        tensorboard=False, log_local=False, distributed=False,
    )
    model = Towers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    train_one_epoch(model, data, ClipLoss(), 0, optimizer, None, None, None, args)
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


whole = gradients(1)
seen = True
for parts in (2, 4, 8):
    found = gradients(parts)
    ratio = (found["logit_scale"] / whole["logit_scale"]).item()
    others = max((found[name] - whole[name]).abs().max().item() for name in whole if name != "logit_scale")
    print(f"accum_freq {parts}: weights differ by at most {others:.0e}, the temperature's gradient is {ratio:.3f} times")
    seen = seen and others < 1e-5 and abs(ratio - parts) < 1e-3
sys.exit(not seen)
PY
"$place/venv/bin/pip" list 2>/dev/null | grep -E "^(torch|torchvision|open_clip_torch) "
HF_HUB_OFFLINE=1 "$place/venv/bin/python" "$place/temperature.py"
