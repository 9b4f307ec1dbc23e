"""Metrics of generated reports against their references, each for many bootstrap resamples at once.

A metric is computed from counts that are kept for every report, so that a resample is a weighted sum of them: BLEU and
the clinical F1 are figures of a whole corpus, no means over reports.

All metrics of words see `tokenise`: small letters, words and numbers, no punctuation. Figures of other tokenisations
(R2Gen, for one, keeps full stops as words and cuts long references) differ by some points and cannot be compared: they
are in `eval.tasks.text_conventions`, from the same counts of words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_scripts.extraction import extract_findings, split_sentences
from data_scripts.reading.labels import CHEXPERT_LABELS

#: Over the findings of CheXpert clinical F1 is customary.
FINDINGS = CHEXPERT_LABELS
MAIN_FINDINGS = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
#: A decimal number is one word; so is "patient's".
_WORD = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+(?:'[^\W\d_]+)?")


def tokenise(text: str) -> list[str]:
    """Words and numbers in small letters; punctuation and hyphens separate words and are dropped."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True)
class BleuCounts:
    """What BLEU is computed from: `matches`, `totals` [reports, orders], `lengths`, `reference_lengths` [reports]."""

    matches: np.ndarray
    totals: np.ndarray
    lengths: np.ndarray
    reference_lengths: np.ndarray


def bleu_counts(generated: Sequence[str], references: Sequence[str], max_order: int = 4) -> BleuCounts:
    """Counts of the n-grams of order 1 to `max_order`, one reference for each generated text.

    An n-gram matches at most as often as it stands in the reference (clipped counts).

    Raises:
        ValueError: other than one reference for each text, or no texts.
    """
    return count_ngrams([tokenise(text) for text in generated], [tokenise(text) for text in references], max_order)


def count_ngrams(
    generated: Sequence[Sequence[str]], references: Sequence[Sequence[str]], max_order: int = 4
) -> BleuCounts:
    """`bleu_counts` of texts that are lists of words already."""
    _check_pairs(generated, references)
    matches, totals = np.zeros((2, len(generated), max_order))
    lengths, reference_lengths = np.zeros((2, len(generated)))
    for row, (words, wanted) in enumerate(zip(generated, references, strict=True)):
        lengths[row], reference_lengths[row] = len(words), len(wanted)
        for order in range(1, max_order + 1):
            found = _ngrams(words, order)
            matches[row, order - 1] = (found & _ngrams(wanted, order)).total()
            totals[row, order - 1] = found.total()
    return BleuCounts(matches, totals, lengths, reference_lengths)


def weighted_bleu(counts: BleuCounts, weights: np.ndarray, order: int) -> np.ndarray:
    """Corpus BLEU-`order` [R], 0 to 1, under each row of `weights` [R, reports], without smoothing.

    Geometric mean of the precisions of orders 1 to `order` times the brevity penalty (Papineni et al., ACL 2002). It is
    0 where one order has no match, and for texts without a word.
    """
    matches, totals = weights @ counts.matches[:, :order], weights @ counts.totals[:, :order]
    length, reference = weights @ counts.lengths, weights @ counts.reference_lengths
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.exp(np.log(matches / totals).mean(axis=1))
        brevity = np.exp(np.minimum(0, 1 - reference / length))
    return np.where((matches > 0).all(axis=1), precision * brevity, 0.0)


def weighted_coco_bleu(counts: BleuCounts, weights: np.ndarray, order: int) -> np.ndarray:
    """`weighted_bleu` as the COCO caption tools compute it (package pycocoevalcap, `Bleu`).

    They add 1e-15 to counts and 1e-9 to totals: where an order has no match, the figure is small and not 0.
    """
    matches, totals = weights @ counts.matches[:, :order], weights @ counts.totals[:, :order]
    length, reference = weights @ counts.lengths, weights @ counts.reference_lengths
    precision = np.exp(np.log((matches + 1e-15) / (totals + 1e-9)).mean(axis=1))
    return precision * np.exp(np.minimum(0, 1 - (reference + 1e-9) / (length + 1e-15)))


def rouge_l(generated: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """ROUGE-L [reports], 0 to 1: F1 of the longest common subsequence of words (Lin, ACL 2004), without stemming.

    Precision and recall count alike, as in the package `rouge_score`; the COCO caption tools weigh recall more. 0 where
    one of the two has no word.

    Raises:
        ValueError: other than one reference for each text, or no texts.
    """
    return common_subsequence_f([tokenise(text) for text in generated], [tokenise(text) for text in references])


def common_subsequence_f(
    generated: Sequence[Sequence[str]], references: Sequence[Sequence[str]], beta: float = 1.0
) -> np.ndarray:
    """ROUGE-L [reports] of texts that are lists of words already; recall weighs `beta` times as much as precision."""
    _check_pairs(generated, references)
    scores = np.zeros(len(generated))
    for row, (words, wanted) in enumerate(zip(generated, references, strict=True)):
        if words and wanted:
            common = (1 + beta**2) * common_subsequence(words, wanted)
            scores[row] = common / (len(words) + beta**2 * len(wanted))
    return scores


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, a column of the usual table as the bits of one integer.

    Source: Hyyrö, "Bit-parallel LCS-length computation revisited", 2004.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(second):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(second)) - 1
    column = full
    for word in first:
        matched = column & places.get(word, 0)
        column = ((column + matched) | (column - matched)) & full
    return len(second) - column.bit_count()


def finding_matrix(texts: Sequence[str]) -> np.ndarray:
    """Which findings each text tells of as present or possible, bool [texts, findings], by `data_scripts.extraction`.

    Possible ones count as present, as in the customary CheXbert F1 (package f1chexbert).
    """
    rows = [[found.get(name, 0) != 0 for name in FINDINGS] for found in map(extract_findings, texts)]
    return np.array(rows, dtype=bool).reshape(len(texts), len(FINDINGS))


@dataclass(frozen=True)
class Agreement:
    """Counts [R, findings] of findings told by both texts, by the generated one alone, by the reference alone."""

    both: np.ndarray
    generated_only: np.ndarray
    reference_only: np.ndarray


def weighted_agreement(generated: np.ndarray, reference: np.ndarray, weights: np.ndarray) -> Agreement:
    """Counts under each row of `weights` [R, texts] for two `finding_matrix` [texts, findings]."""
    pairs = (generated & reference, generated & ~reference, ~generated & reference)
    return Agreement(*(weights @ pair.astype(float) for pair in pairs))


def finding_f1(counts: Agreement) -> np.ndarray:
    """F1 [R, findings] of each finding; NaN where neither side tells of it."""
    return _f1(counts.both, counts.generated_only, counts.reference_only)


def micro_f1(counts: Agreement) -> np.ndarray:
    """F1 [R] of all findings counted together; NaN where neither side tells of any."""
    return _f1(*(count.sum(axis=1) for count in (counts.both, counts.generated_only, counts.reference_only)))


def macro_f1(counts: Agreement) -> np.ndarray:
    """Mean F1 [R] of the findings; one that neither side tells of stays out, NaN where none is left."""
    f1 = finding_f1(counts)
    defined = np.isfinite(f1)
    with np.errstate(invalid="ignore"):
        return np.where(defined, f1, 0).sum(axis=1) / defined.sum(axis=1)


def precision_recall(counts: Agreement) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall [R, findings]; NaN where nothing was generated, or nothing was to be found."""
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = counts.both / (counts.both + counts.generated_only)
        return precision, counts.both / (counts.both + counts.reference_only)


def repeated_ngrams(text: str, order: int = 4) -> float:
    """Share of the n-grams of words that stood in the text before, 0 to 1; 0 for a text of fewer words."""
    found = _ngrams(tokenise(text), order)
    return 1 - len(found) / found.total() if found else 0.0


def repeated_sentences(text: str) -> float:
    """Share of the sentences that stood in the text before, 0 to 1; 0 for a text without any."""
    sentences = [" ".join(tokenise(sentence)) for sentence in split_sentences(text)]
    return 1 - len(set(sentences)) / len(sentences) if sentences else 0.0


def distinct_share(texts: Sequence[str]) -> float:
    """Number of different texts (as words) by that of all, 0 to 1: near 0 where a model says the same of every film."""
    return len({tuple(tokenise(text)) for text in texts}) / len(texts)


def _ngrams(words: Sequence[str], order: int) -> Counter:
    return Counter(tuple(words[start : start + order]) for start in range(len(words) - order + 1))


def _f1(both: np.ndarray, generated_only: np.ndarray, reference_only: np.ndarray) -> np.ndarray:
    told = 2 * both + generated_only + reference_only
    return 2 * both / np.where(told > 0, told, np.nan)


def _check_pairs(generated: Sequence, references: Sequence) -> None:
    if len(generated) != len(references):
        raise ValueError(f"{len(generated)} generated texts, but {len(references)} references: one for each is needed")
    if not len(generated):
        raise ValueError("there are no texts to compare")
