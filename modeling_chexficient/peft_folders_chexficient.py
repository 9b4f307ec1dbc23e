"""Folders of our adapters given straight to transformers: `AutoModel...`, `pipeline`, `model.load_adapter`.

transformers reads PEFT's two files alone, which know nothing of labels, pooling and decoder. These stand in
`chexficient_adapter.json`; without them the head would be another one than was trained, without a word.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PretrainedConfig
from transformers.utils import cached_file, logging

from .base_identity_chexficient import OF_ADAPTERS, commit_of, tower_sha256, vision_tower
from .precision_chexficient import hold_base, loading_arguments
from .tasks_chexficient import TASKS_ON_THE_HUB

RECORD_FILE = "chexficient_adapter.json"
FORMAT_VERSION = 1
# What decides which tensors a head has.
SHAPING_FIELDS = ("num_labels", "mask_decoder", "clip_logits")
# Parts that PEFT puts into the names of the model's own tensors.
OF_WRAPPERS = (".base_layer.", ".original_module.")
FILE_ARGUMENTS = ("cache_dir", "token", "revision", "local_files_only")


class PeftFolders:
    """Makes a model of ours take the folder of an adapter as it was trained, or refuse it; before `PreTrainedModel`."""

    config: PretrainedConfig

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """As of every model; the folder of an adapter gives its base with the head and the layers of the adapter.

        Without a `dtype` of one's own, the base is held as it was in training (`train.adapt --base_precision`).

        Raises ValueError where the adapter is for another task or base, or where its base cannot be held so here.
        """
        adapter = kwargs.get("adapter_kwargs") or {}
        place = adapter.get("_adapter_model_path") or pretrained_model_name_or_path
        source = adapter if "_adapter_model_path" in adapter else kwargs
        record, revision = _read(place, source), source.get("revision")
        precision = "fp32"
        if record is not None:
            _check_task(cls.__name__, place, record)
            if kwargs.get("dtype", kwargs.get("torch_dtype")) in (None, "auto"):
                precision = record.get("base_precision", "fp32")
            if precision != "fp32":
                kwargs = kwargs | loading_arguments(precision, head_on_tower=True)
            config = kwargs.get("config")
            if isinstance(config, PretrainedConfig):
                kwargs["config"] = copy.deepcopy(config)
                _set_fields(kwargs["config"], place, record)
            else:
                kwargs = {**head_arguments(record["head"]), **kwargs}
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)  # type: ignore[misc]
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        # What lies beside the weights is found by these; `name_or_path` is that of an adapter's base.
        model.loaded_revision = None if place is None else commit_of(place, revision)
        if record is not None:
            model.loaded_from = str(place)
        if record is not None and precision != "fp32":
            hold_base(model, precision)
            _set_weights(model, _weights(place, source), "default")
        return loaded

    def load_adapter(self, peft_model_id=None, *args, **kwargs):
        """As of every model; an adapter of ours brings its labels, problem type, pooling and decoder.

        A head of another shape, to which the adapter does not fit, gives way to that of the adapter.

        Raises ValueError where the adapter is for another task or base, or brings another head than the adapters that
        are loaded already: see `AdapterSet`.
        """
        record = None if peft_model_id is None else _read(peft_model_id, kwargs.get("adapter_kwargs") or {})
        if record is not None:
            self._prepare_for(peft_model_id, record)
        report = super().load_adapter(peft_model_id, *args, **kwargs)  # type: ignore[misc]
        if record is not None:
            name = args[0] if args else kwargs.get("adapter_name")
            weights = _weights(peft_model_id, kwargs.get("adapter_kwargs") or {})
            _set_weights(self, weights, name or "default")
            self.adapter_records = getattr(self, "adapter_records", {}) | {name or "default": record}
        return report

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As of every model; where adapters of PEFT are on the tower, the base alone is saved.

        transformers itself would write the names of PEFT's layers, and load them as random weights later. Of a model
        whose adapter came by `from_pretrained` or `load_adapter` it saves the adapter, here with its record.

        Raises ValueError for a head that an adapter has replaced: there is no base of it to save.
        """
        kwargs["state_dict"] = without_adapters(self, kwargs.get("state_dict"))
        super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]
        writes = args[0] if args else kwargs.get("is_main_process", True)
        if writes and getattr(self, "_hf_peft_config_loaded", False):
            (name,) = self.active_adapters()  # type: ignore[attr-defined]
            record = getattr(self, "adapter_records", {}).get(name)
            if record is not None:
                (Path(save_directory) / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n")

    def _prepare_for(self, place, record: dict[str, Any]) -> None:
        """Check that an adapter belongs here, and make the head the one that it was trained with."""
        _check_task(type(self).__name__, place, record)
        _check_tower(self, place, record)
        config = copy.deepcopy(self.config)
        _set_fields(config, place, record)
        changed = {
            name for name in head_arguments(record["head"]) if getattr(config, name) != getattr(self.config, name)
        }
        if not changed:
            return
        if getattr(self, "_hf_peft_config_loaded", False):
            raise ValueError(
                f"{place} has another head than the adapters on this model ({', '.join(sorted(changed))}): hold them "
                "in an AdapterSet of modeling_chexficient, or load the base once more"
            )
        if any(getattr(config, name, None) != getattr(self.config, name, None) for name in SHAPING_FIELDS):
            self._replace_head(config)
        _set_fields(self.config, place, record)

    def _replace_head(self, config: PretrainedConfig) -> None:
        model: Any = self
        for module in model.vision_model.modules():
            # Building a model initialises what does not say that it has been.
            module._is_hf_initialized = True
        fresh = type(model)(config, vision_model=model.vision_model).to(model.device, model.dtype)
        for name, part in fresh.named_children():
            setattr(model, name, part)


def takes_its_own_head_alone(peft_model, record: Mapping[str, Any]) -> None:
    """Let peft's own `load_adapter` refuse what would be called by the labels of the adapter that is there already.

    peft holds several heads, of which one is active, under one configuration.

    Args:
        peft_model: with the adapter of `record` (of `RECORD_FILE`).
    """
    peft_model.adapter_record = dict(record)
    peft_model.load_adapter = MethodType(_load_beside, peft_model)


def _load_beside(peft_model, model_id, *args, **kwargs):
    """As `PeftModel.load_adapter`. Raises ValueError for an adapter of ours with another head, or of another tower."""
    record, there = _read(model_id, kwargs), peft_model.adapter_record
    if record is not None:
        for name, what in (("task", "task"), ("tower_sha256", "base")):
            if record[name] != there[name]:
                raise ValueError(
                    f"{model_id} was trained on another {what} than the adapter that is there: load it anew"
                )
        head, own = head_arguments(record["head"]), head_arguments(there["head"])
        changed = sorted(name for name in head.keys() | own.keys() if head.get(name) != own.get(name))
        if changed:
            raise ValueError(
                f"{model_id} has another head than the adapter that is there ({', '.join(changed)}), whose names its "
                "outputs would get: hold them in an AdapterSet of modeling_chexficient, or load the base once more"
            )
    return type(peft_model).load_adapter(peft_model, model_id, *args, **kwargs)


def without_adapters(model, state_dict: Mapping[str, Any] | None = None) -> Mapping[str, Any] | None:
    """Tensors of a model by the names they have without adapters; what was given where there are none on it.

    Raises ValueError where a part outside the tower is trained with an adapter.
    """
    if getattr(model, "_hf_peft_config_loaded", False):
        # By `load_adapter` of transformers, which saves the adapter alone.
        return state_dict
    tensors = model.state_dict() if state_dict is None else state_dict
    if not any(part in name for name in tensors for part in (*OF_ADAPTERS, *OF_WRAPPERS)):
        return state_dict
    tower = vision_tower(model)
    prefix = next(f"{name}." if name else "" for name, module in model.named_modules() if module is tower)
    if any(".original_module." in name and not name.startswith(prefix) for name in tensors):
        raise ValueError(
            f"{type(model).__name__} bears an adapter with a head of its own: save it by save_adapter, or as a whole "
            "model by merge_and_unload() (AdapterSet.merge) and save_pretrained"
        )
    kept = {name: tensor for name, tensor in tensors.items() if not any(part in name for part in OF_ADAPTERS)}
    for part in OF_WRAPPERS:
        kept = {name.replace(part, "."): tensor for name, tensor in kept.items()}
    return kept


def saves_without_adapters(model) -> None:
    """Let `save_pretrained` of a model of any class write its base alone, as `PeftFolders` does, while it lives."""
    if not isinstance(model, PeftFolders):
        model.save_pretrained = MethodType(_save_without_adapters, model)


def _save_without_adapters(model, save_directory, *args, **kwargs):
    kwargs["state_dict"] = without_adapters(model, kwargs.get("state_dict"))
    return type(model).save_pretrained(model, save_directory, *args, **kwargs)


def find_file(place, name: str, arguments: Mapping[str, Any]) -> str | None:
    """A file of a folder or Hub id; None where there is none. `arguments` may hold those of `FILE_ARGUMENTS`."""
    given = {name: arguments[name] for name in FILE_ARGUMENTS if arguments.get(name) is not None}
    quiet = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors", "gated_repo")}
    return cached_file(place, name, **given, **quiet)


def _weights(place, arguments: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    file = find_file(place, "adapter_model.safetensors", arguments)
    return {} if file is None else load_file(file)


@torch.no_grad()
def _set_weights(model, weights: Mapping[str, torch.Tensor], adapter_name: str) -> None:
    """Put the tensors of an adapter's file into a model that transformers has loaded it into.

    transformers rounds them to the type of the base, and does not find the magnitudes of DoRA.

    Raises ValueError where a magnitude has no place: with weights of its own, the model is another one.
    """
    own = model.state_dict()
    for key, tensor in weights.items():
        name = key.removeprefix("base_model.model.")
        before, part, after = name.partition(".lora_")
        if part:
            kind, _, rest = after.partition(".")
            name = f"{before}{part}{kind}.{adapter_name}.{rest or 'weight'}"
        else:
            module, _, last = name.rpartition(".")
            parts = module.split(".")
            wrapped = (
                ".".join([*parts[:count], "modules_to_save", adapter_name, *parts[count:], last])
                for count in range(len(parts), 0, -1)
            )
            name = next((found for found in wrapped if found in own), name)
        if name in own:
            own[name].copy_(tensor)
        elif "lora_magnitude_vector" in key:
            raise ValueError(
                f"{key} of DoRA has no place in {type(model).__name__}: load it with load_adapter of "
                "modeling_chexficient"
            )


def _read(place, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of an adapter folder or Hub id; None where there is none."""
    if place is None or Path(str(place)).is_file():
        return None
    file = find_file(place, RECORD_FILE, arguments)
    return None if file is None else read_fields(file)


def read_fields(file: str | Path) -> dict[str, Any]:
    """What the record of an adapter holds. Raises ValueError, which names the file, where it is broken or too new."""
    try:
        record = json.loads(Path(file).read_text())
        record["task"], record["head"], record["tower_sha256"]
        version = record["format_version"]
        if version > FORMAT_VERSION:
            raise ValueError(f"it is of format {version}, this code reads up to {FORMAT_VERSION}: update the package")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} cannot be read: {error!r}") from error
    return record


def head_arguments(head: Mapping[str, Any]) -> dict[str, Any]:
    """The `head` of an adapter's record as arguments of the configuration."""
    # Records of earlier versions name the field `decoder`.
    fields = {"mask_decoder" if name == "decoder" else name: value for name, value in head.items()}
    if "id2label" in fields:
        fields["id2label"] = {int(index): label for index, label in fields["id2label"].items()}
        fields["label2id"] = {label: index for index, label in fields["id2label"].items()}
    return fields


def _set_fields(config: PretrainedConfig, place, record: dict[str, Any]) -> None:
    fields = head_arguments(record["head"])
    try:
        unknown = [name for name in fields if not hasattr(config, name)]
        if unknown:
            raise ValueError(f"there is no {', '.join(unknown)}")
        for name, value in fields.items():
            setattr(config, name, value)
        # No class is asked for: where it is remote code, that of the configuration is there twice.
        if fields:
            config.check_choices()
    except ValueError as error:
        # Such as the copy beside an older base, which is what runs without this package.
        raise ValueError(
            f"{place} was trained with newer code than this ({Path(__file__).parent}): {error}. Update the package, or "
            "have it write the code beside the base anew: AutoModel.from_pretrained(BASE).save_pretrained(BASE)"
        ) from error


def _check_task(class_name: str, place, record: dict[str, Any]) -> None:
    task = TASKS_ON_THE_HUB.get(record["task"])
    if task is None or task.head != class_name:
        needed = "" if task is None else f": load it with {task.auto_model}.from_pretrained"
        raise ValueError(f"{place} is an adapter for {record['task']}, not for {class_name}{needed}")


def _check_tower(model, place, record: dict[str, Any]) -> None:
    tower = vision_tower(model)
    if getattr(model, "is_quantized", False) or model.dtype == torch.float16:
        # Rounded once more or quantised, the same weights have another hash: those in its folder are looked at.
        if not model.name_or_path or not Path(model.name_or_path).is_dir():
            return
        verbosity = logging.get_verbosity()
        # That a head is not in the base is no news here.
        logging.set_verbosity_error()
        try:
            tower = vision_tower(type(model).from_pretrained(model.name_or_path, dtype=torch.float32))
        finally:
            logging.set_verbosity(verbosity)
    found = tower_sha256(tower)
    if found != record["tower_sha256"]:
        base = record.get("base", {}).get("name", "another model")
        raise ValueError(
            f"{place} was trained on the vision tower of {base} ({record['tower_sha256'][:12]}), not on this one "
            f"({found[:12]}): the weights differ"
        )


__all__ = [
    "RECORD_FILE",
    "PeftFolders",
    "head_arguments",
    "saves_without_adapters",
    "takes_its_own_head_alone",
    "without_adapters",
]
