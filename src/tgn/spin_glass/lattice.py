"""The Edwards-Anderson spin glass on cubic boxes, for many disorder samples at once.

``H = - sum over bonds J[i, j] s[i] s[j]`` with Ising spins ``s = +-1`` on the sites of a box of
Lx x Ly x Lz, and couplings between nearest neighbours that are +-1 with equal probability or
Gaussian with variance 1. Energies and temperatures are in units of the coupling (k = 1).

Source: Edwards and Anderson 1975.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Disorder: TypeAlias = Literal["bimodal", "gaussian"]

# Gaussian couplings are rounded to multiples of this. It changes their variance by 1e-7, and every
# field and energy becomes an exact number, whatever the order of summation.
UNIT = 2.0**-10


@dataclass(frozen=True, eq=False)
class EdwardsAnderson:
    """Couplings of `n_samples` disorder samples on one lattice.

    Site (x, y, z) has the index ``(x * Ly + y) * Lz + z``.

    Parameters
    ----------
    couplings : array, shape (samples, Lx, Ly, Lz, 3)
        Coupling of each site to the next one along x, y and z. In an open box those that would
        leave it must be 0. Kept as float32.
    periodic : bool
        Whether the box closes on itself. A periodic side of 2 would count its bonds twice and is
        refused.

    Raises
    ------
    ValueError
        If `couplings` has another shape, a side below 2 (3 if `periodic`), no sample, values
        that are not finite, or a bond that leaves an open box.

    Examples
    --------
    >>> ferromagnet = EdwardsAnderson(np.ones((1, 4, 4, 4, 3)))
    >>> ferromagnet.energy(np.ones((1, 64))) / ferromagnet.n_sites
    array([-3.])
    """

    couplings: NDArray[np.float32]
    periodic: bool = True

    def __post_init__(self) -> None:
        couplings: NDArray[np.float32] = np.asarray(self.couplings, dtype=np.float32)
        if couplings.ndim != 5 or couplings.shape[-1] != 3:
            raise ValueError(
                f"couplings must have shape (samples, Lx, Ly, Lz, 3), got {couplings.shape}"
            )
        least = 3 if self.periodic else 2
        if couplings.shape[0] < 1 or min(couplings.shape[1:4]) < least:
            raise ValueError(
                f"couplings need at least one sample and sides of at least {least} in "
                f"{'a periodic' if self.periodic else 'an open'} box, got {couplings.shape}"
            )
        if not np.isfinite(couplings).all():
            raise ValueError("couplings must be finite")
        x, y, z = np.moveaxis(couplings, -1, 0)
        if not self.periodic and (x[:, -1].any() or y[:, :, -1].any() or z[..., -1].any()):
            raise ValueError("couplings that leave an open box must be 0")
        object.__setattr__(self, "couplings", couplings)

    @classmethod
    def draw(
        cls,
        side: int | tuple[int, int, int],
        n_samples: int,
        *,
        disorder: Disorder = "bimodal",
        seed: int | np.random.SeedSequence,
        periodic: bool = True,
    ) -> EdwardsAnderson:
        """Random couplings, each sample from a stream of its own.

        Sample k depends on the seed and k alone, so more samples leave the first ones as they
        were.

        Parameters
        ----------
        side : int or three ints
            L of a cube, or the three sides of a box.
        n_samples : int
        disorder : {"bimodal", "gaussian"}
            +-1 with probability 1/2 each, or the standard normal, rounded to multiples of `UNIT`
            (an exact grid for integer kernels, far below any thermal scale).
        seed : int or SeedSequence

        Raises
        ------
        ValueError
            If `side` is below 2 (3 if `periodic`), `n_samples` below 1, or `disorder` unknown.
        """
        shape = (side, side, side) if isinstance(side, int | np.integer) else tuple(side)
        least = 3 if periodic else 2
        if len(shape) != 3 or min(shape) < least:
            raise ValueError(
                f"side must be one or three integers of at least {least} in "
                f"{'a periodic' if periodic else 'an open'} box, got {side}"
            )
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}")
        if disorder not in get_args(Disorder):
            raise ValueError(f"disorder must be one of {get_args(Disorder)}, got {disorder!r}")
        couplings = np.empty((n_samples, *shape, 3), dtype=np.float32)
        for sample, stream in zip(couplings, streams(seed, n_samples), strict=True):
            rng = np.random.default_rng(stream)
            if disorder == "bimodal":
                sample[...] = 2 * rng.integers(2, size=sample.shape, dtype=np.int8) - 1
            else:
                sample[...] = np.round(rng.standard_normal(sample.shape) / UNIT) * UNIT
        if not periodic:
            for axis in range(3):
                np.moveaxis(couplings[..., axis], 1 + axis, 0)[-1] = 0
        return cls(couplings, periodic)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Lx, Ly, Lz)"""
        return self.couplings.shape[1:4]

    @property
    def n_samples(self) -> int:
        return self.couplings.shape[0]

    @property
    def n_sites(self) -> int:
        return int(np.prod(self.shape))

    @property
    def n_bonds(self) -> int:
        return int(self.coordination.sum()) // 2

    @cached_property
    def bimodal(self) -> bool:
        """Whether every coupling in the box is +1 or -1."""
        inside = self.bonds[:, self.neighbours[:, ::2] != np.arange(self.n_sites)[:, None]]
        return bool((np.abs(inside) == 1).all())

    @cached_property
    def on_grid(self) -> bool:
        """Whether couplings are multiples of `UNIT` and every field fits 16 bits in that unit."""
        grid = self.couplings / UNIT
        largest = np.abs(self.neighbour_couplings).sum(axis=-1).max() / UNIT
        return bool((grid == np.round(grid)).all() and largest < 2**15)

    @property
    def bonds(self) -> NDArray[np.float32]:
        """Couplings by site index, shape (samples, N, 3)."""
        return self.couplings.reshape(self.n_samples, self.n_sites, 3)

    @cached_property
    def neighbours(self) -> NDArray[np.uint32]:
        """Next and previous site along x, y and z, shape (N, 6); the site itself at a wall."""
        sites = np.arange(self.n_sites, dtype=np.uint32).reshape(self.shape)
        table = np.empty((*self.shape, 6), dtype=np.uint32)
        for axis, length in enumerate(self.shape):
            for column, step in ((2 * axis, 1), (2 * axis + 1, -1)):
                index = np.arange(length) + step
                index = index % length if self.periodic else index.clip(0, length - 1)
                table[..., column] = sites.take(index, axis=axis)
        return table.reshape(-1, 6)

    @cached_property
    def incoming(self) -> NDArray[np.uint32]:
        """Site whose bond along x, y and z leads here, shape (N, 3); at a wall one without bond."""
        sites = np.arange(self.n_sites, dtype=np.uint32).reshape(self.shape)
        return np.stack([np.roll(sites, 1, axis).ravel() for axis in range(3)], axis=1)

    @cached_property
    def coordination(self) -> NDArray[np.uint32]:
        """Number of neighbours of each site, shape (N,)."""
        own = np.arange(self.n_sites)[:, None]
        return (self.neighbours != own).sum(axis=1).astype(np.uint32)

    @cached_property
    def sweep_order(self) -> NDArray[np.uint32]:
        """Even sublattice, then odd, shape (N,): neighbours are seldom updated in a row."""
        parity = np.indices(self.shape).sum(axis=0).ravel() % 2
        return np.argsort(parity, kind="stable").astype(np.uint32)

    @cached_property
    def neighbour_couplings(self) -> NDArray[np.float32]:
        """Coupling to each of `neighbours`, shape (samples, N, 6); 0 at a wall."""
        table = np.empty((*self.bonds.shape[:2], 6), dtype=np.float32)
        wall = self.neighbours == np.arange(self.n_sites)[:, None]
        for axis in range(3):
            table[..., 2 * axis] = self.bonds[..., axis]
            table[..., 2 * axis + 1] = self.bonds[:, self.neighbours[:, 2 * axis + 1], axis]
        table[:, wall] = 0
        return table

    def energy(self, spins: ArrayLike) -> NDArray[np.float64]:
        """Energy of spin configurations.

        Parameters
        ----------
        spins : array of +-1, shape (..., samples, N)

        Returns
        -------
        array, shape (..., samples)
        """
        spins = self._check_spins(spins)
        energy = np.zeros(spins.shape[:-1])
        for axis in range(3):
            pairs = spins * spins[..., self.neighbours[:, 2 * axis]]
            energy -= np.einsum("...i,...i->...", self.bonds[..., axis], pairs, dtype=np.float64)
        return energy

    def local_fields(self, spins: ArrayLike) -> NDArray[np.float64]:
        """``sum over neighbours J s``; flipping spin i costs ``2 s[i] field[i]``.

        Parameters
        ----------
        spins : array of +-1, shape (..., samples, N)

        Returns
        -------
        array, shape (..., samples, N)
        """
        spins = self._check_spins(spins)
        fields = np.zeros(spins.shape)
        for column in range(6):
            fields += self.neighbour_couplings[..., column] * spins[..., self.neighbours[:, column]]
        return fields

    def gauge_transformed(self, signs: ArrayLike) -> EdwardsAnderson:
        """The model with ``J[i, j] signs[i] signs[j]``: energies of ``signs * s`` are the old ones.

        Parameters
        ----------
        signs : array of +-1, shape (samples, N)
        """
        signs = self._check_spins(signs)
        next_sites = self.neighbours[:, ::2]
        bonds = self.bonds * signs[..., None] * signs[..., next_sites]
        return EdwardsAnderson(bonds.reshape(self.couplings.shape), self.periodic)

    def _check_spins(self, spins: ArrayLike) -> NDArray:
        spins = np.asarray(spins)
        if spins.shape[-2:] != (self.n_samples, self.n_sites):
            raise ValueError(
                f"spins must have shape (..., {self.n_samples}, {self.n_sites}), got {spins.shape}"
            )
        if not (np.abs(spins) == 1).all():
            raise ValueError("spins must be +1 or -1")
        return spins.astype(np.float64)


def streams(seed: int | np.random.SeedSequence, count: int) -> list[np.random.SeedSequence]:
    """Independent seeds; unlike `SeedSequence.spawn`, asking twice gives the same ones."""
    root = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    return [
        np.random.SeedSequence(root.entropy, spawn_key=(*root.spawn_key, k)) for k in range(count)
    ]
