"""Four states within subject: what changed, how surely, and how small a change would be missed.

Subjects are the independent units throughout. Tables are wide, (subjects, states), where every
subject has every state, and long for the mixed model, which may lack some.

The order of the states is the order of the visit: awake, light, deep, recovery. What any of these
tests finds between them is a difference in state or in time on the table; only recovery, which
comes last, tells the two apart, and only if it returns.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tgn.statistics import BootstrapMethod, Interval, bootstrap_interval

EXHAUSTIVE = 20  # units: 2**20 subsets, 8 MB
SAMPLES = 100_000  # random subsets for more units
LEAST_UNITS = 8  # of a bootstrapped effect size: fewer draw n times the same unit too often
ROUNDING = 1e-12
PUBLISHED_N, PUBLISHED_DZ = 17, 0.33  # subjects, and dz of their p = 0.193, awake to deep
SINGULAR = 1e-4  # variance between subjects over that within, below which it counts as none


class SignFlips(NamedTuple):
    """A paired permutation test: mean difference, two-sided p, sign patterns, all or a sample."""

    value: float
    p: float
    flips: int
    exhaustive: bool


class Correlation(NamedTuple):
    """A correlation with its interval (None below eight units), p and degrees of freedom."""

    value: float
    interval: Interval | None
    p: float
    freedom: int


class Trend(NamedTuple):
    """Page's test: mean rank correlation with the predicted order, its interval, L and p."""

    value: float
    interval: Interval | None
    statistic: float
    p: float


class Effect(NamedTuple):
    """A contrast of a fitted model; ends of the interval are None where it is undefined."""

    value: float
    low: float | None
    high: float | None
    p: float | None


@dataclass(frozen=True)
class MixedFit:
    """A random-intercept model: coefficients by name, and whether the fit can be trusted.

    ``converged`` is the optimiser's word; ``singular`` says that subjects explain no variance
    beyond chance, so that the fit is that of ordinary least squares; ``messages`` are the
    warnings of the fit, each once.
    """

    names: tuple[str, ...]
    coefficients: NDArray
    covariance: NDArray
    freedom: int
    subjects: int
    between: float
    within: float
    converged: bool
    singular: bool
    messages: tuple[str, ...]

    def contrast(self, first: str, second: str | None = None, *, level: float = 0.95) -> Effect:
        """One coefficient less another, or one alone, with Student's interval and p.

        The degrees of freedom are those within subjects: observations less subjects, less one
        for each state but one and for the covariate. The normal distribution, statsmodels' own
        choice, rejects too often at this number of subjects.

        Raises
        ------
        ValueError
            If the model has no such coefficient.
        """
        from scipy.stats import t as student

        weights = np.zeros(len(self.names))
        for name, sign in ((first, 1.0), (second, -1.0)):
            if name is None:
                continue
            if name not in self.names:
                raise ValueError(f"the model has no {name!r}, only {list(self.names)}")
            weights[self.names.index(name)] += sign
        value = float(weights @ self.coefficients)
        variance = float(weights @ self.covariance @ weights)
        if not (math.isfinite(variance) and variance > 0 and self.freedom > 0):
            return Effect(value, None, None, None)
        error = math.sqrt(variance)
        margin = float(student.ppf((1 + level) / 2, self.freedom)) * error
        p = 2 * float(student.sf(abs(value) / error, self.freedom))
        return Effect(value, value - margin, value + margin, p)

    @property
    def remark(self) -> str:
        """What a reader must know about the fit; empty if there is nothing."""
        said = [] if self.converged else ["the fit did not converge"]
        if self.singular:
            said.append("singular fit: no variance between subjects")
        return "; ".join(said)


def wide(rows: pd.DataFrame, states: Sequence[str], column: str = "rank") -> pd.DataFrame:
    """One row a subject and one column a state, of the subjects who have every state.

    Parameters
    ----------
    rows
        Columns ``subject``, ``state`` and ``column``, one row for each subject and state.

    Raises
    ------
    ValueError
        If a subject has a state twice, a state does not occur, or a number is not finite.
    """
    if rows.duplicated(["subject", "state"]).any():
        twice = rows.loc[rows.duplicated(["subject", "state"]), ["subject", "state"]]
        raise ValueError(f"more than one {column} for {twice.to_numpy().tolist()}")
    absent = [state for state in states if state not in set(rows["state"])]
    if absent:
        raise ValueError(f"no subject has the states {absent}")
    if not np.isfinite(rows[column].to_numpy(dtype=float)).all():
        raise ValueError(f"{column} holds numbers that are not finite")
    table = rows.pivot(index="subject", columns="state", values=column)
    return table[list(states)].dropna()


# --- paired differences


def sign_flip_test(
    differences: ArrayLike,
    *,
    rng: np.random.Generator | None = None,
    samples: int = SAMPLES,
) -> SignFlips:
    """Two-sided permutation test that paired differences are symmetric about zero.

    Under the null each difference is as likely as its negative (Fisher, *The Design of
    Experiments* (1935), section 21). All 2**n patterns of signs are tried up to 20 units; beyond,
    ``samples`` random ones and the identity.

    Parameters
    ----------
    differences : array, shape (n,)
    rng
        Needed beyond 20 units only.

    Raises
    ------
    ValueError
        If there is no difference, one is not finite, or ``rng`` is needed and missing.

    Examples
    --------
    >>> sign_flip_test([1.0, 2.0, 3.0])
    SignFlips(value=2.0, p=0.25, flips=8, exhaustive=True)
    """
    values = _checked(differences)
    sums, _, exhaustive = _subsets(values, rng, samples)
    total = values.sum()
    # ties with the observed sum count, also those that rounding has moved
    least = abs(total) - ROUNDING * np.abs(values).sum()
    extreme = int((np.abs(total - 2 * sums) >= least).sum())
    return SignFlips(float(values.mean()), extreme / len(sums), len(sums), exhaustive)


def sign_flip_interval(
    differences: ArrayLike,
    *,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
    samples: int = SAMPLES,
) -> Interval | None:
    """Mean difference with the interval of all shifts that :func:`sign_flip_test` would keep.

    A pattern of signs has a larger sum than the data, less a shift, exactly if the mean of the
    units it flips is below that shift. The ends are therefore order statistics of the means of all
    subsets, and the interval excludes 0 exactly if the test rejects at ``1 - level``.

    Returns
    -------
    Interval, or None if there are too few units for this level (under 6 for 95 %, 11 for 99.9 %)

    Raises
    ------
    ValueError
        As :func:`sign_flip_test`.

    References
    ----------
    Hartigan, "Using subsample values as typical values", *Journal of the American Statistical
    Association* 64 (1969) 1303.

    Examples
    --------
    >>> sign_flip_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    Interval(value=3.5, low=1.0, high=6.0)
    """
    values = _checked(differences)
    sums, counts, _ = _subsets(values, rng, samples)
    place = math.floor(round((1 - level) * len(sums) / 2, 9))
    if place < 1:
        return None
    means = np.sort(sums[counts > 0] / counts[counts > 0])
    return Interval(float(values.mean()), float(means[place - 1]), float(means[-place]))


def _subsets(
    values: NDArray, rng: np.random.Generator | None, samples: int
) -> tuple[NDArray, NDArray, bool]:
    """Sums and sizes of all subsets of the units, or of none and of many random ones."""
    if len(values) <= EXHAUSTIVE:
        sums, counts = np.zeros(1), np.zeros(1, dtype=np.int64)
        for value in values:
            sums = np.concatenate([sums, sums + value])
            counts = np.concatenate([counts, counts + 1])
        return sums, counts, True
    if rng is None:
        raise ValueError(f"{len(values)} units are too many for all signs: give rng")
    sums, counts = np.zeros(samples + 1), np.zeros(samples + 1, dtype=np.int64)
    for value in values:  # unit by unit, so that no (samples, units) array is held
        member = rng.integers(0, 2, size=samples)
        sums[1:] += value * member
        counts[1:] += member
    return sums, counts, False


def standardised_difference(differences: ArrayLike) -> float:
    """Mean of paired differences over their standard deviation (Cohen's dz).

    >>> standardised_difference([1.0, 2.0, 3.0])
    2.0
    """
    values = np.asarray(differences, dtype=float)
    return float(values.mean() / values.std(ddof=1))


def effect_size(
    differences: ArrayLike, *, rng: np.random.Generator, resamples: int = 2000
) -> Interval | None:
    """Cohen's dz with its BCa bootstrap interval over units; None below eight units.

    Raises
    ------
    ValueError
        As :func:`sign_flip_test`, or if the differences are all alike.
    """
    return _interval_over_units(_checked(differences), standardised_difference, rng, resamples)


def holm(p: ArrayLike) -> NDArray:
    """p values after Holm's step-down correction, which bounds the chance of any false positive.

    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    from statsmodels.stats.multitest import multipletests

    return np.asarray(multipletests(p, method="holm")[1])


# --- power


def power(dz: float, units: int, *, alpha: float = 0.05) -> float:
    """Chance that a two-sided paired t test on this many units finds an effect of this size."""
    from statsmodels.stats.power import TTestPower

    return float(TTestPower().power(dz, units, alpha, alternative="two-sided"))


def detectable(units: int, *, target: float = 0.8, alpha: float = 0.05, tests: int = 1) -> float:
    """Least dz that a two-sided paired t test finds with the target power.

    Parameters
    ----------
    tests
        Holm's first and hardest step over so many tests: alpha divided by their number.

    Raises
    ------
    ValueError
        If there are fewer than eight units, for which the noncentral t distribution is unreliable.

    Examples
    --------
    >>> round(detectable(17), 2), round(detectable(17, target=0.9), 2)
    (0.72, 0.84)
    >>> round(detectable(17, tests=3), 2), round(detectable(17, tests=6), 2)
    (0.86, 0.95)
    """
    from scipy.optimize import brentq

    if units < LEAST_UNITS:
        raise ValueError(f"power is not computed for {units} units, but from {LEAST_UNITS} on")

    def lack(dz: float) -> float:
        return target - power(dz, units, alpha=alpha / tests)

    # Approached from below: the power of effects far too large comes out as NaN, and statsmodels'
    # own search then ends at its bound without an error.
    high = 0.1
    while lack(high) > 0:
        high *= 1.2
    return float(brentq(lack, high / 1.2, high))


def power_table(units: int) -> str:
    """What a paired test on so many units can find, in a few lines to print.

    Examples
    --------
    >>> print(power_table(17))
    Power of a two-sided paired test at alpha = 0.05, 17 subjects:
      80 % power: dz 0.72 alone, 0.86 after Holm over 3 contrasts, 0.95 over 6
      90 % power: dz 0.84 alone, 0.98 after Holm over 3 contrasts, 1.07 over 6
      the published effect, dz 0.33: found with 25 % power
    """
    lines = [f"Power of a two-sided paired test at alpha = 0.05, {units} subjects:"]
    for target in (0.8, 0.9):
        alone, three, six = (detectable(units, target=target, tests=k) for k in (1, 3, 6))
        lines.append(
            f"  {100 * target:.0f} % power: dz {alone:.2f} alone, {three:.2f} after Holm over 3 "
            f"contrasts, {six:.2f} over 6"
        )
    chance = 100 * power(PUBLISHED_DZ, units)
    lines.append(f"  the published effect, dz {PUBLISHED_DZ}: found with {chance:.0f} % power")
    return "\n".join(lines)


# --- trends over the states


def page_trend(
    values: ArrayLike, order: Sequence[int], *, rng: np.random.Generator, resamples: int = 2000
) -> Trend:
    """Page's test that the states, put in the predicted order, rise within subjects.

    The exact distribution of L is used. L itself grows with the number of subjects; the mean over
    subjects of Spearman's correlation with the predicted order is the same test on a scale from
    -1 to 1, and is what gets an interval.

    Parameters
    ----------
    values : array, shape (subjects, states)
        At least three states.
    order
        Columns from the smallest to the largest, as predicted.

    Raises
    ------
    ValueError
        If a value is not finite, or ``order`` is not an order of the columns.

    References
    ----------
    Page, "Ordered hypotheses for multiple treatments", *Journal of the American Statistical
    Association* 58 (1963) 216.
    """
    from scipy.stats import page_trend_test, rankdata

    table = _checked(values, dimensions=2)
    if sorted(order) != list(range(table.shape[1])):
        raise ValueError(f"{list(order)} is not an order of {table.shape[1]} columns")
    ranks = rankdata(table[:, list(order)], axis=1)
    result = page_trend_test(ranks, ranked=True, method="exact")
    places = np.arange(ranks.shape[1]) - (ranks.shape[1] - 1) / 2
    # over ties this is Pearson's correlation of mid-ranks up to their smaller spread, as in L
    correlations = (ranks @ places) / (places @ places)
    interval = _interval_over_units(correlations, np.mean, rng, resamples, method="percentile")
    return Trend(
        float(correlations.mean()), interval, float(result.statistic), float(result.pvalue)
    )


def repeated_measures_correlation(
    x: ArrayLike, y: ArrayLike, *, rng: np.random.Generator, resamples: int = 2000
) -> Correlation:
    """Common correlation within subjects of two measures, each taken in every state.

    Parallel lines, one a subject: both measures are centred within subjects, and Pearson's
    correlation of what is left has subjects x (states - 1) - 1 degrees of freedom. The interval
    is a bootstrap over subjects, which does not take the states of a subject for independent.

    Parameters
    ----------
    x, y : arrays, shape (subjects, states)

    Raises
    ------
    ValueError
        If the shapes differ, a value is not finite, or a measure never changes within subjects.

    References
    ----------
    Bakdash and Marusich, "Repeated measures correlation", *Frontiers in Psychology* 8 (2017) 456.
    """
    from scipy.stats import t as student

    first, second = _checked(x, dimensions=2), _checked(y, dimensions=2)
    if first.shape != second.shape:
        raise ValueError(f"measures of shapes {first.shape} and {second.shape} are not paired")
    a, b = (table - table.mean(axis=1, keepdims=True) for table in (first, second))
    for name, table, centred in (("x", first, a), ("y", second, b)):
        if np.abs(centred).max() <= ROUNDING * np.abs(table).max():
            raise ValueError(f"{name} does not change within any subject")

    def correlation(a: NDArray, b: NDArray) -> float:
        return float((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()))

    value = min(1.0, max(-1.0, correlation(a, b)))
    subjects, states = first.shape
    freedom = subjects * (states - 1) - 1
    if abs(value) < 1:
        p = 2 * float(student.sf(abs(value) * math.sqrt(freedom / (1 - value**2)), freedom))
    else:
        p = 0.0
    interval = _interval_over_units((a, b), correlation, rng, resamples)
    return Correlation(value, interval, p, freedom)


# --- the mixed model


def mixed_model(rows: pd.DataFrame, column: str = "rank", covariate: str = "fd") -> MixedFit:
    """Linear model with a mean for each state, a covariate, and a random intercept a subject.

    Fitted by restricted maximum likelihood. The covariate is centred, so that the means are those
    at average head motion. A covariate that never changes is left out, which ``messages`` says.

    Parameters
    ----------
    rows
        Columns ``subject``, ``state``, the outcome ``column`` and the ``covariate``; one row for
        each subject and state. A subject may lack states.

    Raises
    ------
    ValueError
        If a number is not finite, there is one state or one subject only, or the observations are
        too few for the model.
    """
    from statsmodels.regression.mixed_linear_model import MixedLM

    outcome, motion = (_checked(rows[name]) for name in (column, covariate))
    states = tuple(dict.fromkeys(rows["state"]))
    subjects = rows["subject"].nunique()
    if len(states) < 2 or subjects < 2:
        raise ValueError(f"a mixed model of {len(states)} states and {subjects} subjects")
    messages = []
    columns = {state: (rows["state"] == state).to_numpy(dtype=float) for state in states}
    centred = motion - motion.mean()
    if np.abs(centred).max() > ROUNDING * max(1.0, np.abs(motion).max()):
        columns[covariate] = centred
    else:
        messages.append(f"{covariate} never changes and is left out")
    design = np.column_stack(list(columns.values()))
    freedom = len(rows) - subjects - design.shape[1] + 1
    if freedom < 1:
        raise ValueError(f"{len(rows)} observations are too few for {design.shape[1]} coefficients")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = MixedLM(outcome, design, groups=rows["subject"].to_numpy()).fit(reml=True)
    messages += dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught)
    between, within = float(fit.cov_re[0, 0]), float(fit.scale)
    size = design.shape[1]
    return MixedFit(
        names=tuple(columns),
        coefficients=np.asarray(fit.fe_params),
        covariance=np.asarray(fit.cov_params())[:size, :size],
        freedom=freedom,
        subjects=subjects,
        between=between,
        within=within,
        converged=bool(fit.converged),
        singular=between < SINGULAR * within,
        messages=tuple(messages),
    )


# --- shared


def _checked(values: ArrayLike, dimensions: int = 1) -> NDArray:
    array = np.asarray(values, dtype=float)
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"expected {dimensions} dimension(s), and the shape is {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("some values are not finite")
    return array


def _interval_over_units(
    values: NDArray | tuple[NDArray, ...],
    statistic: object,
    rng: np.random.Generator,
    resamples: int,
    method: BootstrapMethod = "BCa",
) -> Interval | None:
    units = len(values[0]) if isinstance(values, tuple) else len(values)
    if units < LEAST_UNITS:
        return None
    return bootstrap_interval(
        values,
        statistic,  # type: ignore[arg-type]
        rng=rng,
        resamples=resamples,
        method=method,
    )
