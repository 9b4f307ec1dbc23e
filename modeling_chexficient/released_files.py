"""Files of released weights, read without running any code in them."""

import argparse
import importlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

# numpy's private builder of one number, which its type hints leave out.
_SCALAR = importlib.import_module("numpy._core.multiarray").scalar
# Plain numbers that numpy computed (a best score) are pickled by these names, and the arguments of a training script as
# a bag of attributes; none of them runs foreign code.
PLAIN: list[Callable | tuple[Callable, str]] = [
    np.dtype,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
    argparse.Namespace,
]


@dataclass
class ReleasedCheckpoint:
    """What a released file holds: tensors by their released names, and the ids of the curated subset if stored."""

    tensors: dict[str, torch.Tensor]
    subset: list[int] | None = None


def load_released(source: Path | str) -> ReleasedCheckpoint:
    """Read released weights from a file or folder without running any code in them.

    Raises FileNotFoundError where there is nothing to read and ValueError, naming the file, where it is not a
    checkpoint of tensors.
    """
    path = _weight_file(Path(source))
    if path.name.endswith(".index.json"):
        weight_map = json.loads(path.read_text()).get("weight_map")
        if not isinstance(weight_map, dict):
            raise ValueError(f"{path} has no weight_map that names the shards")
        shards = sorted(set(weight_map.values()))
        tensors: dict[str, torch.Tensor] = {}
        for shard in shards:
            tensors.update(_load_safetensors(path.parent / shard))
        return ReleasedCheckpoint(tensors)
    if path.suffix == ".safetensors":
        return ReleasedCheckpoint(_load_safetensors(path))
    return _from_pickle(_load_pickle(path), path)


def _weight_file(source: Path) -> Path:
    if source.is_file():
        return source
    names = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.pth")
    found = [source / name for name in names if (source / name).is_file()]
    if not found:
        raise FileNotFoundError(f"{source} is neither a file nor a folder with one of {', '.join(names)}")
    return found[0]


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is named by the index, but is not there")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error


def _load_pickle(path: Path) -> object:
    try:
        with torch.serialization.safe_globals(PLAIN):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError:
        raise
    except Exception as error:
        # Whatever bytes are no checkpoint make the unpickler fail in any way (KeyError, IndexError ...). Of the
        # reason only the first sentence: torch goes on to advise loading it all the same.
        reason = str(error).split(". ")[0] or type(error).__name__
        raise ValueError(
            f"{path} is not a checkpoint of plain tensors and numbers; it was not loaded, because a pickle can run any "
            f"code. ({reason})"
        ) from error


def _from_pickle(content: object, path: Path) -> ReleasedCheckpoint:
    subset = None
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        subset = content.get("subset")
        content = content["model"]
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    ):
        raise ValueError(f"{path} holds neither a state dict nor a dict with one under 'model'")
    if subset is not None:
        if not isinstance(subset, (set, list, tuple)) or not all(isinstance(index, int) for index in subset):
            raise ValueError(f"{path}: 'subset' is not a collection of whole numbers")
        subset = sorted(subset)
    return ReleasedCheckpoint(dict(content), subset)
