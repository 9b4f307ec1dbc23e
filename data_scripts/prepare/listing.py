"""What will be prepared: the usable records of a corpus, as JSON lines in one list for each Parquet file to be."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from data_scripts.extraction import report_labels, report_text
from data_scripts.loaders import load_loader
from data_scripts.prepare.arguments import PrepareArguments
from data_scripts.prepare.priors import drop_priors
from data_scripts.prepare.shards import SHOWN_PROBLEMS, describe_problems
from data_scripts.progress import progress
from data_scripts.reading.film_lists import assign_counts, assign_listed
from data_scripts.schema import SPLITS, DataError, Record, Skipped, check_record, is_file, within

#: Bump when the same raw data would give other rows.
VERSION = 6
#: Bytes that a pixel of a film takes in the Parquet file, as measured (see `images.encode_film`), to size the files.
_BYTES_PER_PIXEL = 0.43
#: Where films keep their size: bytes in the Parquet file for a byte of the raw file. JPEG grows, 16 bits shrink.
_GROWTH = {".jpg": 4.0, ".jpeg": 4.0, ".dcm": 0.4, ".dicom": 0.4}
#: Pixels of a film that is rendered or decoded by its loader, where nothing better is known.
_USUAL_PIXELS = 1024**2


def raw_folder(loader_name: str, arguments: PrepareArguments) -> Path:
    """The folder that `--raw` names. Raises DataError where there is none and the loader reads files."""
    if arguments.raw is None and load_loader(loader_name).SOURCE.access != "synthetic":
        raise DataError(f"loader {loader_name!r} reads files: name their folder with --raw")
    raw = Path(arguments.raw or ".")
    if not raw.is_dir():
        raise DataError(f"--raw {raw}: there is no such folder")
    return raw


def split_records(
    loader: ModuleType, raw: Path, options, arguments, priors: Counter | None = None
) -> Iterator[Record | Skipped]:
    """`usable_records` in the splits that the arguments ask for, training reports without comparisons where asked.

    `priors` counts these. Raises DataError where lists or counts do not fit, or are not alone in saying the splits.
    """
    _check_shares(options, arguments)
    outcomes = usable_records(loader, raw, options, arguments)
    if arguments.lists:
        outcomes = assign_listed(outcomes, arguments.lists)
    elif arguments.counts:
        outcomes = assign_counts(outcomes, arguments.counts, getattr(options, "split_seed", 0))
    if arguments.drop_priors:
        return drop_priors(outcomes, arguments.allow_empty_reports, Counter() if priors is None else priors)
    return outcomes


def _check_shares(options, arguments) -> None:
    """Raise DataError for shares of the splits that lists or counts take the place of."""
    replaced = {"validation_share"} if arguments.counts else set()
    if arguments.lists or "test" in arguments.counts:
        replaced |= {"validation_share", "test_share"}
    defaults = {option.name: option.default for option in dataclasses.fields(options) if option.name in replaced}
    idle = sorted(name for name, default in defaults.items() if getattr(options, name) != default)
    if idle:
        given = "split_lists" if arguments.lists else "split_counts"
        raise DataError(f"{' and '.join(idle)} would do nothing beside {given}: leave one of them out")


def usable_records(loader: ModuleType, raw: Path, options, arguments) -> Iterator[Record | Skipped]:
    """The loader's records, the first `arguments.limit` where given; what breaks the schema, has no text where text is
    needed, or repeats an id comes as `Skipped`.
    """
    text_optional = arguments.allow_empty_reports or getattr(loader, "TEXT_OPTIONAL", False)
    if hasattr(options, "text_optional"):
        options.text_optional = arguments.allow_empty_reports
    films_alone = arguments.allow_empty_reports and getattr(options, "films_alone", False)
    seen = set()
    for record in loader.read_records(raw, options):
        if arguments.limit and len(seen) == arguments.limit:
            return
        if isinstance(record, Skipped):
            yield record
            continue
        try:
            check_record(record)
        except DataError as error:
            yield Skipped(record.record_id, str(error), error.kind)
            continue
        if record.record_id in seen:
            yield Skipped(record.record_id, "duplicate id: an earlier record has it", "duplicate id")
        elif not (record.report or films_alone or (text_optional and (record.labels or record.masks))):
            reason = "there is no report, label or mask" if text_optional else "the report is empty"
            is_known = getattr(loader, "EMPTY_REPORTS_KNOWN", False)
            yield Skipped(record.record_id, reason, "empty report", on_request=is_known)
        else:
            seen.add(record.record_id)
            if arguments.extract_labels and not record.labels and record.language == "en":
                # A text that was made of labels has them already.
                record.labels = report_labels(report_text(record.findings, record.impression))
            yield record


class Patients:
    """Patients of records, and those with records in several splits."""

    def __init__(self):
        self.splits: dict[str, str] = {}
        self.crossing: set[str] = set()

    def add(self, record: Record) -> None:
        if self.splits.setdefault(record.patient_id, record.split) != record.split:
            self.crossing.add(record.patient_id)

    @property
    def counts(self) -> dict[str, int]:
        return {"patients": len(self.splits), "patients_across_splits": len(self.crossing)}


@dataclasses.dataclass(frozen=True)
class Listing:
    """The lists by split, what was skipped, counts of patients, and of sentences of priors (`drop_priors`)."""

    paths: dict[str, list[Path]]
    skipped: list[Skipped]
    patients: dict[str, int]
    priors: dict[str, int]


def list_records(loader: ModuleType, raw: Path, options, arguments, work: Path) -> Listing:
    """Write the lists into `work`.

    Raises:
        DataError: something cannot be used and is not to be skipped, nothing can, or `work` holds another preparation.
    """
    # Of its own for every host that shares the folder.
    staging = work.with_name(f".prepare.listing.{arguments.shard_index}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    digest = hashlib.sha256(json.dumps(_settings(loader, options, arguments), sort_keys=True).encode())
    lists = {split: _Lists(staging, split, raw, arguments) for split in SPLITS}
    skipped = []
    problems = []
    patients = Patients()
    priors: Counter = Counter()
    for record in progress(split_records(loader, raw, options, arguments, priors), desc="listing", unit=" records"):
        if isinstance(record, Skipped):
            skipped.append(record)
            if not (arguments.skip_bad or record.on_request):
                problems.append(record)
                if len(problems) >= SHOWN_PROBLEMS:
                    break
            continue
        line = json.dumps(record, default=vars) + "\n"
        digest.update(line.encode())
        patients.add(record)
        lists[record.split].add(record, line)
    for record_list in lists.values():
        record_list.close()
    if problems:
        raise DataError(describe_problems(problems))
    if patients.crossing and not getattr(options, "allow_crossing_patients", True):
        raise DataError(
            f"{len(patients.crossing):,} patients have films in several splits, so that films are evaluated whose "
            "patients were trained on; mend the split column, or pass --allow_crossing_patients"
        )
    if not any(record_list.count for record_list in lists.values()):
        raise DataError(f"{raw}: no usable record was found; skipped: {dict(Counter(skip.kind for skip in skipped))}")
    _adopt(staging, work, digest.hexdigest())
    paths = {split: record_list.paths(work) for split, record_list in lists.items() if record_list.count}
    return Listing(paths, skipped, patients.counts, dict(priors))


def public_options(options) -> dict[str, Any]:
    """The loader's options as they may be written down: without the values of secret ones."""
    values = dataclasses.asdict(options)
    for name in getattr(options, "SECRET", ()):
        values[name] = values[name] and "(given, not stored)"
    return values


def _settings(loader: ModuleType, options, arguments) -> dict:
    names = ("image_size", "compression", "shard_megabytes", "rows_per_shard", "limit", "allow_empty_reports")
    names += ("extract_labels",)
    # Folders from before this could be chosen go on as they are.
    names += tuple(name for name in ("drop_priors", "reduced_decoding") if getattr(arguments, name))
    return {
        "version": VERSION,
        "loader": loader.__name__,
        "options": public_options(options),
        **{name: getattr(arguments, name) for name in names},
    }


class _Lists:
    """The lists of one split: a new one is begun when the Parquet file would become too large."""

    def __init__(self, folder: Path, split: str, raw: Path, arguments):
        self.folder, self.split, self.raw = folder, split, raw
        self.image_size = arguments.image_size
        self.most_rows = arguments.rows_per_shard or float("inf")
        self.most_bytes = arguments.shard_megabytes * 1e6
        self.count = self.rows = 0
        self.bytes = 0.0
        self.file = None

    def add(self, record: Record, line: str) -> None:
        size = self._estimate(record, line)
        if self.file is None or self.rows >= self.most_rows or self.bytes + size > self.most_bytes:
            self.close()
            self.file = (self.folder / self._name(self.count)).open("w")
            self.count, self.rows, self.bytes = self.count + 1, 0, 0.0
        self.file.write(line)
        self.rows += 1
        self.bytes += size

    def _name(self, number: int) -> str:
        return f"{self.split}-{number:05d}.jsonl"

    def paths(self, folder: Path) -> list[Path]:
        return [folder / self._name(number) for number in range(self.count)]

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def _estimate(self, record: Record, line: str) -> float:
        """Bytes of the row in the Parquet file; nothing is opened for it, and it is the same on every host."""
        pixels = self.image_size**2 or _USUAL_PIXELS
        if self.image_size == 0 and record.image_path is not None:
            path = self.raw / record.image_path
            size = path.stat().st_size if is_file(path) else 0
            return size * _GROWTH.get(path.suffix.lower(), 1.0) + len(line)
        return pixels * _BYTES_PER_PIXEL + len(line)


def _adopt(staging: Path, work: Path, digest: str) -> None:
    """Go on with the earlier lists where they are the same, take the new ones where there are none."""
    (staging / "digest").write_text(digest)
    if not work.exists():
        try:
            staging.rename(work)
            return
        except OSError:
            # Another host has just put the same there.
            if not work.exists():
                raise
    identity = work / "digest"
    if not identity.is_file() or identity.read_text() != digest:
        shutil.rmtree(staging)
        raise DataError(
            f"{work.parent} holds a dataset prepared from other data or with other arguments: choose another --out, "
            "or delete it first"
        )
    for path in staging.glob("*.jsonl"):
        # Lists are deleted where ids are hashed.
        if not (work / path.name).exists():
            path.rename(work / path.name)
    shutil.rmtree(staging)


def show_first(loader: ModuleType, raw: Path, options, arguments, count: int = 5) -> str:
    """What a preparation would read, as text: the first records without ids and without their text, and all counts."""
    records = []
    counts = Counter()
    skipped = []
    patients = Patients()
    for record in split_records(loader, raw, options, arguments):
        if isinstance(record, Skipped):
            skipped.append(record)
            continue
        missing = _missing_file(raw, record)
        if missing:
            skipped.append(missing)
            continue
        patients.add(record)
        counts[record.split] += 1
        if len(records) < count:
            records.append(record)
    lines = [f"record {number}: {_describe(record)}" for number, record in enumerate(records, start=1)]
    lines.append(f"usable: {sum(counts.values()):,} {dict(counts)}; would be skipped: {len(skipped):,}")
    lines.append(
        "patients: {patients:,}, of which {patients_across_splits:,} are in several splits".format(**patients.counts)
    )
    lines += [f"  warning: {note}" for note in getattr(options, "notes", ())]
    for kind, number in Counter(skip.kind for skip in skipped).most_common():
        examples = itertools.islice((skip for skip in skipped if skip.kind == kind), SHOWN_PROBLEMS)
        lines += [f"  {number:,}: {kind}", *(f"    {skip.key}: {skip.reason}" for skip in examples)]
    return "\n".join(lines)


def _missing_file(raw: Path, record: Record) -> Skipped | None:
    """Why the record cannot be used, if a file that it names is not there; nothing is opened."""
    for path in record.files:
        try:
            if not is_file(within(raw, path)):
                raise DataError(f"{path} is missing", "image file missing")
        except DataError as error:
            return Skipped(record.record_id, str(error), error.kind)
    return None


def _describe(record: Record) -> str:
    """No id, no path (names of files may hold one) and no sentence: what shows whether columns are mapped well."""
    labels = ", ".join(f"{label.name}={label.value}" for label in record.labels) or "none"
    file = Path(record.image_path).suffix if record.image_path else "made by the loader"
    words = {name: len(getattr(record, name).split()) for name in ("findings", "impression")}
    return (
        f"{record.split}, view {record.view}, image {file}, findings {words['findings']} words, "
        f"impression {words['impression']} words, text by {record.report_origin} ({record.language}), labels {labels}, "
        f"masks {', '.join(record.masks) or 'none'}, sex {record.sex}, age {record.age_years}"
    )
