"""The model: energies, fields, symmetries, seeds, and what it refuses."""

import itertools

import numpy as np
import pytest

from tgn.spin_glass import EdwardsAnderson

BOXES = [
    ((4, 4, 4), True, "bimodal"),
    ((3, 4, 5), True, "gaussian"),
    ((2, 3, 2), False, "bimodal"),
    ((3, 2, 4), False, "gaussian"),
]


@pytest.fixture(params=BOXES, ids=str)
def model(request):
    shape, periodic, disorder = request.param
    return EdwardsAnderson.draw(shape, 3, disorder=disorder, seed=7, periodic=periodic)


def random_spins(model, seed=0):
    rng = np.random.default_rng(seed)
    return 2 * rng.integers(2, size=(model.n_samples, model.n_sites)) - 1


def energy_by_hand(model, spins):
    """From coordinates and nothing else."""
    energy = np.zeros(model.n_samples)
    boxed = spins.reshape(-1, *model.shape)
    for x, y, z in itertools.product(*map(range, model.shape)):
        for axis in range(3):
            other = [x, y, z]
            other[axis] += 1
            if other[axis] == model.shape[axis]:
                if not model.periodic:
                    continue
                other[axis] = 0
            energy -= model.couplings[:, x, y, z, axis] * boxed[:, x, y, z] * boxed[:, *other]
    return energy


def test_energy_equals_the_sum_over_bonds(model):
    spins = random_spins(model)
    np.testing.assert_allclose(model.energy(spins), energy_by_hand(model, spins), rtol=1e-12)


def test_energy_takes_leading_dimensions(model):
    spins = np.stack([random_spins(model, k) for k in range(4)]).reshape(2, 2, 3, -1)
    assert model.energy(spins).shape == (2, 2, 3)
    np.testing.assert_array_equal(model.energy(spins)[1, 0], model.energy(spins[1, 0]))


def test_local_fields_give_the_cost_of_every_flip(model):
    spins = random_spins(model)
    costs = 2 * spins * model.local_fields(spins)
    for site in range(model.n_sites):
        changed = spins.copy()
        changed[:, site] *= -1
        np.testing.assert_allclose(
            model.energy(changed) - model.energy(spins), costs[:, site], atol=1e-9
        )


def test_gauge_invariance(model):
    spins, signs = random_spins(model, 1), random_spins(model, 2)
    transformed = model.gauge_transformed(signs)
    np.testing.assert_allclose(transformed.energy(signs * spins), model.energy(spins), atol=1e-9)


@pytest.mark.parametrize("side", [3, 4, 5])
def test_ferromagnet_has_three_bonds_a_spin(side):
    model = EdwardsAnderson(np.ones((2, side, side, side, 3)))
    np.testing.assert_array_equal(model.energy(np.ones((2, side**3))), -3 * side**3)
    assert model.n_bonds == 3 * side**3
    assert (model.coordination == 6).all()


def test_open_box_counts_its_bonds():
    model = EdwardsAnderson.draw((2, 3, 4), 1, seed=0, periodic=False)
    assert model.n_bonds == 1 * 3 * 4 + 2 * 2 * 4 + 2 * 3 * 3
    assert model.bimodal


def test_couplings_follow_their_law():
    bimodal = EdwardsAnderson.draw(6, 200, seed=1).couplings
    assert set(np.unique(bimodal)) == {-1, 1}
    assert abs(bimodal.mean()) < 4 / np.sqrt(bimodal.size)
    model = EdwardsAnderson.draw(6, 200, disorder="gaussian", seed=1)
    j = model.couplings.astype(float)
    assert abs(j.mean()) < 4 / np.sqrt(j.size)
    assert abs(j.var() - 1) < 4 * np.sqrt(2 / j.size)
    assert abs((j**4).mean() - 3) < 4 * np.sqrt(96 / j.size)
    assert model.on_grid
    assert not model.bimodal


def test_samples_have_streams_of_their_own():
    few, many = (EdwardsAnderson.draw(4, n, seed=5).couplings for n in (2, 9))
    np.testing.assert_array_equal(few, many[:2])
    other = EdwardsAnderson.draw(4, 2, seed=6).couplings
    flat = np.concatenate([many, other]).reshape(11, -1)
    correlations = np.corrcoef(flat) - np.eye(11)
    assert np.abs(correlations).max() < 4.5 / np.sqrt(flat.shape[1])


def test_a_seed_sequence_may_be_used_twice():
    seed = np.random.SeedSequence(3)
    first, second = (EdwardsAnderson.draw(4, 2, seed=seed).couplings for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"side": 2}, "side"),
        ({"side": 1, "periodic": False}, "side"),
        ({"side": (4, 4)}, "side"),
        ({"side": -4}, "side"),
        ({"n_samples": 0}, "n_samples"),
        ({"n_samples": -1}, "n_samples"),
        ({"disorder": "uniform"}, "disorder"),
    ],
)
def test_draw_names_the_bad_argument(arguments, name):
    with pytest.raises(ValueError, match=name):
        EdwardsAnderson.draw(**{"side": 4, "n_samples": 1, "seed": 0, **arguments})


@pytest.mark.parametrize(
    "couplings",
    [
        np.ones((4, 4, 4, 3)),
        np.ones((1, 4, 4, 4, 2)),
        np.ones((1, 2, 4, 4, 3)),
        np.ones((0, 4, 4, 4, 3)),
        np.full((1, 4, 4, 4, 3), np.nan),
    ],
    ids=["no samples", "two axes", "side 2", "empty", "nan"],
)
def test_couplings_are_checked(couplings):
    with pytest.raises(ValueError, match="couplings"):
        EdwardsAnderson(couplings)


@pytest.mark.parametrize("axis", range(3))
def test_no_bond_may_leave_an_open_box(axis):
    couplings = np.zeros((1, 3, 3, 3, 3))
    np.moveaxis(couplings[..., axis], 1 + axis, 0)[-1] = 1
    with pytest.raises(ValueError, match="open box"):
        EdwardsAnderson(couplings, periodic=False)


@pytest.mark.parametrize("spins", [np.ones((3, 63)), np.ones(64), np.zeros((3, 64))])
def test_spins_are_checked(spins):
    model = EdwardsAnderson.draw(4, 3, seed=0)
    with pytest.raises(ValueError, match="spins"):
        model.energy(spins)
    with pytest.raises(ValueError, match="spins"):
        model.local_fields(spins)
