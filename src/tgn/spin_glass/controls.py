"""Arms that any thermodynamic method must beat: random configurations and descents from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tgn.kernels import quench as kernels
from tgn.spin_glass.arms import check_updates, random_state
from tgn.spin_glass.lattice import EdwardsAnderson, streams

MANY = np.iinfo(np.int64).max


@dataclass(frozen=True)
class SearchState:
    """One search for each disorder sample."""

    model: EdwardsAnderson
    searches: Sequence[kernels.Search]

    @property
    def lowest_energy(self) -> NDArray[np.float64]:
        """Least energy seen, shape (samples,); infinite before the first configuration."""
        return np.array([search.lowest[0] for search in self.searches])

    @property
    def updates(self) -> NDArray[np.int64]:
        """Spins drawn or visited, shape (samples,)."""
        return np.array([search.counts[1] for search in self.searches])

    @property
    def acceptance(self) -> NDArray[np.float64]:
        """Flipped share of the spins visited in descents, shape (samples,); NaN without any."""
        counts = np.array([search.counts for search in self.searches], dtype=np.float64)
        tried = counts[:, 1] - counts[:, 0] * self.model.n_sites
        return np.divide(counts[:, 2], tried, out=np.full(len(tried), np.nan), where=tried > 0)


class _Search:
    """New configurations for as long as the budget lasts."""

    descending: ClassVar[bool]
    most_starts: ClassVar[int] = MANY

    def start(self, model: EdwardsAnderson, seed: int | np.random.SeedSequence) -> SearchState:
        """Nothing drawn yet; each sample has a random stream of its own."""
        return SearchState(
            model,
            [
                kernels.Search(
                    spins=np.ones(model.n_sites, dtype=np.int8),
                    fields=np.empty(model.n_sites, dtype=np.float32),
                    random=random_state(np.random.default_rng(stream)),
                    lowest=np.array([np.inf]),
                    counts=np.zeros(3, dtype=np.int64),
                )
                for stream in streams(seed, model.n_samples)
            ],
        )

    def advance(self, state: SearchState, updates: int) -> SearchState:
        """Whole configurations (and descents) until every sample has spent `updates` in all.

        Raises
        ------
        ValueError
            If `updates` is negative.
        """
        check_updates(updates)
        model = state.model
        for couplings, search in zip(model.neighbour_couplings, state.searches, strict=True):
            kernels.restart(
                search, model.neighbours, couplings, self.most_starts, updates, self.descending
            )
        return state


@dataclass(frozen=True)
class RandomConfigurations(_Search):
    """The floor: the best of as many random configurations as the budget allows.

    The best of M has ``E / N = -c sqrt(3 / N)`` with c the expected maximum of M normal variates
    (for couplings of variance 1).
    """

    descending = False


@dataclass(frozen=True)
class GreedyQuench(_Search):
    """A single random configuration, swept at zero temperature until no flip lowers the energy."""

    descending = True
    most_starts = 1


@dataclass(frozen=True)
class RandomRestarts(_Search):
    """Greedy quenches from new random configurations for as long as the budget lasts."""

    descending = True
