"""Every method against exact sums over the same levels, and oscillators against theory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, kstest

from tgn.thermodynamics import sampling
from tgn.thermodynamics.levels import thermal_properties

LEVELS = np.random.default_rng(0).standard_normal(500)
SYSTEM = sampling.levels(LEVELS)
RANGE = (LEVELS.min(), LEVELS.max())
KELVINS = np.array([0.4, 0.5, 0.7, 1.0])
EXACT = thermal_properties(LEVELS, KELVINS)
METHODS = {
    "metropolis": lambda rng: sampling.metropolis(SYSTEM, 0.6, 800, rng=rng, walkers=40),
    "parallel_tempering": lambda rng: sampling.parallel_tempering(
        SYSTEM, np.geomspace(0.3, 3, 5), 600, rng=rng, ladders=10
    ),
    "multicanonical": lambda rng: sampling.multicanonical(
        SYSTEM, RANGE, 400, bins=30, warm_up=600, rng=rng
    ),
}


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("method", METHODS)
def test_errors_are_as_large_as_they_say(method):
    deviations = []
    for seed in range(3):
        found = METHODS[method](generator(seed)).at(KELVINS)
        for name in ("energy", "specific_heat"):
            error = getattr(found, f"{name}_error")
            deviations.append((getattr(found, name) - getattr(EXACT, name)) / error)
        assert (found.effective_samples > 50).all()
        assert found.absolute
        np.testing.assert_allclose(found.entropy, EXACT.entropy, atol=0.25)
        np.testing.assert_allclose(
            found.free_energy, found.energy - KELVINS * found.entropy, atol=1e-9
        )
    assert np.abs(deviations).max() < 5
    assert 0.3 < np.sqrt(np.mean(np.square(deviations))) < 1.8


def test_wang_landau_counts_the_levels():
    found = sampling.wang_landau(SYSTEM, RANGE, 30, rng=generator(), most_moves=400_000)
    counts = np.histogram(LEVELS, found.edges)[0]
    there = counts > 0
    assert (np.isfinite(found.log_density) == there).all()
    width = found.edges[1] - found.edges[0]
    np.testing.assert_allclose(
        found.log_density[there], np.log(counts[there] / 500 / width), atol=0.15
    )
    centres, density = found
    assert (density * width).sum() == pytest.approx(1)
    assert len(centres) == 30
    assert found.log_f == pytest.approx(there.sum() / found.n_moves, rel=1e-3)  # 1/t
    curves = found.at(KELVINS)
    np.testing.assert_allclose(curves.energy, EXACT.energy, atol=0.08)
    np.testing.assert_allclose(curves.entropy, EXACT.entropy, atol=0.15)
    np.testing.assert_allclose(curves.specific_heat, EXACT.specific_heat, rtol=0.08)


def test_refinement_makes_the_density_better():
    def error(moves, seed):
        found = sampling.wang_landau(SYSTEM, RANGE, 30, rng=generator(seed), most_moves=moves)
        counts = np.histogram(LEVELS, found.edges)[0]
        seen = np.isfinite(found.log_density) & (counts > 0)
        return np.std(found.log_density[seen] - np.log(counts[seen]))

    short, long = (np.mean([error(moves, seed) for seed in range(2)]) for moves in (2e4, 2e5))
    assert long < 0.7 * short


@pytest.mark.parametrize("method", ["wang_landau", "multicanonical"])
def test_the_density_of_oscillators_is_that_of_chi_square(method):
    system, span = sampling.harmonic(10), (0.5, 20.0)
    if method == "wang_landau":
        found = sampling.wang_landau(system, span, 40, rng=generator(), most_moves=400_000)
    else:
        found = sampling.multicanonical(system, span, 2000, bins=40, warm_up=2000, rng=generator())
    mass = np.diff(found.edges**5)  # the integral of E^(N/2 - 1)
    width = found.edges[1] - found.edges[0]
    expected = np.log(mass / mass.sum() / width)
    seen = np.isfinite(found.log_density)
    assert seen[1:].all()
    np.testing.assert_allclose(found.log_density[seen][1:], expected[seen][1:], atol=0.3)
    assert found.log_states is None
    assert not found.at([1.0]).absolute


def test_oscillators_hold_half_a_temperature_each():
    chain = sampling.metropolis(
        sampling.harmonic(100), 0.5, 3000, rng=generator(), keep_states=True
    )
    found = chain.at([0.5])
    assert abs(found.energy[0] - 25) < 4 * found.energy_error[0] < 2
    assert abs(found.specific_heat[0] - 50) < 4 * found.specific_heat_error[0] < 15
    assert abs(chain.acceptance - sampling.ACCEPTANCE) < 0.05
    np.testing.assert_allclose(
        np.square(chain.states[..., :]).sum(axis=-1), chain.energies, rtol=1e-12
    )
    thinned = chain.energies[:: 5 * int(np.ceil(chain.autocorrelation_time)), 0]
    assert kstest(2 * thinned / 0.5, chi2(100).cdf).pvalue > 1e-3


def test_the_sampling_temperature_counts():
    """As published every energy was weighed by exp(-E / T) once more."""
    chain = sampling.metropolis(SYSTEM, 0.6, 1500, rng=generator(), walkers=32)
    twice = sampling.reweight(chain.energies, np.zeros_like(chain.energies), [0.6])
    exact = thermal_properties(LEVELS, [0.6]).energy[0]
    assert abs(chain.at([0.6]).energy[0] - exact) < 0.1 < abs(twice.energy[0] - exact)


@given(
    st.lists(st.floats(-3, 3), min_size=1, max_size=30),
    st.floats(0.3, 5),
    st.floats(0.3, 5),
)
@settings(max_examples=15, deadline=None)
def test_reweighting_the_exact_distribution_is_exact(energies, sampled, wanted):
    """Each level once, with its own probability as the weight it was drawn with undone."""
    levels = np.array(energies)
    found = sampling.reweight(
        levels, np.zeros(len(levels)), [wanted], log_states=np.log(len(levels))
    )
    exact = thermal_properties(levels, [wanted])
    for name in ("energy", "entropy", "free_energy", "specific_heat"):
        np.testing.assert_allclose(getattr(found, name), getattr(exact, name), rtol=1e-7, atol=1e-7)
    shifted = sampling.reweight(levels, np.full(len(levels), sampled), [wanted])
    np.testing.assert_allclose(shifted.energy, exact.energy, atol=1e-7)


def test_far_from_what_was_sampled_few_samples_are_left():
    chain = sampling.metropolis(SYSTEM, 3.0, 1000, rng=generator())
    near, far = chain.at([3.0, 0.1]).effective_samples
    assert far < 0.05 * near


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_autocorrelation_time_of_an_autoregressive_series(correlation):
    rng = generator()
    series = np.empty((20_000, 2))
    value = np.zeros(2)
    for i, kick in enumerate(rng.standard_normal(series.shape)):
        value = correlation * value + kick
        series[i] = value
    expected = (1 + correlation) / (1 - correlation)
    assert sampling.autocorrelation_time(series) == pytest.approx(expected, rel=0.12)


def test_what_never_moves_has_no_autocorrelation_time():
    assert np.isnan(sampling.autocorrelation_time(np.ones(50)))


def test_replicas_travel_and_swaps_are_counted():
    kelvins = np.geomspace(0.3, 3, 4)
    run = sampling.parallel_tempering(SYSTEM, kelvins, 2000, rng=generator(), ladders=2)
    assert run.swap_acceptance.shape == (3,)
    assert ((run.swap_acceptance > 0.1) & (run.swap_acceptance < 1)).all()
    assert run.round_trips > 10
    assert (np.sort(run.replicas, axis=0) == np.arange(4)[:, None, None]).all()
    # far temperatures exchange less
    apart = sampling.parallel_tempering(SYSTEM, [0.2, 5.0], 2000, rng=generator())
    assert apart.swap_acceptance[0] < run.swap_acceptance.min()


def test_exchanges_are_accepted_as_often_as_theory_has_it():
    """Two temperatures, independent draws: the mean of min(1, exp(gap (E - E')))."""
    kelvins = np.array([0.6, 1.0])
    run = sampling.parallel_tempering(
        SYSTEM, kelvins, 4000, rng=generator(), ladders=16, exchange_every=10
    )
    weights = np.exp(-(LEVELS - LEVELS.min()) / kelvins[:, None])
    cold, hot = weights / weights.sum(axis=1, keepdims=True)
    gap = (1 / kelvins[0] - 1 / kelvins[1]) * (LEVELS[:, None] - LEVELS)
    expected = cold @ np.exp(np.minimum(gap, 0)) @ hot
    assert run.swap_acceptance[0] == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_is_a_run(method):
    one, same, other = (METHODS[method](generator(seed)).energies for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_records_are_thinned_to_what_fits(monkeypatch):
    monkeypatch.setattr(sampling, "MOST_KEPT", 1000)
    system = sampling.harmonic(50)
    chain = sampling.metropolis(system, 1.0, 200, rng=generator(), walkers=4, keep_states=True)
    assert chain.states.size <= 1000
    assert chain.thin == 40
    assert chain.energies.shape == (5, 4)
    assert sampling.metropolis(system, 1.0, 200, rng=generator()).states is None
    many = sampling.multicanonical(
        system, (20, 60), 100, rng=generator(), walkers=30, warm_up=10, bins=5
    )
    assert many.energies.size <= 1000


def test_moves_out_of_the_range_are_refused():
    low, high = np.quantile(LEVELS, [0.2, 0.6])
    run = sampling.multicanonical(
        SYSTEM, (low, high), 400, rng=generator(), bins=10, warm_up=400, keep_states=True
    )
    assert run.energies.min() >= low
    assert run.energies.max() <= high
    assert run.log_states is None
    np.testing.assert_allclose(np.sort(LEVELS)[run.states[..., 0]], run.energies, atol=1e-12)
    counts = np.histogram(LEVELS, run.edges)[0]
    expected = np.log(counts / counts.sum() / (run.edges[1] - run.edges[0]))
    np.testing.assert_allclose(run.log_density, expected, atol=0.15)


def test_one_level_has_no_choice():
    found = sampling.metropolis(sampling.levels([2.0]), 1.0, 100, rng=generator()).at([0.5])
    assert (found.energy[0], found.specific_heat[0]) == (2, 0)
    assert found.entropy[0] == pytest.approx(0)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: sampling.levels([]), "energies"),
        (lambda: sampling.levels([np.nan]), "energies"),
        (lambda: sampling.harmonic(0), "particles"),
        (lambda: sampling.metropolis(SYSTEM, 0.0, 10, rng=generator()), "temperatures"),
        (lambda: sampling.metropolis(SYSTEM, [1.0, 2.0], 10, rng=generator()), "temperature"),
        (lambda: sampling.metropolis(SYSTEM, 1.0, 0, rng=generator()), "n_steps"),
        (lambda: sampling.metropolis(SYSTEM, 1.0, 10, rng=generator(), burn_in=-1), "burn_in"),
        (lambda: sampling.metropolis(SYSTEM, 1.0, 10, rng=generator(), thin=11), "thin"),
        (lambda: sampling.metropolis(SYSTEM, 1.0, 10, rng=generator(), step=0), "step"),
        (lambda: sampling.parallel_tempering(SYSTEM, [1, 1], 10, rng=generator()), "rise"),
        (lambda: sampling.wang_landau(SYSTEM, (1, 0), rng=generator()), "energy_range"),
        (lambda: sampling.wang_landau(SYSTEM, (50, 60), rng=generator()), "energy_range"),
        (lambda: sampling.wang_landau(SYSTEM, RANGE, 0, rng=generator()), "bins"),
        (lambda: sampling.wang_landau(SYSTEM, RANGE, flatness=1, rng=generator()), "flatness"),
        (lambda: sampling.multicanonical(SYSTEM, RANGE, 0, rng=generator()), "n_steps"),
        (lambda: sampling.reweight([1.0, 2.0], [1.0], [1.0]), "log_weights"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=name):
        call()
