"""The published functions sample the levels that the direct calculation sums over."""

import numpy as np
import pytest

from tgn.thermodynamics import sampling
from thermodynamic_scaling import monte_carlo as mc
from thermodynamic_scaling.thermodynamics import compute_thermal_properties

MATRIX = np.random.default_rng(0).standard_normal((20, 25))
SPAN = (MATRIX.min(), MATRIX.max())
KELVINS = [0.5, 0.7, 1.0]
DIRECT = compute_thermal_properties(MATRIX, KELVINS)
FIVE = ("temperatures", "specific_heat", "energy", "entropy", "free_energy")


def sampled(method):
    return {
        "metropolis": lambda: mc.metropolis_hastings(MATRIX, 0.7, 1000, walkers=32, rng=0),
        "tempering": lambda: mc.parallel_tempering(MATRIX, (0.4, 3.0), 5, 4000, rng=0),
        "multicanonical": lambda: mc.multicanonical_sampling(MATRIX, SPAN, 400, 30, 600, rng=0),
        "wang_landau": lambda: mc.wang_landau_sampling(MATRIX, SPAN, 40, n_iter_max=300_000, rng=0),
    }[method]()


@pytest.mark.parametrize("method", ["metropolis", "tempering", "multicanonical", "wang_landau"])
def test_all_agree_with_the_direct_calculation(method):
    found = mc.calculate_thermal_properties_mcmc(sampled(method), KELVINS)
    assert set(FIVE) <= set(found)
    for name in ("energy", "specific_heat"):
        error = 5 * found[f"{name}_error"]
        if method == "wang_landau":  # one run has none
            assert np.isnan(error).all()
            error = 0.05 * np.abs(DIRECT[name])
        assert (np.abs(found[name] - DIRECT[name]) < error).all()
        assert (error < 0.4 * np.abs(DIRECT[name])).all()
    np.testing.assert_allclose(found["entropy"], DIRECT["entropy"], atol=0.2)
    assert found["absolute"]


def test_metropolis_unpacks_as_published():
    samples, acceptance = mc.metropolis_hastings(MATRIX, 0.7, 200, rng=1)
    assert samples.shape == (200,)
    assert 0 < acceptance < 1
    assert np.isin(samples, MATRIX).all()
    states, _ = mc.metropolis_hastings(
        MATRIX, 0.7, 50, energy="harmonic", keep_states=True, walkers=2, rng=1
    )
    assert states.shape == (100, 500)


def test_the_harmonic_example():
    run = mc.metropolis_hastings(MATRIX[:5], 0.5, 2000, energy="harmonic", rng=0)
    found = mc.calculate_thermal_properties_mcmc(run, [0.5])
    n = MATRIX[:5].size
    assert abs(found["energy"][0] - n * 0.5 / 2) < 4 * found["energy_error"][0] < 4
    assert abs(found["specific_heat"][0] - n / 2) < 4 * found["specific_heat_error"][0] < 20
    assert not found["absolute"]


def test_tempering_returns_the_published_keys():
    found = mc.parallel_tempering(MATRIX, (0.3, 3.0), 4, 600, thin=2, rng=0)
    assert found["samples"].shape == found["energy_history"].shape == (4, 300)
    assert set(np.unique(found["temp_history"])) == set(found["temperatures"])
    # where replica r is at temperature t, it is the one that was recorded there
    assert (np.sort(found["temp_history"], axis=0) == found["temperatures"][:, None]).all()
    assert 0 < found["exchange_rate"] < 1
    assert found["swap_acceptance"].shape == (3,)
    assert found["energy_history"][0].mean() < found["energy_history"][-1].mean()


def test_multicanonical_returns_a_density_that_rises_with_the_levels():
    found = mc.multicanonical_sampling(MATRIX, SPAN, 300, 20, 500, rng=0)
    counts = np.histogram(MATRIX, found["energy_bins"])[0]
    there = counts > 0
    assert np.corrcoef(found["log_dos"][there], np.log(counts[there]))[0, 1] > 0.99
    assert found["energies"].shape == (300 * found["walkers"],)
    assert found["histogram"].sum() == 300 * found["walkers"]


def test_wang_landau_unpacks_as_published():
    centres, dos = mc.wang_landau_sampling(MATRIX, SPAN, 20, n_iter_max=50_000, rng=0)
    assert (dos * (centres[1] - centres[0])).sum() == pytest.approx(1)


def test_energies_of_ones_own_need_their_temperature():
    energies = mc.metropolis_hastings(MATRIX, 0.7, 4000, rng=2).samples
    with pytest.raises(ValueError, match="temperature"):
        mc.calculate_thermal_properties_mcmc(energies, KELVINS)
    found = mc.calculate_thermal_properties_mcmc(
        energies, (0.6, 0.8), 3, temperature=0.7, log_states=np.log(500)
    )
    exact = compute_thermal_properties(MATRIX, found["temperatures"])
    assert (np.abs(found["energy"] - exact["energy"]) < 5 * found["energy_error"]).all()


def test_another_energy_function_is_an_argument():
    well = sampling.System(
        lambda x: np.where(np.abs(x) <= 1, 0.0, np.inf),
        lambda x, step, rng: (x + step * (2 * rng.random(x.shape) - 1), 0.0),
        lambda shape, rng: np.zeros(shape),
    )
    run = mc.metropolis_hastings(MATRIX, 1.0, 3000, energy=well, keep_states=True, rng=0)
    assert np.abs(run.samples).max() <= 1
    assert run.samples.var() == pytest.approx(1 / 3, rel=0.15)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: mc.metropolis_hastings([], 1.0), "weight_matrix"),
        (lambda: mc.metropolis_hastings([[np.nan]], 1.0), "weight_matrix"),
        (lambda: mc.metropolis_hastings(MATRIX, -1.0), "temperature"),
        (lambda: mc.metropolis_hastings(MATRIX, 1.0, energy="spins"), "energy"),
        (lambda: mc.parallel_tempering(MATRIX, (2.0, 1.0)), "temperatures"),
        (lambda: mc.wang_landau_sampling(MATRIX, (1.0, 1.0)), "energy_range"),
        (lambda: mc.calculate_thermal_properties_mcmc([], [1.0], temperature=1.0), "samples"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=name):
        call()
