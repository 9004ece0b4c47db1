"""Bit-coded parallel tempering of the +-J model: 512 disorder samples to a vector register.

A spin of 512 samples is one vector of eight 64-bit words, one bit ("lane") a sample; 1 stands for
spin down and for a negative coupling. One pass over the sites then costs a few dozen logical
operations for 512 samples. LLVM's loop vectoriser gives up on such loops, so the kernels are
written with explicit vectors (`Lanes`), which LLVM splits up on a CPU without 512-bit registers.

Every word has a random stream of its own, and its 64 lanes share their random numbers. Each lane
is an exact Markov chain, but the sampling noise of lanes in one word is correlated: errors of
thermal averages belong over words.

Sources: Jacobs and Rebbi 1981; Bhanot, Duke and Salvador 1986 (multi-spin coding); Rieger 1992,
hep-lat/9208019 (the +-J model); Blackman and Vigna 2018 (xoroshiro128+); Okabe and Kikuchi 1988
(carry-save energies).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tgn.kernels.compiling import kernel
from tgn.kernels.vectors import (
    WORDS,
    below,
    load,
    next_random,
    popcount,
    splat,
    store,
)

LANES = 64 * WORDS


class Samples(NamedTuple):
    """512 disorder samples on one lattice of N sites."""

    bonds: NDArray[np.uint64]
    """Negative couplings to the next site along each axis, shape (N, 3, 8)."""
    neighbours: NDArray[np.uint32]
    """Next and previous site along each axis, the site itself where there is none, (N, 6)."""
    incoming: NDArray[np.uint32]
    """Row of `bonds` that leads to the site along each axis, (N, 3)."""
    order: NDArray[np.uint32]
    """Sites in the order of a sweep, (N,)."""
    coordination: NDArray[np.uint32]
    """Number of bonds of each site, (N,)."""
    n_bonds: int


class Ladder(NamedTuple):
    """T temperatures, coldest first."""

    thresholds: NDArray[np.uint64]
    """Probabilities in units of 2**-64, shape (T, 7, 3): at each temperature and coordination
    that a site flips although 1, 2 or 3 unsatisfied bonds are missing from a half of six."""
    gaps: NDArray[np.float64]
    """Differences of inverse temperature between neighbours, all positive, (T - 1,)."""


class Chains(NamedTuple):
    """State and records of 512 lanes with two independent replica sets.

    Planes, shape (..., P, 8), hold one unsigned integer a lane, lowest binary digit first.
    """

    spins: NDArray[np.uint64]
    """(T, N, 2, 8)"""
    random: NDArray[np.uint64]
    """Two xoroshiro128+ states, one a replica set, (2, 2, 8)."""
    unsatisfied: NDArray[np.uint64]
    """Number of unsatisfied bonds, planes (T, 2, P, 8)."""
    lowest: NDArray[np.uint64]
    """Least number of unsatisfied bonds seen, planes (P, 8)."""
    cold_last: NDArray[np.uint64]
    """Whether the replica saw the coldest temperature since the hottest, (T, 2, 8)."""
    round_trips: NDArray[np.uint64]
    """Planes (R, 8)."""
    exchanged: NDArray[np.int64]
    """Accepted exchanges summed over lanes and sets, (T - 1,)."""
    energy_sum: NDArray[np.uint64]
    """Unsatisfied bonds summed over measurements and sets, planes (T, S, 8)."""
    overlap_sum: NDArray[np.float64]
    """|q|, q**2 and the link overlap, summed over overlap measurements, (3, T, 512)."""
    scratch: NDArray[np.uint64]
    """(P + 1, 8)"""


@kernel
def majority(a, b, c):
    """Carry of the full adder a + b + c."""
    return (a & b) | (c & (a | b))


@kernel
def full_adder(a, b, c):
    """Sum and carry."""
    return a ^ b ^ c, majority(a, b, c)


@kernel
def zeros():
    return splat(np.uint64(0))


@kernel
def inverse(a):
    return a ^ splat(np.uint64(0xFFFFFFFFFFFFFFFF))


@kernel
def flipped(spin, s1, c1, s2, c2, random, t1, t2, t3):
    """`spin` after a Metropolis step.

    Its unsatisfied bonds come as s1 + 2 c1 + s2 + 2 c2. A demon brings 1, 2 or 3 more where the
    random number is below t1, t2 or t3; with three or more the spin flips.
    """
    d2 = below(random, t2)
    d1 = below(random, t1) ^ d2 ^ below(random, t3)
    low, carry = full_adder(s1, s2, d1)
    middle, high = full_adder(c1, c2, carry)
    return spin ^ (high | majority(middle, d2, low))


@kernel
def sweep(samples, ladder, chains, t, n_sweeps):
    """Metropolis sweeps of both replicas at temperature t, which share the loads of bonds."""
    bonds, neighbours, incoming, order, coordination, _ = samples
    spins, random = chains.spins, chains.random
    base = 2 * t * order.size
    a0, a1 = load(random, 0), load(random, 1)
    b0, b1 = load(random, 2), load(random, 3)
    for _ in range(n_sweeps):
        for k in range(order.size):
            i = order[k]
            xp, xm = neighbours[i, 0], neighbours[i, 1]
            yp, ym = neighbours[i, 2], neighbours[i, 3]
            zp, zm = neighbours[i, 4], neighbours[i, 5]
            jxp, jyp, jzp = load(bonds, 3 * i), load(bonds, 3 * i + 1), load(bonds, 3 * i + 2)
            x, y, z = incoming[i, 0], incoming[i, 1], incoming[i, 2]
            jxm, jym, jzm = load(bonds, 3 * x), load(bonds, 3 * y + 1), load(bonds, 3 * z + 2)
            n_bonds = coordination[i]
            t1 = splat(ladder.thresholds[t, n_bonds, 0])
            t2 = splat(ladder.thresholds[t, n_bonds, 1])
            t3 = splat(ladder.thresholds[t, n_bonds, 2])
            # Written out for both sets: a loop over them would not stay in registers.
            spin = load(spins, base + 2 * i)
            s1, c1 = full_adder(
                spin ^ load(spins, base + 2 * xp) ^ jxp,
                spin ^ load(spins, base + 2 * xm) ^ jxm,
                spin ^ load(spins, base + 2 * yp) ^ jyp,
            )
            s2, c2 = full_adder(
                spin ^ load(spins, base + 2 * ym) ^ jym,
                spin ^ load(spins, base + 2 * zp) ^ jzp,
                spin ^ load(spins, base + 2 * zm) ^ jzm,
            )
            spin = flipped(spin, s1, c1, s2, c2, a0 + a1, t1, t2, t3)
            store(spins, base + 2 * i, spin)
            a0, a1 = next_random(a0, a1)

            spin = load(spins, base + 2 * i + 1)
            s1, c1 = full_adder(
                spin ^ load(spins, base + 2 * xp + 1) ^ jxp,
                spin ^ load(spins, base + 2 * xm + 1) ^ jxm,
                spin ^ load(spins, base + 2 * yp + 1) ^ jyp,
            )
            s2, c2 = full_adder(
                spin ^ load(spins, base + 2 * ym + 1) ^ jym,
                spin ^ load(spins, base + 2 * zp + 1) ^ jzp,
                spin ^ load(spins, base + 2 * zm + 1) ^ jzm,
            )
            spin = flipped(spin, s1, c1, s2, c2, b0 + b1, t1, t2, t3)
            store(spins, base + 2 * i + 1, spin)
            b0, b1 = next_random(b0, b1)
    store(random, 0, a0)
    store(random, 1, a1)
    store(random, 2, b0)
    store(random, 3, b1)


@kernel
def deposit(planes, base, level, n_planes, bit):
    """Add 2**level where `bit` is set."""
    for k in range(level, n_planes):
        digit = load(planes, base + k)
        store(planes, base + k, digit ^ bit)
        bit = digit & bit


@kernel
def clear(planes, base, n_planes):
    for k in range(n_planes):
        store(planes, base + k, zeros())


@kernel
def unsatisfied_bonds(samples, spins, base, i):
    """How many of the three bonds to the next sites are unsatisfied, as sum and carry."""
    bonds, neighbours = samples.bonds, samples.neighbours
    spin = load(spins, base + 2 * i)
    return full_adder(
        spin ^ load(spins, base + 2 * neighbours[i, 0]) ^ load(bonds, 3 * i),
        spin ^ load(spins, base + 2 * neighbours[i, 2]) ^ load(bonds, 3 * i + 1),
        spin ^ load(spins, base + 2 * neighbours[i, 4]) ^ load(bonds, 3 * i + 2),
    )


@kernel
def count_unsatisfied(samples, chains, t, a):
    """Bonds that set `a` leaves unsatisfied at temperature t: carry-save adders, 4 sites a go."""
    n_sites = samples.order.size
    n_planes = chains.lowest.shape[0]
    planes, spins = chains.unsatisfied, chains.spins
    out = (2 * t + a) * n_planes
    base = 2 * t * n_sites + a
    clear(planes, out, n_planes)
    ones, twos, fours, eights = zeros(), zeros(), zeros(), zeros()
    tail = np.uint32(n_sites - n_sites % 4)
    for i in range(np.uint32(0), tail, np.uint32(4)):
        s0, c0 = unsatisfied_bonds(samples, spins, base, i)
        s1, c1 = unsatisfied_bonds(samples, spins, base, i + 1)
        s2, c2 = unsatisfied_bonds(samples, spins, base, i + 2)
        s3, c3 = unsatisfied_bonds(samples, spins, base, i + 3)
        ones, p = full_adder(ones, s0, s1)
        ones, q = full_adder(ones, s2, s3)
        twos, r = full_adder(twos, c0, c1)
        twos, s = full_adder(twos, c2, c3)
        twos, p = full_adder(twos, p, q)
        fours, q = full_adder(fours, p, r)
        fours, r = full_adder(fours, s, zeros())
        eights, p = full_adder(eights, q, r)
        deposit(planes, out, 4, n_planes, p)
    for i in range(tail, n_sites):
        s0, c0 = unsatisfied_bonds(samples, spins, base, i)
        deposit(planes, out, 0, n_planes, s0)
        deposit(planes, out, 1, n_planes, c0)
    deposit(planes, out, 0, n_planes, ones)
    deposit(planes, out, 1, n_planes, twos)
    deposit(planes, out, 2, n_planes, fours)
    deposit(planes, out, 3, n_planes, eights)


@kernel
def keep_lowest(chains, t, a):
    """Update the least number of unsatisfied bonds by that of set `a` at temperature t."""
    n_planes = chains.lowest.shape[0]
    base = (2 * t + a) * n_planes
    borrow = zeros()
    for k in range(n_planes):
        new = inverse(load(chains.unsatisfied, base + k))
        borrow = majority(new, load(chains.lowest, k), borrow)
    for k in range(n_planes):
        old = load(chains.lowest, k)
        change = (old ^ load(chains.unsatisfied, base + k)) & borrow
        store(chains.lowest, k, old ^ change)


@kernel
def add_energy(chains, t, a):
    n_planes = chains.lowest.shape[0]
    n_sums = chains.energy_sum.shape[1]
    base, out = (2 * t + a) * n_planes, t * n_sums
    carry = zeros()
    for k in range(n_planes):
        total, carry = full_adder(
            load(chains.energy_sum, out + k), load(chains.unsatisfied, base + k), carry
        )
        store(chains.energy_sum, out + k, total)
    deposit(chains.energy_sum, out, n_planes, n_sums, carry)


@kernel
def unequal(spins, j):
    """Whether the two sets differ at vectors j and j + 1."""
    return load(spins, j) ^ load(spins, j + 1)


@kernel
def decoded(planes, n_planes, lane):
    """The integer of one lane."""
    value = 0
    for k in range(n_planes):
        bit = planes[k, lane >> 6] >> np.uint64(lane & 63) & np.uint64(1)
        value += np.int64(bit) << k
    return value


@kernel
def add_overlap(samples, chains, t):
    """Add |q|, q**2 and the link overlap between the two sets at temperature t."""
    n_sites = samples.order.size
    n_planes = chains.lowest.shape[0]
    neighbours, spins, counts = samples.neighbours, chains.spins, chains.scratch
    base = 2 * t * n_sites
    clear(counts, 0, n_planes)
    for i in range(n_sites):
        deposit(counts, 0, 0, n_planes, unequal(spins, base + 2 * i))
    for lane in range(LANES):
        q = 1 - 2 * decoded(counts, n_planes, lane) / n_sites
        chains.overlap_sum[0, t, lane] += abs(q)
        chains.overlap_sum[1, t, lane] += q * q
    clear(counts, 0, n_planes)
    for i in range(n_sites):
        here = unequal(spins, base + 2 * i)
        low, high = full_adder(
            here ^ unequal(spins, base + 2 * neighbours[i, 0]),
            here ^ unequal(spins, base + 2 * neighbours[i, 2]),
            here ^ unequal(spins, base + 2 * neighbours[i, 4]),
        )
        deposit(counts, 0, 0, n_planes, low)
        deposit(counts, 0, 1, n_planes, high)
    for lane in range(LANES):
        unequal_links = decoded(counts, n_planes, lane)
        chains.overlap_sum[2, t, lane] += 1 - 2 * unequal_links / samples.n_bonds


@kernel
def accepted(chains, ladder, t, a):
    """Lanes in which set `a` exchanges its replicas at temperatures t and t + 1.

    Metropolis: with n the unsatisfied bonds, accepted where n[t + 1] - n[t] does not exceed
    -ln(u) / (2 gap). One u serves a word.
    """
    n_planes = chains.lowest.shape[0]
    s0, s1 = load(chains.random, 2 * a), load(chains.random, 2 * a + 1)
    store(chains.scratch, 0, s0 + s1)
    s0, s1 = next_random(s0, s1)
    store(chains.random, 2 * a, s0)
    store(chains.random, 2 * a + 1, s1)
    largest = 2.0**n_planes - 1
    for word in range(WORDS):
        u = ((chains.scratch[0, word] >> np.uint64(11)) + 0.5) * 2.0**-53
        margin = min(-np.log(u) / (2 * ladder.gaps[t]), largest)
        chains.scratch[0, word] = np.uint64(margin)
    margins = load(chains.scratch, 0)
    cold = (2 * t + a) * n_planes
    hot = cold + 2 * n_planes
    carry, borrow = zeros(), zeros()
    for k in range(n_planes):
        digit = below(zeros(), margins & splat(np.uint64(1) << np.uint64(k)))
        total, carry = full_adder(load(chains.unsatisfied, cold + k), digit, carry)
        borrow = majority(inverse(total), load(chains.unsatisfied, hot + k), borrow)
    return carry | inverse(borrow)


@kernel
def exchange_vectors(array, i, j, mask):
    """Exchange vectors i and j where `mask` is set."""
    a, b = load(array, i), load(array, j)
    change = (a ^ b) & mask
    store(array, i, a ^ change)
    store(array, j, b ^ change)


@kernel
def exchange(samples, ladder, chains, t, a):
    """One exchange step of set `a` between temperatures t and t + 1."""
    mask = accepted(chains, ladder, t, a)
    n_sites = samples.order.size
    for i in range(n_sites):
        j = 2 * (t * n_sites + i) + a
        exchange_vectors(chains.spins, j, j + 2 * n_sites, mask)
    n_planes = chains.lowest.shape[0]
    for k in range(n_planes):
        j = (2 * t + a) * n_planes + k
        exchange_vectors(chains.unsatisfied, j, j + 2 * n_planes, mask)
    exchange_vectors(chains.cold_last, 2 * t + a, 2 * t + a + 2, mask)
    chains.exchanged[t] += popcount(mask)


@kernel
def count_round_trips(chains, a):
    last = chains.cold_last.shape[0] - 1
    arrived = inverse(load(chains.cold_last, a))
    deposit(chains.round_trips, 0, 0, chains.round_trips.shape[0], arrived)
    store(chains.cold_last, a, inverse(zeros()))
    store(chains.cold_last, 2 * last + a, zeros())


@kernel
def temper(samples, ladder, chains, first_round, n_rounds, n_sweeps, measure, overlap_every):
    """Rounds of `n_sweeps` sweeps, energies, and one exchange step of every second pair.

    Rounds are numbered from `first_round`; their parity decides which pairs exchange. With
    `measure` true, energies are recorded every round and overlaps every `overlap_every` rounds.
    """
    n_temperatures = chains.spins.shape[0]
    for number in range(first_round, first_round + n_rounds):
        for t in range(n_temperatures):
            sweep(samples, ladder, chains, t, n_sweeps)
            for a in range(2):
                count_unsatisfied(samples, chains, t, a)
                keep_lowest(chains, t, a)
                if measure:
                    add_energy(chains, t, a)
            if measure and number % overlap_every == 0:
                add_overlap(samples, chains, t)
        for a in range(2):
            for t in range(number % 2, n_temperatures - 1, 2):
                exchange(samples, ladder, chains, t, a)
            if n_temperatures > 1:
                count_round_trips(chains, a)
