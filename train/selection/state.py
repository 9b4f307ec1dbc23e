"""The state of curation in one place: prototypes, what was scored, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from train.selection.outcome import Role, Selection
from train.selection.prototypes import have_collapsed, mean_pairwise_cosine, usage_entropy

STATE_FILE = "curation_state.safetensors"
_NOT_JUDGED = -1


@dataclass
class CurationState:
    """What curation knows of a corpus of `num_rows` pairs, by row of the training split; 5 bytes a pair.

    Attributes:
        roles: [num_rows] int8, a `Role`, or -1 where the pair was not scored yet.
        clusters: [num_rows] int16, the nearest prototype when it was scored; -1 where there was none.
        distances: [num_rows] fp16, the distance to it; NaN where there was none.
        prototypes: [K, 2 D], None before the first selection.
        usage: [K], how many kept pairs each prototype received.
        start_cosine: scalar, the mean cosine between two prototypes when they started.
        map_rows: [S] int64 ascending, a random sample of rows whose features are kept for looking at.
        map_features: [S, 2 D] fp16, their features when they were scored; zeros before. None before the first.
    """

    num_rows: int
    map_rows: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    prototypes: Tensor | None = None
    usage: Tensor | None = None
    start_cosine: Tensor | None = None
    map_features: Tensor | None = None
    roles: Tensor = field(init=False)
    clusters: Tensor = field(init=False)
    distances: Tensor = field(init=False)

    def __post_init__(self):
        self.roles = torch.empty(self.num_rows, dtype=torch.int8)
        self.clusters = torch.empty(self.num_rows, dtype=torch.int16)
        self.distances = torch.empty(self.num_rows, dtype=torch.float16)
        self.forget()

    @classmethod
    def for_corpus(cls, num_rows: int, map_sample_size: int, seed: int) -> CurationState:
        """A new state that keeps the features of `map_sample_size` random rows."""
        order = torch.randperm(num_rows, generator=torch.Generator().manual_seed(seed))
        return cls(num_rows, map_rows=order[:map_sample_size].sort().values)

    def forget(self) -> None:
        """Before a pass over the corpus: nothing is scored; the prototypes stay."""
        self.roles.fill_(_NOT_JUDGED)
        self.clusters.fill_(_NOT_JUDGED)
        self.distances.fill_(torch.nan)

    def record(self, rows: Tensor, selection: Selection, features: Tensor | None = None) -> None:
        """Note how `rows` [B] were scored, and their `features` [B, 2 D] if they have any."""
        self.roles[rows] = selection.roles.cpu()
        if features is None:
            return
        if selection.clusters is not None:
            self.clusters[rows] = selection.clusters.to("cpu", torch.int16)
        if selection.distances is not None:
            self.distances[rows] = selection.distances.to("cpu", torch.float16)
        self._sample_features(rows, features)

    def describe_prototypes(self) -> tuple[dict[str, float], str | None]:
        """Figures of the prototypes for the log, and what there is to say where they have collapsed."""
        entropy, cosine = usage_entropy(self.usage), mean_pairwise_cosine(self.prototypes)
        figures = {"prototype_usage_entropy": entropy, "prototype_mean_cosine": cosine}
        if not have_collapsed(entropy, cosine, float(self.start_cosine)):
            return figures, None
        return figures, (
            f"the prototypes have collapsed (usage entropy {entropy:.2f}, mean cosine {cosine:.2f}); raise "
            "curation_warmup_share or lower num_prototypes"
        )

    def _sample_features(self, rows: Tensor, features: Tensor) -> None:
        if len(self.map_rows) == 0:
            return
        if self.map_features is None:
            self.map_features = torch.zeros(len(self.map_rows), features.shape[1], dtype=torch.float16)
        index = torch.searchsorted(self.map_rows, rows.contiguous()).clamp(max=len(self.map_rows) - 1)
        sampled = self.map_rows[index] == rows
        self.map_features[index[sampled]] = features[sampled.to(features.device)].to("cpu", torch.float16)

    @property
    def seen(self) -> Tensor:
        """[num_rows] bool: scored in this pass."""
        return self.roles != _NOT_JUDGED

    @property
    def kept(self) -> Tensor:
        """[num_rows] bool."""
        return self.roles >= Role.CENTRAL

    @property
    def kept_rows(self) -> Tensor:
        """Rows of the kept pairs, ascending."""
        return self.kept.nonzero().squeeze(1)

    @property
    def kept_share(self) -> float:
        """Share of the scored pairs that was kept; 0 before any was scored."""
        return float(self.kept.sum() / self.seen.sum().clamp(min=1))

    def save(self, folder: Path) -> None:
        names = ("roles", "clusters", "distances", "map_rows", "prototypes", "usage", "start_cosine", "map_features")
        tensors = {name: getattr(self, name) for name in names}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items() if tensor is not None}
        save_file(tensors, Path(folder) / STATE_FILE)

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> CurationState:
        """The state saved in `folder`; prototypes and their usage on `device`."""
        tensors = load_file(Path(folder) / STATE_FILE)
        state = cls(len(tensors["roles"]))
        for name, tensor in tensors.items():
            setattr(state, name, tensor.to(device) if name in ("prototypes", "usage") else tensor)
        return state
