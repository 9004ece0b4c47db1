"""Searches without temperature: random configurations, with or without a descent from each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tgn.kernels.compiling import kernel
from tgn.kernels.ising import flip, settle, uniform

ROUNDING = 1e-5  # a field this small may be zero: flipping back and forth would never end


class Search(NamedTuple):
    """State and records of one sample."""

    spins: NDArray[np.int8]
    """+-1, (N,)"""
    fields: NDArray[np.float32]
    """(N,)"""
    random: NDArray[np.uint64]
    """State of xoroshiro128+, (2,)."""
    lowest: NDArray[np.float64]
    """Least energy seen, (1,)."""
    counts: NDArray[np.int64]
    """Configurations drawn, spins visited, spins flipped, (3,)."""


@kernel
def descend(search, neighbours, couplings):
    """Sweep at zero temperature, in the order of the sites, until no flip lowers the energy."""
    spins, fields = search.spins, search.fields
    moving = True
    while moving:
        moving = False
        for i in range(spins.size):
            if spins[i] * fields[i] < -ROUNDING:
                flip(spins, fields, neighbours, couplings, i)
                search.counts[2] += 1
                moving = True
        search.counts[1] += spins.size


@kernel
def restart(search, neighbours, couplings, n_starts, n_updates, descending):
    """New random configurations until `n_starts` or `n_updates` in all are reached."""
    spins, fields = search.spins, search.fields
    while search.counts[0] < n_starts and search.counts[1] < n_updates:
        for i in range(spins.size):
            spins[i] = 1 if uniform(search.random) < 0.5 else -1
        energy = settle(spins, fields, neighbours, couplings)
        search.counts[0] += 1
        search.counts[1] += spins.size
        if descending:
            descend(search, neighbours, couplings)
            energy = settle(spins, fields, neighbours, couplings)
        search.lowest[0] = min(search.lowest[0], energy)
