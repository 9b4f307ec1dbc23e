#!/usr/bin/env bash
# A configuration of transformers that was loaded from a Hub repository used to hold the commit that "main" stood for
# (`config._commit_hash`); 5.0 still did, by 5.20 the attribute is gone, with none in its place. `getattr(config,
# "_commit_hash", None)`, as whoever keys a cache by it asks, gives None without a word.
# Why it matters: what is keyed by name and commit (cached embeddings, finished results, pins on a model card) is keyed by the
# name alone from then on, and after a branch has moved the figures of the former weights are taken for those of the new ones.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cat > "$place/commit.py" <<'PY'
import json
import sys
import tempfile
from pathlib import Path

import transformers
from transformers import AutoConfig

# The cache of a repository as huggingface_hub leaves it.
commit, cache = "0123456789abcdef0123456789abcdef01234567", Path(tempfile.mkdtemp(dir=sys.argv[1]))
repository = cache / "models--someone--tower"
(repository / "refs").mkdir(parents=True)
(repository / "refs" / "main").write_text(commit)
snapshot = repository / "snapshots" / commit
snapshot.mkdir(parents=True)
(snapshot / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_size": 32}))
config = AutoConfig.from_pretrained("someone/tower", cache_dir=cache, local_files_only=True)
told = getattr(config, "_commit_hash", None)
print(f"transformers {transformers.__version__}: hidden_size {config.hidden_size}, _commit_hash {told}")
sys.exit(told != (commit if sys.argv[2] == "told" else None))
PY
while read -r version expected; do
    python3 -m venv "$place/$version"
    "$place/$version/bin/pip" install --quiet "transformers==$version"
    HF_HUB_OFFLINE=1 "$place/$version/bin/python" "$place/commit.py" "$place" "$expected"
done <<'VERSIONS'
5.0.0 told
5.23.0 gone
VERSIONS
