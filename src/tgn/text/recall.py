"""Multi-query associative recall: pairs of keys and values, then queries for the values.

A sequence of T tokens begins with D pairs ``k1 v1 k2 v2 ...``, the whole list written P times: the
context, C = 2 D P tokens. What follows is a row of S = (T - C) / 2 slots of two tokens, and each
key is asked for once, as the first token of a slot. The label there is the key's value; every other
position has the label ``IGNORED``. The keys are distinct tokens of 1 .. V/2 - 1, the values of
V/2 .. V - 1. Slots are drawn one after the other without replacement, slot i (from 1) with weight
``i ** (a - 1)``: a small ``a`` asks soon, a = 1 at any time. Positions that ask nothing hold random
tokens, or 0.

    inputs  3  9  5 12  0  0  5  0  3  0  0  0      V = 16, D = 2, T = 12, no random tokens
    labels  .  .  .  .  .  . 12  .  9  .  .  .

A random token may happen to be a key of the context; it is not labelled.

An example is a function of one row of uniform numbers (:func:`Recall.from_uniforms`), so a seed
gives the same examples everywhere, and the first of them do not depend on how many are drawn.

Source: Arora, Eyuboglu et al. 2023, Zoology, arXiv 2312.04927; the names of the arguments and the
distribution are those of their code, whose random tokens do not follow the seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IGNORED = -100
AT_ONCE = 2**16  # uniform numbers drawn at once, which bounds memory

Examples = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Recall:
    """The task.

    Parameters
    ----------
    input_seq_len : int
        T, even.
    num_kv_pairs, num_passes : int
        D and P, with 2 D P + 2 D <= T.
    vocab_size : int
        V, more than T.
    power_a : float
        a, above 0.
    random_non_queries : bool
        Fill positions that ask nothing with tokens drawn uniformly from all V; else with 0.

    Raises
    ------
    ValueError
        If the parameters do not fit together; says which.
    """

    input_seq_len: int
    num_kv_pairs: int = 8
    vocab_size: int = 8192
    num_passes: int = 1
    power_a: float = 0.01
    random_non_queries: bool = True

    def __post_init__(self) -> None:
        length, pairs, passes = self.input_seq_len, self.num_kv_pairs, self.num_passes
        if pairs < 1 or passes < 1:
            raise ValueError(f"num_kv_pairs {pairs} and num_passes {passes} must be at least 1")
        if length % 2:
            raise ValueError(f"input_seq_len {length} must be even")
        if (needed := 2 * pairs * passes + 2 * pairs) > length:
            raise ValueError(
                f"input_seq_len {length} is too short: {pairs} pairs in {passes} passes, and a "
                f"slot for each query, need {needed}"
            )
        if self.vocab_size <= length:
            raise ValueError(f"vocab_size {self.vocab_size} must exceed input_seq_len {length}")
        if not 0 < self.power_a < np.inf:
            raise ValueError(f"power_a {self.power_a} must be positive and finite")

    @property
    def context(self) -> int:
        """C, tokens before the first slot."""
        return 2 * self.num_kv_pairs * self.num_passes

    @property
    def slot_weights(self) -> NDArray[np.floating]:
        """Weight of each slot, up to a factor, shape (S,)."""
        slots = (self.input_seq_len - self.context) // 2
        return np.arange(1, slots + 1) ** (self.power_a - 1)

    @property
    def uniforms(self) -> int:
        """How many uniform numbers make an example."""
        filled = self.input_seq_len - self.context if self.random_non_queries else 0
        return 2 * self.num_kv_pairs + len(self.slot_weights) + filled

    def draw(self, rng: np.random.Generator, num_examples: int) -> Examples:
        """Draw examples.

        Train, validation and test need generators of their own, such as
        ``default_rng([seed, 0])`` and ``default_rng([seed, 1])``.

        Returns
        -------
        inputs, labels
            Both of shape (num_examples, T); a label is a token or ``IGNORED``.
        """
        inputs = np.empty((num_examples, self.input_seq_len), np.int64)
        labels = np.empty_like(inputs)
        uniforms = np.empty((max(1, AT_ONCE // self.uniforms), self.uniforms))
        for first in range(0, num_examples, len(uniforms)):
            part = slice(first, first + len(uniforms))
            drawn = rng.random(out=uniforms[: len(inputs[part])])
            self._write(drawn, inputs[part], labels[part])
        return inputs, labels

    def from_uniforms(self, uniforms: NDArray[np.float64]) -> Examples:
        """Make an example of each row of numbers in [0, 1).

        A row holds D numbers for the keys, D for the values, S for the slots and, if positions
        that ask nothing are random, T - C for the random tokens after the context. The j-th key
        is the token of rank ``floor(u * n)`` among the n not drawn yet, and so with values. Slot
        i is reached at the time ``-log(1 - u) / weight``, and the queries take the slots that are
        reached first, in that order: this is drawing by weight without replacement (Efraimidis
        and Spirakis 2006).

        Parameters
        ----------
        uniforms : array, shape (N, self.uniforms)

        Returns
        -------
        inputs, labels
            Both of shape (N, T).
        """
        inputs = np.empty((len(uniforms), self.input_seq_len), np.int64)
        labels = np.empty_like(inputs)
        self._write(uniforms, inputs, labels)
        return inputs, labels

    def _write(
        self, uniforms: NDArray[np.float64], inputs: NDArray[np.int64], labels: NDArray[np.int64]
    ) -> None:
        """As :func:`from_uniforms`, in place: memory that is asked for anew costs as much time."""
        pairs, context, weights = self.num_kv_pairs, self.context, self.slot_weights
        half = self.vocab_size // 2
        parts = np.cumsum([2 * pairs, len(weights)])
        for_pairs, for_slots, for_rest = np.split(uniforms, parts, axis=1)
        left = np.tile([half - 1, self.vocab_size - half], len(uniforms))
        drawn = _without_replacement(for_pairs.reshape(-1, pairs), left).reshape(-1, 2, pairs)
        keys, values = 1 + drawn[:, 0], half + drawn[:, 1]
        times = 1 - for_slots
        np.log(times, out=times)
        times /= -weights
        queries = context + 2 * times.argsort(axis=1)[:, :pairs]

        inputs[:, 0:context:2] = np.tile(keys, self.num_passes)
        inputs[:, 1:context:2] = np.tile(values, self.num_passes)
        rest = inputs[:, context:]
        if self.random_non_queries:
            np.multiply(for_rest, self.vocab_size, out=rest, casting="unsafe")
        else:
            rest[:] = 0
        np.put_along_axis(inputs, queries, keys, axis=1)
        labels[:] = IGNORED
        np.put_along_axis(labels, queries, values, axis=1)


def _without_replacement(uniforms: NDArray[np.float64], n: NDArray[np.int64]) -> NDArray[np.int64]:
    """Distinct numbers below the row's ``n``, in random order: a draw without replacement.

    The j-th column is the rank of the j-th number among those left. Going back from the last
    draw, each draw that is undone lifts by one the later ranks at or above its own.
    """
    count = uniforms.shape[1]
    small = np.min_scalar_type(n.max(initial=0))
    ranks = (uniforms.T * (n - np.arange(count)[:, None])).astype(small)
    for draw in reversed(range(count - 1)):
        later = ranks[draw + 1 :]
        later += later >= ranks[draw]
    return ranks.T.astype(np.int64)


def accuracy(predictions: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each sequence's queries that are answered rightly, shape (N,).

    Chance is 1 / D for any value of the context, 2 / V for any value token.

    Parameters
    ----------
    predictions, labels : arrays, shape (N, T)
    """
    asked = labels != IGNORED
    return ((predictions == labels) & asked).sum(axis=1) / asked.sum(axis=1)
