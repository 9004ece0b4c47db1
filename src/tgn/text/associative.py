"""Single associative recall: one pair of key and value somewhere in noise, and a query at the end.

A sequence has T tokens of V. The last one is the key again, the label there is the value that
followed it the first time, and every other position has the label ``IGNORED``.

    inputs  4  1  7  2  6  6  3  1  7      T = 9, V = 8, key 7, value 2, distance 6
    labels  .  .  .  .  .  .  .  .  2

The key stands nowhere else, so that there is one answer: noise is drawn from the other V - 1
tokens, and so is the value. (In the published task noise can be the key, which at T = 200 and
V = 30 it is 6.6 times on average, each time with another successor.) The distance from the key to
the query is uniform over what is allowed.

An example is a function of one row of uniform numbers (:meth:`SingleRecall.from_uniforms`), so the
first examples of a seed do not depend on how many are drawn.

Source: extended TGN manuscript, figure 18.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tgn.text.recall import IGNORED, Examples

ROLES = ("query", "key", "value", "noise")


@dataclass(frozen=True)
class SingleRecall:
    """The task.

    Parameters
    ----------
    input_seq_len : int
        T, at least 3.
    vocab_size : int
        V, at least 2.
    min_distance, max_distance : int
        Least and greatest distance from the key to the query, within 2 .. T - 1; a
        ``max_distance`` of None is T - 1.

    Raises
    ------
    ValueError
        If the parameters do not fit together; says which.
    """

    input_seq_len: int = 200
    vocab_size: int = 30
    min_distance: int = 2
    max_distance: int | None = None

    def __post_init__(self) -> None:
        if self.input_seq_len < 3:
            raise ValueError(f"input_seq_len {self.input_seq_len} must be at least 3")
        if self.vocab_size < 2:
            raise ValueError(f"vocab_size {self.vocab_size} must be at least 2")
        last = self.input_seq_len - 1
        if self.max_distance is None:
            object.__setattr__(self, "max_distance", last)
        if not 2 <= self.min_distance <= self._farthest <= last:
            raise ValueError(
                f"min_distance {self.min_distance} and max_distance {self.max_distance} must "
                f"ascend within 2 .. {last}, input_seq_len less 1"
            )

    @property
    def chance(self) -> float:
        """Accuracy of guessing any token but the key."""
        return 1 / (self.vocab_size - 1)

    def draw(self, rng: np.random.Generator, num_examples: int) -> Examples:
        """Draw examples.

        Train, validation and test need generators of their own, such as
        ``default_rng([seed, 0])`` and ``default_rng([seed, 1])``.

        Returns
        -------
        inputs, labels
            Both of shape (num_examples, T); a label is a token or ``IGNORED``.
        """
        return self.from_uniforms(rng.random((num_examples, self.input_seq_len)))

    def from_uniforms(self, uniforms: NDArray[np.float64]) -> Examples:
        """Make an example of each row of T numbers in [0, 1).

        The first is for the key, the second for the distance, the others for the value and the
        noise in their order: a token of rank ``floor(u * (V - 1))`` among those that are not the
        key.

        Returns
        -------
        inputs, labels
            Both of shape (N, T).
        """
        rows = np.arange(len(uniforms))
        key = (uniforms[:, 0] * self.vocab_size).astype(np.int64)
        span = self._farthest - self.min_distance + 1
        place = (
            self.input_seq_len - 1 - self.min_distance - (uniforms[:, 1] * span).astype(np.int64)
        )

        others = (uniforms[:, 2:] * (self.vocab_size - 1)).astype(np.int64)
        others += others >= key[:, None]
        inputs = np.concatenate([others, key[:, None], key[:, None]], axis=1)
        # The key goes to its place, and what is from there on moves on by one.
        columns = np.arange(self.input_seq_len - 1)
        source = columns - (columns > place[:, None])
        source[rows, place] = self.input_seq_len - 2
        inputs[:, :-1] = np.take_along_axis(inputs, source, axis=1)
        labels = np.full_like(inputs, IGNORED)
        labels[:, -1] = inputs[rows, place + 1]
        return inputs, labels

    @property
    def _farthest(self) -> int:
        assert self.max_distance is not None  # set at the start
        return self.max_distance


def distances(inputs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Distance from the key to the query, shape (N,), of sequences (N, T)."""
    return inputs.shape[1] - 1 - (inputs == inputs[:, -1:]).argmax(axis=1)


def roles(inputs: NDArray[np.int64]) -> NDArray[np.int64]:
    """What each token is, a number among :data:`ROLES`, shape (N, T)."""
    found = np.full_like(inputs, ROLES.index("noise"))
    rows, key = np.arange(len(inputs)), inputs.shape[1] - 1 - distances(inputs)
    found[rows, key] = ROLES.index("key")
    found[rows, key + 1] = ROLES.index("value")
    found[:, -1] = ROLES.index("query")
    return found


def most_frequent(inputs: NDArray[np.int64]) -> NDArray[np.int64]:
    """The token that each sequence has most often, its last token aside, shape (N,).

    The best guess of whoever counts tokens without their order: the value has been drawn once more
    than the others.
    """
    n, tokens = len(inputs), int(inputs.max()) + 1
    codes = (np.arange(n)[:, None] * tokens + inputs).ravel()
    counts = np.bincount(codes, minlength=n * tokens).reshape(n, tokens)
    counts[np.arange(n), inputs[:, -1]] = 0
    return counts.argmax(axis=1)
