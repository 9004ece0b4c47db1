"""Exponents that are there are found, with honest intervals; others are not."""

import numpy as np
import pytest

from tgn.thermodynamics import scaling_laws as laws

SIZES = np.geomspace(1e2, 1e6, 9)


def noisy(seed, exponent=0.3, spread=0.05, sizes=SIZES):
    rng = np.random.default_rng(seed)
    return 2 * sizes**exponent * np.exp(spread * rng.standard_normal(len(sizes)))


def test_an_exact_law_is_found_and_preferred():
    fit = laws.fit_power_law(SIZES, 2 * SIZES**0.3)
    assert (fit.a, fit.b) == (pytest.approx(2), pytest.approx(0.3))
    assert fit.best == "power law"
    np.testing.assert_allclose(fit([1.0, 10.0]), [2, 2 * 10**0.3])


def test_intervals_cover_as_often_as_they_say():
    inside = [
        fit.low <= 0.3 <= fit.high
        for fit in (laws.fit_power_law(SIZES, noisy(seed)) for seed in range(300))
    ]
    assert 0.91 <= np.mean(inside) <= 0.99


def test_what_does_not_scale_is_called_constant():
    best = [laws.fit_power_law(SIZES, noisy(seed, exponent=0)).best for seed in range(50)]
    assert best.count("constant") > 30


def test_a_logarithm_is_not_called_a_power_law():
    assert laws.fit_power_law(SIZES, 1 + 3 * np.log(SIZES)).best == "logarithm"


def test_errors_on_both_axes_undo_the_dilution_of_the_slope():
    rng = np.random.default_rng(0)
    spread, slopes, inside = 0.8, [], []
    for _ in range(60):
        x = SIZES * np.exp(spread * rng.standard_normal(len(SIZES)))
        y = noisy(rng.integers(1 << 30), spread=0.1)
        fit = laws.fit_with_errors(x, y, x_error=spread * x, y_error=0.1 * y)
        slopes.append((fit.b, laws.fit_power_law(x, y).b))
        inside.append(fit.low <= 0.3 <= fit.high)
    corrected, diluted = np.mean(slopes, axis=0)
    assert abs(corrected - 0.3) < abs(diluted - 0.3)
    assert np.mean(inside) > 0.85


def test_bootstrap_over_models_holds_the_exponent():
    low, high = laws.bootstrap_exponent(
        SIZES, noisy(1), rng=np.random.default_rng(0), resamples=500
    )
    assert low < 0.3 < high
    assert high - low < 0.1


def curves(nu, beta, sizes=(8, 16, 32, 64)):
    """Values that collapse exactly."""
    found = {}
    for size in sizes:
        scaled = np.linspace(-5, 5, 41)
        t = scaled * size ** (-1 / nu)
        found[size] = (1 + t, size ** (-beta / nu) / (1 + np.exp(scaled)))
    return found


@pytest.mark.parametrize(("nu", "beta"), [(1.0, 0.125), (0.63, 0.326)])
def test_planted_exponents_are_found_by_the_collapse(nu, beta):
    found = laws.collapse(
        curves(nu, beta), 1.0, rng=np.random.default_rng(0), resamples=3, permutations=9
    )
    assert found.nu == pytest.approx(nu, rel=0.05)
    assert found.beta == pytest.approx(beta, abs=0.03)
    assert found.spread < 0.01 * found.null_spread
    assert found.p == pytest.approx(0.1)


def test_multiple_regression_and_its_refusals():
    rng = np.random.default_rng(2)
    a, b = rng.random(40) + 0.5, rng.random(40) + 0.5
    found = laws.least_squares({"a": a, "b": b}, 3 * a**2 / b, logarithms=True)
    assert found["slopes"] == {"a": pytest.approx(2), "b": pytest.approx(-1)}
    assert np.exp(found["intercept"]) == pytest.approx(3)
    with pytest.raises(ValueError, match="collinear"):
        laws.least_squares({"a": a, "b": a**2}, a, logarithms=True)
    with pytest.raises(ValueError, match="2 points do not decide 3"):
        laws.least_squares({"a": a[:2], "b": b[:2]}, a[:2], logarithms=False)


@pytest.mark.parametrize(
    ("x", "y", "named"),
    [
        ([1.0], [1.0], "at least 3 points"),
        ([1, 2, 3], [1, 2], "y has 2"),
        ([1, 2, 3], [1, -2, 3], "positive"),
        ([2, 2, 2], [1, 2, 3], "all values are equal"),
        ([1, 2, np.nan], [1, 2, 3], "x has 1"),
    ],
)
def test_bad_points_are_named(x, y, named):
    with pytest.raises(ValueError, match=named):
        laws.fit_power_law(x, y)


def test_a_collapse_needs_sizes():
    with pytest.raises(ValueError, match="three sizes"):
        laws.collapse({1.0: ([1, 2], [1, 2])}, 1.0, rng=np.random.default_rng(0))
