"""The experiment behind figure 5: every arm on the same samples, for equal CPU time.

Budgets are CPU seconds a sample. A committed table of costs (`config/spin_glass_costs.yaml`,
remade by `benchmarks/spin_glass_costs.py`) turns them into update counts, so that a run gives the
same numbers on any machine. Arms are compared at equal CPU by their checkpoints and at equal
updates by the column `updates`.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class Trace:
    """How an arm fared: M checkpoints, n samples."""

    lowest_energy: NDArray[np.float64]
    """Least energy so far, (M, n)."""
    updates: NDArray[np.float64]
    """Spins visited so far, (M, n)."""
    acceptance: NDArray[np.float64]
    """Accepted share of the arm's own moves, (n,); NaN where it has none."""
    gates: pd.DataFrame | None = None
    """Gate and acceptance by sample and temperature, of gated arms."""


Runner = Callable[
    [EdwardsAnderson, NDArray[np.int64], NDArray[np.float64], np.random.SeedSequence], Trace
]


def ladder(rungs: int, *, coldest: float = 0.1, hottest: float = 1.6) -> NDArray:
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
    return lambda model, marks, temperatures, seed: follow(arm, model, marks, seed)[0]


def _gated(
    model: EdwardsAnderson,
    marks: NDArray[np.int64],
    temperatures: NDArray[np.float64],
    seed: np.random.SeedSequence,
    *,
    alone: bool = False,
    ceiling: float = Gated.ceiling,
) -> Trace:
    """TGN on the ladder or, `alone`, with all its replicas at the coldest temperature."""
    arm = Gated(temperatures.tolist(), ceiling=ceiling, steps=SWEEPS_PER_EXCHANGE)
    if alone:
        together = Gated.replicas * temperatures.size
        arm = replace(
            arm, temperatures=temperatures[:1].tolist(), replicas=together, exchange=False
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
    temperatures: NDArray[np.float64],
    seed: np.random.SeedSequence,
) -> Trace:
    """An annealing of its own for every mark: a schedule cut short would not have cooled."""
    lowest, updates = [], []
    for mark, stream in zip(marks, streams(seed, len(marks)), strict=True):
        n_sweeps = max(1, int(mark) // model.n_sites)
        schedule = np.linspace(temperatures[-1], temperatures[0], n_sweeps)
        result = simulated_annealing(model, schedule, seed=stream)
        lowest.append(result.lowest_energy)
        updates.append(result.spin_updates.astype(np.float64))
    return Trace(np.stack(lowest), np.stack(updates), np.full(model.n_samples, np.nan))


def _tempered(
    model: EdwardsAnderson,
    marks: NDArray[np.int64],
    temperatures: NDArray[np.float64],
    seed: np.random.SeedSequence,
    *,
    kernel: str = "scalar",
    clusters: bool = False,
) -> Trace:
    """Parallel tempering with two replica sets, read after whole rounds."""
    # A block with fewer samples than lanes runs copies of them, which is work too.
    copies = max(1, KERNELS[kernel].width // model.n_samples)
    per_round = 2 * temperatures.size * model.n_sites * SWEEPS_PER_EXCHANGE * copies
    sweeps = SWEEPS_PER_EXCHANGE * np.maximum(1, np.asarray(marks) // per_round)
    distinct, place = np.unique(sweeps, return_inverse=True)
    result = parallel_tempering(
        model,
        temperatures,
        int(distinct[-1]),
        seed=seed,
        kernel=kernel,  # type: ignore[arg-type]
        sweeps_per_exchange=SWEEPS_PER_EXCHANGE,
        cluster_temperature=CLUSTER_TEMPERATURE if clusters else 0.0,
        marks=distinct.tolist(),
    )
    # Cluster moves cost about as much in every round.
    updates = result.spin_updates * (distinct / distinct[-1])[:, None]
    acceptance = np.full(model.n_samples, result.swap_acceptance.mean())
    return Trace(result.trajectory[place], updates[place], acceptance)


def _reference(
    model: EdwardsAnderson,
    marks: NDArray[np.int64],
    temperatures: NDArray[np.float64],
    seed: np.random.SeedSequence,
) -> Trace:
    """Tempering on the fastest kernel there is for the couplings."""
    kernel = "multispin" if model.bimodal else "batched"
    return _tempered(model, marks, temperatures, seed, kernel=kernel)


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
}
"""Name to runner. `tgn` has the ladder of the other tempered arms; `tgn_gate_shut` is the same
code without the geometric path; `tgn_cold` stays at the coldest temperature, as the paper has it.
`tempering_bitcoded` needs +-J couplings and is not of the same class of kernels as the others;
nor is `reference`, the long run that residual energies are taken from, on the fastest kernel."""


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
        (least so far, per spin) and acceptance; `gates` with arm, disorder, side, sample,
        temperature, gate, local_acceptance and geometric_acceptance, empty but for gated arms.

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
    result = ARMS[arm](model, marks, ladder(rungs), _stream(seed, side, disorder, arm))
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
    )
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
    updates: int,
    repeats: int = 3,
    seed: int = 0,
) -> dict[str, dict[str, dict[int, float]]]:
    """Time every arm: CPU nanoseconds an update, to three digits.

    Parameters
    ----------
    rungs : side -> temperatures of the ladder
    n_samples : arm -> samples to time it on
    updates : of each sample, after a short run that compiles the kernels
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
                temperatures = ladder(rungs(side))
                ARMS[arm](model, np.array([1]), temperatures, stream)
                spent = []
                for _ in range(repeats):
                    start = time.process_time()
                    result = ARMS[arm](model, np.array([updates]), temperatures, stream)
                    spent.append((time.process_time() - start) / result.updates[-1].sum())
                row[side] = float(f"{1e9 * min(spent):.3g}")
    return table


def _stream(seed: int, side: int, disorder: str, use: str) -> np.random.SeedSequence:
    """Independent random numbers for each use."""
    return np.random.SeedSequence([seed, side, *(zlib.crc32(t.encode()) for t in (disorder, use))])
