"""Files that must not be published, or without which what is published cannot be loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open

from model_cards.refusals.texts import problems_of_text

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
    for path in sorted(staged.rglob("*")):
        if not path.is_file():
            continue
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
    return [f"{name}: {problem}" for problem in problems_of_text(json.dumps(metadata))]


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
            for repository in target if isinstance(target, list) else [target]:
                if repository and "--" not in repository:
                    yield repository.split(".")[0]
        for value in values.values():
            yield from _auto_map(value)
