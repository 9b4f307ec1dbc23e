#!/usr/bin/env bash
# A 16-bit grey image given to a `transformers` pipeline is converted to RGB by Pillow before the model's image processor
# sees it, and every value above 255 becomes 255: two different films give the very scores of a white square, without a
# warning. The image processor itself, called on the values as an array, tells the films apart.
# Why it matters: chest films are exported as 12 bits in 16-bit PNG or TIFF more often than not, and a pipeline is the first
# thing that the page of a model on the Hub offers for trying it.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "torch==2.13.0" "transformers==5.23.0" "pillow==13.0.0" "numpy==2.4.6"
cat > "$place/classify.py" <<'PY'
import sys

import numpy as np
import torch
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil, pipeline

torch.manual_seed(0)
config = ViTConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8, num_labels=3
)
model = ViTForImageClassification(config).eval()
processor = ViTImageProcessorPil(size={"height": 32, "width": 32})
classify = pipeline("image-classification", model=model, image_processor=processor)
y, x = np.mgrid[0:64, 0:64]
films = [Image.fromarray((2000 + 1500 * np.sin(x / period)).astype(np.uint16)) for period in (5, 15)]


def scores(image):
    return [round(row["score"], 6) for row in sorted(classify(image, top_k=3), key=lambda row: row["label"])]


white = scores(Image.new("L", (64, 64), 255))
found = [scores(film) for film in films]
print("modes of the films:", [film.mode for film in films], "values", [np.asarray(film).min() for film in films], "and more")
print("a white square:    ", white)
print("the first film:    ", found[0])
print("the second film:   ", found[1])
by_values = []
for film in films:
    # Scaled to eight bits first, as a viewer would: the films differ.
    scaled = (np.asarray(film) / 4095 * 255).astype(np.uint8)
    by_values.append(scores(Image.fromarray(scaled)))
print("scaled beforehand: ", *by_values)
sys.exit(not (found == [white, white] and by_values[0] != by_values[1] != white))
PY
"$place/venv/bin/pip" list 2>/dev/null | grep -E "^(torch|transformers|pillow) "
HF_HUB_OFFLINE=1 "$place/venv/bin/python" -W ignore "$place/classify.py" 2>/dev/null
