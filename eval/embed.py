"""Embeddings of films or texts with their ids, as one Parquet file.

    python -m eval.embed --model runs/demo/model --films DIR --out films.parquet
    python -m eval.embed --model runs/demo/model --texts reports.csv --out texts.parquet
    accelerate launch -m eval.embed ...

One row a film (`id`, `path`, `embedding`) or text (`id`, `embedding`), of unit length, in the type of `--store`. The
metadata name the model by the hash of its weights; a file is not continued with another model or other films. Films
that cannot be read are listed in `films.skipped.jsonl`. Nearest neighbours in such a file: `eval.nearest`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from data_scripts.reading.encodings import decode_text
from data_scripts.reading.tables import read_table, require_columns
from data_scripts.schema import DataError, Skipped
from eval.features import embed_texts
from eval.films.commands import FilmTableArguments, describe_model, run_command
from eval.films.files import FilmRules, Films, film_outputs, ids_of
from eval.films.parts import PartedTable
from eval.models.encoders import EvaluationModel
from eval.settings import PROBE_FEATURES

FILMS, TEXTS = "embeddings of films", "embeddings of texts"
_STORED = {"fp32": pa.float32(), "fp16": pa.float16()}


@dataclass
class EmbedArguments(FilmTableArguments):
    """Arguments of `eval.embed`."""

    texts: str | None = field(
        default=None,
        metadata={"help": "Table with the column text, optionally id, or a .txt file of one text a line."},
    )
    features: str = field(
        default="embedding",
        metadata={
            "help": "Of films: the embedding that texts are compared with, or the tower's pooled feature.",
            "choices": sorted(PROBE_FEATURES),
        },
    )
    store: str = field(default="fp32", metadata={"help": "Type of the stored numbers.", "choices": sorted(_STORED)})

    def __post_init__(self):
        super().__post_init__()
        if (self.films is None) == (self.texts is None):
            raise ValueError("name either --films or --texts")
        if self.texts is not None and self.features != "embedding":
            raise ValueError("--features are of films: texts have their embedding alone")
        if self.texts is not None and self.rules != FilmRules():
            named = ", ".join(f"--{rule.name}" for rule in fields(FilmRules))
            raise ValueError(f"{named} say how films are read: leave them out with --texts")


def embed(model: EvaluationModel, arguments: EmbedArguments) -> tuple[int, dict[str, int]]:
    """Embed all films or texts and write the table; the number of rows, and of films left out by the cause.

    Raises:
        ValueError: a model without text tower is given texts; a text is blank; see `eval.films.files.Films.of` and
            `eval.films.parts.PartedTable`.
    """
    of_films = arguments.films is not None
    parts = _film_parts(model, arguments) if of_films else _text_parts(model, arguments)
    job = {
        "content": FILMS if of_films else TEXTS,
        "features": arguments.features,
        "store": arguments.store,
        "dimensions": parts.width,
        **describe_model(model, arguments.settings),
        f"{parts.unit}_sha256": parts.digest,
    }
    sizes = arguments.batch_size, arguments.part_size
    skipped = PartedTable(Path(arguments.out), job, parts.count, *sizes, parts.unit).write(
        parts.work, parts.schema, parts.skipped
    )
    return parts.count + len(parts.skipped) - skipped.total(), dict(skipped)


@dataclass(frozen=True)
class _Parts:
    """What `PartedTable` is to write: rows asked for, a hash of them, width of the embeddings, and the work."""

    unit: str
    count: int
    digest: str
    width: int
    schema: pa.Schema
    work: object
    skipped: Sequence[Skipped] = ()


def _film_parts(model: EvaluationModel, arguments: EmbedArguments) -> _Parts:
    films, rules, settings = Films.of(Path(arguments.films)), arguments.rules, arguments.settings
    method = PROBE_FEATURES[arguments.features]
    blank = torch.zeros(1, 3, model.image_size, model.image_size)
    width = getattr(model, method)(blank).shape[1]
    schema = pa.schema([("id", pa.string()), ("path", pa.string()), _embedding_field(arguments.store, width)])

    def work(batches) -> Iterator[tuple[pa.Table, list[Skipped]]]:
        for kept, outputs, skipped in film_outputs(model, films, rules, settings, method, batches):
            columns = [film.id for film in kept], [film.path for film in kept]
            yield _table(schema, columns, outputs), skipped

    return _Parts("films", len(films.files), films.digest(rules), width, schema, work, films.skipped)


def _text_parts(model: EvaluationModel, arguments: EmbedArguments) -> _Parts:
    ids, texts = read_texts(Path(arguments.texts))
    width = embed_texts(model, texts[:1]).shape[1]
    schema = pa.schema([("id", pa.string()), _embedding_field(arguments.store, width)])

    def work(batches) -> Iterator[tuple[pa.Table, list[Skipped]]]:
        for rows in batches:
            embeddings = embed_texts(model, [texts[row] for row in rows], len(rows))
            if not embeddings.isfinite().all():
                raise ValueError(
                    f"{arguments.texts}: embeddings of rows {rows.start + 1} to {rows.stop} are not finite"
                )
            yield _table(schema, ([ids[row] for row in rows],), embeddings), []

    digest = hashlib.sha256(repr(list(zip(ids, texts, strict=True))).encode()).hexdigest()
    return _Parts("texts", len(texts), digest, width, schema, work)


def read_texts(source: Path) -> tuple[list[str], list[str]]:
    """Ids and texts of a table, or of a .txt file with one text a line, whose ids are the numbers of the lines.

    Raises:
        DataError: there is no such file, no text, or a blank one, its encoding is not known (`decode_text`); ids of a
            table are missing or there twice.
    """
    if source.suffix.lower() == ".txt":
        if not source.is_file():
            raise DataError(f"{source}: there is no such file")
        lines = _lines(decode_text(source.read_bytes(), str(source)))
        blank = next((number for number, line in enumerate(lines, start=1) if not line), None)
        if blank is not None or not lines:
            raise DataError(f"{source} line {blank or 1} is blank: write one text a line")
        return [str(number) for number in range(1, len(lines) + 1)], lines
    table = read_table(source)
    require_columns(table, ["text"], source)
    if not len(table):
        raise DataError(f"{source}: there are no texts")
    if "id" not in table.columns:
        table["id"] = [str(number) for number in range(1, len(table) + 1)]
    return ids_of(table, "text", source), table["text"].tolist()


def _lines(text: str) -> list[str]:
    """The lines of a text without white space around them. A page break is none, nor is what else Python parts by."""
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    return lines if lines[-1] else lines[:-1]


def _embedding_field(store: str, width: int) -> pa.Field:
    return pa.field("embedding", pa.list_(_STORED[store], width))


def _table(schema: pa.Schema, columns: Sequence[list[str]], embeddings: Tensor) -> pa.Table:
    kind = schema.field("embedding").type
    rows = len(columns[0])
    values = embeddings.numpy() if rows else np.zeros((0, kind.list_size), np.float32)
    flat = pa.array(values.ravel().astype(kind.value_type.to_pandas_dtype()), kind.value_type)
    arrays = [pa.array(column, pa.string()) for column in columns]
    return pa.Table.from_arrays([*arrays, pa.FixedSizeListArray.from_arrays(flat, type=kind)], schema=schema)


def main(arguments: list[str] | None = None) -> None:
    run_command(EmbedArguments, embed, arguments)


if __name__ == "__main__":
    main()
