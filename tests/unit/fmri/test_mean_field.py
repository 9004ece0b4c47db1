"""The mean field: its rest, its linear theory and its haemodynamics against simulations."""

import numpy as np
import pytest

from tgn.fmri.dynamics import angular_frequencies, changed, correlation
from tgn.fmri.mean_field import (
    MeanField,
    coupling_limit,
    feedback_inhibition,
    haemodynamic_response,
    haemodynamic_state,
    rate,
    rate_slope,
)
from tgn.kernels import whole_brain as kernels
from tgn.kernels.whole_brain import EXCITATORY, INHIBITORY


@pytest.fixture(scope="module")
def model():
    weights = np.random.default_rng(4).exponential(size=(7, 7)) ** 2
    weights = np.triu(weights, 1)
    weights += weights.T
    weights /= np.linalg.norm(weights, 2)
    return MeanField(weights, feedback_inhibition(weights, 0.8), coupling=0.8)


@pytest.mark.parametrize("transfer", [EXCITATORY, INHIBITORY])
@pytest.mark.parametrize("gain", [0.7, 1.0, 1.5])
def test_rates_and_their_slopes(transfer, gain):
    threshold = transfer.b / transfer.a
    assert rate(threshold, transfer, gain) == pytest.approx(1 / transfer.d)
    near = np.geomspace(1e-9, 1e-2, 50)
    current = threshold + np.sort(np.concatenate([np.linspace(-0.3, 0.3, 101), near]))
    assert (np.diff(rate(current, transfer, gain)) >= 0).all()
    step = 1e-5
    difference = rate(current + step, transfer, gain) - rate(current - step, transfer, gain)
    np.testing.assert_allclose(
        rate_slope(current, transfer, gain), difference / (2 * step), rtol=1e-5
    )


def test_feedback_holds_every_region_at_three_hertz(model):
    e, i = model.fixed_point
    current, _ = model._currents(e, i)
    np.testing.assert_allclose(rate(current, EXCITATORY), 3.06, atol=0.01)
    np.testing.assert_allclose(e, e[0])
    run = model.simulate(volumes=100, tr=2.0, seed=1)
    np.testing.assert_allclose(run.rates, 3.06, atol=0.1)
    np.testing.assert_allclose(run.activity, e, rtol=0.02)


def test_jacobian_is_the_derivative_of_the_drift(model):
    state = np.concatenate([np.linspace(0.1, 0.3, 7), np.linspace(0.03, 0.06, 7)])
    other = changed(model, {"gain": 1.2, "coupling": 0.6})
    step = 1e-6
    difference = [
        (other._drift(state + step * unit) - other._drift(state - step * unit)) / (2 * step)
        for unit in np.eye(14)
    ]
    np.testing.assert_allclose(other._slope(state), np.transpose(difference), atol=1e-5)


@pytest.mark.parametrize("factors", [{}, {"gain": 0.95}, {"gain": 1.2, "coupling": 0.7}])
def test_fixed_points_are_those_simulations_stay_at(model, factors):
    state = changed(model, factors)
    assert np.abs(state._drift(state.fixed_point.ravel())).max() < 1e-9
    run = changed(state, {"noise": 0.1}).simulate(volumes=50, tr=2.0, seed=2)
    np.testing.assert_allclose(run.activity, state.fixed_point[0], rtol=0.01)


def test_cross_spectra_add_up_to_the_lyapunov_covariance(model):
    """Without haemodynamics, over all frequencies."""
    angle = np.pi / 2 * (np.arange(400) + 0.5) / 400  # omega = 10 tan(angle)
    total = sum(
        10 / np.cos(a) ** 2 * model.cross_spectrum(10 * np.tan(a), lambda _, gates: 1 + 0 * gates)
        for a in angle
    )
    found = total * (angle[1] - angle[0]) / np.pi
    np.testing.assert_allclose(found, model.covariance(), rtol=1e-6)


def test_theory_agrees_with_a_long_simulation(model):
    run = changed(model, {"noise": 0.3}).simulate(volumes=4000, tr=2.0, seed=3)
    np.testing.assert_allclose(np.corrcoef(run.signals.T), model.connectivity(), atol=0.07)


def test_haemodynamic_response_is_the_linear_limit_of_the_balloon():
    mean, amplitude, omega, dt = 0.164, 1e-3, 2 * np.pi * 0.05, 0.01
    time = dt * np.arange(20_000)
    activity = kernels.padded((mean + amplitude * np.cos(omega * time))[:, None])
    rest = haemodynamic_state(np.full(16, mean))
    state = kernels.padded(rest)
    signal, found = np.empty(16, np.float32), []
    for part in np.split(activity, 4000):
        kernels.balloon(state, part, dt, signal)
        found.append(signal[0])
    late = np.array(found[2000:]) - np.mean(found[2000:])  # whole periods
    phase = np.exp(-1j * omega * (time[4::5][2000:] + dt))
    response = 2 * np.mean(late * phase) / amplitude
    expected = haemodynamic_response(omega, np.array([mean]))[0]
    assert abs(response - expected) < 0.02 * abs(expected)


def test_haemodynamic_rest_is_a_fixed_point_of_the_balloon():
    rest = kernels.padded(haemodynamic_state(np.linspace(0, 0.6, 16)))
    activity = np.tile(np.linspace(0, 0.6, 16, dtype=np.float32), (200, 1))
    state, signal = rest.copy(), np.empty(16, np.float32)
    kernels.balloon(state, activity, 0.01, signal)
    np.testing.assert_allclose(state, rest, atol=1e-5)


def test_the_size_of_the_noise_changes_no_correlation(model):
    band = (0.01, 0.1)
    louder = changed(model, {"noise": 2.0})
    np.testing.assert_allclose(louder.connectivity(band), model.connectivity(band), atol=1e-12)


def test_few_frequencies_are_enough(model):
    """The spectrum is smooth in the band of BOLD."""
    covariance = sum(
        model.cross_spectrum(omega, haemodynamic_response)
        for omega in angular_frequencies((0.01, 0.1), 400)
    )
    found = model.connectivity((0.01, 0.1))
    np.testing.assert_allclose(found, correlation(covariance), atol=1e-4)


def test_seeds_reproduce_bytes(model):
    first, again = (model.simulate(volumes=5, tr=0.72, seed=[3, 1]) for _ in range(2))
    assert first.signals.tobytes() == again.signals.tobytes()
    other = model.simulate(volumes=5, tr=0.72, seed=[3, 2])
    assert not np.isin(first.signals, other.signals).any()


def test_beyond_the_limit_an_excited_state_appears(model):
    limit = coupling_limit(model.weights)
    for coupling, excited in ((limit - 0.02, False), (limit + 0.03, True)):
        at = MeanField(model.weights, feedback_inhibition(model.weights, coupling), coupling)
        low, high = at.relaxed((0.0, 0.0))[0], at.relaxed((1.0, 1.0))[0]
        assert (np.abs(high - low).max() > 0.05) == excited


def test_an_unstable_fixed_point_is_refused(model):
    """Rest exists at any coupling, but not as a state."""
    weights = model.weights
    far = MeanField(weights, feedback_inhibition(weights, 5.0), 5.0)
    far.__dict__["fixed_point"] = model.fixed_point
    with pytest.raises(ValueError, match=r"at coupling 5.0 is unstable: perturbations grow by"):
        far.connectivity()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gain": 0.0}, "gain must be positive"),
        ({"gain": [[0, 1.0], [10, -1.0]]}, "gain must be positive"),
        ({"coupling": float("inf")}, "coupling must be finite"),
        ({"inhibition": np.ones(3)}, r"weights of 3 regions have shape \(7, 7\)"),
    ],
)
def test_refused_parameters(model, change, message):
    settings = {name: getattr(model, name) for name in ("weights", "inhibition", "coupling")}
    with pytest.raises(ValueError, match=message):
        MeanField(**{**settings, **change})


def test_a_repetition_time_between_bins_is_refused(model):
    with pytest.raises(ValueError, match=r"multiple of 0\.01 s, got 0\.725"):
        model.simulate(volumes=5, tr=0.725, seed=1)
