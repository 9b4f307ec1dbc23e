"""What somebody wants to publish, how, and what was read of it: once, for files, card and checks alike."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from model_cards.datasets import DatasetFolder, read_dataset
from model_cards.runs import FinishedRun, is_dataset, read_run


class PublishError(ValueError):
    """Something cannot be published; the message says why, and what to do."""


@dataclass(frozen=True)
class Publication:
    """A run or a dataset on its way to the Hub; for the options see `model_cards.publish.PublishArguments`.

    Args:
        source: folder of the run or dataset.
        run, dataset: what the folder holds; one of them is None.
        base_revision: commit of `base_repo`, where it is known.
    """

    source: Path
    repo: str
    run: FinishedRun | None = None
    dataset: DatasetFolder | None = None
    public: bool = False
    uncommitted: bool = False
    base_repo: str | None = None
    base_revision: str | None = None
    own_data_cleared_by: str | None = None

    @property
    def kind(self) -> str:
        """The kind of the run (`FinishedRun`), or "dataset"."""
        return "dataset" if self.run is None else self.run.kind

    @property
    def data_folders(self) -> list[Path]:
        """The prepared folders whose ids and reports must not go along."""
        return [self.source] if self.run is None else self.run.data_folders

    @property
    def adapter_base(self) -> dict | None:
        """Of an adapter, its base as the record beside its weights names it (`BaseIdentity` as a dict); else None."""
        if self.run is None or self.kind != "adapter":
            return None
        return json.loads((self.run.weights_dir / "chexficient_adapter.json").read_text())["base"]


def read_source(
    source: Path, results: str | None = None, prepared_from: list[str] | None = None
) -> dict[str, FinishedRun | DatasetFolder]:
    """What a folder holds, as the argument `run` or `dataset` of a `Publication`.

    Raises:
        ValueError: it is none of these, not finished, not evaluated, or damaged.
    """
    if is_dataset(source):
        return {"dataset": read_dataset(source, prepared_from or [])}
    return {"run": read_run(source, None if results is None else Path(results))}
