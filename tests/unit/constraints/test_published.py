"""The published numbers of the constraints, and what they say when they are taken at their word."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tgn.constraints.associations import (
    correlation,
    correlation_p,
    family_means,
    partial_correlation,
)
from tgn.constraints.classes import sign_of
from tgn.constraints.heritage import fisher_p
from tgn.probing.turning import predict, score
from tgn.statistics import Interval
from tgn.thermodynamics.scaling_laws import fit_power_law

PUBLISHED = Path(__file__).parents[3] / "config" / "constraints_published.csv"
TABLE = pd.read_csv(PUBLISHED)


def values(table: str, *quantities: str) -> pd.DataFrame:
    """Numbers of one published table, a row a model, in the order of the file."""
    rows = TABLE[(TABLE["table"] == table) & TABLE["quantity"].isin(quantities)]
    wide = rows.pivot(index="model", columns="quantity", values="value").astype(float)
    return wide.loc[rows["model"].unique(), list(quantities)]


def gains(table: str, quantity: str = "gain_published_a") -> pd.DataFrame:
    rows = TABLE[(TABLE["table"] == table) & (TABLE["quantity"] == quantity)]
    return rows.set_index("model").astype({"value": float})


def heritage() -> pd.DataFrame:
    """The 16 models of the hunt: lab, gain, sign of the mean, sign by the interval, family."""
    found = gains("hunt")[["value", "low", "high", "valid"]]
    rows = TABLE[(TABLE["table"] == "hunt") & (TABLE["quantity"] == "lab")]
    labs = rows.set_index("model")["value"]
    ends = np.log(found[["value", "low", "high"]])
    return found.assign(
        lab=labs,
        family=[re.sub(r"(-alpha)?-?\d[\w.]*$", "", name) for name in found.index],
        dampens=found["value"] < 1,
        sign=[sign_of(Interval(*row)) for row in ends.to_numpy()],
    )


# --- the file ------------------------------------------------------------------------------------


def test_every_number_stands_once_and_says_whether_it_is_valid():
    assert not TABLE.duplicated(["table", "model", "quantity"]).any()
    assert set(TABLE["valid"]) == {"yes", "no"}
    assert TABLE.loc[TABLE["valid"] == "no", "note"].notna().all()
    given = TABLE["low"].notna()
    assert (given == TABLE["high"].notna()).all()
    inside = TABLE[given & TABLE["value"].notna()].astype({"value": float})  # a range has none
    assert (inside["low"] <= inside["value"]).all()
    assert (inside["value"] <= inside["high"]).all()


def test_the_sweep_is_consistent_in_itself():
    sweep = values("sweep", "layers", "heads", "head_dim", "rho", "bound")
    assert sweep["rho"].to_numpy() == pytest.approx(sweep["heads"] / sweep["head_dim"])
    assert sweep["bound"].to_numpy() == pytest.approx(10 ** (1 / sweep["layers"]), abs=6e-4)


# --- the depth law and crowding: one number for two laws -----------------------------------------


@pytest.mark.parametrize(
    ("x", "rank", "r", "p"),
    [
        ("L", False, -0.878, 0.004),
        ("1/L", False, 0.760, 0.029),
        ("10^(1/L)", False, 0.739, 0.036),
        ("rho", False, -0.812, 0.014),
        ("L", True, -0.747, 0.033),
        ("rho", True, -0.916, 0.001),
    ],
)
def test_correlations_of_the_sweep(x, rank, r, p):
    sweep = values("sweep", "layers", "rho", "gain_published_a")
    depth = sweep["layers"].to_numpy()
    columns = {"L": depth, "1/L": 1 / depth, "10^(1/L)": 10 ** (1 / depth), "rho": sweep["rho"]}
    found = correlation(np.asarray(columns[x]), sweep["gain_published_a"].to_numpy(), rank=rank)
    assert found == pytest.approx(r, abs=6e-4)
    assert correlation_p(found, len(sweep)) == pytest.approx(p, abs=6e-4)


def test_the_correlation_printed_for_depth_is_that_of_density():
    sweep = values("sweep", "layers", "rho", "gain_published_a").to_numpy().T
    printed = values("printed", "kleiber_r", "kleiber_p").to_numpy().ravel()
    depth, rho, gain = sweep
    assert [
        round(correlation(rho, gain), 2),
        round(correlation_p(correlation(rho, gain), 8), 3),
    ] == (pytest.approx(printed))
    for x in (depth, 1 / depth, 10 ** (1 / depth)):
        assert abs(correlation(x, gain)) != pytest.approx(abs(printed[0]), abs=0.01)


def test_the_sweep_cannot_tell_depth_from_density():
    depth, rho, gain = values("sweep", "layers", "rho", "gain_published_a").to_numpy().T
    assert correlation(depth, rho) == pytest.approx(0.720, abs=6e-4)
    for x, given, r, p in ((rho, depth, -0.54, 0.21), (depth, rho, -0.73, 0.07)):
        found = partial_correlation(x, gain, given)
        assert found == pytest.approx(r, abs=6e-3)
        assert correlation_p(found, 8, given=1) == pytest.approx(p, abs=6e-3)
        assert correlation_p(found, 8, given=1) > 0.05
    for x, least, most in ((rho, -0.92, -0.72), (depth, -0.92, -0.84)):
        left = [correlation(np.delete(x, i), np.delete(gain, i)) for i in range(8)]
        assert [min(left), max(left)] == pytest.approx([least, most], abs=6e-3)


def test_ten_to_the_inverse_depth_is_no_bound_and_the_product_is_below_ten():
    sweep = values("sweep", "gain_published_a", "bound", "inner_blocks_over_bound", "inner_blocks")
    over = sweep[sweep["gain_published_a"] > sweep["bound"]]
    assert list(over.index) == ["pythia-1b"]
    shares = sweep["inner_blocks_over_bound"] / sweep["inner_blocks"]
    assert shares.max() == pytest.approx(0.47, abs=5e-3)
    products = values("sweep", "inner_product")["inner_product"]
    assert (products.min(), products.max()) == (2.31, 6.99)
    assert values("cumulative", "cumulative")["cumulative"].agg(["min", "max"]).tolist() == [
        124,
        17212,
    ]


# --- heritage ------------------------------------------------------------------------------------


def test_shares_by_lab_are_those_stored():
    table = heritage()
    stored = values("hunt", "share_dampening")["share_dampening"]
    assert table.groupby("lab")["dampens"].mean()[stored.index].to_numpy() == pytest.approx(stored)
    assert table["dampens"].sum() == 6
    # a density of 0.2 dampens, as hypothesised, for 7 of 16
    density = values("hunt", "rho").loc[table.index, "rho"]
    assert ((density >= 0.2) == table["dampens"]).sum() == 7


def test_exact_tests_of_heritage():
    table = heritage()
    theirs = (table["lab"] == "eleutherai").to_numpy()
    assert fisher_p(table["dampens"].to_numpy(), theirs) == pytest.approx(0.036, abs=6e-4)

    decided = table[table["sign"].isin(["dampen", "expand"]) & (table["valid"] == "yes")]
    dampens = (decided["sign"] == "dampen").to_numpy()
    own = (decided["lab"] == "eleutherai").to_numpy()
    counts = [x.sum() for x in (dampens[own], ~dampens[own], dampens[~own], ~dampens[~own])]
    assert counts == [4, 1, 0, 6]
    assert fisher_p(dampens, own) == pytest.approx(0.015, abs=6e-4)
    assert (decided.loc[dampens, "family"] == "gpt-neo").sum() == 3

    # families as units: 2 of 3 against 0 of 4, a family that is undetermined not dampening
    valid = table[table["valid"] == "yes"]
    shares, names = family_means(valid["sign"] == "dampen", valid["lab"] + "/" + valid["family"])
    of_lab = np.array([name.startswith("eleutherai") for name in names])
    assert [of_lab.sum(), (shares[of_lab] > 0.5).sum()] == [3, 2]
    assert [(~of_lab).sum(), (shares[~of_lab] > 0.5).sum()] == [4, 0]
    assert fisher_p(shares > 0.5, of_lab) == pytest.approx(0.14, abs=6e-3)


def test_heritage_in_every_count_of_models():
    def p(table: str, other: tuple[int, int]) -> float:
        own = values(table, "dampen", "expand").loc["eleutherai"].astype(int)
        counts = [own["dampen"], own["expand"], *other]
        dampens = np.repeat([True, False, True, False], counts)
        return fisher_p(dampens, np.repeat([True, True, False, False], counts))

    draft = values("draft", "dampen", "expand").drop("eleutherai").sum().astype(int)
    assert p("draft", tuple(draft)) == pytest.approx(0.007, abs=6e-4)
    assert p("heritage", (2, 9)) == pytest.approx(0.089, abs=6e-4)


# --- gains by block hooks ------------------------------------------------------------------------


def test_intervals_of_the_benchmark_follow_from_its_spreads():
    found = gains("benchmark", "gain_published_b")
    reach = stats.t.ppf(0.975, 24) * found["sd"] / 5
    assert (found["value"] - reach).to_numpy() == pytest.approx(found["low"], abs=1.5e-3)
    assert (found["value"] + reach).to_numpy() == pytest.approx(found["high"], abs=1.5e-3)
    printed = values("draft", "sd_printed")["sd_printed"]
    assert (abs(printed - found.loc[printed.index, "sd"]) > 0.019).all()


def test_the_level_of_mistral_is_that_of_its_nonsense_prompts():
    table = TABLE[(TABLE["table"] == "categories") & (TABLE["model"] == "mistral-7b")]
    means = table.set_index("quantity")["value"].astype(float)
    stored = float(gains("benchmark", "gain_published_b").loc["mistral-7b", "value"])
    assert means.mean() == pytest.approx(stored, abs=6e-3)
    assert means.drop("gain_nonsense").mean() < 1.04 < means["gain_nonsense"]


def test_twins_never_start_from_a_damper_and_one_pair_does_not_go_together():
    twins = values("twins", "gain_base", "gain_instruct", "change_percent", "correlation")
    assert (twins["gain_base"] > 1).all()
    change = 100 * (twins["gain_instruct"] / twins["gain_base"] - 1)
    assert change.to_numpy() == pytest.approx(twins["change_percent"], abs=0.5)
    assert list(twins.index[twins["correlation"] <= 0.8]) == ["gemma-7b"]


def test_no_contrast_of_cliche_and_novel_entropy_is_significant():
    found = values("entropy", "cliche_novel_p")["cliche_novel_p"]
    assert len(found) == 4
    assert (found > 0.05).all()


def test_the_exponent_of_scaling_contains_what_was_hypothesised():
    sizes = np.array([70e6, 160e6, 410e6, 1.0e9, 1.4e9, 2.8e9, 6.9e9, 12e9])
    law = fit_power_law(sizes, values("scaling", "gain_mlp")["gain_mlp"])
    rows = TABLE[(TABLE["table"] == "scaling") & (TABLE["model"] == "pythia")]
    printed = rows.set_index("quantity")
    assert law.b == pytest.approx(float(printed.loc["exponent", "value"]), abs=6e-3)
    assert law.p_value == pytest.approx(float(printed.loc["p", "value"]), abs=2e-3)
    low, high = printed.loc["exponent", ["low", "high"]].astype(float)
    assert [law.low, law.high] == pytest.approx([low, high], abs=0.011)
    assert low < float(printed.loc["exponent_hypothesised", "value"]) < high


# --- spectra, traces, turning layers -------------------------------------------------------------


def test_ten_times_rests_on_matrices_cut_wrongly():
    rows = TABLE[(TABLE["table"] == "spectra") & (TABLE["quantity"] == "spectral_ratio")]
    ratios = rows.set_index("model").astype({"value": float})
    assert set(ratios.index[ratios["value"] > 1]) == set(ratios.index[ratios["valid"] == "no"])
    norms = values("spectra", "spectral_v", "spectral_o")
    assert (norms["spectral_v"] / norms["spectral_o"])[ratios.index].to_numpy() == pytest.approx(
        ratios["value"], abs=0.01
    )
    labels = TABLE[(TABLE["table"] == "spectra") & (TABLE["quantity"] == "label")]
    labels = labels.set_index("model")["value"]
    valid = ratios[ratios["valid"] == "yes"]["value"]
    assert (
        valid[labels[valid.index] == "dampen"].max() < valid[labels[valid.index] == "expand"].min()
    )


def test_the_ratio_of_traces_is_between_two_that_expand():
    traces = values("spectra", "trace")["trace"]
    assert traces["gpt2"] / traces["opt-125m"] == pytest.approx(26, abs=0.6)
    assert traces.drop(["gpt2", "opt-125m"]).between(traces["opt-125m"], traces["gpt2"]).all()


def test_errors_of_the_turning_formula():
    rows = TABLE[TABLE["table"] == "turning"]
    points = values("turning", "layers", "heads", "turning").dropna().reset_index()
    assert len(points) == 8
    found = score(predict(points.assign(gain=np.nan), first=0)).set_index(["predictor", "fit"])
    assert found.loc[("v3", "printed"), "depth_error"] == pytest.approx(0.052, abs=6e-4)
    assert found.loc[("v3", "printed"), "mape"] == pytest.approx(0.070, abs=6e-4)
    assert found.loc[("v3", "left_out"), "depth_error"] == pytest.approx(0.083, abs=6e-4)
    assert found.loc[("seven_tenths", "printed"), "depth_error"] == pytest.approx(0.109, abs=6e-4)
    assert found.loc[("constant", "left_out"), "depth_error"] == pytest.approx(0.125, abs=2e-2)
    assert found.loc[("half", "printed"), "depth_error"] == pytest.approx(0.252, abs=6e-4)
    nan = rows[rows["quantity"] == "first_nan_layer"].set_index("model")["value"].astype(float)
    at = rows[rows["quantity"] == "turning"].set_index("model")["value"].astype(float)
    assert (at[nan.index] == nan - 1).all()  # the gradient is not finite one layer before


def test_errors_across_labs():
    rows = TABLE[(TABLE["table"] == "turning") & (TABLE["quantity"] == "error_across")]
    errors = rows.set_index("model")["value"].astype(float)
    labs = errors.drop("all")
    assert labs.loc[["bigscience"]].item() == labs.max()
    assert labs.min() < errors["all"] < labs.max()
