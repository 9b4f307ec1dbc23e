"""What figures are plotted from: small arrays and plain values that a runner leaves beside its result.

They hold no ids. Films and texts belong in them only where these may be shown: `EvaluationSettings.show_films`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from safetensors import numpy as safetensors
from safetensors import safe_open


def artifact_path(out: Path, name: str) -> Path:
    return out / "artifacts" / f"{name}.safetensors"


def save_artifact(
    out: Path | None, name: str, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any] | None = None
) -> None:
    """Write `OUT/artifacts/NAME.safetensors`, by the main process alone; nothing where `out` is None.

    Args:
        out: folder of the results (`EvaluationSettings.out`).
        name: of the benchmark.
        arrays: of any shape and number type.
        values: whatever JSON holds, kept in the file's header.
    """
    if out is None or not PartialState().is_main_process:
        return
    path = artifact_path(out, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    path.write_bytes(safetensors.save(tensors, metadata={"values": json.dumps(dict(values or {}))}))


def load_artifact(out: Path, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """The arrays and values of `save_artifact`; None where there are none."""
    path = artifact_path(out, name)
    if not path.is_file():
        return None
    with safe_open(path, framework="numpy") as file:
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (a safe_open is no mapping)
        return arrays, json.loads(file.metadata()["values"])
