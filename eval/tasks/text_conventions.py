"""How the texts of a figure are cleaned, cut and counted. Figures of different conventions do not compare.

`words` is ours and always reported. `r2gen_iu` and `r2gen_mimic` are those of the tables of R2Gen (arXiv 2010.16056)
and its successors: full stops are words, words that are rare in the training reports are one word `<unk>`, long reports
are cut, and BLEU and ROUGE-L are those of the COCO caption tools. On the same texts they are some points higher.
Cleaning, thresholds and lengths are those of R2Gen's code (`modules/tokenizers.py` and the two `run_*.sh`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from data_scripts.prepared.columns import read_column
from eval.tasks.text_metrics import common_subsequence_f, count_ngrams, weighted_coco_bleu

if TYPE_CHECKING:
    # A second of importing, for a name.
    from datasets import Dataset

UNKNOWN = "<unk>"
#: Of the COCO caption tools: recall weighs more than precision.
ROUGE_BETA = 1.2
WORDS = (
    "words and numbers in small letters, no punctuation; BLEU of the corpus without smoothing; ROUGE-L with beta 1, "
    "mean of the reports; METEOR: nltk's, of 2005"
)
_NUMBERING = (("1. ", ""), *((f". {n}. ", ". ") for n in range(2, 6)), *((f" {n}. ", ". ") for n in range(2, 6)))
#: What is dropped from sentences. Hyphens stay: in the published pattern ":-[" is a range, of these signs up to "[".
_DROPPED = str.maketrans("", "", "\"'/\\" + ".,?;*!%^&_+()" + ":;<=>?@[" + "]{}")


@dataclass(frozen=True)
class R2GenConvention:
    """R2Gen's way with the reports of one corpus.

    Args:
        least_count: words seen less often in the training reports are `UNKNOWN`.
        longest: words of a generated report; references have one less, for the sign that begins them counts.
        replaced: pairs of texts, replaced one after the other before a report is split into sentences.
        by_study: the report of a study counts once, not once for each of its films.
    """

    name: str
    least_count: int
    longest: int
    replaced: tuple[tuple[str, str], ...] = field(repr=False)
    by_study: bool

    @property
    def description(self) -> str:
        corpus = "IU X-ray" if self.by_study else "MIMIC-CXR"
        return (
            f"cleaned as R2Gen cleans {corpus}: small letters, full stops are words; words seen fewer than "
            f"{self.least_count} times in the training reports are {UNKNOWN}; at most {self.longest} "
            f"words ({self.longest - 1} of a reference); BLEU of the corpus as in pycocoevalcap; ROUGE-L with beta "
            f"{ROUGE_BETA}, mean of the reports; METEOR: 1.5, of the corpus, where Java is"
        )

    def clean(self, text: str) -> list[str]:
        """The words of a text, a full stop behind each sentence; a blank text has none."""
        if not text.strip():
            return []
        for old, new in self.replaced:
            text = text.replace(old, new)
        sentences = text.strip().lower().split(". ")
        return [word for sentence in sentences for word in (*sentence.translate(_DROPPED).split(), ".")]

    def vocabulary(self, reports: Sequence[str]) -> frozenset[str]:
        """The words that occur at least `least_count` times in the training reports."""
        counts = Counter(word for report in reports for word in self.clean(report))
        return frozenset(word for word, count in counts.items() if count >= self.least_count)


#: By name.
R2GEN = {
    convention.name: convention
    for convention in (
        R2GenConvention("r2gen_iu", 3, 60, (*[("..", ".")] * 3, *_NUMBERING), by_study=True),
        R2GenConvention(
            "r2gen_mimic",
            10,
            100,
            (("\n", " "), *[("__", "_")] * 7, *[("  ", " ")] * 7, *[("..", ".")] * 8, *_NUMBERING),
            by_study=False,
        ),
    )
}
#: `r2gen` is the one of a benchmark's corpus.
CONVENTIONS = ("r2gen", *R2GEN)
_OF_DATASET = {
    "iu_r2gen": "r2gen_iu",
    "open_i": "r2gen_iu",
    "mimic_r2gen": "r2gen_mimic",
    "mimic_cxr_jpg": "r2gen_mimic",
}


@dataclass(frozen=True)
class R2GenTexts:
    """A convention with the words of the training reports that it keeps."""

    convention: R2GenConvention
    vocabulary: frozenset[str]

    def generated(self, texts: Sequence[str]) -> list[list[str]]:
        return [self._known(text)[: self.convention.longest] for text in texts]

    def references(self, texts: Sequence[str]) -> list[list[str]]:
        return [self._known(text)[: self.convention.longest - 1] for text in texts]

    def joined(self, texts: Sequence[str], reference: bool = False) -> list[str]:
        """Generated texts (or references) as texts again, their words parted by a space."""
        return [" ".join(words) for words in (self.references if reference else self.generated)(texts)]

    def _known(self, text: str) -> list[str]:
        return [word if word in self.vocabulary else UNKNOWN for word in self.convention.clean(text)]


class R2GenScores:
    """BLEU-1 to 4 and ROUGE-L of texts, one reference each, for any weights of the reports.

    Raises:
        ValueError: other than one reference for each text, or no texts.
    """

    names = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l")

    def __init__(self, texts: R2GenTexts, generated: Sequence[str], references: Sequence[str]):
        words, wanted = texts.generated(generated), texts.references(references)
        self.counts = count_ngrams(words, wanted)
        self.rouge_l = common_subsequence_f(words, wanted, ROUGE_BETA)

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Figures [R, `names`] under each row of `weights` [R, reports]."""
        bleu = [weighted_coco_bleu(self.counts, weights, order) for order in range(1, 5)]
        return np.column_stack([*bleu, weights @ self.rouge_l / weights.sum(axis=1)])


def chosen_conventions(names: Sequence[str], dataset: str, train: Dataset | None) -> list[R2GenTexts]:
    """The conventions of these names for a benchmark of a dataset, each with its vocabulary of the training reports.

    Raises:
        ValueError: an unknown name, `r2gen` for a corpus that R2Gen does not clean, or there are no training reports.
    """
    return [_with_vocabulary(_convention(name, dataset), train) for name in names]


def _convention(name: str, dataset: str) -> R2GenConvention:
    if name not in CONVENTIONS:
        raise ValueError(f"text_conventions: {name!r} is unknown, there are {list(CONVENTIONS)}")
    if name == "r2gen" and dataset not in _OF_DATASET:
        raise ValueError(f"text_conventions: R2Gen has no cleaning for {dataset}: choose one of {list(R2GEN)}")
    return R2GEN[_OF_DATASET[dataset] if name == "r2gen" else name]


def _with_vocabulary(convention: R2GenConvention, train: Dataset | None) -> R2GenTexts:
    vocabulary = convention.vocabulary(_training_reports(convention, train))
    if not vocabulary:
        raise ValueError(
            f"text_conventions: {convention.name} needs training reports with words that occur "
            f"{convention.least_count} times, and there are none"
        )
    return R2GenTexts(convention, vocabulary)


def _training_reports(convention: R2GenConvention, train: Dataset | None) -> list[str]:
    """The reports from which words are counted: of films, or one of each study."""
    if train is None or "report" not in train.column_names:
        return []
    reports = [report or "" for report in read_column(train, "report")]
    if not convention.by_study or "study_id" not in train.column_names:
        return reports
    # A study's name need not be unique over patients.
    patients = read_column(train, "patient_id") if "patient_id" in train.column_names else [""] * len(reports)
    studies = zip(patients, read_column(train, "study_id"), strict=True)
    return list(dict(zip(studies, reports, strict=True)).values())
