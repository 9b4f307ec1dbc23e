"""Label records: films shown with a sentence of their structured labels in place of their report.

A film has one class, the combination of the findings that are present: `"Chest X-ray with Cardiomegaly and Edema."` So
films of equal combinations are positives of each other, and those that share a part of their findings are negatives, as
in the published UniCL, which knows one class a text. Of a film where nothing is present, all that was judged must be
absent (`"Chest X-ray with no finding."`); findings that are uncertain or that nobody judged are not said. A film that
this says nothing of keeps its report. The same combination in two corpora is one class.

Which films of a batch are shown so is drawn by the seed for the batch of all processes: neither a resumption nor the
number of processes changes it. In a curation pass pairs are judged, and trained on, by their reports.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from datasets import Dataset

from data_scripts.extraction import extract_findings
from data_scripts.prepared.columns import iterate_column
from data_scripts.prepared.films import PairDataset
from data_scripts.reading.labels import tells_normal
from data_scripts.schema import DataError

#: Keeps these draws apart from the sampler's, which begin with the seed and the number of a phase.
_DRAW = 7


def finding_sentence(labels: dict[str, int]) -> str | None:
    """The sentence of a film's labels by name (1 present, 0 absent, -1 uncertain); None where they say nothing."""
    present = sorted(name.replace("_", " ") for name, value in labels.items() if value == 1 and not tells_normal(name))
    if present:
        *first, last = present
        return f"Chest X-ray with {', '.join(first)} and {last}." if first else f"Chest X-ray with {last}."
    # Absent findings, or that a film is normal.
    said = any(value == int(tells_normal(name)) for name, value in labels.items())
    return "Chest X-ray with no finding." if said and -1 not in labels.values() else None


@dataclass(frozen=True, eq=False)
class LabelRecords:
    """The label records of a training split.

    Attributes:
        sentences: [K], of class k the k-th, counted from 1.
        classes: [films], 0 where a film has none.
        share: of label records among all pairs that are trained on.
        seed: of what is drawn.
    """

    sentences: list[str]
    classes: np.ndarray
    share: float
    seed: int

    @property
    def films(self) -> int:
        """Films that have one."""
        return int((self.classes > 0).sum())

    def texts(self) -> Iterable[str]:
        """Every film's sentence, where it has one."""
        return (self.sentences[number - 1] for number in self.classes if number)

    def draw(self, batch: np.ndarray, epoch: int, number: int) -> np.ndarray:
        """Row numbers of a batch of all processes, `films` added to those that are shown as label records.

        Every film that has a label record is drawn with the same probability, such that `share` of all pairs are.
        """
        chance = self.share * len(self.classes) / self.films
        drawn = np.random.default_rng((self.seed, _DRAW, epoch, number)).random(len(batch)) < chance
        return batch + len(self.classes) * (drawn & (self.classes[batch] > 0))

    def note(self) -> str:
        """A sentence for the record of a run."""
        return (
            f"Label records: {self.films:,} of {len(self.classes):,} films have structured labels, which make "
            f"{len(self.sentences):,} classes (combinations of findings); {self.share:.0%} of the pairs are shown with "
            "the sentence of their class in place of their report."
        )


def read_label_records(dataset: Dataset, source: str, share: float, seed: int) -> LabelRecords:
    """The label records of a training split.

    Args:
        source: "data", its column `labels`; "reports", what the extractor finds in English reports.
        share: see `LabelRecords`.

    Raises:
        DataError: no film has labels that say anything, or fewer have than `share` asks for.
    """
    if source == "data":
        labels = ({label["name"]: label["value"] for label in row} for row in iterate_column(dataset, "labels"))
    else:
        languages = iterate_column(dataset, "language") if "language" in dataset.column_names else ["en"] * len(dataset)
        texts = zip(iterate_column(dataset, "report"), languages, strict=True)
        labels = (extract_findings(text or "") if language == "en" else {} for text, language in texts)
    found = [finding_sentence(row) for row in labels]
    sentences = sorted({sentence for sentence in found if sentence is not None})
    if not sentences:
        other = {"data": "reports (what the extractor finds in reports)", "reports": "data (the column labels)"}[source]
        raise DataError(
            f"label_record_share is {share}, but none of the {len(dataset):,} training films has labels that make a "
            f"class (label_source {source}): prepare the data with its labels, give label_source {other}, or train "
            "with objective contrastive"
        )
    number = {sentence: place for place, sentence in enumerate(sentences, start=1)}
    records = LabelRecords(sentences, np.array([number.get(text, 0) for text in found]), share, seed)
    if records.films < share * len(dataset):
        raise DataError(
            f"label_record_share is {share}, but {records.films:,} of the {len(dataset):,} training films have labels: "
            f"it can be at most {records.films / len(dataset):.3f}"
        )
    return records


class LabelledPairs(PairDataset):
    """As `PairDataset`; row `films + row` is that row with the sentence of its class in place of its report.

    Its pairs have `text_class`: of a label record its class, of a report 0.
    """

    def __init__(self, dataset: Dataset, records: LabelRecords, extra: Sequence[str] = ()):
        super().__init__(dataset, extra)
        self.records = records

    @cached_property
    def training_fingerprint(self) -> str:
        digest = hashlib.sha256(super().training_fingerprint.encode())
        digest.update(self.records.classes.tobytes())
        digest.update("\0".join(self.records.sentences).encode())
        return digest.hexdigest()[:16]

    def __getitems__(self, rows: list[int]) -> list[dict]:
        pairs = super().__getitems__([row % len(self) for row in rows])
        for row, pair in zip(rows, pairs, strict=True):
            pair["text_class"] = 0
            if row >= len(self):
                pair["text_class"] = number = int(self.records.classes[row - len(self)])
                pair["report"] = self.records.sentences[number - 1]
        return pairs
