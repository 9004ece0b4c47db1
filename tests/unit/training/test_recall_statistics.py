"""Recall's tables and statistics, from made-up runs whose numbers are known."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgn.claims import read_claims
from tgn.statistics import Statistic, read_statistics, write_statistics
from tgn.training import recall_statistics
from tgn.training.recall_statistics import MEAN

LEDGER = Path(__file__).parents[3] / "config/claims.yaml"
# arm: bytes at 8 and at 16 tokens
STATES = {
    "attention": (800, 1600),
    "mamba_4": (100, 100),
    "mamba_16": (400, 400),
    "tgn": (900, 1700),
}
SETS = [(8, 2), (16, 2), (16, 4)]


def accuracies(seeds=(0,), **given):
    rows = [
        {
            "arm": arm, "seed": seed, "input_seq_len": length, "num_kv_pairs": pairs,
            "vocab_size": 40, "accuracy": given.get(arm, {}).get((length, pairs), 1.0) - 0.1 * seed,
            "among": 1.0, "n": 100, "state_bytes": state[length > 8], "parameters": 7,
        }
        for arm, state in STATES.items()
        for length, pairs in SETS
        for seed in seeds
    ]  # fmt: skip
    return pd.DataFrame(rows)


def means(**given):
    table = recall_statistics.accuracy_table(accuracies(**given), {(8, 2), (16, 4)})
    return table[table["seed"] == MEAN]


def by_id(records):
    return {record["id"]: record for record in records}


def test_wilson_is_its_formula():
    z, p, n = 1.959964, 0.3, 50
    middle = (p + z * z / 2 / n) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    low, high = recall_statistics.wilson(p, n)
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-6)
    assert recall_statistics.wilson(1.0, 100) == pytest.approx((0.963, 1.0), abs=1e-3)


@given(st.floats(0, 1), st.floats(2, 1e4))
def test_an_interval_holds_its_share_and_stays_within_0_and_1(share, trials):
    low, high = recall_statistics.wilson(share, trials)
    assert -1e-12 <= low <= share <= high <= 1 + 1e-12


def test_seeds_that_differ_widen_the_interval_of_their_mean_alone():
    found = accuracies(seeds=(0, 1), mamba_4=dict.fromkeys(SETS, 0.6))
    # all variances over seeds are 0.1^2 / 2; means are 0.95 and, of mamba_4, 0.55
    factor = recall_statistics.overdispersion(found)
    assert factor == pytest.approx(0.005 / ((3 * 0.95 * 0.05 + 0.55 * 0.45) / 4))
    assert math.isnan(recall_statistics.overdispersion(accuracies()))
    table = recall_statistics.accuracy_table(found, set()).set_index(["arm", "seed"])
    assert (table.loc[("tgn", "0"), "trials"] == 100).all()
    np.testing.assert_allclose(table.loc[("tgn", MEAN), "trials"], 1 / (1 / 200 + factor / 2))
    np.testing.assert_allclose(table.loc[("tgn", MEAN), "accuracy"], 0.95)


def test_the_interval_of_one_seed_says_whose_spread_it_holds():
    several = accuracies(seeds=(0, 1))
    one = several[(several["arm"] != "tgn") | (several["seed"] == 0)]
    for found, words in ((one, "that of other arms"), (accuracies(), "left out")):
        table = recall_statistics.accuracy_table(found, set())
        means = table[(table["seed"] == MEAN) & (table["arm"] == "tgn")]
        assert all(
            words in record["note"] for record in recall_statistics.accuracy_statistics(means)
        )


def test_the_table_knows_chance_and_training():
    table = means().set_index(["arm", "input_seq_len", "num_kv_pairs"]).loc["attention"]
    assert table["context_chance"].tolist() == [0.5, 0.5, 0.25]
    assert (table["chance"] == 0.05).all()
    assert table["trained"].tolist() == [True, False, True]
    assert table["state_bytes"].tolist() == [800, 1600, 1600]


def test_the_least_of_trained_sets_has_an_interval_for_all_of_them():
    found = by_id(
        recall_statistics.accuracy_statistics(means(tgn={(8, 2): 0.9, (16, 2): 0.1, (16, 4): 0.8}))
    )
    least = found["fig22.recall_trained_least_tgn"]
    low, high = recall_statistics.wilson(0.8, 100, 0.025)
    assert (least["value"], least["ci_low"], least["ci_high"]) == (0.8, low, high)
    assert found["fig22.recall_tgn_16_2"]["value"] == 0.1


def test_the_lightest_of_trained_sets_has_fewest_pairs_in_fewest_tokens():
    found = by_id(recall_statistics.accuracy_statistics(means(tgn={(8, 2): 0.9})))
    assert found["fig22.recall_trained_lightest_tgn"]["value"] == 0.9


def test_an_arm_that_never_left_chance_is_called_so():
    table = means(mamba_4={(8, 2): 0.55, (16, 2): 0.9, (16, 4): 0.25}, tgn={(16, 4): 0.25})
    found = by_id(
        [
            *recall_statistics.accuracy_statistics(table),
            *recall_statistics.length_statistics(table, 2),
        ]
    )
    for name in ("16_2", "8_2"):  # of which the first is not trained on, and counts for nothing
        assert "never left the chance" in found[f"fig22.recall_mamba_4_{name}"]["note"]
    assert "never left the chance" in found["fig22.recall_longest_mamba_4"]["note"]
    assert "never left the chance" not in found["fig22.recall_tgn_16_4"]["note"]


def statistic(id, value, low, high):
    return Statistic(id, value, low, high, 100, "share of queries", "mean", "recall", "real")


@pytest.mark.parametrize(
    ("attention", "mamba", "untold"),
    [
        ((0.995, 0.9, 1.0), (0.98, 0.97, 0.991), set()),
        ((0.98, 0.9, 0.99), (1.0, 0.99, 1.0), set()),  # its interval reaches what it must
        ((0.9, 0.85, 0.95), (1.0, 0.99, 1.0), {"longest_mamba_16", "longest_tgn"}),
        ((0.995, 0.9, 1.0), (0.8, 0.7, 0.9), {"longest_mamba_16"}),
    ],
)
def test_a_baseline_that_is_not_fair_leaves_claims_untold(attention, mamba, untold):
    numbers = {
        "trained_least_attention": attention,
        "trained_lightest_mamba_16": mamba,
        "longest_mamba_16": (0.02, 0.01, 0.03),
        "longest_tgn": (0.99, 0.97, 1.0),
        "longest_mamba_4": (0.02, 0.01, 0.03),
    }
    records = [statistic(f"fig22.recall_{name}", *ends) for name, ends in numbers.items()]
    found = recall_statistics.withheld(records, 0.99)
    assert set(found) == {f"fig22.recall_{name}" for name in untold}
    for name in untold:
        value, low, high = numbers[name]
        assert "a fair baseline has 0.99" in found[f"fig22.recall_{name}"]
        assert f"is {value} share of queries [{low}, {high:g}]" in found[f"fig22.recall_{name}"]


def test_every_claim_on_recall_waits_for_fair_baselines():
    claims = {claim.id: claim for claim in read_claims(LEDGER)}
    names = ("mamba_recall_collapses_with_length", "recall_stays_near_perfect",
             "recall_stays_near_perfect_as_published", "full_history_beyond_capacity")  # fmt: skip
    waiting = [claims[f"tgn.{name}"] for name in names]
    for claim in waiting:
        (first, *_) = claim.statistics
        assert set(recall_statistics.BASELINES[first]) <= set(claim.beside)
    assert {claim.statistics[0] for claim in waiting} == set(recall_statistics.BASELINES)


def test_lengths_are_compared_at_equal_pairs():
    table = means(mamba_16={(8, 2): 0.9, (16, 2): 0.2, (16, 4): 0.1})
    found = by_id(recall_statistics.length_statistics(table, 2))
    assert found["fig22.recall_shortest_mamba_16"]["value"] == 0.9
    assert found["fig22.recall_longest_mamba_16"]["value"] == 0.2
    assert found["fig22.recall_context_chance"]["value"] == 0.5


def test_capacity_is_a_slope_over_states_and_a_gap_to_full_history():
    table = means(mamba_4={(16, 4): 0.2}, mamba_16={(16, 4): 0.6}, tgn={(16, 4): 0.5})
    found = by_id(recall_statistics.capacity_statistics(table, 16))
    assert found["fig22.recall_heaviest_slope_state_bytes"]["value"] == pytest.approx(0.4 / 2)
    gap = found["fig22.recall_heaviest_attention_minus_best_fixed_state"]
    assert gap["value"] == pytest.approx(0.4)
    assert gap["controls"] == ["mamba_16"]
    assert gap["ci_low"] < 0.4 < gap["ci_high"]
    assert found["fig22.recall_heaviest_tgn_minus_best_fixed_state"]["value"] < 0
    assert found["fig22.recall_lightest_attention_minus_best_fixed_state"]["value"] == 0


def test_a_slope_adds_distances_in_squares():
    table = pd.DataFrame({"accuracy": [0.2, 0.4], "low": [0.1, 0.38], "high": [0.25, 0.5]})
    found = recall_statistics.slope(np.array([3.0, 5.0]), table)
    assert found.value == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1 - math.hypot(0.02, 0.05) / 2)
    assert found.high == pytest.approx(0.1 + math.hypot(0.1, 0.1) / 2)


def test_a_width_is_worth_a_slope_where_there_are_several():
    wide = accuracies(mamba_16={(16, 4): 0.8}).assign(arm=lambda table: table["arm"] + "_d16")
    narrow = accuracies(mamba_16={(16, 4): 0.4}, attention={(16, 4): 0.9})
    both = pd.concat([narrow, wide[wide["arm"] != "tgn_d16"]])
    table = recall_statistics.accuracy_table(both, set())
    runs = {
        arm: {"arm": arm, "model": {"width": 16 if arm.endswith("_d16") else 4}}
        for arm in both["arm"]
    }
    means = table[table["seed"] == MEAN]
    found = by_id(recall_statistics.width_statistics(means, runs, 16))
    slopes = {name.rpartition("width_")[2]: record["value"] for name, record in found.items()}
    assert slopes == pytest.approx({"attention": 0.05, "mamba_16": 0.2, "mamba_4": 0})
    alone = means[~means["arm"].str.endswith("_d16")]
    assert recall_statistics.width_statistics(alone, runs, 16) == []


def gates(query, elsewhere):
    rows = [
        {
            "arm": "tgn", "seed": 0, "layer": 0, "position": position, "input_seq_len": 16,
            "num_kv_pairs": 4, "gate": gate, "standard_error": 0.01, "open": gate, "n": 100,
        }
        for position, gate in (("query", query), ("context", elsewhere), ("other", elsewhere))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_gates_at_queries_are_held_against_gates_elsewhere():
    both = pd.concat([gates(0.5, 0.2), gates(0.7, 0.2).assign(seed=1)])
    table = recall_statistics.occupancy_table(both)
    alone = by_id(recall_statistics.contrast_statistics(both[both["seed"] == 0], 16, 4))
    gap = alone["fig22.recall_tgn_gate_query_minus_elsewhere_layer_0"]
    assert gap["value"] == pytest.approx(0.3)
    assert gap["ci_high"] == pytest.approx(0.3 + 1.96 * 0.01 * math.sqrt(2))
    opened = by_id(recall_statistics.open_statistics(table[table["seed"] == "0"], 16, 4))
    for place, share in (("query", 0.5), ("elsewhere", 0.2)):
        record = opened[f"fig22.recall_tgn_open_{place}_layer_0"]
        numbers = [record[name] for name in ("value", "ci_low", "ci_high")]
        assert numbers == pytest.approx([share, *recall_statistics.wilson(share, 100)])


def test_two_seeds_widen_a_gate_by_students_t():
    both = pd.concat([gates(0.50, 0.2), gates(0.51, 0.2).assign(seed=1)])
    margin = 12.706 * math.sqrt(0.01**2 / 2 / 2)  # one degree of freedom
    sequences = 1.96 * 0.01 / math.sqrt(2)
    table = recall_statistics.occupancy_table(both)
    mean = table[(table["seed"] == MEAN) & (table["position"] == "query")].iloc[0]
    assert mean["high"] - mean["gate"] == pytest.approx(math.hypot(sequences, margin), rel=1e-4)
    (gap,) = recall_statistics.contrast_statistics(both, 16, 4)
    half = math.hypot(sequences * math.sqrt(2), margin)
    assert gap["ci_high"] - gap["value"] == pytest.approx(half, rel=1e-4)


def test_seeds_that_open_and_shut_widen_the_share_of_open_gates():
    alike = pd.concat([gates(0.5, 0.5), gates(0.5, 0.5).assign(seed=1)])
    apart = pd.concat([gates(0.9, 0.5), gates(0.1, 0.5).assign(seed=1)])
    widths = []
    for found in (alike, apart):
        table = recall_statistics.occupancy_table(found)
        row = table[(table["seed"] == MEAN) & (table["position"] == "query")].iloc[0]
        assert row["open"] == pytest.approx(0.5)
        widths.append(row["open_high"] - row["open_low"])
    assert widths[1] > 2 * widths[0]


def recorded(levels, arm="tgn", seed=0):
    """Gates of the records at steps 10, 20, ..., after one at step 0 that has none."""
    steps = 10 * np.arange(len(levels) + 1)
    table = pd.DataFrame({"arm": arm, "seed": seed, "step": steps, "tokens": 64 * steps})
    return table.assign(gate=[np.nan, *levels], validation_accuracy=steps / steps[-1])


def gate_levels(table, **settings):
    options = {"steps": 1000, "early": 0.5, "rng": np.random.default_rng(0), "resamples": 100}
    found = by_id(recall_statistics.gate_statistics(table, **options | settings))
    return {name.removeprefix("fig22.recall_tgn_log_"): record for name, record in found.items()}


def test_the_early_phase_ends_where_it_is_said_to(monkeypatch):
    monkeypatch.setattr(recall_statistics, "WINDOW", 4)
    levels = np.repeat([0.5, 0.02, 0.3, 0.001, 0.1], 20)  # at steps 10 to 1000
    for early, lowest in ((0.5, 0.02), (1.0, 0.001)):
        found = gate_levels(recorded(levels), early=early)
        assert found["lowest_early_gate"]["value"] == pytest.approx(math.log(lowest))
        assert found["lowest_gate"]["value"] == pytest.approx(math.log(0.001))
        assert found["final_gate"]["value"] == pytest.approx(math.log(0.1))


def test_the_early_phase_is_a_part_of_the_run_as_planned_not_of_one_that_ended_before():
    levels = np.repeat([0.5, 0.02], 25)
    whole, ended = gate_levels(recorded(levels)), gate_levels(recorded(levels), steps=500)
    assert whole["lowest_early_gate"]["value"] == pytest.approx(math.log(0.02))
    assert ended["lowest_early_gate"]["value"] == pytest.approx(math.log(0.5))


def test_a_dip_shorter_than_an_evaluation_is_found_and_not_lowered_by_the_choice():
    rng = np.random.default_rng(1)
    flat = rng.lognormal(math.log(0.1), 0.5, (200, 100))
    read = np.array([recall_statistics.lowest(gates).mean() for gates in flat])
    deviation = flat.std() / math.sqrt(recall_statistics.WINDOW / 2) / math.sqrt(len(read))
    assert abs(read.mean() - flat.mean()) < 4 * deviation
    dip = np.full(100, 0.5)
    dip[30:50] = 0.004
    assert recall_statistics.lowest(dip).mean() == pytest.approx(0.004)


def test_seeds_are_averaged_record_by_record():
    both = pd.concat([recorded(np.full(60, 0.2)), recorded(np.full(80, 0.4), seed=1)])
    found = gate_levels(both)
    assert found["lowest_early_gate"]["value"] == pytest.approx(math.log(0.3))
    assert found["final_gate"]["value"] == pytest.approx(math.log(0.3))
    assert "seeds: 2" in found["final_gate"]["note"]


def test_the_drawn_gate_is_a_moving_mean_of_each_run():
    table = pd.concat([recorded(np.arange(50.0)), recorded(np.arange(50.0) + 100, seed=1)])
    drawn = recall_statistics.training_table(table)
    middle = drawn[drawn["step"] == 250]["gate"].to_numpy()
    np.testing.assert_allclose(middle, [23.5, 123.5])  # of records 14 to 33, counted from 0


def test_all_statistics_stand_in_one_file(tmp_path):
    runs, paths = (
        {},
        {name: [] for name in ("accuracies", "occupancies", "metrics")},
    )
    found = accuracies()
    for arm in STATES:
        folder = tmp_path / f"{arm}-0"
        folder.mkdir()
        runs[f"{arm}-0"] = {
            "arm": arm, "seed": 0, "model": {"width": 8}, "training": {"steps": 100},
            "train_tasks": [{"input_seq_len": 16, "num_kv_pairs": 4}],
        }  # fmt: skip
        gated = arm == "tgn"
        metrics = recorded(np.full(10, 0.3)).drop(columns=["arm", "seed"])
        tables = {
            "accuracies": found[found["arm"] == arm],
            "occupancies": gates(0.5, 0.2) if gated else gates(0, 0)[:0],
            "metrics": metrics if gated else metrics.drop(columns="gate"),
        }
        for name, table in tables.items():
            path = folder / f"{name}.parquet"
            table.to_parquet(path)
            paths[name].append(str(path))
    other = Statistic("fig22.other", 1.0, 0.5, 1.5, 3, "", "counted", "text", "real")
    write_statistics(tmp_path / "convergence.json", [other])
    names = ("recall", "widths", "occupancy", "recall_training")
    outputs = {name: str(tmp_path / f"{name}.parquet") for name in names}
    recall_statistics.summarise(
        **paths, **outputs, convergence=str(tmp_path / "convergence.json"),
        statistics=str(tmp_path / "statistics.json"), undecided=str(tmp_path / "undecided.json"),
        runs=runs, width=8, length=16, pairs=4, early=0.5, fair=1.01, model="recall",
        evidence="real", resamples=100, seed=0,
    )  # fmt: skip
    records = {record.id: record for record in read_statistics(tmp_path / "statistics.json")}
    assert records["fig22.other"] == other
    assert records["fig22.recall_trained_least_attention"].value == 1
    assert "fig22.recall_tgn_gate_query_minus_elsewhere_layer_0" in records
    listed = json.loads((tmp_path / "undecided.json").read_text())
    assert {entry["id"] for entry in listed}.isdisjoint(records)
    assert "fig22.recall_longest_tgn" in {entry["id"] for entry in listed}
    assert all(entry["model"] == "recall" and entry["reason"] for entry in listed)
    training = pd.read_parquet(outputs["recall_training"])
    assert training[training["arm"] == "tgn"]["gate"].tolist() == pytest.approx([0.3] * 11)
    assert training[training["arm"] != "tgn"]["gate"].isna().all()
    assert len(pd.read_parquet(outputs["recall"])) == len(STATES) * len(SETS) * 2
