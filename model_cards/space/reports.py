"""What a Space shows of prepared data: reports to find, reference films to rank among, films to try.

Only of data that anybody may see. No record id, patient or label goes along.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import torch
from datasets import Dataset
from safetensors.torch import save_file
from torch import Tensor

from data_scripts import loaders
from data_scripts.access import may_be_shown
from data_scripts.prepared.folder import load_prepared
from modeling_chexficient import CheXficientModel, CheXficientProcessor

EXAMPLES = 4
_COLUMNS = ("image", "report", "source", "flags")
_BATCH = 32


def load_public(folder: str) -> dict[str, Dataset]:
    """The splits of prepared data, `train` first.

    Raises:
        ValueError: no prepared data, or films and reports that are not known to be open or synthetic.
    """
    splits = load_prepared(folder, _COLUMNS)
    for split in splits.values():
        if not may_be_shown(split, [folder]):
            raise ValueError(
                f"--data {folder}: its reports are not known to be open or synthetic, and a Space shows them: "
                "leave --data out, or give open data as data_scripts.prepare wrote them"
            )
    return splits


def write_reports(
    out: Path,
    splits: dict[str, Dataset],
    model: CheXficientModel,
    processor: CheXficientProcessor,
    reports: int,
    films: int,
) -> dict:
    """Write `reports/` and `examples/` below `out`, and return what describes them for `space.json`.

    Distinct texts are those of the training split; films are of the test (else validation) split, which the model has
    not been trained on, without those that have a known defect.

    Raises:
        ValueError: the data have no report, or fewer than two films.
    """
    train = splits.get("train") or next(iter(splits.values()))
    held_out = splits.get("test") or splits.get("validation") or train
    texts = distinct_texts(train, reports)
    sound = _sound_films(held_out, films + EXAMPLES)
    if not texts or len(sound) < 2:
        raise ValueError(f"--data has {len(texts)} reports and {len(sound)} sound films: at least 1 and 2 are needed")
    examples = min(EXAMPLES, len(sound) - 1)
    reference = sound.skip(examples)
    vectors = {"texts": embed_texts(model, processor, texts), "films": embed_films(model, processor, reference)}
    for name in ("reports", "examples"):
        (out / name).mkdir()
    save_file(
        {name: vector.half().contiguous() for name, vector in vectors.items()}, out / "reports" / "index.safetensors"
    )
    (out / "reports" / "reports.json").write_text(json.dumps(texts, indent=0, ensure_ascii=False))
    for number, film in enumerate(sound.take(examples)["image"], 1):
        film.save(out / "examples" / f"film {number}.png")
    sources = sorted({*train.unique("source"), *held_out.unique("source")})
    return {
        "report_sources": [_describe(source) for source in sources],
        "texts": len(texts),
        "films": len(reference),
        "examples": examples,
    }


def frequent_labels(folder: str, count: int = 14) -> list[str]:
    """Labels with most positive films, by the summary of prepared data."""
    positives = json.loads((Path(folder) / "summary.json").read_text()).get("positives", {})
    return sorted(positives, key=positives.get, reverse=True)[:count]


def distinct_texts(split: Dataset, count: int) -> list[str]:
    """Up to `count` different reports of the split, sampled with a fixed seed."""
    texts = dict.fromkeys(split.shuffle(seed=0)["report"])
    return [text for text in texts if text and text.strip()][:count]


def _sound_films(split: Dataset, count: int) -> Dataset:
    flags = split["flags"]
    rows = [row for row, marks in enumerate(flags) if not marks]
    sound = split.select(rows).shuffle(seed=0)
    return sound.take(min(count, len(sound)))


@torch.no_grad()
def embed_texts(model: CheXficientModel, processor: CheXficientProcessor, texts: list[str]) -> Tensor:
    """[texts, D] of unit length."""
    batches = [texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH)]
    return torch.cat([model(**processor(text=batch)).text_embeds for batch in batches])


@torch.no_grad()
def embed_films(model: CheXficientModel, processor: CheXficientProcessor, films: Dataset) -> Tensor:
    """[films, D] of unit length."""
    batches = (films[start : start + _BATCH]["image"] for start in range(0, len(films), _BATCH))
    return torch.cat([model(**processor(images=batch)).image_embeds for batch in batches])


def _describe(source: str) -> str:
    about = importlib.import_module(f"{loaders.__name__}.{source}").SOURCE
    return f"{about.title} ({about.licence})"
