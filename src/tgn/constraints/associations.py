"""What goes with what over models of a few families: clustered intervals and fair comparisons.

Models of one family share data, code and recipe, so that families are the units: intervals resample
families with all their models, and predictions are judged on families left out. A question that the
families at hand are too few to answer raises :class:`Undecidable`, and no number is made.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from tgn.statistics import Interval, bootstrap_interval, student_interval

Array = NDArray[np.float64]

LEAST_UNITS = 6  # families (or layers, or runs) of an interval: fewer have too few resamples
LEAST_POINTS = 3
PENALTY = 1.0  # of a lab's mean: as if labs differed as much as families of a lab do


class Undecidable(ValueError):
    """The models at hand cannot answer the question; the message says why."""


# --- correlations --------------------------------------------------------------------------------


def correlation(x: Array, y: Array, *, rank: bool = False) -> float:
    """Pearson's or Spearman's correlation; zero where one of the two never changes.

    Raises
    ------
    Undecidable
        If there are fewer than three points.

    Examples
    --------
    >>> correlation(np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 9.0]), rank=True)
    1.0
    """
    if len(x) < LEAST_POINTS:
        raise Undecidable(f"{len(x)} points, and a correlation takes {LEAST_POINTS}")
    if rank:
        x, y = stats.rankdata(x), stats.rankdata(y)
    a, b = x - x.mean(), y - y.mean()
    size = math.sqrt(float(a @ a) * float(b @ b))
    if size <= 1e-12 * max(1.0, float(np.abs(x).max() * np.abs(y).max()) * len(x)):
        return 0.0
    return min(1.0, max(-1.0, float(a @ b) / size))


def partial_correlation(x: Array, y: Array, *given: Array, rank: bool = False) -> float:
    """Correlation of what straight lines in the given ones leave of x and of y.

    Raises
    ------
    Undecidable
        If there are fewer than three points.
    """
    if len(x) < LEAST_POINTS:
        raise Undecidable(f"{len(x)} points, and a correlation takes {LEAST_POINTS}")
    columns = np.stack([x, y, *given]).astype(float)
    if rank:
        columns = stats.rankdata(columns, axis=1)
    both, design = columns[:2].T, np.vstack([np.ones(len(x)), columns[2:]]).T
    left = both - design @ np.linalg.lstsq(design, both, rcond=None)[0]
    if (np.abs(left).max(0) <= 1e-9 * np.maximum(1.0, np.abs(both).max(0))).any():
        return 0.0
    return correlation(*left.T)


def correlation_p(r: float, n: int, given: int = 0) -> float:
    """Two-sided p of a (partial) correlation of n points, Student's, n - 2 - given degrees.

    Raises
    ------
    ValueError
        If the points are too few.
    """
    freedom = n - 2 - given
    if freedom < 1:
        raise ValueError(f"{n} points are too few for a p value, {given} variables given")
    if abs(r) >= 1:
        return 0.0
    return float(2 * stats.t.sf(abs(r) * math.sqrt(freedom / (1 - r * r)), freedom))


def correlation_interval(r: float, units: int, given: int = 0) -> Interval:
    """95 % interval of a (partial) correlation by Fisher's z, of so many independent units.

    Where models of a family are copies of one another it is exact, and wide otherwise: a bootstrap
    over a dozen families rejects a true null three times as often as it says.

    Raises
    ------
    Undecidable
        If there are fewer than :data:`LEAST_UNITS` units.
    """
    if units < LEAST_UNITS:
        raise Undecidable(
            f"{units} independent units, and an interval over them takes {LEAST_UNITS}"
        )
    if abs(r) >= 1 - 1e-12:
        return Interval(r, r, r)
    reach = 1.959964 / math.sqrt(units - 3 - given)
    low, high = np.tanh([math.atanh(r) - reach, math.atanh(r) + reach])
    return Interval(r, float(low), float(high))


# --- intervals over families ---------------------------------------------------------------------


def clustered_interval(
    arrays: Sequence[ArrayLike],
    families: Sequence[str],
    statistic: Callable[..., float],
    *,
    rng: np.random.Generator,
    resamples: int,
    least: int = LEAST_UNITS,
) -> Interval:
    """Percentile bootstrap interval that draws families, each with all its models.

    Parameters
    ----------
    arrays
        Arrays with one entry a model, handed to ``statistic`` one argument each.
    families
        Of each model.

    Raises
    ------
    Undecidable
        If there are fewer than ``least`` families.
    """
    columns = [np.asarray(array, float) for array in arrays]
    labels, code = np.unique(np.asarray(families, str), return_inverse=True)
    if len(labels) < least:
        raise Undecidable(
            f"{len(labels)} independent units ({', '.join(labels) or 'none'}), and an interval "
            f"over them takes {least}"
        )
    members = [np.flatnonzero(code == one) for one in range(len(labels))]

    def of(drawn: NDArray) -> float:
        rows = np.concatenate([members[one] for one in drawn])
        return statistic(*(column[rows] for column in columns))

    return bootstrap_interval(np.arange(len(labels)), of, rng=rng, resamples=resamples)


def jackknife_interval(
    count: int, statistic: Callable[[NDArray[np.intp]], float], *, least: int = LEAST_UNITS
) -> Interval:
    """Value freed of bias and Student's 95 % interval, each unit left out in turn.

    For a spread over few units, which is too small in a bootstrap's resamples, as they hold some
    units twice.

    Parameters
    ----------
    count
        Of units.
    statistic
        Of the numbers of the units that are kept.

    Raises
    ------
    Undecidable
        If there are fewer than ``least`` units.

    References
    ----------
    Tukey, "Bias and confidence in not-quite large samples", *Annals of Mathematical Statistics* 29
    (1958) 614.
    """
    if count < least:
        raise Undecidable(f"{count} independent units, and an interval over them takes {least}")
    every = np.arange(count)
    without = np.array([statistic(np.delete(every, one)) for one in every])
    return student_interval(count * statistic(every) - (count - 1) * without)


def family_means(values: ArrayLike, families: Sequence[str]) -> tuple[Array, NDArray[np.str_]]:
    """Mean of each family, and the families' names in order."""
    labels, code = np.unique(np.asarray(families, str), return_inverse=True)
    return np.bincount(code, weights=np.asarray(values, float)) / np.bincount(code), labels


# --- the depth law -----------------------------------------------------------------------------


def log_depth_constant(log_gain: Array, layers: Array) -> float:
    """ln c of G = c^(1/L): the slope of ln G over 1/L, through the origin, by least squares.

    >>> log_depth_constant(np.log([10.0, 10.0]) / [2.0, 5.0], np.array([2.0, 5.0])).__round__(6)
    2.302585
    """
    x = 1 / layers
    return float(x @ log_gain / (x @ x))


# --- mixed models --------------------------------------------------------------------------------


class MixedFit(NamedTuple):
    """Fixed effects with Student's intervals, and the variances between and within families."""

    effects: dict[str, Interval]
    between: float
    within: float
    freedom: int
    note: str


def mixed_model(y: ArrayLike, design: Mapping[str, ArrayLike], families: Sequence[str]) -> MixedFit:
    """Linear model with a random intercept a family, by restricted maximum likelihood.

    The variances are statsmodels'; the covariance of the effects is that of generalised least
    squares at these variances, which exists also where families do not differ. Degrees of freedom
    are families less coefficients: effects that change between families only have no more.

    Parameters
    ----------
    design
        Columns by name; an intercept must be one of them if it is wanted.

    Raises
    ------
    Undecidable
        If there are no more families than coefficients, or the columns are not independent.
    """
    outcome = np.asarray(y, float)
    columns = np.column_stack([np.asarray(column, float) for column in design.values()])
    labels, code = np.unique(np.asarray(families, str), return_inverse=True)
    freedom = len(labels) - columns.shape[1]
    if freedom < 1:
        raise Undecidable(
            f"{len(labels)} families cannot tell {columns.shape[1]} coefficients "
            f"({', '.join(design)}) from their own differences"
        )
    if np.linalg.matrix_rank(columns) < columns.shape[1]:
        raise Undecidable(f"{', '.join(design)} are not independent in these models")
    between, within, note = _variances(outcome, columns, code)
    same = code[:, None] == code[None, :]
    inverse = np.linalg.inv(within * np.eye(len(outcome)) + between * same)
    covariance = np.linalg.inv(columns.T @ inverse @ columns)
    values = covariance @ columns.T @ inverse @ outcome
    reach = stats.t.ppf(0.975, freedom) * np.sqrt(np.diag(covariance))
    effects = {
        name: Interval(float(value), float(value - far), float(value + far))
        for name, value, far in zip(design, values, reach, strict=True)
    }
    return MixedFit(effects, between, within, freedom, note)


def _variances(outcome: Array, columns: Array, code: NDArray) -> tuple[float, float, str]:
    """Variances between and within families; where each family is one model, all are between."""
    if np.bincount(code).max() == 1:
        rest = outcome - columns @ np.linalg.lstsq(columns, outcome, rcond=None)[0]
        return 0.0, float(rest @ rest / (len(outcome) - columns.shape[1])) or 1e-300, ""
    from statsmodels.regression.mixed_linear_model import MixedLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a variance that is zero, which the note tells
        fit = MixedLM(outcome, columns, groups=code).fit(reml=True)
    between, within = float(fit.cov_re[0, 0]), float(fit.scale)
    if not (math.isfinite(between) and math.isfinite(within) and within > 0):
        raise Undecidable("the mixed model has no finite variances")
    said = [] if fit.converged else ["the fit did not converge"]
    if between < 1e-4 * within:
        said.append("families explain no variance beyond their models'")
    return between, within, "; ".join(said)


# --- predictions of families left out ----------------------------------------------------------


def held_out_errors(y: ArrayLike, design: Array, families: Sequence[str]) -> Array:
    """Squared error of each model, predicted by least squares from the other families.

    Parameters
    ----------
    design : array, shape (models, predictors)
        Without the intercept, which is always fitted.
    """
    return _held_out(np.asarray(y, float), [(np.asarray(design, float), 0.0)], families)


def _held_out(y: Array, blocks: Sequence[tuple[Array, float]], families: Sequence[str]) -> Array:
    """Held-out squared errors of a linear model whose blocks of columns have ridge penalties."""
    names = np.asarray(families, str)
    columns = np.hstack([np.ones((len(y), 1)), *(block for block, _ in blocks)])
    penalties = np.concatenate([[0.0], *(np.full(b.shape[1], p) for b, p in blocks)])
    errors = np.empty(len(y))
    for name in np.unique(names):
        out = names == name
        if out.all():
            raise Undecidable("one family alone leaves nothing to predict it from")
        seen = columns[~out]
        gram = seen.T @ seen + np.diag(penalties)
        weights = np.linalg.pinv(gram, rcond=1e-10) @ seen.T @ y[~out]
        errors[out] = (y[out] - columns[out] @ weights) ** 2
    return errors


def indicator(labels: Sequence[str]) -> Array:
    """One column a label, 1 where a model has it: shape (models, labels)."""
    names = np.asarray(labels, str)
    return (names[:, None] == np.unique(names)[None, :]).astype(float)


def predictive_shares(
    y: ArrayLike, blocks: Mapping[str, tuple[Array, float]], families: Sequence[str]
) -> tuple[dict[str, Array], Array]:
    """How much each block of predictors takes off the error of families left out.

    Blocks are correlated, so that what one takes off depends on which others are there: its share
    is the mean over all orders in which blocks can enter (Shapley's value; Lindeman, Merenda and
    Gold 1980), here of held-out instead of fitted squares.

    Parameters
    ----------
    blocks
        For each name its columns, shape (models, predictors), and the ridge penalty on them: zero
        for measures, :data:`PENALTY` for indicators of labs, which shrinks a lab's mean by the
        number of its models.

    Returns
    -------
    reductions : dict of arrays, shape (families,)
        Mean reduction of squared error by family, which may be negative.
    baseline : array, shape (families,)
        Squared error without any block.
    """
    outcome = np.asarray(y, float)
    scaled = {
        name: (_standardised(columns) if penalty == 0 else columns, penalty)
        for name, (columns, penalty) in blocks.items()
    }
    error = {
        chosen: family_means(
            _held_out(outcome, [scaled[name] for name in sorted(chosen)], families), families
        )[0]
        for size in range(len(scaled) + 1)
        for chosen in map(frozenset, itertools.combinations(scaled, size))
    }
    orders = list(itertools.permutations(scaled))
    reductions = {
        name: sum(
            (
                error[before := frozenset(order[: order.index(name)])] - error[before | {name}]
                for order in orders
            ),
            np.zeros_like(error[frozenset()]),
        )
        / len(orders)
        for name in scaled
    }
    return reductions, error[frozenset()]


def _standardised(columns: Array) -> Array:
    spread = columns.std(axis=0)
    return (columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
