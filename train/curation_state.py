"""The state of curation in one place: prototypes, what was seen, what was kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

STATE_FILE = "curation_state.safetensors"


@dataclass
class CurationState:
    """What curation knows of a corpus of `num_rows` pairs, by row of the training split.

    `kept` and `seen` are [num_rows] bool (2 bytes a pair); `prototypes` [K, 2 D] or None before the first
    selection; `usage` [K] counts the kept pairs each prototype received.
    """

    num_rows: int
    prototypes: Tensor | None = None
    usage: Tensor | None = None
    kept: Tensor = field(init=False)
    seen: Tensor = field(init=False)

    def __post_init__(self):
        self.kept = torch.zeros(self.num_rows, dtype=torch.bool)
        self.seen = torch.zeros(self.num_rows, dtype=torch.bool)

    def record(self, rows: Tensor, kept: Tensor) -> None:
        """Note that `rows` [B] were judged and which of them were `kept` [B] bool."""
        self.seen[rows] = True
        self.kept[rows[kept]] = True

    def forget(self) -> None:
        """Before another pass over the corpus; the prototypes stay."""
        self.kept.zero_()
        self.seen.zero_()

    @property
    def kept_rows(self) -> Tensor:
        """Rows of the kept pairs, ascending."""
        return self.kept.nonzero().squeeze(1)

    @property
    def kept_share(self) -> float:
        """Share of the judged pairs that was kept; 0 before any was judged."""
        return float(self.kept.sum() / self.seen.sum().clamp(min=1))

    def save(self, folder: Path) -> None:
        tensors = {"kept": self.kept, "seen": self.seen}
        if self.prototypes is not None:
            tensors |= {"prototypes": self.prototypes.cpu(), "usage": self.usage.cpu()}
        save_file(tensors, Path(folder) / STATE_FILE)

    @classmethod
    def load(cls, folder: Path) -> CurationState:
        tensors = load_file(Path(folder) / STATE_FILE)
        state = cls(len(tensors["kept"]), tensors.get("prototypes"), tensors.get("usage"))
        state.kept, state.seen = tensors["kept"], tensors["seen"]
        return state
