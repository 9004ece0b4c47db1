"""The published arms of the spin-glass figure, defects kept: they show what their curves are.

All act on the continuous spins of `tgn.spin_glass.langevin`. The defects:

- the gradient is clipped to norm 1 over the *whole batch* of walkers of a sample, so that a step
  moves 8 N coordinates by at most 0.01 together, while the noise is 0.045 for each: nearly pure
  Brownian motion. In the tempering, hot replicas shrink the gradient of cold ones;
- the attention scores ``50 (|g_i| - |g_j|)`` hold a term that is constant along a softmax row, so
  every row of weights is the same, and every spin is pulled to one and the same number;
- exchanges use the energy of the continuous spins, the score that of their signs.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from tgn.spin_glass.langevin import (
    AXES,
    Array,
    SoftDynamics,
    SoftState,
    gradient,
    normal,
    soft_energy,
)

CLIP = 1.0
SHARPNESS = 50.0
PULL = 50.0


def clipped(slope: Array) -> Array:
    """`slope` scaled so that its norm over all walkers of a sample is at most 1."""
    axes = tuple(range(1, slope.ndim))
    norm = np.sqrt(np.square(slope).sum(axis=axes, keepdims=True, dtype=np.float64))
    return slope * np.minimum(1, CLIP / np.maximum(norm, 1e-12)).astype(np.float32)


def attention_target(spins: Array, slope: Array) -> Array:
    """What the published attention pulls each spin to, in O(N).

    The softmax over j of ``50 (|g_i| - |g_j|)`` does not depend on i. All N rows of weights are
    one, proportional to ``exp(-50 |g_j|)``, and the target is one number for a configuration:
    the mean of the spins, weighted towards those that feel the least force.

    Parameters
    ----------
    spins, slope : arrays, shape (..., Lx, Ly, Lz)

    Returns
    -------
    array, shape (..., 1, 1, 1)
    """
    scores = -SHARPNESS * np.abs(slope)
    weights = np.exp(scores - scores.max(axis=AXES, keepdims=True))
    total = (weights * spins).sum(axis=AXES, keepdims=True)
    return total / weights.sum(axis=AXES, keepdims=True)


@dataclass(frozen=True)
class _Published(SoftDynamics):
    """Steps of all samples at once in numpy."""

    def _run(self, state: SoftState, n_steps: int) -> None:
        for _ in range(n_steps):
            self.step(state)
            state.record()

    @abstractmethod
    def step(self, state: SoftState) -> None:
        """Move every walker once."""

    def _move(self, state: SoftState, slope: Array, temperature: Any) -> None:
        noise = normal(state.rngs, state.spins.shape[1:])
        noise *= np.sqrt(2 * temperature * self.rate, dtype=np.float32)
        state.spins += noise - np.float32(self.rate) * slope


@dataclass(frozen=True)
class PublishedLangevin(_Published):
    """Langevin dynamics with the batch-wide clip."""

    def step(self, state: SoftState) -> None:
        slope = clipped(gradient(state.couplings, state.spins))
        self._move(state, slope, self.temperature)


@dataclass(frozen=True)
class PublishedAttention(_Published):
    """Clipped Langevin dynamics with the additional force 50 (target - s)."""

    def step(self, state: SoftState) -> None:
        slope = clipped(gradient(state.couplings, state.spins))
        pull = PULL * (attention_target(state.spins, slope) - state.spins)
        self._move(state, slope - pull, self.temperature)


@dataclass(frozen=True)
class PublishedTempering(_Published):
    """Parallel tempering of clipped walkers, one at each of 8 temperatures from 0.1 to 1.5.

    Every step ends with a pass of exchanges over all neighbouring pairs. `temperature` is the
    lowest; `walkers` counts the rungs, which are spaced logarithmically.
    """

    highest: float = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature < self.highest < np.inf:
            raise ValueError(f"highest must exceed {self.temperature}, got {self.highest}")

    def step(self, state: SoftState) -> None:
        ladder = np.geomspace(self.temperature, self.highest, self.walkers)
        slope = clipped(gradient(state.couplings, state.spins))
        self._move(state, slope, ladder.reshape(-1, 1, 1, 1))
        energy = soft_energy(state.couplings, state.spins)
        margins = np.log([rng.random(self.walkers - 1) for rng in state.rngs])
        for low in range(self.walkers - 1):
            gap = 1 / ladder[low] - 1 / ladder[low + 1]
            swap = margins[:, low] < gap * (energy[:, low] - energy[:, low + 1])
            state.exchanges += np.stack([swap, np.ones_like(swap)])
            for values in (state.spins, energy):
                values[swap, low], values[swap, low + 1] = (
                    values[swap, low + 1].copy(),
                    values[swap, low].copy(),
                )
