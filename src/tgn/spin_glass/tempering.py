"""Parallel tempering and simulated annealing of Edwards-Anderson samples.

Two independent sets of replicas, one replica a temperature, do Metropolis sweeps and exchange
neighbouring temperatures with the probability ``min(1, exp(dbeta dE))`` (Hukushima and Nemoto
1996), even and odd pairs in turn. With cluster moves, the two replicas at equal temperature
also exchange a connected cluster of their overlap (Houdayer 2001).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from tgn import progress
from tgn.kernels import ising
from tgn.spin_glass.arms import random_spins, random_state
from tgn.spin_glass.chains import KERNELS, Chains
from tgn.spin_glass.lattice import UNIT, EdwardsAnderson, streams

Kernel: TypeAlias = Literal["auto", "multispin", "batched", "scalar"]
Floats: TypeAlias = NDArray[np.float64]

OVERLAP_EVERY = 10  # rounds between overlaps, which cost about as much as a sweep
VISITS_PER_STEP = 10**7  # of sites, between steps of the progress bar: less than a second


@dataclass(frozen=True)
class Tempering:
    """Result of `parallel_tempering`: n samples, T temperatures, M marks.

    Means run over both replica sets and the rounds after burn-in. Energies are totals in units of
    the coupling, not per spin.
    """

    temperatures: Floats
    """(T,)"""
    lowest_energy: Floats
    """Lowest energy of any replica at the end of any round (scalar kernel: any sweep), (n,)."""
    energy: Floats
    """Mean energy, (T, n)."""
    overlap: Floats
    """Mean |q| between the sets, ``q = sum of a[i] b[i] / N``, (T, n)."""
    overlap_squared: Floats
    """Mean q**2, (T, n)."""
    link_overlap: Floats
    """Mean over bonds of ``a[i] a[j] b[i] b[j]``, (T, n)."""
    swap_acceptance: Floats
    """Share of accepted exchanges between neighbouring temperatures, (T - 1,)."""
    round_trips: NDArray[np.int64]
    """Arrivals at the coldest temperature from the hottest, all replicas, (n,)."""
    marks: NDArray[np.int64]
    """Sweeps, (M,)."""
    trajectory: Floats
    """Lowest energy after that many sweeps, (M, n)."""
    spin_updates: NDArray[np.int64]
    """Work: attempted flips of all replicas and sites visited by cluster moves, (n,)."""


def parallel_tempering(
    model: EdwardsAnderson,
    temperatures: ArrayLike,
    n_sweeps: int,
    *,
    seed: int | np.random.SeedSequence,
    kernel: Kernel = "auto",
    sweeps_per_exchange: int = 10,
    cluster_temperature: float = 0.0,
    burn_in: float = 0.5,
    marks: Sequence[int] = (),
    workers: int = 1,
) -> Tempering:
    """Sample every disorder sample of `model` at all temperatures, and search its ground state.

    Samples run side by side in blocks. The result is the same for any number of workers.

    Parameters
    ----------
    model : EdwardsAnderson
    temperatures : array, shape (T,)
        The ladder, ascending and positive.
    n_sweeps : int
        Sweeps of each replica, a multiple of `sweeps_per_exchange`.
    seed : int or SeedSequence
        Each block has a stream of its own.
    kernel : {"auto", "multispin", "batched", "scalar"}
        "multispin" is bit-coded, 512 samples of +-J couplings at a time; "batched" takes 32
        samples whose couplings are multiples of `tgn.spin_glass.lattice.UNIT`; "scalar" one
        sample at a time with any couplings. The first two share random numbers between samples:
        64 and 32 of them, in order, have correlated sampling noise (never correlated disorder).
        "auto" takes the fastest that fits.
    sweeps_per_exchange : int
        Length of a round: sweeps, energies, one exchange step.
    cluster_temperature : float
        One Houdayer move a round at every temperature up to this; 0 for none. Needs the scalar
        kernel. In three dimensions the moves are useful well below T_c only.
    burn_in : float
        Share of rounds, in [0, 1), left out of the means.
    marks : ascending ints
        Sweeps after which to note the lowest energy, rounded up to whole rounds.
    workers : int
        Threads.

    Returns
    -------
    Tempering

    Raises
    ------
    ValueError
        If an argument is out of its range, or `model` does not fit `kernel`.

    Examples
    --------
    >>> model = EdwardsAnderson.draw(4, 64, seed=1)
    >>> result = parallel_tempering(model, np.linspace(0.4, 1.6, 8), 2000, seed=2)
    >>> round(float(result.lowest_energy.mean()) / model.n_sites, 2)
    -1.75
    """
    ladder = _checked_ladder(temperatures)
    chosen = KERNELS[_chosen_kernel(kernel, model, cluster_temperature)]
    _check_count("sweeps_per_exchange", sweeps_per_exchange)
    _check_count("workers", workers)
    _check_count("n_sweeps", n_sweeps)
    if n_sweeps % sweeps_per_exchange:
        raise ValueError(
            f"n_sweeps must be a multiple of sweeps_per_exchange, {sweeps_per_exchange}, "
            f"got {n_sweeps}"
        )
    if not 0 <= burn_in < 1:
        raise ValueError(f"burn_in must lie in [0, 1), got {burn_in}")
    marked = _checked_marks(marks, n_sweeps)
    visits = 2 * ladder.size * model.n_sites * n_sweeps
    n_steps = min(100, 1 + visits // VISITS_PER_STEP)
    schedule = _Schedule.of(
        n_sweeps // sweeps_per_exchange, sweeps_per_exchange, burn_in, marked, n_steps
    )

    starts = range(0, model.n_samples, chosen.width)
    jobs = list(zip(starts, streams(seed, len(starts)), strict=True))

    def run(job: tuple[int, np.random.SeedSequence], bar: tqdm) -> _Block:
        start, stream = job
        part = EdwardsAnderson(model.couplings[start : start + chosen.width], model.periodic)
        chains = chosen(part, ladder, stream, cluster_temperature)
        return _run_block(chains, schedule, bar)

    blocks = _in_threads(run, jobs, workers, "tempering", schedule.pauses.size)
    attempts = sum(block.attempts for block in blocks)
    exchanged = sum(block.exchanged for block in blocks)
    return Tempering(
        temperatures=ladder,
        lowest_energy=np.concatenate([block.lowest for block in blocks]),
        energy=np.concatenate([block.energy for block in blocks], axis=-1),
        **{
            name: np.concatenate([block.overlaps[k] for block in blocks], axis=-1)
            for k, name in enumerate(("overlap", "overlap_squared", "link_overlap"))
        },
        swap_acceptance=exchanged / np.maximum(attempts, 1),
        round_trips=np.concatenate([block.round_trips for block in blocks]),
        marks=marked,
        trajectory=np.concatenate([block.trajectory for block in blocks], axis=-1),
        spin_updates=np.concatenate([block.spin_updates for block in blocks]),
    )


@dataclass(frozen=True)
class Annealing:
    """Result of `simulated_annealing`: n samples, M marks."""

    lowest_energy: Floats
    """Lowest energy at the end of any sweep, (n,)."""
    marks: NDArray[np.int64]
    """Sweeps, (M,)."""
    trajectory: Floats
    """Lowest energy after that many sweeps, (M, n)."""
    spin_updates: NDArray[np.int64]
    """Work: attempted flips, (n,)."""
    acceptance: Floats
    """Accepted share of them, (n,)."""


def simulated_annealing(
    model: EdwardsAnderson,
    temperatures: ArrayLike,
    *,
    seed: int | np.random.SeedSequence,
    marks: Sequence[int] = (),
    workers: int = 1,
) -> Annealing:
    """Anneal each sample once, on the same sweep as ``parallel_tempering(kernel="scalar")``.

    Parameters
    ----------
    model : EdwardsAnderson
    temperatures : array, shape (sweeps,)
        Temperature of each sweep, positive, never rising.
    seed : int or SeedSequence
        Each sample has a stream of its own.
    marks : ascending ints
        Sweeps after which to note the lowest energy.
    workers : int
        Threads.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """
    schedule = np.asarray(temperatures, dtype=np.float64)
    positive = np.isfinite(schedule) & (schedule > 0)
    if schedule.ndim != 1 or schedule.size == 0 or not positive.all():
        raise ValueError("temperatures must be a sequence of positive, finite numbers")
    if not (np.diff(schedule) <= 0).all():
        raise ValueError("temperatures must not rise in the course of an annealing")
    _check_count("workers", workers)
    marked = _checked_marks(marks, schedule.size)
    trajectory = np.empty((model.n_samples, marked.size))

    def run(job: tuple[int, np.random.SeedSequence], bar: tqdm) -> tuple[float, int]:
        sample, stream = job
        rng = np.random.default_rng(stream)
        spins = random_spins(rng, (model.n_sites,))
        found = ising.anneal(
            spins,
            np.empty(model.n_sites, dtype=np.float32),
            model.neighbours,
            model.neighbour_couplings[sample],
            schedule,
            random_state(rng),
            marked,
            trajectory[sample],
        )
        bar.update()
        return found

    jobs = list(enumerate(streams(seed, model.n_samples)))
    lowest, flips = zip(*_in_threads(run, jobs, workers, "annealing", 1), strict=True)
    updates = np.full(model.n_samples, schedule.size * model.n_sites)
    return Annealing(np.array(lowest), marked, trajectory.T, updates, np.array(flips) / updates)


@dataclass(frozen=True)
class _Schedule:
    """Rounds at which a run pauses, and what it does between them."""

    pauses: NDArray[np.int64]
    marks: NDArray[np.int64]
    """In rounds."""
    burn_in: int
    """In rounds."""
    sweeps_per_round: int
    overlap_every: int

    @classmethod
    def of(
        cls,
        n_rounds: int,
        sweeps_per_round: int,
        burn_in: float,
        marks: NDArray[np.int64],
        n_steps: int,
    ) -> _Schedule:
        burnt = int(burn_in * n_rounds)
        marked = -(-marks // sweeps_per_round)
        # Pauses for the progress bar too, and so that an interrupt is heard.
        steps = np.linspace(0, n_rounds, n_steps + 1).astype(np.int64)
        pauses = np.unique([burnt, *steps, *marked])
        # At least one of the measured rounds must have a number that divides by it.
        overlap_every = min(OVERLAP_EVERY, n_rounds - burnt)
        return cls(pauses[pauses > 0], marked, burnt, sweeps_per_round, overlap_every)


@dataclass(frozen=True)
class _Block:
    """Records of one block, by sample."""

    lowest: Floats
    energy: Floats
    overlaps: Floats
    exchanged: NDArray[np.int64]
    attempts: NDArray[np.int64]
    round_trips: NDArray[np.int64]
    trajectory: Floats
    spin_updates: NDArray[np.int64]


def _in_threads(
    function: Callable, jobs: Sequence, workers: int, label: str, steps_per_job: int
) -> list:
    """``function(job, bar)`` of each job; the bar is off when not on a terminal."""
    with progress.bar(total=len(jobs) * steps_per_job, desc=label) as bar:
        if workers == 1:
            return [function(job, bar) for job in jobs]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(lambda job: function(job, bar), jobs))


def _run_block(chains: Chains, schedule: _Schedule, bar: tqdm) -> _Block:
    n_samples, copies = chains.model.n_samples, chains.copies

    def by_sample(lanes: NDArray) -> NDArray:
        """Lanes apart in copies and samples: (..., copies, n)."""
        return lanes[..., : copies * n_samples].reshape(*lanes.shape[:-1], copies, n_samples)

    trajectory = np.empty((schedule.marks.size, n_samples))
    for pause in schedule.pauses:
        chains.advance(
            int(pause) - chains.n_rounds,
            schedule.sweeps_per_round,
            measure=chains.n_rounds >= schedule.burn_in,
            overlap_every=schedule.overlap_every,
        )
        if pause in schedule.marks:
            trajectory[schedule.marks == pause] = by_sample(chains.lowest()).min(axis=-2)
        bar.update()
    n_rounds, n_temperatures = chains.n_rounds, chains.temperatures.size
    rounds = np.arange(n_rounds)
    n_overlaps = (rounds[schedule.burn_in :] % schedule.overlap_every == 0).sum()
    attempts = [(rounds % 2 == t % 2).sum() for t in range(n_temperatures - 1)]
    sweeps = n_rounds * schedule.sweeps_per_round
    flips = 2 * n_temperatures * chains.model.n_sites * sweeps * copies
    return _Block(
        lowest=by_sample(chains.lowest()).min(axis=-2),
        energy=by_sample(chains.energy_sum()).mean(axis=-2) / (2 * chains.n_measured),
        overlaps=by_sample(chains.overlap_sum()).mean(axis=-2) / n_overlaps,
        exchanged=chains.exchanged(),
        attempts=2 * chains.width * np.array(attempts, dtype=np.int64),
        round_trips=by_sample(chains.round_trips()).sum(axis=-2),
        trajectory=trajectory,
        spin_updates=np.full(n_samples, flips + chains.cluster_updates()),
    )


def _checked_ladder(temperatures: ArrayLike) -> Floats:
    ladder = np.asarray(temperatures, dtype=np.float64)
    if ladder.ndim != 1 or ladder.size == 0:
        raise ValueError(f"temperatures must be a sequence of numbers, got shape {ladder.shape}")
    if not (np.isfinite(ladder).all() and (ladder > 0).all() and (np.diff(ladder) > 0).all()):
        raise ValueError("temperatures must be positive, finite and ascending")
    return ladder


def _checked_marks(marks: Sequence[int], n_sweeps: int) -> NDArray[np.int64]:
    marked = np.asarray(marks, dtype=np.int64)
    inside = (marked >= 1) & (marked <= n_sweeps)
    if marked.ndim != 1 or not inside.all() or not (np.diff(marked) > 0).all():
        raise ValueError(f"marks must be ascending numbers of sweeps in 1 ... {n_sweeps}")
    return marked


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def _chosen_kernel(kernel: str, model: EdwardsAnderson, cluster_temperature: float) -> str:
    if kernel not in get_args(Kernel):
        raise ValueError(f"kernel must be one of {get_args(Kernel)}, got {kernel!r}")
    if not cluster_temperature >= 0:
        raise ValueError(f"cluster_temperature must not be negative, got {cluster_temperature}")
    fitting = {"multispin": model.bimodal, "batched": model.on_grid, "scalar": True}
    if cluster_temperature > 0:
        fitting = {"scalar": True}
    if kernel == "auto":
        return next(name for name, fits in fitting.items() if fits)
    if not fitting.get(kernel):
        raise ValueError(
            f"kernel {kernel!r} does not serve these couplings and cluster moves; "
            f"multispin needs couplings of +1 and -1, batched multiples of {UNIT}, "
            "cluster moves the scalar kernel"
        )
    return kernel
