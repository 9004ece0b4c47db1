"""Statistics of figure 21 on planted runs: each must find what was planted, and nothing else."""

import math

import numpy as np
import pandas as pd
import pytest

from tgn.training import gate_statistics as statistics


def rng():
    return np.random.default_rng(0)


def blocks_of(losses, blocks=40, targets=100):
    """Runs whose blocks have these mean losses, by (arm, seed), and the same hard blocks."""
    hardness = np.random.default_rng(1).normal(0, 0.3, blocks)
    return pd.concat(
        pd.DataFrame(
            {"block": np.arange(blocks), "nats": targets * (loss + hardness), "targets": targets}
        ).assign(arm=arm, seed=seed, kind="arm")
        for (arm, seed), loss in losses.items()
    )


def watched(gates, *, arm="tgn", seed=0, kind="arm", strength=0.002, windows=16, noise=0.02):
    """A run whose gate has these means at its evaluations."""
    draw = np.random.default_rng(seed)
    return pd.concat(
        pd.DataFrame(
            {
                "window": np.arange(windows),
                "gate": gate * np.exp(draw.normal(0, noise, windows)),
                "nats": 5.0,
                "targets": 1,
            }
        ).assign(step=step, tokens=100 * step)
        for step, gate in enumerate(gates)
    ).assign(
        run=f"{arm}-{kind}-{strength}-{seed}", arm=arm, seed=seed, kind=kind, strength=strength
    )


def by_id(found):
    return {row["id"].removeprefix("fig21."): row for row in found}


def test_a_difference_of_arms_is_found_on_blocks_that_vary_far_more():
    losses = {("tgn", 0): 5.0, ("tgn", 1): 5.001, ("rival", 0): 5.1, ("rival", 1): 5.101}
    found = by_id(statistics.loss_statistics(blocks_of(losses), "tgn", rng=rng(), resamples=200))
    row = found["tgn_minus_rival"]
    assert row["value"] == pytest.approx(-0.1)
    assert -0.11 < row["ci_low"] < row["ci_high"] < -0.09
    assert found["tgn_loss"]["ci_high"] - found["tgn_loss"]["ci_low"] > 0.1


def test_seeds_that_disagree_widen_the_interval():
    losses = {("tgn", 0): 5.0, ("tgn", 1): 5.2, ("rival", 0): 5.1, ("rival", 1): 5.3}
    row = by_id(statistics.loss_statistics(blocks_of(losses), "tgn", rng=rng(), resamples=200))[
        "tgn_minus_rival"
    ]
    assert row["ci_low"] < -0.5
    assert row["ci_high"] > 0.3


def test_a_single_seed_each_is_refused():
    losses = {("tgn", 0): 5.0, ("rival", 0): 5.1}
    with pytest.raises(ValueError, match="two seeds"):
        statistics.loss_statistics(blocks_of(losses), "tgn", rng=rng(), resamples=200)


SLOPES = pd.concat(
    [watched([0.5, 0.2], strength=0.002)]
    + [watched([0.5, 0.2], kind="penalty", strength=s) for s in (0.0002, 0.02)]
)


@pytest.mark.parametrize(
    ("gates", "reopening"), [([0.5, 0.01, 0.005, 0.05], math.log(10)), ([0.5, 0.1, 0.01], 0.0)]
)
def test_a_gate_that_opens_again_is_told_from_one_that_does_not(gates, reopening):
    table = pd.concat([watched(gates), watched(gates, seed=1), SLOPES[SLOPES["kind"] != "arm"]])
    found = by_id(statistics.gate_statistics(table, "tgn", rng=rng(), resamples=200))
    row = found["tgn_log_gate_reopening"]
    assert row["value"] == pytest.approx(reopening, abs=0.02)
    assert (row["ci_low"] > math.log(2)) == (reopening > 0)
    assert found["tgn_log_lowest_gate"]["value"] == pytest.approx(math.log(min(gates)), abs=0.02)


def test_the_choice_of_the_lowest_gate_is_no_fall():
    """Gates alike at every evaluation: choosing within a resample moves the interval down."""
    moved = []
    for seed in range(40):
        table = watched([0.1] * 20, seed=seed, noise=0.3, windows=32)
        found = by_id(statistics.level_statistics(table, "fig21", rng=rng(), resamples=100))
        row = found["tgn_log_lowest_gate"]
        moved.append((row["ci_low"] + row["ci_high"]) / 2 - row["value"])
        assert (row["n"], found["tgn_log_final_gate"]["n"]) == (16, 32)
    assert np.mean(moved) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("slope", [0.0, -0.5])
def test_the_slope_of_the_level_against_the_penalty(slope):
    table = pd.concat(
        [
            watched([0.5, 0.2 * s**slope], strength=s, kind="arm" if s == 0.002 else "penalty")
            for s in (0.0002, 0.002, 0.02)
        ]
        + [watched([0.5, 0.2 * 0.002**slope], seed=1)]
    )
    found = by_id(statistics.gate_statistics(table, "tgn", rng=rng(), resamples=200))
    row = found["gate_level_slope"]
    assert row["value"] == pytest.approx(slope, abs=0.01)
    assert row["ci_low"] < slope < row["ci_high"]


def ramp(name, gates, steps):
    table = watched(gates, kind="ramp")
    return table.assign(run=name, tokens=table["step"] * steps, penalty=0.001)


def test_a_drift_is_no_hysteresis_and_a_loop_is():
    up, loop = np.array([0.4, 0.3, 0.2, 0.1]), 0.3
    fast = ramp("tgn-ramp-fast-0", [*up, *up[2::-1]], 1)
    slow = ramp("tgn-ramp-slow-0", [*up, *(up[:3] * np.exp(-loop))[::-1]], 3)
    # penalty kept, the gate falls by as much between mirrored evaluations, or not at all
    drifting = np.exp(-loop * np.array([-3, -2, -1, 0, 1, 2, 3]) / 4)
    for flat, beyond in ((0.2 * drifting, 0.0), (np.full(7, 0.2), -loop)):
        table = pd.concat([fast, slow, ramp("tgn-ramp-flat-0", flat, 3)])
        found = by_id(statistics.ramp_statistics(table, rng=rng(), resamples=200))
        assert found["ramp_gap_fast"]["value"] == pytest.approx(0, abs=0.02)
        assert found["ramp_gap_slow"]["value"] == pytest.approx(-loop, abs=0.02)
        row = found["ramp_gap_beyond_drift"]
        assert row["value"] == pytest.approx(beyond, abs=0.02)
        assert (row["ci_high"] < -0.1) == (beyond < 0)


def test_a_ramp_without_a_top_is_refused():
    table = ramp("tgn-ramp-slow-0", [0.4, 0.3, 0.2, 0.3], 3)
    with pytest.raises(ValueError, match="odd number"):
        statistics.ramp_statistics(table, rng=rng(), resamples=200)


def hardened(cost):
    """Splits on which a hard gate open for a share of tokens costs so much."""
    rows = []
    for split in ("validation", "test"):
        for mode in ("hard", "shuffled", "one"):
            for share, more in cost.items():
                rows.append((split, mode, share, 0.2, 5.0 + more * (1 + (mode == "shuffled"))))
        rows += [(split, "soft", 1.0, 0.0, 5.0), (split, "one", np.nan, 0.5, 5.5)]
    table = pd.DataFrame(rows, columns=["split", "mode", "wanted", "threshold", "nats"])
    parts = [table.assign(block=block, targets=1) for block in range(20)]
    return pd.concat(parts).assign(occupancy=lambda t: t["wanted"], scores=lambda t: t["wanted"])


def test_the_fewest_open_tokens_within_one_percent_are_chosen_on_validation():
    cost = {0.01: 0.05, 0.09: 0.009, 0.3: 0.001, 1.0: 0.0}
    found = by_id(statistics.hard_statistics(hardened(cost), "tgn", rng=rng(), resamples=200))
    assert found["tgn_attention_scores_saved"]["value"] == pytest.approx(0.91)
    assert found["tgn_hard_gate_cost"]["value"] == pytest.approx(0.009)
    assert found["tgn_shuffled_gate_cost"]["value"] == pytest.approx(0.018)
    assert found["tgn_threshold_cost"]["value"] == pytest.approx(0.5)


def test_time_saved_is_a_share_of_full_attention():
    rows = [(64, share, k, 0.3 if share < 1 else 1.0) for share in (0.09, 1.0) for k in range(5)]
    measured = pd.DataFrame(rows, columns=["context", "occupancy", "repeat", "seconds"])
    for row in statistics.time_statistics(measured, 64, rng=rng(), resamples=200):
        assert row["value"] == pytest.approx(0.7)
