"""Results of tasks with reports: retrieval and generation."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar

from eval.records.estimates import Estimate
from eval.records.task_result import TaskResult


@dataclass
class Direction:
    """Retrieval in one direction; keys of `r_at` and `chance` are "1", "5" and "10".

    Args:
        r_at: share of the queries with a correct answer among the first k.
        chance: expected share for a random order of the candidates.
        median_rank: rank of the first correct answer, 1 is best; `mean_rank` likewise.
    """

    r_at: dict[str, Estimate]
    chance: dict[str, float]
    median_rank: Estimate
    mean_rank: float
    queries: int
    candidates: int


@dataclass
class RetrievalResult(TaskResult):
    """Cross-modal retrieval, identical texts and all images of a study counted as correct."""

    task: ClassVar[str] = "retrieval"
    _: KW_ONLY
    image_to_text: Direction
    text_to_image: Direction
    n_images: int
    n_texts: int
    n_distinct_texts: int

    @property
    def headline(self) -> tuple[str, Estimate]:
        return "R@5 image to text", self.image_to_text.r_at["5"]


@dataclass
class TextScores:
    """Generated reports against their references; all shares are 0 to 1.

    Args:
        bleu1, bleu4, rouge_l, meteor: by the convention `words` of `ReportResult.conventions` (METEOR: nltk's, 2005).
        f1_micro, f1_macro: clinical F1 of the findings extracted from both texts; `f1_five_*` of the five main ones.
        mean_words: length of the generated reports.
        repeated: share of the 4-grams of a report that stood in it before.
        distinct: share of the generated reports that differ from all others.
        optional: further metrics by name, where their packages and weights are installed.
        by_convention: "bleu1" to "bleu4" and "rouge_l" by the name of another convention, where one was asked for; of
            "radeval" its own figures by its own names, without intervals.
    """

    bleu1: Estimate
    bleu4: Estimate
    rouge_l: Estimate
    meteor: Estimate | None
    f1_micro: Estimate
    f1_macro: Estimate
    f1_five_micro: Estimate
    f1_five_macro: Estimate
    mean_words: float
    repeated: float
    distinct: float
    optional: dict[str, float] = field(default_factory=dict)
    by_convention: dict[str, dict[str, Estimate]] = field(default_factory=dict)


@dataclass
class FindingScores:
    """One finding: in how many references and generated reports it is present, and how these agree; None: undefined."""

    name: str
    references: int
    generated: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass
class ReportResult(TaskResult):
    """Report generation. `baselines` by name ("most frequent report", "nearest neighbour") are scored likewise.

    `conventions` says of each convention by name how texts are cleaned, cut and counted; older results have none, and
    are all by that of words.
    """

    task: ClassVar[str] = "report_generation"
    _: KW_ONLY
    scores: TextScores
    baselines: dict[str, TextScores]
    findings: list[FindingScores]
    reference_words: float
    decoder: dict[str, int | float | str] = field(default_factory=dict)
    conventions: dict[str, str] = field(default_factory=dict)

    @property
    def headline(self) -> tuple[str, Estimate]:
        return "clinical F1 (micro)", self.scores.f1_micro
