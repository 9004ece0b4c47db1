"""How the thermodynamics and the spectrum of a weight matrix answer to changes of it.

Kinds of change, and the unit of their amount:

    noise             Gaussian, of Frobenius norm amount * ||W||
    sign_flip         a random share of the entries changes sign
    top_direction     W + amount * ||W|| u v', with u, v of the largest singular value
    bottom_direction  the same with u, v of the smallest
    pruning           the share of the entries that are smallest in magnitude becomes zero
    truncation        the share of the singular values that are smallest becomes zero
    quantisation      entries rounded to so many bits, with one scale a row

What any of them did is measured on one axis, the relative size eps = ||W' - W|| / ||W|| in the
Frobenius norm. Noise of that very size in a random direction is the control: only where a change
does more than that, or less, does it matter which change it was.

To first order F moves by the Boltzmann average of the change of the levels, dF = sum p_i dE_i. Of
noise that average is zero in the mean over directions. What is left is of second order: noise of
size eps turns Gaussian levels of variance s^2 into ones of variance s^2 (1 + eps^2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tgn import rank
from tgn.statistics import Interval, bootstrap_interval
from tgn.thermodynamics import spectra
from tgn.thermodynamics.critical import STANDARD_GRID, find_peak
from tgn.thermodynamics.levels import (
    checked_levels,
    checked_temperatures,
    temperature_grid,
    thermal_properties,
)

Array = NDArray[np.floating]
Kind = Literal[
    "noise",
    "sign_flip",
    "top_direction",
    "bottom_direction",
    "pruning",
    "truncation",
    "quantisation",
]
Changes = Mapping[str, Sequence[float]]

KINDS: tuple[Kind, ...] = get_args(Kind)
RANDOM = ("noise", "sign_flip")
SHARES = ("sign_flip", "pruning", "truncation")
THERMAL = (
    "critical_temperature",
    "peak_height",
    "at_edge",
    "entropy",
    "specific_heat",
    "energy",
    "free_energy",
)


def apply(matrix: ArrayLike, kind: str, amount: float, *, rng: np.random.Generator) -> Array:
    """The matrix after one change; the one given stays as it is.

    Parameters
    ----------
    matrix : array, shape (m, n)
    kind
        One of :data:`KINDS`.
    amount
        In the unit of the kind, see the module. Zero changes nothing; of bits, which cannot be
        zero, the fewer the more is changed.
    rng
        For noise and sign_flip. A generator in the same state draws the same direction, and nested
        entries, for every amount.

    Returns
    -------
    array, shape (m, n), float64

    Raises
    ------
    ValueError
        If the matrix is none, is empty or not finite, the kind is unknown, or the amount is out of
        its range.

    Examples
    --------
    >>> apply([[3.0, 0.1], [-0.2, 2.0]], "pruning", 0.5, rng=np.random.default_rng())
    array([[3., 0.],
           [0., 2.]])
    """
    values = spectra.checked_matrix(matrix, "matrix")
    _check_amount(kind, amount)
    if kind == "quantisation":
        return _quantised(values, int(amount))
    if amount == 0:
        return values.copy()
    if kind == "noise":
        return values + _direction(values.shape, rng) * (amount * np.linalg.norm(values))
    if kind == "sign_flip":
        changed = values.copy().ravel()
        changed[rng.permutation(changed.size)[: round(amount * changed.size)]] *= -1
        return changed.reshape(values.shape)
    if kind == "pruning":
        changed = values.copy().ravel()
        changed[np.argsort(np.abs(changed), kind="stable")[: round(amount * changed.size)]] = 0
        return changed.reshape(values.shape)
    u, sigma, v = np.linalg.svd(values, full_matrices=False)
    if kind == "truncation":
        kept = len(sigma) - round(amount * len(sigma))
        return (u[:, :kept] * sigma[:kept]) @ v[:kept]
    which = 0 if kind == "top_direction" else -1
    return values + amount * np.linalg.norm(values) * np.outer(u[:, which], v[which])


def matched_noise(matrix: ArrayLike, changed: ArrayLike, *, rng: np.random.Generator) -> Array:
    """The control of a change: the matrix moved as far, in a random direction.

    Raises
    ------
    ValueError
        If either is no finite matrix, or their shapes differ.
    """
    values, other = _pair(matrix, changed)
    return values + _direction(values.shape, rng) * np.linalg.norm(other - values)


def relative_size(matrix: ArrayLike, changed: ArrayLike) -> float:
    """The eps of a change, ``||changed - matrix|| / ||matrix||`` in the Frobenius norm.

    Raises
    ------
    ValueError
        As :func:`matched_noise`, and if the matrix is zero but the other is not.
    """
    values, other = _pair(matrix, changed)
    moved, size = np.linalg.norm(other - values), np.linalg.norm(values)
    if size == 0 and moved > 0:
        raise ValueError("matrix is zero: nothing is large or small beside it")
    return float(moved / size) if moved else 0.0


def quantities(
    matrix: ArrayLike,
    *,
    mean: float | None = None,
    sigma: float | None = None,
    temperatures: ArrayLike | tuple[float, float] = STANDARD_GRID,
    at: float = 1.0,
) -> dict[str, float]:
    """A matrix in a few numbers: levels with a peak, and a spectrum.

    Parameters
    ----------
    matrix : array, shape (m, n)
    mean, sigma
        Of the ruler: energies are (entry - mean) / sigma, and temperatures in units of sigma. The
        matrix's own unless given; to compare a matrix with what became of it, give the first one's.
    temperatures
        In which to look for the peak of the specific heat.
    at
        Temperature of the entropy, energy, free energy and specific heat.

    Returns
    -------
    dict
        ``sigma`` (standard deviation of the entries, in their own unit); ``critical_temperature``
        (of the peak; NaN where it lies at the edge), ``peak_height``, ``at_edge``; ``entropy``,
        ``specific_heat``, ``energy``, ``free_energy`` at the one temperature; ``stable_rank``,
        ``participation_ratio``, ``effective_rank_sigma2``, ``effective_rank_sigma``; ``largest``
        (eigenvalue, over the edge of noise), ``mp_distance``, ``outliers``, NaN where half of
        the singular values are zero, so that there is no bulk. Entries that are all equal
        have no unit of energy, and NaN for what would be measured in it.

    Raises
    ------
    ValueError
        If it is no matrix, is empty or not finite, sigma is not positive, or a temperature is not.
    """
    values = spectra.checked_matrix(matrix, "matrix")
    if sigma is not None and not (np.isfinite(sigma) and sigma > 0):
        raise ValueError(f"sigma must be positive and finite, got {sigma}")
    spread = float(values.std())
    unit = spread if sigma is None else sigma
    grid, (point,) = temperature_grid(temperatures), checked_temperatures(at)
    found = {"sigma": spread} | dict.fromkeys(THERMAL, np.nan)
    if unit > 0:
        levels = (values - (values.mean() if mean is None else mean)) / unit
        found |= _thermal(levels, grid, point)
    return found | _spectral(rank.singular_values(values), values.shape)


def respond(
    matrix: ArrayLike,
    changes: Changes,
    *,
    rng: np.random.Generator,
    name: str = "matrix",
    draws: int = 5,
    control: bool = True,
    temperatures: ArrayLike | tuple[float, float] = STANDARD_GRID,
    at: float = 1.0,
) -> pd.DataFrame:
    """Every quantity of a matrix after every change.

    A draw keeps its direction over all amounts, so that it is one line from the matrix outwards.

    Parameters
    ----------
    matrix : array, shape (m, n)
    changes
        From the kind to its amounts.
    rng
        Of the random changes and of the controls.
    name
        For the column ``matrix``.
    draws
        Of each random change and of each control.
    control
        Whether to measure matched noise as well, of all kinds but noise, which is its own.
    temperatures, at
        As :func:`quantities`, in units of the unchanged matrix's standard deviation, which is the
        unit of all energies and singular values here.

    Returns
    -------
    DataFrame
        A row each: ``matrix``, ``kind``, ``amount``, ``control``, ``draw``, ``eps`` (the relative
        size of the change), ``metric`` (those of :func:`quantities`, and ``spectrum``, the distance
        of the singular values from the unchanged ones, relative to their norm), ``value``,
        ``reference`` (of the unchanged matrix) and ``change``.

    Raises
    ------
    ValueError
        As :func:`apply` and :func:`quantities`, if there are no changes or draws, or the entries
        are all equal.
    """
    values = spectra.checked_matrix(matrix, "matrix")
    unit = float(values.std())
    if unit == 0:
        raise ValueError("matrix: all entries are equal, so there is no unit of energy")
    values = values / unit
    middle, sigma = float(values.mean()), rank.singular_values(values)

    def measured(changed: Array) -> dict[str, float]:
        found = quantities(changed, mean=middle, sigma=1.0, temperatures=temperatures, at=at)
        moved = np.linalg.norm(rank.singular_values(changed) - sigma) / np.linalg.norm(sigma)
        return found | {"spectrum": float(moved)}

    reference = measured(values)
    rows = []
    for place, changed in variants(values, changes, rng=rng, draws=draws, control=control):
        for metric, value in measured(changed).items():
            before = reference[metric]
            rows.append(
                {"matrix": name}
                | place
                | {"metric": metric, "value": value, "reference": before, "change": value - before}
            )
    return pd.DataFrame(rows)


def variants(
    matrix: ArrayLike,
    changes: Changes,
    *,
    rng: np.random.Generator,
    draws: int,
    control: bool = True,
) -> Iterator[tuple[dict[str, Any], Array]]:
    """What becomes of a matrix: one for every kind, amount and draw, and for each control.

    Yields
    ------
    place : dict
        ``kind``, ``amount``, ``control``, ``draw``, ``eps``.
    changed : array, shape (m, n)

    Raises
    ------
    ValueError
        As :func:`apply`, and if there are no changes or draws.
    """
    if not changes or not all(len(amounts) for amounts in changes.values()):
        raise ValueError("changes: name at least one kind, each with at least one amount")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    values = spectra.checked_matrix(matrix, "matrix")
    for kind, amounts in changes.items():
        for amount in amounts:
            _check_amount(kind, amount)
    seeds = rng.integers(2**63, size=draws)
    for kind, amounts in changes.items():
        for amount in amounts:
            of_kind: dict[str, Any] = {"kind": kind, "amount": float(amount)}
            for draw in range(draws if kind in RANDOM else 1):
                changed = apply(values, kind, amount, rng=np.random.default_rng(seeds[draw]))
                eps = relative_size(values, changed)
                yield of_kind | {"control": False, "draw": draw, "eps": eps}, changed
            if not control or kind == "noise":
                continue
            for draw in range(draws):  # of sign flips, those of the last draw are matched
                generator = np.random.default_rng([seeds[draw], 1])
                moved = matched_noise(values, changed, rng=generator)
                yield of_kind | {"control": True, "draw": draw, "eps": eps}, moved


def susceptibility(
    rows: pd.DataFrame, *, rng: np.random.Generator, largest: float = 0.2
) -> pd.DataFrame:
    """The first answer to a small change: slope and curvature of every quantity at eps = 0.

    Each draw's changes are fitted by ``slope * eps + curvature * eps**2``, which passes through
    zero as the changes do. The slope of noise has mean zero unless the quantity has a direction in
    which all noise moves it, as the rank has; what noise does otherwise is in the curvature.

    Parameters
    ----------
    rows
        As :func:`respond` gives them, of any number of matrices.
    rng
        Of the bootstrap over draws.
    largest
        Up to which eps a change counts as small.

    Returns
    -------
    DataFrame
        A row for each matrix, kind, control and metric with at least two such sizes: ``slope``,
        ``low``, ``high``, ``curvature``, ``curvature_low``, ``curvature_high`` (means over draws
        with 95 % intervals, missing below three draws) and ``draws``.

    Raises
    ------
    ValueError
        If columns are missing, ``largest`` is not positive, or nothing has two such sizes.
    """
    keys = ["matrix", "kind", "control", "metric"]
    if missing := {*keys, "draw", "eps", "change"} - set(rows):
        raise ValueError(f"rows lack {', '.join(sorted(missing))}: give those of respond")
    if not largest > 0:
        raise ValueError(f"largest must be positive, got {largest}")
    small = rows[(rows["eps"] > 0) & (rows["eps"] <= largest)].dropna(subset="change")
    found = []
    for key, group in small.groupby(keys, sort=False):
        fits = [
            np.linalg.lstsq(np.stack([eps, eps**2], axis=1), draw["change"].to_numpy())[0]
            for _, draw in group.groupby("draw")
            if len(np.unique(eps := draw["eps"].to_numpy())) > 1
        ]
        if not fits:
            continue
        slope, curvature = (
            _mean_of_draws(np.array(column), rng) for column in zip(*fits, strict=True)
        )
        found.append(
            dict(zip(keys, key, strict=True))
            | slope._asdict()
            | {f"curvature_{end}": value for end, value in curvature._asdict().items()}
            | {"draws": len(fits)}
        )
    if not found:
        raise ValueError(f"rows: no change was made in two sizes up to largest = {largest}")
    return pd.DataFrame(found).rename(columns={"value": "slope", "curvature_value": "curvature"})


def free_energy_slope(energies: ArrayLike, direction: ArrayLike, temperatures: ArrayLike) -> Array:
    """First-order answer of the free energy: dF / d eps = sum p_i d_i of levels E + eps d.

    Parameters
    ----------
    energies, direction : arrays of one shape
        Levels, and how fast each of them moves.
    temperatures : array, shape (n,)
        In units of energy (k_B = 1).

    Returns
    -------
    array, shape (n,)

    Raises
    ------
    ValueError
        If the levels and their changes differ in number, are none or not finite, or a temperature
        is not positive.

    Examples
    --------
    Of two equal levels each is as likely, so half of a change of one is seen:

    >>> free_energy_slope([0.0, 0.0], [1.0, 0.0], [2.0])
    array([0.5])
    """
    levels, moves = checked_levels(energies), checked_levels(direction, "direction")
    if np.shape(energies) != np.shape(direction):
        raise ValueError(
            f"direction has shape {np.shape(direction)} and energies {np.shape(energies)}"
        )
    above = levels - levels.min()
    slopes = []
    for kelvin in checked_temperatures(temperatures):
        weights = np.exp(-above / kelvin)
        slopes.append(weights @ moves / weights.sum())
    return np.array(slopes)


def _check_amount(kind: str, amount: float) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if kind == "quantisation":
        if amount != int(amount) or not 2 <= amount <= 32:
            raise ValueError(f"amount: quantisation takes whole bits from 2 to 32, got {amount}")
    elif kind in SHARES:
        if not 0 <= amount <= 1:
            raise ValueError(f"amount: {kind} takes a share from 0 to 1, got {amount}")
    elif not (np.isfinite(amount) and amount >= 0):
        raise ValueError(f"amount: {kind} takes a relative size of at least 0, got {amount}")


def _quantised(values: Array, bits: int) -> Array:
    """Rounded to the nearest of 2^bits - 1 levels, symmetric about zero, by absolute maximum."""
    steps = np.abs(values).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
    steps[steps == 0] = 1.0
    return np.rint(values / steps) * steps


def _direction(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    drawn = rng.standard_normal(shape)
    return drawn / np.linalg.norm(drawn)


def _pair(matrix: ArrayLike, changed: ArrayLike) -> tuple[Array, Array]:
    values = spectra.checked_matrix(matrix, "matrix")
    other = spectra.checked_matrix(changed, "changed")
    if values.shape != other.shape:
        raise ValueError(f"changed has shape {other.shape} and matrix {values.shape}")
    return values, other


def _thermal(levels: Array, grid: Array, at: float) -> dict[str, float]:
    found = thermal_properties(levels, np.append(grid, at))
    peak = find_peak(grid, found.specific_heat[:-1])
    return {
        "critical_temperature": np.nan if peak.at_edge else peak.temperature,
        "peak_height": peak.height,
        "at_edge": float(peak.at_edge),
        "entropy": float(found.entropy[-1]),
        "specific_heat": float(found.specific_heat[-1]),
        "energy": float(found.energy[-1]),
        "free_energy": float(found.free_energy[-1]),
    }


def _spectral(sigma: Array, shape: tuple[int, int]) -> dict[str, float]:
    found = {
        "stable_rank": float(rank.renyi_rank(sigma**2, np.inf)),
        "participation_ratio": float(rank.renyi_rank(sigma**2, 2)),
        "effective_rank_sigma2": float(rank.renyi_rank(sigma**2, 1)),
        "effective_rank_sigma": float(rank.renyi_rank(sigma, 1)),
    }
    values = sigma**2 / max(shape)
    aspect = min(shape) / max(shape)
    if min(shape) < 2 or 2 * np.count_nonzero(values) <= len(values):
        return found | dict.fromkeys(("largest", "mp_distance", "outliers"), np.nan)
    variance = spectra.bulk_variance(values, aspect)
    return found | {
        "largest": float(values[0] / spectra.edges(aspect, variance)[1]),
        "mp_distance": spectra.distance(values, aspect, variance),
        "outliers": float(spectra.outliers(values, shape, variance).number),
    }


def _mean_of_draws(values: Array, rng: np.random.Generator) -> Interval:
    if len(values) < 3 or np.ptp(values) == 0:
        ends = np.nan if len(values) < 3 else float(values[0])
        return Interval(float(values.mean()), ends, ends)
    return bootstrap_interval(values, rng=rng, resamples=1000)
