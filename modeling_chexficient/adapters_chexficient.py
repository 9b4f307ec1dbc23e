"""Adapters: LoRA (arXiv 2106.09685) or HiRA (https://openreview.net/forum?id=TwJrTz9cRS) on a tower plus a head, saved
as PEFT saves them, several on one loaded base.

An adapter is a folder of a few megabytes that names its base by revision and by hashes of weights and code, so that it
cannot silently run on another. `AdapterSet` holds several on one copy of the tower. PEFT is imported where it is used:
models without adapters do without it.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from .adapter_attachment_chexficient import (
    adapter_weights,
    attach,
    check_bare,
    check_base_was_kept,
    check_tower,
    load_head,
    tower_of_base,
    warn_of_other_code,
)
from .adapter_files_chexficient import (
    ADAPTER_FILES,
    WEIGHTS_FILE,
    AdapterRecord,
    check_base_is_kept,
    head_fields,
    read_config,
    read_record,
    read_weights,
    unknown_to_base,
)
from .adapter_set_chexficient import AdapterSet
from .adapter_snippet_chexficient import loading_snippet
from .base_identity_chexficient import (
    BaseIdentity,
    identify_base,
    local_folder,
    tower_sha256,
    vision_tower,
    weights_sha256,
)
from .peft_folders_chexficient import saves_without_adapters, takes_its_own_head_alone
from .precision_chexficient import is_quantised, loading_arguments
from .tasks_chexficient import TASKS_ON_THE_HUB

if TYPE_CHECKING:
    from peft import PeftModel

TOWER_PREFIX = "base_model.model.vision_model."


def save_adapter(
    peft_model: PeftModel,
    directory: str | Path,
    base: BaseIdentity,
    task: str,
    processor=None,
    base_precision: str = "fp32",
) -> AdapterRecord:
    """Write the active adapter of `peft_model` to `directory`: PEFT's two files and `chexficient_adapter.json`.

    Args:
        peft_model: LoRA, HiRA or a head alone, on `CheXficientForImageClassification`, `...ForSemanticSegmentation`
            or a report model.
        directory: made if it does not exist.
        base: what the model was loaded from, by `identify_base`.
        task: its name on the Hub, one of `TASKS_ON_THE_HUB`.
        processor: saved beside it.
        base_precision: what the base was held in (`PRECISIONS`), in which the adapter will be loaded.

    Raises:
        OSError: the base is not there.
        ValueError: an unknown task, an adapter that changes the base's own weights, one that is neither LoRA nor HiRA,
            or a model that was trained in more than the adapter holds (`check_base_was_kept`).

    Warns:
        UserWarning: the code beside the base is too old for the adapter's head.
    """
    name = peft_model.active_adapter
    config = copy.deepcopy(peft_model.peft_config[name])
    model = cast(PreTrainedModel, peft_model.get_base_model())
    check_base_is_kept(config)
    tower, head = vision_tower(model), head_fields(task, model.config)
    record = AdapterRecord(task, base, tower_sha256(tower), head, base_precision=base_precision)
    check_base_was_kept(model, record)
    if is_quantised(model):
        # In 8 or 4 bits it has another hash.
        record = dataclasses.replace(record, tower_sha256=tower_sha256(tower_of_base(model, record)))
    config.base_model_name_or_path, config.revision, config.inference_mode = base.name, base.revision, True
    # Where the class was loaded as remote code, its module's name would hold a local folder's.
    library = type(model).__module__.split(".")[0].replace("transformers_modules", __package__.split(".")[0])
    auto_mapping = {"base_model_class": type(model).__name__, "parent_library": library}

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    # Not by PEFT's own `save_pretrained`: it names subfolders after adapters, and writes a card with local paths.
    weights = adapter_weights(peft_model, name)
    weights = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in weights.items()}
    save_file(weights, directory / WEIGHTS_FILE, metadata={"format": "pt"})
    config.save_pretrained(str(directory), auto_mapping_dict=auto_mapping)
    if processor is not None:
        processor.save_pretrained(directory)
    record.save(directory)
    unknown = unknown_to_base(record)
    if unknown:
        warnings.warn(
            f"{base.name} carries code of an earlier version, which does not know {', '.join(unknown)}: without this "
            f"package, {directory} will not load on it. AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER) with "
            "this version writes its code anew",
            stacklevel=2,
        )
    return record


def load_adapter(
    directory: str | Path,
    base: str | Path | None = None,
    adapter_name: str = "default",
    task: str | None = None,
    revision: str | None = None,
    base_revision: str | None = None,
    dtype: torch.dtype | None = None,
) -> PeftModel:
    """Load an adapter with its head on its base, in evaluation mode, on the CPU.

    Args:
        directory: folder or Hub id of the adapter.
        base: another place of the same base weights; default: the base that the adapter names, at its revision. A base
            that a run made for its own report adapter is found in `base/` beside it, too, should the run have moved.
        adapter_name: what PEFT calls it in the model.
        task: refuse an adapter for another task.
        revision, base_revision: commit, branch or tag, for Hub ids.
        dtype: of the base and the head. By default the base is held as it was in training (`train.adapt
            --base_precision`: fp32, or lower, with adapter and head in fp32); one in 8 or 4 bits is loaded on the GPU.

    Raises:
        OSError: the adapter or the base is not there.
        ValueError: files are missing, broken or pickled, the adapter is for another task, or the base has other
            weights than the one it was trained on. Without `dtype`: it was trained on a base in 8 or 4 bits, and there
            is no GPU or no bitsandbytes here.

    Warns:
        UserWarning: the weights are the same, but the base's modelling code has changed since.
    """
    folder = local_folder(directory, revision, ADAPTER_FILES)
    record = read_record(folder, task)
    place = record.base.name if base is None else str(base)
    beside = folder.parent / "base"
    base_by_run = not TASKS_ON_THE_HUB[record.task].head_on_tower
    if base is None and base_by_run and not Path(place).is_dir() and beside.is_dir():
        place = str(beside)
    if base is None and record.base.revision is None and not Path(place).is_dir():
        # The Hub is not asked for it either: that would tell others the name of a folder.
        raise OSError(
            f"{directory} was trained on a base in the folder {place}, which is not here: say where that is with "
            "load_adapter(..., base=FOLDER)"
        )
    commit = base_revision or (record.base.revision if place == record.base.name else None)
    found = identify_base(place, commit)
    if found.weights_sha256 != record.base.weights_sha256:
        raise ValueError(f"{directory} was trained on {record.base}, not on {found}: the weights differ")
    warn_of_other_code(str(directory), record.base, found)
    precision = record.base_precision if dtype is None else "fp32"
    loading = _loading(str(directory), record) if dtype is None else {"dtype": dtype}
    model = load_head(record, local_folder(place, commit), **loading)
    model.name_or_path = place
    # Quantised or twice rounded, the same weights have another hash.
    if dtype != torch.float16 and not is_quantised(model):
        check_tower(str(directory), record, tower_sha256(vision_tower(model)), place)
    attached = attach(model, folder, read_config(folder), read_weights(folder), adapter_name, precision)
    takes_its_own_head_alone(attached, dataclasses.asdict(record))
    return attached


def _loading(directory: str, record: AdapterRecord) -> dict:
    """How a base is loaded as it was in training."""
    head_on_tower = TASKS_ON_THE_HUB[record.task].head_on_tower
    try:
        return loading_arguments(record.base_precision, head_on_tower)
    except ValueError as error:
        raise ValueError(
            f"{directory} cannot be loaded as it was trained: {error}. load_adapter(..., dtype=torch.float32) puts it "
            "on the unquantised base, where its outputs differ a little"
        ) from error


def add_tower_adapter(report_model: PreTrainedModel, directory: str | Path, adapter_name: str = "tower") -> None:
    """Put the tower's part of an adapter for classification or segmentation on the tower of a report model, in place.

    Raises:
        OSError: the adapter is not there.
        ValueError: as `load_adapter`; the report model's tower is not the one that the adapter was trained on, bears an
            adapter already, or the adapter leaves the tower as it is (a head alone).
    """
    tower = vision_tower(report_model)
    check_bare(tower)
    folder = local_folder(directory, patterns=ADAPTER_FILES)
    record = read_record(folder)
    check_tower(str(directory), record, tower_sha256(tower), type(report_model).__name__)
    weights = {key: tensor for key, tensor in read_weights(folder).items() if key.startswith(TOWER_PREFIX)}
    if not weights:
        raise ValueError(f"{directory} trained a head alone: it has nothing for a tower")
    config = read_config(folder)
    # The names of the adapter's modules begin as in a head.
    holder = nn.Module()
    holder.vision_model = tower
    saved = {name for name, _ in holder.named_modules()}
    config.modules_to_save = [
        part for part in config.modules_to_save or [] if any(name.endswith(part) for name in saved)
    ]
    saves_without_adapters(report_model)
    attached = attach(holder, folder, config, weights, adapter_name)
    attached.set_adapter(adapter_name, inference_mode=True)


__all__ = [
    "AdapterSet",
    "BaseIdentity",
    "add_tower_adapter",
    "identify_base",
    "load_adapter",
    "loading_snippet",
    "save_adapter",
    "weights_sha256",
]
