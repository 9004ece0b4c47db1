"""The rank of a value among draws of its null."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def p_above(value: float, null: ArrayLike) -> float:
    """One-sided p-value: the share of draws at least as large, the value counted as one of them.

    It is never below 1 / (draws + 1), and where the value is itself a draw of the null it is at
    most p with probability at most p.

    Raises
    ------
    ValueError
        If there are no draws.

    Examples
    --------
    >>> p_above(2.5, [1.0, 2.0, 3.0])
    0.5
    """
    draws = np.asarray(null, float).ravel()
    if not draws.size:
        raise ValueError("null: at least one draw is needed")
    return float((1 + np.sum(draws >= value)) / (1 + draws.size))
