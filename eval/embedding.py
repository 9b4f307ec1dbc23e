"""Embeddings of films and prompts by a model and its processor."""

from __future__ import annotations

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm


@torch.no_grad()
def embed_films(model, processor, dataset: Dataset, batch_size: int = 64) -> Tensor:
    """Image embeddings [films, D] of unit norm, on the CPU in fp32."""

    def collate(rows: list[dict]) -> Tensor:
        return processor(images=[row["image"] for row in rows])["pixel_values"]

    loader = DataLoader(dataset.select_columns(["image"]), batch_size, collate_fn=collate)
    parts = [
        model.get_image_features(pixel_values=pixels.to(model.device, model.dtype)).float().cpu()
        for pixels in tqdm(loader, desc="embedding films", unit=" batches")
    ]
    return torch.cat(parts)


@torch.no_grad()
def embed_texts(model, processor, texts: list[str]) -> Tensor:
    """Text embeddings [texts, D] of unit norm, on the CPU in fp32."""
    tokens = processor(text=texts).to(model.device)
    return model.get_text_features(**tokens).float().cpu()
