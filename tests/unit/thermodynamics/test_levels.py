"""Thermodynamics of independent levels: identities, limits, and the exact sum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tgn.thermodynamics.levels import temperature_grid, thermal_properties

LEVELS = arrays(np.float64, st.integers(1, 40), elements=st.floats(-50, 50, width=32))
TEMPERATURES = st.floats(1e-3, 1e3)


def summed(levels, temperature):
    """U, S, F, C in extended precision, level by level."""
    above = np.asarray(levels, np.longdouble).ravel() - np.min(levels)
    weights = np.exp(-above / temperature)
    p = weights / weights.sum()
    mean = (p * above).sum()
    log_z = np.log(weights.sum())
    heat = (p * (above - mean) ** 2).sum() / temperature**2
    lowest = np.min(levels)
    return lowest + mean, log_z + mean / temperature, lowest - temperature * log_z, heat


def curves(found):
    return found.energy, found.entropy, found.free_energy, found.specific_heat


@pytest.mark.parametrize("sigma", [0.02, 1.0, 300.0])
def test_hundreds_of_thousands_of_levels_agree_with_the_exact_sum(sigma):
    """Over six decades of temperature, through bins and level by level.

    Where one level holds all, what is left of entropy and specific heat is below the bins' error.
    """
    levels = sigma * np.random.default_rng(0).standard_normal((300, 700))
    temperatures = sigma * np.geomspace(1e-4, 1e2, 25)
    found = np.array(curves(thermal_properties(levels, temperatures)))
    exact = np.array([summed(levels, t) for t in temperatures], float).T
    np.testing.assert_allclose(found[0], exact[0], rtol=1e-10, atol=1e-11 * sigma)
    np.testing.assert_allclose(found[1], exact[1], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found[2], exact[2], rtol=1e-12)
    np.testing.assert_allclose(found[3], exact[3], rtol=1e-9, atol=1e-9)


@settings(deadline=None)
@given(LEVELS, TEMPERATURES)
def test_few_levels_agree_with_the_exact_sum(levels, temperature):
    found = np.array(curves(thermal_properties(levels, [temperature])))[:, 0]
    np.testing.assert_allclose(found, np.array(summed(levels, temperature), float), atol=1e-9)


@settings(deadline=None)
@given(LEVELS, TEMPERATURES)
def test_bounds_and_the_definition_of_free_energy(levels, temperature):
    found = thermal_properties(levels, [temperature])
    assert -1e-10 <= found.entropy[0] <= np.log(levels.size) + 1e-10
    assert found.specific_heat[0] >= 0
    assert levels.min() - 1e-9 <= found.energy[0] <= levels.max() + 1e-9
    expected = found.energy[0] - temperature * found.entropy[0]
    assert found.free_energy[0] == pytest.approx(expected, rel=1e-9, abs=1e-7)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_derivatives(temperature):
    """C = dU/dT, dS/dT = C/T, dF/dT = -S."""
    levels = np.random.default_rng(1).standard_normal(2000)
    step = 1e-4
    low, mid, high = (
        np.array(curves(thermal_properties(levels, [t])))[:, 0]
        for t in (temperature - step, temperature, temperature + step)
    )
    d_energy, d_entropy, d_free, _ = (high - low) / (2 * step)
    assert d_energy == pytest.approx(mid[3], rel=1e-5)
    assert d_entropy == pytest.approx(mid[3] / temperature, rel=1e-5)
    assert d_free == pytest.approx(-mid[1], rel=1e-6)


def test_shift_scale_and_boltzmann_constant():
    levels = np.random.default_rng(2).standard_normal(5000)
    base = thermal_properties(levels, [0.5])
    shifted = thermal_properties(levels + 7, [0.5])
    assert shifted.energy[0] == pytest.approx(base.energy[0] + 7, rel=1e-12)
    assert shifted.entropy[0] == pytest.approx(base.entropy[0], rel=1e-10)
    scaled = thermal_properties(3 * levels, [1.5])
    assert scaled.specific_heat[0] == pytest.approx(base.specific_heat[0], rel=1e-10)
    assert scaled.free_energy[0] == pytest.approx(3 * base.free_energy[0], rel=1e-12)
    other = thermal_properties(levels, [0.25], k_B=2.0)
    assert other.energy[0] == pytest.approx(base.energy[0], rel=1e-12)
    assert other.entropy[0] == pytest.approx(2 * base.entropy[0], rel=1e-12)
    assert other.specific_heat[0] == pytest.approx(2 * base.specific_heat[0], rel=1e-12)


def test_limits_and_degenerate_levels():
    levels = np.r_[np.zeros(3), np.linspace(1, 2, 1000)]
    cold = thermal_properties(levels, [1e-3])
    assert cold.energy[0] == pytest.approx(0, abs=1e-12)
    assert cold.entropy[0] == pytest.approx(np.log(3))
    hot = thermal_properties(levels, [1e9])
    assert hot.entropy[0] == pytest.approx(np.log(1003))
    flat = thermal_properties(np.full(10, 4.2), [0.1, 10.0])
    np.testing.assert_allclose(flat.entropy, np.log(10))
    np.testing.assert_allclose(flat.specific_heat, 0)
    np.testing.assert_allclose(flat.energy, 4.2)


def test_gaussian_levels_follow_the_annealed_formulas_far_above_freezing():
    levels = np.random.default_rng(3).standard_normal((768, 768))
    found = thermal_properties(levels, [1.0, 2.0])
    np.testing.assert_allclose(found.entropy, np.log(levels.size) - [0.5, 0.125], atol=0.005)
    np.testing.assert_allclose(found.specific_heat, [1, 0.25], rtol=0.02)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (([], [1.0]), "energies is empty"),
        (([1.0, np.nan], [1.0]), "energies has 1"),
        (([1.0, np.inf], [1.0]), "energies has 1"),
        (([1.0], []), "temperatures is empty"),
        (([1.0], [1.0, 0.0]), "temperatures must be positive"),
        (([1.0], [np.nan]), "temperatures must be positive"),
    ],
)
def test_bad_input_is_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        thermal_properties(*arguments)


@pytest.mark.parametrize("constant", [0.0, -1.0, np.nan])
def test_boltzmann_constant_must_be_positive(constant):
    with pytest.raises(ValueError, match="k_B"):
        thermal_properties([1.0], [1.0], k_B=constant)


def test_a_tuple_of_two_is_a_range_and_a_list_is_itself():
    grid = temperature_grid((0.05, 2.0))
    assert len(grid) == 50
    assert grid[[0, -1]] == pytest.approx([0.05, 2.0])
    assert list(temperature_grid([0.05, 2.0])) == [0.05, 2.0]
    with pytest.raises(ValueError, match="does not rise"):
        temperature_grid((2.0, 0.05))
    with pytest.raises(ValueError, match="n_temps"):
        temperature_grid((0.05, 2.0), n_temps=1)
