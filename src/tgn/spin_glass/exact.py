"""Exact thermodynamics of small lattices by enumeration of every state.

Of N spins, ``2**(N - 1)`` states are visited (the spin flip gives the rest): the periodic
3 x 3 x 3 lattice, 2**26 states, takes a fraction of a second. These are the yardsticks of every
sampler in this room.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tgn.kernels import enumeration
from tgn.spin_glass.lattice import EdwardsAnderson

MOST_SITES = 32


def density_of_states(
    model: EdwardsAnderson, sample: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Energy levels of one +-J sample and the number of states on each.

    Returns
    -------
    (energies, counts) : integer arrays, shape (levels,), ascending
        `counts` sum to ``2**N``.

    Raises
    ------
    ValueError
        If `model` is not +-J or has more than 32 sites, or `sample` does not exist.

    Examples
    --------
    >>> box = EdwardsAnderson.draw(2, 1, seed=0, periodic=False)
    >>> int(density_of_states(box)[1].sum()) == 2**8
    True
    """
    _check(model, sample)
    if not model.bimodal:
        raise ValueError("model must have couplings of +1 and -1")
    couplings = model.neighbour_couplings[sample]
    bits = np.uint64(1) << model.neighbours.astype(np.uint64)
    adjacent = np.bitwise_or.reduce(np.where(couplings != 0, bits, np.uint64(0)), axis=1)
    negative = np.bitwise_or.reduce(np.where(couplings < 0, bits, np.uint64(0)), axis=1)
    aligned = int((model.bonds[sample] < 0).sum())
    histogram = enumeration.unsatisfied_histogram(adjacent, negative, aligned, model.n_bonds)
    levels = np.flatnonzero(histogram)
    return 2 * levels - model.n_bonds, 2 * histogram[levels]


def ground_energy(model: EdwardsAnderson, sample: int = 0) -> float:
    """Lowest energy of one sample.

    Raises
    ------
    ValueError
        If `model` has more than 32 sites, or `sample` does not exist.
    """
    if model.bimodal:
        return float(density_of_states(model, sample)[0][0])
    return _boltzmann_sums(model, sample, 0.0, np.empty(0))[0]


def mean_energy(
    model: EdwardsAnderson, temperatures: ArrayLike, sample: int = 0
) -> NDArray[np.float64]:
    """Thermal mean of the energy of one sample at each of `temperatures`.

    Returns
    -------
    array, shape (temperatures,)

    Raises
    ------
    ValueError
        If `model` has more than 32 sites, `sample` does not exist, or a temperature is not
        positive.
    """
    temperatures = np.atleast_1d(np.asarray(temperatures, dtype=np.float64))
    if temperatures.ndim != 1 or not (temperatures > 0).all():
        raise ValueError("temperatures must be positive")
    if model.bimodal:
        energies, counts = density_of_states(model, sample)
        weights = counts * np.exp(-(energies - energies[0]) / temperatures[:, None])
        return weights @ energies / weights.sum(axis=1)
    lowest = ground_energy(model, sample)
    weight, weighted = _boltzmann_sums(model, sample, lowest, 1 / temperatures)[1]
    return weighted / weight


def _boltzmann_sums(
    model: EdwardsAnderson, sample: int, reference: float, betas: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    _check(model, sample)
    couplings = model.neighbour_couplings[sample].astype(np.float64)
    aligned = -float(model.bonds[sample].sum(dtype=np.float64))
    return enumeration.boltzmann_sums(model.neighbours, couplings, aligned, reference, betas)


def _check(model: EdwardsAnderson, sample: int) -> None:
    if model.n_sites > MOST_SITES:
        raise ValueError(
            f"model must have at most {MOST_SITES} sites to be enumerated, got {model.n_sites}"
        )
    if not 0 <= sample < model.n_samples:
        raise ValueError(f"sample must be in 0 ... {model.n_samples - 1}, got {sample}")
