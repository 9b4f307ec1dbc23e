"""Metrics of generated text against hand-computed cases and independent implementations."""

import math
import random
from functools import cache

import numpy as np
import pytest
from sklearn.metrics import f1_score

from eval.tasks.text_metrics import (
    FINDINGS,
    MAIN_FINDINGS,
    bleu_counts,
    common_subsequence,
    distinct_share,
    finding_f1,
    finding_matrix,
    macro_f1,
    micro_f1,
    precision_recall,
    repeated_ngrams,
    repeated_sentences,
    rouge_l,
    tokenise,
    weighted_agreement,
    weighted_bleu,
)


def bleu(generated: list[str], references: list[str], order: int) -> float:
    return float(weighted_bleu(bleu_counts(generated, references), np.ones((1, len(generated))), order)[0])


def drawn_texts(seed: int, count: int, words: str = "a b c d e f", shortest: int = 0) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(words.split(), k=generator.randint(shortest, 14))) for _ in range(count)]


def test_tokens_are_words_and_numbers_in_small_letters():
    assert tokenise("1. No acute, 2.5-cm MASS; patient's heart_size (normal).") == [
        *("1", "no", "acute", "2.5", "cm", "mass", "patient's", "heart", "size", "normal")
    ]
    assert tokenise(" .,; ") == []


def test_bleu_clips_counts_by_hand():
    """Papineni's own example: seven times "the" against a reference with two; both of seven words."""
    assert bleu(["the the the the the the the"], ["the cat is on the mat here"], 1) == pytest.approx(2 / 7)
    assert bleu(["the the the the the the the"], ["the cat is on the mat here"], 4) == 0


def test_bleu_penalises_brevity_but_not_length_by_hand():
    assert bleu(["the heart"], ["the heart is normal"], 1) == pytest.approx(math.exp(1 - 4 / 2))
    assert bleu(["the heart is normal today"], ["the heart is normal"], 1) == pytest.approx(4 / 5)


def test_bleu4_by_hand():
    """Five words against six: 4, 3, 2 and 1 n-grams of 5, 4, 3 and 2 match, and exp(1 - 6/5) for brevity."""
    expected = (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25 * math.exp(1 - 6 / 5)
    assert bleu(["no focal consolidation or edema"], ["no focal consolidation or pleural effusion"], 4) == (
        pytest.approx(expected)
    )


def test_bleu_is_of_the_corpus_not_a_mean_of_reports():
    """1 of 1 and 0 of 3 words are right: 1/4 of all words, no penalty (4 words against 2)."""
    assert bleu(["clear", "x y z"], ["clear", "normal"], 1) == pytest.approx(1 / 4)


def test_bleu_of_nothing_is_zero():
    assert bleu(["", "..."], ["the heart", "is normal"], 1) == 0
    assert bleu([""], [""], 1) == 0


def brute_force_bleu(generated: list[str], references: list[str], order: int) -> float:
    """From the definition, with lists alone: every n-gram of the reference can be used up once."""
    logs, length, wanted = 0.0, 0, 0
    for n in range(1, order + 1):
        hits = total = 0
        for text, reference in zip(generated, references, strict=True):
            words, left = text.split(), reference.split()
            left = [left[i : i + n] for i in range(len(left)) if len(left[i : i + n]) == n]
            for i in range(len(words) - n + 1):
                total += 1
                if words[i : i + n] in left:
                    left.remove(words[i : i + n])
                    hits += 1
        if hits == 0:
            return 0.0
        logs += math.log(hits / total) / order
    length = sum(len(text.split()) for text in generated)
    wanted = sum(len(text.split()) for text in references)
    return math.exp(logs) * (1.0 if length > wanted else math.exp(1 - wanted / length))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_bleu_equals_brute_force(order):
    for seed in range(20):
        generated, references = drawn_texts(seed, 8), drawn_texts(seed + 1000, 8)
        assert bleu(generated, references, order) == pytest.approx(brute_force_bleu(generated, references, order))


@pytest.mark.parametrize("order", [1, 4])
def test_bleu_equals_sacrebleu(order):
    sacrebleu = pytest.importorskip("sacrebleu")
    scorer = sacrebleu.BLEU(tokenize="none", smooth_method="none", max_ngram_order=order)
    for seed in range(10):
        generated, references = drawn_texts(seed, 30), drawn_texts(seed + 1000, 30)
        expected = scorer.corpus_score(generated, [references]).score / 100
        assert bleu(generated, references, order) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("order", [1, 4])
def test_bleu_equals_nltk(order):
    score = pytest.importorskip("nltk.translate.bleu_score")
    for seed in range(10):
        # nltk counts one n-gram too many in each text that is too short for any.
        generated, references = (drawn_texts(one, 30, shortest=4) for one in (seed, seed + 1000))
        wanted = [[one.split()] for one in references]
        expected = score.corpus_bleu(wanted, [one.split() for one in generated], weights=[1 / order] * order)
        assert bleu(generated, references, order) == pytest.approx(expected, abs=1e-9)


def test_bleu_of_a_resample_is_that_of_the_drawn_reports():
    generated, references = drawn_texts(3, 6), drawn_texts(4, 6)
    weights = np.array([[2, 0, 1, 0, 3, 1]])
    drawn = [row for row, times in enumerate(weights[0]) for _ in range(times)]
    expected = bleu([generated[row] for row in drawn], [references[row] for row in drawn], 2)
    assert weighted_bleu(bleu_counts(generated, references), weights, 2)[0] == pytest.approx(expected)


def test_common_subsequence_equals_the_recursion():
    for seed in range(40):
        first, second = (text.split() for text in drawn_texts(seed, 2, words="a b c"))

        @cache
        def longest(i: int, j: int, first=tuple(first), second=tuple(second)) -> int:
            if i == len(first) or j == len(second):
                return 0
            if first[i] == second[j]:
                return 1 + longest(i + 1, j + 1)
            return max(longest(i + 1, j), longest(i, j + 1))

        assert common_subsequence(first, second) == longest(0, 0)


def test_rouge_l_by_hand():
    """Lin's example: "police killed the gunman", "police kill the gunman", "the gunman kill police"; and no words."""
    reference = "police killed the gunman"
    scores = rouge_l(["police kill the gunman", "the gunman kill police", "", "x"], [reference] * 4)
    np.testing.assert_allclose(scores, [3 / 4, 2 / 4, 0, 0])
    # Two of two words and two of six: 2 x 1 x 1/3 / (4/3).
    assert rouge_l(["heart normal"], ["the heart size is quite normal"])[0] == pytest.approx(1 / 2)


def test_rouge_l_equals_rouge_score():
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    generated, references = drawn_texts(5, 40), drawn_texts(6, 40)
    expected = [scorer.score(*pair)["rougeL"].fmeasure for pair in zip(references, generated, strict=True)]
    np.testing.assert_allclose(rouge_l(generated, references), expected, atol=1e-12)


def test_findings_of_texts():
    found = finding_matrix(["Mild edema. No effusion.", "Possible pneumonia.", "Normal chest.", ""])
    told = [{name for name, there in zip(FINDINGS, row, strict=True) if there} for row in found]
    assert told == [{"Edema"}, {"Pneumonia"}, {"No Finding"}, set()]
    assert finding_matrix([]).shape == (0, 14)
    assert set(MAIN_FINDINGS) < set(FINDINGS)


def test_clinical_f1_equals_scikit_learn():
    generator = np.random.default_rng(0)
    generated, reference = generator.random((2, 80, 5)) < 0.3
    weights = generator.integers(0, 4, (3, 80)).astype(float)
    counts = weighted_agreement(generated, reference, weights)
    for row, weight in enumerate(weights):
        drawn = np.repeat(np.arange(80), weight.astype(int))
        truth, told = reference[drawn], generated[drawn]
        np.testing.assert_allclose(finding_f1(counts)[row], f1_score(truth, told, average=None))
        assert micro_f1(counts)[row] == pytest.approx(f1_score(truth, told, average="micro"))
        assert macro_f1(counts)[row] == pytest.approx(f1_score(truth, told, average="macro"))


def test_clinical_f1_by_hand():
    """First finding: told twice, once right. Second: missed. Third: told by nobody, so it stays out."""
    generated = np.array([[1, 0, 0], [1, 0, 0]], dtype=bool)
    reference = np.array([[1, 1, 0], [0, 0, 0]], dtype=bool)
    counts = weighted_agreement(generated, reference, np.ones((1, 2)))
    np.testing.assert_allclose(finding_f1(counts)[0], [2 / 3, 0, np.nan])
    assert micro_f1(counts)[0] == pytest.approx(2 / (2 + 1 + 1))
    assert macro_f1(counts)[0] == pytest.approx(1 / 3)
    precision, recall = precision_recall(counts)
    np.testing.assert_allclose(precision[0], [1 / 2, np.nan, np.nan])
    np.testing.assert_allclose(recall[0], [1, 0, np.nan])
    nothing = weighted_agreement(~generated & False, ~reference & False, np.ones((1, 2)))
    assert np.isnan(micro_f1(nothing)).all()
    assert np.isnan(macro_f1(nothing)).all()


def test_repetition_by_hand():
    assert repeated_sentences("Clear lungs. No effusion. Clear lungs. CLEAR LUNGS.") == pytest.approx(2 / 4)
    assert repeated_sentences("") == 0
    # "a b a b a b": of the five pairs a-b, b-a, a-b, b-a, a-b three stood before.
    assert repeated_ngrams("a b a b a b", 2) == pytest.approx(3 / 5)
    assert repeated_ngrams("a b c", 4) == 0
    assert distinct_share(["Clear.", "clear", "Opacity."]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(("generated", "message"), [(["a"], "1 generated texts, but 2 references"), ([], "0 gen")])
def test_texts_without_their_reference_are_refused(generated, message):
    for metric in (bleu_counts, rouge_l):
        with pytest.raises(ValueError, match=message):
            metric(generated, ["a", "b"])
    with pytest.raises(ValueError, match="no texts"):
        bleu_counts([], [])
