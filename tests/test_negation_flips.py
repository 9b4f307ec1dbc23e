"""Drops of metrics by flipped and reworded sentences, by hand."""

import numpy as np
import pytest

from eval.negation_flips import METRICS, SENTENCES, clinical_f1, drops, noticed, page

ONE = [("There is no pneumothorax.", "There is a pneumothorax.", "A pneumothorax is not seen.")]


def test_drops_by_hand():
    """Three of four words stand in the flip, in order; two of five in the rewording, one in order."""
    np.testing.assert_allclose(drops(METRICS["BLEU-1, words"], ONE), [[1 / 4, 1 - 2 / 5]])
    np.testing.assert_allclose(drops(METRICS["ROUGE-L (beta 1), words"], ONE), [[1 / 4, 1 - 2 / 9]])
    # One more word, the full stop, is right.
    assert drops(METRICS["BLEU-1, r2gen_iu"], ONE)[0, 0] == pytest.approx(1 / 5)
    np.testing.assert_array_equal(drops(clinical_f1, ONE), [[1, 0]])


def test_a_flip_is_noticed_if_it_costs_more_than_a_rewording():
    assert noticed(np.array([[0.5, 0.2], [0.2, 0.5], [0.3, 0.3]])).tolist() == [True, False, False]


def test_texts_that_tell_of_no_finding_agree():
    assert clinical_f1("The film is rotated.", "A portable film.") == 1
    assert clinical_f1("Pleural effusion.", "A portable film.") == 0


def test_there_are_twenty_sentences_and_each_text_stands_once():
    assert len(SENTENCES) == 20
    assert len({text for row in SENTENCES for text in row}) == 60


def test_the_page_tells_overlap_of_words_from_findings():
    lines = page().splitlines()
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in lines if line.startswith("| ")}
    assert int(rows["clinical F1"][1]) > int(rows["ROUGE-L (beta 1), words"][1])
    assert sum(line.startswith(f"| {written} |") for line in lines for written, *_ in SENTENCES) == 20
