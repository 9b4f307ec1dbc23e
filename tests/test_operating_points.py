"""Operating points: chosen on films of known truth, kept as JSON, checked on other films."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_curve

from data_scripts.extraction import NO_FINDING
from eval.calibration.calibrators import earned_calibration, fit_calibration
from eval.calibration.coverage import CoverageArguments, measure
from eval.calibration.operating_points import PointRules, check_points, choose_point, choose_points, choose_with_shares
from eval.calibration.shares import differ, difference_interval, share_interval
from eval.prompts import find_prompts
from eval.scores import ZeroShotScores
from eval.tasks.thresholds import choose_threshold, weighted_roc
from modeling_chexficient.operating_points_chexficient import OperatingPoints, Share, logit_of, sigmoid

RULES = PointRules(resamples=200)


def simulated(seed: int = 0, films: int = 1000, share: float = 0.2, distance: float = 2.0, per_patient: int = 2):
    """Scores [films], normal with variance 1 around 0 and, of positive films, `distance`; targets and patients."""
    generator = np.random.default_rng(seed)
    targets = (generator.random(films) < share).astype(float)
    return generator.normal(size=films) + distance * targets, targets, np.arange(films) // per_patient


def points_of(points: dict, **changed) -> OperatingPoints:
    fields = {
        "score": "logit",
        "rule": "youden",
        "refused": {},
        "least_films": 50,
        "data": "own",
        "split": "validation",
    }
    fields |= {"data_fingerprint": "0123", "model_sha256": "abcd", "resamples": 200, "seed": 0}
    return OperatingPoints(points=points, **(fields | changed))


def test_thresholds_are_those_counted_by_hand_and_by_scikit_learn():
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    targets = np.array([0, 0, 1, 0, 1, 1])
    assert choose_threshold(scores, targets, "youden") == 0.5
    assert choose_threshold(scores, targets, "sensitivity=0.95") == 0.3
    assert choose_threshold(scores, targets, "sensitivity=0.6") == 0.5
    assert choose_threshold(scores, np.zeros(6), "youden") is None
    scores, targets, patients = simulated()
    # With many equal scores.
    scores = scores.round(1)
    weights = np.random.default_rng(0).integers(0, 3, (2, len(scores))).astype(float)
    thresholds, sensitivity, specificity = weighted_roc(scores, targets, weights)
    for row, own in enumerate(weights):
        false_positives, found, at = roc_curve(targets, scores, sample_weight=own, drop_intermediate=False)
        # scikit-learn leaves out the scores of films that do not count.
        places = [list(thresholds).index(value) for value in at[1:]]
        np.testing.assert_allclose(found[1:], sensitivity[row, places])
        np.testing.assert_allclose(1 - false_positives[1:], specificity[row, places])
    false_positives, found, at = roc_curve(targets, scores)
    assert choose_point(scores, targets, patients, RULES).threshold == at[np.argmax(found - false_positives)]


def test_a_threshold_does_not_flatter_itself():
    """Sensitivity and specificity of the population at the chosen threshold are known here."""
    corrected, apparent = [], []
    for seed in range(40):
        scores, targets, patients = simulated(seed, films=400, distance=1.5)
        threshold, *shares = choose_with_shares(scores, targets, patients, PointRules(resamples=100, seed=seed))
        true = norm.sf(threshold - 1.5), norm.cdf(threshold)
        called = scores >= threshold
        apparent.append(called[targets == 1].mean() + (~called[targets == 0]).mean() - sum(true))
        corrected.append(sum(share.value for share in shares) - sum(true))
    assert np.mean(apparent) > 0.02
    assert abs(np.mean(corrected)) < 0.7 * np.mean(apparent)


@pytest.mark.parametrize(("rule", "per_patient"), [("youden", 1), ("sensitivity=0.95", 2)])
def test_intervals_hold_what_they_state(rule, per_patient):
    """Of fifty positive films, the fewest; what is meant to be 95 % (standard error 1.5 points of 200 draws)."""
    words = {"rule": rule, "per_patient": per_patient, "check_positives": [50, 500], "draws": 200, "resamples": 100}
    found = measure(CoverageArguments(**words), positives=50)
    assert (found.truth >= 0.91).all(), found.truth
    assert all((shares >= 0.91).all() for shares in found.level.values()), found.level
    # A share of 50 films has as much chance of its own as the one that was stated.
    assert found.inside[50][0] < 0.91
    assert found.width[0] < 0.3


def test_intervals_of_shares_by_hand():
    """Clopper and Pearson's 45 of 50; films of one patient that are all alike count once; 0 and 1 have one side."""
    generator = np.random.default_rng(0)
    share = share_interval(0.9, generator.binomial(50, 0.9, 4000) / 50, 50, 50)
    assert (share.low, share.high) == pytest.approx((0.782, 0.967), abs=0.004)
    doubled = share_interval(0.9, generator.binomial(25, 0.9, 4000) / 25, 50, 25)
    alone = share_interval(0.9, generator.binomial(25, 0.9, 4000) / 25, 25, 25)
    assert (doubled.low, doubled.high) == pytest.approx((alone.low, alone.high), abs=0.01)
    assert doubled.low < share.low - 0.03
    assert share_interval(1.0, np.ones(10), 60, 60) == Share(1.0, pytest.approx(0.025 ** (1 / 60)), 1.0)
    # Where no film is wrong, nothing tells that the films of a patient are more than one.
    assert share_interval(1.0, np.ones(10), 60, 12).low == pytest.approx(0.025 ** (1 / 12))
    assert share_interval(0.0, np.array([np.nan]), 60, 60).high == pytest.approx(1 - 0.025 ** (1 / 60))


def test_two_shares_differ_beyond_the_chance_of_both():
    """Newcombe's 56 of 70 and 48 of 80: by their intervals of Wilson he gives 0.0524 to 0.3339 (method 10)."""
    first, second = (
        Share(one / n, *binomtest(one, n).proportion_ci(method="wilson")) for one, n in ((56, 70), (48, 80))
    )
    assert difference_interval(first, second) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert differ(first, second)
    assert differ(second, first)
    nearer = Share(second.value + 0.06, second.low + 0.06, second.high + 0.06)
    assert nearer.value < first.low, "outside of what was stated, by chance"
    assert not differ(first, nearer)


def test_an_interval_has_width_where_no_film_is_wrong():
    scores, targets, patients = simulated(distance=50, films=500)
    point = choose_point(scores, targets, patients, RULES)
    negatives = len(np.unique(patients[targets == 0]))
    assert point.specificity.value == point.specificity.high == 1
    assert point.specificity.low == pytest.approx(0.025 ** (1 / negatives)), "the exact bound of no patient wrong of n"
    assert point.sensitivity.low < 0.95 < point.sensitivity.value < point.sensitivity.high <= 1


def test_findings_with_too_few_films_are_refused_with_the_number_and_others_are_not():
    scores, targets, patients = simulated(films=400, share=0.5)
    rare, frequent, unjudged = (targets.copy() for _ in range(3))
    rare[np.flatnonzero(rare == 1)[49:]] = 0
    frequent[np.flatnonzero(frequent == 0)[7:]] = np.nan
    patients[np.flatnonzero(targets == 1)] = 0
    unjudged[:] = np.nan
    names = ["enough", "rare", "frequent", "unjudged"]
    matrix = np.stack([targets, rare, frequent, unjudged], axis=1)
    split = ZeroShotScores(names, np.stack([scores] * 4, axis=1), matrix, np.arange(400))
    points, refused = choose_points(split, RULES)
    assert list(points) == ["enough"]
    assert refused == {
        "rare": "49 positive films, at least 50 are needed",
        "frequent": "7 negative films, at least 50 are needed",
        "unjudged": "0 positive films, at least 50 are needed",
    }
    _, refused = choose_points(replace(split, patients=patients), RULES)
    assert "are of 1 patients, at least 10" in refused["enough"]
    with pytest.raises(ValueError, match="least_films is 3"):
        PointRules(least_films=3)


def test_calibration_is_taken_only_where_it_is_earned():
    generator = np.random.default_rng(0)
    logits, patients = generator.normal(scale=2, size=4000), np.arange(4000) // 2
    targets = (generator.random(4000) < sigmoid(logits)).astype(float)

    def earned(scores):
        return earned_calibration(scores, targets, patients, 200, 0)

    assert earned(logits) is None, "these logits are right as they are"
    hot = earned(5 * logits)
    assert (hot.method, hot.offset) == ("temperature", 0)
    assert hot.scale == pytest.approx(0.2, rel=0.1)
    shifted = earned(5 * logits + 10)
    assert shifted.method == "platt"
    assert (shifted.scale, shifted.offset) == pytest.approx((0.2, -2), rel=0.1)
    steps = earned(np.sign(logits) * np.abs(logits) ** 0.1 * 10 + 10 * (logits > 1))
    assert steps.method == "isotonic"
    assert steps.brier < steps.brier_before
    assert np.all(np.diff(steps.probability(np.linspace(-30, 30, 50))) >= 0)
    assert earned(generator.normal(size=4000)) is None, "what is no better than the prevalence is no probability"
    assert fit_calibration(-logits, targets, "temperature") is None


def test_points_come_back_from_json_as_they_were(tmp_path):
    scores, targets, patients = simulated()
    point = choose_point(7 * scores, targets, patients, RULES, [["edema", "no edema"]])
    assert point.calibration is not None
    points = points_of({"edema": point}, refused={"gout": "3 positive films, at least 50 are needed"}, views=["PA"])
    points.save(tmp_path / "points.json")
    again = OperatingPoints.load(tmp_path / "points.json")
    assert again == points
    with pytest.raises(ValueError, match="no operating point for 'gout': 3 positive films"):
        again.point("gout")
    with pytest.raises(ValueError, match=r"for 'rickets': it is none of \['edema', 'gout'\]"):
        again.point("rickets")
    with pytest.raises(ValueError, match=r"other weights \(SHA-256 abcd\.\.\., these are ef01"):
        again.check_model("M", "ef01")
    for content in ("[]", "{", json.dumps({"format_version": 3}), json.dumps({"format_version": 1})):
        (tmp_path / "points.json").write_text(content)
        with pytest.raises(ValueError, match=r"points\.json cannot be read as operating points"):
            OperatingPoints.load(tmp_path / "points.json")


def test_films_of_another_population_are_seen_to_be_outside():
    scores, targets, patients = simulated(films=2000)
    split = ZeroShotScores(["edema"], scores[:, None], targets[:, None], patients)
    points = points_of(choose_points(split, RULES)[0])

    def checked(shift: float):
        scores, targets, patients = simulated(seed=1, films=2000)
        other = ZeroShotScores(["edema"], scores[:, None] + shift, targets[:, None], patients)
        return check_points(points, other, 200, 0, "test")[0]

    same, moved = checked(0), checked(0.5)
    kinds = ("sensitivity", "specificity")
    assert [(same.inside(kind), same.differs(kind)) for kind in kinds] == [(True, False)] * 2
    assert [(moved.inside(kind), moved.differs(kind)) for kind in kinds] == [(False, True)] * 2
    assert moved.sensitivity.value > points.points["edema"].sensitivity.high


def test_no_finding_is_told_by_the_other_findings():
    labels = ["edema", NO_FINDING, "Support Devices", "effusion"]
    pairs, from_others = find_prompts("default").pairs_behind(NO_FINDING, labels)
    assert (pairs, from_others) == ([("edema", "no edema"), ("effusion", "no effusion")], True)
    scores = np.random.default_rng(0).normal(size=(300, 4))
    targets = np.random.default_rng(1).integers(0, 2, (300, 4)).astype(float)
    family = find_prompts("default")
    split = ZeroShotScores(labels, family.without_others(scores, labels), targets, np.arange(300))
    points, _ = choose_points(split, RULES, family)
    differences = dict(zip(labels, scores[0], strict=True))
    point = points[NO_FINDING]
    assert point.score([differences["edema"], differences["effusion"]]) == split.scores[0, 1]
    assert points["edema"].prompts == [["edema", "no edema"]]
    assert not points["edema"].from_others


def test_a_point_of_several_comparisons_is_scored_by_their_mean():
    scores, targets, patients = simulated(seed=1, films=2000)
    split = ZeroShotScores(["edema"], scores[:, None], targets[:, None], patients)
    point = choose_points(split, RULES, find_prompts("contrast"))[0]["edema"]
    assert point.prompts == [list(pair) for pair in find_prompts("contrast").comparisons("edema")]
    assert point.score([1.0, 2.0, 6.0]) == 3.0


def test_log_probabilities_become_logits():
    probabilities = np.array([1e-6, 0.3, 0.5, 0.999])
    np.testing.assert_allclose(logit_of(np.log(probabilities)), np.log(probabilities / (1 - probabilities)), rtol=1e-9)
    assert np.isfinite(logit_of(np.array([0.0]))).all()
