"""Films in anybody's folder or table, read with the rules of `data_scripts.prepare` and given to a model in batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from data_scripts.films.images import open_image, prepare_film
from data_scripts.own_files.films import check_chest, check_intent, find_films, read_film
from data_scripts.own_files.options import Options
from data_scripts.reading.blanks import cell
from data_scripts.reading.tables import is_table, mend_ids, read_table, require_columns
from data_scripts.schema import DataError, Skipped
from eval.models.encoders import EvaluationModel
from eval.settings import EvaluationSettings
from modeling_chexficient import CheXficientImageProcessor, check_film, to_eight_bit

#: Columns of a table that say whose films they are; the second is read beside the first alone.
_OWNERS = ("study", "patient")


@dataclass(frozen=True)
class FilmFile:
    """A film by its id and its path, relative to the folder or the table that names it, and its study and patient, if
    told.

    `reasons` are the kinds of reasons against it by the input check; none where it was not asked.
    """

    id: str
    path: str
    study: str | None = None
    patient: str | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class FilmRules:
    """Which DICOM films are taken, and how films are read; arguments and defaults as of `data_scripts.prepare`."""

    modalities: tuple[str, ...] = tuple(Options().modalities)
    any_body_part: bool = False
    for_processing: bool = False
    multi_frame: str | None = None
    reduced_decoding: bool = False


@dataclass(frozen=True)
class Films:
    """The films of a folder, whose ids are their paths, or of a table; or a single one.

    Attributes:
        root: what paths are relative to: the folder, or that of the table or the film.
        files: the films, sorted by path in a folder, as listed in a table.
        skipped: files of a folder that are no films.
    """

    root: Path
    files: list[FilmFile]
    skipped: list[Skipped] = field(default_factory=list)

    @classmethod
    def of(cls, source: Path) -> Films:
        """The films of a folder or table, or a single one, whose id is its name.

        Raises:
            DataError: there is no such thing, it names no film, a cell is blank, or an id is there twice.
        """
        if not source.exists():
            raise DataError(f"{source}: there is no such folder, film or table")
        if source.is_dir():
            found = [_with_text_path(film, source) for film in find_films(source, "")]
            files = [FilmFile(path, path) for path in found if isinstance(path, str)]
            films = cls(source, files, [film for film in found if isinstance(film, Skipped)])
        elif source.is_file() and not is_table(source):
            films = cls(source.parent, [FilmFile(source.name, source.name)])
        else:
            films = cls(source.parent, _listed(source))
        if not films.files and not films.skipped:
            raise DataError(f"{source}: there are no films")
        return films

    def digest(self, rules: FilmRules) -> str:
        """Hash of ids and paths in their order, sizes and times of the files, and the rules: of equal results."""
        given = asdict(rules)
        if not rules.reduced_decoding:
            # As before there was it: tables that were begun then are gone on with.
            del given["reduced_decoding"]
        digest = hashlib.sha256(repr(sorted(given.items())).encode())
        for film in self.files:
            try:
                status = (self.root / film.path).stat()
                state = f"{status.st_size} {status.st_mtime_ns}"
            except (OSError, ValueError):
                state = "missing"
            digest.update(f"\n{film.id}\0{film.path}\0{state}".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def _with_text_path(found: str | Skipped, source: Path) -> str | Skipped:
    """What `find_films` found, by a path that a table can hold and whose reason does not say where the folder lies."""
    name = found if isinstance(found, str) else found.key
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(found, Skipped):
        return Skipped(text, found.reason.replace(str(source / name), text), found.kind)
    return text if text == name else Skipped(text, f"{text}: the name is no UTF-8: rename it", "file name not UTF-8")


def _listed(source: Path) -> list[FilmFile]:
    table = read_table(source)
    require_columns(table, ["path"], source)
    ids = ids_of(table, "path", source)
    owners = [_told(table, name, source) if "study" in table.columns else [None] * len(ids) for name in _OWNERS]
    return [FilmFile(one, path.strip(), *owner) for one, path, *owner in zip(ids, table["path"], *owners, strict=True)]


def _told(table: pd.DataFrame, column: str, source: Path) -> Sequence[str | None]:
    """The values of a column, all None where there is none. A study's name need not be unique over patients."""
    if column not in table.columns:
        return [None] * len(table)
    mend_ids(table, [column], source)
    values = table[column].map(cell).tolist()
    if "" in values:
        raise DataError(f"{source} row {values.index('') + 1}: column {column!r} is blank")
    return values


def ids_of(table: pd.DataFrame, otherwise: str, source: Path) -> list[str]:
    """The column `id`, or where there is none the column `otherwise`; rows are named, ids are not: they tell patients.

    Raises:
        DataError: a cell of one of them is blank, or an id is there twice.
    """
    column = "id" if "id" in table.columns else otherwise
    if column == "id":
        mend_ids(table, ["id"], source)
    for name in {column, otherwise}:
        blank = (table[name].map(cell) == "").to_numpy()
        if blank.any():
            raise DataError(f"{source} row {blank.argmax() + 1}: column {name!r} is blank")
    ids, first = [text.strip() for text in table[column]], {}
    for number, one in enumerate(ids, start=1):
        if first.setdefault(one, number) != number:
            raise DataError(f"{source}: rows {first[one]} and {number} have the same {column}: each needs its own")
    return ids


class FilmPixels(torch.utils.data.Dataset):
    """Each film with what the model sees of it, [3, S, S] fp32, or why it cannot be read (`Skipped`, by its path).

    Raises ValueError for reduced decoding where the size of what the model sees of a film is not known.
    """

    def __init__(self, films: Films, rules: FilmRules, model: EvaluationModel, check_input: bool = False):
        self.films, self.rules, self.model, self.check_input = films, rules, model, check_input
        # Prepared films have that size; other processors cut theirs in ways of their own.
        self.size = model.image_size if isinstance(model.image_processor, CheXficientImageProcessor) else None
        if rules.reduced_decoding and self.size is None:
            raise ValueError(
                f"{model.name} has a {type(model.image_processor).__name__}, which cuts films in a way of its own: "
                "leave out --reduced_decoding"
            )

    def __len__(self) -> int:
        return len(self.films.files)

    def __getitem__(self, row: int) -> tuple[FilmFile, Tensor] | Skipped:
        file = self.films.files[row]
        image = open_film(self.films.root, file.path, self.rules, self.size if self.rules.reduced_decoding else None)
        if isinstance(image, Skipped):
            return image
        try:
            if self.check_input:
                file = replace(file, reasons=tuple(reason.kind for reason in check_film(image)))
            return file, self.model.pixels([prepare_film(image, self.size)])[0]
        except (ValueError, OSError) as error:
            return _left_out(self.films.root, file.path, error)


def open_film(root: Path, path: str, rules: FilmRules, reduce_to: int | None = None) -> Image.Image | Skipped:
    """The film of 8 bits at `path` below `root` (`reduce_to` as of `open_image`); or why not."""
    try:
        film = read_film(root, path)
        check_chest(film, list(rules.modalities), rules.any_body_part, rules.multi_frame)
        # The picture stays here, so that text in it gives nobody away.
        check_intent(film, rules.for_processing, burned_in=True)
        return to_eight_bit(open_image(root / path, rules.multi_frame, reduce_to))
    except (ValueError, OSError) as error:
        return _left_out(root, path, error)


def _left_out(root: Path, path: str, error: Exception) -> Skipped:
    kind = error.kind if isinstance(error, DataError) else "image cannot be converted"
    return Skipped(path, str(error).replace(str(root / path), path), kind)


def film_outputs(
    model: EvaluationModel,
    films: Films,
    rules: FilmRules,
    settings: EvaluationSettings,
    method: str,
    batches: list,
    check_input: bool = False,
) -> Iterator[tuple[list[FilmFile], Tensor, list[Skipped]]]:
    """For each batch of rows the films that could be read, what `method` of the model makes of them, and the others.

    Args:
        method: from pixels to [B, D], such as "embed_images"; the outputs are fp32, on the CPU.
        batches: sequences of rows of `films`.
        check_input: whether the films get their `reasons`.
    """
    loader = DataLoader(
        FilmPixels(films, rules, model, check_input),
        batch_sampler=batches,
        collate_fn=list,
        num_workers=settings.num_workers,
    )
    for read in loader:
        there = [film for film in read if not isinstance(film, Skipped)]
        skipped = [film for film in read if isinstance(film, Skipped)]
        outputs = _run(model, [pixels for _, pixels in there], settings, method)
        finite = outputs.isfinite().all(dim=1).tolist()
        kept = [film for (film, _), good in zip(there, finite, strict=True) if good]
        wrong = [film.path for (film, _), good in zip(there, finite, strict=True) if not good]
        reason = f"the model's output is not finite (precision {settings.precision!r})"
        skipped += [Skipped(path, f"{path}: {reason}", "output not finite") for path in wrong]
        yield kept, outputs[finite], skipped


def _run(model: EvaluationModel, pixels: Sequence[Tensor], settings: EvaluationSettings, method: str) -> Tensor:
    if not pixels:
        return torch.zeros(0, 1)
    half = settings.autocast_type(model.device.type)
    with torch.autocast(model.device.type, half or torch.bfloat16, enabled=half is not None):
        return getattr(model, method)(torch.stack(list(pixels))).float().cpu()
