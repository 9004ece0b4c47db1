"""Dense Ising kernels against their definitions."""

import numpy as np

from tgn.kernels import couplings as kernels

RNG = np.random.default_rng(0)


def coupled(n):
    matrix = RNG.standard_normal((n, n))
    matrix = (matrix + matrix.T) / np.sqrt(2 * n)
    np.fill_diagonal(matrix, 0)
    return matrix


def random_state():
    return RNG.integers(1, 2**64, size=(2, 8), dtype=np.uint64)


def test_fields_and_energy_stay_those_of_the_spins():
    matrix, spins, fields = (
        coupled(20),
        2 * RNG.integers(2, size=20, dtype=np.int8) - 1,
        np.empty(20),
    )
    energy = kernels.settle(matrix, spins, fields)
    random = random_state()
    for _ in range(50):
        energy += kernels.sweep(matrix, spins, fields, 0.5, random)
    np.testing.assert_allclose(fields, matrix @ spins, atol=1e-12)
    np.testing.assert_allclose(energy, -spins @ matrix @ spins / 2, atol=1e-12)


def test_descent_ends_where_no_flip_helps():
    matrix = coupled(30)
    starts = 2 * RNG.integers(2, size=(50, 30), dtype=np.int8) - 1
    before = -0.5 * np.einsum("ai,ij,aj->a", starts, matrix, starts)
    spins = starts.copy()
    energies = kernels.descend(matrix, spins)
    np.testing.assert_allclose(energies, -0.5 * np.einsum("ai,ij,aj->a", spins, matrix, spins))
    assert (energies <= before).all()
    assert (spins * (spins @ matrix) > -1e-6).all()


def test_magnetisations_solve_the_mean_field_equations():
    matrix, state = coupled(16), RNG.uniform(-1, 1, (10, 16))
    assert kernels.magnetise(matrix, state, 1.5, 1e-12, 5000) == 0
    np.testing.assert_allclose(state, np.tanh(1.5 * state @ matrix), atol=1e-10)
    assert np.abs(state).max() > 0.1  # below the transition
    hot = RNG.uniform(-1, 1, (1, 16))
    assert kernels.magnetise(matrix, hot, 10.0, 1e-12, 0) == 1  # no sweep, not settled
    kernels.magnetise(matrix, hot, 0.2, 1e-12, 5000)
    np.testing.assert_allclose(hot, 0, atol=1e-10)
