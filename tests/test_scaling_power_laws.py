"""Power laws: known ones are found, again by scipy, with intervals that cover; flat ones and few sizes are said."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from eval.studies.scaling.power_laws import LARGEST_EXPONENT, PowerLaws, crossings, fit_power_laws, log_slopes

SIZES = np.array([300, 1000, 3000, 10_000, 30_000])


def law(a: float, b: float, c: float) -> PowerLaws:
    return PowerLaws(np.array([a]), np.array([b]), np.array([c]))


@pytest.mark.parametrize(
    ("a", "b", "c"), [(2.0, 0.35, 0.05), (0.9, 0.12, 0.0), (40.0, 0.9, 0.2), (1e4, 1.8, 0.1), (0.5, 0.05, 0.02)]
)
def test_a_law_without_noise_is_found(a, b, c):
    found = fit_power_laws(SIZES, law(a, b, c).errors(SIZES))
    assert found.exponent[0] == pytest.approx(b, abs=1e-4)
    assert found.floor[0] == pytest.approx(c, abs=1e-3)
    np.testing.assert_allclose(found.errors(SIZES * 3), law(a, b, c).errors(SIZES * 3), atol=1e-4)


def test_no_other_law_is_closer_by_scipy():
    """Of noisy curves, from many starts, within the same bounds."""
    generator = np.random.default_rng(0)
    curves = law(2.0, 0.35, 0.05).errors(SIZES) + generator.normal(0, 0.01, (12, 5))
    found = fit_power_laws(SIZES, curves)
    own = ((found.errors(SIZES) - curves) ** 2).sum(axis=1)
    for curve, squares in zip(curves, own, strict=True):
        best = np.inf
        for exponent in (0.05, 0.2, 0.5, 1.0, 2.0):
            start = [curve[0] - curve[-1], exponent, curve[-1] * 0.9]
            bounds = ([0, 0, 0], [np.inf, LARGEST_EXPONENT, np.inf])

            def residuals(x, curve=curve):
                return x[0] * (SIZES / SIZES[0]) ** -x[1] + x[2] - curve

            best = min(best, 2 * least_squares(residuals, start, bounds=bounds, xtol=1e-12, ftol=1e-12).cost)
        assert squares <= best + 1e-7


def test_bounds_hold_and_flat_curves_are_their_floor():
    rising = np.linspace(0.2, 0.3, 5)[None]
    found = fit_power_laws(SIZES, np.vstack([rising, np.full((1, 5), 0.25), np.zeros((1, 5))]))
    assert found.amplitude.tolist() == found.exponent.tolist() == [0, 0, 0]
    np.testing.assert_allclose(found.floor, [0.25, 0.25, 0])
    # Steeper than a power law: the floor stays at 0.
    steep = fit_power_laws(SIZES, np.array([[0.4, 0.39, 0.35, 0.2, 0.01]]))
    assert steep.floor[0] == 0
    assert steep.amplitude[0] > 0


@pytest.mark.parametrize(
    ("films", "errors", "message"),
    [
        ([300, 1000], [0.2, 0.1], "needs at least 3 sizes, not 2 \\(300, 1,000\\)"),
        ([300, 300, 1000], [0.2, 0.2, 0.1], "not 2"),
        ([0, 300, 1000], [0.2, 0.2, 0.1], "sizes must be above 0"),
        ([100, 300, 1000], [0.2, np.nan, 0.1], "errors must be finite"),
        ([100, 300, 1000], [0.2, 0.1, -0.1], "at least 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(films, errors, message):
    with pytest.raises(ValueError, match=message):
        fit_power_laws(np.array(films), np.array([errors]))


def test_films_for_an_error_and_errors_never_reached():
    curve = law(2.0, 0.5, 0.1)
    assert curve.films_for(curve.errors(np.array([5000]))[:, 0])[0] == pytest.approx(5000)
    assert np.isinf(curve.films_for(np.array([0.1]))[0])
    assert np.isinf(curve.films_for(np.array([0.05]))[0])
    flat = law(0.0, 0.0, 0.2)
    assert flat.films_for(np.array([0.25]))[0] == 0
    assert np.isinf(flat.films_for(np.array([0.15]))[0])


def test_crossings_are_where_both_errors_are_equal():
    first, second = law(2.0, 0.5, 0.0), law(0.5, 0.3, 0.0)
    expected = 4.0 ** (1 / 0.2)
    assert crossings(first, second, 300, 300_000)[0] == pytest.approx(expected, rel=1e-3)
    assert np.isnan(crossings(first, second, 300, 900)[0])
    assert np.isnan(crossings(first, first, 300, 900)[0])


def test_slopes_are_exponents_without_a_floor():
    assert log_slopes(SIZES, law(2.0, 0.35, 0.0).errors(SIZES))[0] == pytest.approx(0.35)
    assert log_slopes(SIZES, law(2.0, 0.35, 0.05).errors(SIZES))[0] < 0.3
