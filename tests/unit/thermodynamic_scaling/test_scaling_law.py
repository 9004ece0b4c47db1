"""Laws that are there are found; the scale of the weights is not taken for one."""

import numpy as np
import pandas as pd
import pytest

from thermodynamic_scaling import scaling_law

SIZES = np.geomspace(1e6, 1e9, 8)


def noisy(seed=0, exponent=0.3, spread=0.03):
    rng = np.random.default_rng(seed)
    return 2 * SIZES**exponent * np.exp(spread * rng.standard_normal(len(SIZES)))


def results(seed=0, exponent=0.0, layers=4):
    """Models whose T_c is a multiple of T_f, which goes with sigma, which falls with size."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, size in enumerate(SIZES):
        for layer in range(layers):
            sigma = 0.5 * size**-0.2 * np.exp(0.05 * rng.standard_normal())
            freezing = sigma / 5
            ratio = 1.3 * (size / 1e6) ** exponent * np.exp(0.03 * rng.standard_normal())
            rows.append(
                {
                    "model_name": f"model_{number}",
                    "model_architecture": "gpt" if number % 2 else "llama",
                    "model_size": size,
                    "sigma": sigma,
                    "freezing_temperature": freezing,
                    "critical_temperature": ratio * freezing,
                    "critical_temperature_error": 0.05 * ratio * freezing,
                    "specific_heat_peak": 10.0 + rng.standard_normal(),
                    "layer_depth": layer / (layers - 1),
                }
            )
    return pd.DataFrame(rows)


def test_an_exponent_is_found_either_way():
    found = scaling_law.fit_power_law(SIZES, noisy(), log_fit=False)
    for method in ("log_linear", "direct"):
        assert found[method]["b"] == pytest.approx(0.3, abs=0.05)
        assert found[method]["a"] > 0
    assert found["success"]
    assert found["extrapolates"]
    assert found["best"]["method"] == "log_linear"  # the noise is multiplicative
    assert found["equation"].startswith("y = ")
    assert "direct" not in scaling_law.fit_power_law(SIZES, noisy())


def test_the_direct_fit_can_be_the_best():
    x = np.geomspace(1, 100, 40)
    y = 0.3 * x + np.abs(0.5 * np.random.default_rng(0).standard_normal(40))
    assert scaling_law.fit_power_law(x, y, log_fit=False)["best"]["method"] == "direct"


def test_without_pymc_nothing_takes_its_place(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pymc", None)
    with pytest.raises(ImportError, match="pip install pymc"):
        scaling_law.bayesian_power_law_fit(SIZES, noisy())


def test_the_posterior_is_that_of_least_squares_where_priors_are_wide():
    pytest.importorskip("pymc", reason="PyMC is optional: pip install pymc")
    y = noisy()
    found = scaling_law.bayesian_power_law_fit(SIZES, y, 500, rng=0)
    line = scaling_law.fit_power_law(SIZES, y)["log_linear"]
    posterior = found["bayesian"]
    assert posterior["b_mean"] == pytest.approx(line["b"], abs=0.3 * line["std_err"])
    assert 0.9 * line["std_err"] < posterior["b_std"] < 2 * line["std_err"]
    assert posterior["b_hdi"] == pytest.approx((line["low"], line["high"]), abs=line["std_err"])
    assert posterior["a_hdi"][0] < posterior["a_mean"] < posterior["a_hdi"][1]
    assert posterior["r_hat"] < 1.05
    assert found["best"]["method"] == "bayesian"


def test_overlap_of_intervals_is_all_that_is_tested():
    test = scaling_law.quantum_criticality_test
    found = test(0.4, (0.2, 0.6), quantum_range=(0.3, 0.7))
    assert found["is_in_quantum_range"]
    assert found["overlap_proportion"] == pytest.approx(0.75)
    assert found["distance_to_quantum_range"] == 0
    assert "overlaps" in found["statement"]
    apart = test(0.1, (0.0, 0.2), quantum_range=(0.3, 0.7))
    assert not apart["overlaps_quantum_range"]
    assert apart["distance_to_quantum_range"] == pytest.approx(0.2)
    assert "does not overlap" in apart["statement"]
    assert test(0.5, (0.5, 0.5), quantum_range=(0.3, 0.7))["overlap_proportion"] == 1
    assert test(0.1, (0.1, 0.1), quantum_range=(0.3, 0.7))["overlap_proportion"] == 0
    with pytest.raises(TypeError, match="quantum_range"):
        test(0.5, (0.4, 0.6))


def curves(nu, beta, t_c=2.0):
    data, sizes = {}, {}
    for size in (8, 16, 32, 64):
        t = np.linspace(1.6, 2.4, 60)
        x = (t - t_c) / t_c * size ** (1 / nu)
        data[f"L{size}"] = (t, size ** (-beta / nu) * (1 - np.tanh(x)))
        sizes[f"L{size}"] = size
    return data, sizes


def test_exponents_of_a_collapse_are_sought_not_assumed():
    data, sizes = curves(0.8, 0.2)
    found = scaling_law.universal_scaling_function(
        data, sizes=sizes, critical_temperature=2.0, resamples=4, permutations=4, rng=0
    )
    assert found["critical_exponents"]["nu"] == pytest.approx(0.8, rel=0.05)
    assert found["critical_exponents"]["beta"] == pytest.approx(0.2, abs=0.02)
    assert found["collapse_quality"] > 0.999 > found["null_quality"]
    assert set(found["intervals"]) == {"nu", "beta"}
    assert set(found["scaled_data"]) == set(data)


def test_given_exponents_are_applied_and_judged():
    data, sizes = curves(0.8, 0.2)
    right, wrong = (
        scaling_law.universal_scaling_function(
            data, {"nu": nu, "beta": 0.2, "T_c": 2.0}, sizes=sizes
        )
        for nu in (0.8, 3.0)
    )
    assert right["collapse_quality"] > 0.999 > wrong["collapse_quality"]
    assert right["intervals"] is None
    scaled = right["scaled_data"]["L8"]
    np.testing.assert_allclose(scaled["y"], 1 - np.tanh(scaled["x"]), rtol=1e-9)
    assert scaled["size"] == 8


@pytest.mark.parametrize("model", ["power_law", "linear"])
def test_several_variables(model):
    rng = np.random.default_rng(0)
    x = {"width": rng.uniform(1, 5, 30), "depth": rng.uniform(1, 5, 30)}
    if model == "power_law":
        y = 3 * x["width"] ** 0.5 * x["depth"] ** -1.2
        expected, key = {"width": 0.5, "depth": -1.2}, "exponents"
    else:
        y = 3 + 0.5 * x["width"] - 1.2 * x["depth"]
        expected, key = {"width": 0.5, "depth": -1.2}, "coefficients"
    found = scaling_law.multi_variable_scaling_law(x, y, model)
    assert found["intercept"] == pytest.approx(3)
    assert found[key] == pytest.approx(expected)
    assert found["success"]
    assert "width" in found["formula"]


def test_the_scale_of_the_weights_is_not_taken_for_a_law():
    found = scaling_law.compute_scaling_laws(results(1), resamples=300, rng=0)
    assert found["n_models"] == len(SIZES)  # not their layers
    assert found["critical_temperature"]["n"] == len(SIZES)
    assert found["critical_temperature"]["log_linear"]["b"] == pytest.approx(-0.2, abs=0.02)
    assert not found["critical_temperature"]["flat"]
    assert found["critical_temperature_over_sigma"]["flat"]
    assert found["critical_temperature_over_freezing"]["flat"]
    assert found["statement"].startswith("no scaling beyond the weight scale")
    assert found["with_errors"]["b"] == pytest.approx(-0.2, abs=0.03)
    assert set(found["by_architecture"]) == {"gpt", "llama"}
    assert found["layer_depth"]["n"] == len(SIZES)
    assert found["layer_depth"]["low"] < found["layer_depth"]["high"]


def test_ends_of_the_grid_are_no_peaks():
    seen = results(1)
    seen["at_edge"] = seen["layer_depth"] == 0
    inside = seen[~seen["at_edge"]].drop(columns="at_edge")
    seen.loc[seen["at_edge"], "critical_temperature"] = np.geomspace(1, 1e3, len(SIZES))
    expected = scaling_law.compute_scaling_laws(inside, resamples=50, rng=0)
    assert scaling_law.compute_scaling_laws(seen, resamples=50, rng=0) == expected


def test_errors_are_those_of_the_geometric_mean():
    seen = results(1)
    seen["critical_temperature"] *= 1000 ** seen["layer_depth"]  # layers apart by far
    seen["critical_temperature_error"] = 0.05 * seen["critical_temperature"]
    found = scaling_law.compute_scaling_laws(seen, resamples=50, rng=0)["with_errors"]
    spread = np.sqrt(np.square(np.log(SIZES) - np.log(SIZES).mean()).sum())
    assert found["std_err"] == pytest.approx(0.05 / np.sqrt(4) / spread, rel=1e-3)


def test_noise_is_called_a_law_as_seldom_as_the_level_has_it():
    statements = [
        scaling_law.compute_scaling_laws(results(seed), resamples=50, rng=0)["statement"]
        for seed in range(40)
    ]
    assert sum("no scaling" in statement for statement in statements) >= 34


def test_a_law_beyond_the_weights_is_said():
    found = scaling_law.compute_scaling_laws(results(1, exponent=0.1), resamples=300, rng=0)
    ratio = found["critical_temperature_over_freezing"]
    assert not ratio["flat"]
    assert "no scaling" not in found["statement"]
    assert ratio["log_linear"]["low"] < 0.1 < ratio["log_linear"]["high"]
    assert ratio["bootstrap"] == pytest.approx((0.1, 0.1), abs=0.01)


def test_few_models_do_not_extrapolate():
    few = results().query("model_name < 'model_4'")
    assert "too few" in scaling_law.compute_scaling_laws(few, resamples=50, rng=0)["statement"]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: scaling_law.fit_power_law([1.0], [1.0]), "x"),
        (lambda: scaling_law.fit_power_law([1, 2, 3], [1, -2, 3]), "positive"),
        (
            lambda: scaling_law.quantum_criticality_test(0.5, (0.6, 0.4), quantum_range=(0, 1)),
            "confidence_interval",
        ),
        (
            lambda: scaling_law.quantum_criticality_test(0.9, (0.4, 0.6), quantum_range=(0, 1)),
            "exponent",
        ),
        (lambda: scaling_law.universal_scaling_function(curves(1, 0)[0], sizes={}), "T_c|critical"),
        (
            lambda: scaling_law.universal_scaling_function(
                curves(1, 0)[0], sizes={}, critical_temperature=2.0
            ),
            "sizes",
        ),
        (
            lambda: scaling_law.universal_scaling_function(
                curves(1, 0)[0], {"nu": 1.0}, sizes=curves(1, 0)[1], critical_temperature=2.0
            ),
            "critical_exponents",
        ),
        (lambda: scaling_law.multi_variable_scaling_law({}, [1.0]), "x_vars"),
        (lambda: scaling_law.multi_variable_scaling_law({"x": [1.0]}, [1.0]), "y"),
        (lambda: scaling_law.multi_variable_scaling_law({"x": [1]}, [1], "cubic"), "model"),
        (lambda: scaling_law.compute_scaling_laws(results().drop(columns="sigma")), "sigma"),
        (lambda: scaling_law.compute_scaling_laws(results().assign(sigma=-1.0)), "sigma"),
        (
            lambda: scaling_law.compute_scaling_laws(
                results().assign(model_size=range(len(SIZES) * 4))
            ),
            "model_size",
        ),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=name):
        call()
