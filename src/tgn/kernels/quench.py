"""Searches without temperature: random configurations, with or without a descent from each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tgn.kernels.compiling import kernel
from tgn.kernels.ising import flip, next_word, settle

ROUNDING = 1e-5  # a field this small may be zero: flipping back and forth would never end


class Search(NamedTuple):
    """State and records of one sample."""

    spins: NDArray[np.int8]
    """+-1, (N,)"""
    fields: NDArray[np.float32]
    """(N,)"""
    random: NDArray[np.uint64]
    """Eight streams of xoroshiro128+, (2, 8), the first in use."""
    lowest: NDArray[np.float64]
    """Least energy seen, (1,)."""
    counts: NDArray[np.int64]
    """Configurations drawn, spins visited, spins flipped, (3,)."""


@kernel
def descend(search, neighbours, couplings):
    """Sweep at zero temperature, in the order of the sites, until no flip lowers the energy.

    Returns the change of energy.
    """
    spins, fields = search.spins, search.fields
    change = 0.0
    flips = 1
    while flips > 0:
        flips = 0
        for i in range(spins.size):
            half = spins[i] * fields[i]
            if half < -ROUNDING:
                change += 2 * half
                flips += 1
                flip(spins, fields, neighbours, couplings, i)
        search.counts[1] += spins.size
        search.counts[2] += flips
    return change


@kernel
def restart(search, neighbours, couplings, n_starts, n_updates, descending):
    """New random configurations until `n_starts` or `n_updates` in all are reached."""
    spins, fields = search.spins, search.fields
    while search.counts[0] < n_starts and search.counts[1] < n_updates:
        word = np.uint64(0)
        for i in range(spins.size):
            if i % 32 == 0:
                word = next_word(search.random) >> np.uint64(32)  # the upper bits are the best
            spins[i] = 1 - 2 * np.int8(word & np.uint64(1))
            word >>= np.uint64(1)
        energy = settle(spins, fields, neighbours, couplings)
        search.counts[0] += 1
        search.counts[1] += spins.size
        if descending:
            energy += descend(search, neighbours, couplings)
        search.lowest[0] = min(search.lowest[0], energy)
