"""The same levels by Monte Carlo: four methods that must agree with the direct calculation.

The energy is one for all: by default a single particle among the entries of the matrix, which is
the ensemble of :mod:`thermodynamic_scaling.thermodynamics`. ``energy="harmonic"`` takes as many
oscillators as the matrix has entries instead, E = sum w^2 with <E> = N T / 2 and C = N / 2, which
the published module sampled while comparing it with levels; and a
:class:`tgn.thermodynamics.sampling.System` is taken as it is. Energies are recorded; states on
request (``keep_states``). ``rng`` is a generator or a seed. The methods are those of
:mod:`tgn.thermodynamics.sampling`; k_B = 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tgn.thermodynamics import sampling
from tgn.thermodynamics.levels import checked_levels, temperature_grid

Energy = Literal["levels", "harmonic"] | sampling.System
Seed = np.random.Generator | int | None


@dataclass(frozen=True)
class Samples:
    """Unpacks as ``samples, acceptance_rate``; ``run`` knows the rest.

    ``samples`` are the energies (n,), or the states (n, N) if they were kept (for levels N = 1, the
    rank of the level), all walkers together.
    """

    samples: NDArray[Any]
    acceptance_rate: float
    run: sampling.Chain

    def __iter__(self) -> Iterator[Any]:
        return iter((self.samples, self.acceptance_rate))


def metropolis_hastings(
    weight_matrix: ArrayLike,
    temperature: float,
    n_steps: int = 10000,
    step_size: float = 0.1,
    *,
    energy: Energy = "levels",
    walkers: int = 1,
    burn_in: int | None = None,
    thin: int | None = None,
    keep_states: bool = False,
    rng: Seed = None,
) -> Samples:
    """Sample at one temperature.

    Parameters
    ----------
    weight_matrix : array of any shape
    temperature
        In the units of the weights (of their squares, if harmonic).
    n_steps
        After burn-in.
    step_size
        To begin with, tuned during burn-in: of levels the longest short jump over their number, of
        oscillators a length.
    walkers
        Independent ones; many take hardly longer than one.
    burn_in, thin
        Steps not recorded (a tenth if None), and steps to a record (as memory allows if None).

    Raises
    ------
    ValueError
        If the matrix is empty or not finite, or a number is not positive.
    """
    run = sampling.metropolis(
        _system(weight_matrix, energy),
        temperature,
        n_steps,
        rng=np.random.default_rng(rng),
        walkers=walkers,
        step=step_size,
        burn_in=burn_in,
        thin=thin,
        keep_states=keep_states,
    )
    return Samples(_pooled(run.energies, run.states), run.acceptance, run)


def wang_landau_sampling(
    weight_matrix: ArrayLike,
    energy_range: tuple[float, float],
    bins: int = 100,
    flatness_criterion: float = 0.8,
    min_log_f: float = 1e-8,
    n_iter_max: int = 1_000_000,
    *,
    energy: Energy = "levels",
    rng: Seed = None,
) -> sampling.DensityOfStates:
    """Density of states, as ``(bin_centres, dos)``.

    ``dos`` is of integral one over the range; times the number of levels it counts them. ln f
    follows 1/t in the end, so that ``n_iter_max`` moves, not ``min_log_f``, usually end it:
    ``log_f`` of the result says where.

    Raises
    ------
    ValueError
        As :func:`metropolis_hastings`, and if the range does not rise or holds no state.
    """
    return sampling.wang_landau(
        _system(weight_matrix, energy),
        energy_range,
        bins,
        rng=np.random.default_rng(rng),
        flatness=flatness_criterion,
        least_log_f=min_log_f,
        most_moves=n_iter_max,
    )


def parallel_tempering(
    weight_matrix: ArrayLike,
    temperature_range: tuple[float, float] | ArrayLike,
    n_replicas: int = 10,
    n_steps: int = 10000,
    exchange_interval: int = 10,
    *,
    energy: Energy = "levels",
    burn_in: int | None = None,
    thin: int | None = None,
    keep_states: bool = False,
    rng: Seed = None,
) -> dict[str, Any]:
    """Sample at several temperatures with exchanges.

    Parameters
    ----------
    temperature_range
        A tuple (lowest, highest) becomes ``n_replicas`` temperatures, evenly spaced in the
        logarithm; anything else is taken as the temperatures themselves.

    Returns
    -------
    dict
        For R replicas and S records: ``temperatures`` (R,); ``energy_history`` (R, S), by
        temperature; ``temp_history`` (R, S), the temperature of each replica; ``samples``, the
        same as ``energy_history``, or states (R, S, N) if kept; ``exchange_rate``, the mean of
        ``swap_acceptance`` (R - 1,); ``round_trips`` from the coldest to the hottest and back;
        ``acceptance_rate`` and ``step_size`` (R,); ``thin``; ``log_states``, ln of their number or
        None.

    Raises
    ------
    ValueError
        As :func:`metropolis_hastings`, and if the temperatures do not rise.
    """
    run = sampling.parallel_tempering(
        _system(weight_matrix, energy),
        temperature_grid(temperature_range, n_replicas),
        n_steps,
        rng=np.random.default_rng(rng),
        exchange_every=exchange_interval,
        burn_in=burn_in,
        thin=thin,
        keep_states=keep_states,
    )
    energies, replicas = run.energies[..., 0], run.replicas[..., 0]
    tried = run.swap_acceptance[np.isfinite(run.swap_acceptance)]
    return {
        "samples": energies if run.states is None else run.states[:, :, 0],
        "temperatures": run.temperatures,
        "temp_history": run.temperatures[np.argsort(replicas, axis=0)],
        "energy_history": energies,
        "exchange_rate": float(tried.mean()) if len(tried) else float("nan"),
        "swap_acceptance": run.swap_acceptance,
        "round_trips": run.round_trips,
        "acceptance_rate": run.acceptance,
        "step_size": run.steps,
        "thin": run.thin,
        "log_states": run.log_states,
    }


def multicanonical_sampling(
    weight_matrix: ArrayLike,
    energy_range: tuple[float, float],
    n_steps: int = 10000,
    n_bins: int = 100,
    n_warmup: int = 1000,
    *,
    energy: Energy = "levels",
    walkers: int = 128,
    thin: int | None = None,
    keep_states: bool = False,
    rng: Seed = None,
) -> dict[str, Any]:
    """Sample a range of energies evenly; moves out of it are refused.

    Returns
    -------
    dict
        ``energies`` (n,) of all ``walkers``, record by record; ``samples``, the same, or states
        (n, N) if kept; ``histogram`` (n_bins,); ``energy_bins`` (n_bins + 1,), the edges;
        ``log_weights`` (n_bins,), of which a state was drawn in proportion to the exponential;
        ``log_dos`` (n_bins,) = ln histogram - log_weights, of integral one, -inf where none was
        found; ``acceptance_rate``, ``walkers``, ``thin``, and ``log_states``, ln of their number
        if the range holds all, else None.

    Raises
    ------
    ValueError
        As :func:`wang_landau_sampling`.
    """
    run = sampling.multicanonical(
        _system(weight_matrix, energy),
        energy_range,
        n_steps,
        rng=np.random.default_rng(rng),
        bins=n_bins,
        warm_up=n_warmup,
        walkers=walkers,
        thin=thin,
        keep_states=keep_states,
    )
    return {
        "samples": _pooled(run.energies, run.states),
        "energies": run.energies.ravel(),
        "histogram": run.histogram,
        "energy_bins": run.edges,
        "log_weights": run.log_weights,
        "log_dos": run.log_density,
        "acceptance_rate": run.acceptance,
        "step_size": run.step,
        "walkers": walkers,
        "thin": run.thin,
        "log_states": run.log_states,
    }


def calculate_thermal_properties_mcmc(
    samples: Any,
    temperature_range: tuple[float, float] | ArrayLike,
    n_temps: int = 50,
    *,
    temperature: float | None = None,
    log_states: float | None = None,
) -> dict[str, Any]:
    """Thermal curves by reweighting what was sampled.

    Parameters
    ----------
    samples
        The result of any of the four methods; or energies, shape (n,) or (n, walkers), with the
        ``temperature`` they were sampled at.
    temperature_range
        A tuple of two numbers is a range of ``n_temps``, anything else the temperatures.
    log_states
        ln of the number of states that energies of one's own are from.

    Returns
    -------
    dict
        ``temperatures``, ``specific_heat``, ``energy``, ``entropy``, ``free_energy``, each (n,);
        ``energy_error`` and ``specific_heat_error``, one standard deviation;
        ``effective_samples``: temperatures with a few only are beyond what was sampled;
        ``effective_samples_infinite``, on which entropy and free energy hang; ``absolute``, false
        where ln Z lacks a constant because the number of states is unknown.

    Raises
    ------
    ValueError
        If the sampling temperature of an array is not said, or anything is empty, not finite or
        not positive.
    """
    found = _run(samples, temperature, log_states).at(temperature_grid(temperature_range, n_temps))
    return {name: getattr(found, name) for name in found.__dataclass_fields__}


def _run(samples: Any, temperature: float | None, log_states: float | None) -> Any:
    if isinstance(samples, Samples):
        return samples.run
    if isinstance(samples, sampling.DensityOfStates):
        return samples
    if isinstance(samples, Mapping) and "energy_history" in samples:
        energies = samples["energy_history"][..., None]
        return sampling.Tempering(
            temperatures=samples["temperatures"],
            energies=energies,
            replicas=np.empty(energies.shape, np.int16),
            acceptance=samples["acceptance_rate"],
            steps=samples["step_size"],
            swap_acceptance=samples["swap_acceptance"],
            round_trips=samples["round_trips"],
            thin=samples["thin"],
            states=None,
            log_states=samples["log_states"],
        )
    if isinstance(samples, Mapping) and "log_weights" in samples:
        return sampling.Multicanonical(
            edges=samples["energy_bins"],
            energies=samples["energies"].reshape(-1, samples["walkers"]),
            histogram=samples["histogram"],
            log_weights=samples["log_weights"],
            log_density=samples["log_dos"],
            acceptance=samples["acceptance_rate"],
            step=samples["step_size"],
            thin=samples["thin"],
            states=None,
            log_states=samples["log_states"],
        )
    if temperature is None or not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(
            f"temperature: energies count by the one they were sampled at, got {temperature}"
        )
    checked_levels(samples, "samples")
    return sampling.Chain(
        temperature=temperature,
        energies=np.asarray(samples, float),
        acceptance=float("nan"),
        step=float("nan"),
        thin=1,
        states=None,
        log_states=log_states,
    )


def _system(weight_matrix: ArrayLike, energy: Energy) -> sampling.System:
    values = checked_levels(weight_matrix, "weight_matrix")
    if isinstance(energy, sampling.System):
        return energy
    if energy == "levels":
        return sampling.levels(values)
    if energy == "harmonic":
        return sampling.harmonic(values.size)
    raise ValueError(f"energy must be levels, harmonic or a System, got {energy!r}")


def _pooled(energies: NDArray[Any], states: NDArray[Any] | None) -> NDArray[Any]:
    return energies.ravel() if states is None else states.reshape(-1, states.shape[-1])
