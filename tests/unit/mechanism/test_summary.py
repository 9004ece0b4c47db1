"""The statistics of figure 1 find what is planted."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgn.mechanism.landscapes import ARMS, evaluations
from tgn.mechanism.random_attention import DEFINITIONS
from tgn.mechanism.summary import (
    check_statistics,
    power_minus_exponential,
    rank_curves,
    rank_maxima,
    rank_statistics,
    relaxation_table,
    slope,
    walk_statistics,
)
from tgn.statistics import bootstrap_interval

LOGS = np.linspace(np.log(0.1), np.log(31.6), 25)
SIZES = np.array([4, 5, 6, 7, 8, 9, 10])


def interval(values, statistic=np.mean):
    rng = np.random.default_rng(0)
    return bootstrap_interval(values, statistic, rng=rng, resamples=200)


def named(records):
    return {record.id.removeprefix("fig1."): record for record in records}


def planted_ranks(top=0.3, drift=0.0):
    """Every definition a bump at ``top`` that moves with log N; rows freeze at sqrt(ln N)."""
    rows = []
    for size in (128, 256, 512):
        for draw in range(3):
            for definition in DEFINITIONS:
                place = top + drift * np.log(size / 128) + 0.001 * draw
                values = 1 + size / 2 * np.exp(-((LOGS - place) ** 2) / 4)
                if definition == "row_rank":
                    values = np.exp(np.log(size) / (1 + np.exp(2 * LOGS) / np.log(size)))
                rows += [
                    {"size": size, "dimension": 64, "draw": draw, "alpha": alpha,
                     "definition": definition, "value": value}
                    for alpha, value in zip(np.exp(LOGS), values, strict=True)
                ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("top", "drift"), [(0.0, 0.0), (0.8, 0.3)])
def test_the_place_of_a_maximum_and_its_drift_are_found(top, drift):
    found = named(rank_statistics(planted_ranks(top, drift)))
    place = found["log_alpha_of_highest_effective_rank_sigma"]
    assert place.value == pytest.approx(top, abs=0.01)
    assert place.ci_low < place.value < place.ci_high
    assert found["log_alpha_of_highest_against_log_size"].value == pytest.approx(drift, abs=0.01)
    assert place.model == "random attention, N 128, d 64"  # the first case decides


def test_rows_that_freeze_as_a_random_energy_model_are_seen_to():
    found = named(rank_statistics(planted_ranks()))
    frozen = found["log_alpha_of_half_row_entropy"]
    assert frozen.value == pytest.approx(np.log(np.sqrt(np.log(128))), abs=0.01)
    slope_of = found["log_alpha_of_half_row_entropy_against_log_log_size"]
    assert slope_of.value == pytest.approx(0.5, abs=0.02)


def test_a_maximum_at_an_end_of_the_range_says_so():
    ranks = planted_ranks(top=9.0)
    found = named(rank_statistics(ranks))["log_alpha_of_highest_stable_rank"]
    assert found.note == "at an end of the grid (0.1 to 31.6) in 3 of 3 draws"
    table = rank_maxima(ranks).set_index(["size", "definition"])
    assert table.loc[(128, "stable_rank"), "at_edge"] == 1
    assert table.loc[(128, "half_row_entropy"), "at_edge"] == 0


def test_curves_are_means_over_draws():
    ranks = planted_ranks()
    curves = rank_curves(ranks)
    assert (curves["n"] == 3).all()
    first = ranks[(ranks["size"] == 256) & (ranks["definition"] == "centred")]
    own = curves[(curves["size"] == 256) & (curves["definition"] == "centred")]
    assert np.allclose(own["value"], first.groupby("alpha")["value"].mean())


def planted_walks(local=1.2, attention=3.0, noise=0.05):
    """Times exp(local n) for local moves, n**attention for jumps by attention, others between."""
    rng = np.random.default_rng(1)
    logs = {
        "local": local * SIZES,
        "attention": 2 + attention * np.log(SIZES),
        "row_softmax": 1 + 0 * SIZES,
        "uniform": 1 + 0.5 * SIZES,
    }
    return pd.DataFrame(
        [
            {"landscape": "hypercube", "size": size, "states": 2**size, "sample": sample,
             "arm": arm, "gap": np.exp(-logs[arm][place] - noise * rng.normal()),
             "evaluations": evaluations(arm, 2**size, 0.1), "distance": 0.2,
             "mixing": 2 * np.exp(logs[arm][place]) if size < 6 else np.nan}
            for arm in ARMS
            for place, size in enumerate(SIZES)
            for sample in range(12)
        ]
    )  # fmt: skip


def test_ratios_of_gaps_and_laws_of_growth_are_found():
    found = named(walk_statistics(planted_walks(), interval))
    top = SIZES[-1]
    over_local = found["log_gap_attention_over_local_hypercube"]
    assert over_local.value == pytest.approx(1.2 * top - 2 - 3 * np.log(top), abs=0.1)
    cost = np.log(0.9 + 0.1 * 2**top)
    paid = found["log_gap_per_evaluation_attention_over_local_hypercube"]
    assert paid.value == pytest.approx(over_local.value - cost, abs=1e-9)
    assert found["aic_power_minus_exponential_local_hypercube"].ci_low > 6
    assert found["aic_exponential_minus_power_attention_hypercube"].ci_low > 6
    assert found["aic_exponential_minus_power_attention_per_evaluation_hypercube"].ci_high < -6
    assert found["relaxation_rate_local_hypercube"].value == pytest.approx(1.2, abs=0.02)
    mixing = found["log_mixing_over_relaxation_local_hypercube"]
    assert mixing.value == pytest.approx(np.log(2), abs=0.06)
    assert mixing.model == "hypercube, size 5"  # the largest that was counted
    listed = found["log_evaluations_attention_over_listing_hypercube"]
    assert listed.value == pytest.approx(2 + 3 * np.log(top) + cost - top * np.log(2), abs=0.1)


@given(st.floats(0.2, 3), st.floats(-2, 2))
def test_evidence_changes_sides_with_the_law(rate, shift):
    exponential = shift + rate * SIZES[None]
    power = shift + 5 * rate * np.log(SIZES[None])
    ripple = 0.01 * np.cos(3.0 * SIZES[None])
    assert power_minus_exponential(SIZES, exponential + ripple) > 0
    assert power_minus_exponential(SIZES, power + ripple) < 0


def test_relaxation_is_a_decimal_logarithm_in_steps_and_in_energies():
    whole = relaxation_table(planted_walks(noise=0.01), resamples=100, seed=0)
    table = whole.set_index(["arm", "cost", "size"])[["value"]]
    assert table.loc[("local", "steps", 10), "value"] == pytest.approx(12 / np.log(10), abs=0.02)
    more = table.loc[("attention", "evaluations", 10)] - table.loc[("attention", "steps", 10)]
    assert more["value"] == pytest.approx(np.log10(0.9 + 0.1 * 1024))
    same = table.loc[("local", "evaluations", 10)] - table.loc[("local", "steps", 10)]
    assert same["value"] == pytest.approx(0)
    mixing = whole[whole["cost"] == "mixing"]
    assert sorted(mixing["size"].unique()) == [4, 5]
    assert mixing["value"].to_numpy() == pytest.approx(np.log10(2), abs=0.01)


def test_the_law_by_which_times_grow_goes_through_them():
    table = relaxation_table(planted_walks(noise=0.01), resamples=100, seed=0)
    steps = table[table["cost"] == "steps"].set_index("arm")
    for arm, law, other in (
        ("local", "exponential", "power"), ("attention", "power", "exponential")
    ):  # fmt: skip
        rows = steps.loc[arm]
        assert np.allclose(rows[law], rows["value"], atol=0.01)
        assert not np.allclose(rows[other], rows["value"], atol=0.05)


def planted_checks(agree):
    """Four problems; the rule of the gate is best in the given ones."""
    values = {
        "optimum_difference": [1e-10, 3e-9, 2e-10, 1e-10],
        "kernel_distance_normal": [0.2, 0.3, 0.25, 0.25],
        "gate_rule_is_best": agree,
        "soft_gate_inside": [0.5, 0.6, 0.7, 0.8],
        "heat_step_log_energy": [-0.1, -0.2, -0.1, -0.2],
        "heat_step_log_rank": [-0.1, -0.2, -0.1, -0.2],
        "attention_step_log_rank": [-0.1, -0.2, -0.1, -0.2],
        "attention_step_log_spread": [-0.1, -0.2, -0.1, -0.2],
    }
    rows = [
        {"problem": problem, "quantity": quantity, "spread": 0.09, "value": float(value)}
        for quantity, several in values.items()
        for problem, value in enumerate(several)
    ]
    for problem in range(4):
        for spread, value in ((0.0, 1e-16 * (problem + 1)), (0.5, 0.9)):
            rows.append(
                {
                    "problem": problem,
                    "quantity": "kernel_distance",
                    "spread": spread,
                    "value": value,
                }
            )
    return pd.DataFrame(rows)


def test_checks_keep_equal_norms_apart_and_tell_the_worst_problem():
    found = named(check_statistics(planted_checks([1, 1, 1, 1]), interval))
    assert found["softmax_minus_kernel_equal_norms"].value == pytest.approx(2.5e-16)
    assert found["softmax_minus_kernel_normal_keys"].value == pytest.approx(0.25)
    assert (
        found["softmax_minus_minimiser"].value == found["softmax_minus_minimiser"].ci_high == 3e-9
    )
    assert found["gate_rule_is_best"].value == 1
    assert 0.4 < found["gate_rule_is_best"].ci_low < 0.6  # four of four is little


def test_a_rule_that_fails_is_seen_to():
    found = named(check_statistics(planted_checks([1, 0, 1, 0]), interval))
    assert found["gate_rule_is_best"].value == 0.5
    assert found["gate_rule_is_best"].ci_high < 0.9


def test_a_slope_and_its_interval():
    rng = np.random.default_rng(3)
    numbers = {n: 2 * np.log(n) + 0.1 * rng.normal(size=20) for n in (10, 20, 40)}
    found = slope(numbers, np.log)
    assert found.low < 2 < found.high
    assert found.high - found.low < 0.3
