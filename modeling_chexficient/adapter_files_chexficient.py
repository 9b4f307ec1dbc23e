"""The files of an adapter: those of PEFT, and `chexficient_adapter.json`, which names the base, the task and the head.

Nothing is taken on trust: a file that is missing, broken, pickled or made for something else is refused by name.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PretrainedConfig

from .base_identity_chexficient import ADAPTER_PARTS, BaseIdentity
from .peft_folders_chexficient import FORMAT_VERSION, RECORD_FILE, find_file, head_arguments, read_fields
from .precision_chexficient import PRECISIONS
from .tasks_chexficient import TASKS_ON_THE_HUB

if TYPE_CHECKING:
    from peft import HiraConfig, LoraConfig, PeftConfig

    AdapterConfig = LoraConfig | HiraConfig

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
# The files that are fetched to load an adapter from the Hub; never a pickle.
ADAPTER_FILES = ("*.json", "*.py", "*.jinja", "*.txt", WEIGHTS_FILE)

# Starts of LoRA's `init_lora_weights` that take a part out of the base's weights.
CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")

# Modules as transformers named them until 5.17 (DINOv2) or 5.9 (ViT), and as it names them since.
OLD_AND_NEW_NAMES = (
    ("attention.attention.query", "attention.q_proj"),
    ("attention.attention.key", "attention.k_proj"),
    ("attention.attention.value", "attention.v_proj"),
    ("attention.output.dense", "attention.o_proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    ("encoder.layer.", "layers."),
)


@dataclass(frozen=True)
class AdapterRecord:
    """What `chexficient_adapter.json` holds.

    Attributes:
        task: one of `TASKS_ON_THE_HUB`.
        base: the model that the adapter was trained on.
        tower_sha256: hash of the vision tower alone (`base_identity_chexficient.tower_sha256`).
        head: fields of the configuration that rebuild the head; empty for report generation.
        base_precision: what the base was held in when the adapter was trained, one of `PRECISIONS`.
    """

    task: str
    base: BaseIdentity
    tower_sha256: str
    head: dict
    format_version: int = FORMAT_VERSION
    base_precision: str = "fp32"

    @property
    def head_arguments(self) -> dict:
        """`head` as arguments of the configuration."""
        return head_arguments(self.head)

    def save(self, directory: Path) -> None:
        fields = asdict(self)
        if self.base_precision == "fp32":
            # As before there were others: earlier versions of this package read it.
            del fields["base_precision"]
        (directory / RECORD_FILE).write_text(json.dumps(fields, indent=2) + "\n")


def head_fields(task: str, config: PretrainedConfig) -> dict:
    """The fields of a head's configuration that `AdapterRecord.head` keeps.

    Raises ValueError for an unknown task.
    """
    if task not in TASKS_ON_THE_HUB:
        raise ValueError(f"An adapter's task is one of {', '.join(TASKS_ON_THE_HUB)}, not {task!r}")
    found = TASKS_ON_THE_HUB[task]
    if not found.head_on_tower:
        return {}
    return {name: getattr(config, name) for name in ("problem_type", "id2label", *found.head_fields)}


def unknown_to_base(record: AdapterRecord) -> list[str]:
    """Fields of a head, with their values, that the code beside its base does not know; none where no code is there.

    That code is what runs where this package is not installed.
    """
    name, revision = record.base.name, record.base.revision
    # The Hub is not asked for a folder that is gone: that would tell others its name.
    there = revision is not None or Path(name).is_dir()
    file = find_file(name, "configuration_chexficient.py", {"revision": revision}) if there else None
    if file is None:
        return []
    code = Path(file).read_text()
    fields = {name: record.head_arguments.get(name) for name in TASKS_ON_THE_HUB[record.task].head_fields}
    return [
        f"{name}={value!r}"
        for name, value in fields.items()
        if name not in code or (isinstance(value, str) and f'"{value}"' not in code)
    ]


def read_record(folder: Path, task: str | None = None) -> AdapterRecord:
    """The record of an adapter folder.

    Raises ValueError where files of an adapter are missing or broken, or where it is for another task than `task`.
    """
    check_files(folder)
    fields = read_fields(folder / RECORD_FILE)
    try:
        record = AdapterRecord(**{**fields, "base": BaseIdentity(**fields["base"])})
        if record.task not in TASKS_ON_THE_HUB:
            raise ValueError(f"unknown task {record.task!r}: known are {', '.join(TASKS_ON_THE_HUB)}")
        if record.base_precision not in PRECISIONS:
            raise ValueError(f"unknown base_precision {record.base_precision!r}: known are {', '.join(PRECISIONS)}")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / RECORD_FILE} cannot be read: {error}") from error
    if task is not None and task != record.task:
        raise ValueError(f"{folder} is an adapter for {record.task}, not for {task}")
    return record


def check_files(folder: Path) -> None:
    """Raise ValueError, naming what is missing, unless `folder` holds the three files of an adapter."""
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE, RECORD_FILE) if not (folder / name).is_file()]
    if not missing:
        return
    hint = ""
    if WEIGHTS_FILE in missing and (folder / "adapter_model.bin").is_file():
        hint = ". Its adapter_model.bin is a pickle, which can run code when it is read: it is never loaded"
    elif missing == [RECORD_FILE]:
        hint = ", so its base is unknown. Adapters of other tools load with peft.PeftModel.from_pretrained"
    raise ValueError(f"{folder} is no complete adapter: it lacks {', '.join(missing)}{hint}")


def read_config(folder: Path) -> AdapterConfig:
    """PEFT's configuration of an adapter folder.

    Raises ValueError unless it can be read and is one of LoRA or HiRA that leaves the base's weights alone.
    """
    from peft import PeftConfig

    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / CONFIG_FILE} cannot be read: {error}") from error
    try:
        check_base_is_kept(config)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    config.inference_mode = True
    return cast("AdapterConfig", config)


def check_base_is_kept(config: PeftConfig) -> None:
    """Raise ValueError for other adapters than LoRA and HiRA, and where LoRA starts by changing the base's own weights,
    which other adapters share.
    """
    from peft import HiraConfig, LoraConfig

    if isinstance(config, HiraConfig):
        return
    if not isinstance(config, LoraConfig):
        raise ValueError(
            f"only LoRA and HiRA adapters (or a head alone) can be saved and loaded here, not {config.peft_type}"
        )
    start = str(config.init_lora_weights).lower()
    if start.startswith(CHANGES_BASE):
        raise ValueError(
            f"LoRA started with init_lora_weights={config.init_lora_weights!r} changes the weights of the base: "
            "convert it with PEFT's `path_initial_model_for_weight_conversion`, or train with the default start"
        )


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Tensors of an adapter folder by PEFT's names. Raises ValueError where the file is cut off or broken."""
    try:
        return load_file(folder / WEIGHTS_FILE)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{folder / WEIGHTS_FILE} is cut off or broken ({error}): copy or download it again"
        ) from error


def match_names(model: nn.Module, config: AdapterConfig, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the names that the layers of `model` have, where transformers has renamed them since or before.

    `config.target_modules` is changed with them. Raises ValueError where the model has no such layer.
    """
    modules = {name for name, _ in model.named_modules()}
    renamed: dict[str, Tensor] = {}
    unknown: set[str] = set()
    targets: set[str] = set()
    for key, tensor in weights.items():
        before, part, after = split_key(key)
        name = before.removeprefix("base_model.model.")
        if part:
            found = next((candidate for candidate in _other_names(name) if candidate in modules), None)
            if found is None:
                unknown.add(name)
            else:
                targets.add(found)
            key = f"base_model.model.{found}{part}{after}"
        renamed[key] = tensor
    if unknown:
        raise ValueError(f"The adapter is for layers that the base does not have: {few_of(unknown)}")
    if renamed.keys() != weights.keys():
        # A set, as PEFT itself makes of what it is given.
        config.target_modules = targets  # type: ignore[assignment]
        config.exclude_modules = None
    return renamed


def split_key(key: str) -> tuple[str, str, str]:
    """A tensor's name before, at and behind the mark of an adapter, `.lora_` or `.hira_`; all before it without one."""
    part = next((part for part in ADAPTER_PARTS if part in key), ADAPTER_PARTS[0])
    return key.partition(part)


def _other_names(module: str) -> list[str]:
    """The names that a module has, had or will have in transformers, its own first."""
    names = [module]
    for renames in (OLD_AND_NEW_NAMES, [(new, old) for old, new in OLD_AND_NEW_NAMES]):
        # ViT's layers moved as well, those of DINOv2 did not: the last rename is tried with and without.
        name = module
        for source, target in renames:
            name = name.replace(source, target)
            names.append(name)
    return names


def check_weights(folder: Path, expected: dict[str, Tensor], weights: dict[str, Tensor]) -> None:
    """Raise ValueError, naming the tensors, unless the file holds exactly what its configuration makes of the base."""
    missing, extra = expected.keys() - weights.keys(), weights.keys() - expected.keys()
    shapes = {
        f"{key} {tuple(weights[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & weights.keys()
        if weights[key].shape != expected[key].shape
    }
    problems = {"missing": missing, "unexpected": extra, "of another shape": shapes}
    found = [f"{kind}: {few_of(names)}" for kind, names in problems.items() if names]
    if found:
        raise ValueError(f"{folder / WEIGHTS_FILE} does not fit its configuration and base; {'; '.join(found)}")


def few_of(names: set[str]) -> str:
    """The first names, and how many there are."""
    first = sorted(names)[:3]
    return ", ".join(first) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
