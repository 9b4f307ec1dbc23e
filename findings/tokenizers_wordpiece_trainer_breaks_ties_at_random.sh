#!/usr/bin/env bash
# The trainer of WordPiece vocabularies in `tokenizers` gives another vocabulary in every process for the same texts:
# pairs that are equally frequent are merged in an order that changes from run to run, and there is no seed to set.
# Why it matters: a text tower trained from scratch on reports needs one vocabulary on all processes of a run, and the same
# one when the run is repeated. Ids that mean other words on another process train a wrong model without an error.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "tokenizers==0.23.3"
cat > "$place/train.py" <<'PY'
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.trainers import WordPieceTrainer

WORDS = """effusion edema pneumothorax cardiomegaly consolidation atelectasis fracture nodule opacity emphysema
fibrosis hernia""".split()
tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
tokenizer.pre_tokenizer = Whitespace()
trainer = WordPieceTrainer(vocab_size=60, special_tokens=["[UNK]"], show_progress=False)
tokenizer.train_from_iterator([word for word in WORDS for _ in range(3)], trainer)
print(sorted(tokenizer.get_vocab()))
PY
"$place/venv/bin/pip" list 2>/dev/null | grep "^tokenizers"
for run in $(seq 12); do
    "$place/venv/bin/python" "$place/train.py" | md5sum
done | sort | uniq -c | tee "$place/vocabularies"
kinds=$(wc -l < "$place/vocabularies")
echo "12 runs on the same texts gave $kinds vocabularies"
test "$kinds" -gt 1
