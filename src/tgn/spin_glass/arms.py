"""What every arm of the spin-glass comparison has in common: state in, state out, work counted."""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tgn.kernels.vectors import WORDS, aligned
from tgn.spin_glass.lattice import EdwardsAnderson


class State(Protocol):
    """Where the dynamics of many disorder samples stand."""

    @property
    def lowest_energy(self) -> NDArray[np.float64]:
        """Least Ising energy seen so far, shape (samples,), in units of the coupling."""
        ...

    @property
    def updates(self) -> NDArray[np.int64]:
        """Spins visited so far for each sample, all walkers and overheads together, (samples,)."""
        ...

    @property
    def acceptance(self) -> NDArray[np.float64]:
        """Accepted share of the local moves of each sample, (samples,); NaN where none exist."""
        ...


S = TypeVar("S", bound=State)


class Arm(Protocol[S]):
    """A method: its settings, a first state, and the way from one state to a later one."""

    def start(self, model: EdwardsAnderson, seed: int | np.random.SeedSequence) -> S:
        """A random first state of every sample of `model`."""
        ...

    def advance(self, state: S, updates: int) -> S:
        """`state`, changed in place, once each sample has spent at least `updates` in all.

        The last step may overshoot by less than one round of the method. A method that has come
        to its end stops earlier.
        """
        ...


def check_updates(updates: int) -> None:
    """Raise ValueError unless `updates` is a count."""
    if updates < 0:
        raise ValueError(f"updates must not be negative, got {updates}")


def random_state(rng: np.random.Generator) -> NDArray[np.uint64]:
    """First state of the kernels' random streams, shape (2, 8)."""
    state = aligned((2, WORDS))
    state[...] = rng.integers(1, 2**64, size=state.shape, dtype=np.uint64)
    return state


def random_spins(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Independent spins of +-1."""
    return 2 * rng.integers(2, size=shape, dtype=np.int8) - 1
