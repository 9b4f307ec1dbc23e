"""Records made into rows of `FEATURES`, some at a time: the work of one process of `prepare`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pyarrow as pa

import modeling_chexficient  # noqa: F401 (once, before processes are forked)
from data_scripts.features import FEATURES, to_row
from data_scripts.films.images import encode_film, encode_mask, open_image, prepare_film, prepare_mask
from data_scripts.films.masks import decode_masks
from data_scripts.loaders import load_loader
from data_scripts.prepared.fingerprints import difference_hashes, pixel_hash
from data_scripts.schema import TEXT_ALONE, DataError, Record, Skipped, record_from_json, within
from modeling_chexficient.input_check_chexficient import BROKEN, FilmQuality, film_quality


@dataclass(frozen=True)
class Job:
    """How the records of one corpus are made into rows; `image_size` None keeps the size.

    `skip_broken`: films that look broken (`FilmQuality.looks_broken`) are skipped; otherwise they are counted.
    `reduced_decoding`: large films are decoded at a part of their size (`open_image`), but not those with masks, which
    were drawn on the whole.
    """

    loader: str
    options: dict
    raw: str
    image_size: int | None
    compression: str
    skip_broken: bool = False
    reduced_decoding: bool = False


@dataclass
class Rows:
    """Some rows: the columns of `FEATURES`, what to count, fingerprints beside ids, and what could not be used."""

    table: pa.Table
    counts: dict[str, Counter]
    fingerprints: list[dict]
    skipped: list[Skipped] = field(default_factory=list)


def make_rows(job: Job, lines: list[str]) -> Rows:
    """Rows of the records in `lines` (JSON); what cannot be used is skipped with its reason."""
    loader = load_loader(job.loader)
    options = loader.Options(**job.options)
    rows, fingerprints, skipped = [], [], []
    counts = {name: Counter() for name in COUNTED}
    for line in lines:
        record = record_from_json(line)
        try:
            row, fingerprint = _row(loader, options, record, job)
        except (ValueError, OSError) as error:
            kind = error.kind if isinstance(error, DataError) else f"image cannot be converted ({type(error).__name__})"
            skipped.append(Skipped(record.record_id, str(error), kind))
            continue
        rows.append(row)
        fingerprints += [fingerprint] if fingerprint else []
        mode = row["image"].pop("mode") if row["image"] else TEXT_ALONE
        _count(counts, record, mode, row)
    return Rows(pa.Table.from_pylist(rows, schema=FEATURES.arrow_schema), counts, fingerprints, skipped)


def _row(loader: ModuleType, options, record: Record, job: Job) -> tuple[dict, dict | None]:
    """The row and its fingerprint; a text alone has none, and its image is None."""
    raw = Path(job.raw)
    if record.image_path is None and not hasattr(loader, "read_image"):
        return {**to_row(record), "image": None, "masks": [], "quality": None}, None
    if hasattr(loader, "read_image"):
        image, masks = loader.read_image(raw, record, options)
    else:
        reduce_to = job.image_size if job.reduced_decoding and not record.masks else None
        path, frame = within(raw, record.image_path), getattr(options, "multi_frame", None)
        image, masks = open_image(path, frame, reduce_to), {}
    if record.masks and "turned" in image.info:
        raise DataError(
            f"{record.image_path}: PatientOrientation is {image.info['turned']}, so the film is turned, and nothing "
            "tells whether its masks were drawn before or after: leave the masks out, or export the film upright",
            "mask of a turned film",
        )
    masks = masks | decode_masks(record.masks, raw, image.size)
    film = prepare_film(image, job.image_size)
    quality = film_quality(film)
    if job.skip_broken and quality.looks_broken():
        raise DataError(
            f"{record.image_path or record.record_id}: looks broken: {quality.flat_share:.0%} of it are flat, and "
            f"neighbouring pixels correlate by {quality.neighbour_correlation:.2f}",
            BROKEN,
        )
    row = {
        **to_row(record),
        "quality": quality._asdict(),
        # File names may hold ids of patients: the bytes alone are kept.
        "image": {"bytes": encode_film(film, job.compression), "path": None, "mode": film.mode},
        "masks": [
            {"name": name, "image": {"bytes": encode_mask(prepare_mask(mask, job.image_size)), "path": None}}
            for name, mask in masks.items()
        ],
    }
    fingerprint = {name: getattr(record, name) for name in ("record_id", "patient_id", "source", "split")}
    difference, inverted = difference_hashes(film)
    return row, {**fingerprint, "pixels": pixel_hash(film), "difference": difference, "inverted": inverted}


COUNTED = ("modes", "views", "sexes", "flags", "masks", "origins", "broken", "positives", "negatives", "uncertain")
_LABEL_COUNT = {1: "positives", 0: "negatives", -1: "uncertain"}


def _count(counts: dict[str, Counter], record: Record, mode: str, row: dict) -> None:
    counts["modes"][mode] += 1
    counts["views"][record.view] += 1
    counts["sexes"][record.sex or "unknown"] += 1
    counts["flags"].update(record.flags)
    counts["masks"].update(mask["name"] for mask in row["masks"])
    if row["quality"] and FilmQuality(**row["quality"]).looks_broken():
        counts["broken"][BROKEN] += 1
    counts["origins"][record.report_origin if record.report else "none"] += 1
    for label in record.labels:
        counts[_LABEL_COUNT[label.value]][label.name] += 1
