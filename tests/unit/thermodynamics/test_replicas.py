"""Replicas against sums over all configurations, against noise, and against planted states."""

from itertools import product

import numpy as np
import pytest
from scipy.linalg import hadamard

from tgn.thermodynamics import replicas as rep
from tgn.thermodynamics.critical import freezing_temperature


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def exact(coupled, temperature):
    """Mean energy, entropy, <|q|> and <q^2> by summing over all configurations."""
    n = len(coupled)
    states = np.array(list(product([-1, 1], repeat=n)))
    energies = -np.einsum("ai,ij,aj->a", states, coupled, states) / 2
    weight = np.exp(-(energies - energies.min()) / temperature)
    p = weight / weight.sum()
    q = np.abs(states @ states.T) / n
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum()
    return p @ energies, entropy, p @ q @ p, p @ q**2 @ p


@pytest.mark.parametrize("temperature", [0.2, 0.6, 3.0])
def test_samples_are_in_equilibrium(temperature):
    rng = np.random.default_rng(1)
    coupled = rep.couplings(noise(9, 9), 9, rng=rng)
    found = rep.sample(coupled, [temperature], rng=rng, n_replicas=12, n_samples=3000)
    energy, entropy, mean, square = exact(coupled, temperature)
    thermal = rep.thermodynamics(found)
    value, error = rep.moments(rep.overlaps(found.spins[0]))
    assert thermal.energy == pytest.approx(energy, abs=5 * thermal.energy_error)
    assert thermal.entropy == pytest.approx(entropy, abs=5 * thermal.entropy_error + 0.02)
    assert thermal.free_energy == pytest.approx(thermal.energy - temperature * thermal.entropy)
    assert value.mean == pytest.approx(mean, abs=5 * error.mean)
    assert value.square == pytest.approx(square, abs=5 * error.square)
    assert 0 < error.mean < 0.02


def test_temperatures_keep_their_order_and_share_a_ladder():
    rng = np.random.default_rng(2)
    coupled = rep.couplings(noise(20, 20), 20, rng=rng)
    found = rep.sample(coupled, [2.0, 0.3, 1.0], rng=rng, n_replicas=4, n_samples=300)
    assert found.betas[0] == 0
    np.testing.assert_allclose(1 / found.betas[found.rungs], [2.0, 0.3, 1.0])
    squares = [rep.moments(rep.overlaps(spins))[0].square for spins in found.spins]
    assert squares[0] < squares[2] < squares[1]
    assert ((found.exchange_rate > 0.1) & (found.exchange_rate <= 1)).all()
    energy = -np.einsum("sri,ij,srj->sr", found.spins[1], coupled, found.spins[1]) / 2
    np.testing.assert_allclose(energy, found.energies[:, found.rungs[1]])


def test_equal_seeds_equal_samples():
    coupled = rep.couplings(noise(8, 8), 8, rng=np.random.default_rng(0))
    one, other = (
        rep.sample(coupled, [0.5], rng=np.random.default_rng(7), n_samples=20).spins
        for _ in range(2)
    )
    np.testing.assert_array_equal(one, other)


def test_couplings_of_square_and_rectangular_matrices():
    rng = np.random.default_rng(3)
    square = rep.couplings(5 * noise(50, 50), 50, rng=rng)
    assert (square == square.T).all()
    assert not square.diagonal().any()
    assert (square**2).sum() == pytest.approx(50)
    wide = rep.couplings(noise(20, 60), 40, rng=rng)
    assert wide.shape == (40, 40)
    assert not wide[:10, :10].any()
    assert not wide[10:, 10:].any()
    assert wide[:10, 10:].all()
    even = rep.couplings(
        noise(60, 61), 40, rng=rng
    )  # its block is square, and still no symmetric one
    assert not even[:20, :20].any()
    assert even[:20, 20:].all()
    assert rep.couplings(noise(3, 1), 2, rng=rng).shape == (2, 2)
    assert rep.couplings(noise(90, 90), 24, rng=rng).shape == (24, 24)


def test_overlaps_of_independent_spins():
    spins = 2 * np.random.default_rng(4).integers(2, size=(4000, 4, 40), dtype=np.int8) - 1
    found = rep.overlaps(spins)
    value, _ = rep.moments(found)
    assert value.square == pytest.approx(1 / 40, rel=0.03)
    assert value.binder == pytest.approx(0.5 * (3 - (3 - 2 / 40)), abs=0.05)
    assert found.eigenvalues.mean() == pytest.approx(1, abs=1e-6)
    q, spread = rep.order_parameter(found, [0.0, 0.5, 0.6827, 1.0])
    np.testing.assert_allclose(q[1:3], np.array([0.6745, 1.0]) / np.sqrt(40), rtol=0.05)
    assert (np.diff(q) > 0).all()
    assert (spread[1:3] < 0.01).all()


def test_errors_cover_the_differences_between_runs():
    """The jackknife over replicas against the spread of repetitions, of chains that remember."""
    coupled = rep.couplings(noise(16, 16), 16, rng=np.random.default_rng(0))
    rng = np.random.default_rng(5)
    runs = []
    for _ in range(40):
        spins = rep.sample(coupled, [0.7], rng=rng, n_replicas=8, n_samples=60).spins[0]
        value, error = rep.moments(rep.overlaps(spins))
        runs.append((value.mean, error.mean))
    values, errors = np.array(runs).T
    assert 0.6 < np.sqrt((errors**2).mean()) / values.std(ddof=1) < 1.7


def detected(matrices, temperature, seed=6):
    rng = np.random.default_rng(seed)
    settings = {"n_spins": 16, "n_replicas": 4, "n_samples": 40, "n_null": 19}
    return np.mean(
        [rep.breaking(m, temperature, rng=rng, **settings)[0].is_detected() for m in matrices]
    )


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_frozen_noise_is_detected_as_often_as_the_level_says(temperature):
    assert detected([noise(16, 16, seed=s) for s in range(30)], temperature) < 0.2


def test_noise_far_above_freezing_is_not_detected_at_all():
    assert detected([noise(16, 16, seed=s) for s in range(20)], 10.0) == 0


def test_several_planted_states_are_broken_symmetry_and_one_is_not():
    patterns = hadamard(16).astype(float)
    one, two = patterns[1:2], patterns[1:3]
    assert detected([p.T @ p + 0.01 * noise(16, 16) for p in [two] * 5], 0.3) == 1
    assert detected([p.T @ p + 0.01 * noise(16, 16) for p in [one] * 5], 0.3) == 0


def test_level_overlap_is_the_sum_of_squares():
    energies = noise(500)
    p = np.exp(-energies / 0.3)
    p /= p.sum()
    assert rep.level_overlap(energies + 1e3, [0.3])[0] == pytest.approx((p**2).sum())
    assert rep.level_overlap(np.zeros(7), [1.0])[0] == pytest.approx(1 / 7)
    assert rep.level_overlap(energies, [1e-3])[0] == pytest.approx(1)


def test_frozen_random_energies_overlap_as_derrida_found():
    frozen = freezing_temperature(1.0, 2**14)
    at = np.array([0.25, 0.5]) * frozen
    rng = np.random.default_rng(8)
    found = np.mean([rep.level_overlap(rng.standard_normal(2**14), at) for _ in range(100)], axis=0)
    np.testing.assert_allclose(found, 1 - at / frozen, atol=0.12)  # and slow in N to get there


def test_levels_of_noise_are_not_detected_and_one_outlier_is():
    rng = np.random.default_rng(9)
    for temperature, most in ((0.1, 0.2), (0.3, 0.2), (10.0, 0.0)):
        tests = [
            rep.level_breaking(noise(300, seed=s), temperature, rng=rng, n_null=19)
            for s in range(30)
        ]
        assert np.mean([test.is_detected() for test in tests]) <= most
    outlier = np.append(noise(300), -12.0)
    assert rep.level_breaking(outlier, 0.5, rng=rng, n_null=19).is_detected()


def test_minima_are_those_of_all_configurations():
    coupled = rep.couplings(noise(10, 10), 10, rng=np.random.default_rng(0))
    states = np.array(list(product([-1, 1], repeat=10)))
    stable = states[(states * (states @ coupled) > 0).all(axis=1)]
    found = rep.minima(coupled, 500, rng=np.random.default_rng(10))
    assert found.coverage > 0.99
    assert 2 * len(found.states) == len(stable)
    assert {tuple(s) for s in found.states} == {tuple(s) for s in stable if s[0] == 1}
    assert (np.diff(found.energies) >= 0).all()
    assert found.counts.sum() == 500
    assert 1 <= found.effective_number <= len(found.states)


def test_states_merge_as_it_gets_warmer_and_never_split():
    coupled = rep.couplings(noise(24, 24), 24, rng=np.random.default_rng(0))
    states = rep.minima(coupled, 200, rng=np.random.default_rng(11)).states
    temperatures = np.linspace(0.002, 3, 30)
    number = rep.surviving(coupled, states, temperatures)
    assert number[0] == len(states)
    assert (np.diff(number) <= 0).all()
    assert number[0] > 5
    hot = temperatures > 1.05 * np.linalg.eigvalsh(coupled)[-1]
    assert (number[hot] == 1).all()
    shuffled = np.random.default_rng(12).permutation(30)
    np.testing.assert_array_equal(
        rep.surviving(coupled, states, temperatures[shuffled]), number[shuffled]
    )


def test_states_that_do_not_settle_are_not_counted(monkeypatch):
    coupled = rep.couplings(noise(24, 24), 24, rng=np.random.default_rng(0))
    states = rep.minima(coupled, 20, rng=np.random.default_rng(11)).states
    monkeypatch.setattr(rep, "MOST_SWEEPS", 1)
    with pytest.raises(ValueError, match=rf"temperature 0.5: \d+ of {len(states)} states"):
        rep.surviving(coupled, states, [0.5])


def test_barriers_enclose_the_lowest_pass():
    """On all paths between two states, the lowest pass, by flooding the hypercube."""
    coupled = rep.couplings(noise(8, 8, seed=3), 8, rng=np.random.default_rng(0))
    found = rep.minima(coupled, 400, rng=np.random.default_rng(13))
    climbs = rep.barriers(coupled, found)
    assert len(climbs) == len(found.states) - 1 > 0
    states = np.array(list(product([-1, 1], repeat=8)))
    energies = -np.einsum("ai,ij,aj->a", states, coupled, states) / 2
    index = {tuple(s): k for k, s in enumerate(states)}
    goals = {index[tuple(found.states[0])], index[tuple(-found.states[0])]}
    for start, climb in zip(found.states[1:], climbs, strict=True):
        origin = index[tuple(start)]
        for water in np.sort(energies):
            reached, border = {origin}, [origin]
            while border and water >= energies[origin]:
                here = border.pop()
                for i in range(8):
                    there = here ^ (1 << i)
                    if energies[there] <= water and there not in reached:
                        reached.add(there)
                        border.append(there)
            if reached & goals:
                break
        assert climb >= water - energies[origin] - 1e-9
        assert climb > 0


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda rng: rep.couplings(np.ones((3, 3)), 1, rng=rng), "n_spins"),
        (lambda rng: rep.couplings(np.eye(3), 3, rng=rng), "couples nothing"),
        (lambda rng: rep.couplings([[np.nan, 1], [1, 1]], 3, rng=rng), "weight_matrix has 1"),
        (lambda rng: rep.sample(noise(4, 4), [1.0], rng=rng), "symmetric"),
        (lambda rng: rep.sample(np.ones((4, 4)), [1.0], rng=rng), "symmetric"),
        (lambda rng: rep.sample(1 - np.eye(4), [0.0], rng=rng), "temperatures"),
        (lambda rng: rep.sample(1 - np.eye(4), [1.0], rng=rng, n_replicas=2), "n_replicas"),
        (lambda rng: rep.sample(1 - np.eye(4), [1.0], rng=rng, n_samples=0), "n_samples"),
        (lambda rng: rep.breaking(noise(4, 4), 1.0, rng=rng, n_null=5), "n_null"),
        (lambda rng: rep.level_breaking(np.ones(4), 1.0, rng=rng), "levels are equal"),
        (lambda rng: rep.minima(1 - np.eye(4), 0, rng=rng), "n_starts"),
        (lambda rng: rep.overlaps(np.ones((5, 2, 3), np.int8)), "replicas"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call(np.random.default_rng(0))
