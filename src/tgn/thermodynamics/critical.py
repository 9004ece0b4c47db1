"""The peak of the specific heat, what it would take to call it critical, and the null for both.

Independent Gaussian levels, the random-energy model of Derrida (1981), freeze at

    T_f = sigma / sqrt(2 ln N),

where the system falls into its few lowest levels. Their specific heat has a sharp, reproducible
peak somewhat above T_f. It is there in a matrix of pure noise, so a peak as such is no transition:
what counts is how far it lies from the peaks of Gaussian levels of the same number, mean and sigma.
Shuffling the entries would be no null at all, since the levels do not know their places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import find_peaks, savgol_filter

from tgn.statistics import aicc
from tgn.thermodynamics.levels import (
    checked_levels,
    checked_temperatures,
    temperature_grid,
    thermal_properties,
)

Array = NDArray[np.float64]

# In units of sigma: below the freezing temperature of any matrix, and far above the peak.
STANDARD_GRID = (0.05, 2.0)
FEWEST_POINTS = 6  # of a parabola with a variance, corrected for small samples


@dataclass(frozen=True)
class Peak:
    """The highest peak of a specific heat; unpacks as ``temperature, height``.

    ``temperature`` and ``height`` are those of the parabola through the highest point and its two
    neighbours, over ln T; ``index``, ``raw_height`` and ``spacing`` (relative, to the next
    temperature) those of the point. A peak ``at_edge`` of the temperatures is no peak: it may lie
    outside.
    """

    temperature: float
    height: float
    at_edge: bool
    index: int
    raw_height: float
    spacing: float

    def __iter__(self) -> Iterator[float]:
        return iter((self.temperature, self.height))


def find_peak(
    temperatures: ArrayLike,
    specific_heats: ArrayLike,
    *,
    smoothing: bool = False,
    window_length: int = 5,
) -> Peak:
    """The highest peak of C(T): a local one if there is any, else the highest point.

    Parameters
    ----------
    temperatures : array, shape (n,)
        Rising, at least three.
    specific_heats : array, shape (n,)
    smoothing
        Run a Savitzky-Golay filter (order 2) over the curve first. Exact curves have no noise.
    window_length
        Of the filter, in points, odd.

    Raises
    ------
    ValueError
        If the arrays do not fit, are not finite or are too short, or the window is not odd.
    """
    grid = checked_temperatures(temperatures)
    raw = checked_levels(specific_heats, "specific_heats")
    if len(raw) != len(grid):
        raise ValueError(f"specific_heats has {len(raw)} values for {len(grid)} temperatures")
    if len(grid) < 3:
        raise ValueError(f"temperatures: a peak takes at least three points, got {len(grid)}")
    if (np.diff(grid) <= 0).any():
        raise ValueError("temperatures must rise")
    curve = raw
    if smoothing:
        if window_length % 2 == 0 or not 3 <= window_length <= len(grid):
            raise ValueError(
                f"window_length must be odd and from 3 to {len(grid)}, got {window_length}"
            )
        curve = savgol_filter(raw, window_length, 2)
    inner = find_peaks(curve)[0]
    index = int(inner[np.argmax(curve[inner])]) if len(inner) else int(np.argmax(curve))
    at_edge = index in (0, len(grid) - 1)
    temperature, height = grid[index], curve[index]
    if not at_edge:
        temperature, height = _vertex(
            np.log(grid[index - 1 : index + 2]), curve[index - 1 : index + 2]
        )
    beside = index + 1 if index + 1 < len(grid) else index - 1
    spacing = abs(grid[beside] / grid[index] - 1)
    return Peak(
        float(temperature), float(height), at_edge, index, float(raw[index]), float(spacing)
    )


def _vertex(x: Array, y: Array) -> tuple[float, float]:
    """Top of the parabola through three points, x turned back from its logarithm."""
    a, b, c = np.polyfit(x - x[1], y, 2)
    if a >= 0:
        return np.exp(x[1]), y[1]
    top = np.clip(-b / (2 * a), x[0] - x[1], x[2] - x[1])
    return np.exp(x[1] + top), (a * top + b) * top + c


def freezing_temperature(sigma: float, n_levels: int) -> float:
    """T_f of the random-energy model, in the units of sigma.

    Raises
    ------
    ValueError
        If there are fewer than two levels or sigma is negative.
    """
    if n_levels < 2:
        raise ValueError(f"n_levels must be at least 2, got {n_levels}")
    if sigma < 0:
        raise ValueError(f"sigma must not be negative, got {sigma}")
    return sigma / np.sqrt(2 * np.log(n_levels))


class Null(NamedTuple):
    """Gaussian levels with sigma 1: what a matrix of noise would show.

    Curves have shape (draws, n_temperatures), peaks (draws,).
    """

    temperatures: Array
    specific_heat: Array
    entropy: Array
    peak_temperature: Array
    peak_height: Array


def gaussian_null(
    n_levels: int,
    temperatures: ArrayLike | tuple[float, float] = STANDARD_GRID,
    *,
    rng: np.random.Generator,
    draws: int = 100,
    degrees_of_freedom: float | None = None,
) -> Null:
    """Thermodynamics of random levels, by which a matrix of ``n_levels`` entries is judged.

    Drawn once for a number of levels: with the energies in units of sigma and counted from their
    mean it is the same for every matrix of that size.

    Parameters
    ----------
    temperatures
        In units of sigma.
    degrees_of_freedom
        Of Student's t, standardised, to ask how much heavier tails explain; Gaussian if None.

    Raises
    ------
    ValueError
        If there are fewer than two levels or one draw, or the t has no variance.
    """
    freezing_temperature(1.0, n_levels)
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    if degrees_of_freedom is not None and degrees_of_freedom <= 2:
        raise ValueError(f"degrees_of_freedom must exceed 2, got {degrees_of_freedom}")
    grid = temperature_grid(temperatures)
    heats, entropies, tops = [], [], []
    for _ in range(draws):
        if degrees_of_freedom is None:
            levels = rng.standard_normal(n_levels)
        else:
            spread = np.sqrt(degrees_of_freedom / (degrees_of_freedom - 2))
            levels = rng.standard_t(degrees_of_freedom, n_levels) / spread
        found = thermal_properties(levels, grid)
        heats.append(found.specific_heat)
        entropies.append(found.entropy)
        tops.append(tuple(find_peak(grid, found.specific_heat)))
    peaks = np.array(tops)
    return Null(grid, np.array(heats), np.array(entropies), peaks[:, 0], peaks[:, 1])


def excess(value: float, null: ArrayLike) -> tuple[float, float]:
    """How far a number lies from its null: z-score, and two-sided p by rank.

    The p-value counts the value among the draws, so that it is never below 2 / (draws + 1).

    Raises
    ------
    ValueError
        If the null has fewer than two draws.
    """
    draws = np.asarray(null, float).ravel()
    if len(draws) < 2:
        raise ValueError(f"null: at least two draws are needed, got {len(draws)}")
    spread = draws.std(ddof=1)
    z = (value - draws.mean()) / spread if spread else np.inf * np.sign(value - draws.mean())
    beyond = min(np.sum(draws >= value), np.sum(draws <= value))
    return float(z), float(min(1.0, 2 * (beyond + 1) / (len(draws) + 1)))


@dataclass(frozen=True)
class PowerLaw:
    """C ~ |t|^-alpha on one side of a critical temperature, t = (T - T_c) / T_c.

    ``aic_difference`` is that of a parabola in t minus that of the power law, both fitted to ln C:
    positive where the power law is the better account. With too few points to tell, all but ``n``
    are NaN.
    """

    alpha: float
    std_err: float
    r_squared: float
    n: int
    aic_difference: float

    @property
    def is_preferred(self) -> bool:
        """Whether a smooth hump is clearly the worse account of the points."""
        return self.aic_difference > 2


def power_law_at(
    temperatures: ArrayLike,
    specific_heats: ArrayLike,
    critical_temperature: float,
    *,
    side: str,
    reach: float = 0.2,
) -> PowerLaw:
    """Fit a power law to the points on one side of T_c within |t| < reach, six or more of them.

    Raises
    ------
    ValueError
        If the side is neither ``below`` nor ``above``, or T_c or reach is not positive.
    """
    if side not in ("below", "above"):
        raise ValueError(f"side must be below or above, got {side!r}")
    if not (critical_temperature > 0 and reach > 0):
        raise ValueError("critical_temperature and reach must be positive")
    grid = checked_temperatures(temperatures)
    heat = checked_levels(specific_heats, "specific_heats")
    t = (grid - critical_temperature) / critical_temperature
    chosen = (np.abs(t) < reach) & (heat > 0) & ((t < 0) if side == "below" else (t > 0))
    n = int(chosen.sum())
    if n < FEWEST_POINTS:
        return PowerLaw(np.nan, np.nan, np.nan, n, np.nan)
    t, y = t[chosen], np.log(heat[chosen])
    x = np.log(np.abs(t))
    (slope, intercept), covariance = np.polyfit(x, y, 1, cov=True)
    rest = ((y - slope * x - intercept) ** 2).sum()
    hump = ((y - np.polyval(np.polyfit(t, y, 2), t)) ** 2).sum()
    total = ((y - y.mean()) ** 2).sum()
    return PowerLaw(
        alpha=float(-slope),
        std_err=float(np.sqrt(covariance[0, 0])),
        r_squared=float(1 - rest / total) if total else 0.0,
        n=n,
        aic_difference=aicc(hump, n, 3) - aicc(rest, n, 2),
    )
