"""What a model makes of a set of images, computed once and shared by all tasks and by all processes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import gather_object, reduce
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader

from data_scripts.progress import progress
from eval.models.encoders import EvaluationModel
from eval.processes import together
from eval.provenance import processor_sha256
from eval.settings import EvaluationSettings

#: Films whose stored bytes are in memory at once.
_HASHED_AT_ONCE = 1_000


def image_embeddings(
    model: EvaluationModel, dataset: Dataset, settings: EvaluationSettings, method: str = "embed_images"
) -> Tensor:
    """Embeddings [n, D] of the images of `dataset`, fp32, on the CPU.

    With n processes each embeds every n-th batch; batches are cut at the same films for any number of
    processes, so the embeddings are the same. All processes must call it, and all get all embeddings.

    Args:
        method: of the model, from pixels to [B, D]: "embed_images" and "tower_features" give unit length,
            "predict_labels" the logits of a trained head.

    Raises:
        ValueError: the dataset is empty, a film cannot be read, or embeddings are not finite.
    """
    if len(dataset) == 0:
        raise ValueError("the split is empty: there is nothing to embed")
    state = PartialState()
    path = None
    if settings.cache is not None:
        with together():
            path = settings.cache / f"{_cache_key(model, dataset, settings, method)}.safetensors"
    # One process may see a file that another has just written: all must take the same way.
    if path is not None and all(gather_object([path.is_file()])):
        return load_file(path)["embeddings"]
    embeddings = _embed(model, dataset, settings, state, method)
    broken = (~embeddings.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if broken:
        raise ValueError(
            f"the embeddings of {len(broken)} films are not finite, the first is row {broken[0]} "
            f"(precision {settings.precision!r})"
        )
    if path is not None and state.is_main_process:
        _save(embeddings, path)
    # A barrier: no process looks for the file before it is written.
    state.wait_for_everyone()
    return embeddings


def embed_texts(model: EvaluationModel, texts: Sequence[str], batch_size: int = 64) -> Tensor:
    """Embeddings [n, D] of texts, fp32 of unit length, on the CPU. Raises ValueError for a model without text tower."""
    return torch.cat([model.embed_texts(texts[i : i + batch_size]).cpu() for i in range(0, len(texts), batch_size)])


def _embed(
    model: EvaluationModel, dataset: Dataset, settings: EvaluationSettings, state: PartialState, method: str
) -> Tensor:
    rows = range(len(dataset))
    batches = [rows[start : start + settings.batch_size] for start in rows[:: settings.batch_size]]
    with together():
        embedded = _embed_batches(model, dataset, settings, batches[state.process_index :: state.num_processes], method)
        # More processes than batches: this one only learns the width.
        width = next((part.shape[1] for _, part in embedded), None)
        width = width or getattr(model, method)(model.pixels([dataset[0]["image"]])).shape[1]
    whole = torch.zeros(len(dataset), width, device=model.device)
    for batch, part in embedded:
        whole[batch.start : batch.stop] = part
    # Every row is of one process and zero in the others: the sum is exact.
    return (whole if state.num_processes == 1 else reduce(whole, "sum")).cpu()


def _embed_batches(
    model: EvaluationModel, dataset: Dataset, settings: EvaluationSettings, batches: Sequence[range], method: str
) -> list[tuple[range, Tensor]]:
    """The rows of these batches and their embeddings, on the model's device."""
    loader = DataLoader(
        dataset.select_columns(["image"]),
        batch_sampler=batches,
        collate_fn=lambda films: model.pixels([film["image"] for film in films]),
        num_workers=settings.num_workers,
    )
    embed, half = getattr(model, method), settings.autocast_type(model.device.type)
    embedded = []
    bar = progress(loader, desc="embedding films", unit=" batches", disable=not PartialState().is_main_process)
    for batch, pixels in zip(batches, bar, strict=True):
        with torch.autocast(model.device.type, half or torch.bfloat16, enabled=half is not None):
            embedded.append((batch, embed(pixels).float()))
    return embedded


def images_fingerprint(dataset: Dataset) -> str:
    """Hash of the stored images in their order, without decoding them (of path, size and time of files outside)."""
    digest = hashlib.blake2b(digest_size=16)
    # As Arrow has them: a row of Python objects for every film takes longer than the hash.
    for table in dataset.select_columns(["image"]).with_format("arrow").iter(_HASHED_AT_ONCE):
        images = table["image"].combine_chunks()
        for stored, path in zip(images.field("bytes"), images.field("path"), strict=True):
            data = stored.as_buffer()
            if data is None:
                status = Path(path.as_py()).stat()
                data = f"{path} {status.st_size} {status.st_mtime_ns}".encode()
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
    return digest.hexdigest()


def _cache_key(model: EvaluationModel, dataset: Dataset, settings: EvaluationSettings, method: str) -> str:
    precision = str(settings.autocast_type(model.device.type) or torch.float32)
    batch_size = str(settings.batch_size)
    parts = (
        model.identity,
        method,
        images_fingerprint(dataset),
        f"{model.image_size} {processor_sha256(model)}",
        precision,
        batch_size,
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _save(embeddings: Tensor, path: Path) -> None:
    """Written atomically, so that a run that was stopped leaves no half of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    save_file({"embeddings": embeddings.contiguous()}, unfinished)
    unfinished.replace(path)
