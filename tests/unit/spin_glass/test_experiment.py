import numpy as np
import pytest

from tgn.spin_glass.experiment import ARMS, SWEEPS_PER_EXCHANGE, ladder, measure_costs, run_arm

SIDE = 4
COSTS = {
    arm: {"bimodal": {SIDE: 10.0}, "gaussian": {SIDE: 10.0}} for arm in ARMS
}  # a round number: 1 ms is 100 000 updates
FULL_BLOCKS = ("tempering_bitcoded", "reference", "reference_again")
LOCAL_MOVES = ("annealing", "tgn", "tgn_gate_shut", "tempering", "tempering_houdayer")


def run(arm, **changes):
    settings = {
        "side": SIDE,
        "disorder": "bimodal",
        "n_samples": 5,
        "seconds": [1e-3, 2e-2],
        "costs": COSTS,
        "rungs": 4,
        "seed": 0,
    }
    return run_arm(arm, **{**settings, **changes})


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_keeps_the_same_books(arm):
    table, gates = run(arm)
    # Annealing leaves out every second checkpoint, which would be a run of its own, and full
    # blocks one that their first round exceeds.
    short = arm in ("annealing", *FULL_BLOCKS)
    assert set(table["checkpoint"]) == ({1} if short else {0, 1})
    assert len(table) == 5 * table["checkpoint"].nunique()
    assert table["sample"].nunique() == 5
    assert (table["energy"] >= -3).all()
    assert (table["energy"] < 0.5).all()
    work = table.pivot(index="sample", columns="checkpoint", values="updates").to_numpy()
    if arm == "greedy_quench":  # it ends by itself
        assert (work[:, 1] < 10_000).all()
    else:
        budget = np.array([1e5, 2e6])[table["checkpoint"].unique()]
        # 16 replicas, each swept or compared with all others; 102 copies in bit-coded lanes.
        least = 816 if arm in FULL_BLOCKS else 5 * 16
        round_and_clusters = least * 64 * SWEEPS_PER_EXCHANGE + 0.1 * budget
        assert (np.abs(work - budget) <= round_and_clusters).all()
        assert (np.diff(work, axis=1) > 0).all()
    energy = table.pivot(index="sample", columns="checkpoint", values="energy").to_numpy()
    assert (np.diff(energy, axis=1) <= 0).all()
    if arm in LOCAL_MOVES:
        assert table["acceptance"].between(0.01, 0.9).all()
    assert gates.empty != arm.startswith("tgn")


def test_tables_are_reproducible_and_follow_the_seed():
    first, again, other = (run("tgn", seed=seed)[0] for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)


def test_arms_meet_the_same_samples():
    long = [2e-2]
    best = [
        run(arm, seconds=long)[0]["energy"].to_numpy()
        for arm in ("tempering", "tempering_houdayer", "tgn", "tgn_gate_shut", "annealing")
    ]
    for energies in best[1:]:
        assert energies == pytest.approx(best[0], abs=0.07)  # at most one level (4 / 64) apart
    assert np.ptp(best[0]) > 0.07  # and samples differ


def test_annealing_runs_anew_for_every_second_checkpoint():
    table, _ = run("annealing", seconds=[1e-3, 2e-3, 4e-3, 8e-3])
    assert table["checkpoint"].unique().tolist() == [1, 3]
    work = table.groupby("checkpoint")["updates"].mean()
    assert work.to_numpy() == pytest.approx([2e5, 8e5], rel=0.01)


def test_no_checkpoint_claims_less_time_than_was_spent():
    table, _ = run("tempering", seconds=[1e-6, 1e-5, 1e-4, 1e-3])
    budget = table["seconds"] * 1e9 / 10
    assert (table["updates"] <= 1.25 * budget).all()
    assert table["checkpoint"].unique().tolist() == [2, 3]  # a round has 2 * 4 * 64 * 5 updates
    only, _ = run("tempering", seconds=[1e-6])
    assert len(only) == 5  # the last one is kept


@pytest.mark.parametrize("disorder", ["bimodal", "gaussian"])
def test_cluster_moves_are_paid_from_the_same_budget(disorder):
    table, _ = run("tempering_houdayer", disorder=disorder, seconds=[2e-2])
    assert (table["updates"] <= 2e6).all()
    assert (table["updates"] >= 0.95 * 2e6).all()


def test_the_two_long_runs_are_independent():
    first, second = (
        run(arm, disorder="gaussian", seconds=[2e-4])[0]["energy"]
        for arm in ("reference", "reference_again")
    )
    assert not first.equals(second)


def test_a_shut_gate_stays_shut_and_an_open_one_opens_where_it_is_cold():
    _, shut = run("tgn_gate_shut")
    assert (shut["gate"] == 0).all()
    _, gates = run("tgn", disorder="gaussian", seconds=[1e-2])
    mean = gates.groupby("temperature")["gate"].mean()
    assert mean.is_monotonic_decreasing
    _, cold = run("tgn_cold")
    assert cold["temperature"].unique() == pytest.approx([0.1])


def test_the_ladder():
    steps = ladder(12, coldest=0.2, hottest=1.5)
    assert steps[[0, -1]] == pytest.approx([0.2, 1.5])
    ratio = np.diff(steps) * np.sqrt(np.minimum(steps[:-1], 1)) / steps[:-1]
    assert ratio == pytest.approx(ratio.mean(), rel=0.2)
    with pytest.raises(ValueError, match="rungs"):
        ladder(1)
    with pytest.raises(ValueError, match="coldest"):
        ladder(4, coldest=2.0)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"arm": "magic"}, "arm"),
        ({"seconds": [1.0, 0.5]}, "seconds"),
        ({"seconds": []}, "seconds"),
        ({"side": 6}, "costs"),
        ({"n_samples": 0}, "n_samples"),
        ({"disorder": "uniform"}, "costs"),
    ],
)
def test_bad_input_is_named(changes, name):
    with pytest.raises(ValueError, match=name):
        run(**{"arm": "tgn", **changes})


def test_costs_are_measured_for_every_cell():
    table = measure_costs(
        ["annealing", "tempering_bitcoded"],
        sides=(3, 4),
        rungs=lambda side: 3,
        n_samples=lambda arm: 2,
        seconds=0.01,
    )
    assert set(table["annealing"]) == {"bimodal", "gaussian"}
    assert set(table["tempering_bitcoded"]) == {"bimodal"}
    assert all(c > 0 for row in table.values() for cell in row.values() for c in cell.values())
