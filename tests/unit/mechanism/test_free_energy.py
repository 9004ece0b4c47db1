"""The free-energy argument holds where it is proved, and the tests of it can fail."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tgn.mechanism.free_energy import (
    best_gate,
    best_soft_gate,
    boltzmann,
    constrained_minimum,
    dirichlet_energy,
    dot_product_weights,
    doubly_stochastic,
    enumerated_gate,
    free_energy,
    gaussian_weights,
    total_variation,
    weighed_landscape,
)

ENERGIES = arrays(float, st.integers(2, 12), elements=st.floats(-4, 4))
SEEDS = st.integers(0, 2**32 - 1)


@given(ENERGIES, st.floats(0.3, 10))
@settings(max_examples=40, deadline=None)
def test_an_optimiser_that_knows_no_exponential_finds_the_softmax(energies, temperature):
    found = constrained_minimum(energies, temperature)
    assert np.abs(found - boltzmann(energies, temperature)).max() < 1e-8


@given(ENERGIES, st.floats(0.3, 10), SEEDS)
def test_nothing_on_the_simplex_has_less_free_energy(energies, temperature, seed):
    least = free_energy(boltzmann(energies, temperature), energies, temperature)
    other = np.random.default_rng(seed).dirichlet(np.ones(len(energies)))
    assert free_energy(other, energies, temperature) >= least - 1e-12 * (1 + abs(least))


def test_free_energy_of_certainty_is_the_energy():
    assert free_energy([1.0, 0.0], [3.0, 1.0], 2.0) == 3.0


@given(SEEDS, st.floats(0.5, 20))
def test_keys_of_one_norm_give_the_gaussian_kernel(seed, temperature):
    rng = np.random.default_rng(seed)
    queries, keys = rng.normal(size=(2, 6, 5))  # queries of any norm: theirs cancels in a row
    keys *= 3 / np.linalg.norm(keys, axis=1, keepdims=True)
    pair = (queries, keys, temperature)
    assert np.allclose(dot_product_weights(*pair), gaussian_weights(*pair), rtol=1e-10, atol=1e-15)


def test_keys_of_unequal_norms_do_not():
    queries, keys = np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [3.0, 0.0]])
    by_product, by_distance = (
        f(queries, keys, 1.0) for f in (dot_product_weights, gaussian_weights)
    )
    assert by_product.argmax() == 1
    assert by_distance.argmax() == 0
    # each key's weight differs by exp(|k|^2 / 2), but for the sum
    ratio = by_product / by_distance
    assert ratio[0, 1] / ratio[0, 0] == pytest.approx(np.exp((9 - 1) / 2))


def test_total_variation_of_disjoint_and_equal_weights():
    assert total_variation(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1
    assert total_variation(np.array([0.3, 0.7]), np.array([0.3, 0.7])) == 0


@given(st.integers(1, 6), SEEDS, st.floats(0, 2))
def test_the_threshold_is_the_best_of_all_gates(tokens, seed, price):
    inertial, geometric = np.random.default_rng(seed).exponential(size=(2, tokens))
    rule, best = (gate(inertial, geometric, price) for gate in (best_gate, enumerated_gate))
    assert (rule == best).all()


@given(SEEDS, st.floats(0, 2))
def test_no_soft_gate_of_a_grid_is_better_than_the_best(seed, price):
    inertial, geometric, target = np.random.default_rng(seed).normal(size=(3, 5, 2))

    def loss(gate):
        mixture = (1 - gate)[:, None] * inertial + gate[:, None] * geometric
        return np.square(mixture - target).sum(axis=1) / 2 + price * gate

    best = loss(best_soft_gate(inertial, geometric, target, price))
    for gate in np.linspace(0, 1, 21):
        assert (best <= loss(np.full(5, gate)) + 1e-12).all()


def test_a_soft_gate_between_equal_outputs_stays_shut():
    same = np.ones((1, 2))
    assert best_soft_gate(same, same, np.zeros((1, 2)), 0.1) == 0


@given(st.integers(2, 8), SEEDS)
def test_a_heat_step_smooths(tokens, seed):
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(tokens, 3))
    kernel = np.exp(-np.square(states[:, None] - states[None]).sum(-1) / 4)
    heat = doubly_stochastic(kernel)
    assert np.allclose(heat.sum(axis=0), 1)
    assert np.allclose(heat, heat.T)
    before = dirichlet_energy(heat, states)
    assert dirichlet_energy(heat, heat @ states) <= before * (1 + 1e-9)


def test_dirichlet_energy_of_a_pair():
    assert dirichlet_energy(np.array([[0.0, 0.5], [0.5, 0.0]]), np.array([[0.0], [2.0]])) == 2.0


def test_the_drawn_weights_gather_in_the_lowest_valley_as_it_cools():
    drawn = weighed_landscape(np.array([0.1, 1.0, 10.0]))
    lowest = drawn.loc[drawn["energy"].idxmin(), "x"]
    for temperature, rows in drawn.groupby("temperature"):
        assert rows["weight"].sum() == pytest.approx(1)
        assert rows.loc[rows["weight"].idxmax(), "x"] == lowest
        assert temperature > 0
    tops = drawn.groupby("temperature")["weight"].max()
    assert (np.diff(tops) < 0).all()
