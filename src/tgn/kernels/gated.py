"""Gated population dynamics of one disorder sample; `tgn.spin_glass.gated` says why it is exact.

The inertial path is the Metropolis sweep of `tgn.kernels.ising`, which every compared arm shares.

Sources: ter Braak 2006 (moves along the difference of two other chains); Houdayer 2001 (clusters
of the overlap of two replicas).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tgn.kernels.compiling import kernel
from tgn.kernels.ising import SETTLE_EVERY, flip, margins_for, settle, sweep, uniform


class Population(NamedTuple):
    """State and records of one sample with R replicas at each of T temperatures."""

    spins: NDArray[np.int8]
    """+-1, (T, R, N)"""
    fields: NDArray[np.float32]
    """(T, R, N)"""
    energy: NDArray[np.float64]
    """(T, R)"""
    random: NDArray[np.uint64]
    """Eight streams of xoroshiro128+, (2, 8)."""
    lowest: NDArray[np.float64]
    """Least energy seen, (1,)."""
    gate: NDArray[np.float64]
    """Probability of a geometric step, (T,)."""
    flips: NDArray[np.int64]
    """Spin flips accepted and tried by sweeps, (2, T)."""
    clusters: NDArray[np.int64]
    """Cluster flips accepted and tried by geometric steps, (2, T)."""
    updates: NDArray[np.int64]
    """Spins visited by sweeps; compared for overlaps; visited by cluster moves, (3,)."""
    rounds: NDArray[np.int64]
    """(1,)"""


class Lattice(NamedTuple):
    """The lattice and one sample of its couplings."""

    neighbours: NDArray[np.uint32]
    """(N, 6), the site itself where there is none."""
    couplings: NDArray[np.float32]
    """(N, 6), to each neighbour."""


class Settings(NamedTuple):
    """Parameters of the dynamics."""

    temperatures: NDArray[np.float64]
    """Coldest first, (T,)."""
    overlap_weight: float
    energy_weight: float
    ceiling: float
    """Largest gate."""
    steps: int
    """Steps of every replica between exchanges."""
    burn_in: int
    """Rounds during which the gate adapts."""
    exchange: bool


@kernel
def log_probability(overlaps, energies, own, partner, overlap_weight, energy_weight, n_sites):
    """Logarithm of the softmax by which replica `own` chooses `partner` among all others."""
    scores = np.empty(overlaps.size)
    highest = -np.inf
    for k in range(overlaps.size):
        q = overlaps[k] / n_sites
        scores[k] = overlap_weight * q * q - energy_weight * energies[k] / np.sqrt(n_sites)
        if k != own:
            highest = max(highest, scores[k])
    total = 0.0
    for k in range(overlaps.size):
        if k != own:
            total += np.exp(scores[k] - highest)
    return scores[partner] - highest - np.log(total)


@kernel
def overlap(first, second):
    """``sum s s'`` of two configurations."""
    total = np.int32(0)
    for i in range(first.size):
        total += np.int32(first[i] * second[i])
    return total


@kernel
def choose_partner(overlaps, energies, own, settings, n_sites, random):
    """Draw a partner from the softmax; returns it with the logarithm of its probability."""
    left = uniform(random)
    partner = (own + 1) % overlaps.size
    logarithm = 0.0
    for step in range(1, overlaps.size):
        partner = (own + step) % overlaps.size
        logarithm = log_probability(
            overlaps,
            energies,
            own,
            partner,
            settings.overlap_weight,
            settings.energy_weight,
            n_sites,
        )
        left -= np.exp(logarithm)
        if left < 0:
            break
    return partner, logarithm


@kernel
def grow(seed, differs, neighbours, couplings, members):
    """Collect the connected set of marked sites around `seed`, unmark it, and return its size."""
    members[0] = seed
    differs[seed] = False
    size, done = 1, 0
    while done < size:
        i = members[done]
        done += 1
        for k in range(6):
            j = neighbours[i, k]
            if differs[j] and couplings[i, k] != 0:
                differs[j] = False
                members[size] = j
                size += 1
    return size


@kernel
def flip_cost(cluster, inside, spins, fields, neighbours, couplings):
    """Energy of flipping the sites of `cluster`: that of its surface, twice.

    `inside` is all False before and after.
    """
    cost = 0.0
    for i in cluster:
        inside[i] = True
    for i in cluster:
        outer = np.float64(fields[i])
        for k in range(6):
            j = neighbours[i, k]
            if inside[j]:
                outer -= couplings[i, k] * spins[j]
        cost += 2 * spins[i] * outer
    for i in cluster:
        inside[i] = False
    return cost


@kernel
def geometric_step(population, t, own, lattice, settings):
    """Offer to one replica every cluster in which its partner differs from a third replica."""
    neighbours, couplings = lattice
    spins, energies = population.spins[t], population.energy[t]
    n_replicas, n_sites = spins.shape
    beta = 1 / settings.temperatures[t]
    random = population.random

    overlaps = np.empty(n_replicas, dtype=np.int64)
    for k in range(n_replicas):
        overlaps[k] = overlap(spins[own], spins[k])
    partner, logarithm = choose_partner(overlaps, energies, own, settings, n_sites, random)
    # Any replica but these two, uniformly.
    third = np.int64(uniform(random) * (n_replicas - 2))
    for taken in (min(own, partner), max(own, partner)):
        third += third >= taken
    sign = 1 if overlap(spins[partner], spins[third]) >= 0 else -1
    population.updates[1] += n_replicas * n_sites

    differs = np.empty(n_sites, dtype=np.bool_)
    for i in range(n_sites):
        differs[i] = spins[partner, i] * spins[third, i] != sign
    inside = np.zeros(n_sites, dtype=np.bool_)
    members = np.empty(n_sites, dtype=np.uint32)
    changed = np.empty(n_replicas, dtype=np.int64)
    population.updates[2] += n_sites
    for seed in range(n_sites):
        if not differs[seed]:
            continue
        cluster = members[: grow(seed, differs, neighbours, couplings, members)]
        population.updates[2] += cluster.size
        population.clusters[1, t] += 1
        cost = flip_cost(
            cluster, inside, spins[own], population.fields[t, own], neighbours, couplings
        )
        # Past this bound the softmax, whose logarithm is negative, cannot save the move.
        threshold = np.log(uniform(random))
        if -beta * cost - logarithm < threshold:
            continue
        population.updates[1] += n_replicas * cluster.size
        for k in range(n_replicas):
            shared = 0
            for i in cluster:
                shared += spins[own, i] * spins[k, i]
            changed[k] = overlaps[k] - 2 * shared
        reverse = log_probability(
            changed,
            energies,
            own,
            partner,
            settings.overlap_weight,
            settings.energy_weight,
            n_sites,
        )
        if -beta * cost + reverse - logarithm < threshold:
            continue
        population.clusters[0, t] += 1
        for i in cluster:
            flip(spins[own], population.fields[t, own], neighbours, couplings, i)
        overlaps[:] = changed
        logarithm = reverse
        energies[own] += cost
        population.lowest[0] = min(population.lowest[0], energies[own])


@kernel
def inertial_step(population, t, own, lattice, settings, margins):
    """One Metropolis sweep of one replica."""
    neighbours, couplings = lattice
    spins, fields = population.spins[t, own], population.fields[t, own]
    change, flips = sweep(
        spins,
        fields,
        neighbours,
        couplings,
        settings.temperatures[t],
        population.random,
        margins,
    )
    population.energy[t, own] += change
    population.lowest[0] = min(population.lowest[0], population.energy[t, own])
    population.flips[0, t] += flips
    population.flips[1, t] += spins.size
    population.updates[0] += spins.size


@kernel
def exchange(population, t, settings):
    """Try to exchange every replica at temperature t with its like at t + 1."""
    energy = population.energy
    gap = 1 / settings.temperatures[t] - 1 / settings.temperatures[t + 1]
    for r in range(energy.shape[1]):
        cost = gap * (energy[t + 1, r] - energy[t, r])
        if cost > 0 and uniform(population.random) >= np.exp(-cost):
            continue
        energy[t, r], energy[t + 1, r] = energy[t + 1, r], energy[t, r]
        for i in range(population.spins.shape[2]):
            spin, field = population.spins[t, r, i], population.fields[t, r, i]
            population.spins[t, r, i] = population.spins[t + 1, r, i]
            population.fields[t, r, i] = population.fields[t + 1, r, i]
            population.spins[t + 1, r, i] = spin
            population.fields[t + 1, r, i] = field


@kernel
def evolve(population, lattice, settings, n_rounds, n_updates):
    """Rounds of gated steps and exchanges, until `n_rounds` or `n_updates` in all are reached."""
    n_temperatures, n_replicas, n_sites = population.spins.shape
    neighbours, couplings = lattice
    margins = margins_for(n_sites)
    while population.rounds[0] < n_rounds and population.updates.sum() < n_updates:
        for t in range(n_temperatures):
            if population.rounds[0] % SETTLE_EVERY == 0:
                for r in range(n_replicas):
                    population.energy[t, r] = settle(
                        population.spins[t, r], population.fields[t, r], neighbours, couplings
                    )
            for _ in range(settings.steps):
                for r in range(n_replicas):
                    gate = population.gate[t]
                    if gate > 0 and uniform(population.random) < gate:
                        geometric_step(population, t, r, lattice, settings)
                    else:
                        inertial_step(population, t, r, lattice, settings, margins)
        if settings.exchange:
            for t in range(population.rounds[0] % 2, n_temperatures - 1, 2):
                exchange(population, t, settings)
        population.rounds[0] += 1
        if population.rounds[0] <= settings.burn_in:
            for t in range(n_temperatures):
                accepted, tried = population.flips[:, t]
                population.gate[t] = settings.ceiling * (1 - accepted / max(tried, 1))
