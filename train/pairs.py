"""Image-report pairs of prepared datasets, and the batches made of them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from functools import cached_property

import datasets
import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data_scripts.mixture import Mixture, Part, load_mixture
from data_scripts.schema import DataError
from modeling_chexficient import resize_and_crop, to_eight_bit

#: What a pair needs.
COLUMNS = ("record_id", "image", "report")


def load_split(dataset_dirs: Sequence[str], split: str) -> Dataset:
    """One split of several prepared folders, one after the other (see `load_mixture`)."""
    return load_mixture(Mixture(tuple(Part(folder) for folder in dataset_dirs)), split, COLUMNS)


class PairDataset(torch.utils.data.Dataset):
    """Rows of a prepared dataset as {"row", "record_id", "image", "report"}; the row number is the stable corpus id.

    Images are decoded here, not by `datasets`, so that a damaged one is named.
    """

    def __init__(self, dataset: Dataset):
        columns = dataset.select_columns(list(COLUMNS))
        self.dataset = columns.cast_column("image", datasets.Image(decode=False))

    def __len__(self) -> int:
        return len(self.dataset)

    def record_ids(self, rows: list[int]) -> list[str]:
        return self.dataset.select_columns(["record_id"])[rows]["record_id"]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of ids, reports and some images in their order: rows mean the same pairs where it is equal."""
        digest = hashlib.sha256()
        for batch in self.dataset.select_columns(["record_id", "report"]).with_format("arrow").iter(10_000):
            for column in batch.columns:
                digest.update("\0".join(map(str, column.to_pylist())).encode())
        for pair in self.dataset.select(range(0, len(self), max(1, len(self) // 64))):
            digest.update(pair["image"]["bytes"] or str(pair["image"]["path"]).encode())
        return digest.hexdigest()[:16]

    def __getitem__(self, row: int) -> dict:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: list[int]) -> list[dict]:
        columns = self.dataset[rows]
        names = list(columns)
        pairs = [
            {"row": row, **dict(zip(names, values, strict=True))}
            for row, values in zip(rows, zip(*columns.values(), strict=True), strict=True)
        ]
        for pair in pairs:
            pair["image"] = _decode(pair)
        return pairs


def _decode(pair: dict) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(pair["image"]["bytes"]) if pair["image"]["bytes"] else pair["image"]["path"])
        image.load()
    except (OSError, SyntaxError, ValueError, TypeError) as error:
        raise DataError(
            f"the image of record {pair['record_id']!r} (row {pair['row']}) cannot be decoded ({error}): prepare the "
            "data anew"
        ) from error
    return image


class PairCollator:
    """Makes a batch of pairs.

    Returns a dict with `rows` [B] int64, `lengths` [B] int64 (tokens of each text), `pixel_values`
    [B, 1 or 3, size, size] **uint8** (grey films stay one channel: they are expanded and normalised on the device), and
    the tokenizer's tensors [B, longest text].
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, image_size: int, max_text_length: int, text_multiple: int = 1
    ):
        self.tokenizer = tokenizer
        self.image_size = image_size
        self.max_text_length = max_text_length
        self.text_multiple = text_multiple

    def __call__(self, pairs: list[dict]) -> dict[str, Tensor]:
        for pair in pairs:
            if not (pair["report"] or "").strip():
                raise DataError(f"record {pair['record_id']!r} (row {pair['row']}) has an empty report: leave it out")
        texts = self.tokenizer(
            [pair["report"] for pair in pairs],
            padding=True,
            truncation=True,
            max_length=self.max_text_length,
            pad_to_multiple_of=self.text_multiple,
            return_tensors="pt",
        )
        images = self.pixels([pair["image"] for pair in pairs])
        rows = torch.tensor([pair["row"] for pair in pairs])
        return {"rows": rows, "lengths": texts["attention_mask"].sum(dim=1), "pixel_values": images, **texts}

    def pixels(self, images: list) -> Tensor:
        return film_pixels(images, self.image_size)


def film_pixels(images: Sequence[Image.Image], size: int) -> Tensor:
    """PIL images as uint8 [B, 1, size, size], or [B, 3, size, size] if any has colour."""
    films = [resize_and_crop(to_eight_bit(image), size) for image in images]
    if any(film.mode == "RGB" for film in films):
        return torch.from_numpy(np.stack([np.asarray(film.convert("RGB")) for film in films])).permute(0, 3, 1, 2)
    return torch.from_numpy(np.stack([np.asarray(film) for film in films])).unsqueeze(1)
