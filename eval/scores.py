"""The score of every film for every label, kept beside a result so that runs can be compared film by film.

For your own analyses, not for publication: they hold no ids, but the labels of every film in the order of the data.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import PartialState
from safetensors import numpy as safetensors
from safetensors import safe_open

#: Targets are stored as integers; this stands for "uncertain or not judged", which is NaN in memory.
_NOT_JUDGED = -1


@dataclass
class ZeroShotScores:
    """Scores and truth of a split: `scores`, `targets` [films, labels] (NaN: not judged), `patients` [films]."""

    names: list[str]
    scores: np.ndarray
    targets: np.ndarray
    patients: np.ndarray

    def save(self, path: Path) -> str:
        """Write as safetensors, by the main process alone, and return the hash (sha256) of the file; see `numbered`."""
        tensors = {
            "scores": np.ascontiguousarray(self.scores, dtype=np.float32),
            # safetensors writes the memory as it lies: columns chosen from a matrix lie in another order.
            "targets": np.ascontiguousarray(np.nan_to_num(self.targets, nan=_NOT_JUDGED), dtype=np.int8),
            "patients": numbered(self.patients),
        }
        # One key only: safetensors does not keep an order among several, and equal scores shall be equal files.
        data = safetensors.save(tensors, metadata={"labels": json.dumps(self.names)})
        if PartialState().is_main_process:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return hashlib.sha256(data).hexdigest()

    @classmethod
    def load(cls, path: Path, sha256: str) -> ZeroShotScores:
        """Read what `save` wrote; `patients` are numbers.

        Raises:
            ValueError: there is no such file, or its hash is not `sha256`.
        """
        if not path.is_file():
            raise ValueError(f"{path} is missing: evaluate the model again with `python -m eval.run`")
        if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise ValueError(f"{path} does not belong to the result beside it: evaluate the model again")
        with safe_open(path, framework="numpy") as file:
            names = json.loads(file.metadata()["labels"])
            scores, targets, patients = (file.get_tensor(name) for name in ("scores", "targets", "patients"))
        return cls(names, scores, np.where(targets == _NOT_JUDGED, np.nan, targets), patients)


def numbered(patients: np.ndarray) -> np.ndarray:
    """Patients [films] as int64, in the order of their first film: which films are one person's, not who it is."""
    _, first, index = np.unique(patients, return_index=True, return_inverse=True)
    return np.ascontiguousarray(np.argsort(np.argsort(first))[index], dtype=np.int64)


def scores_path(result: Path) -> Path:
    """The file of scores that belongs to a result file."""
    return result.with_suffix(".scores.safetensors")


def save_scores(scores: ZeroShotScores, out: Path | None, benchmark: str) -> str | None:
    """Save the scores beside where the result of `benchmark` will be; their hash, None where `out` is None."""
    return None if out is None else scores.save(scores_path(out / f"{benchmark}.json"))
