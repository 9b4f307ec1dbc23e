"""What must not be published, found in the files themselves: pure checks, each giving the problems it found."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from data_scripts.access import PUBLIC
from model_cards.corpora import HUB_LICENCES, access_of
from model_cards.datasets import (
    DatasetFolder,
)
from model_cards.publication import Wish
from model_cards.results import load_results

#: Where something else than a model was put into its folder: what it is, and the names it goes by.
_FORBIDDEN = {
    "a pickle, which runs code when it is loaded": re.compile(
        r"(^|/)training_args\.bin$|\.(bin|pt|pth|pkl|pickle|ckpt|joblib|npy|npz|h5)$", re.IGNORECASE
    ),
    "the state of a training": re.compile(r"(^|/)(checkpoint-\d+(/|$)|optimizer|scheduler|trainer_state|rng_state)"),
    "a picture or page, which may show films": re.compile(
        r"\.(png|jpe?g|webp|gif|bmp|tiff?|svg|dcm|dicom|html?|pdf)$", re.IGNORECASE
    ),
    "a table, which may hold reports or ids": re.compile(
        r"\.(parquet|arrow|csv|tsv|jsonl|xlsx?|sqlite)$", re.IGNORECASE
    ),
}
_PICKLE_OR_ARCHIVE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04", b"\x1f\x8b")
_TEXT = (".json", ".md", ".py", ".txt", ".jinja", ".yaml")
#: A path of a machine: below a usual root, in a home folder or on a drive. `//` (of an address) does not count.
_LOCAL_PATH = re.compile(
    r"(?<![\w/.:~-])/(?:home|root|tmp|mnt|media|data|scratch|srv|var|opt|export|net|local|work\w*|users|Users|Volumes"
    r"|private|cluster|projects?|storage|gpfs|lustre|beegfs|ceph\w*|nfs\w*|dbfs|kaggle|content)/[\w.-]+"
    r"|(?<!\w)~/[\w.-]+|(?<![\w/])[A-Z]:\\\\?\w+|file://"
    # A share of Windows, as JSON writes it.
    r"|(?<!\\)\\{4}\w[\w.-]*\\\\\w"
)
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")
#: Names of fields that hold a patient's identity, or text, wherever they stand.
_ID_FIELDS = {
    f"{name}_{ending}"
    for name in ("record", "patient", "study", "subject", "image", "dicom", "series", "hadm")
    for ending in ("id", "ids")
}
_ID_FIELDS |= {"accession_number", "accession", "mrn", "patient_name", "sop_instance_uid"}
_TEXT_FIELDS = {"report", "reports", "impression", "reference", "references", "hypothesis", "generated", "examples"}
#: In words: what stands in a field of text is longer than a description, and elsewhere no label or prompt is so long.
_DESCRIPTION, _LONGEST_TEXT = 12, 80
#: Sentences that `eval` itself writes, which list labels.
_OWN_TEXTS = ("notes",)
_ID_COLUMNS, _TEXT_COLUMNS = ("record_id", "patient_id", "study_id"), ("report", "findings", "impression")


def forbidden_files(folder: Path) -> list[str]:
    """Files anywhere in `folder` (a model's or an adapter's) that have no place in what is published."""
    problems = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix() + ("/" if path.is_dir() else "")
        for what, pattern in _FORBIDDEN.items():
            if pattern.search(relative):
                problems.append(f"{folder.name}/{relative} is {what}: move it out of {folder}")
                break
    return problems


def wrong_content(staged: Path) -> list[str]:
    """Staged files that are not what their name says: pickles and archives under any name, broken safetensors."""
    problems = []
    for path in _files(staged):
        name = path.relative_to(staged).as_posix()
        with path.open("rb") as file:
            start = file.read(4)
        if start.startswith(_PICKLE_OR_ARCHIVE):
            problems.append(f"{name} is a pickle or an archive, whatever its name says: save the model anew")
        elif path.suffix == ".safetensors":
            problems += _broken_safetensors(path, name)
    return problems


def _broken_safetensors(path: Path, name: str) -> list[str]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        return [f"{name} cannot be read ({error}): save the model anew"]
    return [f"{name}: {problem}" for problem in _problems_of_text(json.dumps(metadata))]


def leaks(staged: Path) -> list[str]:
    """Local paths, access tokens, and (in results) fields or texts of patients, in the staged text files."""
    problems = []
    for path in _text_files(staged):
        name, text = path.relative_to(staged).as_posix(), path.read_text(encoding="utf-8", errors="replace")
        problems += [f"{name}: {problem}" for problem in _problems_of_text(text)]
        if name.startswith("results/"):
            problems += [f"{name}: {problem}" for problem in _private_fields(json.loads(text))]
    return problems


def _problems_of_text(text: str) -> Iterator[str]:
    found = _LOCAL_PATH.search(text)
    if found:
        yield f"holds a local path ({found.group()[:60]}...): it tells about your machine and helps nobody"
    if _TOKEN.search(text):
        yield "holds what looks like an access token: revoke it, and remove it there"


def _private_fields(value, name: str = "") -> Iterator[str]:
    """Problems of a value in a result; `name` is that of the field that holds it."""
    if name in _ID_FIELDS and value not in (None, [], {}):
        yield f"field {name} holds an id: take it out of the result"
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _private_fields(one, key)
    elif isinstance(value, list):
        for one in value:
            yield from _private_fields(one, name)
    elif isinstance(value, str) and name not in _OWN_TEXTS:
        words = len(value.split())
        if words > (_DESCRIPTION if name in _TEXT_FIELDS else _LONGEST_TEXT):
            yield f"field {name} holds a text of {words} words, which may be a patient's report: take it out"


def ids_or_reports(staged: Path, tables: list[Path]) -> list[str]:
    """Ids or whole reports of the data (Parquet `tables`) that stand in the staged text files; neither is shown. Short
    numbers are no ids here, since they stand everywhere.
    """
    words, lines = {}, {}
    for path in _text_files(staged):
        name, text = path.relative_to(staged).as_posix(), path.read_text(encoding="utf-8", errors="replace")
        words |= dict.fromkeys(re.findall(r"[^\s\"'`|,;()\[\]{}<>]+", text), name)
        lines |= dict.fromkeys((line.strip(" |>*-\t") for line in re.split(r"\n|\\n|\"", text)), name)
    problems = set()
    for table in tables:
        file = pq.ParquetFile(table)
        columns = [name for name in (*_ID_COLUMNS, *_TEXT_COLUMNS) if name in file.schema_arrow.names]
        for batch in file.iter_batches(columns=columns):
            for column in columns:
                known, what = (words, "an id") if column in _ID_COLUMNS else (lines, "a report")
                for value in set(batch.column(column).to_pylist()) & known.keys():
                    if (column in _TEXT_COLUMNS and len(value.split()) > 3) or _is_telling(value):
                        problems.add(f"{known[value]} holds {what} of the data (column {column}): take it out")
    return sorted(problems)


def _is_telling(value: str) -> bool:
    """Whether a string is an id that does not stand in a text by chance."""
    return len(value) >= 6 and any(letter.isdigit() for letter in value) and (len(value) >= 8 or not value.isdigit())


def missing_code(staged: Path) -> list[str]:
    """Modelling files that the configuration refers to, or that import each other, and that are not there."""
    problems = []
    for file in ("config.json", "processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        if (staged / file).is_file():
            for target in sorted(set(_auto_map(json.loads((staged / file).read_text())))):
                if not (staged / f"{target}.py").is_file():
                    problems.append(f"{file} refers to {target}.py, which is not beside it: save the model anew")
    for path in sorted(staged.glob("*.py")):
        for target in re.findall(r"^\s*from \.(\w+) import", path.read_text(), flags=re.MULTILINE):
            if not (staged / f"{target}.py").is_file():
                problems.append(f"{path.name} imports {target}.py, which is not beside it: save the model anew")
    return problems


def _auto_map(values) -> Iterator[str]:
    """Names of the modules in every `auto_map` of a configuration."""
    if isinstance(values, dict):
        for target in (values.get("auto_map") or {}).values():
            for one in target if isinstance(target, list) else [target]:
                if one and "--" not in one:
                    yield one.split(".")[0]
        for value in values.values():
            yield from _auto_map(value)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _text_files(folder: Path) -> list[Path]:
    return [path for path in _files(folder) if path.suffix in _TEXT]


def forbidden_data(data: DatasetFolder, public: bool, cleared_by: str | None) -> list[str]:
    """Why the terms of its films forbid to publish a dataset."""
    problems = []
    for maker in data.makers:
        if access_of(maker) not in (*PUBLIC, "own"):
            problems.append(
                f"{data.folder} holds films of {maker}, which is {access_of(maker)}: its terms forbid to pass them on; "
                "others prepare them from their own download with `data_scripts.prepare`"
            )
    if "own" in data.accesses:
        problems += _own_data(data, public, cleared_by)
    elif public:
        problems += [
            f"--public: the licence of {one.title} is {one.licence!r}, which does not clearly allow passing on changed "
            "copies: publish without --public"
            for one in data.corpora
            if one.licence not in HUB_LICENCES or "ND" in one.licence
        ]
    return problems


def _own_data(data: DatasetFolder, public: bool, cleared_by: str | None) -> list[str]:
    problems = []
    if public:
        problems.append(f"{data.folder} holds films of your own: these are published in private only, without --public")
    if not (cleared_by or "").strip():
        problems.append(
            f"{data.folder} holds films of your own: name who cleared them for a private repository with "
            '--own_data_cleared_by "NAME, ROLE"'
        )
    if data.summary is None or not data.summary["options"].get("hash_ids"):
        problems.append(
            f"{data.folder}: its ids are names of files or patients: prepare the films again with --hash_ids, and "
            "publish that folder"
        )
    return problems


def changed_shards(data: DatasetFolder) -> list[str]:
    """Shards that are not as they were prepared, and images that name the files they came from."""
    problems = []
    expected = (data.summary or {}).get("sha256") or {}
    if expected and set(expected) != {shard.name for shard in data.shards}:
        problems.append(f"{data.folder}/data holds other files than summary.json lists: prepare the data again")
    for shard in data.shards:
        if shard.name in expected and _sha256(shard) != expected[shard.name]:
            problems.append(f"{shard} was changed after it was prepared (SHA-256): prepare the data again")
        if any(_paths(shard)):
            problems.append(f"{shard}: its images name the files they came from: prepare the data again")
    return problems


def _paths(shard: Path) -> Iterator[str | None]:
    """Names of files that the images and masks of a shard keep."""
    for row in pq.ParquetFile(shard).read(columns=["image.path", "masks.list.element.image.path"]).to_pylist():
        yield (row["image"] or {}).get("path")
        yield from ((mask["image"] or {}).get("path") for mask in row.get("masks") or ())


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


#: Below this many, hospitals commonly do not tell how many patients there were.
FEW_PATIENTS = 10


def _closed_sources(run: dict, weights: Path) -> list[str]:
    """Corpora behind the weights in a folder that are not open to anybody."""
    pretraining = _config(weights).get("pretraining_sources") or []
    return sorted({name for name in [*pretraining, *(run.get("sources") or [])] if access_of(name) not in PUBLIC})


def _config(weights: Path) -> dict:
    """The configuration of a model; an adapter has none."""
    file = weights / "config.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def _public_weights(wish: Wish, run: dict) -> list[str]:
    """Why weights must not be shown to anybody: they can give away what they were trained on."""
    closed = _closed_sources(run, wish.weights_dir)
    if not wish.public or not closed or (wish.own_data_cleared_by or "").strip():
        return []
    return [
        f"--public: trained on data that are not open ({', '.join(closed)}), which weights can give away, those of a "
        'language model above all: publish without --public, or name who allowed it with --own_data_cleared_by "NAME, '
        'ROLE"'
    ]


def _small_groups(run: dict, wish: Wish) -> list[str]:
    """A note where results that go along tell of so few patients of closed data that these may be recognised."""
    if wish.kind == "report_base" or not _closed_sources(run, wish.weights_dir):
        return []
    groups = [group for one in load_results(wish.results_dir).values() for group in one.get("subgroups") or []]
    fewest = min((group["patients"] for group in groups), default=FEW_PATIENTS)
    if fewest >= FEW_PATIENTS:
        return []
    return [f"its results tell of groups of as few as {fewest} patients (subgroups): ask whether that may be told"]
