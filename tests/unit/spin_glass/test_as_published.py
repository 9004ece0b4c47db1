"""The published rules, their algebra and their measured energies."""

import numpy as np
import pytest

from tgn.spin_glass import EdwardsAnderson
from tgn.spin_glass.as_published import (
    PublishedAttention,
    PublishedLangevin,
    PublishedTempering,
    attention_target,
    clipped,
)
from tgn.spin_glass.langevin import Langevin, bond_energy, gradient, normal, soft_energy

SAMPLES = 16


def one_step_in_numpy(state, arm, noise):
    """Spins after a corrected Langevin step."""
    slope = gradient(state.couplings, state.spins)
    return state.spins + np.sqrt(2 * arm.temperature * arm.rate) * noise - arm.rate * slope


@pytest.mark.parametrize("periodic", [True, False])
def test_the_kernel_makes_the_step_that_the_formula_says(periodic):
    model = EdwardsAnderson.draw((3, 4, 5), 2, disorder="gaussian", seed=0, periodic=periodic)
    arm = Langevin(walkers=3)
    state, copy = arm.start(model, seed=1), arm.start(model, seed=1)
    noise = normal(copy.rngs, copy.spins.shape[1:])
    expected = one_step_in_numpy(copy, arm, noise)
    arm.advance(state, 1)
    assert state.steps == 1
    assert state.spins == pytest.approx(expected, abs=1e-5)
    before = copy.lowest_energy
    signs = np.where(expected < 0, np.float32(-1), np.float32(1))
    lowest = np.minimum(before, bond_energy(copy.couplings, signs).min(axis=1))
    assert state.lowest_energy == pytest.approx(lowest, abs=1e-3)


def test_samples_of_the_soft_dynamics_are_independent():
    model = EdwardsAnderson.draw(3, 3, disorder="gaussian", seed=0)
    two = EdwardsAnderson(model.couplings[:2])
    for arm in (Langevin(), PublishedLangevin()):
        few, many = (arm.advance(arm.start(m, seed=1), 5000) for m in (two, model))
        assert (few.spins == many.spins[:2]).all()


def box(model):
    return np.moveaxis(model.couplings, -1, 0)[:, :, None]


def test_the_gradient_is_the_slope_of_the_energy():
    rng = np.random.default_rng(0)
    couplings = box(EdwardsAnderson.draw(3, 1, disorder="gaussian", seed=0)).astype(np.float64)
    spins = rng.standard_normal((1, 1, 3, 3, 3))
    slope = gradient(couplings, spins)
    for site in [(0, 0, 0), (1, 2, 0)]:
        nudge = np.zeros_like(spins)
        nudge[0, 0][site] = 1e-5
        rise = soft_energy(couplings, spins + nudge) - soft_energy(couplings, spins - nudge)
        assert slope[0, 0][site] == pytest.approx(rise[0, 0] / 2e-5, rel=1e-6)


@pytest.mark.parametrize("periodic", [True, False])
def test_on_signs_the_soft_energy_is_that_of_the_model(periodic):
    model = EdwardsAnderson.draw((3, 4, 5), 2, disorder="gaussian", seed=0, periodic=periodic)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(7, 2, 60))
    in_box = signs.swapaxes(0, 1).reshape(2, 7, 3, 4, 5)
    expected = pytest.approx(model.energy(signs))
    for energy in (bond_energy, soft_energy):
        measured = energy(box(model), in_box).T
        assert measured == expected


def test_the_published_attention_in_full_is_its_short_form():
    """scores_ij = 50 (|g_i| - |g_j|), softmax over j: every row of the N x N weights is one."""
    rng = np.random.default_rng(0)
    spins = rng.standard_normal((2, 3, 4, 4, 4))
    slope = 0.05 * rng.standard_normal(spins.shape)
    force = np.abs(slope).reshape(2, 3, 64)
    scores = 50 * (force[..., :, None] - force[..., None, :])
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    assert weights == pytest.approx(np.broadcast_to(weights[..., :1, :], weights.shape))
    full = np.einsum("...ij,...j->...i", weights, spins.reshape(2, 3, 64))
    short = attention_target(spins, slope)
    assert full == pytest.approx(np.broadcast_to(short.reshape(2, 3, 1), full.shape))
    assert np.ptp(short) > 0.05  # and it does depend on the configuration


def test_the_clip_is_shared_by_all_walkers_of_a_sample():
    slope = np.zeros((3, 2, 1, 1, 2), dtype=np.float32)
    slope[0, 0, 0, 0] = 3, 0
    slope[0, 1, 0, 0] = 0, 4
    slope[1, 0, 0, 0] = 0.1, 0.2
    small = clipped(slope)
    assert small[0].ravel() == pytest.approx([0.6, 0, 0, 0.8])
    assert (small[1:] == slope[1:]).all()


# Energies of a single instance with 8 walkers and 2000 steps, reference sheet, section 4.4.
@pytest.mark.parametrize(
    ("arm", "measured"),
    [(PublishedLangevin(), -0.685), (Langevin(), -1.494), (PublishedAttention(), -0.787)],
    ids=["langevin clipped", "langevin", "attention clipped"],
)
def test_energies_agree_with_the_measured_column(arm, measured):
    model = EdwardsAnderson.draw(4, SAMPLES, disorder="gaussian", seed=0)
    state = arm.advance(arm.start(model, seed=1), 2000 * 8 * 64)
    assert (state.updates == 2000 * 8 * 64).all()
    found = state.lowest_energy / 64
    spread = found.std(ddof=1)
    assert abs(found.mean() - measured) < 3 * spread * np.sqrt(1 + 1 / SAMPLES)
    assert spread < 0.15  # so that the line above excludes the other rows of the table


def test_clipping_costs_most_of_the_energy():
    model = EdwardsAnderson.draw(6, 8, disorder="gaussian", seed=0)
    clip, free = (
        arm.advance(arm.start(model, seed=1), 500 * 8 * 216).lowest_energy
        for arm in (PublishedLangevin(), Langevin())
    )
    assert (free < 2 * clip).all()


def test_tempering_exchanges_configurations_and_keeps_the_ladder():
    model = EdwardsAnderson.draw(3, 4, disorder="gaussian", seed=0)
    arm = PublishedTempering()
    state = arm.start(model, seed=1)
    assert np.isnan(state.acceptance).all()
    arm.advance(state, 200 * 8 * 27)
    assert state.steps == 200
    assert (state.exchanges[1] == 200 * 7).all()
    assert ((state.acceptance > 0) & (state.acceptance < 1)).all()


@pytest.mark.parametrize(
    "arm", [Langevin(), PublishedLangevin(), PublishedAttention(), PublishedTempering()]
)
def test_runs_are_reproducible_and_the_record_falls(arm):
    model = EdwardsAnderson.draw(3, 2, disorder="gaussian", seed=0)
    whole = arm.advance(arm.start(model, seed=1), 50 * 8 * 27)
    parts = arm.advance(arm.start(model, seed=1), 20 * 8 * 27)
    early = parts.lowest_energy.copy()
    arm.advance(parts, 50 * 8 * 27)
    assert (parts.spins == whole.spins).all()
    assert (parts.lowest_energy <= early).all()
    with pytest.raises(ValueError, match="updates"):
        arm.advance(parts, -1)


@pytest.mark.parametrize(
    ("arm", "setting", "name"),
    [
        (Langevin, {"walkers": 0}, "walkers"),
        (Langevin, {"rate": 0.0}, "rate"),
        (PublishedLangevin, {"temperature": -1.0}, "temperature"),
        (PublishedTempering, {"highest": 0.05}, "highest"),
    ],
)
def test_bad_settings_are_named(arm, setting, name):
    with pytest.raises(ValueError, match=name):
        arm(**setting)
