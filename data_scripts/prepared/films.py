"""Films of prepared folders as PyTorch datasets, decoded here and not by `datasets`, so that a damaged one is named."""

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

from data_scripts.prepared.columns import read_column
from data_scripts.prepared.labels import fingerprint as hash_rows
from data_scripts.schema import DataError
from modeling_chexficient import resize_and_crop, to_eight_bit

#: What a pair needs.
COLUMNS = ("record_id", "image", "report")


class PairDataset(torch.utils.data.Dataset):
    """Rows of a prepared dataset as {"row", "record_id", "image", "report"}; the row number is the stable corpus id.

    Args:
        dataset: a whole split.
        extra: further columns that its rows are to have.
    """

    def __init__(self, dataset: Dataset, extra: Sequence[str] = ()):
        self.extra = tuple(extra)
        columns = dataset.select_columns([*COLUMNS, *extra])
        self.dataset = columns.cast_column("image", datasets.Image(decode=False))

    def __len__(self) -> int:
        return len(self.dataset)

    def record_ids(self, rows: list[int]) -> list[str]:
        return read_column(self.dataset, "record_id", rows)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of ids, reports and some images in their order: rows mean the same pairs where it is equal."""
        digest = hashlib.sha256()
        for batch in self.dataset.select_columns(["record_id", "report"]).with_format("arrow").iter(10_000):
            for column in batch.columns:
                digest.update("\0".join(map(str, column.to_pylist())).encode())
        for pair in self.dataset.select(range(0, len(self), max(1, len(self) // 64))):
            digest.update(_stored(pair["image"]))
        return digest.hexdigest()[:16]

    @cached_property
    def training_fingerprint(self) -> str:
        """As `fingerprint`, with the further columns that are learnt from: a run that goes on must see the same."""
        if not self.extra:
            return self.fingerprint
        return hashlib.sha256(f"{self.fingerprint} {_hash_values(self.dataset, self.extra)}".encode()).hexdigest()[:16]

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
            pair["image"] = decode(pair["image"], f"the image of record {pair['record_id']!r} (row {pair['row']})")
        return pairs


def film_pixels(images: Sequence[Image.Image], size: int) -> Tensor:
    """PIL images as uint8 [B, 1, size, size], or [B, 3, size, size] if any has colour."""
    films = [resize_and_crop(to_eight_bit(image), size) for image in images]
    if any(film.mode == "RGB" for film in films):
        return torch.from_numpy(np.stack([np.asarray(film.convert("RGB")) for film in films])).permute(0, 3, 1, 2)
    return torch.from_numpy(np.stack([np.asarray(film) for film in films])).unsqueeze(1)


class FilmDataset(torch.utils.data.Dataset):
    """Rows of a split as dicts of the columns asked for, and `row`, the row's number in the split.

    Args:
        dataset: a whole split.
        rows: the rows of it that are in this dataset.
        columns: of `image`, `masks` and `labels` those that are needed.
    """

    def __init__(self, dataset: Dataset, rows: Sequence[int], columns: Sequence[str]):
        kept = dataset.select_columns(list(columns))
        if "image" in columns:
            kept = kept.cast_column("image", datasets.Image(decode=False))
        if "masks" in columns:
            undecoded = datasets.List({"name": datasets.Value("string"), "image": datasets.Image(decode=False)})
            kept = kept.cast_column("masks", undecoded)
        self.dataset, self.rows = kept, np.asarray(rows, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> dict:
        row = int(self.rows[position])
        film = self.dataset[row]
        if "image" in film:
            film["image"] = decode(film["image"], f"the film of row {row}")
        for mask in film.get("masks") or ():
            mask["image"] = decode(mask["image"], f"the mask {mask['name']!r} of row {row}")
        return film | {"row": row}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the rows, their labels and texts, and some of their films: a run that goes on must see the same."""
        digest = hashlib.sha256(self.rows.tobytes())
        digest.update(_hash_values(self.dataset.select(self.rows), self.dataset.column_names).encode())
        for position in range(0, len(self), max(1, len(self) // 64)):
            film = self.dataset[int(self.rows[position])]
            if "image" in film:
                digest.update(_stored(film["image"]))
            for mask in film.get("masks") or ():
                digest.update(mask["name"].encode() + _stored(mask["image"]))
        return digest.hexdigest()[:16]


def _hash_values(dataset: Dataset, columns: Sequence[str]) -> str:
    """Hash of the columns that hold no images, row by row; "" where there are none."""
    names = [name for name in columns if name not in ("image", "masks")]
    return hash_rows(dataset, names) if names else ""


def _stored(image: dict) -> bytes:
    """What an undecoded image is told by: its file's bytes, or its path where it is kept outside."""
    return image["bytes"] or str(image["path"]).encode()


def decode(stored: dict, what: str) -> Image.Image:
    """An image as `datasets` keeps it, undecoded. Raises DataError naming `what` where it cannot be read."""
    try:
        image = Image.open(io.BytesIO(stored["bytes"]) if stored["bytes"] else stored["path"])
        image.load()
    except (OSError, SyntaxError, ValueError, TypeError) as error:
        raise DataError(f"{what} cannot be decoded ({error}): prepare the data anew, or leave it out") from error
    return image
