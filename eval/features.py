"""Embeddings of a set of images, computed once and shared by all tasks and by all processes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from datasets import Dataset, Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from eval.models import EvaluationModel
from eval.settings import EvaluationSettings


def image_embeddings(model: EvaluationModel, dataset: Dataset, settings: EvaluationSettings) -> Tensor:
    """Embeddings [n, D] of the images of `dataset`, fp32 of unit length, on the CPU.

    With several processes each embeds every so-manieth batch; batches are cut at the same films for any number of
    processes, so the embeddings are the same. All processes must call it, and all get the whole.

    Raises:
        ValueError: the dataset is empty, or embeddings are not finite.
    """
    if len(dataset) == 0:
        raise ValueError("the split is empty: there is nothing to embed")
    state = PartialState()
    path = None if settings.cache is None else settings.cache / f"{_cache_key(model, dataset, settings)}.safetensors"
    if path is not None and path.is_file():
        return load_file(path)["embeddings"]
    embeddings = _embed(model, dataset, settings, state)
    broken = (~embeddings.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if broken:
        raise ValueError(
            f"the embeddings of {len(broken)} films are not finite, the first is row {broken[0]} "
            f"(precision {settings.precision!r})"
        )
    if path is not None and state.is_main_process:
        _save(embeddings, path)
    # Nobody looks for the file before it is there.
    state.wait_for_everyone()
    return embeddings


def embed_texts(model: EvaluationModel, texts: Sequence[str], batch_size: int = 64) -> Tensor:
    """Embeddings [n, D] of texts, fp32 of unit length, on the CPU. Raises ValueError for a model without text tower."""
    return torch.cat([model.embed_texts(texts[i : i + batch_size]).cpu() for i in range(0, len(texts), batch_size)])


def _embed(model: EvaluationModel, dataset: Dataset, settings: EvaluationSettings, state: PartialState) -> Tensor:
    rows = range(len(dataset))
    batches = [rows[start : start + settings.batch_size] for start in rows[:: settings.batch_size]]
    mine = batches[state.process_index :: state.num_processes]
    loader = DataLoader(
        dataset.select_columns(["image"]),
        batch_sampler=mine,
        collate_fn=lambda films: model.pixels([film["image"] for film in films]),
        num_workers=settings.num_workers,
    )
    device, half = model.device, settings.autocast_type(model.device.type)
    whole = None
    progress = tqdm(loader, desc="embedding films", unit=" batches", disable=not state.is_main_process)
    for batch, pixels in zip(mine, progress, strict=True):
        with torch.autocast(device.type, half or torch.bfloat16, enabled=half is not None):
            embedded = model.embed_images(pixels)
        if whole is None:
            whole = torch.zeros(len(dataset), embedded.shape[1], device=device)
        whole[batch.start : batch.stop] = embedded
    if state.num_processes == 1:
        return whole.cpu()
    if whole is None:
        # More processes than batches: this one only learns the width.
        blank = model.embed_images(model.pixels([dataset[0]["image"]]))
        whole = torch.zeros(len(dataset), blank.shape[1], device=device)
    # Every row is of one process and zero in the others: the sum is exact.
    return reduce(whole, "sum").cpu()


def images_fingerprint(dataset: Dataset) -> str:
    """Hash of the stored images in their order, without decoding them (of path, size and time of files outside)."""
    digest = hashlib.blake2b(digest_size=16)
    for row in dataset.select_columns(["image"]).cast_column("image", Image(decode=False)):
        data, path = row["image"]["bytes"], row["image"]["path"]
        if data is None:
            status = Path(path).stat()
            data = f"{path} {status.st_size} {status.st_mtime_ns}".encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def _cache_key(model: EvaluationModel, dataset: Dataset, settings: EvaluationSettings) -> str:
    precision = str(settings.autocast_type(model.device.type) or torch.float32)
    parts = (model.identity, images_fingerprint(dataset), str(model.image_size), precision, str(settings.batch_size))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _save(embeddings: Tensor, path: Path) -> None:
    """Written whole or not at all, so that a run that was stopped leaves no half of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    save_file({"embeddings": embeddings.contiguous()}, unfinished)
    unfinished.replace(path)
