"""What somebody wants to publish, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Wish:
    """What somebody wants to publish, and how; see `model_cards.publish.PublishArguments`.

    Args:
        source: folder of the run or dataset.
        kind: of it, as `model_cards.runs.kind_of` tells.
        base_revision: commit of `base_repo`, where it is known.
    """

    source: Path
    kind: str
    repo: str
    public: bool = False
    results: str | None = None
    uncommitted: bool = False
    base_repo: str | None = None
    base_revision: str | None = None
    prepared_from: tuple[str, ...] = ()
    own_data_cleared_by: str | None = None

    @property
    def run_dir(self) -> Path:
        return self.source.parent if self.kind == "report_base" else self.source

    @property
    def results_dir(self) -> Path:
        return Path(self.results or self.run_dir / "results")

    @property
    def weights_dir(self) -> Path:
        return self.source / {"adapter": "adapter", "report_base": "."}.get(self.kind, "model")
