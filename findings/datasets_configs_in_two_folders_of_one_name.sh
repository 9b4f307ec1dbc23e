#!/usr/bin/env bash
# `datasets.load_dataset("B/data")` gives the rows of `A/data`, without a word, where both folders have a README with a
# `configs:` block and the file lists look alike: both end up in one place of the cache.
# Why it matters: prepared corpora often lie in folders of one name (`nih/data`, `rsna/data`), each with a card. A model
# is then trained, or evaluated, on another hospital's films than the path says. Without the block both are read right.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "datasets==5.2.0" "pyarrow" "pandas"
cd "$place"
HF_HUB_OFFLINE=1 HF_HOME="$place/home" "$place/venv/bin/python" - <<'PY'
from pathlib import Path

import datasets
import pandas as pd

BLOCK = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*.parquet\n---\n"


def read(root: Path, card: str) -> list[list[int]]:
    for name, value in (("first", 1), ("second", 2)):
        folder = root / name / "data"
        (folder / "data").mkdir(parents=True)
        pd.DataFrame({"film": [value]}).to_parquet(folder / "data" / "train-0.parquet")
        (folder / "README.md").write_text(card)
    return [list(datasets.load_dataset(str(root / name / "data"), split="train")["film"]) for name in ("first", "second")]


print("datasets", datasets.__version__)
plain, configured = read(Path("plain").resolve(), "A card.\n"), read(Path("configured").resolve(), BLOCK)
print("rows of first/data and second/data, no configs block:", plain)
print("rows of first/data and second/data, with the block:  ", configured)
assert plain == [[1], [2]], "the plain folders are not read right any more"
assert configured == [[1], [1]], "mended: the second folder gives its own rows"
PY
