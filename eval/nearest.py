"""Nearest neighbours in a file of `eval.embed`, by cosine, exact.

    python -m eval.nearest films.parquet --id sub/b.jpg --top 10
    python -m eval.nearest films.parquet --film new.dcm
    python -m eval.nearest films.parquet --text "large right pleural effusion"

Prints rank, cosine, id and path, separated by tabs. A film or text is embedded by the model that the file names (or
`--model`, which must hold the same weights).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor
from transformers import HfArgumentParser

from data_scripts.command_line import command_name
from data_scripts.progress import quiet_libraries
from data_scripts.schema import Skipped
from eval.films.files import FilmFile, FilmPixels, FilmRules, Films
from eval.films.parts import read_job
from eval.models.load import load_evaluation_model
from eval.provenance import processor_sha256
from eval.settings import PROBE_FEATURES

#: Rows that are compared at a time.
_BLOCK = 65_536


@dataclass
class NearestArguments:
    """Arguments of `eval.nearest`, beside the file."""

    id: str | None = field(default=None, metadata={"help": "A row of the file, which is not its own neighbour."})
    film: str | None = field(default=None, metadata={"help": "A film file."})
    text: str | None = field(default=None, metadata={"help": "A text."})
    top: int = field(default=10, metadata={"help": "Neighbours to give."})
    model: str | None = field(default=None, metadata={"help": "Where the model is, if it was moved."})
    base: str | None = field(default=None, metadata={"help": "Place of an adapter's base, if it was moved."})

    def __post_init__(self):
        if [self.id, self.film, self.text].count(None) != 2:
            raise ValueError("give one of --id, --film and --text")
        if self.top < 1:
            raise ValueError(f"--top is {self.top}, it must be at least 1")


class Neighbour(NamedTuple):
    """A row of the file: its cosine with the query, its id, and the path of a film ("" of a text)."""

    cosine: float
    id: str
    path: str


def nearest(file: Path, query: Tensor, top: int, block: int = _BLOCK) -> list[Neighbour]:
    """The `top` rows of highest cosine with `query` [D] of unit length, the highest first; of equal ones the earlier.

    All rows are compared, `block` at a time, in fp32.

    Raises:
        ValueError: the file is none of `eval.embed`, or the query has another width.
    """
    width = _job(file)["dimensions"]
    if query.shape != (width,):
        raise ValueError(f"{file} has embeddings of {width} numbers, the query has {tuple(query.shape)}")
    best: list[Neighbour] = []
    for batch in pq.ParquetFile(file).iter_batches(block):
        cosines = _embeddings(batch) @ query.numpy().astype(np.float32)
        ids = batch.column("id")
        paths = batch.column("path") if "path" in batch.schema.names else None
        # Stable, so that earlier rows win; negated, since a reversed order would turn ties round.
        for row in np.argsort(-cosines, kind="stable")[:top].tolist():
            path = "" if paths is None else paths[row].as_py()
            best.append(Neighbour(float(cosines[row]), ids[row].as_py(), path))
        best = sorted(best, key=lambda neighbour: -neighbour.cosine)[:top]
    return best


def embedding_of(file: Path, wanted: str) -> Tensor:
    """The embedding [D] fp32 of the row with that id. Raises ValueError where there is none."""
    _job(file)
    for batch in pq.ParquetFile(file).iter_batches(_BLOCK):
        ids = batch.column("id").to_pylist()
        if wanted in ids:
            return torch.from_numpy(_embeddings(batch)[ids.index(wanted)].copy())
    raise ValueError(f"{file} has no row of that --id; ids of films in a folder are their paths below it")


def _embeddings(batch) -> np.ndarray:
    column = batch.column("embedding")
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return flat.astype(np.float32, copy=False).reshape(len(column), column.type.list_size)


def _job(file: Path) -> dict:
    job = read_job(file)
    if "dimensions" not in job:
        raise ValueError(f"{file} holds {job.get('content')!r}, no embeddings: make them with eval.embed")
    return job


@torch.no_grad()
def embed_query(file: Path, arguments: NearestArguments) -> Tensor:
    """The embedding [D] of the film or text of the arguments, by the model of the file.

    Raises:
        ValueError: the model is another, the film cannot be read, or the file holds features that no text is near to.
    """
    job = _job(file)
    if arguments.text is not None and job["features"] != "embedding":
        raise ValueError(f"{file} holds features of the tower: texts are compared with embeddings alone")
    model = load_evaluation_model(arguments.model or job["model"], base=arguments.base)
    if (model.identity, processor_sha256(model)) != (job["model_identity"], job["image_processor_sha256"]):
        raise ValueError(f"{model.name} is another model than that of {file} ({job['model']}): name it with --model")
    if arguments.text is not None:
        return model.embed_texts([arguments.text])[0].cpu()
    film = Path(arguments.film)
    if not film.is_file():
        raise ValueError(f"--film {film}: there is no such file")
    files = Films(film.parent, [FilmFile(film.name, film.name)])
    read = FilmPixels(files, FilmRules(), model)[0]
    if isinstance(read, Skipped):
        raise ValueError(f"--film {film} cannot be used: {read.reason}")
    _, pixels = read
    return getattr(model, PROBE_FEATURES[job["features"]])(pixels[None])[0].cpu()


def main(arguments: list[str] | None = None) -> None:
    quiet_libraries()
    usage = "%(prog)s FILE (--id ID | --film FILM | --text TEXT) [--ARGUMENT VALUE ...]"
    parser = HfArgumentParser(NearestArguments, prog=command_name(), usage=usage)
    parser.add_argument("file", type=Path, metavar="FILE", help="Of eval.embed.")
    try:
        given, named = parser.parse_args_into_dataclasses(arguments)
        file = named.file
        if given.id is not None:
            # One more, since the row itself is the nearest.
            found = nearest(file, embedding_of(file, given.id), given.top + 1)
            found = [neighbour for neighbour in found if neighbour.id != given.id][: given.top]
        else:
            found = nearest(file, embed_query(file, given), given.top)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    for rank, one in enumerate(found, start=1):
        print(f"{rank}\t{one.cosine:.4f}\t{one.id}\t{one.path}".rstrip())


if __name__ == "__main__":
    main()
