#!/usr/bin/env bash
# peft's `hotswap_adapter` cannot swap the adapters of a classifier: with task type SEQ_CLS (or any `modules_to_save`) the
# head is saved with the adapter, and swapping two adapters of the same shape ends in a KeyError about the head's bias.
# Without a head (plain LoRA on the same layers) it swaps. The model still says what it said before the call.
# Why it matters: a server that swaps adapters for findings on one encoder is what hotswapping is for, and such adapters
# all have a head; several adapters have to be loaded by name and switched instead.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "torch==2.13.0" "transformers==5.23.0" "peft==0.21.2" "numpy==2.4.6"
cat > "$place/swap.py" <<'PY'
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.hotswap import hotswap_adapter
from transformers import BertConfig, BertForSequenceClassification

root = sys.argv[1]
config = BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=32)
BertForSequenceClassification(config).save_pretrained(f"{root}/base")
tokens = torch.arange(6).unsqueeze(0)


def base():
    return BertForSequenceClassification.from_pretrained(f"{root}/base")


@torch.no_grad()
def swap(task_type):
    """What two adapters say; what the first says after it was swapped for the second; the error, if any."""
    said = []
    for number in range(2):
        torch.manual_seed(number)
        lora = LoraConfig(task_type=task_type, target_modules=["query", "value"], init_lora_weights=False)
        model = get_peft_model(base(), lora).eval()
        model.save_pretrained(f"{root}/{task_type}-{number}")
        said.append(model(tokens).logits)
    model, error = PeftModel.from_pretrained(base(), f"{root}/{task_type}-0").eval(), None
    try:
        hotswap_adapter(model, f"{root}/{task_type}-1", "default")
    except KeyError as raised:
        error = raised
    return *said, model(tokens).logits, error


first, second, after, error = swap("SEQ_CLS")
kept = torch.equal(after, first)
print(f"with a head:    KeyError {error}; the model still is the first adapter: {kept}")
plain_first, plain_second, plain_after, plain_error = swap(None)
swapped = torch.allclose(plain_after, plain_second) and not torch.allclose(plain_first, plain_second)
print(f"without a head: error {plain_error}; the model is now the second adapter: {swapped}")
sys.exit(not (error is not None and kept and plain_error is None and swapped))
PY
"$place/venv/bin/pip" list 2>/dev/null | grep -E "^(torch|transformers|peft) "
HF_HUB_OFFLINE=1 "$place/venv/bin/python" -W ignore "$place/swap.py" "$place" 2>/dev/null
