"""The experiment behind figure 5: every arm on the same samples, for equal CPU time.

Budgets are CPU seconds a sample. A committed table of costs (`config/spin_glass_costs.yaml`,
remade by `benchmarks/spin_glass_costs.py`) turns them into update counts, so that a run gives the
same numbers on any machine. Arms are compared at equal CPU by their checkpoints and at equal
updates by the column `updates`.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tgn.spin_glass.arms import Arm, S
from tgn.spin_glass.as_published import PublishedAttention, PublishedLangevin, PublishedTempering
from tgn.spin_glass.chains import KERNELS
from tgn.spin_glass.controls import GreedyQuench, RandomConfigurations, RandomRestarts
from tgn.spin_glass.gated import Gated
from tgn.spin_glass.langevin import Langevin
from tgn.spin_glass.lattice import Disorder, EdwardsAnderson, streams
from tgn.spin_glass.tempering import parallel_tempering, simulated_annealing

Costs = Mapping[str, Mapping[str, Mapping[int, float]]]
"""Nanoseconds an update: arm -> disorder -> side."""

SWEEPS_PER_EXCHANGE = 5
CLUSTER_TEMPERATURE = 0.8
PUBLISHED_TEMPERATURE = 0.1
# Of the ladders. Colder or longer ones leave tempering with higher energies within such budgets
# (tried on other samples); the long runs, which must be independent, have ends of their own.
COLDEST, HOTTEST = 0.3, 1.6
REFERENCE_ENDS = (0.2, 1.5)
BURN_IN = 0.2  # share of a gated run in which the gate adapts
OVERSHOOT = 1.25  # most updates at a checkpoint, in those of its budget


@dataclass(frozen=True)
class Trace:
    """How an arm fared: M checkpoints, n samples."""

    lowest_energy: NDArray[np.float64]
    """Least energy so far, (M, n); NaN at a checkpoint that the arm leaves out."""
    updates: NDArray[np.float64]
    """Spins visited so far, (M, n)."""
    acceptance: NDArray[np.float64]
    """Accepted share of the arm's own moves, (n,); NaN where it has none."""
    gates: pd.DataFrame | None = None
    """Gate and acceptance by sample and temperature, of gated arms."""


Runner = Callable[[EdwardsAnderson, NDArray[np.int64], int, np.random.SeedSequence], Trace]
"""Model, checkpoints in updates of a sample, rungs of the ladder, random stream."""


def ladder(rungs: int, *, coldest: float = COLDEST, hottest: float = HOTTEST) -> NDArray:
    """Temperatures with roughly even acceptance of exchanges, ascending, shape (rungs,).

    Exchanges succeed as often everywhere if steps are even in ``sqrt(C) dT / T``. The heat
    capacity of a spin is taken as ``C = min(T, 1)``, a rough fit to both kinds of coupling in
    three dimensions that needs no measurement.

    Raises
    ------
    ValueError
        If there are fewer than 2 rungs, or the ends are not positive and ascending.
    """
    if rungs < 2:
        raise ValueError(f"rungs must be at least 2, got {rungs}")
    if not 0 < coldest < hottest < np.inf:
        raise ValueError(f"coldest must be positive and below hottest, got {coldest}, {hottest}")
    grid = np.geomspace(coldest, hottest, 4001)
    density = np.sqrt(np.minimum(grid, 1)) / grid
    length = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) * np.diff(grid) / 2)])
    return np.interp(np.linspace(0, length[-1], rungs), length, grid)


def follow(
    arm: Arm[S], model: EdwardsAnderson, marks: NDArray[np.int64], seed: np.random.SeedSequence
) -> tuple[Trace, S]:
    """Advance an arm from mark to mark, in updates of a sample; its trace and its last state."""
    state = arm.start(model, seed)
    lowest, updates = [], []
    for mark in marks:
        state = arm.advance(state, int(mark))
        lowest.append(state.lowest_energy.copy())
        updates.append(state.updates.astype(np.float64))
    return Trace(np.stack(lowest), np.stack(updates), state.acceptance), state


def _plain(arm: Arm[Any]) -> Runner:
    """Runner of an arm without a ladder."""
    return lambda model, marks, rungs, seed: follow(arm, model, marks, seed)[0]


def _gated(
    model: EdwardsAnderson,
    marks: NDArray[np.int64],
    rungs: int,
    seed: np.random.SeedSequence,
    *,
    alone: bool = False,
    ceiling: float = Gated.ceiling,
) -> Trace:
    """TGN on the ladder or, `alone`, with all its replicas at the published temperature."""
    total = Gated.replicas * rungs
    rounds = int(marks[-1]) // (total * model.n_sites * SWEEPS_PER_EXCHANGE)
    arm = Gated(
        [PUBLISHED_TEMPERATURE] if alone else ladder(rungs).tolist(),
        replicas=total if alone else Gated.replicas,
        ceiling=ceiling,
        steps=SWEEPS_PER_EXCHANGE,
        burn_in=max(1, int(BURN_IN * rounds)),
        exchange=not alone,
    )
    result, state = follow(arm, model, marks, seed)
    sample, rung = (index.ravel() for index in np.indices(state.gate.shape))
    gates = pd.DataFrame(
        {
            "sample": sample,
            "temperature": np.asarray(arm.temperatures)[rung],
            "gate": state.gate.ravel(),
            "local_acceptance": state.local_acceptance.ravel(),
            "geometric_acceptance": state.geometric_acceptance.ravel(),
        }
    )
    return replace(result, gates=gates)


def _annealed(
    model: EdwardsAnderson,
    marks: NDArray[np.int64],
    rungs: int,
    seed: np.random.SeedSequence,
) -> Trace:
    """An annealing of its own for the last mark, the last but two, and so on.

    A schedule cut short would not have cooled, and runs for every mark would cost twice the last.
    """
    lowest = np.full((len(marks), model.n_samples), np.nan)
    updates = np.full(lowest.shape, np.nan)
    for k in range(len(marks) - 1, -1, -2):
        n_sweeps = max(1, int(marks[k]) // model.n_sites)
        schedule = np.linspace(HOTTEST, PUBLISHED_TEMPERATURE, n_sweeps)
        result = simulated_annealing(model, schedule, seed=streams(seed, k + 1)[k])
        lowest[k], updates[k] = result.lowest_energy, result.spin_updates
        if k == len(marks) - 1:
            acceptance = result.acceptance
    return Trace(lowest, updates, acceptance)


def _tempered(
    model: EdwardsAnderson,
    marks: NDArray[np.int64],
    rungs: int,
    seed: np.random.SeedSequence,
    *,
    kernel: str = "scalar",
    clusters: bool = False,
    workers: int = 1,
    ends: tuple[float, float] = (COLDEST, HOTTEST),
) -> Trace:
    """Parallel tempering with two replica sets, read after whole rounds."""
    temperatures = ladder(rungs, coldest=ends[0], hottest=ends[1])
    # A block with fewer samples than lanes runs copies of them, which is work too.
    copies = max(1, KERNELS[kernel].width // model.n_samples)
    per_round = 2 * temperatures.size * model.n_sites * SWEEPS_PER_EXCHANGE * copies
    hottest_cluster = CLUSTER_TEMPERATURE if clusters else 0.0
    # A cluster move visits every site, and those of its cluster, at most half of them, again.
    per_round += (temperatures <= hottest_cluster).sum() * model.n_sites * 3 // 2
    sweeps = SWEEPS_PER_EXCHANGE * np.maximum(1, np.asarray(marks) // per_round)
    distinct, place = np.unique(sweeps, return_inverse=True)
    result = parallel_tempering(
        model,
        temperatures,
        int(distinct[-1]),
        seed=seed,
        kernel=kernel,  # type: ignore[arg-type]
        sweeps_per_exchange=SWEEPS_PER_EXCHANGE,
        cluster_temperature=hottest_cluster,
        marks=distinct.tolist(),
        workers=workers,
    )
    # Cluster moves cost about as much in every round.
    updates = result.spin_updates * (distinct / distinct[-1])[:, None]
    acceptance = np.full(model.n_samples, result.swap_acceptance.mean())
    return Trace(result.trajectory[place], updates[place], acceptance)


def _reference(
    model: EdwardsAnderson,
    marks: NDArray[np.int64],
    rungs: int,
    seed: np.random.SeedSequence,
) -> Trace:
    """Tempering on the fastest kernel there is for the couplings, in all threads of the job."""
    kernel = "multispin" if model.bimodal else "batched"
    workers = int(os.environ.get("OMP_NUM_THREADS", 1))  # which change no result
    return _tempered(model, marks, rungs, seed, kernel=kernel, workers=workers, ends=REFERENCE_ENDS)


ARMS: dict[str, Runner] = {
    "random_configurations": _plain(RandomConfigurations()),
    "greedy_quench": _plain(GreedyQuench()),
    "random_restarts": _plain(RandomRestarts()),
    "langevin": _plain(Langevin(temperature=PUBLISHED_TEMPERATURE)),
    "langevin_published": _plain(PublishedLangevin(temperature=PUBLISHED_TEMPERATURE)),
    "tempering_published": _plain(PublishedTempering(temperature=PUBLISHED_TEMPERATURE)),
    "attention_published": _plain(PublishedAttention(temperature=PUBLISHED_TEMPERATURE)),
    "annealing": _annealed,
    "tempering": _tempered,
    "tempering_houdayer": partial(_tempered, clusters=True),
    "tempering_bitcoded": partial(_tempered, kernel="multispin"),
    "tgn": _gated,
    "tgn_gate_shut": partial(_gated, ceiling=0.0),
    "tgn_cold": partial(_gated, alone=True),
    "reference": _reference,
    "reference_again": _reference,
}
"""Name to runner. `tgn` has the ladder of the other tempered arms; `tgn_gate_shut` is the same
code without the geometric path; `tgn_cold` stays at T = 0.1, as the paper has it.
`tempering_bitcoded` needs +-J couplings and is not of the same class of kernels as the others;
nor are `reference` and `reference_again`, two independent long runs on the fastest kernel: residual
energies are taken from them, and where they agree, they have converged."""


def run_arm(
    arm: str,
    *,
    side: int,
    disorder: Disorder,
    n_samples: int,
    seconds: ArrayLike,
    costs: Costs,
    rungs: int,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run one arm on the samples of one size and kind of coupling.

    A sample depends on seed, size, kind and its index alone, so that all arms meet the same.

    Parameters
    ----------
    arm : a name in `ARMS`
    side : int
        L.
    disorder : {"bimodal", "gaussian"}
    n_samples : int
    seconds : ascending, the checkpoints in CPU seconds a sample
    costs : nanoseconds an update, by arm, disorder and side
    rungs : int
        Temperatures of the arms that have a ladder.
    seed : int

    Returns
    -------
    (trace, gates) : tables
        `trace` with columns arm, disorder, side, sample, checkpoint, seconds, updates, energy
        (least so far, per spin) and acceptance, without checkpoints whose budget does not reach
        for a first round of the method, except for the last one; `gates` with arm, disorder,
        side, sample, temperature, gate, local_acceptance and geometric_acceptance, empty but for
        gated arms.

    Raises
    ------
    ValueError
        If the arm is unknown, has no cost for this size, `seconds` are not positive and
        ascending, or a size is refused by `EdwardsAnderson.draw`.
    """
    if arm not in ARMS:
        raise ValueError(f"arm must be one of {list(ARMS)}, got {arm!r}")
    seconds = np.atleast_1d(np.asarray(seconds, dtype=np.float64))
    if seconds.ndim != 1 or seconds.size == 0 or not (np.diff(seconds, prepend=0) > 0).all():
        raise ValueError(f"seconds must be positive and ascend, got {seconds.tolist()}")
    marks = np.maximum(seconds * 1e9 / cost(costs, arm, disorder, side), 1).astype(np.int64)
    model = samples(side, disorder, n_samples, seed)
    result = ARMS[arm](model, marks, rungs, _stream(seed, side, disorder, arm))
    early = result.updates.mean(axis=1) > OVERSHOOT * marks
    early[-1] = False
    result.lowest_energy[early] = np.nan
    labels = {"arm": arm, "disorder": disorder, "side": side}
    checkpoint, sample = np.indices(result.lowest_energy.shape)
    table = pd.DataFrame(
        {
            **labels,
            "sample": sample.ravel(),
            "checkpoint": checkpoint.ravel(),
            "seconds": seconds[checkpoint.ravel()],
            "updates": result.updates.ravel(),
            "energy": result.lowest_energy.ravel() / model.n_sites,
            "acceptance": result.acceptance[sample.ravel()],
        }
    ).dropna(subset="energy", ignore_index=True)
    return table, pd.DataFrame() if result.gates is None else result.gates.assign(**labels)


def samples(side: int, disorder: Disorder, n_samples: int, seed: int) -> EdwardsAnderson:
    """The disorder samples of one size and kind, the same for every arm."""
    return EdwardsAnderson.draw(
        side, n_samples, disorder=disorder, seed=_stream(seed, side, disorder, "couplings")
    )


def cost(costs: Costs, arm: str, disorder: str, side: int) -> float:
    """Nanoseconds an update.

    Raises
    ------
    ValueError
        If the table does not have it.
    """
    try:
        return float(costs[arm][disorder][side])
    except KeyError:
        raise ValueError(
            f"costs have no entry for arm {arm}, {disorder}, side {side}; remake the table with "
            "python benchmarks/spin_glass_costs.py"
        ) from None


def measure_costs(
    arms: Iterable[str],
    *,
    sides: Sequence[int],
    disorders: Sequence[Disorder] = get_args(Disorder),
    rungs: Callable[[int], int],
    n_samples: Callable[[str], int],
    seconds: float = 0.25,
    repeats: int = 3,
    seed: int = 0,
) -> dict[str, dict[str, dict[int, float]]]:
    """Time every arm: CPU nanoseconds an update, to three digits.

    Parameters
    ----------
    rungs : side -> temperatures of the ladder
    n_samples : arm -> samples to time it on
    seconds : CPU time of a timed run, about
    repeats : the fastest counts, since other work on the machine only ever slows a run
    """
    table: dict[str, dict[str, dict[int, float]]] = {}
    for arm in arms:
        for disorder in disorders:
            if arm == "tempering_bitcoded" and disorder != "bimodal":
                continue
            row = table.setdefault(arm, {}).setdefault(disorder, {})
            for side in sides:
                model = samples(side, disorder, n_samples(arm), seed)
                stream = _stream(seed, side, disorder, arm)
                timed = partial(_seconds_an_update, ARMS[arm], model, rungs(side), stream)
                timed(1)  # compiles the kernels
                updates = 1e5
                for _ in range(2):  # so many that starting up costs little beside them
                    updates = seconds / timed(updates) / model.n_samples
                row[side] = float(f"{1e9 * min(timed(updates) for _ in range(repeats)):.3g}")
    return table


def _seconds_an_update(
    run: Runner,
    model: EdwardsAnderson,
    rungs: int,
    seed: np.random.SeedSequence,
    updates: float,
) -> float:
    """CPU seconds an update, in a run of so many updates of each sample."""
    start = time.process_time()
    result = run(model, np.array([int(updates)]), rungs, seed)
    return (time.process_time() - start) / float(result.updates[-1].sum())


def _stream(seed: int, side: int, disorder: str, use: str) -> np.random.SeedSequence:
    """Independent random numbers for each use."""
    return np.random.SeedSequence([seed, side, *(zlib.crc32(t.encode()) for t in (disorder, use))])
