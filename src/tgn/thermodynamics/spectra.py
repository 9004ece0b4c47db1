"""Singular-value spectra of weight matrices against those of noise.

For W of shape (m, n) with independent entries of variance s^2 the eigenvalues of W W' / max(m, n)
follow the law of Marchenko and Pastur (1967), with q = min(m, n) / max(m, n) <= 1:

    density sqrt((l+ - x)(x - l-)) / (2 pi s^2 q x) between l-+ = s^2 (1 -+ sqrt q)^2,

of mass 1 over the min(m, n) eigenvalues: a matrix and its transpose have the same law, and there is
no mass at zero. At q = 1 the density diverges at l- = 0, integrably.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import powerlaw
from numpy.typing import ArrayLike, NDArray

from tgn.rank import marchenko_pastur_cdf, rank_profile
from tgn.thermodynamics.levels import checked_levels

Array = NDArray[np.floating]

TRACY_WIDOM_99 = 2.0234  # quantile of the law of the largest eigenvalue (real entries)


def eigenvalues(matrix: ArrayLike) -> Array:
    """Of W W' / max(m, n), falling, shape (min(m, n),).

    Raises
    ------
    ValueError
        If it is no matrix, is empty or not finite.
    """
    values = checked_matrix(matrix)
    return np.linalg.svd(values, compute_uv=False) ** 2 / max(values.shape)


def checked_matrix(matrix: ArrayLike, name: str = "weight_matrix") -> Array:
    """The matrix in float64; refused if it has another number of axes, is empty or not finite."""
    values = np.asarray(matrix, np.float64)
    checked_levels(values, name)
    if values.ndim != 2:
        raise ValueError(f"{name} has {values.ndim} axes, a matrix has two")
    return values


def edges(aspect: float, variance: float = 1.0) -> tuple[float, float]:
    """Where the law begins and ends, for q = ``aspect`` in (0, 1].

    >>> [round(float(x), 4) for x in edges(0.5)]
    [0.0858, 2.9142]
    """
    _check(aspect, variance)
    return variance * (1 - np.sqrt(aspect)) ** 2, variance * (1 + np.sqrt(aspect)) ** 2


def density(x: ArrayLike, aspect: float, variance: float = 1.0) -> Array:
    """The law's density; zero outside of the edges."""
    low, high = edges(aspect, variance)
    at = np.asarray(x, np.float64)
    inside = (at > low) & (at < high)
    safe = np.where(inside, at, 1.0)
    height = np.sqrt(np.where(inside, (high - at) * (at - low), 0.0))
    return height / (2 * np.pi * variance * aspect * safe)


def distance(found: ArrayLike, aspect: float, variance: float | None = None) -> float:
    """Kolmogorov-Smirnov distance of eigenvalues from the law.

    The variance is estimated from the bulk unless given, see :func:`bulk_variance`.
    """
    values = np.sort(checked_levels(found, "eigenvalues"))
    variance = bulk_variance(values, aspect) if variance is None else variance
    _check(aspect, variance)
    law = marchenko_pastur_cdf(values / variance, aspect)
    steps = np.arange(len(values) + 1) / len(values)
    return float(max((steps[1:] - law).max(), (law - steps[:-1]).max()))


def bulk_variance(found: ArrayLike, aspect: float) -> float:
    """Variance of the entries by the median eigenvalue, which a few large ones do not move."""
    values = checked_levels(found, "eigenvalues")
    _check(aspect, 1.0)
    grid = np.linspace(*edges(aspect), 4001)
    median = np.interp(0.5, marchenko_pastur_cdf(grid, aspect), grid)
    variance = float(np.median(values) / median)
    if variance <= 0:
        raise ValueError("eigenvalues: the median is zero, so there is no bulk to measure")
    return variance


class Outliers(NamedTuple):
    """Eigenvalues beyond the noise: how many, the share of the trace they hold, and the bar."""

    number: int
    share: float
    threshold: float


def outliers(found: ArrayLike, shape: tuple[int, int], variance: float | None = None) -> Outliers:
    """Eigenvalues that the largest one of a noise matrix stays below 99 times in 100.

    The bar is the 99 % quantile of Tracy and Widom's law for real entries, centred and scaled as by
    Johnstone (2001).
    """
    values = checked_levels(found, "eigenvalues")
    short, long = sorted(shape)
    variance = bulk_variance(values, short / long) if variance is None else variance
    roots = np.sqrt(long - 1) + np.sqrt(short)
    scale = roots * (1 / np.sqrt(long - 1) + 1 / np.sqrt(short)) ** (1 / 3)
    threshold = float(variance * (roots**2 + TRACY_WIDOM_99 * scale) / long)
    beyond = values > threshold
    return Outliers(int(beyond.sum()), float(values[beyond].sum() / values.sum()), threshold)


class Tail(NamedTuple):
    """A power law x^-alpha fitted to the largest eigenvalues, and how it compares.

    ``log_ratio_*`` is the normalised log-likelihood ratio of the power law against another law on
    the same tail (positive for the power law) and ``p_*`` its significance: above 0.1 neither is
    preferred.
    """

    alpha: float
    alpha_error: float
    start: float
    n: int
    distance: float
    log_ratio_lognormal: float
    p_lognormal: float
    log_ratio_exponential: float
    p_exponential: float


def tail(found: ArrayLike) -> Tail:
    """Fit the tail by maximum likelihood, its start by the least distance (Clauset et al. 2009).

    By the package powerlaw (Alstott et al. 2014).

    Raises
    ------
    ValueError
        If there are fewer than ten positive eigenvalues.
    """
    values = checked_levels(found, "eigenvalues")
    values = values[values > 0]
    if len(values) < 10:
        raise ValueError(f"eigenvalues: a tail takes at least ten positive ones, got {len(values)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of candidates for the start that cannot be fitted
        fit = powerlaw.Fit(values, discrete=False, verbose=0)
        lognormal = fit.distribution_compare("power_law", "lognormal", normalized_ratio=True)
        exponential = fit.distribution_compare("power_law", "exponential", normalized_ratio=True)
    law = fit.power_law
    return Tail(
        alpha=float(law.alpha),
        alpha_error=float(law.standard_err),
        start=float(fit.xmin),
        n=int((values >= fit.xmin).sum()),
        distance=float(law.D),
        log_ratio_lognormal=float(lognormal[0]),
        p_lognormal=float(lognormal[1]),
        log_ratio_exponential=float(exponential[0]),
        p_exponential=float(exponential[1]),
    )


def summary(matrix: ArrayLike) -> dict[str, float]:
    """What a spectrum comes down to: the rank family, and its distance from noise.

    Returns
    -------
    dict
        The keys of :func:`tgn.rank.rank_profile`, ``mp_distance``, ``variance`` (of the entries, by
        the bulk), ``outliers``, ``outlier_share`` and ``largest`` (over the law's upper edge).
    """
    values = checked_matrix(matrix)
    found = eigenvalues(values)
    aspect = min(values.shape) / max(values.shape)
    variance = bulk_variance(found, aspect)
    beyond = outliers(found, values.shape, variance)
    ranks = {name: float(rank) for name, rank in rank_profile(values).items()}
    return ranks | {
        "mp_distance": distance(found, aspect, variance),
        "variance": variance,
        "outliers": beyond.number,
        "outlier_share": beyond.share,
        "largest": float(found[0] / edges(aspect, variance)[1]),
    }


def _check(aspect: float, variance: float) -> None:
    if not 0 < aspect <= 1:
        raise ValueError(f"aspect is shorter over longer side, in (0, 1], got {aspect}")
    if not variance > 0:
        raise ValueError(f"variance must be positive, got {variance}")
