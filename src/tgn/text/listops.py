"""ListOps: nested expressions over digits, read from the left, and their value asked at the end.

    [MAX 4 [SUM 7 8 ] 2 ] =      value 5: sums are taken modulo 10

An expression is an operator, MAX, MIN or SUM, with two to four arguments, each a digit or another
expression. Its depth is that of the brackets. T tokens hold the expression, the query ``=`` after
it, whose label is the value, and padding to the right; every other label is ``IGNORED``.

Depths are uniform over ``min_depth .. max_depth``: this distribution is fixed. One argument of each
operator, anywhere among the others, carries the expression on until it has the depth drawn. Each
other argument is an expression with probability ``nested``, small enough for a family of
expressions to die out (mean number of children below 1), and never deeper than the depth drawn. An
expression that does not fit into T is drawn again *at the same depth*, so that the bound changes
lengths and never depths. At least half fit: the mean length at the greatest depth may be at most
half of the room (Markov's inequality).

Short expressions are few, so that training and test would meet in them however they are seeded.
With ``part`` only those of one part are drawn, to which they belong by a hash of their tokens.

Source: extended TGN manuscript, figure 22b, after Nangia and Bowman 2018, arXiv 1804.06028. The
published generator is in :mod:`tgn.text.as_published`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tgn.text.recall import IGNORED, Examples

DIGITS = 10
MAX, MIN, SUM, CLOSE, QUERY, PAD = range(DIGITS, DIGITS + 6)
VOCABULARY = PAD + 1
OPERATORS = (MAX, MIN, SUM)
ARGUMENTS = (2, 3, 4)  # how many, all alike
PARTS = {"train": 0.8, "validation": 0.1, "test": 0.1}  # and their shares of all expressions
ROLES = ("query", "operator", "digit", "bracket", "padding")

# Arguments not yet decided, while an expression grows: the one that carries it on, and the others.
_SPINE, _ARGUMENT, _DIGIT = -1, -2, -3

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class ListOps:
    """The task.

    Parameters
    ----------
    input_seq_len : int
        T; an expression has at most T - 1 tokens.
    min_depth, max_depth : int
        Least and greatest depth, at least 1.
    nested : float
        Probability that an argument which need not be an expression is one, below 1/3.
    part : str, optional
        ``train``, ``validation`` or ``test``: draw only expressions of this part; all when None.

    Raises
    ------
    ValueError
        If the parameters do not fit together; says which.
    """

    input_seq_len: int = 64
    min_depth: int = 1
    max_depth: int = 4
    nested: float = 0.15
    part: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.min_depth <= self.max_depth:
            raise ValueError(
                f"min_depth {self.min_depth} and max_depth {self.max_depth} must ascend from 1"
            )
        children = self.nested * float(np.mean(ARGUMENTS))
        if self.nested < 0 or children >= 1:
            raise ValueError(
                f"nested {self.nested}: an operator would have {children:g} operators among its "
                "arguments, and expressions would not end; it must be in [0, 1/3)"
            )
        if (needed := 2 * self.mean_length(self.max_depth) + 1) > self.input_seq_len:
            raise ValueError(
                f"input_seq_len {self.input_seq_len} is too short: max_depth {self.max_depth} and "
                f"nested {self.nested} need {int(np.ceil(needed))}, twice the mean length"
            )
        if self.part is not None and self.part not in PARTS:
            raise ValueError(f"part {self.part!r} must be one of {', '.join(PARTS)}, or not given")

    def mean_length(self, depth: int) -> float:
        """Mean number of tokens of expressions of a depth, before any is found too long."""
        arguments = float(np.mean(ARGUMENTS))
        argument = spine = 1.0  # a digit, at the bottom
        for _ in range(depth):
            spine = 2 + spine + (arguments - 1) * argument
            argument = 1 - self.nested + self.nested * (2 + arguments * argument)
        return spine

    def draw(self, rng: np.random.Generator, num_examples: int) -> Examples:
        """Draw examples.

        Returns
        -------
        inputs, labels
            Both of shape (num_examples, T); a label is a digit or ``IGNORED``.
        """
        wanted = rng.integers(self.min_depth, self.max_depth + 1, num_examples)
        inputs = np.full((num_examples, self.input_seq_len), PAD)
        left = np.arange(num_examples)
        while len(left):
            tokens, owner = grow(rng, wanted[left], nested=self.nested)
            lengths = np.bincount(owner, minlength=len(left))
            kept = lengths < self.input_seq_len
            inputs[left[kept]] = _laid_out(tokens, owner, lengths, self.input_seq_len)[kept]
            if self.part is not None:
                kept[kept] = parts(inputs[left[kept]]) == list(PARTS).index(self.part)
            left = left[~kept]
        labels = np.full_like(inputs, IGNORED)
        labels[inputs == QUERY] = evaluate(inputs)
        return inputs, labels


def grow(
    rng: np.random.Generator, depths: Tokens, *, nested: float, spine: bool = True
) -> tuple[Tokens, Tokens]:
    """Grow expressions level by level, all at once.

    Parameters
    ----------
    depths
        Of each expression, or without a spine the depth it may at most have.
    nested
        Probability that an argument is an expression.
    spine
        Whether an argument of each operator carries the expression on to its depth. Without,
        the whole expression is as any argument, so maybe a bare digit.

    Returns
    -------
    tokens, owner
        The tokens of all expressions one after the other, and the number of the expression that
        each belongs to.
    """
    owner = np.arange(len(depths))
    tokens = np.full(len(depths), _SPINE if spine else _ARGUMENT)
    for level in range(int(depths.max(initial=0))):
        opens = (tokens == _SPINE) | ((tokens == _ARGUMENT) & (rng.random(len(tokens)) < nested))
        opens &= depths[owner] > level
        tokens[(tokens < 0) & ~opens] = _DIGIT
        sizes = np.ones_like(tokens)
        sizes[opens] = 2 + rng.choice(ARGUMENTS, int(opens.sum()))
        # Every token gives way to as many as its size: itself, or operator, arguments, bracket.
        first = np.cumsum(sizes) - sizes
        grown = np.repeat(np.where(opens, _ARGUMENT, tokens), sizes)
        carries = opens & (tokens == _SPINE)
        grown[first[carries] + 1 + _below(rng, sizes[carries] - 2)] = _SPINE
        grown[first[opens]] = rng.choice(OPERATORS, int(opens.sum()))
        grown[first[opens] + sizes[opens] - 1] = CLOSE
        tokens, owner = grown, np.repeat(owner, sizes)
    digits = tokens < 0
    tokens[digits] = rng.integers(0, DIGITS, int(digits.sum()))
    return tokens, owner


def _below(rng: np.random.Generator, limits: Tokens) -> Tokens:
    return (rng.random(len(limits)) * limits).astype(np.int64)


def _laid_out(tokens: Tokens, owner: Tokens, lengths: Tokens, room: int) -> Tokens:
    """Rows of expression, query and padding; of an expression without room, what fits."""
    inputs = np.full((len(lengths), room), PAD)
    column = np.arange(len(tokens)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    fits = column < room
    inputs[owner[fits], column[fits]] = tokens[fits]
    ends = np.flatnonzero(lengths < room)
    inputs[ends, lengths[ends]] = QUERY
    return inputs


def levels(inputs: Tokens) -> Tokens:
    """How many brackets are open at each token, its own included, shape (N, T)."""
    opened = np.isin(inputs, OPERATORS).cumsum(axis=1)
    closed = (inputs == CLOSE).cumsum(axis=1)
    return opened - closed + (inputs == CLOSE)


def depths(inputs: Tokens) -> Tokens:
    """Depth of each expression, shape (N,): 0 for a bare digit."""
    return levels(inputs).max(axis=1)


def lengths(inputs: Tokens) -> Tokens:
    """Tokens of each expression, shape (N,), query and padding left out."""
    return (inputs < QUERY).sum(axis=1)


def evaluate(inputs: Tokens) -> Tokens:
    """The value of each expression, shape (N,).

    From the innermost level outwards: all operators of a level at once, over the arguments that
    stand between them and the next one.

    Parameters
    ----------
    inputs : array, shape (N, T)
        A row holds one expression, then whatever is no digit, operator or bracket.

    Raises
    ------
    ValueError
        If a row holds no single well-formed expression.
    """
    level = levels(inputs)
    _check(inputs, level)
    values, level, tokens = inputs.ravel().copy(), level.ravel(), inputs.ravel()
    is_operator = np.isin(tokens, OPERATORS)
    is_value = tokens < DIGITS
    for deep in range(int(level.max(initial=0)), 0, -1):
        operators = np.flatnonzero(is_operator & (level == deep))
        arguments = np.flatnonzero(is_value & (level == deep))
        first = np.searchsorted(arguments, operators)
        kind = tokens[operators]
        for operator, function in _FUNCTIONS.items():
            found = function.reduceat(values[arguments], first)
            values[operators[kind == operator]] = found[kind == operator] % DIGITS
        # What has a value now is an argument of the level above.
        is_operator[operators], is_value[operators] = False, True
        level[operators] -= 1
    return values.reshape(inputs.shape)[:, 0]


_FUNCTIONS: dict[int, np.ufunc] = {MAX: np.maximum, MIN: np.minimum, SUM: np.add}


def _check(inputs: Tokens, level: Tokens) -> None:
    """Every row: one expression from the first token on, every bracket with an argument."""
    inside = inputs < QUERY
    count = inside.sum(axis=1)
    closed = inputs == CLOSE
    after = level - closed  # brackets open after each token
    last = np.arange(inputs.shape[1]) == count[:, None] - 1
    empty = closed[:, 1:] & np.isin(inputs[:, :-1], OPERATORS)
    wrong = (
        (count == 0)
        | (inputs < 0).any(axis=1)
        | (inside[:, 1:] & ~inside[:, :-1]).any(axis=1)
        | (inside & ((after == 0) != last)).any(axis=1)
        | empty.any(axis=1)
        | closed[:, 0]
    )
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"row {row} is no well-formed expression: {inputs[row].tolist()}")


def parts(inputs: Tokens) -> Tokens:
    """The part that each expression belongs to, a number among :data:`PARTS`, shape (N,).

    By a hash, a polynomial of the tokens modulo 2^64, mixed once more. It depends on nothing but
    the expression: not on T, the seed or the machine.
    """
    hashed = np.zeros(len(inputs), np.uint64)
    for column in inputs.T:
        further = hashed * np.uint64(0x9E3779B97F4A7C15) + column.astype(np.uint64) + np.uint64(1)
        hashed = np.where(column < QUERY, further, hashed)
    hashed = (hashed ^ (hashed >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    place = (hashed >> np.uint64(11)) / 2.0**53
    return np.searchsorted(np.cumsum(list(PARTS.values()))[:-1], place, side="right")


def roles(inputs: Tokens) -> Tokens:
    """What each token is, a number among :data:`ROLES`, shape (N, T)."""
    names = ["digit"] * DIGITS + ["operator"] * len(OPERATORS) + ["bracket", "query", "padding"]
    return np.array([ROLES.index(name) for name in names])[inputs]


# --- what can be had without nesting


def majority(answers: Tokens, inputs: Tokens) -> Tokens:
    """The most frequent of the known answers, for each of the inputs, shape (N,)."""
    return np.full(len(inputs), np.bincount(answers).argmax())


def bare_digit(answers: Tokens, inputs: Tokens) -> Tokens:
    """A bare digit is its own value; to all else, the most frequent of the known answers."""
    return np.where(depths(inputs) == 0, inputs[:, 0], majority(answers, inputs))


def first_operator(known: Tokens, answers: Tokens, inputs: Tokens) -> Tokens:
    """The most frequent answer among known expressions with the same first operator.

    Parameters
    ----------
    known, answers
        Expressions (M, T) and their values (M,).
    inputs
        Expressions (N, T) without a bare digit.
    """
    counts = np.zeros((VOCABULARY, DIGITS), np.int64)
    np.add.at(counts, (known[:, 0], answers), 1)
    return counts.argmax(axis=1)[inputs[:, 0]]


def flat(inputs: Tokens) -> Tokens:
    """The first operator applied to all digits, as if there were no brackets, shape (N,)."""
    digit = inputs < DIGITS
    found: list[NDArray] = [
        np.where(digit, inputs, -1).max(axis=1),
        np.where(digit, inputs, DIGITS).min(axis=1),
        np.where(digit, inputs, 0).sum(axis=1) % DIGITS,
    ]
    return np.select([inputs[:, 0] == operator for operator in OPERATORS], found)


def render(tokens: Tokens) -> str:
    """An expression as text, for reading.

    >>> render(np.array([MAX, 4, SUM, 7, 8, CLOSE, 2, CLOSE, QUERY, PAD]))
    '[MAX 4 [SUM 7 8 ] 2 ] ='
    """
    names = {MAX: "[MAX", MIN: "[MIN", SUM: "[SUM", CLOSE: "]", QUERY: "="}
    return " ".join(names.get(int(token), str(token)) for token in tokens if token != PAD)
