"""The statistics of gravity on planted tables: each must find what was planted."""

import numpy as np
import pandas as pd
import pytest

from tgn.statistics import Statistic
from tgn.training import gravity_statistics as statistics

WINDOWS = 12


def rng():
    return np.random.default_rng(0)


def found(function, table):
    rows = function(table, rng=rng(), resamples=200)
    for row in rows:
        Statistic(model="toy", evidence="simulated", **row)  # keeps its contract
    return {row["id"].removeprefix("gravity."): row for row in rows}


def attention(arm, seed, trained, **means):
    noise = np.random.default_rng(seed).normal(0, 0.01, WINDOWS)
    columns = {column: means.get(column, 0.5) + noise for column in statistics.LOOKS}
    return pd.DataFrame({**columns, "window": range(WINDOWS), "layer": 0}).assign(
        arm=arm, seed=seed, trained=trained
    )


def test_trained_and_untrained_models_are_told_apart():
    table = pd.concat(
        [attention("gravity", seed, True, rank_distance=-0.8) for seed in (0, 1)]
        + [attention("gravity", seed, False, rank_distance=-1.0) for seed in (0, 1)]
        + [attention("published", 0, True, rank_distance=0.3)]
    )
    rows = found(statistics.attention_statistics, table)
    assert rows["gravity_rank_weight_distance"]["value"] == pytest.approx(-0.8, abs=0.01)
    assert rows["gravity_rank_weight_distance_untrained"]["value"] == pytest.approx(-1, abs=0.01)
    assert rows["published_rank_weight_distance"]["ci_low"] > 0
    assert "published_rank_weight_distance_untrained" not in rows


def test_what_is_not_defined_is_left_out():
    """Equal masses have no rank; one seed has no spread over seeds."""
    rows = found(statistics.attention_statistics, attention("gravity", 0, False, rank_mass=np.nan))
    assert "gravity_rank_weight_mass_untrained" not in rows
    low, high = (rows["gravity_share_nearest_untrained"][end] for end in ("ci_low", "ci_high"))
    assert high - low < 0.05


def numbers(arm, factor):
    heads = pd.DataFrame({"layer": [0, 0, 1, 1], "head": [0, 1, 0, 1], "gamma": 4.0})
    before = heads.assign(radius=4.0, trained=False)
    after = heads.assign(radius=4.0 * np.array(factor), trained=True)
    return pd.concat([before, after]).assign(arm=arm, seed=0)


def test_a_radius_that_moves_is_told_from_one_that_does_not():
    table = pd.concat([numbers("gravity", [2, 0.5, 2, 0.5]), numbers("published", [1, 1, 1, 1])])
    rows = found(statistics.number_statistics, table)
    assert rows["gravity_log_radius_moved"]["value"] == pytest.approx(np.log(2))
    assert rows["gravity_log_radius_change"]["value"] == pytest.approx(0)
    still = rows["published_log_radius_moved"]
    assert (still["value"], still["ci_low"], still["ci_high"]) == (0, 0, 0)
    assert rows["gravity_log_gamma_moved"]["value"] == 0


def masses(power, seed=0):
    counts = np.arange(200)
    noise = np.random.default_rng(seed).normal(0, 0.01, 200)
    mass = np.exp(power * np.log1p(counts) + noise)
    return pd.DataFrame({"token": counts, "count": counts, "mass": mass}).assign(
        arm="gravity", seed=seed
    )


def test_masses_that_go_with_frequency_are_found_and_permuted_ones_do_not():
    rows = found(statistics.mass_statistics, pd.concat([masses(0.3), masses(0.3, seed=1)]))
    assert rows["gravity_rank_mass_frequency"]["ci_low"] > 0.95
    control = rows["gravity_rank_mass_frequency_permuted"]
    assert control["ci_low"] < 0 < control["ci_high"]
    assert rows["gravity_rank_mass_frequency"]["n"] == 199  # tokens never seen have no say
    assert rows["gravity_spread_of_log_mass"]["value"] > 0.2
    falling = found(statistics.mass_statistics, masses(-0.3))
    assert falling["gravity_rank_mass_frequency"]["ci_high"] < -0.95


def dealt(cost, seeds=(0, 1)):
    hardness = np.random.default_rng(3).normal(300, 30, WINDOWS)
    parts = []
    for seed in seeds:
        for mode, draws, more in (("own", 1, 0), ("within", 2, cost / 2), ("all", 2, cost)):
            for draw in range(draws):
                nats = hardness + 50 * (more + 0.001 * seed)
                parts.append(
                    pd.DataFrame({"window": range(WINDOWS), "nats": nats, "targets": 50}).assign(
                        arm="gravity", seed=seed, masses=mode, draw=draw
                    )
                )
    return pd.concat(parts)


def test_the_cost_of_dealt_masses_is_per_token_and_paired_by_window():
    rows = found(statistics.dealt_statistics, dealt(0.2))
    for mode, cost in (("within", 0.1), ("all", 0.2)):
        row = rows[f"gravity_cost_of_dealt_masses_{mode}"]
        assert row["value"] == pytest.approx(cost)
        assert row["ci_high"] - row["ci_low"] < 1e-6  # windows differ, but not their costs


def related(closer):
    pairs = pd.DataFrame({"first": range(30), "second": range(30, 60)})
    noise = np.random.default_rng(2).uniform(-0.2, 0.2, 30)
    return pairs.assign(
        closer=closer + noise, dealt=0.5 - noise, arm="gravity", seed=0, trained=True
    )


def test_related_words_are_found_beside_their_control():
    rows = found(statistics.related_statistics, related(0.8))
    assert rows["gravity_related_closer"]["ci_low"] > 0.7
    control = rows["gravity_related_closer_dealt"]
    assert control["ci_low"] < 0.5 < control["ci_high"]


def clocks(**seconds):
    rows = [
        (name, context, repeat, value * context * (1 + 0.01 * repeat))
        for name, value in seconds.items()
        for context in (64, 128)
        for repeat in range(5)
    ]
    return pd.DataFrame(rows, columns=["model", "context", "repeat", "seconds"])


def test_times_are_compared_at_the_longest_context():
    rows = found(statistics.time_statistics, clocks(vanilla=0.1, gravity=0.1, published=0.6))
    assert rows["published_log_step_time_over_vanilla"]["value"] == pytest.approx(np.log(6))
    assert rows["gravity_log_step_time_over_vanilla"]["value"] == pytest.approx(0)
    assert "128 tokens" in rows["gravity_log_step_time_over_vanilla"]["method"]


def test_speeds_are_inverse_times():
    table = statistics.speed_table(clocks(vanilla=0.1), rng=rng(), resamples=100)
    speed = table.set_index("context")["speed"]
    assert speed[64] == pytest.approx(1 / (6.4 * 1.02))
    assert (table["low"] <= table["speed"]).all()
    assert (table["speed"] <= table["high"]).all()


def test_attention_over_uniform_is_a_ratio_of_sums_and_rare_bins_are_left_out():
    rows = [
        {"window": window, "distance": distance, "weight": pairs * pull, "pairs": pairs}
        for window in range(WINDOWS)
        for distance, pairs, pull in ((0.5, 10 + window, 2.0), (1.5, 5, 0.1))
    ] + [{"window": 0, "distance": 1.9, "weight": 9.0, "pairs": 1}]
    table = pd.DataFrame(rows).assign(arm="gravity", seed=0, trained=True)
    drawn = statistics.pull_table(table, rng=rng(), resamples=100).set_index("distance")
    assert list(drawn.index) == [0.5, 1.5]
    assert drawn["weight"].to_numpy() == pytest.approx([2.0, 0.1])
    assert (drawn["high"] - drawn["low"]).max() < 1e-9
