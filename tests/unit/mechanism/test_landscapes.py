"""Gaps of chains that are known exactly, and by brute force."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgn.mechanism.landscapes import (
    ARMS,
    MAKERS,
    arms,
    evaluations,
    hypercube,
    irreversible_gap,
    measure,
    mixing_time,
    reversible_gap,
    ring,
    transition_matrix,
)

TEMPERATURE, SHARE = 0.9, 0.2


def flat(landscape):
    return landscape._replace(energies=np.zeros_like(landscape.energies))


@pytest.mark.parametrize("size", [3, 5])
def test_gaps_on_a_flat_cube_are_those_of_its_walsh_functions(size):
    found = arms(flat(hypercube(size, np.random.default_rng(0))), TEMPERATURE, SHARE)
    local, jump = 2 / size, 1 - np.tanh(1 / np.sqrt(size))
    assert found["local"][0] == pytest.approx(local)
    assert found["uniform"][0] == pytest.approx((1 - SHARE) * local + SHARE)
    assert found["attention"][0] == pytest.approx((1 - SHARE) * local + SHARE * jump)
    assert found["row_softmax"][:2] == pytest.approx(found["attention"][:2], abs=1e-9)


def test_gap_on_a_flat_ring_is_that_of_its_slowest_wave():
    landscape = flat(ring(4, np.random.default_rng(0)))
    wave = 2 * np.pi / 64
    expected = 1 - (np.cos(wave) + np.cos(2 * wave)) / 2
    assert arms(landscape, TEMPERATURE, SHARE)["local"][0] == pytest.approx(expected)


def softmax_chain(landscape, temperature):
    """Jumps by attention, one state after the other."""
    chain = []
    for row in landscape.similarity:
        weights = np.exp(-landscape.energies / temperature + row)
        chain.append(weights / weights.sum())
    return np.array(chain)


def metropolis(proposals, energies, temperature):
    """Metropolis and Hastings, entry by entry."""
    n = len(energies)
    chain = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j and proposals[i, j] > 0:
                odds = np.exp((energies[i] - energies[j]) / temperature)
                odds *= proposals[j, i] / proposals[i, j]
                chain[i, j] = proposals[i, j] * min(1, odds)
        chain[i, i] = 1 - chain[i].sum()
    return chain


@given(st.sampled_from(sorted(MAKERS)), st.integers(0, 2**32 - 1), st.floats(0.5, 3))
@settings(max_examples=15, deadline=None)
def test_every_gap_is_that_of_the_chain_written_out(kind, seed, temperature):
    landscape = MAKERS[kind](3, np.random.default_rng(seed))
    energies = landscape.energies
    local = metropolis(landscape.proposals, energies, temperature)
    attention = softmax_chain(landscape, temperature)
    uniform = np.full_like(attention, 1 / len(energies))
    jumps = {
        "local": local,
        "attention": metropolis(attention, energies, temperature),
        "row_softmax": attention,
        "uniform": metropolis(uniform, energies, temperature),
    }
    weights = np.exp((energies.min() - energies) / temperature)
    found = arms(landscape, temperature, SHARE)
    assert set(found) == set(ARMS)
    for arm, jump in jumps.items():
        chain = (1 - SHARE) * local + SHARE * jump
        values, vectors = np.linalg.eig(chain.T)
        order = np.argsort(-values.real)
        assert found[arm][0] == pytest.approx(1 - values[order[1]].real, rel=1e-6)
        stationary = np.abs(vectors[:, order[0]].real)
        apart = stationary / stationary.sum() - weights / weights.sum()
        assert found[arm][1] == pytest.approx(np.abs(apart).sum() / 2, abs=1e-8)


def test_a_gap_of_two_states():
    rates = np.array([[0.0, 0.1], [0.1, 0.0]])  # P_ij sqrt(w_i / w_j)
    root = np.array([1.0, 2.0])
    expected = 0.1 * 2 + 0.1 / 2  # both chances of leaving
    assert reversible_gap(rates, root) == pytest.approx(expected)
    chain = transition_matrix(rates, root)
    assert np.allclose(chain.sum(axis=1), 1)
    assert np.allclose(root**2 @ chain, root**2)


def test_a_chain_that_forgets_at_once():
    weights = np.array([0.2, 0.3, 0.5, 0.0 + 1e-9])
    weights /= weights.sum()
    gap, stationary = irreversible_gap(np.tile(weights, (4, 1)), np.sqrt(weights))
    assert gap == pytest.approx(1, abs=1e-6)
    assert np.allclose(stationary, weights, atol=1e-8)
    assert mixing_time(np.tile(weights, (4, 1)), weights) == 1


@pytest.mark.parametrize(("stay", "steps"), [(0.5, 1), (0.9, 7), (0.99, 65)])
def test_mixing_time_of_a_walk_on_a_triangle(stay, steps):
    """Its distance after t steps is 2/3 r**t, r = (3 stay - 1) / 2: a quarter or less from
    t = ln(8/3) / ln(1/r) on, which is 0.71, 6.04 and 64.9."""
    chain = np.full((3, 3), (1 - stay) / 2) + (3 * stay - 1) / 2 * np.eye(3)
    assert mixing_time(chain, np.full(3, 1 / 3)) == steps


@given(st.integers(2, 9), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_mixing_time_is_that_of_single_steps(states, seed):
    rng = np.random.default_rng(seed)
    chain = 0.98 * np.eye(states) + 0.02 * rng.dirichlet(np.full(states, 0.5), size=states)
    stationary = np.linalg.matrix_power(chain, 2**24)[0]
    walked, steps = np.eye(states), 0
    while np.abs(walked - stationary).sum(axis=1).max() / 2 > 0.25:
        walked, steps = walked @ chain, steps + 1
    assert abs(mixing_time(chain, stationary) - steps) <= (1 if steps > 1 else 0)


def test_only_small_landscapes_are_mixed_and_no_faster_than_the_gap_allows():
    landscape = hypercube(4, np.random.default_rng(0))
    weights = np.exp((landscape.energies.min() - landscape.energies) / TEMPERATURE)
    for arm, walk in arms(landscape, TEMPERATURE, SHARE, mixed=16).items():
        if arm == "row_softmax":
            continue  # not reversible: the bounds do not hold
        relaxation = 1 / walk.gap
        assert walk.mixing >= (relaxation - 1) * np.log(2)
        assert walk.mixing <= relaxation * np.log(4 * weights.sum() / weights.min()) + 1
    assert all(np.isnan(walk.mixing) for walk in arms(landscape, TEMPERATURE, SHARE, 15).values())


def test_a_gap_below_rounding_is_refused():
    rates = np.array([[0.0, 1e-14], [1e-14, 0.0]])
    with pytest.raises(ValueError, match=r"raise landscapes\.temperature"):
        reversible_gap(rates, np.ones(2))


def test_barriers_stop_the_local_walker_alone():
    """Two deep wells far apart on a ring: any shortcut is worth more than local moves."""
    landscape = ring(4, np.random.default_rng(0))
    energies = np.full(64, 8.0)
    energies[[0, 32]] = 0.0
    found = arms(landscape._replace(energies=energies), 1.0, 0.1)
    assert found["local"][0] < 1e-4
    assert found["uniform"][0] > 3 * found["local"][0]


def test_landscapes_are_symmetric_and_local():
    for kind, neighbours in (("hypercube", 4), ("ring", 4)):
        landscape = MAKERS[kind](4, np.random.default_rng(1))
        assert np.allclose(landscape.proposals, landscape.proposals.T)
        assert np.allclose(landscape.proposals.sum(axis=1), 1)
        assert ((landscape.proposals > 0).sum(axis=1) == neighbours).all()
        assert np.allclose(np.diag(landscape.similarity), np.sqrt(4))  # vectors of one norm


def test_a_ring_closes_and_its_depth_grows_with_size():
    rng = np.random.default_rng(2)
    depths = {n: np.mean([np.ptp(ring(n, rng).energies) for _ in range(40)]) for n in (4, 8)}
    assert depths[8] / depths[4] == pytest.approx(2, rel=0.25)
    energies = ring(8, rng).energies
    assert abs(energies[0] - energies[-1]) < 5 * 0.5  # one step of the walk


def test_attention_pays_for_all_energies():
    assert evaluations("local", 100, 0.1) == evaluations("uniform", 100, 0.1) == 1
    assert evaluations("attention", 100, 0.1) == evaluations("row_softmax", 100, 0.1) == 10.9


def test_a_job_measures_every_landscape_and_arm(tmp_path):
    path = tmp_path / "gaps.parquet"
    plan = {"samples": 2, "temperature": 0.7, "share": 0.09, "mixed": 16, "seed": 0}
    measure(table=path, sizes={"hypercube": [3, 4], "ring": [3]}, **plan)
    table = pd.read_parquet(path)
    assert len(table) == 3 * 2 * len(ARMS)
    assert (table["gap"] > 0).all()
    assert (table.groupby(["landscape", "size"])["states"].first() == [8, 16, 36]).all()
    assert (table["mixing"].isna() == (table["states"] > 16)).all()
    once = table[(table["landscape"] == "hypercube") & (table["arm"] == "local")]
    assert once["gap"].nunique() == len(once)  # every landscape is another
