"""Exhaustive enumeration of small spin systems in Gray-code order: one flip from state to state.

A state is a 64-bit integer, bit i set where spin i is down. The last spin stays up: the other half
of the states has the same energies.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tgn.kernels.compiling import kernel


@intrinsic
def _popcount(typing, word):
    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@intrinsic
def _trailing_zeros(typing, word):
    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@kernel
def unsatisfied_histogram(adjacent, negative, n_unsatisfied, n_bonds):
    """Number of states by unsatisfied bonds, shape (n_bonds + 1,), of a +-J system.

    `adjacent` and `negative`, uint64 of shape (N,), mark the neighbours of each site and those
    joined by a negative bond; `n_unsatisfied` is the count with all spins up.
    """
    histogram = np.zeros(n_bonds + 1, dtype=np.int64)
    degrees = np.array([np.int64(_popcount(word)) for word in adjacent])
    state = np.uint64(0)
    histogram[n_unsatisfied] += 1
    for number in range(np.uint64(1), np.uint64(1) << np.uint64(adjacent.size - 1)):
        site = _trailing_zeros(number)
        unsatisfied = (state ^ negative[site]) & adjacent[site]
        count = np.int64(_popcount(unsatisfied))
        if state >> site & np.uint64(1):
            n_unsatisfied += 2 * count - degrees[site]
        else:
            n_unsatisfied += degrees[site] - 2 * count
        state ^= np.uint64(1) << site
        histogram[n_unsatisfied] += 1
    return histogram


@kernel
def boltzmann_sums(neighbours, couplings, energy, reference, betas):
    """Lowest energy, and ``sum w`` and ``sum w E`` with ``w = exp(-beta (E - reference))``.

    `couplings`, shape (N, 6), go with `neighbours`; `energy` is that with all spins up. Returns
    the lowest energy and an array of shape (2, betas).
    """
    n_sites = neighbours.shape[0]
    spins = np.ones(n_sites)
    lowest = energy
    sums = np.zeros((2, betas.size))
    for number in range(np.uint64(1), (np.uint64(1) << np.uint64(n_sites - 1)) + np.uint64(1)):
        lowest = min(lowest, energy)
        for k in range(betas.size):
            weight = np.exp(-betas[k] * (energy - reference))
            sums[0, k] += weight
            sums[1, k] += weight * energy
        site = _trailing_zeros(number)
        field = 0.0
        for k in range(6):
            field += couplings[site, k] * spins[neighbours[site, k]]
        energy += 2 * spins[site] * field
        spins[site] = -spins[site]
    return lowest, sums
