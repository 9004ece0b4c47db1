"""Langevin steps of continuous spins, site by site, of the same class as `tgn.kernels.ising`."""

from __future__ import annotations

import numpy as np

from tgn.kernels.compiling import kernel

FOUR, ONE = np.float32(4), np.float32(1)


@kernel
def sign_energy(spins, neighbours, couplings):
    """Ising energy of the signs of one walker, shape (N,)."""
    energy = 0.0
    for i in range(spins.size):
        for k in range(0, 6, 2):  # to the next site along each axis
            j = neighbours[i, k]
            same = (spins[i] < 0) == (spins[j] < 0)
            energy -= couplings[i, k] if same else -couplings[i, k]
    return energy


@kernel
def move(spins, noise, neighbours, couplings, rate):
    """``s += noise - rate dH/ds`` for as many steps as there is noise; returns the least energy.

    All spins of a walker move at once. Energies are those of the signs after every step.

    Parameters
    ----------
    spins : float32, shape (walkers, N), changed in place
    noise : float32, shape (steps, walkers, N)
    neighbours, couplings : as in `tgn.kernels.ising`
    """
    lowest = np.inf
    slope = np.empty(spins.shape[1], dtype=np.float32)
    for step in range(noise.shape[0]):
        for w in range(spins.shape[0]):
            walker, kicks = spins[w], noise[step, w]
            for i in range(walker.size):
                s = walker[i]
                field = np.float32(0)
                for k in range(6):
                    field += couplings[i, k] * walker[neighbours[i, k]]
                slope[i] = FOUR * s * (s * s - ONE) - field
            for i in range(walker.size):
                walker[i] += kicks[i] - rate * slope[i]
            lowest = min(lowest, sign_energy(walker, neighbours, couplings))
    return lowest
