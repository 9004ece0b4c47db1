"""Turning layers: planted ones are found, what is no layer is said, predictors are held out."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgn.probing import turning
from tgn.probing.turning import predict, score, turning_layers

GRADIENTS = (turning.steepest, turning.first_peak)
EXTREMES = (turning.lowest, turning.highest)

# Calibration points of the published formula, counted from 0; four are of packed 4-bit storage.
PUBLISHED = pd.DataFrame(
    [
        ("pythia-160m", 12, 12, 7),
        ("pythia-410m", 24, 16, 16),
        ("opt-125m", 12, 12, 8),
        ("gpt2", 12, 12, 9),
        ("pythia-1b", 16, 8, 15),
        ("pythia-2.8b", 32, 32, 26),
        ("pythia-6.9b", 32, 32, 21),
        ("gemma-2b", 18, 8, 17),
    ],
    columns=["model", "layers", "heads", "turning"],
).assign(gain=np.nan)


def planted(depth, at):
    """A smooth curve that is steepest at layer ``at``."""
    return np.tanh((np.arange(1, depth + 1) - at) / 1.5)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(6, 40), st.floats(-1e3, 1e3), st.sampled_from([1.0, -3.0]))
def test_the_steepest_layer_is_found_whatever_is_added(data, depth, shift, scale):
    at = data.draw(st.integers(3, depth - 2))  # at the ends differences are one-sided
    found = turning.steepest(scale * planted(depth, at) + shift)
    assert found == (at, "ok", "")


@pytest.mark.parametrize("shift", [0.0, -50.0, 1e4])
def test_a_step_is_a_plateau_of_the_two_layers_beside_it(shift):
    curve = np.where(np.arange(1, 11) > 6, 5.0, 2.0) + shift
    found = turning.steepest(curve)
    assert found == (6, "plateau", "equal in layers 6, 7")


def test_two_layers_have_one_gradient_and_none_is_the_steepest():
    layer, status, reason = turning.steepest([1.0, 3.0])
    assert np.isnan(layer)
    assert (status, reason) == ("not_applicable", "two layers, which have one gradient")
    assert turning.steepest([1.0, 3.0, 9.0]) == (3, "ok", "")


def test_equal_layers_apart_are_a_tie():
    assert turning.highest([0, 1, 0, 1, 0]) == (2, "tie", "equal in layers 2, 4")
    assert turning.lowest([3, 1, 1, 1, 2]) == (2, "plateau", "equal in layers 2, 3, 4")


@pytest.mark.parametrize("find", [*GRADIENTS, *EXTREMES])
def test_what_is_not_finite_is_refused(find):
    curve = np.r_[np.arange(10.0), np.nan, np.inf]
    layer, status, reason = find(curve)
    assert np.isnan(layer)
    assert status == "failed"
    assert reason == "not finite in layers 11, 12"


def test_the_published_argmax_takes_nan_for_the_maximum():
    curve = np.r_[np.where(np.arange(8) > 3, 9.0, 0.0), np.nan, np.nan]
    assert turning.published_steepest(curve) == 7  # from 0: the last layer before NaN begins
    assert turning.published_steepest(np.nan_to_num(curve, nan=9.0)) == 3


@pytest.mark.parametrize("find", [*GRADIENTS, *EXTREMES])
def test_one_layer_and_flat_curves_have_no_turning_layer(find):
    assert find([2.0])[1] == "not_applicable"
    layer, status, reason = find(np.full(9, 1e4) + 1e-9 * np.arange(9))
    assert np.isnan(layer)
    assert (status, reason) == ("undetermined", "the curve is flat")


def test_half_depth_reads_no_curve():
    assert turning.half_depth([np.nan] * 7) == (3.5, "ok", "")


@pytest.mark.parametrize(
    ("curve", "layer"),
    [([1, 2, 3, 2, 1], 3), ([1, 2, 3, 1, 0, 5, 0], 3), ([5, 1, 2, 3, 2.5, 2], 4)],
)
def test_the_first_peak_is_where_rising_ends(curve, layer):
    assert turning.first_peak(curve) == (layer, "ok", "")


def test_no_peak_is_undetermined_and_a_flat_top_a_plateau():
    assert turning.first_peak([1, 2, 3, 4])[1] == "undetermined"
    assert turning.first_peak([0, 1, 2, 2, 2, 1])[:2] == (3, "plateau")


def sheaf_table(curves, **changed):
    """Curves of one model by prompt, the same for every quantity but those changed."""
    rows = [
        ("a", prompt, layer, quantity, value, "")
        for quantity in ("trace", "trace_zero", "locality", "contraction", "gap")
        for prompt, curve in (changed.get(quantity) or curves).items()
        for layer, value in enumerate(curve, start=1)
    ]
    return pd.DataFrame(rows, columns=["model", "prompt", "layer", "quantity", "value", "reason"])


def test_every_definition_for_every_prompt_and_the_mean():
    found = turning_layers(
        sheaf_table(
            {"p": planted(12, 4), "q": planted(12, 9)},
            gap={"p": planted(12, 4), "q": 10 * np.cos(np.arange(12) - 6.0)},
        )
    )
    assert list(found.columns) == list(turning.COLUMNS)
    assert len(found) == 3 * len(turning.DEFINITIONS)
    layers = found.set_index(["definition", "prompt"])["layer"]
    assert layers["steepest_trace", "p"] == layers["steepest_locality", "p"] == 4
    assert layers["steepest_trace", "q"] == 9
    assert layers["half_depth", "mean"] == 6
    assert layers["least_contraction", "q"] == 1
    assert layers["largest_gap", "q"] == layers["largest_gap", "mean"] == 7
    assert layers["steepest_trace_published", "p"] == 4  # counted from 1 here


def test_a_prompt_that_is_not_finite_fails_with_its_mean_and_no_other():
    broken = planted(12, 9).copy()
    broken[10:] = np.nan
    found = turning_layers(sheaf_table({"p": planted(12, 4), "q": broken}))
    status = found[found["definition"] == "steepest_trace"].set_index("prompt")
    assert status["status"].to_dict() == {"p": "ok", "q": "failed", "mean": "failed"}
    assert status.loc["mean", "reason"] == "not finite in layers 11, 12"
    as_run = found[found["definition"] == "steepest_trace_published"].set_index("prompt")
    assert as_run.loc["q", ["layer", "status"]].to_list() == [10, "ok"]


def test_a_model_that_failed_fails_by_every_definition():
    row = ("a", "", -1, "", np.nan, "no adapter")
    columns = ["model", "prompt", "layer", "quantity", "value", "reason"]
    found = turning_layers(pd.DataFrame([row], columns=columns))
    assert set(found["definition"]) == set(turning.DEFINITIONS)
    assert set(found["status"]) == {"failed"}
    assert set(found["reason"]) == {"no adapter"}


def test_the_published_points_give_the_errors_they_have():
    found = score(predict(PUBLISHED, first=0)).set_index(["predictor", "fit"])
    depth = found["depth_error"].mul(100).round(1)
    assert depth["v3", "printed"] == 5.2
    assert depth["v3", "left_out"] == 8.3
    assert depth["seven_tenths", "printed"] == 10.9
    assert depth["constant", "left_out"] == 12.5
    assert depth["half", "printed"] == 25.2
    assert round(100 * found.loc[("v3", "printed"), "mape"], 1) == 7.0
    assert found.loc[("v1", "printed"), "models"] == 0  # no gains given
    assert np.isnan(found.loc[("v5", "left_out"), "mape"])


def test_the_count_of_layers_moves_no_error_over_depth():
    zero, one = (
        score(predict(PUBLISHED.assign(turning=PUBLISHED["turning"] + first), first=first))
        for first in (0, 1)
    )
    np.testing.assert_allclose(zero["depth_error"], one["depth_error"])
    assert one.set_index("predictor").loc["v3", "mape"].iloc[0] < 0.07


def test_printed_formulas():
    one = pd.DataFrame({"model": ["x"], "layers": 80, "heads": 64, "gain": 0.9, "turning": 40})
    found = predict(one, first=0).set_index(["predictor", "fit"])
    assert found.loc[("v3", "printed"), "predicted"] == pytest.approx(91.7, abs=0.05)
    assert not found.loc[("v3", "printed"), "inside"]
    assert found.loc[("v1", "printed"), "predicted"] == pytest.approx(40 * (1 + np.tanh(-0.5)))
    assert found.loc[("v2", "printed"), "predicted"] == pytest.approx(80 * (0.55 + 0.64))
    expanding = predict(one.assign(gain=1.1), first=0).set_index(["predictor", "fit"])
    assert expanding.loc[("v2", "printed"), "predicted"] == pytest.approx(80 * (0.60 + 0.80))


def random_models(law, n=14):
    rng = np.random.default_rng(0)
    layers, heads = rng.integers(6, 48, n), rng.choice([8, 12, 16, 32], n)
    gain = rng.uniform(0.8, 1.3, n)
    return pd.DataFrame(
        {"model": [f"m{i}" for i in range(n)], "family": np.arange(n) // 2, "layers": layers,
         "heads": heads, "gain": gain, "turning": law(layers, heads, gain)}
    )  # fmt: skip


@pytest.mark.parametrize("group", ["model", "family"])
def test_a_law_is_recovered_out_of_sample(group):
    laws = {
        "v3": lambda L, H, G: L * (0.2 + 0.01 * L + 2 / H),
        "v2": lambda L, H, G: L * np.where(G < 1, 0.3 + 0.01 * L, 0.5 + 0.002 * L),
        "v5": lambda L, H, G: L * (0.2 + 0.01 * L + 2 / H + 0.03 * L / H + 0.4 * (1 - G)),
        "constant": lambda L, H, G: 0.4 * L,
    }
    for name, law in laws.items():
        found = predict(random_models(law), first=0, group=group)
        own = found[(found["predictor"] == name) & (found["fit"] == "left_out")]
        np.testing.assert_allclose(own["predicted"], own["observed"])


def test_a_model_does_not_teach_its_own_prediction():
    models = random_models(lambda L, H, G: 0.4 * L)
    odd = models.copy()
    odd.loc[0, "turning"] = 1.0
    before, after = (predict(x, first=0) for x in (models, odd))
    left_out = before["fit"] == "left_out"
    own = left_out & (before["model"] == "m0")
    np.testing.assert_allclose(before["predicted"][own], after["predicted"][own])
    others = left_out & (before["model"] != "m0") & before["predicted"].notna()
    assert not np.allclose(before["predicted"][others], after["predicted"][others])


def test_gains_that_are_missing_leave_the_others_scored():
    models = random_models(lambda L, H, G: 0.4 * L)
    models.loc[:2, "gain"] = np.nan
    counts = score(predict(models)).set_index(["predictor", "fit"])["models"]
    assert counts["v1", "printed"] == counts["v2", "printed"] == counts["v5", "left_out"] == 11
    assert counts["v3", "printed"] == counts["v3", "left_out"] == 14


def test_only_models_with_a_turning_layer_are_scored():
    with pytest.raises(ValueError, match="turning layer is missing"):
        predict(PUBLISHED.assign(turning=np.nan))
