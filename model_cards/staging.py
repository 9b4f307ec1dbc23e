"""What is published of a run or dataset: a folder built from a list of what may go, never by leaving things out."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from model_cards.results import publishable
from model_cards.runs import FinishedRun

#: Files beside the weights of a model or adapter: configuration, processor, tokenizer, modelling code, thresholds.
_BESIDE = (
    r"config\.json|generation_config\.json|(pre)?processor_config\.json|tokenizer\.json|tokenizer_config\.json"
    r"|special_tokens_map\.json|added_tokens\.json|vocab\.(txt|json)|merges\.txt|tokenizer\.model|chat_template\.jinja"
    r"|\w+_chexficient(_\w+)?\.py|operating_points\.json"
)
ALLOWED = {
    "model": re.compile(rf"({_BESIDE}|model(-\d{{5}}-of-\d{{5}})?\.safetensors|model\.safetensors\.index\.json)$"),
    "adapter": re.compile(rf"({_BESIDE}|adapter_config\.json|adapter_model\.safetensors|chexficient_adapter\.json)$"),
    "dataset": re.compile(r"(train|validation|test)-\d{5}-of-\d{5}\.parquet$"),
}
#: What is too large to be copied: linked into the staged folder instead.
_LINKED = (".safetensors", ".parquet")


@dataclass
class Staged:
    """A folder ready to be pushed.

    Args:
        folder: what goes to the Hub, in full.
        left_out: names of files that were there and are not published.
        notes: what somebody who publishes should know.
    """

    folder: Path
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def files(self) -> dict[str, int]:
        """Path within the repository -> bytes."""
        paths = (path for path in sorted(self.folder.rglob("*")) if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in paths}


def stage_files(source: Path, staged: Staged, kind: str, below: str = ".") -> None:
    """Take what may go from the top of `source`; `kind` is a key of `ALLOWED`."""
    target = staged.folder / below
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if not path.is_file() or not ALLOWED[kind].match(path.name):
            if path.name != "README.md":
                staged.left_out.append(f"{source.name}/{path.name}")
        elif path.suffix in _LINKED:
            (target / path.name).symlink_to(path.resolve())
        elif path.name.endswith("config.json"):
            content = _without_absent_processor(without_own_paths(json.loads(path.read_text())), source)
            (target / path.name).write_text(json.dumps(content, indent=2) + "\n")
        else:
            shutil.copyfile(path, target / path.name)


def without_own_paths(config):
    """A configuration without the folders it was loaded from, which loading does not need."""
    if isinstance(config, dict):
        return {
            key: without_own_paths(value)
            for key, value in config.items()
            if key not in ("_name_or_path", "name_or_path") or not value
        }
    return [without_own_paths(entry) for entry in config] if isinstance(config, list) else config


def _without_absent_processor(config, source: Path):
    """A configuration without the entry of a processor whose code is not beside it: an image processor keeps that of
    the processor it was taken from.
    """
    if isinstance(config, list):
        return [_without_absent_processor(entry, source) for entry in config]
    if not isinstance(config, dict):
        return config
    config = {name: _without_absent_processor(value, source) for name, value in config.items()}
    target = (config.get("auto_map") or {}).get("AutoProcessor")
    if target is not None and not (source / f"{target.split('.')[0]}.py").is_file():
        config["auto_map"] = {name: module for name, module in config["auto_map"].items() if name != "AutoProcessor"}
    return config


def stage_results(run: FinishedRun, staged: Staged, repo: str, base_repo: str | None = None) -> None:
    """The results as JSON; films, texts and scores that `eval` keeps beside them stay here."""
    for name, result in run.results.items():
        publishable(result, repo, base_repo).save(staged.folder / "results" / name)
    folder = run.results_dir
    staged.left_out += [f"{folder.name}/{path.name}" for path in sorted(folder.iterdir()) if path.suffix != ".json"]


def stage_base(adapter: Path, staged: Staged, base_repo: str, base_revision: str | None) -> None:
    """Name the base by its repository in the staged configuration of PEFT and in our record of the adapter."""
    file = staged.folder / "adapter_config.json"
    config = json.loads(file.read_text())
    config |= {"base_model_name_or_path": base_repo, "revision": base_revision}
    file.write_text(json.dumps(config, indent=2) + "\n")
    file = staged.folder / "chexficient_adapter.json"
    record = json.loads((adapter / file.name).read_text())
    record["base"] |= {"name": base_repo, "revision": base_revision}
    file.write_text(json.dumps(record, indent=2) + "\n")
