"""Block averages of matrices, their flow, and correlation along rows and columns.

Averaging b x b blocks of independent entries divides their standard deviation by b, whatever their
distribution, and so every temperature that scales with it. That is no renormalisation-group
exponent. What could be one is a ratio of the standard deviations that differs from 1/b: entries
close to each other are then correlated. But the order of neurons is arbitrary, so closeness has to
be shown to mean anything, by comparison with permuted rows and columns. The flow is in normalised
units: mean 0 and standard deviation 1 after each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import curve_fit
from scipy.stats import kurtosis, skew, wasserstein_distance

from tgn.statistics import aicc
from tgn.thermodynamics.critical import (
    STANDARD_GRID,
    find_peak,
    freezing_temperature,
)
from tgn.thermodynamics.levels import checked_levels, temperature_grid, thermal_properties
from tgn.thermodynamics.nulls import p_above
from tgn.thermodynamics.spectra import checked_matrix

Array = NDArray[np.floating]

LEAST_SIDE = 2  # of a matrix that still has a distribution of entries
LEAST_ENTRIES = 64  # fewer cannot tell two distributions apart
MOST_ENTRIES = 2**14  # drawn of each matrix to compare distributions


def block_average(matrix: ArrayLike, block: int) -> Array:
    """Means of block x block pieces, shape (m // block, n // block); the remainder is cut off.

    Raises
    ------
    ValueError
        If the matrix is smaller than a block, no matrix or not finite, or the block has no size.

    Examples
    --------
    >>> block_average([[1.0, 2.0], [3.0, 4.0]], 2)
    array([[2.5]])
    """
    values = checked_matrix(matrix, "matrix")
    if block < 1 or block > min(values.shape):
        raise ValueError(f"block must be from 1 to {min(values.shape)}, got {block}")
    rows, columns = (side // block for side in values.shape)
    cut = values[: rows * block, : columns * block]
    return cut.reshape(rows, block, columns, block).mean(axis=(1, 3))


def normalised(matrix: ArrayLike) -> Array:
    """The matrix with mean 0 and standard deviation 1.

    Raises
    ------
    ValueError
        If all its entries are equal.
    """
    values = checked_matrix(matrix, "matrix")
    spread = values.std()
    if spread == 0:
        raise ValueError("matrix: all entries are equal, so there is no std to divide by")
    return (values - values.mean()) / spread


class BlockTest(NamedTuple):
    """Standard deviation after over before a block average, and the same of permuted matrices.

    ``expected`` is 1 / block, the ratio of independent entries; ``null`` has shape (permutations,);
    ``p_value`` is one-sided, for neighbours that are alike.
    """

    ratio: float
    expected: float
    null: Array
    p_value: float


def block_test(
    matrix: ArrayLike, block: int, *, rng: np.random.Generator, permutations: int = 100
) -> BlockTest:
    """Whether neighbouring entries are correlated: block averages against permuted ones.

    Rows and columns are permuted as wholes, so that rows or columns which differ in mean or width
    do not count as neighbourhood.

    Raises
    ------
    ValueError
        As :func:`block_average` and :func:`normalised`, or if there are no permutations.
    """
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
    values = normalised(matrix)

    def ratio(of: Array) -> float:
        return float(block_average(of, block).std())

    found = ratio(values)
    sides = values.shape
    null = np.array(
        [
            ratio(values[rng.permutation(sides[0])][:, rng.permutation(sides[1])])
            for _ in range(permutations)
        ]
    )
    return BlockTest(found, 1 / block, null, p_above(found, null))


class Step(NamedTuple):
    """One matrix of a flow, and how it was reached.

    ``test`` is that of the average which made it, None of the first. Temperatures are in units of
    the matrix's own sigma; the peak is no critical point, see :mod:`tgn.thermodynamics.critical`.
    """

    matrix: Array
    specific_heat: Array
    peak_temperature: float
    at_edge: bool
    freezing_temperature: float
    test: BlockTest | None


def flow(
    matrix: ArrayLike,
    temperatures: ArrayLike | tuple[float, float] = STANDARD_GRID,
    *,
    rng: np.random.Generator,
    steps: int = 5,
    block: int = 2,
    permutations: int = 100,
) -> list[Step]:
    """Block averages, again and again, each normalised; the first is the matrix itself.

    It ends early where the next matrix would be smaller than 2 x 2. The number of levels falls
    by block^2 at each step, and with it rises the peak, as 1 / sqrt(ln N): compare with the
    ``freezing_temperature`` of each.

    Raises
    ------
    ValueError
        As :func:`block_test`, if ``steps`` is negative, or block is below 2.
    """
    if steps < 0:
        raise ValueError(f"steps must not be negative, got {steps}")
    _check_block(block)
    grid = temperature_grid(temperatures)
    values = normalised(matrix)
    found = [_step(values, grid, None)]
    while len(found) <= steps and min(values.shape) // block >= LEAST_SIDE:
        test = block_test(values, block, rng=rng, permutations=permutations)
        values = normalised(block_average(values, block))
        found.append(_step(values, grid, test))
    return found


def _step(values: Array, grid: Array, test: BlockTest | None) -> Step:
    heat = thermal_properties(values, grid).specific_heat
    peak = find_peak(grid, heat)
    frozen = freezing_temperature(1.0, values.size)
    return Step(values, heat, peak.temperature, peak.at_edge, frozen, test)


class Shape(NamedTuple):
    """Of a normalised distribution of entries, and its Wasserstein distance from the last one.

    ``noise`` is the 95 % quantile of that distance between two samples of one distribution, of the
    same sizes; both are None of the first.
    """

    entries: int
    skewness: float
    excess_kurtosis: float
    distance: float | None
    noise: float | None


class FixedPoint(NamedTuple):
    """Whether the flow of distributions stands still, and where.

    ``steps`` counts the averages until then, None if it did not; ``reason`` says how it ended.
    """

    converged: bool
    steps: int | None
    reason: str
    matrices: list[Array]
    shapes: list[Shape]


def fixed_point(
    matrix: ArrayLike,
    *,
    rng: np.random.Generator,
    block: int = 2,
    most_steps: int = 10,
    threshold: float = 1e-4,
    draws: int = 100,
) -> FixedPoint:
    """Average until the distribution of normalised entries no longer changes.

    Matrices of different size have no entries to compare, but distributions: the distance between
    successive ones is that of Wasserstein, in units of sigma. It counts as none if it is within
    ``threshold`` or cannot be told from the distance of two samples of one distribution. By the
    central limit theorem independent entries flow to a Gaussian, whose skewness and excess kurtosis
    are zero.

    Raises
    ------
    ValueError
        As :func:`block_average` and :func:`normalised`; if the block is below 2, the threshold is
        negative or there are no steps or draws.
    """
    _check_block(block)
    if most_steps < 1:
        raise ValueError(f"most_steps must be at least 1, got {most_steps}")
    if not threshold >= 0:
        raise ValueError(f"threshold must not be negative, got {threshold}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    matrices, shapes = [normalised(matrix)], []
    shapes.append(_shape(matrices[0], None, None))
    for step in range(1, most_steps + 1):
        last = matrices[-1]
        rows, columns = (side // block for side in last.shape)
        if rows * columns < LEAST_ENTRIES:
            reason = f"fewer than {LEAST_ENTRIES} entries are left"
            return FixedPoint(False, None, reason, matrices, shapes)
        matrices.append(normalised(block_average(last, block)))
        distance, noise = _apart(last.ravel(), matrices[-1].ravel(), draws, rng)
        shapes.append(_shape(matrices[-1], distance, noise))
        if distance <= max(threshold, noise):
            within = "the threshold" if distance <= threshold else "sampling noise"
            return FixedPoint(True, step, f"unchanged within {within}", matrices, shapes)
    return FixedPoint(False, None, f"still changing after {most_steps} steps", matrices, shapes)


def _shape(values: Array, distance: float | None, noise: float | None) -> Shape:
    flat = values.ravel()
    return Shape(flat.size, float(skew(flat)), float(kurtosis(flat)), distance, noise)


def _apart(one: Array, other: Array, draws: int, rng: np.random.Generator) -> tuple[float, float]:
    """Distance of two standardised samples, and what it would be had they one distribution."""

    def thinned(values: Array) -> Array:
        if len(values) <= MOST_ENTRIES:
            return values
        return rng.choice(values, MOST_ENTRIES, replace=False)

    def standard(values: Array) -> Array:
        return (values - values.mean()) / values.std()

    def distance(first: Array, second: Array) -> float:
        # each has mean 0 and variance 1, so do the parts that they are compared with
        return float(wasserstein_distance(standard(first), standard(second)))

    one, other = thinned(one), thinned(other)
    pooled = np.concatenate([one, other])
    null = []
    for _ in range(draws):
        mixed = rng.permutation(pooled)
        null.append(distance(mixed[: len(one)], mixed[len(one) :]))
    return distance(one, other), float(np.quantile(null, 0.95))


class CorrelationLength(NamedTuple):
    """Of C(r) = exp(-r / length), in rows or columns; NaN with a ``reason`` where there is none.

    ``correlations`` has shape (distances,), for r = 1, 2, ...: the mean of both directions, less
    that of permuted rows and columns, whose spread is ``null_std``. ``p_value`` is that of the sum
    of the first :data:`NEAREST`.
    """

    length: float
    error: float
    reason: str
    p_value: float
    correlations: Array
    null_std: Array


NEAREST = 4  # distances that decide whether there is any correlation


def correlation_length(
    matrix: ArrayLike,
    *,
    rng: np.random.Generator,
    farthest: int = 16,
    permutations: int = 999,
    level: float = 0.01,
) -> CorrelationLength:
    """How far entries W_ij are correlated with W_{i+r,j} and W_{i,j+r}.

    The correlation at each distance is compared with that of permuted rows and columns. The length
    is fitted to ln C(r) over the first distances at which C exceeds twice its spread, by weighted
    least squares; ``error`` is of that fit alone. One beyond ``farthest`` is refused.

    Parameters
    ----------
    farthest
        Largest distance, at most a quarter of the shorter side.
    permutations
        As the permuted rows enter by their scalar products alone, many are cheap.
    level
        Largest p-value at which there is a correlation to speak of.

    Raises
    ------
    ValueError
        If it is no matrix, is smaller than 8 x 8, has entries that are all equal or not finite, or
        there are fewer than 1 / level permutations.
    """
    values = normalised(matrix)
    farthest = min(farthest, min(values.shape) // 4)
    if farthest < 2:
        raise ValueError(f"matrix is {values.shape}, a correlation length takes at least 8 x 8")
    if permutations + 1 < 1 / level:
        raise ValueError(f"permutations must be at least 1 / level - 1, got {permutations}")
    found, null = np.zeros(farthest), np.zeros((permutations, farthest))
    for side in (values, values.T):
        products = side @ side.T / side.shape[1]
        order = np.arange(len(products))
        found += _along(products, order, farthest) / 2
        for draw in range(permutations):
            null[draw] += _along(products, rng.permutation(order), farthest) / 2
    centre, spread = null.mean(axis=0), null.std(axis=0, ddof=1)
    excess = found - centre
    nearest = min(NEAREST, farthest)
    summed = null[:, :nearest].sum(axis=1)
    p_value = p_above(found[:nearest].sum(), summed)

    def result(reason: str, length: float = np.nan, error: float = np.nan) -> CorrelationLength:
        return CorrelationLength(length, error, reason, p_value, excess, spread)

    if p_value > level:
        return result("no correlation beyond that of permuted rows and columns")
    beyond = excess > 2 * spread
    n = farthest if beyond.all() else int(np.argmin(beyond))
    if n < 3:
        return result(f"correlated at {n} distances only, too few to see a decay")
    r = np.arange(1, n + 1)
    (slope, _), covariance = np.polyfit(
        r, np.log(excess[:n]), 1, w=excess[:n] / spread[:n], cov="unscaled"
    )
    slope_error = float(np.sqrt(covariance[0, 0]))
    if slope + 2 * slope_error >= 0 or -1 / slope > farthest:
        return result("the correlation does not decay over these distances")
    return result("", float(-1 / slope), float(slope_error / slope**2))


def _along(products: Array, order: NDArray[np.intp], farthest: int) -> Array:
    """Mean scalar product of rows 1, 2, ... farthest apart in an order."""
    return np.array([products[order[:-r], order[r:]].mean() for r in range(1, farthest + 1)])


class SizeLaw(NamedTuple):
    """A peak's temperature against size: a power law, and freezing of independent levels.

    ``aicc_difference`` is that of freezing (T_f times one constant) minus that of the power law
    T_c(L) = T_inf (1 + a L^(-1/nu)): positive for the power law. Where it is not above 2, there are
    fewer than six sizes, or the fit fails, the parameters are NaN and ``reason`` says why.
    """

    limit: float
    limit_error: float
    nu: float
    nu_error: float
    amplitude: float
    freezing_ratio: float
    aicc_difference: float
    reason: str


def size_law(
    sizes: Sequence[float], temperatures: Sequence[float], freezing: Sequence[float]
) -> SizeLaw:
    """Fit T_c against size L, if anything but freezing is to be seen.

    Parameters
    ----------
    sizes, temperatures, freezing : arrays, shape (n,)
        L, the peak's temperature, and T_f of as many independent Gaussian levels.

    Raises
    ------
    ValueError
        If the arrays do not fit, have fewer than two different sizes, or are not positive.
    """
    length, peak, frozen = (
        checked_levels(x, name)
        for x, name in (
            (sizes, "sizes"),
            (temperatures, "temperatures"),
            (freezing, "freezing"),
        )
    )
    if not len(length) == len(peak) == len(frozen):
        raise ValueError("sizes, temperatures and freezing must be of one length")
    if len(np.unique(length)) < 2:
        raise ValueError("sizes: at least two different ones are needed")
    if min(length.min(), peak.min(), frozen.min()) <= 0:
        raise ValueError("sizes, temperatures and freezing must be positive")
    ratio = float(peak @ frozen / (frozen @ frozen))

    def declined(reason: str, difference: float = np.nan) -> SizeLaw:
        unknown = np.nan
        return SizeLaw(unknown, unknown, unknown, unknown, unknown, ratio, difference, reason)

    n = len(peak)
    if len(np.unique(length)) < 6:  # three parameters and a variance, corrected for small samples
        return declined("fewer than six different sizes")

    def law(x: Array, limit: float, amplitude: float, inverse: float) -> Array:
        return limit * (1 + amplitude * (x / length.min()) ** -inverse)

    try:
        best, covariance = curve_fit(
            law,
            length,
            peak,
            p0=[peak[np.argmax(length)], 0.1, 1.0],
            bounds=([0, -np.inf, 0.05], [np.inf, np.inf, 20]),
            max_nfev=5000,
        )
    except RuntimeError:
        return declined("the fit of a power law does not converge")
    powered = aicc(((peak - law(length, *best)) ** 2).sum(), n, 3)
    difference = aicc(((peak - ratio * frozen) ** 2).sum(), n, 1) - powered
    if not difference > 2:
        return declined("freezing of independent levels accounts for it as well", difference)
    errors = np.sqrt(np.diag(covariance))
    limit, amplitude, inverse = best
    return SizeLaw(
        limit=float(limit),
        limit_error=float(errors[0]),
        nu=float(1 / inverse),
        nu_error=float(errors[2] / inverse**2),
        amplitude=float(amplitude * length.min() ** inverse),
        freezing_ratio=ratio,
        aicc_difference=float(difference),
        reason="",
    )


def _check_block(block: int) -> None:
    if block < 2:
        raise ValueError(f"block must be at least 2, got {block}")
