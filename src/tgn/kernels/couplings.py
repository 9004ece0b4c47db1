"""Ising spins with a dense matrix of couplings: tempering, descent, mean field.

E(s) = -1/2 sum_ij J_ij s_i s_j, with J symmetric and zero on its diagonal.

Arrays
------
couplings : float64, shape (N, N)
spins : int8, +-1
fields : float64, ``couplings @ spins``, kept up to date
random : uint64, shape (2, 8), as in :mod:`tgn.kernels.ising`; the first stream is used
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tgn.kernels.compiling import kernel
from tgn.kernels.ising import uniform

ROUNDING = 1e-9  # a field this small may be zero: flipping back and forth would never end


class Ladder(NamedTuple):
    """State of R independent systems at T inverse temperatures each."""

    spins: NDArray[np.int8]
    """(R, T, N)"""
    fields: NDArray[np.float64]
    """(R, T, N)"""
    energy: NDArray[np.float64]
    """(R, T)"""
    random: NDArray[np.uint64]
    """(2, 8)"""
    exchanged: NDArray[np.int64]
    """Accepted exchanges between neighbours, (T - 1,)."""


@kernel
def settle(couplings, spins, fields):
    """Compute the fields afresh; returns the energy."""
    n = spins.size
    energy = 0.0
    for i in range(n):
        field = 0.0
        for j in range(n):
            field += couplings[i, j] * spins[j]
        fields[i] = field
        energy -= field * spins[i]
    return energy / 2


@kernel
def flip(couplings, spins, fields, i):
    """Flip spin i and bring all fields up to date."""
    change = -2.0 * spins[i]
    spins[i] = -spins[i]
    row = couplings[i]
    for j in range(spins.size):
        fields[j] += change * row[j]


@kernel
def sweep(couplings, spins, fields, beta, random):
    """One heat-bath sweep in the order of the sites; returns the change of energy.

    Metropolis would flip every spin at infinite temperature, and never mix.
    """
    change = 0.0
    for i in range(spins.size):
        cost = 2.0 * spins[i] * fields[i]
        if uniform(random) * (1.0 + np.exp(beta * cost)) < 1.0:
            flip(couplings, spins, fields, i)
            change += cost
    return change


@kernel
def temper(couplings, betas, ladder, n_rounds, kept, samples, energies):
    """Rounds of one sweep of everything, a record, and exchanges of every second pair.

    After each round the spins at the temperatures `kept` (indices, (K,)) go to `samples`, shape
    (n_rounds, K, R, N), and all energies to `energies`, shape (n_rounds, T, R). Either may be of
    length zero: then nothing is recorded.
    """
    spins, fields, energy = ladder.spins, ladder.fields, ladder.energy
    systems, rungs = energy.shape
    for number in range(n_rounds):
        for a in range(systems):
            for t in range(rungs):
                energy[a, t] += sweep(couplings, spins[a, t], fields[a, t], betas[t], ladder.random)
            if samples.shape[0] > 0:
                for k in range(kept.size):
                    samples[number, k, a] = spins[a, kept[k]]
            if energies.shape[0] > 0:
                energies[number, :, a] = energy[a]
            for t in range(number % 2, rungs - 1, 2):
                gain = (betas[t + 1] - betas[t]) * (energy[a, t + 1] - energy[a, t])
                if gain < 0 and uniform(ladder.random) >= np.exp(gain):
                    continue
                ladder.exchanged[t] += 1
                energy[a, t], energy[a, t + 1] = energy[a, t + 1], energy[a, t]
                for i in range(spins.shape[2]):
                    spin, field = spins[a, t, i], fields[a, t, i]
                    spins[a, t, i], fields[a, t, i] = spins[a, t + 1, i], fields[a, t + 1, i]
                    spins[a, t + 1, i], fields[a, t + 1, i] = spin, field


@kernel
def descend(couplings, spins):
    """Flip spins in the order of the sites until no flip lowers the energy.

    `spins`, shape (starts, N), is changed; returns the energies, (starts,).
    """
    starts, n = spins.shape
    energies = np.empty(starts)
    fields = np.empty(n)
    for a in range(starts):
        state = spins[a]
        settle(couplings, state, fields)
        flips = 1
        while flips > 0:
            flips = 0
            for i in range(n):
                if state[i] * fields[i] < -ROUNDING:
                    flip(couplings, state, fields, i)
                    flips += 1
        energies[a] = settle(couplings, state, fields)
    return energies


@kernel
def magnetise(couplings, magnetisations, beta, tolerance, most):
    """Solve m_i = tanh(beta sum_j J_ij m_j) from where `magnetisations`, (starts, N), are.

    One site after the other, which lowers the mean-field free energy at each step. Returns how many
    starts have not settled to `tolerance` within `most` sweeps.
    """
    starts, n = magnetisations.shape
    unsettled = 0
    for a in range(starts):
        state = magnetisations[a]
        largest = np.inf
        for _ in range(most):
            largest = 0.0
            for i in range(n):
                field = 0.0
                for j in range(n):
                    field += couplings[i, j] * state[j]
                value = np.tanh(beta * field)
                largest = max(largest, abs(value - state[i]))
                state[i] = value
            if largest < tolerance:
                break
        if largest >= tolerance:
            unsettled += 1
    return unsettled
