"""The published functions of the three modules: their keys, and that they do what they say."""

import inspect

import numpy as np
import pytest

import thermodynamic_scaling
from thermodynamic_scaling.theoretical_extensions import (
    information_theory,
    renormalization_group,
    replica_theory,
)

RNG = np.random.default_rng(0)
MATRIX = RNG.standard_normal((32, 32))
PUBLISHED = {
    information_theory: {
        "calculate_entropy": "weights, temperature",
        "fisher_information": "weights, temperature, delta=1e-05",
        "kullback_leibler_divergence": "weights1, weights2, temperature",
        "mutual_information_layer_pairs": "model_weights, layer_indices, temperature",
        "information_bottleneck_analysis": "weights, temperature_range, n_temps=20",
        "complexity_measures": "weights, temperature",
    },
    renormalization_group: {
        "block_spin_renormalization": "weight_matrix, block_size",
        "renormalization_flow": "weight_matrix, temps, n_steps=5, block_size=2",
        "calculate_correlation_length": "weight_matrix, temperature",
        "scaling_dimension_analysis": "weight_matrices, temps",
        "fixed_point_analysis": (
            "weight_matrix, block_size=2, max_steps=10, convergence_threshold=0.0001"
        ),
    },
    replica_theory: {
        "replica_entropy": "weight_matrix, temperature, n_replicas=10, n_samples=1000",
        "energy_landscape_complexity": (
            "weight_matrix, temperature_range, n_temps=20, n_replicas=5"
        ),
        "replica_symmetry_breaking": "weight_matrix, temperature, n_replicas=10, n_samples=1000",
        "parisi_order_parameter": "weight_matrix, temperature_range, n_temps=20, n_replicas=10",
        "free_energy_landscape": "weight_matrix, temperature, n_samples=1000",
    },
}


@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [(module, *each) for module, functions in PUBLISHED.items() for each in functions.items()],
)
def test_signatures_are_the_published_ones(module, name, arguments):
    parameters = inspect.signature(getattr(module, name)).parameters.values()
    found = ", ".join(
        p.name if p.default is p.empty else f"{p.name}={p.default}"
        for p in parameters
        if p.kind is p.POSITIONAL_OR_KEYWORD
    )
    assert found == arguments


def test_modules_are_attributes():
    extensions = thermodynamic_scaling.theoretical_extensions
    assert extensions.renormalization_group is renormalization_group
    assert extensions.information_theory is information_theory
    assert extensions.replica_theory is replica_theory


def test_information_of_a_matrix():
    found = information_theory.complexity_measures(MATRIX, 0.5)
    assert found["effective_dimension"] == pytest.approx(np.exp(found["shannon_entropy"]))
    assert found["participation_ratio"] == pytest.approx(np.exp(found["renyi_entropy"]))
    assert information_theory.calculate_entropy(MATRIX, 0.5) == found["shannon_entropy"]
    scan = information_theory.information_scan(MATRIX, (0.1, 1.0))
    assert set(scan) == {"temperatures", "entropy", "fisher_information"}
    assert len(scan["entropy"]) == 20
    for i in (0, 7):
        expected = information_theory.fisher_information(MATRIX, scan["temperatures"][i])
        assert scan["fisher_information"][i] == pytest.approx(expected)
    slope = information_theory.entropy_slope_squared(MATRIX, 0.5)
    assert slope == pytest.approx(0.5**2 * information_theory.fisher_information(MATRIX, 0.5) ** 2)
    assert information_theory.kullback_leibler_divergence(MATRIX, MATRIX, 0.5) == 0
    assert information_theory.level_distance(MATRIX, MATRIX[::-1])["wasserstein"] == 0


def test_mutual_information_of_layers():
    rng = np.random.default_rng(1)
    weights = {
        f"layer_{i}": {"self_attention.query": rng.standard_normal((40, 40))} for i in (0, 1)
    }
    weights["layer_4"] = {
        "self_attention.query": 0.8 * weights["layer_0"]["self_attention.query"]
        + 0.6 * rng.standard_normal((40, 40))
    }
    found = information_theory.mutual_information_layer_pairs(weights, [0, 1, 4], 0.5, rng=2)
    assert list(found) == ["0_1", "0_4", "1_4"]
    assert found["0_4"] > 0.3
    assert max(abs(found["0_1"]), abs(found["1_4"])) < 0.04
    warm = information_theory.mutual_information_layer_pairs(weights, [0, 1, 4], 5.0, rng=2)
    assert warm == found
    with pytest.raises(ValueError, match="layer_7"):
        information_theory.mutual_information_layer_pairs(weights, [0, 7], 0.5)
    with pytest.raises(ValueError, match="layer_indices"):
        information_theory.mutual_information_layer_pairs(weights, [0], 0.5)
    with pytest.raises(ValueError, match="temperatures"):
        information_theory.mutual_information_layer_pairs(weights, [0, 1], 0.0)


def test_bottleneck_of_a_layer_that_keeps_the_label_and_one_that_does_not():
    rng = np.random.default_rng(3)
    labels = rng.integers(2, size=100)
    inputs = rng.standard_normal((100, 8))
    inputs[:, 0] += 8 * labels
    keeps, loses = np.eye(8)[:2], np.eye(8)[2:4]
    settings = {"inputs": inputs, "labels": labels, "n_permutations": 19, "rng": 4}
    kept = information_theory.information_bottleneck_analysis(keeps, [0.1, 1.0], **settings)
    lost = information_theory.information_bottleneck_analysis(loses, [0.1, 1.0], **settings)
    assert (kept["I_TY_p_value"] == 0.05).all()
    assert kept["I_TY"][0] > 0.6
    assert (lost["I_TY"] - lost["I_TY_null"] < 0.1).all()
    assert (np.diff(kept["I_XT"]) < 0).all()
    plain = information_theory.information_bottleneck_analysis(keeps, [0.1, 1.0])
    assert set(plain) == {"temperatures", "entropy", "fisher_information"}
    with pytest.raises(ValueError, match="together"):
        information_theory.information_bottleneck_analysis(keeps, [0.1], inputs=inputs)
    with pytest.raises(ValueError, match="do not fit"):
        information_theory.information_bottleneck_analysis(MATRIX, [0.1], **settings)


def test_flow_and_fixed_point():
    flow = renormalization_group.renormalization_flow(
        MATRIX, (0.1, 2.0), 3, n_permutations=19, rng=5
    )
    assert [len(m) for m in flow["matrices"]] == [32, 16, 8, 4]
    assert len(flow["specific_heat"]) == len(flow["critical_temps"]) == len(flow["at_edge"]) == 4
    assert len(flow["std_ratios"]) == len(flow["tc_log_ratio"]) == 3
    assert flow["std_ratios"][0] == pytest.approx(flow["expected_ratio"], rel=0.15)
    expected = np.log2(flow["critical_temps"][1:] / flow["critical_temps"][:-1])
    np.testing.assert_allclose(flow["tc_log_ratio"], expected)
    fixed = renormalization_group.fixed_point_analysis(
        np.random.default_rng(6).standard_normal((128, 128)), rng=6
    )
    assert fixed["converged"]
    assert fixed["final_matrix"] is fixed["flow_path"][-1]
    assert len(fixed["similarity_metrics"]) == fixed["steps_to_convergence"] + 1


def test_what_is_cut_off_and_what_is_not_there_is_said():
    with pytest.warns(UserWarning, match="cut off"):
        assert renormalization_group.block_spin_renormalization(MATRIX, 5).shape == (6, 6)
    with pytest.warns(UserWarning, match="correlation length: no correlation"):
        assert np.isnan(renormalization_group.calculate_correlation_length(MATRIX, 1.0, rng=7))


def test_size_is_not_scaling():
    rng = np.random.default_rng(8)
    found = renormalization_group.scaling_dimension_analysis(
        {str(n): n * rng.standard_normal((n, n)) for n in (8, 16, 32, 64, 128, 256)}, (0.1, 2.0)
    )
    assert list(found["sizes"]) == [8, 16, 32, 64, 128, 256]
    assert np.isnan(found["nu"])
    assert found["declined"]
    assert set(found["fit_uncertainty"]) == {"Tc_infinite", "nu"}


QUICK = {"n_replicas": 4, "n_samples": 100, "n_spins": 16, "rng": 9}


def test_replica_entropy_falls_from_that_of_free_spins():
    hot = replica_theory.replica_entropy(MATRIX, 100.0, **QUICK)
    cold = replica_theory.replica_entropy(MATRIX, 0.2, **QUICK)
    assert hot == pytest.approx(np.log(2), rel=1e-3)
    assert -0.02 < cold < 0.15
    levels = replica_theory.replica_entropy(MATRIX, 100.0, method="levels")
    assert levels == pytest.approx(np.log(MATRIX.size), rel=1e-4)


@pytest.mark.parametrize("method", ["couplings", "levels"])
def test_symmetry_breaking_of_noise(method):
    found = replica_theory.replica_symmetry_breaking(
        MATRIX, 10.0, **QUICK, n_null=19, method=method
    )
    assert found["rsb_detected"] is False
    assert found["frozen"] is False
    assert len(found["eigenvalues"]) == 4
    assert found["eigenvalues"].sum() == pytest.approx(4, rel=1e-5)
    published = {
        "eigenvalues", "eigenvalue_gap", "eigenvalue_dispersion", "overlap_mean", "overlap_std",
        "overlap_dispersion", "rsb_detected",
    }  # fmt: skip
    assert published < set(found)


def test_complexity_does_not_rise_and_ends():
    found = replica_theory.energy_landscape_complexity(
        MATRIX, (0.1, 5.0), n_replicas=3, n_spins=16, n_quenches=50, rng=10
    )
    assert (np.diff(found["complexity"]) <= 0).all()
    assert found["complexity"][0] > 0
    assert found["complexity"][-1] == 0
    assert 0 < found["coverage"] <= 1
    assert found["error"].shape == (20,)


def test_order_parameter_is_sampled_with_errors():
    found = replica_theory.parisi_order_parameter(MATRIX, [0.3, 5.0], **QUICK)
    assert found["x_values"].shape == (100,)
    assert found["q_x_values"].shape == found["q_x_errors"].shape == (2, 100)
    assert (np.diff(found["q_x_values"], axis=1) >= 0).all()
    metrics = found["rsb_metrics"]
    assert metrics["overlap_mean"][0] > metrics["overlap_mean"][1]
    np.testing.assert_allclose(found["q_x_values"].mean(axis=1), metrics["overlap_mean"], atol=0.02)
    levels = replica_theory.parisi_order_parameter(MATRIX, [0.05, 5.0], method="levels")
    same = levels["rsb_metrics"]["overlap_mean"]
    np.testing.assert_allclose(levels["q_x_values"].mean(axis=1), same, atol=0.01)


def test_landscape_gives_what_is_plotted():
    found = replica_theory.free_energy_landscape(MATRIX, 0.5, 200, n_replicas=4, n_spins=16, rng=11)
    assert found["energy_samples"].shape == (800,)
    assert found["energy_mean"] == pytest.approx(found["energy_samples"].mean())
    assert found["free_energy"] == pytest.approx(found["energy_mean"] - 0.5 * found["entropy"])
    assert found["n_minima"] > 1
    assert found["log_complexity"] == pytest.approx(np.log(found["n_minima"]))
    assert 1 <= found["effective_minima"] <= found["n_minima"]
    assert len(found["energy_barriers"]) == min(20, found["n_minima"] - 1)
    assert found["energy_samples"].min() >= found["minimum_energies"][0] - 1e-9


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: replica_theory.replica_entropy(MATRIX, 0.0), "temperatures"),
        (lambda: replica_theory.replica_entropy(MATRIX, (0.1, 1.0)), "temperature must be one"),
        (lambda: replica_theory.replica_entropy(MATRIX, 1.0, method="spins"), "method"),
        (lambda: replica_theory.replica_entropy(np.ones(4), 1.0, method="levels"), "all entries"),
        (lambda: replica_theory.energy_landscape_complexity(MATRIX, [1.0], n_replicas=0), "n_repl"),
        (lambda: replica_theory.free_energy_landscape(np.empty((0, 2)), 1.0), "weight_matrix"),
        (lambda: renormalization_group.calculate_correlation_length(MATRIX, -1.0), "temperatures"),
        (lambda: information_theory.fisher_information(MATRIX, [1.0, 2.0]), "temperature must be"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
