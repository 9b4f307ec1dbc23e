"""DeLong's test against a hand-computed case, the bootstrap and the null; Holm; resampling by patient."""

import numpy as np
import pytest
from scipy.stats import kstest

from eval.records.results import Estimate
from eval.statistics.metrics import auroc, label_aurocs, weighted_auroc
from eval.statistics.significance import (
    bootstrap_p_value,
    by_patient_intervals,
    compare_models,
    delong_covariance,
    delong_test,
    holm,
    resample_by_patient,
)
from tests.resampling import bootstrap_weights


def draw_scores(generator, films: int, positives: int, shifts=(1.0, 1.0), shared: float = 0.6):
    """Two models' scores of the same films, correlated, each a normal shifted among the positives; targets."""
    targets = np.repeat([1.0, 0.0], [positives, films - positives])
    common = generator.normal(size=films)
    scores = [
        np.sqrt(shared) * common + np.sqrt(1 - shared) * generator.normal(size=films) + s * targets for s in shifts
    ]
    return np.stack(scores), targets


def test_delong_by_hand():
    """Positives 3 and 5, negatives 1, 4 and 3 (a tie).

    Components of the positives: (1 + 0 + 1/2) / 3 = 1/2 and 1; of the negatives: 1, 1/2 and (1/2 + 1) / 2 = 3/4.
    AUROC 3/4; variance 1/8 / 2 + 1/16 / 3 = 1/12.
    """
    scores, targets = np.array([[3.0, 5, 1, 4, 3]]), np.array([1.0, 1, 0, 0, 0])
    aurocs, covariance = delong_covariance(scores, targets)
    assert aurocs[0] == pytest.approx(0.75)
    assert covariance[0, 0] == pytest.approx(1 / 8 / 2 + 1 / 16 / 3)


def test_delong_covariance_equals_its_definition_without_midranks():
    """The published definition: psi over all pairs, S10 / m + S01 / n."""
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 9, (3, 60)).astype(float)
    targets = (generator.random(60) < 0.3).astype(float)
    pairs = scores[:, targets == 1, None] - scores[:, None, targets == 0]
    psi = (pairs > 0) + (pairs == 0) / 2
    expected = np.cov(psi.mean(axis=2)) / psi.shape[1] + np.cov(psi.mean(axis=1)) / psi.shape[2]
    aurocs, covariance = delong_covariance(scores, targets)
    np.testing.assert_allclose(aurocs, [auroc(row, targets) for row in scores])
    np.testing.assert_allclose(covariance, expected)


def test_delong_variance_is_that_of_new_samples_and_of_the_bootstrap():
    draws = [draw_scores(np.random.default_rng(seed), 300, 80) for seed in range(400)]
    estimates = [delong_covariance(*draw) for draw in draws]
    aurocs = np.array([values for values, _ in estimates])
    mean_covariance = np.mean([covariance for _, covariance in estimates], axis=0)
    # The covariance over 400 samples is itself known to about 7 % (standard error).
    np.testing.assert_allclose(mean_covariance, np.cov(aurocs.T), rtol=0.25)
    scores, targets = draws[0]
    resampled = [weighted_auroc(row, targets, bootstrap_weights(np.arange(300), 2000, seed=1)) for row in scores]
    np.testing.assert_allclose(estimates[0][1], np.cov(resampled), rtol=0.15)


def test_delong_by_patient_equals_the_bootstrap_by_patient():
    """Three films a patient, nearly copies: the patients count, not the films."""
    generator = np.random.default_rng(3)
    scores, targets = draw_scores(generator, 200, 70)
    scores = np.repeat(scores, 3, axis=1) + 0.05 * generator.normal(size=(2, 600))
    targets, patients = np.repeat(targets, 3), np.repeat(np.arange(200), 3)
    # Some patients have films of both classes.
    targets[:60:3] = 1 - targets[:60:3]
    _, clustered = delong_covariance(scores, targets, patients)
    _, alone = delong_covariance(scores, targets)
    weights = bootstrap_weights(patients, 3000, seed=0)
    expected = np.cov([weighted_auroc(row, targets, weights) for row in scores])
    np.testing.assert_allclose(clustered, expected, rtol=0.12)
    assert clustered[0, 0] > 1.8 * alone[0, 0]


def test_delong_with_a_film_a_patient_is_the_plain_test():
    scores, targets = draw_scores(np.random.default_rng(5), 90, 30)
    np.testing.assert_allclose(
        delong_covariance(scores, targets, np.arange(90)[::-1])[1], delong_covariance(scores, targets)[1]
    )


def test_p_values_are_uniform_under_the_null_and_small_where_models_differ():
    null = [draw_scores(np.random.default_rng(seed), 200, 60) for seed in range(500)]
    p_values = np.array([delong_test(*scores, targets).p_value for scores, targets in null])
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert 0.02 <= (p_values < 0.05).mean() <= 0.085
    other = [draw_scores(np.random.default_rng(seed), 200, 60, shifts=(1.6, 0.6)) for seed in range(50)]
    assert np.mean([delong_test(*scores, targets).p_value < 0.05 for scores, targets in other]) > 0.9


def test_the_interval_holds_the_difference_and_agrees_with_the_p_value():
    for seed in range(20):
        scores, targets = draw_scores(np.random.default_rng(seed), 150, 50, shifts=(1.2, 0.9))
        test = delong_test(*scores, targets)
        assert test.low < test.difference < test.high
        assert (test.p_value < 0.05) == (not test.low <= 0 <= test.high)
        other = delong_test(*scores[::-1], targets)
        assert (other.difference, other.p_value) == pytest.approx((-test.difference, test.p_value))


def test_delong_where_there_is_nothing_to_test():
    scores, targets = draw_scores(np.random.default_rng(0), 40, 10)
    same = delong_test(scores[0], 2 * scores[0] + 1, targets)
    assert (same.difference, same.p_value) == (0, 1)
    one_class = delong_test(*scores, np.ones(40))
    assert np.isnan([one_class.first, one_class.difference, one_class.p_value]).all()
    # Perfect and perfectly wrong: no variance is left to test with.
    perfect = delong_test(targets, -targets, targets)
    assert perfect.difference == 1
    assert np.isnan(perfect.p_value)
    lone = delong_test(*scores, np.eye(40)[0])
    assert np.isfinite(lone.difference)
    assert np.isnan(lone.p_value)


def test_holm_by_hand():
    """Sorted 0.01, 0.02, 0.03, 0.6 of four: times 4, 3, 2, 1, never falling."""
    np.testing.assert_allclose(holm([0.03, 0.01, 0.6, 0.02]), [0.06, 0.04, 0.6, 0.06])
    np.testing.assert_allclose(holm([0.5, np.nan, 0.9]), [1, np.nan, 1])
    assert holm([]).shape == (0,)


def test_resampling_in_blocks_gives_the_draws_of_the_whole():
    patients = np.array(list("aabcccdefghij"))
    whole = resample_by_patient(lambda weights: weights, patients, 11, seed=4)
    np.testing.assert_array_equal(whole[0], np.ones(13))
    np.testing.assert_array_equal(whole[1:], bootstrap_weights(patients, 11, seed=4))
    blocks = resample_by_patient(lambda weights: weights, patients, 11, seed=4, block_elements=20)
    np.testing.assert_array_equal(blocks, whole)


def test_the_interval_of_a_mean_covers_by_patient():
    """Films of a patient are equal: the interval is that of the mean of the patients."""
    covered = []
    for seed in range(150):
        values = np.repeat(np.random.default_rng(seed).normal(size=40), 5)
        mean = lambda weights, values=values: (weights @ values / weights.sum(axis=1))[:, None]  # noqa: E731
        (estimate,) = by_patient_intervals(mean, np.repeat(np.arange(40), 5), 300, seed)
        covered.append(estimate.low <= 0 <= estimate.high)
    assert 0.88 <= np.mean(covered) <= 0.99


def test_bootstrap_p_value_by_hand():
    assert bootstrap_p_value(np.array([0.3, 0.1, 0.2, -0.1, 0.4])) == pytest.approx(2 * 2 / 5)
    assert bootstrap_p_value(np.array([0.3, *[0.1] * 99])) == pytest.approx(0.02)
    assert bootstrap_p_value(np.array([np.nan, 0.1])) is None


def test_models_are_compared_label_by_label_and_in_the_mean():
    generator = np.random.default_rng(0)
    (better, worse), easy = draw_scores(generator, 240, 80, shifts=(2.0, 0.3))
    (one, other), even = draw_scores(generator, 240, 60)
    targets = np.stack([easy, even, np.zeros(240)], axis=1)
    targets[200:, 1] = np.nan
    first, second = np.stack([better, one, one], axis=1), np.stack([worse, other, other], axis=1)
    patients = np.arange(240) // 2
    result = compare_models(["easy", "even", "absent"], first, second, targets, patients, 200, seed=0)
    easy_label, even_label, absent = result.labels
    assert easy_label.p_holm == pytest.approx(2 * easy_label.p_value)
    assert easy_label.p_holm < 0.01
    assert even_label.p_value > 0.05
    assert (even_label.films, even_label.positives) == (200, 60)
    assert (absent.first, absent.p_value, absent.difference) == (None, None, Estimate(None, None, None))
    assert result.macro.value == pytest.approx((easy_label.difference.value + even_label.difference.value) / 2)
    assert 0 < result.macro.low < result.macro.value < result.macro.high
    assert result.macro_p_value == pytest.approx(2 / 201)
    assert result.patients == 120
    same = compare_models(["easy"], first[:, :1], first[:, :1], targets[:, :1], patients, 50, seed=0)
    assert (same.macro, same.macro_p_value) == (Estimate(0, 0, 0), 1)


def test_scores_that_cannot_be_compared_are_refused():
    scores, targets = np.zeros((4, 1)), np.array([[0.0], [1], [0], [1]])
    with pytest.raises(ValueError, match="scores and targets are"):
        compare_models(["a"], scores, scores[:3], targets, np.arange(4), 10, 0)
    with pytest.raises(ValueError, match="not finite"):
        compare_models(["a"], scores, scores * np.nan, targets, np.arange(4), 10, 0)


@pytest.mark.parametrize("patients", [1, 2, 9])
def test_of_too_few_patients_no_interval_is_defined(patients):
    generator = np.random.default_rng(0)
    targets = (generator.random((40, 2)) < 0.4).astype(float)
    first = generator.normal(size=(40, 2))
    second = first + 0.1 * generator.normal(size=(40, 2))
    ids = np.arange(40) % patients
    result = compare_models(["a", "b"], first, second, targets, ids, 200, 0)
    assert result.macro.value is not None
    assert (result.macro.low, result.macro.high, result.macro_p_value) == (None, None, None)
    (estimate, _) = by_patient_intervals(lambda weights: label_aurocs(first, targets, weights), ids, 200, 0)
    assert estimate.value is not None
    assert (estimate.low, estimate.high) == (None, None)


def test_of_ten_patients_an_interval_is_defined():
    generator = np.random.default_rng(0)
    targets = (generator.random((40, 1)) < 0.4).astype(float)
    scores = generator.normal(size=(40, 1))
    (estimate,) = by_patient_intervals(
        lambda weights: label_aurocs(scores, targets, weights), np.arange(40) % 10, 200, 0
    )
    assert estimate.low < estimate.value < estimate.high
