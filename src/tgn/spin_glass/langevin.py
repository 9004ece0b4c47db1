"""The continuous relaxation of the published experiment, with its Langevin dynamics corrected.

    H(s) = - sum over bonds J[i, j] s[i] s[j] + sum over sites (s[i]**2 - 1)**2

Spins are real numbers in a double well. The score is that of the Ising model: the energy of the
signs. Walkers are updated with ``s -= rate dH/ds + sqrt(2 T rate) noise``; the published rules,
which also clip the gradient, stand in `tgn.spin_glass.as_published`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tgn.kernels import langevin as kernels
from tgn.spin_glass.arms import check_updates
from tgn.spin_glass.lattice import EdwardsAnderson, streams

Array = NDArray[np.float32]
AXES = (-3, -2, -1)  # of the box
NOISE = 2**15  # numbers drawn at once: they stay in cache


@dataclass
class SoftState:
    """Continuous spins of `walkers` replicas of each sample."""

    model: EdwardsAnderson
    spins: Array
    """Shape (samples, walkers, Lx, Ly, Lz)."""
    rngs: Sequence[np.random.Generator]
    """One for each sample."""
    lowest_energy: NDArray[np.float64] = field(init=False)
    """Least energy of the signs over walkers and time, shape (samples,)."""
    steps: int = 0
    exchanges: NDArray[np.int64] = field(init=False)
    """Accepted and tried, shape (2, samples)."""

    def __post_init__(self) -> None:
        self.couplings: Array = np.moveaxis(self.model.couplings, -1, 0)[:, :, None].copy()
        self.lowest_energy = np.full(self.model.n_samples, np.inf)
        self.exchanges = np.zeros((2, self.model.n_samples), dtype=np.int64)
        self.record()

    @property
    def updates(self) -> NDArray[np.int64]:
        """Coordinates moved, all walkers together, shape (samples,)."""
        return np.full(self.model.n_samples, self.steps * self.spins[0].size)

    @property
    def acceptance(self) -> NDArray[np.float64]:
        """Accepted share of exchanges, shape (samples,); NaN where there are none."""
        accepted, tried = self.exchanges.astype(np.float64)
        return np.divide(accepted, tried, out=np.full(len(tried), np.nan), where=tried > 0)

    def record(self) -> None:
        """Compare the energy of the present signs with the least so far."""
        signs = np.where(self.spins < 0, np.float32(-1), np.float32(1))
        energy = bond_energy(self.couplings, signs).min(axis=1)
        np.minimum(self.lowest_energy, energy, out=self.lowest_energy)


def bond_energy(couplings: Array, spins: Array) -> NDArray[np.float64]:
    """``-sum J s s'``, shape (samples, walkers).

    Parameters
    ----------
    couplings : array, shape (3, samples, 1, Lx, Ly, Lz)
        To the next site along each axis, 0 at a wall.
    spins : array, shape (samples, walkers, Lx, Ly, Lz)
    """
    field = sum(j * np.roll(spins, -1, axis) for j, axis in zip(couplings, AXES, strict=True))
    return -np.einsum("swxyz,swxyz->sw", spins, field, dtype=np.float64)


def soft_energy(couplings: Array, spins: Array) -> NDArray[np.float64]:
    """H of the continuous spins, shape (samples, walkers); arguments as `bond_energy`."""
    wells = np.square(np.square(spins) - 1).sum(axis=AXES, dtype=np.float64)
    return bond_energy(couplings, spins) + wells


def gradient(couplings: Array, spins: Array) -> Array:
    """dH/ds, shape of `spins`; arguments as `bond_energy`."""
    slope = 4 * spins * (np.square(spins) - 1)
    for j, axis in zip(couplings, AXES, strict=True):
        slope -= j * np.roll(spins, -1, axis)
        slope -= np.roll(j * spins, 1, axis)
    return slope


@dataclass(frozen=True)
class SoftDynamics(ABC):
    """Independent walkers in the double wells, all of them moved in every step.

    Parameters
    ----------
    walkers : int
        Replicas of each sample.
    rate : float
        Time step.
    temperature : float
        In units of the coupling.

    Raises
    ------
    ValueError
        If there is no walker, or the rate or temperature is not positive.
    """

    walkers: int = 8
    rate: float = 0.01
    temperature: float = 0.1

    def __post_init__(self) -> None:
        if self.walkers < 1:
            raise ValueError(f"walkers must be at least 1, got {self.walkers}")
        for name in ("rate", "temperature"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    def start(self, model: EdwardsAnderson, seed: int | np.random.SeedSequence) -> SoftState:
        """Standard normal spins; each sample has a random stream of its own."""
        rngs = [np.random.default_rng(stream) for stream in streams(seed, model.n_samples)]
        return SoftState(model, normal(rngs, (self.walkers, *model.shape)), rngs)

    def advance(self, state: SoftState, updates: int) -> SoftState:
        """Whole steps until every sample has spent `updates` in all.

        Raises
        ------
        ValueError
            If `updates` is negative.
        """
        check_updates(updates)
        n_steps = -(-updates // state.spins[0].size) - state.steps
        if n_steps > 0:
            self._run(state, n_steps)
            state.steps += n_steps
        return state

    @abstractmethod
    def _run(self, state: SoftState, n_steps: int) -> None:
        """Move every walker `n_steps` times and keep the record of the least energy."""


@dataclass(frozen=True)
class Langevin(SoftDynamics):
    """Langevin dynamics at one temperature, the gradient as it is."""

    def _run(self, state: SoftState, n_steps: int) -> None:
        amplitude = np.float32(np.sqrt(2 * self.temperature * self.rate))
        model = state.model
        flat = state.spins.reshape(model.n_samples, self.walkers, model.n_sites)
        most = max(1, NOISE // flat[0].size)
        for k, (spins, rng) in enumerate(zip(flat, state.rngs, strict=True)):
            for first in range(0, n_steps, most):
                shape = (min(most, n_steps - first), *spins.shape)
                noise = amplitude * rng.standard_normal(shape, dtype=np.float32)
                lowest = kernels.move(
                    spins,
                    noise,
                    model.neighbours,
                    model.neighbour_couplings[k],
                    np.float32(self.rate),
                )
                state.lowest_energy[k] = min(state.lowest_energy[k], lowest)


def normal(rngs: Sequence[np.random.Generator], shape: tuple[int, ...]) -> Array:
    """Standard normal numbers, shape (samples, ...), from the stream of each sample."""
    return np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in rngs])
