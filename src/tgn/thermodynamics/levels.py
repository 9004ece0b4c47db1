"""Thermodynamics of independent levels: one system in one of N states of given energies.

With beta = 1 / (k_B T), Z = sum exp(-beta E_i) and p_i = exp(-beta E_i) / Z,

    U = sum p E            energy
    F = -k_B T ln Z        free energy
    S = k_B (ln Z + beta U)               entropy, 0 <= S <= k_B ln N
    C = k_B beta^2 sum p (E - U)^2        specific heat, dU / dT

All is in float64 and relative to the lowest level, so that no exponential overflows.

Levels by the hundred thousand at many temperatures: the levels are put into bins once, with the
power sums of their places in them, and exp(-beta E) is expanded about the bins' centres. Narrow
bins with few powers are quick to fill; many of them make one wide bin with many powers, and few of
those are left to sum at each temperature. The terms left out are below 1e-11 of Z. A temperature so
low that this would take more bins than there are levels is summed level by level, over those for
which exp(-beta E) is not zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tgn.kernels.boltzmann import MOMENTS, binned_moments

Array = NDArray[np.float64]

REACH = 1 / 4  # largest beta |E - centre| in a wide bin
TERMS = 10  # of the expansion there: REACH^10 / 10! = 3e-13
NARROW = 64  # narrow bins in a wide one: (REACH / 64)^4 / 4! = 1e-11
MOST_BINS = 2**19  # narrow ones
AT_ONCE = 2**13  # numbers in a block of temperatures by bins: little memory, and fast
VANISHING = 745.0  # exp(-x) is zero in float64 beyond


@dataclass(frozen=True)
class ThermalProperties:
    """Curves over temperature, each of shape (n_temperatures,)."""

    temperatures: Array
    specific_heat: Array
    energy: Array
    entropy: Array
    free_energy: Array


def thermal_properties(
    energies: ArrayLike, temperatures: ArrayLike, *, k_B: float = 1.0
) -> ThermalProperties:
    """Energy, entropy, free energy and specific heat at each temperature.

    Parameters
    ----------
    energies : array of any shape
        The levels, in units of energy.
    temperatures : array, shape (n,)
        In units of energy / k_B.

    Raises
    ------
    ValueError
        If there are no levels or temperatures, a value is not finite, or a temperature or k_B is
        not positive.

    Examples
    --------
    Two levels, a distance 1 apart:

    >>> two = thermal_properties([0.0, 1.0], [1.0])
    >>> bool(np.isclose(two.energy[0], 1 / (1 + np.e)))
    True
    """
    levels = checked_levels(energies)
    kelvins = checked_temperatures(temperatures)
    if not (np.isfinite(k_B) and k_B > 0):
        raise ValueError(f"k_B must be positive and finite, got {k_B}")
    thermal = k_B * kelvins
    lowest = levels.min()
    log_z, mean, variance = _log_z_and_moments(levels, lowest, 1 / thermal)
    energy = lowest + mean
    return ThermalProperties(
        temperatures=kelvins,
        specific_heat=k_B * variance / thermal**2,
        energy=energy,
        entropy=k_B * (log_z + mean / thermal),
        free_energy=lowest - thermal * log_z,
    )


def checked_levels(energies: ArrayLike, name: str = "energies") -> Array:
    """The levels as one float64 row.

    Raises
    ------
    ValueError
        If there are none, or one is not finite.
    """
    levels = np.asarray(energies, dtype=np.float64).ravel()
    if not levels.size:
        raise ValueError(f"{name} is empty")
    if not (np.isfinite(levels.min()) and np.isfinite(levels.max())):
        raise ValueError(f"{name} has {np.sum(~np.isfinite(levels))} values that are not finite")
    return levels


def checked_temperatures(temperatures: ArrayLike) -> Array:
    """The temperatures as one float64 row.

    Raises
    ------
    ValueError
        If there are none, or one is not positive and finite.
    """
    kelvins = np.atleast_1d(np.asarray(temperatures, dtype=np.float64)).ravel()
    if not kelvins.size:
        raise ValueError("temperatures is empty")
    if not (np.isfinite(kelvins).all() and (kelvins > 0).all()):
        raise ValueError("temperatures must be positive and finite")
    return kelvins


def temperature_grid(temperatures: ArrayLike | tuple[float, float], n_temps: int = 50) -> Array:
    """A tuple of two numbers as a range, log-spaced; anything else as it is.

    Raises
    ------
    ValueError
        As :func:`checked_temperatures`, and if a range is not rising or has fewer than two points.
    """
    if not (isinstance(temperatures, tuple) and len(temperatures) == 2):
        return checked_temperatures(temperatures)
    low, high = checked_temperatures(temperatures)
    if low >= high:
        raise ValueError(f"temperatures: the range {temperatures} does not rise")
    if n_temps < 2:
        raise ValueError(f"n_temps must be at least 2, got {n_temps}")
    return np.geomspace(low, high, n_temps)


def _log_z_and_moments(levels: Array, lowest: float, betas: Array) -> tuple[Array, Array, Array]:
    """ln Z, mean and variance of E, all of energies above the lowest; each of shape (n,)."""
    span = levels.max() - lowest
    log_z, mean, variance = np.empty((3, len(betas)))
    bins = np.ceil(betas * span / (2 * REACH))
    binned = NARROW * bins <= min(MOST_BINS, levels.size)
    if binned.any():
        found = _by_bins(levels, lowest, span, betas[binned], int(max(1, bins[binned].max())))
        log_z[binned], mean[binned], variance[binned] = found
    for i in np.flatnonzero(~binned):
        log_z[i], mean[i], variance[i] = _by_levels(levels, lowest, betas[i])
    return log_z, mean, variance


def _by_levels(levels: Array, lowest: float, beta: float) -> tuple[float, float, float]:
    above = levels[levels <= lowest + VANISHING / beta] - lowest
    weights = np.exp(-beta * above)
    z = weights.sum()
    mean = weights @ above / z
    return np.log(z), mean, weights @ (above - mean) ** 2 / z


def _by_bins(
    levels: Array, lowest: float, span: float, betas: Array, bins: int
) -> tuple[Array, Array, Array]:
    width = max(span / bins, 1e-300)  # all levels may be equal
    narrow = binned_moments(levels, lowest, width / NARROW, bins * NARROW)
    moments = narrow.reshape(bins, NARROW * MOMENTS) @ _WIDENING
    used = moments[:, 0] > 0
    moments, centres = moments[used], ((np.arange(bins) + 0.5) * width)[used]
    powers = np.arange(TERMS)
    factorials = np.cumprod(np.maximum(powers, 1))
    block = max(1, AT_ONCE // len(centres))
    parts: list[Sequence[Array]] = []
    for first in range(0, len(betas), block):
        beta = betas[first : first + block, None]
        series = (-beta * width / 2) ** powers / factorials
        weight = np.exp(-beta * centres)
        # sums over a bin's levels of exp(-beta E) x^m, for m = 0, 1, 2
        zeroth, once, twice = (weight * (series @ moments[:, m : m + TERMS].T) for m in range(3))
        z = zeroth.sum(axis=1)
        mean = (zeroth @ centres + width / 2 * once.sum(axis=1)) / z
        off = centres - mean[:, None]
        spread = (off**2 * zeroth + width * off * once + width**2 / 4 * twice).sum(axis=1)
        parts.append((np.log(z), mean, spread / z))
    log_z, mean, variance = (np.concatenate(part) for part in zip(*parts, strict=True))
    return log_z, mean, np.maximum(variance, 0.0)


def _widening() -> Array:
    """The matrix from the power sums of narrow bins to those of the wide bin they make.

    In the wide bin's coordinate a narrow one's x is c + x / NARROW, whose powers are binomial sums.
    Shape (NARROW * MOMENTS, TERMS + 2).
    """
    centres = (2 * np.arange(NARROW) + 1) / NARROW - 1
    made = np.zeros((NARROW, MOMENTS, TERMS + 2))
    for j in range(TERMS + 2):
        for i in range(min(j + 1, MOMENTS)):
            made[:, i, j] = math.comb(j, i) * centres ** (j - i) / NARROW**i
    return made.reshape(NARROW * MOMENTS, TERMS + 2)


_WIDENING = _widening()
