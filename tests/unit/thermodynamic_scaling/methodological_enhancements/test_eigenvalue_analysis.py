"""Spectra by the published functions: one definition for square and rectangular matrices."""

import numpy as np
import pytest

from thermodynamic_scaling.methodological_enhancements import eigenvalue_analysis as analysis

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(60, 60), (40, 90)])
def test_eigenvalues_are_squared_singular_values_over_the_longer_side(shape):
    matrix = RNG.standard_normal(shape)
    for turned in (matrix, matrix.T):
        values, density, edges = analysis.eigenvalue_distribution(turned, bins=20)
        expected = np.linalg.svd(matrix, compute_uv=False) ** 2 / max(shape)
        np.testing.assert_allclose(values, expected)
        assert (density * np.diff(edges)).sum() == pytest.approx(1)


def test_the_kernel_estimate_has_mass_one():
    x, density = analysis.spectral_density(RNG.standard_normal(200) ** 2)
    assert len(x) == 1000
    assert np.trapezoid(density, x) == pytest.approx(1, abs=0.01)
    x, _ = analysis.spectral_density([1.0, 2.0], (0.0, 4.0), n_points=10)
    assert (x[0], x[-1], len(x)) == (0, 4, 10)


@pytest.mark.parametrize("shape", [(2000, 1000), (500, 1000)])
def test_wishart_matrices_are_near_the_law_and_others_are_not(shape):
    matrix = 0.02 * RNG.standard_normal(shape)
    values = analysis.eigenvalue_distribution(matrix)[0]
    aspect = shape[0] / shape[1]
    assert analysis.marchenko_pastur_distance(values, aspect) < 0.02
    assert analysis.marchenko_pastur_distance(values, 1 / aspect) < 0.02
    assert analysis.marchenko_pastur_distance(values, aspect, variance=0.02**2) < 0.02
    assert analysis.marchenko_pastur_distance(RNG.exponential(size=500), 0.5) > 0.1


def test_correlations_over_models():
    data = {}
    for scale in (1.0, 2.0, 3.0, 4.0):
        values = scale * RNG.uniform(1, 2, 50)
        data[f"model_{scale}"] = {"eigenvalues": values, "critical_temperature": scale}
    found = analysis.correlate_eigenvalues_criticality(data)
    assert found["correlations"]["mean"]["pearson_r"] > 0.95
    assert found["correlations"]["max"]["spearman_r"] == pytest.approx(1)
    assert found["correlations"]["mean"]["n"] == 4
    assert len(found["data"]) == 4
    same = {name: {**row, "critical_temperature": 1.0} for name, row in data.items()}
    still = analysis.correlate_eigenvalues_criticality(same)["correlations"]
    assert np.isnan(still["mean"]["pearson_r"])


def test_each_layer_and_what_is_outside_of_them():
    found = analysis.layer_wise_eigenvalue_analysis(
        {
            "layer_0": {"self_attention.query": RNG.standard_normal((30, 40))},
            "layer_1": {"ffn.output": np.outer(np.ones(30), np.ones(40))},
            "embeddings.word": RNG.standard_normal((50, 20)),
        }
    )
    assert list(found) == ["layer_0", "layer_1", "embeddings"]
    query = found["layer_0"]["self_attention.query"]
    assert query["shape"] == (30, 40)
    assert query["max"] - query["gap"] == pytest.approx(query["eigenvalues"][1])
    assert query["mp_distance"] < 0.2
    one = found["layer_1"]["ffn.output"]
    assert one["participation_ratio"] == pytest.approx(1)
    assert np.isnan(one["mp_distance"])
    assert found["embeddings"]["word"]["eigenvalues"].shape == (20,)


def test_the_baseline_has_the_asked_for_width_and_repeats():
    found = analysis.random_matrix_baseline((100, 200), 5, std=0.1, rng=3)
    assert found["mean"]["mean"] == pytest.approx(0.01, rel=0.05)
    law = found["marchenko_pastur"]
    assert law["aspect_ratio"] == 0.5
    assert law["lambda_min"] == pytest.approx(0.0858 / 100, rel=1e-3)
    assert law["lambda_max"] == pytest.approx(2.9142 / 100, rel=1e-3)
    assert found["max"]["min"] <= found["max"]["mean"] <= found["max"]["max"]
    assert found["mp_distance"]["max"] < 0.05
    assert found == analysis.random_matrix_baseline((100, 200), 5, std=0.1, rng=3)
    assert found != analysis.random_matrix_baseline((100, 200), 5, std=0.1, rng=4)


def test_a_tail_has_its_exponent_and_what_it_was_weighed_against():
    found = analysis.power_law_tail(RNG.pareto(1.5, 2000) + 1)
    assert found["alpha"] == pytest.approx(2.5, abs=4 * found["alpha_error"])
    assert found["log_ratio_exponential"] > 0


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: analysis.eigenvalue_distribution([]), "weight_matrix"),
        (lambda: analysis.eigenvalue_distribution([1.0, 2.0]), "weight_matrix"),
        (lambda: analysis.spectral_density([1.0, 1.0]), "eigenvalues"),
        (lambda: analysis.spectral_density([1.0, 2.0], bandwidth=0), "bandwidth"),
        (lambda: analysis.spectral_density([1.0, 2.0], (1, 0)), "energy_range"),
        (lambda: analysis.marchenko_pastur_distance([], 0.5), "eigenvalues"),
        (lambda: analysis.marchenko_pastur_distance([1.0], -1), "aspect_ratio"),
        (lambda: analysis.correlate_eigenvalues_criticality({}), "models_data"),
        (
            lambda: analysis.correlate_eigenvalues_criticality(
                {name: {"eigenvalues": [1.0]} for name in "abc"}
            ),
            "critical_temperature",
        ),
        (lambda: analysis.layer_wise_eigenvalue_analysis({}), "model_weights"),
        (lambda: analysis.layer_wise_eigenvalue_analysis({"bias": np.ones(3)}), "bias"),
        (lambda: analysis.random_matrix_baseline((0, 3)), "shape"),
        (lambda: analysis.random_matrix_baseline((3, 3), 0), "n_samples"),
        (lambda: analysis.random_matrix_baseline((3, 3), std=0), "std"),
        (lambda: analysis.power_law_tail([1.0]), "eigenvalues"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=name):
        call()
