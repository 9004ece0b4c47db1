import numpy as np
import pytest

from tgn.spin_glass.experiment import ARMS, SWEEPS_PER_EXCHANGE, ladder, measure_costs, run_arm

SIDE = 4
COSTS = {
    arm: {"bimodal": {SIDE: 10.0}, "gaussian": {SIDE: 10.0}} for arm in ARMS
}  # a round number: 1 ms is 100 000 updates


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
    assert len(table) == 10
    assert table["sample"].nunique() == 5
    assert (table["energy"] >= -3).all()
    assert (table["energy"] < 0.5).all()
    work = table.pivot(index="sample", columns="checkpoint", values="updates").to_numpy()
    if arm == "greedy_quench":  # it ends by itself
        assert (work[:, 1] < 10_000).all()
    else:
        budget = np.array([1e5, 2e6])
        # 16 replicas, each swept or compared with all others; 102 copies in bit-coded lanes.
        least = 816 if arm in ("tempering_bitcoded", "reference") else 5 * 16
        round_and_clusters = least * 64 * SWEEPS_PER_EXCHANGE + 0.1 * budget
        assert (np.abs(work - budget) <= round_and_clusters).all()
        assert (np.diff(work, axis=1) > 0).all()
    if arm != "annealing":  # whose checkpoints are runs of their own
        energy = table.pivot(index="sample", columns="checkpoint", values="energy")
        assert (energy[1] <= energy[0]).all()
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
        updates=20_000,
    )
    assert set(table["annealing"]) == {"bimodal", "gaussian"}
    assert set(table["tempering_bitcoded"]) == {"bimodal"}
    assert all(c > 0 for row in table.values() for cell in row.values() for c in cell.values())
