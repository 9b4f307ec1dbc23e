"""Conventions of published tables: cleaning, rare words and lengths by hand; BLEU and ROUGE-L against pycocoevalcap."""

import math
import re

import numpy as np
import pytest
from datasets import Dataset

from eval.settings import EvaluationSettings
from eval.tasks.text_conventions import R2GEN, UNKNOWN, R2GenScores, R2GenTexts, chosen_conventions

IU, MIMIC = R2GEN["r2gen_iu"], R2GEN["r2gen_mimic"]
KNOWN = frozenset(["the", "heart", "is", "normal", ".", "no", "effusion", "mild", "edema", "clear", "lungs", "are"])


def scores(generated: list[str], references: list[str], vocabulary=KNOWN) -> dict[str, float]:
    found = R2GenScores(R2GenTexts(IU, vocabulary), generated, references)
    return dict(zip(found.names, found(np.ones((1, len(generated))))[0].tolist(), strict=True))


@pytest.mark.parametrize(
    ("text", "iu", "mimic"),
    [
        ("The heart is NORMAL. No effusion.", "the heart is normal . no effusion .", None),
        ("1. Clear lungs. 2. No effusion", "clear lungs . no effusion .", None),
        # Commas, quotes and points within numbers go; hyphens stay.
        ('Heart: large, 2.5-cm "mass"; patient\'s (x/y) [z].', "heart large 25-cm mass patients xy z .", None),
        # Underscores of de-identified names are dropped alike; only one corpus shortens runs and joins lines.
        ("Seen by ___.\nNo edema.", "seen by no edema .", "seen by . no edema ."),
        ("Clear.... No edema", "clear . no edema .", None),
        ("the heart is normal . no effusion .", "the heart is normal . no effusion .", None),
        ("  \n", "", None),
    ],
)
def test_reports_are_cleaned_as_r2gen_cleans_them(text, iu, mimic):
    assert " ".join(IU.clean(text)) == iu
    assert " ".join(MIMIC.clean(text)) == (iu if mimic is None else mimic)


def test_words_below_the_threshold_are_one_unknown_word():
    reports = ["clear lungs", "clear heart", "clear heart lungs"]
    assert IU.vocabulary(reports) == {"clear", "."}
    texts = R2GenTexts(IU, IU.vocabulary(reports))
    assert texts.generated(["Clear heart."]) == [["clear", UNKNOWN, "."]]
    assert MIMIC.vocabulary(reports * 3) == set()
    assert MIMIC.vocabulary([*reports * 3, "clear"]) == {"clear", "."}


@pytest.mark.parametrize(("convention", "longest"), [(IU, 60), (MIMIC, 100)])
def test_reports_are_cut_and_a_reference_one_word_shorter(convention, longest):
    """The sign that begins a reference counts among the words of R2Gen's training texts."""
    texts = R2GenTexts(convention, frozenset(["a", "."]))
    assert [len(words) for words in texts.generated(["a " * 200, "a"])] == [longest, 2]
    assert [len(words) for words in texts.references(["a " * 200, "a"])] == [longest - 1, 2]


def test_figures_by_hand():
    """Generated "no effusion .", reference "no mild effusion .": 3 of 3 words, 1 of 2 pairs, no triple, and brevity."""
    found = scores(["No effusion."], ["No mild effusion."])
    brevity = math.exp(1 - 4 / 3)
    assert found["bleu1"] == pytest.approx(brevity)
    assert found["bleu2"] == pytest.approx(math.sqrt(1 / 2) * brevity)
    # COCO's tools put 1e-15 in place of no match: of one triple.
    assert found["bleu3"] == pytest.approx((1 / 2 * 1e-15) ** (1 / 3) * brevity)
    precision, recall = 3 / 3, 3 / 4
    assert found["rouge_l"] == pytest.approx((1 + 1.44) * precision * recall / (recall + 1.44 * precision))


def test_full_stops_and_unknown_words_count_as_matches():
    found = scores(["Cardiomegaly."], ["Pneumothorax."])
    assert found["bleu1"] == pytest.approx(1)
    assert found["rouge_l"] == pytest.approx(1)
    assert scores([" "], ["Normal."])["rouge_l"] == 0


PAIRS = [
    ("The heart is normal. No effusion. Lungs are clear.", "Heart size is normal. The lungs are clear. No effusion."),
    ("Mild edema.", "1. Mild pulmonary edema. 2. No effusion."),
    ("", "The heart is normal."),
    ("No effusion. No effusion. No mild edema, no effusion.", "No effusion or edema."),
    ("The lungs are clear. " * 20, "The lungs are clear. The heart is normal. " * 12),
]
#: Of the words below by pycocoevalcap 1.2 (`pip install --no-deps pycocoevalcap`):
#: Bleu(4).compute_score(references, generated)[0] and Rouge().compute_score(references, generated)[0], both with
#: {row: [" ".join(words)]}.
GOLDEN = [0.6739818735982623, 0.5975846431703806, 0.5315640892952579, 0.4703167719098867, 0.47870088806529354]


def test_figures_equal_those_of_pycocoevalcap():
    generated, references = zip(*PAIRS, strict=True)
    np.testing.assert_allclose(list(scores(generated, references).values()), GOLDEN, rtol=0, atol=1e-13)


def test_figures_equal_those_of_pycocoevalcap_where_it_is():
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu")
    rouge = pytest.importorskip("pycocoevalcap.rouge.rouge")
    generated, references = zip(*PAIRS, strict=True)
    texts = R2GenTexts(IU, KNOWN)
    told, wanted = (
        {row: [" ".join(words)] for row, words in enumerate(side)}
        for side in (texts.generated(generated), texts.references(references))
    )
    expected = [*bleu.Bleu(4).compute_score(wanted, told, verbose=0)[0], rouge.Rouge().compute_score(wanted, told)[0]]
    np.testing.assert_allclose(list(scores(generated, references).values()), expected, rtol=0, atol=1e-13)


def test_a_resample_has_the_figures_of_the_drawn_reports():
    generated, references = zip(*PAIRS, strict=True)
    drawn = [0, 0, 3, 4, 4, 4]
    weights = np.bincount(drawn, minlength=5)[None].astype(float)
    found = R2GenScores(R2GenTexts(IU, KNOWN), generated, references)(weights)[0]
    expected = scores([generated[row] for row in drawn], [references[row] for row in drawn])
    np.testing.assert_allclose(found, list(expected.values()), atol=1e-12)


def test_the_vocabulary_is_of_training_reports_and_iu_counts_a_study_once():
    train = Dataset.from_dict({"report": ["Clear."] * 2 + ["Edema."] * 9 + ["Clear."], "study_id": [*"aabbbcccddde"]})
    (texts,) = chosen_conventions(["r2gen"], "iu_r2gen", train)
    # Four studies: a and e are clear, b and c edema, as is d.
    assert (texts.convention, texts.vocabulary) == (IU, {"edema", "."})
    (texts,) = chosen_conventions(["r2gen"], "mimic_r2gen", train)
    assert (texts.convention, texts.vocabulary) == (MIMIC, {"."})
    # Hospitals count the studies of each patient from 1.
    counted = Dataset.from_dict({"report": ["Edema."] * 3, "patient_id": [*"xyz"], "study_id": ["1"] * 3})
    (texts,) = chosen_conventions(["r2gen"], "iu_r2gen", counted)
    assert texts.vocabulary == {"edema", "."}


def test_what_cannot_be_had_is_refused():
    train = Dataset.from_dict({"report": ["Clear."] * 3})
    with pytest.raises(ValueError, match=re.escape("no cleaning for synthetic: choose one of ['r2gen_iu', 'r2gen_mi")):
        chosen_conventions(["r2gen"], "synthetic", train)
    for split in (None, Dataset.from_dict({"image": [1]}), train.select([0])):
        with pytest.raises(ValueError, match="r2gen_iu needs training reports with words that occur 3 times"):
            chosen_conventions(["r2gen_iu"], "synthetic", split)
    with pytest.raises(ValueError, match=re.escape("'coco' is unknown, there are ['r2gen', 'r2gen_iu', 'r2gen_mi")):
        chosen_conventions(["coco"], "iu_r2gen", train)


def test_only_a_chosen_convention_changes_what_a_result_depends_on():
    assert "text_conventions" not in EvaluationSettings().relevant("report_generation")
    chosen = EvaluationSettings(text_conventions=("r2gen_iu",))
    assert chosen.relevant("report_generation")["text_conventions"] == ["r2gen_iu"]
    assert "text_conventions" not in chosen.relevant("zero_shot")
