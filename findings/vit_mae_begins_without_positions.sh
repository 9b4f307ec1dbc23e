#!/usr/bin/env bash
# A new `ViTMAEForPreTraining` of transformers knows no places: the fixed sine-cosine positions of its encoder and decoder,
# its CLS token and its mask token are all zero. The code that should fill them is there: the encoder's returns early, since
# the layer that it asks was initialised a moment before, and the decoder's is overwritten with zeros afterwards. Positions
# are not trained, so this never mends itself.
# Why it matters: whoever pretrains a masked autoencoder on films of their own from a configuration trains a model that
# cannot tell where a hidden patch lies. The loss falls a little and stays above that of guessing the mean film, nothing
# warns, and the encoder's features are nearly the same for all films. Released weights bring their own positions.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "torch==2.13.0" "transformers==5.23.0" "numpy==2.4.6"
cat > "$place/positions.py" <<'PY'
import sys

import torch
from transformers import ViTMAEConfig, ViTMAEForPreTraining

torch.manual_seed(0)
config = ViTMAEConfig(
    hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8,
    decoder_hidden_size=32, decoder_num_hidden_layers=1, decoder_num_attention_heads=2, decoder_intermediate_size=64,
)
model = ViTMAEForPreTraining(config).eval()
encoder, decoder = model.vit.embeddings, model.decoder
tables = {
    "positions of the encoder": encoder.position_embeddings,
    "positions of the decoder": decoder.decoder_pos_embed,
    "CLS token": encoder.cls_token,
    "mask token": decoder.mask_token,
}
for name, table in tables.items():
    print(f"{name}: largest value {table.abs().max():g}, trained: {table.requires_grad}")
noise = torch.rand(1, 16)
with torch.no_grad():
    output = model(pixel_values=torch.randn(1, 3, 32, 32), noise=noise)
hidden = output.logits[0][output.mask[0].bool()]
spread = (hidden - hidden[0]).abs().max().item()
print(f"predictions for the {len(hidden)} hidden patches of an image differ by at most {spread:.1e}")
sys.exit(not (all(table.abs().max() == 0 for table in tables.values()) and spread < 1e-5))
PY
"$place/venv/bin/pip" list 2>/dev/null | grep -E "^(torch|transformers) "
HF_HUB_OFFLINE=1 "$place/venv/bin/python" "$place/positions.py"
