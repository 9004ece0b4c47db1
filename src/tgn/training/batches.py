"""The order in which a text is read: a pure function of the seed and the step.

A resumed run needs no iterator brought back to its place: the place is the step. Arms that share
a seed read the same windows in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

Batches = Callable[[int], tuple[torch.Tensor, torch.Tensor]]


def windows_per_epoch(tokens: int, context: int) -> int:
    """Windows of ``context`` inputs and as many targets that every epoch reads.

    One window of a longer text is given up, so that the cut may start at any offset.

    Raises
    ------
    ValueError
        If the text has no ``context + 1`` tokens.
    """
    if context < 1:
        raise ValueError(f"context must be at least 1, got {context}")
    if tokens <= context:
        raise ValueError(
            f"the text has {tokens} tokens, a window of context {context} needs {context + 1}: "
            "take a longer text or a shorter context"
        )
    return max(1, (tokens - context) // context)


def windows(tokens: NDArray, *, context: int, batch: int, seed: int) -> Batches:
    """Batches of windows, each window once an epoch, in an order of its own every epoch.

    An epoch cuts the text into windows that do not overlap, from an offset drawn anew, and
    shuffles them. Batches run on over the end of an epoch.

    Parameters
    ----------
    tokens
        Token ids, one dimension; a memory map is read window by window.
    context
        Tokens in a window.
    batch
        Windows in a batch.

    Returns
    -------
    A function of the step, from 0, that returns inputs and targets, int64, shape (batch, context);
    the targets are the inputs one token on.

    Raises
    ------
    ValueError
        If the text is shorter than one window or the batch is empty.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    count = windows_per_epoch(len(tokens), context)
    offsets = min(context, len(tokens) - count * context)

    @lru_cache(maxsize=2)  # a batch may lie in two epochs
    def starts(epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng((seed, epoch))
        return rng.integers(offsets) + context * rng.permutation(count)

    def read(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        places = (divmod(step * batch + row, count) for row in range(batch))
        firsts = [starts(epoch)[place] for epoch, place in places]
        read = np.stack([tokens[first : first + context + 1] for first in firsts])
        rows = torch.from_numpy(read.astype(np.int64))
        return rows[:, :-1].clone(), rows[:, 1:].clone()  # who masks targets keeps the inputs

    return read
