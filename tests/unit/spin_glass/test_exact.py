"""Enumeration against brute force in numpy and against closed forms."""

import itertools

import numpy as np
import pytest

from tgn.spin_glass import EdwardsAnderson, exact

TEMPERATURES = np.array([0.1, 0.7, 2.0, 10.0])


def all_energies(model, sample=0):
    states = np.array(list(itertools.product([1, -1], repeat=model.n_sites)))
    one = EdwardsAnderson(model.couplings[sample : sample + 1], model.periodic)
    return one.energy(states[:, None])[:, 0]


def mean_by_hand(energies, temperature):
    weights = np.exp(-(energies - energies.min()) / temperature)
    return (weights * energies).sum() / weights.sum()


@pytest.mark.parametrize("disorder", ["bimodal", "gaussian"])
@pytest.mark.parametrize("sample", [0, 1])
def test_enumeration_equals_brute_force(disorder, sample):
    model = EdwardsAnderson.draw((2, 3, 2), 2, disorder=disorder, seed=4, periodic=False)
    energies = all_energies(model, sample)
    assert exact.ground_energy(model, sample) == pytest.approx(energies.min(), abs=1e-9)
    np.testing.assert_allclose(
        exact.mean_energy(model, TEMPERATURES, sample),
        [mean_by_hand(energies, t) for t in TEMPERATURES],
        rtol=1e-9,
    )


def test_density_of_states_equals_brute_force():
    model = EdwardsAnderson.draw((2, 3, 2), 1, seed=4, periodic=False)
    levels, counts = np.unique(all_energies(model), return_counts=True)
    energies, found = exact.density_of_states(model)
    np.testing.assert_array_equal(energies, levels)
    np.testing.assert_array_equal(found, counts)


def test_periodic_cube_of_27():
    """Moments at infinite temperature: mean 0 and variance one a bond; the ground is symmetric."""
    model = EdwardsAnderson.draw(3, 1, seed=0)
    energies, counts = exact.density_of_states(model)
    assert counts.sum() == 2**27
    assert (counts * energies).sum() == 0
    assert (counts * energies**2).sum() == 81 * 2**27
    assert (counts % 2 == 0).all()


def test_ferromagnet():
    energies, counts = exact.density_of_states(EdwardsAnderson(np.ones((1, 3, 3, 3, 3))))
    assert (energies[0], counts[0]) == (-81, 2)
    assert (energies[1], counts[1]) == (-81 + 12, 2 * 27)


def test_the_gauge_leaves_the_density_of_states():
    model = EdwardsAnderson.draw(3, 1, seed=2)
    signs = 2 * np.random.default_rng(0).integers(2, size=(1, 27)) - 1
    transformed = model.gauge_transformed(signs)
    np.testing.assert_array_equal(
        exact.density_of_states(model), exact.density_of_states(transformed)
    )


def test_an_open_chain_bundle_has_a_known_ground():
    """Couplings along one axis only: no loop, so every bond can be satisfied."""
    rng = np.random.default_rng(1)
    couplings = np.zeros((1, 4, 2, 2, 3))
    couplings[:, :-1, :, :, 0] = rng.standard_normal((1, 3, 2, 2))
    model = EdwardsAnderson(couplings, periodic=False)
    assert exact.ground_energy(model) == pytest.approx(-np.abs(model.couplings).sum())


def test_input_errors():
    small = EdwardsAnderson.draw(2, 1, seed=0, periodic=False)
    with pytest.raises(ValueError, match="model"):
        exact.ground_energy(EdwardsAnderson.draw(4, 1, seed=0))
    with pytest.raises(ValueError, match="model"):
        exact.density_of_states(
            EdwardsAnderson.draw(2, 1, disorder="gaussian", seed=0, periodic=False)
        )
    with pytest.raises(ValueError, match="sample"):
        exact.ground_energy(small, 1)
    with pytest.raises(ValueError, match="temperatures"):
        exact.mean_energy(small, [1.0, 0.0])
