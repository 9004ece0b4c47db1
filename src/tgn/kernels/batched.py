"""Parallel tempering with many-valued couplings: 32 disorder samples to a vector register.

A spin of 32 samples is one vector of 16-bit integers, each +1 or -1. Couplings are whole multiples
of a unit, so that fields and energies are exact. The 32 lanes of a block share their random
numbers, as in `tgn.kernels.multispin`: each lane is an exact Markov chain, but the sampling noise
of lanes in one block is correlated.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tgn.kernels.compiling import kernel
from tgn.kernels.vectors import (
    FLOATS,
    SHORTS,
    exponential,
    load,
    next_random,
    splat,
    store,
    store_truncated,
    where_at_most,
    widened,
)

LANES = SHORTS
LARGEST = 2**15 - 1  # no field may exceed it


class Samples(NamedTuple):
    """32 disorder samples on one lattice of N sites."""

    bonds: NDArray[np.int16]
    """Couplings to the next site along each axis, (N, 3, 32); 0 where there is none."""
    neighbours: NDArray[np.uint32]
    """Next and previous site along each axis, the site itself where there is none, (N, 6)."""
    incoming: NDArray[np.uint32]
    """Row of `bonds` that leads to the site along each axis, (N, 3)."""
    order: NDArray[np.uint32]
    """Sites in the order of a sweep, (N,)."""
    n_bonds: int
    unit: float
    """Coupling that the integer 1 stands for."""


class Chains(NamedTuple):
    """State and records of 32 lanes with two independent replica sets at T temperatures."""

    spins: NDArray[np.int16]
    """+-1, (T, N, 2, 32)"""
    random: NDArray[np.uint64]
    """State of xoroshiro128+, (2, 8)."""
    energy: NDArray[np.int32]
    """In units, (T, 2, 32)."""
    lowest: NDArray[np.int32]
    """Least energy seen, (32,)."""
    cold_last: NDArray[np.bool_]
    """Whether the replica saw the coldest temperature since the hottest, (T, 2, 32)."""
    round_trips: NDArray[np.int64]
    """(32,)"""
    exchanged: NDArray[np.int64]
    """Accepted exchanges summed over sets, (T - 1, 32)."""
    energy_sum: NDArray[np.int64]
    """Energies summed over measurements and sets, (T, 32)."""
    overlap_sum: NDArray[np.float64]
    """|q|, q**2 and the link overlap, summed over overlap measurements, (3, T, 32)."""
    margins: NDArray[np.int16]
    """Scratch: half of what a flip may cost, (2 N rounded up to 32,)."""
    scratch: NDArray[np.int32]
    """(32,)"""
    variates: NDArray[np.float32]
    """Scratch, (16,)."""
    stays: NDArray[np.int16]
    """Scratch: 1 where an exchange is refused, (32,)."""


@kernel
def draw_margins(chains, temperature):
    """Integer parts of exponential variates of mean T / 2, with `temperature` T in units.

    Metropolis accepts the cost ``2 s field`` with the probability that ``s field`` is at most
    such a variate.
    """
    s0, s1 = load(chains.random, 0), load(chains.random, 1)
    scale, largest = splat(np.float32(temperature / 2)), splat(np.float32(LARGEST))
    for k in range(chains.margins.size // FLOATS):
        margin = exponential(s0 + s1) * scale
        store_truncated(chains.margins, k, where_at_most(margin, largest, margin, largest))
        s0, s1 = next_random(s0, s1)
    store(chains.random, 0, s0)
    store(chains.random, 1, s1)


@kernel
def zeros():
    return splat(np.int16(0))


@kernel
def flipped(spin, field, margin):
    """`spin` after a Metropolis step."""
    return where_at_most(spin * field, splat(margin), zeros() - spin, spin)


@kernel
def sweep(samples, chains, t, temperature, n_sweeps):
    """Metropolis sweeps of both replicas at temperature t, which share the loads of bonds."""
    bonds, neighbours, incoming, order, _, unit = samples
    spins, margins = chains.spins, chains.margins
    base = 2 * t * order.size
    for _ in range(n_sweeps):
        draw_margins(chains, temperature / unit)
        for k in range(order.size):
            i = order[k]
            xp, xm = neighbours[i, 0], neighbours[i, 1]
            yp, ym = neighbours[i, 2], neighbours[i, 3]
            zp, zm = neighbours[i, 4], neighbours[i, 5]
            jxp, jyp, jzp = load(bonds, 3 * i), load(bonds, 3 * i + 1), load(bonds, 3 * i + 2)
            x, y, z = incoming[i, 0], incoming[i, 1], incoming[i, 2]
            jxm, jym, jzm = load(bonds, 3 * x), load(bonds, 3 * y + 1), load(bonds, 3 * z + 2)
            # Written out for both sets: a loop over them would not stay in registers.
            field = (
                (jxp * load(spins, base + 2 * xp) + jxm * load(spins, base + 2 * xm))
                + (jyp * load(spins, base + 2 * yp) + jym * load(spins, base + 2 * ym))
                + (jzp * load(spins, base + 2 * zp) + jzm * load(spins, base + 2 * zm))
            )
            spin = flipped(load(spins, base + 2 * i), field, margins[2 * k])
            store(spins, base + 2 * i, spin)
            field = (
                (jxp * load(spins, base + 2 * xp + 1) + jxm * load(spins, base + 2 * xm + 1))
                + (jyp * load(spins, base + 2 * yp + 1) + jym * load(spins, base + 2 * ym + 1))
                + (jzp * load(spins, base + 2 * zp + 1) + jzm * load(spins, base + 2 * zm + 1))
            )
            spin = flipped(load(spins, base + 2 * i + 1), field, margins[2 * k + 1])
            store(spins, base + 2 * i + 1, spin)


@kernel
def update_energy(samples, chains, t, a):
    """Energy of set `a` at temperature t, and the lowest so far."""
    n_sites = samples.order.size
    bonds, neighbours, spins = samples.bonds, samples.neighbours, chains.spins
    base = 2 * t * n_sites + a
    energy = splat(np.int32(0))
    for i in range(np.uint32(n_sites)):
        field = (
            load(bonds, 3 * i) * load(spins, base + 2 * neighbours[i, 0])
            + load(bonds, 3 * i + 1) * load(spins, base + 2 * neighbours[i, 2])
            + load(bonds, 3 * i + 2) * load(spins, base + 2 * neighbours[i, 4])
        )
        energy = energy + widened(field * (zeros() - load(spins, base + 2 * i)))
    store(chains.energy, 2 * t + a, energy)
    for lane in range(LANES):
        chains.lowest[lane] = min(chains.lowest[lane], chains.energy[t, a, lane])


@kernel
def add_overlap(samples, chains, t):
    """Add |q|, q**2 and the link overlap between the two sets at temperature t.

    A missing neighbour, which is the site itself, adds 1 to the sum over links.
    """
    n_sites = samples.order.size
    neighbours, spins = samples.neighbours, chains.spins
    base = 2 * t * n_sites
    spin_sum, link_sum = splat(np.int32(0)), splat(np.int32(0))
    for i in range(np.uint32(n_sites)):
        j = base + 2 * i
        same = load(spins, j) * load(spins, j + 1)
        spin_sum = spin_sum + widened(same)
        for axis in range(3):
            j = base + 2 * neighbours[i, 2 * axis]
            link_sum = link_sum + widened(same * load(spins, j) * load(spins, j + 1))
    missing = 3 * n_sites - samples.n_bonds
    store(chains.scratch, 0, spin_sum)
    for lane in range(LANES):
        q = chains.scratch[lane] / n_sites
        chains.overlap_sum[0, t, lane] += abs(q)
        chains.overlap_sum[1, t, lane] += q * q
    store(chains.scratch, 0, link_sum)
    for lane in range(LANES):
        chains.overlap_sum[2, t, lane] += (chains.scratch[lane] - missing) / samples.n_bonds


@kernel
def exchange(samples, chains, t, a, gap):
    """One exchange step of set `a` between temperatures t and t + 1, `gap` apart in 1 / T."""
    s0, s1 = load(chains.random, 0), load(chains.random, 1)
    store(chains.variates, 0, exponential(s0 + s1))
    s0, s1 = next_random(s0, s1)
    store(chains.random, 0, s0)
    store(chains.random, 1, s1)
    margin = chains.variates[0] / (gap * samples.unit)
    energy, last, stays = chains.energy, chains.cold_last, chains.stays
    for lane in range(LANES):
        cold, hot = energy[t, a, lane], energy[t + 1, a, lane]
        stays[lane] = np.int16(hot - cold > margin)
        if not stays[lane]:
            energy[t, a, lane], energy[t + 1, a, lane] = hot, cold
            was, other = last[t, a, lane], last[t + 1, a, lane]
            last[t, a, lane], last[t + 1, a, lane] = other, was
            chains.exchanged[t, lane] += 1
    mask = load(stays, 0)
    n_sites = samples.order.size
    for i in range(n_sites):
        j = 2 * (t * n_sites + i) + a
        cold, hot = load(chains.spins, j), load(chains.spins, j + 2 * n_sites)
        store(chains.spins, j, where_at_most(mask, zeros(), hot, cold))
        store(chains.spins, j + 2 * n_sites, where_at_most(mask, zeros(), cold, hot))


@kernel
def count_round_trips(chains):
    last = chains.cold_last
    for a in range(2):
        for lane in range(LANES):
            if not last[0, a, lane]:
                chains.round_trips[lane] += 1
            last[0, a, lane] = True
            last[-1, a, lane] = False


@kernel
def temper(samples, temperatures, chains, first_round, n_rounds, n_sweeps, measure, overlap_every):
    """Rounds of `n_sweeps` sweeps, energies, and one exchange step of every second pair.

    Rounds are numbered from `first_round`; their parity decides which pairs exchange. With
    `measure` true, energies are recorded every round and overlaps every `overlap_every` rounds.
    """
    n_temperatures = temperatures.size
    for number in range(first_round, first_round + n_rounds):
        for t in range(n_temperatures):
            sweep(samples, chains, t, temperatures[t], n_sweeps)
            for a in range(2):
                update_energy(samples, chains, t, a)
                if measure:
                    for lane in range(LANES):
                        chains.energy_sum[t, lane] += chains.energy[t, a, lane]
            if measure and number % overlap_every == 0:
                add_overlap(samples, chains, t)
        for t in range(number % 2, n_temperatures - 1, 2):
            gap = 1 / temperatures[t] - 1 / temperatures[t + 1]
            for a in range(2):
                exchange(samples, chains, t, a, gap)
        if n_temperatures > 1:
            count_round_trips(chains)
