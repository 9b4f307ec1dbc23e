"""Several adapters on one loaded base, whose tower is held once."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedModel

from .adapter_attachment_chexficient import (
    TOWER_HEADS,
    attach,
    check_bare,
    check_tower,
    warn_of_other_code,
    warn_of_other_precision,
)
from .adapter_files_chexficient import (
    ADAPTER_FILES,
    AdapterRecord,
    read_config,
    read_record,
    read_weights,
    split_key,
)
from .base_identity_chexficient import BaseIdentity, identify_base, local_folder, tower_sha256, vision_tower
from .configuration_chexficient import CheXficientConfig
from .peft_folders_chexficient import saves_without_adapters

if TYPE_CHECKING:
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    from .adapter_files_chexficient import AdapterConfig


class AdapterSet:
    """Several adapters on one loaded base, whose tower is held once; one at a time is active, none at first.

    ```python
    adapters = AdapterSet("runs/demo/model")
    adapters.add("runs/findings/adapter", "findings")
    adapters.add("runs/structures/adapter", "structures")
    probabilities = adapters.activate("findings")(pixel_values).logits.sigmoid()
    with adapters.disable() as base:
        embeddings = base(pixel_values=pixel_values).image_embeds
    ```

    Args:
        base: folder or Hub id that `AutoModel` loads, or a loaded model: CheXficient, a tower, a head, or a report
            model, which then writes its reports with the tower of the active adapter.
        revision: of a Hub id.
        dtype: of a base that is loaded here; by default that of training and evaluation.

    Attributes:
        base: the model; it sees through the active adapter.
        heads: by name of the adapter, its head on the shared tower, a `PeftModel`.
        active: name of the active adapter, or None.

    Raises:
        ValueError: the tower of `base` bears adapters already.
    """

    def __init__(
        self, base: str | Path | PreTrainedModel, revision: str | None = None, dtype: torch.dtype = torch.float32
    ):
        self.identity: BaseIdentity | None = None
        if isinstance(base, (str, Path)):
            self.identity = identify_base(base, revision)
            model: PreTrainedModel = AutoModel.from_pretrained(local_folder(base, revision), dtype=dtype)
        else:
            model = base
        self.base = model.eval()
        self.tower = vision_tower(model)
        check_bare(self.tower)
        saves_without_adapters(model)
        self._tower_sha256 = tower_sha256(self.tower)
        self.heads: dict[str, PeftModel] = {}
        self.active: str | None = None

    def add(self, directory: str | Path, name: str, revision: str | None = None) -> PeftModel:
        """Load the adapter of a folder or Hub id (at `revision`) as `name`, without making it active; its head.

        Raises as `load_adapter`, and ValueError for a name that is taken or no identifier, for an adapter of report
        generation, where the tower is not the one that the adapter was trained on, and for LoRA and HiRA in one set.
        """
        if name in self.heads or not name.isidentifier():
            raise ValueError(f"{name!r} is taken or no identifier: choose another name")
        folder = local_folder(directory, revision, ADAPTER_FILES)
        record = read_record(folder)
        if record.task not in TOWER_HEADS:
            raise ValueError(
                f"{directory} is for {record.task}: its base is a report model of its own, see load_adapter"
            )
        name_of_base = getattr(self.base, "name_or_path", "") or type(self.base).__name__
        place = name_of_base if self.identity is None else str(self.identity)
        check_tower(str(directory), record, self._tower_sha256, place)
        if self.identity is not None:
            warn_of_other_code(str(directory), record.base, self.identity)
        warn_of_other_precision(str(directory), record, self.tower)
        config, weights = read_config(folder), read_weights(folder)
        self._check_kind(directory, config, weights)
        active = self.active
        try:
            head = attach(self._new_head(record), folder, config, weights, name)
        except Exception:
            self._drop(name)
            raise
        finally:
            self._switch(active)
        self.heads[name] = head
        return head

    def activate(self, name: str | None) -> AdapterSet:
        """Make the adapter `name` the active one, or none, and return the set. Raises KeyError for an unknown name."""
        self._known(name)
        self._switch(name)
        return self

    def __call__(self, pixel_values: Tensor, **arguments):
        """Output of the active adapter's head, or of the base itself where none is active."""
        model = self.base if self.active is None else self._beside_tower(self.heads[self.active])
        return model(pixel_values=pixel_values, **arguments)

    def to(self, *args, **kwargs) -> AdapterSet:
        """Move or cast the base, all adapters and their heads, as `torch.nn.Module.to`, and return the set."""
        self.base.to(*args, **kwargs)
        for head in self.heads.values():
            head.to(*args, **kwargs)
        return self

    @contextmanager
    def disable(self) -> Iterator[PreTrainedModel]:
        """Within the context no adapter is active; gives the base as it was loaded."""
        active = self.active
        self._switch(None)
        try:
            yield self.base
        finally:
            self._switch(active)

    def remove(self, name: str) -> None:
        """Take an adapter and its head out of memory. Raises KeyError for an unknown name."""
        self._known(name)
        active = self.active
        self._drop(name)
        self._switch(None if active == name else active)

    def merge(self, name: str) -> PreTrainedModel:
        """A plain head model with the adapter merged into a copy of the tower, for `save_pretrained`; the set stays.

        Raises KeyError for an unknown name.
        """
        self._known(name)
        active = self.active
        self._switch(name)
        try:
            merged = copy.deepcopy(self.heads[name]).merge_and_unload(adapter_names=[name])
        finally:
            self._switch(active)
        return merged.requires_grad_(True).eval()

    def _known(self, name: str | None) -> None:
        if name is not None and name not in self.heads:
            raise KeyError(f"there is no adapter {name!r}: there are {', '.join(self.heads) or 'none'}")

    def _check_kind(self, directory: str | Path, config: AdapterConfig, weights: Mapping[str, Tensor]) -> None:
        # A layer of one kind would wrap that of the other, which PEFT does not hold apart.
        from peft import PEFT_TYPE_TO_TUNER_MAPPING, PeftType
        from peft.tuners.tuners_utils import BaseTunerLayer

        kind = PeftType(config.peft_type)
        own = PEFT_TYPE_TO_TUNER_MAPPING[kind].tuner_layer_cls
        others = [layer for layer in self._adapter_layers() if isinstance(layer, BaseTunerLayer)]
        if any(split_key(key)[1] for key in weights) and not all(isinstance(layer, own) for layer in others):
            raise ValueError(
                f"{directory} is {kind.value}, of another kind than the adapters that are or were in this "
                "set: hold each kind in a set of its own"
            )

    def _new_head(self, record: AdapterRecord) -> PreTrainedModel:
        config = self.base.config
        if config.model_type == CheXficientConfig.model_type:
            config = copy.deepcopy(config)
        else:
            config = CheXficientConfig(vision_config=self.tower.config)
        for field, value in record.head_arguments.items():
            setattr(config, field, value)
        for module in self.tower.modules():
            # Building a model initialises what does not say that it has been: the layers of other adapters do not.
            module._is_hf_initialized = True  # type: ignore[assignment]
        head = TOWER_HEADS[record.task](config, vision_model=self.tower)
        # The type checker takes transformers' `to` for a function without `self`.
        return head.to(next(self.tower.parameters()).device, self.tower.dtype)  # type: ignore[arg-type]

    def _beside_tower(self, head: PeftModel) -> PeftModel:
        """A head where the tower is, and of its type, should `base.to(...)` have moved the tower alone."""
        tower = next(self.tower.parameters())
        own = next(parameter for name, parameter in head.named_parameters() if ".vision_model." not in name)
        if (own.device, own.dtype) != (tower.device, tower.dtype):
            head.to(tower.device, tower.dtype)
        return head

    def _adapter_layers(self) -> Iterator[BaseTunerLayer | AuxiliaryTrainingWrapper]:
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils import AuxiliaryTrainingWrapper

        for module in self.tower.modules():
            if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper)):
                yield module

    def _switch(self, name: str | None) -> None:
        for layer in self._adapter_layers():
            layer.set_adapter([])
        if name is not None:
            self.heads[name].set_adapter(name, inference_mode=True)
        self.active = name

    def _drop(self, name: str) -> None:
        from peft.tuners.tuners_utils import BaseTunerLayer

        self._switch(None)
        self.heads.pop(name, None)
        for layer in list(self._adapter_layers()):
            if isinstance(layer, BaseTunerLayer):
                layer.delete_adapter(name)
            else:
                layer.delete_adapter(name, new_active_adapters=None)
