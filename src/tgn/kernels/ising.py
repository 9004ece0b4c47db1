"""One disorder sample at a time: the kernel that arms to be compared share.

Simulated annealing, parallel tempering and tempering with Houdayer's cluster moves all run on the
same Metropolis sweep, so that their difference is that of the methods. Nothing here is specific
to +-J couplings.

Arrays
------
spins : int8, +-1, shape (N,)
fields : float32, shape (N,), ``sum over neighbours J s``, kept up to date
neighbours : uint32, shape (N, 6), the site itself where there is none
couplings : float32, shape (N, 6), to each neighbour, 0 where there is none
random : uint64, shape (2, 8), eight streams of xoroshiro128+: the sweep draws from all of them at
    once, what needs a single number from the first

Sources: Kirkpatrick, Gelatt and Vecchi 1983 (annealing); Hukushima and Nemoto 1996 (exchange);
Houdayer 2001; Zhu, Ochoa and Katzgraber 2015, arXiv 1501.05630 (isoenergetic cluster moves);
Blackman and Vigna 2018.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tgn.kernels.compiling import kernel
from tgn.kernels.vectors import FLOATS, exponential, load, next_random, splat, store

SETTLE_EVERY = 20  # rounds of 5 to 10 sweeps: until then rounding errors of the fields add up


class Chains(NamedTuple):
    """State and records of one sample with two replica sets at T temperatures."""

    spins: NDArray[np.int8]
    """+-1, (T, 2, N)"""
    random: NDArray[np.uint64]
    """(2, 8)"""
    energy: NDArray[np.float64]
    """(T, 2)"""
    lowest: NDArray[np.float64]
    """Least energy seen, (1,)."""
    cold_last: NDArray[np.bool_]
    """Whether the replica saw the coldest temperature since the hottest, (T, 2)."""
    round_trips: NDArray[np.int64]
    """(1,)"""
    exchanged: NDArray[np.int64]
    """Accepted exchanges summed over sets, (T - 1,)."""
    energy_sum: NDArray[np.float64]
    """Energies summed over measurements and sets, (T,)."""
    overlap_sum: NDArray[np.float64]
    """|q|, q**2 and the link overlap, summed over overlap measurements, (3, T)."""
    fields: NDArray[np.float32]
    """(T, 2, N)"""
    cluster_updates: NDArray[np.int64]
    """Spins visited by cluster moves, (1,)."""


@kernel
def next_word(random):
    """64 random bits from the first stream."""
    s0, s1 = random[0, 0], random[1, 0]
    mixed = s0 ^ s1
    rotated = (s0 << np.uint64(24)) | (s0 >> np.uint64(40))
    random[0, 0] = rotated ^ mixed ^ (mixed << np.uint64(16))
    random[1, 0] = (mixed << np.uint64(37)) | (mixed >> np.uint64(27))
    return s0 + s1


@kernel
def uniform(random):
    """A number in (0, 1)."""
    return (np.float64(next_word(random) >> np.uint64(11)) + 0.5) * 2.0**-53


@kernel
def margins_for(n_sites):
    """Room for a number a site, in whole vectors."""
    return np.empty(-(-n_sites // FLOATS) * FLOATS, dtype=np.float32)


@kernel
def draw_margins(margins, random, temperature):
    """Exponential variates of mean T / 2.

    Metropolis accepts the cost ``2 s field`` with probability ``exp(-2 s field / T)``: that of
    ``s field`` being at most such a variate. No variate exceeds 11.5 T, so that a flip with a
    probability below 1e-10 is never made.
    """
    s0, s1 = load(random, 0), load(random, 1)
    scale = splat(np.float32(temperature / 2))
    for k in range(margins.size // FLOATS):
        store(margins, k, exponential(s0 + s1) * scale)
        s0, s1 = next_random(s0, s1)
    store(random, 0, s0)
    store(random, 1, s1)


@kernel
def settle(spins, fields, neighbours, couplings):
    """Compute the local fields afresh; returns the energy."""
    energy = 0.0
    for i in range(spins.size):
        field = np.float64(0)
        for k in range(6):
            field += couplings[i, k] * spins[neighbours[i, k]]
        fields[i] = field
        energy -= field * spins[i]
    return energy / 2


@kernel
def flip(spins, fields, neighbours, couplings, i):
    """Flip spin i and bring the fields of its neighbours up to date."""
    change = np.float32(-2 * spins[i])
    spins[i] = -spins[i]
    for k in range(6):
        fields[neighbours[i, k]] += couplings[i, k] * change


@kernel
def sweep(spins, fields, neighbours, couplings, temperature, random, margins):
    """One Metropolis sweep in the order of the sites: the change of energy, and the flips."""
    draw_margins(margins, random, temperature)
    change, flips = 0.0, 0
    for i in range(spins.size):
        half = spins[i] * fields[i]
        if half <= margins[i]:
            change += 2 * half
            flips += 1
            flip(spins, fields, neighbours, couplings, i)
    return change, flips


@kernel
def houdayer(spins, fields, neighbours, couplings, random, energy):
    """Flip one overlap cluster in both replicas, shape (2, N); returns the sites visited.

    `energy`, shape (2,), is kept up to date.

    The cluster is the connected set, of one sign of the local overlap, that contains a random
    site of the rarer sign. Flipping it in both replicas leaves every local overlap as it was, so
    the reverse move has the same probability, and it moves energy between the replicas without
    changing the sum: detailed balance holds at equal temperature without rejection.
    """
    n_sites = spins.shape[1]
    overlap = 0
    for i in range(n_sites):
        overlap += spins[0, i] * spins[1, i]
    sign = -1 if overlap >= 0 else 1
    n_candidates = (n_sites + sign * overlap) // 2
    if n_candidates == 0:
        return n_sites
    chosen = np.int64(uniform(random) * n_candidates)
    seed = 0
    for i in range(n_sites):
        if spins[0, i] * spins[1, i] == sign:
            if chosen == 0:
                seed = i
                break
            chosen -= 1
    inside = np.zeros(n_sites, dtype=np.bool_)
    members = np.empty(n_sites, dtype=np.int64)
    members[0] = seed
    inside[seed] = True
    size, done = 1, 0
    while done < size:
        i = members[done]
        done += 1
        for k in range(6):
            j = neighbours[i, k]
            if not inside[j] and couplings[i, k] != 0 and spins[0, j] * spins[1, j] == sign:
                inside[j] = True
                members[size] = j
                size += 1
    for m in range(size):
        i = members[m]
        for a in range(2):
            energy[a] += 2 * spins[a, i] * np.float64(fields[a, i])
            flip(spins[a], fields[a], neighbours, couplings, i)
    return n_sites + size


@kernel
def anneal(spins, fields, neighbours, couplings, temperatures, random, marks, trajectory):
    """One Metropolis sweep at each of `temperatures`: the lowest energy, and the flips.

    `trajectory[m]` receives the lowest energy after `marks[m]` sweeps; `marks` ascend.
    """
    margins = margins_for(spins.size)
    energy = settle(spins, fields, neighbours, couplings)
    lowest = energy
    flips, mark = 0, 0
    for number in range(temperatures.size):
        if number % (10 * SETTLE_EVERY) == 0:
            energy = settle(spins, fields, neighbours, couplings)
        change, flipped = sweep(
            spins, fields, neighbours, couplings, temperatures[number], random, margins
        )
        energy += change
        flips += flipped
        lowest = min(lowest, energy)
        while mark < marks.size and marks[mark] == number + 1:
            trajectory[mark] = lowest
            mark += 1
    return lowest, flips


@kernel
def add_overlap(chains, neighbours, couplings, t):
    """Add |q|, q**2 and the link overlap between the two sets at temperature t."""
    spins = chains.spins[t]
    n_sites = spins.shape[1]
    overlap, links, n_bonds = 0, 0, 0
    for i in range(n_sites):
        same = spins[0, i] * spins[1, i]
        overlap += same
        for k in range(0, 6, 2):
            j = neighbours[i, k]
            if j != i:
                links += same * spins[0, j] * spins[1, j]
                n_bonds += 1
    q = overlap / n_sites
    chains.overlap_sum[0, t] += abs(q)
    chains.overlap_sum[1, t] += q * q
    chains.overlap_sum[2, t] += links / n_bonds


@kernel
def exchange(chains, t, a, gap):
    """One exchange step of set `a` between temperatures t and t + 1, `gap` apart in 1 / T."""
    energy = chains.energy
    cost = gap * (energy[t + 1, a] - energy[t, a])
    if cost > 0 and uniform(chains.random) >= np.exp(-cost):
        return
    chains.exchanged[t] += 1
    energy[t, a], energy[t + 1, a] = energy[t + 1, a], energy[t, a]
    last = chains.cold_last
    last[t, a], last[t + 1, a] = last[t + 1, a], last[t, a]
    for i in range(chains.spins.shape[2]):
        spin = chains.spins[t, a, i]
        chains.spins[t, a, i] = chains.spins[t + 1, a, i]
        chains.spins[t + 1, a, i] = spin
        field = chains.fields[t, a, i]
        chains.fields[t, a, i] = chains.fields[t + 1, a, i]
        chains.fields[t + 1, a, i] = field


@kernel
def temper(
    chains,
    neighbours,
    couplings,
    temperatures,
    n_cluster,
    first_round,
    n_rounds,
    n_sweeps,
    measure,
    overlap_every,
):
    """Rounds of `n_sweeps` sweeps, cluster moves, energies and one exchange of every second pair.

    Cluster moves act at the `n_cluster` coldest temperatures. Rounds are numbered from
    `first_round`; their parity decides which pairs exchange. With `measure` true, energies are
    recorded every round and overlaps every `overlap_every` rounds.
    """
    n_temperatures = temperatures.size
    spins, fields, energy = chains.spins, chains.fields, chains.energy
    margins = margins_for(spins.shape[2])
    for number in range(first_round, first_round + n_rounds):
        for t in range(n_temperatures):
            for a in range(2):
                if number % SETTLE_EVERY == 0:
                    energy[t, a] = settle(spins[t, a], fields[t, a], neighbours, couplings)
                for _ in range(n_sweeps):
                    energy[t, a] += sweep(
                        spins[t, a],
                        fields[t, a],
                        neighbours,
                        couplings,
                        temperatures[t],
                        chains.random,
                        margins,
                    )[0]
                    chains.lowest[0] = min(chains.lowest[0], energy[t, a])
            if t < n_cluster:
                chains.cluster_updates[0] += houdayer(
                    spins[t], fields[t], neighbours, couplings, chains.random, energy[t]
                )
            for a in range(2):
                chains.lowest[0] = min(chains.lowest[0], energy[t, a])
                if measure:
                    chains.energy_sum[t] += energy[t, a]
            if measure and number % overlap_every == 0:
                add_overlap(chains, neighbours, couplings, t)
        for t in range(number % 2, n_temperatures - 1, 2):
            for a in range(2):
                exchange(chains, t, a, 1 / temperatures[t] - 1 / temperatures[t + 1])
        if n_temperatures > 1:
            for a in range(2):
                if not chains.cold_last[0, a]:
                    chains.round_trips[0] += 1
                chains.cold_last[0, a] = True
                chains.cold_last[-1, a] = False
