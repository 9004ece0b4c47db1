"""Planted curves are read for what they are, and the tables and statistics follow from the rows."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgn.probing.temperature_statistics import (
    LENGTHS,
    correlation_length,
    crossing,
    decay,
    fit_shapes,
    highest,
    shape_bases,
    steepest,
    step_advantage,
    summarise,
)
from tgn.statistics import read_statistics

X = np.log(10) * np.linspace(-1, 1, 21)
BASES = shape_bases(X)
PLACES = st.floats(-1.2, 1.2)


def step(centre, width=0.4):
    return 1 / (1 + np.exp(-(X - centre) / width))


@settings(deadline=None)
@given(PLACES, st.floats(0.25, 0.6), st.sampled_from([-1.0, 3.0]), st.floats(-5, 5))
def test_a_step_is_found_and_beats_its_rivals(centre, width, amplitude, offset):
    noise = 0.003 * np.random.default_rng(0).normal(size=21)
    curve = offset + amplitude * (step(centre, width) + noise)
    fits = fit_shapes(BASES, curve)
    # centres are tried at every half step of the temperatures, 0.115
    assert fits["logistic"]["centre"] == pytest.approx(centre, abs=0.25)
    assert fits["logistic"]["amplitude"] == pytest.approx(amplitude, rel=0.15)
    assert steepest(X, curve) == pytest.approx(centre, abs=0.25)
    assert step_advantage(fits) > 6  # evidence ratio of 20


@settings(deadline=None)
@given(PLACES, st.floats(0.4, 0.8))
def test_a_hump_is_no_step(centre, width):
    noise = 0.003 * np.random.default_rng(1).normal(size=21)
    curve = np.exp(-(((X - centre) / width) ** 2) / 2) + noise
    assert step_advantage(fit_shapes(BASES, curve)) < -6
    assert highest(X, curve) == pytest.approx(centre, abs=0.1)


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_lines_and_constants_are_no_steps(slope):
    """AICc errs in a few cases of a hundred, and never by much."""
    draws = np.random.default_rng(2).normal(size=(100, 21))
    won = [step_advantage(fit_shapes(BASES, slope * X + 0.05 * noise)) for noise in draws]
    assert np.median(won) < -2
    assert np.mean(np.array(won) > 6) < 0.05


def test_fits_reach_what_a_general_optimiser_reaches():
    from scipy.optimize import curve_fit

    curve = 2 + 1.3 * step(0.37, 0.33) + 0.05 * np.sin(3 * X)
    best, _ = curve_fit(
        lambda x, a, b, c, w: a + b / (1 + np.exp(-(x - c) / w)), X, curve, p0=[2, 1, 0, 0.5]
    )
    fitted = best[0] + best[1] / (1 + np.exp(-(X - best[2]) / best[3]))
    r2 = 1 - ((curve - fitted) ** 2).sum() / ((curve - curve.mean()) ** 2).sum()
    assert fit_shapes(BASES, curve)["logistic"]["r2"] == pytest.approx(r2, abs=2e-3)


@given(PLACES, st.sampled_from([-1.0, 1.0]))
def test_a_crossing_is_where_the_sign_changes(place, sign):
    assert crossing(X, sign * (X - place)) == pytest.approx(place, abs=1e-9)


def test_without_a_crossing_the_nearer_end_is_given():
    assert crossing(X, 3 + X) == X[0]
    assert crossing(X, -3 + X) == X[-1]
    nearest = crossing(X, (X - 1.0) * (X + 0.5))
    assert nearest == pytest.approx(-0.5, abs=0.05)


@settings(deadline=None)
@given(st.floats(2, 30), st.floats(-0.2, 0.2), st.floats(0.05, 1))
def test_a_planted_correlation_length_is_found(length, offset, amplitude):
    distances = np.arange(1, 101)
    curve = offset + amplitude * np.exp(-distances / length)
    assert correlation_length(distances, curve) == pytest.approx(length, rel=0.08)
    assert decay(curve) > 0


def test_a_flat_or_rising_curve_has_no_length():
    distances = np.arange(1, 31)
    assert correlation_length(distances, np.zeros(30)) == LENGTHS[-1]
    assert correlation_length(distances, distances / 30.0) == LENGTHS[-1]
    assert decay(distances / 30.0) < 0


def measured(rng, *, passages=8, draws=1, every=1, centre=0.5):
    """Rows of one arm whose rank is a step at `centre` and whose growth vanishes at T = 2."""
    x = X[(10 % every) :: every]
    quantities = {
        ("", "loss"): 3 + (x - 0.2) ** 2,
        ("", "growth"): np.log(2) - x,
        ("", "growth_absolute"): 5 - x,
        ("", "channel_information"): 1 - x / 10,
        ("", "evenness"): 0.5 + x / 10,
        **{("", f"token_information_lag{lag}"): 2 - (x + 0.7) ** 2 / 5 for lag in (0, 1, 4)},
        ("", "token_information_shuffled"): 0 * x,
        **{
            (definition, quantity): np.exp(2 + 1 / (1 + np.exp(-(x - centre) / 0.3)))
            for definition in ("centred", "centred_with_first", "without_outliers")
            for quantity in (
                "effective_rank", "effective_rank_sigma2", "participation_ratio", "stable_rank"
            )
        },
    }  # fmt: skip
    rows = [
        {"temperature": np.exp(at), "layer": 4, "definition": d, "quantity": q, "value": v,
         "passage": p, "draw": p % draws}
        for (d, q), curve in quantities.items()
        for p in range(passages)
        for at, v in zip(x, curve * (1 + 0.002 * rng.normal(size=len(x))), strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def correlated(rng, length, passages=8):
    distances = np.arange(1, 31)
    rows = [
        {"temperature": t, "passage": p, "draw": 0, "distance": r, "null": 0.1,
         "value": 0.1 + (np.exp(-r / length) if length else 0) + 0.01 * rng.normal()}
        for t in (0.5, 1.0) for p in range(passages) for r in distances
    ]  # fmt: skip
    return pd.DataFrame(rows)


def clouds():
    sizes = {"states": 8.0, "gaussian": 20.0, "shuffled": 50.0, "white": 80.0}
    rows = [
        {"sample": sample, "passage": p, "points": 30, "value": 30 / (d * (1 + 0.01 * p)),
         "width": 128, "layer": layer}
        for layer in (0, 2, 4) for sample, d in sizes.items() for p in range(8)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fig1")
    rng = np.random.default_rng(0)
    (folder / "net").mkdir()
    parts = {
        "intact": (measured(rng), correlated(rng, 5), clouds()),
        "shuffled_tokens": (measured(rng, every=2), correlated(rng, 0), clouds()),
        "random_weights": (measured(rng, draws=4, every=2), correlated(rng, 0), clouds()[:0]),
    }
    attention = pd.DataFrame({"temperature": [1.0], "query": [0], "key": [0], "weight": [1.0]})
    inputs = {"tables": [], "correlations": [], "dimensions": [], "maps": []}
    for arm, tables in parts.items():
        for (name, paths), table in zip(inputs.items(), (*tables, attention), strict=True):
            paths.append(str(folder / "net" / f"{arm}.{name}.parquet"))
            table.to_parquet(paths[-1])
    outputs = {
        name: folder / f"{name}.parquet"
        for name in ("curves", "correlation", "dimension", "attention", "fits")
    }
    summarise(
        **inputs, **outputs, statistics=folder / "s.json", evidence={"net": "real"},
        resamples=100, seed=0,
    )  # fmt: skip
    tables = {name: pd.read_parquet(path) for name, path in outputs.items()}
    return tables, {record.id: record for record in read_statistics(folder / "s.json")}


def test_statistics_find_what_was_planted(written):
    _, found = written
    expected = {
        "fig1.rank_log_temperature_of_inflection": 0.5,
        "fig1.loss_log_temperature_of_minimum": 0.2,
        "fig1.rank_inflection_minus_loss_minimum": 0.3,
        "fig1.growth_log_temperature_of_zero": np.log(2),
        "fig1.growth_at_one": np.log(2),
        "fig1.token_information_log_temperature_of_maximum": -0.7,
        "fig1.token_information_minus_shuffled": 2 - 0.7**2 / 5,
        "fig1.channel_information_log_temperature_of_maximum": X[0],
        "fig1.correlation_log_length": np.log(5),
        "fig1.evenness_hot": 0.5 + X[-1] / 10,
        "fig1.evenness_cold_random_weights": 0.5 + X[0] / 10,
        "fig1.dimension_log_ratio_input": np.log(8 * 1.035 / 128),
        "fig1.dimension_log_states_minus_gaussian_final": np.log(8 / 20),
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=0.06), name
    assert found["fig1.rank_step_aic"].ci_low > 6
    assert found["fig1.growth_log_temperature_of_zero_absolute"].value == pytest.approx(X[-1])
    assert "never zero" in found["fig1.growth_log_temperature_of_zero_absolute"].note
    assert found["fig1.correlation_decay"].ci_low > 0
    assert found["fig1.rank_hot_minus_cold_random_weights"].n == 4  # draws, not passages
    assert found["fig1.rank_hot_minus_cold"].n == 8


def test_few_draws_have_students_intervals(written):
    tables, found = written
    method = "95 % Student's interval over draws"
    for name in ("rank_hot_minus_cold_stable_rank", "evenness_cold", "evenness_hot"):
        assert method in found[f"fig1.{name}_random_weights"].method
        assert "95 % bootstrap interval over passages" in found[f"fig1.{name}"].method
    # what draws spread by, which eight passages of one network have alike: four have t = 3.18
    curves = tables["curves"].query("quantity == 'evenness'")
    width = (curves["ci_high"] - curves["ci_low"]).groupby(curves["arm"]).mean()
    assert width["random_weights"] > 1.5 * width["intact"]


def test_tables_hold_every_arm_and_only_lengths_that_are_there(written):
    tables, _ = written
    curves = tables["curves"]
    assert not curves.duplicated(
        ["model", "arm", "definition", "quantity", "layer", "temperature"]
    ).any()
    assert set(curves["arm"]) == {"intact", "shuffled_tokens", "random_weights"}
    assert (curves["ci_low"] <= curves["ci_high"]).all()
    lengths = curves.query("quantity == 'correlation_length' and arm == 'intact'")
    assert lengths["value"].to_numpy() == pytest.approx(5, rel=0.15)
    both = curves.query("arm == 'intact'").set_index("quantity")["value"]
    np.testing.assert_allclose(both["perplexity"], np.exp(both["loss"]))
    assert set(tables["dimension"]["sample"]) == {"states", "gaussian", "shuffled", "white"}
    assert set(tables["fits"]["shape"]) == {"logistic", "hump", "line", "constant"}
    assert list(tables["attention"]["model"]) == ["net"]
    np.testing.assert_allclose(tables["correlation"]["null"], 0.1)
