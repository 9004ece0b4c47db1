"""Monte Carlo of independent particles: four methods, one energy function, exact sums to check by.

A system is a number of particles without interaction, its energy the sum over them of one function
of a particle's place. Two are here: one particle among given levels, which is the ensemble of
:mod:`tgn.thermodynamics.levels`, and harmonic oscillators, whose <E> = N T / 2 and C = N / 2 are
known. Energies and temperatures share a unit (k_B = 1).

    metropolis           one temperature (Metropolis et al. 1953)
    parallel_tempering   many, exchanging (Hukushima and Nemoto 1996)
    wang_landau          the density of states (Wang and Landau 2001; its refinement by 1/t after
                         Belardinelli and Pereyra 2007)
    multicanonical       a flat histogram of energies (Berg and Neuhaus 1992)

Each result gives the curves over temperature by ``at(temperatures)``, all through
:func:`reweight`. Many walkers go side by side in one array. What is kept is energies, thinned to
bounded memory; states on request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from tgn.thermodynamics.levels import checked_levels, checked_temperatures

Array = NDArray[np.floating]

ACCEPTANCE = 0.4  # what the step is tuned to
MOST_KEPT = 2**24  # numbers of a record, 128 MB: beyond, it is thinned
BLOCKS = 20  # of the jackknife
PARTS = 10  # of a record of parallel tempering, to compare
WINDOW = 5.0  # autocorrelation times over which autocorrelations are summed (Sokal 1997)
PATIENCE = 100  # moves of a particle on the way into a range
ROUNDING = 1e-9  # of sums of energies, over the range
AT_ONCE = 2**20  # numbers in the equations of several histograms


@dataclass(frozen=True)
class System:
    """Particles without interaction.

    ``energy(places)`` is that of each particle, infinite where it may not be; ``propose(places,
    step, rng)`` gives a new place for each and the logarithm of how much likelier the way back is
    proposed; ``start(shape, rng)`` places to begin at. Each acts elementwise on arrays of any
    shape. ``log_states`` is the logarithm of the number of states and ``bounds`` the least and
    greatest energy, where they are known; ``longest`` the step beyond which nothing changes.
    """

    energy: Callable[[Any], Array]
    propose: Callable[[Any, Any, np.random.Generator], tuple[Any, Any]]
    start: Callable[[tuple[int, ...], np.random.Generator], Any]
    particles: int = 1
    log_states: float | None = None
    bounds: tuple[float, float] = (-np.inf, np.inf)
    longest: float = np.inf


def levels(energies: ArrayLike) -> System:
    """One particle that jumps between levels, here sorted.

    Half of the jumps go over a number of levels, up or down, that is log-uniform up to ``step``
    times all of them. The others go anywhere, to places log-uniform in their distance from one of
    the two ends (with Hastings's correction): few levels that hold much of the weight are found and
    left within some ln N jumps, at any temperature.

    Raises
    ------
    ValueError
        If there are no levels, or one is not finite.
    """
    ladder = np.sort(checked_levels(energies))
    n = len(ladder)

    rank = np.arange(n)
    log_aim = np.log(np.log1p(1 / (rank + 1)) + np.log1p(1 / (n - rank)))

    def energy(place: NDArray[np.int64]) -> Array:
        inside = (place >= 0) & (place < n)
        return np.where(inside, ladder[np.clip(place, 0, n - 1)], np.inf)

    def propose(
        place: NDArray[np.int64], step: Any, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], Array]:
        near, way, end = 2 * rng.random((3, *place.shape)) - 1
        reach = n * np.clip(step, 1 / n, 1.0)
        beside = place + np.copysign(np.floor(reach ** np.abs(way)), way).astype(np.int64)
        depth = np.minimum((n + 1) ** np.abs(end) - 1, n - 1).astype(np.int64)
        aim = np.where(end < 0, depth, n - 1 - depth)
        local = near < 0
        correction = np.where(local, 0.0, log_aim[place] - log_aim[aim])
        return np.where(local, beside, aim), correction

    def start(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.int64]:
        return rng.integers(n, size=shape)

    return System(
        energy,
        propose,
        start,
        log_states=math.log(n),
        bounds=(float(ladder[0]), float(ladder[-1])),
        longest=1.0,
    )


def harmonic(particles: int) -> System:
    """E = sum x^2 of so many coordinates: <E> = N T / 2, C = N / 2, density of states E^(N/2 - 1).

    Raises
    ------
    ValueError
        If there is no particle.
    """
    if particles < 1:
        raise ValueError(f"particles must be at least 1, got {particles}")

    def propose(place: Array, step: Any, rng: np.random.Generator) -> tuple[Array, float]:
        return place + step * (2 * rng.random(place.shape) - 1), 0.0

    return System(
        np.square,
        propose,
        lambda shape, rng: rng.standard_normal(shape),
        particles,
        bounds=(0.0, np.inf),
    )


@dataclass(frozen=True)
class Reweighted:
    """Curves over temperature from samples, each of shape (n_temperatures,).

    Errors are of one standard deviation, by the jackknife over walkers, or parts of their time if
    those are few, with the weights held; NaN where the record is too short.
    ``effective_samples`` counts independent samples: a temperature with a few only is beyond what
    was sampled. Entropy and free energy hang on that number at infinite temperature too,
    ``effective_samples_infinite``, if they are ``absolute``: where the number of states is unknown
    ln Z lacks a constant.
    """

    temperatures: Array
    specific_heat: Array
    energy: Array
    entropy: Array
    free_energy: Array
    energy_error: Array
    specific_heat_error: Array
    effective_samples: Array
    effective_samples_infinite: float
    absolute: bool


def reweight(
    energies: ArrayLike,
    log_weights: ArrayLike,
    temperatures: ArrayLike,
    *,
    log_states: float | None = None,
) -> Reweighted:
    """Averages at any temperature from samples drawn with other weights.

    A sample that was drawn in proportion to exp(log_weights) counts exp(-E / T - log_weights):
    -E / T_0 of a run at T_0 (Ferrenberg and Swendsen 1988), ln sum of those over several
    temperatures, or minus the logarithm of a density of states.

    Parameters
    ----------
    energies : array, shape (n,), (n, walkers) or (n, ..., walkers)
        Time first, independent walkers last.
    log_weights : array, same shape
        Up to a constant.
    temperatures : array, shape (n_temperatures,)
    log_states
        ln of the number of states, which makes entropy and free energy absolute. If None, ln Z is
        the logarithm of the mean of exp(-E / T - log_weights).

    Raises
    ------
    ValueError
        If there are no samples or temperatures, shapes differ, or a value is not finite.
    """
    kelvins = checked_temperatures(temperatures)
    checked_levels(energies)
    checked_levels(log_weights, "log_weights")
    record, drawn = np.asarray(energies, float), np.asarray(log_weights, float)
    if record.shape != drawn.shape:
        raise ValueError(f"log_weights {drawn.shape} and energies {record.shape} differ in shape")
    walkers = record.shape[-1] if record.ndim > 1 else 1
    record, drawn = (a.reshape(len(a), -1, walkers) for a in (record, drawn))
    segments = math.ceil(BLOCKS / walkers)
    tau = autocorrelation_time(record)
    tau = tau if np.isfinite(tau) else 1.0
    log_z, energy, variance, counts = np.empty((4, len(kelvins)))
    errors = np.full((2, len(kelvins)), np.nan)
    for i, kelvin in enumerate(kelvins):
        logs = -record / kelvin - drawn
        top = logs.max()
        weights = np.exp(logs - top)
        z = weights.sum()
        energy[i] = (weights * record).sum() / z
        off = record - energy[i]
        variance[i] = (weights * off**2).sum() / z
        log_z[i] = top + np.log(z / record.size)
        counts[i] = z**2 / (weights**2).sum() / tau
        if len(record) >= 2 * segments:
            sums = np.stack([(weights * off**power).sum(axis=1) for power in range(3)])
            errors[:, i] = _jackknife(sums, segments)
    infinite = -drawn - (-drawn).max()
    if log_states is not None:
        log_z += log_states - (logsumexp(-drawn) - np.log(record.size))
    return Reweighted(
        temperatures=kelvins,
        specific_heat=variance / kelvins**2,
        energy=energy,
        entropy=log_z + energy / kelvins,
        free_energy=-kelvins * log_z,
        energy_error=errors[0],
        specific_heat_error=errors[1] / kelvins**2,
        effective_samples=counts,
        effective_samples_infinite=float(
            np.exp(2 * logsumexp(infinite) - logsumexp(2 * infinite)) / tau
        ),
        absolute=log_states is not None,
    )


def _jackknife(sums: Array, segments: int) -> tuple[float, float]:
    """Errors of mean and variance of E, from sums of w, w E and w E^2, shape (3, n, walkers)."""
    starts = np.linspace(0, sums.shape[1], segments, endpoint=False).astype(int)
    blocks = np.add.reduceat(sums, starts, axis=1).reshape(3, -1)
    left = blocks.sum(axis=1, keepdims=True) - blocks
    with np.errstate(divide="ignore", invalid="ignore"):  # all the weight in one block: no error
        mean = left[1] / left[0]
        variance = left[2] / left[0] - mean**2
    scale = (blocks.shape[1] - 1) / np.sqrt(blocks.shape[1])
    return float(scale * mean.std()), float(scale * variance.std())


def autocorrelation_time(series: ArrayLike) -> float:
    """How many records make one independent one: 1 + 2 sum of the autocorrelations.

    Summed up to five times itself (Sokal 1997), the autocorrelations averaged over walkers. NaN if
    nothing ever changed.

    Parameters
    ----------
    series : array, shape (n,) or (n, walkers)

    Raises
    ------
    ValueError
        If it is empty or not finite.
    """
    checked_levels(series, "series")
    values = np.asarray(series, float)
    values = values.reshape(len(values), -1)
    values = values - values.mean(axis=0)
    n = len(values)
    correlations = np.zeros(n)
    for column in values.T:
        power = np.abs(np.fft.rfft(column, 2 * n)) ** 2
        correlation = np.fft.irfft(power)[:n]
        if correlation[0] > 1e-24 * n:
            correlations += correlation / correlation[0]
    if correlations[0] == 0:
        return float("nan")
    times = 2 * np.cumsum(correlations / correlations[0]) - 1
    closed = np.arange(n) >= WINDOW * times
    return float(max(times[int(np.argmax(closed))] if closed.any() else times[-1], 1.0))


@dataclass(frozen=True)
class Chain:
    """Metropolis at one temperature.

    ``energies`` (kept, walkers), one record in ``thin`` steps; ``states`` (kept, walkers,
    particles) or None; ``acceptance`` after burn-in; ``step`` as tuned.
    """

    temperature: float
    energies: Array
    acceptance: float
    step: float
    thin: int
    states: NDArray[Any] | None
    log_states: float | None

    @property
    def autocorrelation_time(self) -> float:
        """Of the energy, in records."""
        return autocorrelation_time(self.energies)

    def at(self, temperatures: ArrayLike) -> Reweighted:
        """Curves by reweighting from the sampling temperature."""
        weights = -self.energies / self.temperature
        return reweight(self.energies, weights, temperatures, log_states=self.log_states)


def metropolis(
    system: System,
    temperature: float,
    n_steps: int,
    *,
    rng: np.random.Generator,
    walkers: int = 1,
    step: float = 0.1,
    burn_in: int | None = None,
    thin: int | None = None,
    keep_states: bool = False,
) -> Chain:
    """Sample at one temperature.

    A step offers each particle a move of its own, which without interaction is one sweep.

    Parameters
    ----------
    n_steps
        After burn-in.
    walkers
        Independent ones, side by side.
    step
        To begin with: it is tuned during burn-in to an acceptance of 0.4, and then held.
    burn_in
        Steps that are not recorded; a tenth of ``n_steps`` if None.
    thin
        Steps to a record; if None as many as keep the record below 128 MB.

    Raises
    ------
    ValueError
        If the temperature, a count or the step is not positive.
    """
    if np.ndim(temperature):
        raise ValueError(f"temperature must be one number, got {temperature!r}")
    found = parallel_tempering(
        system,
        [temperature],
        n_steps,
        rng=rng,
        ladders=walkers,
        step=step,
        burn_in=burn_in,
        thin=thin,
        keep_states=keep_states,
    )
    return found.chain(0)


@dataclass(frozen=True)
class Tempering:
    """Parallel tempering at R temperatures, rising.

    ``energies`` (R, kept, ladders) by temperature; ``replicas``, same shape, says which replica was
    there; ``states`` (R, kept, ladders, particles) or None; ``acceptance`` and ``steps`` (R,);
    ``swap_acceptance`` (R - 1,), NaN for a pair never tried; ``round_trips`` of all replicas from
    the coldest temperature to the hottest and back.
    """

    temperatures: Array
    energies: Array
    replicas: NDArray[np.int16]
    acceptance: Array
    steps: Array
    swap_acceptance: Array
    round_trips: int
    thin: int
    states: NDArray[Any] | None
    log_states: float | None

    def chain(self, index: int) -> Chain:
        """What was sampled at one of the temperatures."""
        return Chain(
            float(self.temperatures[index]),
            self.energies[index],
            float(self.acceptance[index]),
            float(self.steps[index]),
            self.thin,
            None if self.states is None else self.states[index],
            self.log_states,
        )

    def at(self, temperatures: ArrayLike) -> Reweighted:
        """Curves from all histograms together (Ferrenberg and Swendsen 1989).

        Errors are those of parts of the record, each by itself: the weights vary too.
        """
        record = self.energies.swapaxes(0, 1)
        found = _together(record, self.temperatures, temperatures, self.log_states)
        ladders = record.shape[2]
        segments = math.ceil(PARTS / ladders)
        if len(record) < 2 * segments:
            return found
        parts = [
            _together(part[:, :, i : i + 1], self.temperatures, temperatures, self.log_states)
            for part in np.array_split(record, segments)
            for i in range(ladders)
        ]
        energy, heat = (
            np.std([getattr(part, name) for part in parts], axis=0, ddof=1) / np.sqrt(len(parts))
            for name in ("energy", "specific_heat")
        )
        return replace(found, energy_error=energy, specific_heat_error=heat)


def _together(
    record: Array, kelvins: Array, temperatures: ArrayLike, log_states: float | None
) -> Reweighted:
    """All samples, (n, R, ladders), by the mixture of distributions that they were drawn from."""
    betas = 1 / kelvins
    stride = max(1, math.ceil(record.size * len(betas) / AT_ONCE))
    offsets = _free_energies(record[::stride], betas)
    weights = np.full(record.shape, -np.inf)
    for beta, offset in zip(betas, offsets, strict=True):
        weights = np.logaddexp(weights, offset - beta * record - np.log(len(betas)))
    return reweight(record, weights, temperatures, log_states=log_states)


def _free_energies(record: Array, betas: Array) -> Array:
    """-ln Z at each temperature but for a constant, from as many samples of each, (n, R, walkers).

    The least of a convex function, in the form of Shirts and Chodera (2008), begun at the integral
    of the mean energy over beta.
    """
    means = record.mean(axis=(0, 2))
    start = np.concatenate([[0.0], np.cumsum(np.diff(betas) * (means[1:] + means[:-1]) / 2)])
    if len(betas) == 1:
        return start
    centre = means.mean()
    exponents = -betas * (record.reshape(-1, 1) - centre)

    def shares(free: Array) -> tuple[float, Array]:
        logs = exponents + np.concatenate([[0.0], free])
        total = logsumexp(logs, axis=1)
        return float(total.mean()), np.exp(logs - total[:, None])

    def cost(free: Array) -> tuple[float, Array]:
        value, share = shares(free)
        return value - free.sum() / len(betas), share.mean(axis=0)[1:] - 1 / len(betas)

    def curvature(free: Array) -> Array:
        share = shares(free)[1][:, 1:]
        return np.diag(share.mean(axis=0)) - share.T @ share / len(share)

    shift = (betas - betas[0]) * centre
    found = minimize(
        cost,
        (start - shift)[1:],
        jac=True,
        hess=curvature,
        method="trust-exact",
        options={"gtol": 1e-9},
    )
    return np.concatenate([[0.0], found.x]) + shift


def parallel_tempering(
    system: System,
    temperatures: ArrayLike,
    n_steps: int,
    *,
    rng: np.random.Generator,
    ladders: int = 1,
    exchange_every: int = 10,
    step: float = 0.1,
    burn_in: int | None = None,
    thin: int | None = None,
    keep_states: bool = False,
) -> Tempering:
    """Sample at all temperatures at once, with exchanges between neighbours.

    Every ``exchange_every`` steps each second pair is offered an exchange, accepted with
    min(1, exp((1/T - 1/T') (E - E'))). Other parameters as :func:`metropolis`; the step of each
    temperature is tuned by itself, ``ladders`` are independent sets of replicas.

    Raises
    ------
    ValueError
        If temperatures do not rise or are not positive, or a count or the step is not positive.
    """
    kelvins = checked_temperatures(temperatures)
    if (np.diff(kelvins) <= 0).any():
        raise ValueError("temperatures must rise")
    if burn_in is None:
        burn_in = n_steps // 10
    _check_counts(n_steps=n_steps, ladders=ladders, exchange_every=exchange_every)
    if burn_in < 0:
        raise ValueError(f"burn_in must not be negative, got {burn_in}")
    if not step > 0:
        raise ValueError(f"step must be positive, got {step}")
    shape = (len(kelvins), ladders, system.particles)
    a_record = math.prod(shape if keep_states else shape[:2])
    thin = _thinning(thin, n_steps, a_record)
    kept = n_steps // thin
    betas = (1 / kelvins)[:, None, None]
    places = system.start(shape, rng)
    energy = system.energy(places)
    steps = np.full((len(kelvins), 1, 1), float(step))
    energies = np.empty((kept, *shape[:2]))
    replicas = np.empty((kept, *shape[:2]), np.int16)
    states = np.empty((kept, *shape), places.dtype) if keep_states else None
    accepted, swapped, tried = np.zeros(len(kelvins)), *np.zeros((2, len(kelvins) - 1))
    replica = np.repeat(np.arange(len(kelvins)), ladders).reshape(shape[:2])
    journey = np.zeros(shape[:2], np.int8)  # 1 since the coldest, 2 when the hottest came after it
    round_trips = 0
    for number in range(-burn_in, n_steps):
        offered, correction = system.propose(places, steps, rng)
        offered_energy = system.energy(offered)
        cost = betas * (offered_energy - energy) - correction
        taken = rng.standard_exponential(shape) >= cost
        places = np.where(taken, offered, places)
        energy = np.where(taken, offered_energy, energy)
        share = taken.mean(axis=(1, 2))
        if number < 0:
            gain = (number + burn_in + 1) ** -0.6
            steps *= np.exp(gain * (share - ACCEPTANCE))[:, None, None]
            steps = np.minimum(steps, system.longest)
        else:
            accepted += share
        if len(kelvins) > 1 and number % exchange_every == 0:
            pairs = np.arange(number // exchange_every % 2, len(kelvins) - 1, 2)
            total = energy.sum(axis=2)
            gap = betas[pairs, :, 0] - betas[pairs + 1, :, 0]
            swap = rng.standard_exponential((len(pairs), ladders)) >= gap * (
                total[pairs + 1] - total[pairs]
            )
            order = np.repeat(np.arange(len(kelvins)), ladders).reshape(shape[:2])
            order[pairs] += swap
            order[pairs + 1] -= swap
            places, energy = (np.take_along_axis(a, order[..., None], 0) for a in (places, energy))
            replica, journey = (np.take_along_axis(a, order, 0) for a in (replica, journey))
            if number >= 0:
                swapped[pairs] += swap.sum(axis=1)
                tried[pairs] += ladders
                round_trips += int((journey[0] == 2).sum())
            journey[0] = 1
            journey[-1][journey[-1] == 1] = 2
        if number >= 0 and (number + 1) % thin == 0 and number // thin < kept:
            row = number // thin
            energies[row], replicas[row] = energy.sum(axis=2), replica
            if states is not None:
                states[row] = places
    with np.errstate(invalid="ignore"):
        swap_acceptance = swapped / tried
    return Tempering(
        kelvins,
        energies.swapaxes(0, 1),
        replicas.swapaxes(0, 1),
        accepted / n_steps,
        steps[:, 0, 0],
        swap_acceptance,
        round_trips,
        thin,
        None if states is None else states.swapaxes(0, 1),
        system.log_states,
    )


@dataclass(frozen=True)
class DensityOfStates:
    """g(E) over a range of energies, of integral one there; unpacks as ``centres, density``.

    ``log_density`` (bins,) is -inf where no state was found; ``mean_energy`` (bins,) that of the
    states found, NaN where none was; ``histogram`` counts visits since the modification factor was
    last halved, or began to follow 1/t; ``log_f`` is how far it came down.
    ``log_states`` is known if the range holds all states.
    """

    edges: Array
    log_density: Array
    mean_energy: Array
    histogram: NDArray[np.int64]
    log_f: float
    n_moves: int
    acceptance: float
    step: float
    log_states: float | None

    @property
    def centres(self) -> Array:
        """Middles of the bins, (bins,)."""
        return (self.edges[1:] + self.edges[:-1]) / 2

    @property
    def density(self) -> Array:
        """(bins,)"""
        return np.exp(self.log_density)

    def __iter__(self) -> Iterator[Array]:
        return iter((self.centres, self.density))

    def at(self, temperatures: ArrayLike) -> Reweighted:
        """Curves by the sum over bins, each at its mean energy; one run has no errors."""
        seen = np.isfinite(self.log_density)
        found = reweight(
            self.mean_energy[None, seen],
            -self.log_density[None, seen],
            temperatures,
            log_states=self.log_states or 0.0,
        )
        return replace(
            found,
            effective_samples=np.full(len(found.temperatures), np.nan),
            effective_samples_infinite=float("nan"),
            absolute=self.log_states is not None,
        )


def wang_landau(
    system: System,
    energy_range: tuple[float, float],
    bins: int = 100,
    *,
    rng: np.random.Generator,
    walkers: int = 128,
    flatness: float = 0.8,
    least_log_f: float = 1e-8,
    most_moves: int = 1_000_000,
    step: float = 0.1,
) -> DensityOfStates:
    """Density of states by walkers that flatten the histogram of energies together.

    Each move adds ln f to the bin it ends in. ln f begins at 1 and is halved when every bin seen
    has ``flatness`` of the mean number of visits; once it is below bins / moves it follows that, by
    which the error falls with the number of moves instead of levelling off. Moves out of the range
    are refused and counted where the walker stays. The step is tuned to an acceptance of 0.4 until
    then. A bin found late begins at the least density of the others, and the refinement anew.

    Parameters
    ----------
    energy_range
        Lowest and highest energy.
    least_log_f, most_moves
        It ends at whichever comes first.

    Raises
    ------
    ValueError
        If the range does not rise or no state is found in it, flatness is not in (0, 1), or a count
        or the step is not positive.
    """
    edges = _edges(energy_range, bins)
    _check_counts(walkers=walkers, most_moves=most_moves)
    if not 0 < flatness < 1:
        raise ValueError(f"flatness must lie between 0 and 1, got {flatness}")
    if not (least_log_f > 0 and step > 0):
        raise ValueError(f"least_log_f {least_log_f} and step {step} must be positive")
    walk = _Walk.begin(system, edges, walkers, step, rng)
    log_density, mean_energy, histogram, log_f, acceptance = _flatten(
        walk, flatness=flatness, least_log_f=least_log_f, most_moves=most_moves, rng=rng
    )
    return DensityOfStates(
        edges,
        _normalised(log_density, edges),
        mean_energy,
        histogram,
        log_f,
        walk.moves,
        acceptance,
        walk.step,
        _states_within(system, edges),
    )


@dataclass(frozen=True)
class Multicanonical:
    """Samples whose energies are spread evenly over a range.

    ``energies`` (kept, walkers); ``states`` (kept, walkers, particles) or None; ``histogram``
    (bins,) of all steps; a state in a bin was drawn in proportion to exp(``log_weights``) (bins,);
    ``log_density`` (bins,) = ln histogram - log_weights, of integral one, -inf where none was seen.
    """

    edges: Array
    energies: Array
    histogram: NDArray[np.int64]
    log_weights: Array
    log_density: Array
    acceptance: float
    step: float
    thin: int
    states: NDArray[Any] | None
    log_states: float | None

    @property
    def autocorrelation_time(self) -> float:
        """Of the energy, in records."""
        return autocorrelation_time(self.energies)

    def at(self, temperatures: ArrayLike) -> Reweighted:
        """Curves by reweighting each sample from the weight of its bin."""
        weights = self.log_weights[_bin(self.energies, self.edges)]
        found = reweight(self.energies, weights, temperatures, log_states=self.log_states or 0.0)
        return replace(found, absolute=self.log_states is not None)


def multicanonical(
    system: System,
    energy_range: tuple[float, float],
    n_steps: int,
    *,
    rng: np.random.Generator,
    bins: int = 100,
    warm_up: int = 1000,
    walkers: int = 128,
    step: float = 0.1,
    thin: int | None = None,
    keep_states: bool = False,
) -> Multicanonical:
    """Sample with weights that make the histogram of energies flat.

    The weights come from ``warm_up`` steps of :func:`wang_landau` and are then held, so that what
    follows is an honest sample whatever they are. A step is one move of each walker; moves out of
    the range are refused.

    Raises
    ------
    ValueError
        As :func:`wang_landau`.
    """
    edges = _edges(energy_range, bins)
    _check_counts(walkers=walkers, n_steps=n_steps, warm_up=warm_up)
    if not step > 0:
        raise ValueError(f"step must be positive, got {step}")
    walk = _Walk.begin(system, edges, walkers, step, rng)
    guess = _flatten(walk, flatness=0.8, least_log_f=1e-8, most_moves=warm_up * walkers, rng=rng)[0]
    weights = -np.where(np.isfinite(guess), guess, guess[np.isfinite(guess)].min())
    thin = _thinning(thin, n_steps, walkers * (system.particles if keep_states else 1))
    kept = n_steps // thin
    energies = np.empty((kept, walkers))
    states = np.empty((kept, *walk.places.shape), walk.places.dtype) if keep_states else None
    histogram, accepted = np.zeros(bins, np.int64), 0.0
    for number in range(n_steps):
        accepted += walk.move(-weights, rng)
        histogram += np.bincount(walk.bin, minlength=bins)
        if (number + 1) % thin == 0 and number // thin < kept:
            energies[number // thin] = walk.energy
            if states is not None:
                states[number // thin] = walk.places
    with np.errstate(divide="ignore"):
        log_density = np.log(histogram) - weights
    return Multicanonical(
        edges,
        energies,
        histogram,
        weights,
        _normalised(log_density, edges),
        accepted / n_steps,
        walk.step,
        thin,
        states,
        _states_within(system, edges),
    )


@dataclass
class _Walk:
    """Walkers within a range of energies, one move of one particle each at a time."""

    system: System
    edges: Array
    places: NDArray[Any]
    energy: Array
    bin: NDArray[np.int64]
    step: float
    moves: int = 0

    @classmethod
    def begin(
        cls, system: System, edges: Array, walkers: int, step: float, rng: np.random.Generator
    ) -> _Walk:
        """Walk downhill in the distance from the range until all are in it."""
        nothing = f"energy_range: no state was found between {edges[0]} and {edges[-1]}"
        if system.bounds[1] < edges[0] or edges[-1] < system.bounds[0]:
            raise ValueError(nothing)
        places = system.start((walkers, system.particles), rng)
        energy = system.energy(places).sum(axis=1)
        rows, width = np.arange(walkers), step
        for _ in range(PATIENCE * (10 + system.particles)):
            away = _distance(energy, edges)
            if not away.any():
                return cls(system, edges, places, energy, _bin(energy, edges), step)
            site = rng.integers(system.particles, size=walkers)
            old = places[rows, site]
            new = system.propose(old, width, rng)[0]
            offered = energy + system.energy(new) - system.energy(old)
            closer = (_distance(offered, edges) < away) & (away > 0)
            places[rows, site] = np.where(closer, new, old)
            energy = np.where(closer, offered, energy)
            width *= np.exp(0.1 * (closer[away > 0].mean() - ACCEPTANCE))
        raise ValueError(nothing)

    def move(self, log_density: Array, rng: np.random.Generator) -> float:
        """Accepted with min(1, g(old) / g(new)); returns the accepted share."""
        walkers, particles = self.places.shape
        rows = np.arange(walkers)
        site = rng.integers(particles, size=walkers) if particles > 1 else 0
        old = self.places[rows, site]
        new, correction = self.system.propose(old, self.step, rng)
        offered = self.energy + self.system.energy(new) - self.system.energy(old)
        slack = ROUNDING * (self.edges[-1] - self.edges[0])  # the ends themselves are inside
        inside = (offered >= self.edges[0] - slack) & (offered <= self.edges[-1] + slack)
        bins = np.where(inside, _bin(offered, self.edges), self.bin)
        cost = log_density[bins] - log_density[self.bin] - correction
        taken = inside & (rng.standard_exponential(walkers) >= cost)
        self.places[rows, site] = np.where(taken, new, old)
        self.energy = np.where(taken, offered, self.energy)
        self.bin = np.where(taken, bins, self.bin)
        self.moves += walkers
        return float(taken.mean())


def _flatten(
    walk: _Walk,
    *,
    flatness: float,
    least_log_f: float,
    most_moves: int,
    rng: np.random.Generator,
) -> tuple[Array, Array, NDArray[np.int64], float, float]:
    """Wang and Landau's walk: ln g (-inf where unseen), mean E, histogram, ln f, acceptance."""
    bins, walkers = len(walk.edges) - 1, len(walk.places)
    log_g, seen = np.zeros(bins), np.zeros(bins, bool)
    histogram, log_f, follows = np.zeros(bins, np.int64), 1.0, False
    between = max(1, 20 * bins // walkers)
    energies, counts = np.zeros((2, bins))
    accepted, share, number = 0.0, 0.0, 0
    while walk.moves + walkers <= most_moves and log_f > least_log_f:
        taken = walk.move(log_g, rng)
        accepted += taken
        share += taken
        number += 1
        visits = np.bincount(walk.bin, minlength=bins)
        fresh = (visits > 0) & ~seen
        if fresh.any():
            log_g[fresh] = log_g[seen].min() if seen.any() else 0.0
            seen |= fresh
            histogram[:], log_f, follows = 0, 1.0, False
        counts += visits
        energies += np.bincount(walk.bin, walk.energy, minlength=bins)
        log_g += log_f * visits
        histogram += visits
        if follows:
            log_f = seen.sum() / walk.moves
        elif number % between == 0:
            walk.energy = walk.system.energy(walk.places).sum(axis=1)  # rounding adds up
            walk.step *= float(np.exp(share / between - ACCEPTANCE))
            walk.step = min(walk.step, walk.system.longest)
            share = 0.0
            if histogram[seen].min() >= flatness * histogram[seen].mean():
                histogram[:] = 0
                log_f /= 2
            if log_f <= seen.sum() / walk.moves:
                log_f, follows = seen.sum() / walk.moves, True
                histogram[:] = 0
    means = np.divide(energies, counts, out=np.full(bins, np.nan), where=seen)
    log_g = np.where(seen, log_g, -np.inf)
    return log_g, means, histogram, float(log_f), accepted / max(number, 1)


def _normalised(log_density: Array, edges: Array) -> Array:
    return log_density - logsumexp(log_density) - np.log(edges[1] - edges[0])


def _states_within(system: System, edges: Array) -> float | None:
    low, high = system.bounds
    return system.log_states if edges[0] <= low and high <= edges[-1] else None


def _distance(energy: Array, edges: Array) -> Array:
    return np.maximum(edges[0] - energy, 0) + np.maximum(energy - edges[-1], 0)


def _bin(energy: Array, edges: Array) -> NDArray[np.int64]:
    place = (energy - edges[0]) * ((len(edges) - 1) / (edges[-1] - edges[0]))
    return np.clip(np.nan_to_num(place, posinf=0), 0, len(edges) - 2).astype(np.int64)


def _edges(energy_range: tuple[float, float], bins: int) -> Array:
    low, high = checked_levels(energy_range, "energy_range")
    if low >= high:
        raise ValueError(f"energy_range {energy_range} does not rise")
    _check_counts(bins=bins)
    return np.linspace(low, high, bins + 1)


def _thinning(thin: int | None, n_steps: int, numbers: int) -> int:
    if thin is None:
        return min(n_steps, max(1, math.ceil(n_steps * numbers / MOST_KEPT)))
    if not 1 <= thin <= n_steps:
        raise ValueError(f"thin must be from 1 to the {n_steps} steps, got {thin}")
    return thin


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
