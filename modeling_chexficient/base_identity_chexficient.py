"""Which base an adapter belongs to: name, revision, hashes of weights and code, and a hash of the tower alone."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import snapshot_download
from torch import nn
from transformers import PreTrainedModel

if TYPE_CHECKING:
    from peft import PeftModel

# What a model is loaded from. Other weights beside it (heads of pretraining, adapters) are no part of it.
BASE_FILES = ("*.json", "*.py", "*.jinja", "*.txt", "model*.safetensors")
CODE_FILES = tuple(
    f"{kind}_*.py"
    for kind in ("configuration", "decoders", "image_processing", "modeling", "processing", "prompts", "towers")
)

# Parts of the names of tensors that PEFT adds: those of LoRA and HiRA, and copies that are trained whole.
ADAPTER_PARTS = (".lora_", ".hira_")
OF_ADAPTERS = (*ADAPTER_PARTS, ".modules_to_save.")
# Parts of a tower that some models leave out, and that no adapter depends on.
UNUSED_PARTS = ("pooler.", "head.", "embeddings.mask_token")
CHUNK_BYTES = 1 << 22
# Where the weights of a whole model are, the likeliest first.
_WEIGHTS = ("model*.safetensors", "*.safetensors", "*.bin")


@dataclass(frozen=True)
class BaseIdentity:
    """A base model, so that another one can be told from it.

    Attributes:
        name: folder or Hub id, as it was given.
        revision: the commit of a Hub model; None for a folder.
        weights_sha256: hash of its weights (`weights_sha256`).
        code_sha256: hash of the modelling code that travels with it (`code_sha256`).
        model_type: of its configuration; other than "chexficient" it is a plain tower, or a report model.
    """

    name: str
    revision: str | None
    weights_sha256: str
    code_sha256: str
    model_type: str = "chexficient"

    def __str__(self) -> str:
        place = f"revision {self.revision}" if self.revision else "a folder without a revision"
        return f"{self.name} ({place}, weights {self.weights_sha256[:12]})"


def identify_base(model_name_or_path: str | Path, revision: str | None = None) -> BaseIdentity:
    """The identity of a model folder or Hub id at `revision` (branch, tag or commit).

    Raises:
        OSError: there is no such model.
        ValueError: it has no configuration or no weights.
    """
    folder = local_folder(model_name_or_path, revision)
    # An adapter beside it is no part of it.
    weights = _hash_of_files(folder, *_WEIGHTS)
    if weights is None or not (folder / "config.json").is_file():
        raise ValueError(f"{model_name_or_path} is no base of an adapter: it lacks config.json or model.safetensors")
    return BaseIdentity(
        name=str(model_name_or_path),
        revision=None if Path(model_name_or_path).is_dir() else folder.name,
        weights_sha256=weights,
        code_sha256=code_sha256(folder),
        model_type=json.loads((folder / "config.json").read_text()).get("model_type", ""),
    )


def local_folder(name: str | Path, revision: str | None = None, patterns: tuple[str, ...] = BASE_FILES) -> Path:
    """The folder itself, or the local copy of a Hub repository at `revision`, whose name is the commit.

    From the Hub, only files that match `patterns` are fetched. Raises OSError where there is neither.
    """
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(str(name), revision=revision, allow_patterns=list(patterns)))
    except (OSError, ValueError) as error:
        at = f" at revision {revision}" if revision else ""
        raise OSError(f"{name} is neither a folder nor a Hub repository that can be read{at}: {error}") from error


def local_weights(name: str | Path, revision: str | None = None) -> Path | None:
    """The folder itself, or that of a Hub repository at `revision` in the cache; None where it is in neither.

    The Hub is not asked: whoever has loaded a model has its weights there.
    """
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(str(name), revision=revision, local_files_only=True))
    except (OSError, ValueError):
        return None


def commit_of(name: str | Path, revision: str | None = None) -> str | None:
    """The commit that `revision` of a Hub repository, which has been loaded, stands for; None for a folder.

    Configurations of transformers no longer tell it (5.0 did, 5.20 does not).
    """
    folder = None if Path(name).is_dir() else local_weights(name, revision)
    return None if folder is None else folder.name


def weights_sha256(model: str | Path, revision: str | None = None) -> str | None:
    """Hash of the weights in `local_weights`, in the order of their names; None where there are none.

    Of a folder that holds a model and an adapter on it, that of the adapter, which is what is loaded.
    """
    folder = local_weights(model, revision)
    return None if folder is None else _hash_of_files(folder, "adapter_model.safetensors", *_WEIGHTS)


def _hash_of_files(folder: Path, *patterns: str) -> str | None:
    """Hash of the files of the first pattern that there are; None where there are none."""
    files = next((found for pattern in patterns if (found := sorted(folder.glob(pattern)))), [])
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest() if files else None


def processor_sha256(processor) -> str:
    """Hash of how an image processor makes pixels: size, crop, mean and the like."""
    return hashlib.sha256(json.dumps(processor.to_dict(), sort_keys=True, default=str).encode()).hexdigest()


def code_sha256(folder: Path) -> str:
    """Hash of the modelling files in `folder` (remote code), or of this package's own where it has none."""
    own = Path(__file__).parent
    for home in (folder, own):
        files = sorted(file for pattern in CODE_FILES for file in home.glob(pattern))
        if files:
            break
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def vision_tower(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The vision tower of a dual encoder, a head or a report model (also inside a PEFT model), or `model` itself."""
    without_adapters = getattr(model, "get_base_model", None)
    inner: Any = model if without_adapters is None else without_adapters()
    if hasattr(inner, "vision_model"):
        return inner.vision_model
    return getattr(getattr(inner, "model", None), "vision_tower", inner)


@torch.no_grad()
def tower_sha256(tower: nn.Module) -> str:
    """Hash of a vision tower's own weights, adapters on it left out.

    Weights are rounded to bfloat16 first, so that a model loaded in bfloat16 has the hash of the same in fp32.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(own_weights(tower).items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()


def own_weights(tower: nn.Module) -> dict[str, torch.Tensor]:
    """Floating tensors of a tower by the names they have without adapters, parts that no adapter needs left out."""
    own = {}
    for name, tensor in tower.state_dict().items():
        if any(part in name for part in OF_ADAPTERS) or not tensor.is_floating_point():
            continue
        own[name.replace(".base_layer.", ".").replace(".original_module.", ".")] = tensor
    return {name: tensor for name, tensor in own.items() if not name.startswith(UNUSED_PARTS)}


__all__ = [
    "ADAPTER_PARTS",
    "OF_ADAPTERS",
    "BaseIdentity",
    "code_sha256",
    "commit_of",
    "identify_base",
    "local_weights",
    "own_weights",
    "processor_sha256",
    "tower_sha256",
    "vision_tower",
    "weights_sha256",
]
