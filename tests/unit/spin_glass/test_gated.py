"""The gated arm samples what it says, against enumeration of every state."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import chisquare

from tgn.spin_glass import EdwardsAnderson, exact
from tgn.spin_glass.gated import Gated

LEAST_P = 1e-4  # of the dozen tests below, all with fixed seeds


def copies(model, count):
    """`count` samples with the couplings of the only one."""
    return EdwardsAnderson(np.repeat(model.couplings, count, axis=0), periodic=model.periodic)


def states_of(box):
    """Every configuration of a small box and its energy."""
    numbers = np.arange(2**box.n_sites)
    spins = 1 - 2 * ((numbers[:, None] >> np.arange(box.n_sites)) & 1)
    energy = -sum(
        (box.bonds[0, :, axis] * spins * spins[:, box.neighbours[:, 2 * axis]]).sum(axis=1)
        for axis in range(3)
    )
    return spins, energy


def p_value(observed, expected):
    """Chi-squared test, with rare cells pooled."""
    rare = expected < 10
    if rare.any():
        observed = np.append(observed[~rare], observed[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    return chisquare(observed, expected).pvalue


def equilibrated(box, arm, n_copies, rounds, gate=None):
    state = arm.start(copies(box, n_copies), seed=1)
    if gate is not None:
        for population in state.populations:
            population.gate[:] = gate
    return arm.advance_rounds(state, rounds)


@pytest.mark.parametrize("disorder", ["bimodal", "gaussian"])
@pytest.mark.parametrize("gate", [0.0, 0.8], ids=["gate shut", "gate open"])
def test_every_state_has_its_boltzmann_probability(disorder, gate):
    box = EdwardsAnderson.draw(2, 1, disorder=disorder, seed=3, periodic=False)
    arm = Gated((1.0,), ceiling=gate, overlap_weight=12.0, energy_weight=2.0, steps=1, burn_in=0)
    n_copies = 10_000
    state = equilibrated(box, arm, n_copies, rounds=60, gate=gate)
    assert np.isnan(state.geometric_acceptance).all() == (gate == 0)
    spins, energy = states_of(box)
    expected = np.exp(-energy)
    expected *= n_copies / expected.sum()
    numbers = ((state.spins[:, 0] < 0) * (1 << np.arange(box.n_sites))).sum(axis=-1)
    for replica in range(4):
        observed = np.bincount(numbers[:, replica], minlength=len(spins))
        assert p_value(observed, expected) > LEAST_P


@pytest.mark.parametrize("weight", [-40.0, 40.0])
def test_replicas_stay_independent_though_partners_are_chosen_by_overlap(weight):
    """The part of the target that only the changed normaliser of the softmax keeps."""
    box = EdwardsAnderson.draw(2, 1, disorder="gaussian", seed=3, periodic=False)
    arm = Gated((2.0,), replicas=4, overlap_weight=weight, energy_weight=0.0, steps=1, burn_in=0)
    n_copies = 20_000
    spins, energy = states_of(box)
    weights = np.exp(-energy / 2)
    weights /= weights.sum()
    # From the target itself, so that nothing but geometric steps is needed and any step that
    # does not keep it shows.
    drawn = np.random.default_rng(0).choice(len(spins), p=weights, size=(n_copies, 1, 4))
    state = arm.start(copies(box, n_copies), seed=1)
    for population, start in zip(state.populations, spins[drawn], strict=True):
        population.spins[:] = start
        population.gate[:] = 1.0
    arm.advance_rounds(state, 10)
    overlaps = spins @ spins.T
    levels = np.arange(-8, 9, 2)
    expected = np.array([weights @ (overlaps == level) @ weights for level in levels]) * n_copies
    here = state.spins[:, 0].astype(int)
    for first, second in combinations(range(4), 2):
        q = (here[:, first] * here[:, second]).sum(axis=-1)
        observed = np.array([(q == level).sum() for level in levels])
        assert p_value(observed, expected) > LEAST_P


@pytest.mark.parametrize("disorder", ["bimodal", "gaussian"])
def test_energies_on_a_ladder_with_an_adapted_gate(disorder):
    shape = 3 if disorder == "bimodal" else (3, 3, 2)
    box = EdwardsAnderson.draw(shape, 1, disorder=disorder, seed=5, periodic=disorder == "bimodal")
    arm = Gated((0.9, 1.3, 2.0), ceiling=0.6, steps=2, burn_in=30)
    n_copies = 600
    state = equilibrated(box, arm, n_copies, rounds=90)
    assert (state.gate > 0.1).all()
    measured = state.energy.mean(axis=2)  # replicas of a sample may be correlated
    error = measured.std(axis=0, ddof=1) / np.sqrt(n_copies)
    z = (measured.mean(axis=0) - exact.mean_energy(box, arm.temperatures)) / error
    assert np.abs(z).max() < 4


def test_the_gate_follows_the_refused_moves_and_then_freezes():
    model = EdwardsAnderson.draw(4, 3, disorder="gaussian", seed=0)
    arm = Gated((0.2, 0.8, 1.6), ceiling=0.5, burn_in=10)
    state = arm.advance_rounds(arm.start(model, seed=1), 10)
    frozen = state.gate.copy()
    assert frozen == pytest.approx(0.5 * (1 - state.local_acceptance))
    assert (np.diff(frozen, axis=1) < 0).all()  # colder is more open
    arm.advance_rounds(state, 10)
    assert (state.gate == frozen).all()


def test_records_agree_with_the_configurations():
    model = EdwardsAnderson.draw(4, 2, disorder="gaussian", seed=0)
    arm = Gated((0.3, 1.0), ceiling=0.5, burn_in=5)
    state = arm.advance_rounds(arm.start(model, seed=1), 40)
    energy = model.energy(state.spins.transpose(1, 2, 0, 3)).transpose(2, 0, 1)
    assert state.energy == pytest.approx(energy, abs=1e-3)
    assert (state.lowest_energy <= energy.min(axis=(1, 2)) + 1e-3).all()
    assert ((state.geometric_acceptance > 0) & (state.geometric_acceptance < 1)).all()


def test_work_is_that_of_the_sweeps_when_the_gate_is_shut():
    model = EdwardsAnderson.draw(3, 2, seed=0)
    arm = Gated((0.3, 1.0), replicas=5, ceiling=0.0, steps=2)
    state = arm.advance_rounds(arm.start(model, seed=1), 7)
    assert state.work.tolist() == [[7 * 2 * 2 * 5 * 27, 0, 0]] * 2


def test_geometric_steps_count_the_overlaps_they_read():
    model = EdwardsAnderson.draw(3, 1, seed=0)
    arm = Gated((0.5,), replicas=4, ceiling=0.9, steps=1, burn_in=0)
    state = arm.start(model, seed=1)
    state.populations[0].gate[:] = 1.0
    arm.advance_rounds(state, 1)
    sweeps, overlaps, clusters = state.work[0]
    assert sweeps == 0
    assert overlaps >= 4 * 4 * 27  # R configurations against each of R movers
    assert clusters >= 4 * 27


def test_a_run_in_parts_is_the_whole_run():
    model = EdwardsAnderson.draw(3, 2, disorder="gaussian", seed=0)
    arm = Gated((0.3, 1.0), burn_in=4)
    whole = arm.advance_rounds(arm.start(model, seed=1), 12)
    parts = arm.start(model, seed=1)
    for rounds in (5, 0, 7):
        arm.advance_rounds(parts, rounds)
    assert (whole.spins == parts.spins).all()
    assert (whole.updates == parts.updates).all()
    other = arm.advance_rounds(arm.start(model, seed=2), 12)
    assert (whole.spins != other.spins).any()


def test_budgets_are_met_within_one_round():
    model = EdwardsAnderson.draw(3, 3, seed=0)
    arm = Gated((0.3, 1.0), ceiling=0.0, steps=2)
    per_round = 2 * 2 * 4 * 27
    state = arm.advance(arm.start(model, seed=1), 10 * per_round + 1)
    assert (state.updates == 11 * per_round).all()


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ({"temperatures": ()}, "temperatures"),
        ({"temperatures": (1.0, 0.5)}, "temperatures"),
        ({"temperatures": (0.0, 0.5)}, "temperatures"),
        ({"replicas": 2}, "replicas"),
        ({"ceiling": 1.0}, "ceiling"),
        ({"ceiling": -0.1}, "ceiling"),
        ({"overlap_weight": np.nan}, "overlap_weight"),
        ({"energy_weight": np.inf}, "energy_weight"),
        ({"steps": 0}, "steps"),
        ({"burn_in": -1}, "burn_in"),
    ],
)
def test_bad_settings_are_named(setting, name):
    with pytest.raises(ValueError, match=name):
        Gated(**{"temperatures": (1.0,), **setting})


def test_bad_budgets_are_named():
    model = EdwardsAnderson.draw(3, 1, seed=0)
    arm = Gated((1.0,))
    with pytest.raises(ValueError, match="updates"):
        arm.advance(arm.start(model, seed=1), -1)
    with pytest.raises(ValueError, match="rounds"):
        arm.advance_rounds(arm.start(model, seed=1), -1)
