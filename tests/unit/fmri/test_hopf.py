"""Coupled oscillators: exact theory against solvable cases and long simulations."""

import numpy as np
import pytest

from tgn.fmri.dynamics import changed, correlation
from tgn.fmri.hopf import Hopf, peak_frequencies
from tgn.kernels import normals
from tgn.kernels import whole_brain as kernels


@pytest.fixture
def weights():
    weights = np.random.default_rng(4).exponential(size=(6, 6)) ** 2
    weights = np.triu(weights, 1)
    weights += weights.T
    return weights / np.linalg.norm(weights, 2)


@pytest.fixture
def model(weights):
    frequencies = np.linspace(0.042, 0.068, 6)
    return Hopf(weights, frequencies, coupling=0.4, bifurcation=-0.05, noise=1e-3)


def test_one_oscillator_alone():
    """An Ornstein-Uhlenbeck process in the plane: variance s^2 / 2 |a| of each coordinate."""
    alone = Hopf(np.zeros((1, 1)), np.array([0.05]), coupling=1.0, bifurcation=-0.1, noise=0.3)
    assert alone.covariance()[0, 0] == pytest.approx(0.3**2 / 0.2)


def test_two_oscillators():
    """Of equal frequency: the sum decays as one alone, the difference by 2 G faster."""
    two = Hopf(1 - np.eye(2), np.full(2, 0.05), coupling=0.3, bifurcation=-0.1, noise=1.0)
    common, difference = 1 / 0.1, 1 / (0.1 + 2 * 0.3)
    expected = (common - difference) / (common + difference)
    assert two.connectivity()[0, 1] == pytest.approx(expected)


def test_theory_agrees_with_a_long_simulation(model):
    run = model.simulate(volumes=40_000, tr=1.0, seed=1)
    np.testing.assert_allclose(np.cov(run.signals.T), model.covariance(), rtol=0.12, atol=4e-7)
    np.testing.assert_allclose(np.corrcoef(run.signals.T), model.connectivity(), atol=0.04)


def test_theory_of_a_band_agrees_with_the_spectrum_of_a_simulation(model):
    signals = model.simulate(volumes=40_000, tr=1.0, seed=2).signals
    spectrum = np.fft.rfft(signals - signals.mean(axis=0), axis=0)
    frequencies = np.fft.rfftfreq(len(signals), 1.0)
    for band in ((0.045, 0.055), (0.06, 0.2)):
        part = spectrum[(frequencies > band[0]) & (frequencies < band[1])]
        found = correlation((part.T @ part.conj()).real)
        np.testing.assert_allclose(found, model.connectivity(band), atol=0.1)
    # All frequencies together are the Lyapunov equation's.
    whole = model.connectivity((0.0, 1.0))
    np.testing.assert_allclose(whole, model.connectivity(), atol=0.02)


def test_the_size_of_the_noise_changes_no_correlation(model):
    louder = changed(model, {"noise": 7.0})
    np.testing.assert_allclose(louder.connectivity(), model.connectivity(), atol=1e-12)


def test_seeds_reproduce_bytes(model):
    first, again = (model.simulate(volumes=20, tr=0.72, seed=[3, 1]) for _ in range(2))
    assert first.signals.tobytes() == again.signals.tobytes()
    other = model.simulate(volumes=20, tr=0.72, seed=[3, 2])
    assert not np.isin(first.signals, other.signals).any()


def test_the_steps_are_those_of_the_kernel(model):
    """Signals are the first coordinate after every volume's steps."""
    run = model.simulate(volumes=3, tr=0.1, seed=5, settle=0.0)
    state = np.zeros((2, 16), np.float32)
    random, noise = normals.streams(5), np.empty((5, 2, 16), np.float32)
    angle = 2 * np.pi * 0.02 * model.frequencies
    rotation = kernels.padded([np.cos(angle), np.sin(angle)])
    parameters = np.array([0.4, -0.05, 1e-3 * np.sqrt(0.02)], np.float32)
    for volume in range(3):
        normals.fill(random, noise)
        kernels.hopf(
            state, noise, kernels.tiles(model.weights), rotation, parameters, parameters, 0.02
        )
        np.testing.assert_array_equal(run.signals[volume], state[0, :6])


def test_a_level_ramp_is_a_constant_and_a_ramp_ends_in_the_state_it_leads_to(model):
    level = changed(model, {"coupling": [[0, 1.0], [50, 1.0]]})
    plain = model.simulate(volumes=40, tr=2.0, seed=1)
    np.testing.assert_array_equal(level.simulate(volumes=40, tr=2.0, seed=1).signals, plain.signals)
    ramp = changed(model, {"noise": [[20, 1.0], [100, 3.0]]})
    signals = ramp.simulate(volumes=3000, tr=2.0, seed=1).signals
    np.testing.assert_array_equal(signals[:10], plain.signals[:10])
    assert (signals[11:40] != plain.signals[11:]).all()
    deviation = np.sqrt(np.trace(model.covariance()) / 6)
    assert np.std(signals[100:]) == pytest.approx(3 * deviation, rel=0.15)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bifurcation": 0.0}, "bifurcation must be negative"),
        ({"bifurcation": [[0, -0.1], [10, 0.1]]}, "bifurcation must be negative"),
        ({"coupling": -1.0}, "coupling must not be negative"),
        ({"noise": float("nan")}, "noise must be finite"),
        ({"coupling": [[5, 1.0], [5, 2.0]]}, "ascending seconds"),
        ({"coupling": [1.0, 2.0]}, "pairs of ascending seconds"),
        ({"weights": -np.eye(6)}, "not negative"),
        ({"weights": np.ones((6, 5))}, r"6 regions have shape \(6, 5\)"),
    ],
)
def test_refused_parameters(model, change, message):
    settings = {name: getattr(model, name) for name in ("weights", "frequencies", "coupling")}
    with pytest.raises(ValueError, match=message):
        Hopf(**{**settings, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tr": 0.71}, "multiple of 0.02"),
        ({"tr": 0.0}, "multiple of 0.02"),
        ({"volumes": 0}, "cannot simulate 0 volumes"),
        ({"settle": -1.0}, "after -1.0 s"),
    ],
)
def test_refused_runs(model, change, message):
    with pytest.raises(ValueError, match=message):
        model.simulate(**{"volumes": 10, "tr": 2.0, "seed": 1, **change})


def test_oscillators_out_of_bounds_are_refused(model):
    with pytest.raises(ValueError, match="left their bounds"):
        changed(model, {"noise": 1e6}).simulate(volumes=5, tr=2.0, seed=1)


def test_a_ramp_has_no_linear_theory(model):
    with pytest.raises(ValueError, match="constant parameters are needed"):
        changed(model, {"coupling": [[0, 1.0], [9, 0.5]]}).connectivity()


@pytest.mark.parametrize("band", [(0.1, 0.1), (-0.1, 0.1), (0.2, 0.1)])
def test_refused_bands(model, band):
    with pytest.raises(ValueError, match="two ascending frequencies"):
        model.connectivity(band)


def test_unknown_parameters_are_refused(model):
    with pytest.raises(ValueError, match="Hopf has no gain; its parameters are coupling"):
        changed(model, {"gain": 1.1})


def test_peak_frequencies():
    tr, expected = 0.72, np.array([0.044, 0.051, 0.066])
    time = tr * np.arange(1200)[:, None]
    outside = 5 * np.sin(2 * np.pi * 0.02 * time) + 0.05 * time
    bold = np.sin(2 * np.pi * expected * time) + outside
    np.testing.assert_allclose(peak_frequencies(bold, tr), expected, atol=0.0015)
    with pytest.raises(ValueError, match=r"20 volumes of 0\.72 s resolve no frequency"):
        peak_frequencies(bold[:20], tr)
