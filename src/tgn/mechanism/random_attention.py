"""Rank of random attention matrices against inverse temperature (figure 1b).

``A = softmax(alpha Q K^T / sqrt(d))`` with standard normal queries and keys: alpha = 1 is the usual
scaling. As alpha falls every row becomes the plain average, and A has one direction; as it grows
every row picks its best key, and the rank of A is the number of keys that are picked.

A row has the weights of a random-energy model with N levels (Derrida 1981): energies
``q.k / sqrt(d)`` are nearly normal with unit variance. That model does freeze, at
``alpha = sqrt(2 ln N)``, which knows the number of tokens and not the dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax, xlogy

from tgn.files import write_table
from tgn.progress import bar
from tgn.rank import effective_rank, rank_profile

Array = NDArray[np.float64]

PRIMARY = "effective_rank_sigma"  # the published definition: of singular values, not centred
DEFINITIONS = (
    PRIMARY,
    "effective_rank_sigma2",
    "participation_ratio",
    "stable_rank",
    "centred",
    "row_rank",
)


def measure(
    *,
    table: str | Path,
    alphas: Sequence[float],
    cases: Sequence[Sequence[int]],
    seed: int,
) -> None:
    """Rank of random attention matrices by every definition.

    Parameters
    ----------
    table
        Parquet to write: columns size, dimension, draw, alpha, definition, value.
    alphas
        Lowest and highest inverse temperature, in units of ``1 / sqrt(d)``, and their number,
        evenly spaced in the logarithm.
    cases
        Tokens, dimension and number of draws of each case.
    """
    low, high, number = alphas
    grid = np.geomspace(low, high, int(number))
    rows = []
    for size, dimension, draws in bar(cases, desc="sizes"):
        for draw in range(draws):
            rng = np.random.default_rng([seed, size, dimension, draw])
            scores = normal_scores(size, dimension, rng)
            for alpha in grid:
                ranks = profile(softmax(alpha * scores, axis=1))
                rows += [
                    {
                        "size": size,
                        "dimension": dimension,
                        "draw": draw,
                        "alpha": alpha,
                        "definition": definition,
                        "value": ranks[definition],
                    }
                    for definition in DEFINITIONS
                ]
    write_table(table, pd.DataFrame(rows))


def normal_scores(size: int, dimension: int, rng: np.random.Generator) -> Array:
    """``Q K^T / sqrt(d)`` of standard normal queries and keys, shape (size, size)."""
    queries, keys = rng.normal(size=(2, size, dimension))
    return queries @ keys.T / np.sqrt(dimension)


def profile(weights: Array) -> dict[str, float]:
    """Rank of an attention matrix, rows summing to 1, by every name in ``DEFINITIONS``.

    ``centred`` is the effective rank without the mean row, which all rows share; ``row_rank`` the
    effective number of keys of a row, ``exp`` of the mean entropy of the rows.
    """
    ranks = rank_profile(weights)
    entropy = -xlogy(weights, weights).sum(axis=1).mean()
    return {
        **{name: float(ranks[name]) for name in DEFINITIONS[:4]},
        "centred": float(effective_rank(weights, centre="columns")),
        "row_rank": float(np.exp(entropy)),
    }


def freezing_alpha(size: int) -> float:
    """Inverse temperature at which a random-energy model of unit variance freezes.

    Derrida, *Physical Review B* 24 (1981) 2613, in the limit of many levels.

    >>> round(freezing_alpha(1024), 2)
    3.72
    """
    return float(np.sqrt(2 * np.log(size)))


def highest(alphas: Array, values: Array) -> tuple[float, bool]:
    """Logarithm of alpha where a curve is highest, and whether that is an end of the grid.

    Inside, the top of the parabola through the highest point and its neighbours.

    Parameters
    ----------
    alphas, values : arrays, shape (n,)
        Alphas are evenly spaced in the logarithm and rise.

    Examples
    --------
    >>> highest(np.exp([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 1.5]))
    (1.1666666666666667, False)
    """
    logs, top = np.log(alphas), int(np.argmax(values))
    if top in (0, len(values) - 1):
        return float(logs[top]), True
    before, peak, after = values[top - 1 : top + 2]
    shift = (before - after) / (2 * (before - 2 * peak + after))
    return float(logs[top] + shift * (logs[1] - logs[0])), False


def crossing(alphas: Array, values: Array, level: float) -> float:
    """Logarithm of alpha where a curve first passes a level, by straight lines in the logarithm.

    Raises
    ------
    ValueError
        If the curve stays on one side of the level.
    """
    side = np.sign(values - level)
    changes = np.flatnonzero(side[:-1] != side[1:])
    if not len(changes):
        raise ValueError(
            f"the curve runs from {values.min():.3g} to {values.max():.3g} and never passes "
            f"{level:.3g}: widen random_attention.alphas"
        )
    at = changes[0]
    logs = np.log(alphas[at : at + 2])
    share = (level - values[at]) / (values[at + 1] - values[at])
    return float(logs[0] + share * (logs[1] - logs[0]))


def width_of_rise(alphas: Array, values: Array) -> float:
    """How far alpha goes, in the logarithm, from a quarter of a curve's rise to three quarters.

    The rise is from the first point to the highest. At a phase transition it sharpens with size.
    """
    low, high = values[0], values.max()
    quarter, three = (crossing(alphas, values, low + q * (high - low)) for q in (0.25, 0.75))
    return three - quarter
