"""The published functions, doing what their names say."""

import numpy as np
import pytest

from tgn.thermodynamics.critical import freezing_temperature
from thermodynamic_scaling import thermodynamics as ts

RNG = np.random.default_rng(0)
MATRIX = 0.14 * RNG.standard_normal((60, 80))


def test_scalars_agree_with_the_definitions():
    energies, t = RNG.standard_normal(500), 0.7
    z = np.exp(-energies / t).sum()
    p = np.exp(-energies / t) / z
    assert ts.partition_function(energies, 1 / t) == pytest.approx(z)
    for order in range(4):
        expected = (p * energies**order).sum()
        assert ts.expectation_value(energies, 1 / t, order) == pytest.approx(expected)
    assert ts.free_energy(energies, t) == pytest.approx(-t * np.log(z))
    assert ts.entropy(energies, t) == pytest.approx(-(p * np.log(p)).sum())
    variance = (p * energies**2).sum() - (p * energies).sum() ** 2
    assert ts.specific_heat(energies, t) == pytest.approx(variance / t**2)
    assert ts.specific_heat(energies, t / 2, k_B=2.0) == pytest.approx(2 * variance / t**2)


def test_what_is_beyond_float64_is_said_and_not_returned():
    with pytest.raises(OverflowError, match="free_energy"):
        ts.partition_function([-1000.0, 0.0], 1.0)
    assert ts.expectation_value([-1000.0, 0.0], 1.0) == pytest.approx(-1000)


def test_a_matrix_of_single_precision_is_worked_on_in_double():
    single = MATRIX.astype(np.float32)
    found = ts.compute_thermal_properties(single, np.array([0.01]))
    expected = ts.compute_thermal_properties(single.astype(float), np.array([0.01]))
    assert found["entropy"][0] == expected["entropy"][0]
    assert found["entropy"].dtype == np.float64


def test_a_tuple_is_a_range_and_integers_do_not_truncate():
    found = ts.compute_thermal_properties(MATRIX, (0.05, 2.0))
    assert len(found["temperatures"]) == len(found["specific_heat"]) == 50
    whole = ts.compute_thermal_properties(MATRIX, np.array([1, 2]))
    assert whole["entropy"][0] != round(whole["entropy"][0])


def test_normalised_levels_forget_their_scale_but_not_their_sign():
    one = ts.compute_thermal_properties(MATRIX, (0.05, 2.0), normalize="std")
    other = ts.compute_thermal_properties(5 * MATRIX + 3, (0.05, 2.0), normalize="std")
    np.testing.assert_allclose(one["specific_heat"], other["specific_heat"], rtol=1e-8)
    assert one["freezing_temperature"] == freezing_temperature(1, MATRIX.size)
    assert other["sigma"] == pytest.approx(5 * one["sigma"])


def test_layers_are_one_ensemble():
    layers = {"layer_0": MATRIX[:30], "layer_1": MATRIX[30:]}
    pooled = ts.compute_thermal_properties(layers, (0.05, 2.0))
    whole = ts.compute_thermal_properties(MATRIX, (0.05, 2.0))
    np.testing.assert_allclose(pooled["specific_heat"], whole["specific_heat"], rtol=1e-12)
    assert pooled["layers"] == ["layer_0", "layer_1"]


def test_the_published_grid_misses_the_peak_of_real_weights_and_says_so():
    """sigma 0.14: the peak lies near 0.04, below the published grid's 0.05."""
    weights = 0.14 * np.random.default_rng(1).standard_normal((768, 768))
    curves = ts.compute_thermal_properties(weights, (0.05, 2.0))
    peak = ts.find_critical_point(curves["temperatures"], curves["specific_heat"])
    assert peak.at_edge
    temperature, height = peak
    assert temperature == pytest.approx(0.05)
    assert height == pytest.approx(6.74, rel=0.1)  # in single precision 7.76
    normal = ts.compute_thermal_properties(weights, (0.05, 2.0), normalize="std")
    assert not ts.find_critical_point(normal["temperatures"], normal["specific_heat"]).at_edge


def test_scaling_is_declined_where_there_is_none():
    curves = ts.compute_thermal_properties(MATRIX, tuple(0.14 * np.array([0.05, 2])), n_temps=200)
    peak = ts.find_critical_point(curves["temperatures"], curves["specific_heat"])
    found = ts.analyze_critical_scaling(
        curves["temperatures"], curves["specific_heat"], peak.temperature
    )
    assert "declined_above" in found or "declined_below" in found
    planted = np.abs(curves["temperatures"] / peak.temperature - 1.0) ** -0.5
    law = ts.analyze_critical_scaling(curves["temperatures"], planted, peak.temperature)
    assert law["alpha_above"] == pytest.approx(0.5, rel=1e-6)
    assert law["n_below"] >= 6
    few = np.array([0.85, 0.9, 0.94, 0.97, 0.99, 1.01, 1.1])
    found = ts.analyze_critical_scaling(few, np.abs(few - 1) ** -0.5, 1.0)
    assert (found["n_below"], found["n_above"]) == (5, 2)
    assert found["declined_below"] == found["declined_above"] == "fewer than 6 points"


def test_a_batch_names_what_is_no_matrix():
    found = ts.batch_analyze_matrices({"a": MATRIX, "b": MATRIX.T})
    assert found["a"]["critical_temperature"] == pytest.approx(found["b"]["critical_temperature"])
    assert found["b"]["matrix_shape"] == (80, 60)
    with pytest.raises(ValueError, match="'bias' has 1 axes"):
        ts.batch_analyze_matrices({"bias": np.ones(3)})


def test_spectra_are_of_w_w_transposed():
    square = RNG.standard_normal((6, 6))
    expected = np.linalg.eigvalsh(square @ square.T)[::-1]
    np.testing.assert_allclose(ts.eigenvalue_spectrum(square), expected)
    np.testing.assert_allclose(ts.eigenvalue_spectrum(square.T), expected)
    curves = ts.compute_thermal_properties(square, (0.1, 1.0), ensemble="symmetric_eigenvalues")
    assert curves["n_levels"] == 6


@pytest.mark.parametrize(
    ("matrix", "options", "named"),
    [
        (np.empty((0, 3)), {}, "weight_matrix is empty"),
        ([[1.0, np.nan]], {}, "weight_matrix has 1"),
        ({}, {}, "weight_matrix is empty"),
        (np.ones((2, 2)), {"normalize": "std"}, "no std"),
        (np.ones((2, 2)), {"normalize": "max"}, "normalize"),
        (np.ones((2, 3)), {"ensemble": "symmetric_eigenvalues"}, "square"),
        (np.ones((2, 3)), {"ensemble": "rows"}, "ensemble"),
        (np.ones((2, 3)), {"use_gpu": True}, "use_gpu"),
        (np.ones((2, 3)), {"k_B": 0.0}, "k_B"),
    ],
)
def test_bad_input_is_named(matrix, options, named):
    with pytest.raises(ValueError, match=named):
        ts.compute_thermal_properties(matrix, (0.1, 1.0), **options)


def test_temperatures_must_be_positive():
    with pytest.raises(ValueError, match="temperatures"):
        ts.entropy(MATRIX, -1.0)
    with pytest.raises(ValueError, match="beta"):
        ts.partition_function(MATRIX, 0.0)
