"""Peaks, their edges and nulls."""

import numpy as np
import pytest

from tgn.thermodynamics import critical
from tgn.thermodynamics.levels import thermal_properties

GRID = np.geomspace(0.05, 2, 60)


def lorentzian(grid, centre):
    return 3 / (1 + (np.log(grid / centre) / 0.3) ** 2)


@pytest.mark.parametrize("centre", [0.1, 0.3, 1.1])
def test_the_peak_is_found_between_the_points(centre):
    peak = critical.find_peak(GRID, lorentzian(GRID, centre))
    temperature, height = peak
    assert temperature == pytest.approx(centre, rel=2e-3)
    assert height == pytest.approx(3, rel=1e-3)
    assert not peak.at_edge


def test_a_rising_curve_has_its_top_at_the_edge():
    assert critical.find_peak(GRID, GRID).at_edge
    assert critical.find_peak(GRID, 1 / GRID).at_edge


def test_an_inner_peak_goes_before_a_higher_edge():
    curve = lorentzian(GRID, 0.5) + 10 * np.isclose(GRID, GRID[0])
    peak = critical.find_peak(GRID, curve)
    assert peak.temperature == pytest.approx(0.5, rel=1e-2)


def test_smoothing_sees_through_noise():
    rng = np.random.default_rng(0)
    noisy = lorentzian(GRID, 0.3) + 0.05 * rng.standard_normal(len(GRID))
    peak = critical.find_peak(GRID, noisy, smoothing=True, window_length=11)
    assert peak.temperature == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "options", "named"),
    [
        (([1, 2], [1, 2]), {}, "three points"),
        (([1, 2, 3], [1, 2]), {}, "specific_heats has 2"),
        (([1, 3, 2], [1, 2, 3]), {}, "must rise"),
        (([1, 2, 3], [1, 2, np.nan]), {}, "specific_heats has 1"),
        (([1, 2, 3], [1, 2, 1]), {"smoothing": True, "window_length": 4}, "window_length"),
    ],
)
def test_bad_input_is_named(arguments, options, named):
    with pytest.raises(ValueError, match=named):
        critical.find_peak(*arguments, **options)


def test_pure_noise_has_a_sharp_peak_above_the_freezing_temperature():
    """Anchors of 20 seeds on 400 points, N = 4096: 0.313 +- 0.034, height 5.0 +- 1.1."""
    null = critical.gaussian_null(
        4096, np.geomspace(0.05, 2, 400), rng=np.random.default_rng(0), draws=40
    )
    assert null.peak_temperature.mean() == pytest.approx(0.313, abs=0.02)
    assert null.peak_temperature.std() == pytest.approx(0.034, abs=0.015)
    assert null.peak_height.mean() == pytest.approx(5.0, abs=0.6)
    assert critical.freezing_temperature(1, 4096) == pytest.approx(0.245, abs=1e-3)
    assert null.specific_heat.shape == (40, 400)


def test_the_null_is_calibrated_and_heavy_tails_are_found():
    rng = np.random.default_rng(1)
    null = critical.gaussian_null(5000, (0.05, 2.0), rng=rng, draws=99)

    def p_value(levels):
        found = thermal_properties((levels - levels.mean()) / levels.std(), null.temperatures)
        peak = critical.find_peak(null.temperatures, found.specific_heat)
        return critical.excess(peak.temperature, null.peak_temperature)[1]

    of_noise = [p_value(rng.standard_normal(5000)) for _ in range(40)]
    assert np.mean(np.array(of_noise) <= 0.1) < 0.3
    assert all(p_value(rng.standard_t(3, 5000)) <= 0.05 for _ in range(5))


def test_excess_counts_the_value_itself():
    z, p = critical.excess(10.0, np.arange(9.0))
    assert p == pytest.approx(0.2)
    assert z > 0
    assert critical.excess(4.0, np.arange(9.0))[1] == 1.0
    with pytest.raises(ValueError, match="two draws"):
        critical.excess(1.0, [1.0])


def test_a_planted_power_law_is_preferred_and_a_hump_is_not():
    grid = np.linspace(0.5, 1.5, 201)
    t = np.abs(grid - 1) + 1e-12
    law = critical.power_law_at(grid, t**-0.4, 1.0, side="above")
    assert law.alpha == pytest.approx(0.4, rel=1e-6)
    assert law.is_preferred
    hump = critical.power_law_at(grid, np.exp(-3 * (grid - 1) ** 2), 1.0, side="below")
    assert not hump.is_preferred


@pytest.mark.parametrize("n", [0, 1, 4, 5])
def test_few_points_are_counted_and_are_no_power_law(n):
    below = np.linspace(0.85, 0.99, n)  # a parabola's correction is infinite at five points
    grid = np.append(below, [1.3, 1.4])
    law = critical.power_law_at(grid, np.abs(grid - 1) ** -0.4, 1.0, side="below")
    assert law.n == n
    assert not law.is_preferred
    assert np.isnan(law.aic_difference)


def test_noise_has_no_power_law():
    grid = np.geomspace(0.05, 2, 400)
    levels = np.random.default_rng(2).standard_normal(100_000)
    heat = thermal_properties(levels, grid).specific_heat
    peak = critical.find_peak(grid, heat)
    laws = [
        critical.power_law_at(grid, heat, peak.temperature, side=side)
        for side in ("below", "above")
    ]
    assert not all(law.is_preferred for law in laws)


def test_null_refusals():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="n_levels"):
        critical.gaussian_null(1, rng=rng)
    with pytest.raises(ValueError, match="degrees_of_freedom"):
        critical.gaussian_null(10, rng=rng, degrees_of_freedom=2.0)
    with pytest.raises(ValueError, match="side"):
        critical.power_law_at(GRID, GRID, 1.0, side="left")
