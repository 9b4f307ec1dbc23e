"""The chosen subset as a product: a list of its records, and a dataset of its own that any trainer can use."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from huggingface_hub import DatasetCard, DatasetCardData
from torch import Tensor

from data_scripts.prepared.columns import read_column
from eval.records.runs import PretrainRun

SUBSET_FILE = "curated_subset.parquet"
_ROWS_PER_FILE = 5000
_CARD = """---
{{ card_data }}
---

# Curated subset: {{ run.kept_pairs }} of {{ run.corpus_pairs }} image-report pairs

Chosen by `{{ run.selection }}` while a model was pretrained (CheXficient, arXiv 2602.22843): asked for
{{ run.keep_share_asked }} of the corpus, reached {{ "%.4f" | format(run.keep_share_reached) }}, seed {{ run.seed }}.

| source | kept pairs |
|---|---:|
{% for source, count in sources.items() -%}
| {{ source }} | {{ count }} |
{% endfor %}
The licences and access rules of these sources hold for this subset too; pass it on only where they allow it.
Training pairs alone: nothing was chosen from validation or test splits.

```python
from datasets import load_dataset

pairs = load_dataset("{{ folder }}", split="train")
```
"""


def save_curated_subset(dataset: Dataset, rows: Tensor, path: Path) -> None:
    """Row numbers (of the training split as loaded) and record ids of the kept pairs."""
    record_ids = read_column(dataset, "record_id", rows)
    table = {"row": pa.array(rows.tolist(), pa.int64()), "record_id": pa.array(record_ids, pa.string())}
    pq.write_table(pa.table(table), path)


def check_target(folder: Path) -> None:
    """Raise ValueError if `folder` holds something that is no dataset of `save_curated_dataset`."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "curation.json").is_file():
        raise ValueError(f"--save_curated_dataset {folder}: the folder holds something else, choose an empty one")


def save_curated_dataset(dataset: Dataset, rows: Tensor, run: PretrainRun, folder: Path) -> None:
    """The kept pairs with all their columns as Parquet, with a card; replaces an earlier one."""
    check_target(folder)
    staged = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(staged, ignore_errors=True)
    (staged / "data").mkdir(parents=True)
    kept = dataset.select(rows.tolist())
    files = -(-len(kept) // _ROWS_PER_FILE)
    for number in range(files):
        part = kept.select(range(number * _ROWS_PER_FILE, min((number + 1) * _ROWS_PER_FILE, len(kept))))
        part.to_parquet(staged / "data" / f"train-{number:05d}-of-{files:05d}.parquet", batch_size=256)
    sources = Counter(read_column(kept, "source")) if "source" in kept.column_names else Counter({"unknown": len(kept)})
    card = DatasetCard.from_template(
        DatasetCardData(task_categories=["zero-shot-image-classification"], tags=["chest-x-ray", "curated"]),
        template_str=_CARD,
        run=run,
        sources=dict(sources.most_common()),
        folder=folder.name,
    )
    card.save(staged / "README.md")
    names = ("selection", "keep_share_asked", "keep_share_reached", "corpus_pairs", "kept_pairs", "seed")
    about = {name: getattr(run, name) for name in (*names, "corpus_fingerprint", "git_commit")}
    (staged / "curation.json").write_text(json.dumps(about, indent=2) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    staged.rename(folder)
