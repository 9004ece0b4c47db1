"""The published ListOps generator, as far as its distribution: what "90 to 100 %" was measured on.

An expression is a digit with probability 0.3, else an operator with two to four arguments of the
same kind, down to ten levels. An operator has 2.1 operators among its arguments on average, so
families of expressions that start to grow do not end before the last level, and are then of
thousands of tokens; those longer than the context of 2048 are drawn again. What is left is mostly
tiny, a bare digit more often than anything else.

An operator is counted as three tokens, brackets and name: ten digits, three names, two brackets and
padding make up the published vocabulary of 16.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tgn.text.listops import OPERATORS, grow, levels

DIGIT = 0.3  # probability
DEEPEST = 10
ROOM = 2048
AT_ONCE = 100  # expressions, of up to some hundred thousand tokens each


class Shapes(NamedTuple):
    """Depth and length in tokens of expressions in the order drawn, arrays of shape (N,)."""

    depths: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @property
    def accepted(self) -> NDArray[np.bool_]:
        """Which fit into the context."""
        return self.lengths <= ROOM


def published_listops(rng: np.random.Generator, num_examples: int) -> Shapes:
    """Draw expressions as published and measure them, those that are too long as well."""
    found = []
    for first in range(0, num_examples, AT_ONCE):
        count = min(AT_ONCE, num_examples - first)
        limits = np.full(count, DEEPEST)
        tokens, owner = grow(rng, limits, nested=1 - DIGIT, spine=False)
        # One row: every bracket is closed before the next expression begins.
        deep = levels(tokens[None])[0]
        starts = np.searchsorted(owner, np.arange(count))
        # a bracket's name is a token of its own
        sizes = np.bincount(owner, minlength=count) + np.bincount(
            owner, np.isin(tokens, OPERATORS), minlength=count
        ).astype(np.int64)
        found.append((np.maximum.reduceat(deep, starts), sizes))
    depths, lengths = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Shapes(depths, lengths)
