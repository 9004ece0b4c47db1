"""Signs and classes of models against labs and measures: permutations, areas, critical values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from tgn.constraints.associations import Undecidable
from tgn.statistics import Interval

Array = NDArray[np.float64]


def sign_of(log_gain: Interval) -> str:
    """``dampen`` or ``expand`` if the interval of ln G excludes 0, else ``undetermined``."""
    if log_gain.high < 0:
        return "dampen"
    return "expand" if log_gain.low > 0 else "undetermined"


def permuted_labels_p(
    values: ArrayLike, labels: Sequence[str], *, rng: np.random.Generator, permutations: int = 9999
) -> float:
    """p of the variance between labels, against labels permuted over the units (families).

    All permutations where they are no more than ``permutations``, random ones otherwise.

    Raises
    ------
    Undecidable
        If there is one label only, or no label has two units: every permutation is then alike.
    """
    y = np.asarray(values, float)
    names, code = np.unique(np.asarray(labels, str), return_inverse=True)
    counts = np.bincount(code)
    if len(names) < 2 or counts.max() < 2:
        raise Undecidable("no two labs of which one has two families: lab and family are one")

    def between(order: NDArray) -> float:
        return float((np.bincount(order.astype(int), weights=y) ** 2 / counts).sum())

    found = stats.permutation_test(
        (code,),
        between,
        permutation_type="pairings",
        vectorized=False,
        n_resamples=permutations,
        alternative="greater",
        rng=rng,
    )
    return float(found.pvalue)


def agreement_interval(
    signs: ArrayLike, labels: Sequence[str], *, rng: np.random.Generator, permutations: int = 9999
) -> Interval:
    """Share of pairs within labels that agree, minus that of pairs between labels.

    Pairs share families, so that neither pairs nor families can be resampled as if independent. The
    interval is the value less the central 95 % of what permuted labels give: it excludes 0 where
    the permutation test does.

    Raises
    ------
    Undecidable
        As :func:`permuted_labels_p`.
    """
    values = np.asarray(signs, float)
    names, code = np.unique(np.asarray(labels, str), return_inverse=True)
    if len(names) < 2 or np.bincount(code).max() < 2:
        raise Undecidable("no two labs of which one has two families: lab and family are one")
    one, other = np.triu_indices(len(values), 1)
    agree = (values[one] == values[other]).astype(float)

    def difference(order: NDArray) -> float:
        same = order[one] == order[other]
        return float(agree[same].mean() - agree[~same].mean())

    found = difference(code)
    null = [difference(rng.permutation(code)) for _ in range(permutations)]
    low, high = np.quantile(null, [0.025, 0.975])
    return Interval(found, float(found - high), float(found - low))


def area_under_curve(score: Array, positive: Array) -> float:
    """Chance that a positive scores above a negative, ties half; 0.5 where one class is lacking.

    >>> area_under_curve(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 1.0]))
    1.0
    """
    ahead, behind = score[positive > 0.5], score[positive <= 0.5]
    if not (len(ahead) and len(behind)):
        return 0.5
    return float(stats.mannwhitneyu(ahead, behind).statistic) / (len(ahead) * len(behind))


def critical_value(x: Array, positive: Array) -> float:
    """Where a logistic curve in ln x passes one half; the end of the range if it does not there.

    A curve that falls, and a class that is lacking, put it at the end beyond which it would lie.
    """
    low, high = float(x.min()), float(x.max())
    if (positive > 0.5).all():
        return low
    if (positive <= 0.5).all() or area_under_curve(x, positive) <= 0.5:
        return high
    from sklearn.linear_model import LogisticRegression

    # next to no penalty: just enough for separable classes to have a curve
    fit = LogisticRegression(C=100.0).fit(np.log(x)[:, None], positive > 0.5)
    slope, level = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    return (
        float(np.exp(np.clip(-level / slope, math.log(low), math.log(high)))) if slope > 0 else high
    )
