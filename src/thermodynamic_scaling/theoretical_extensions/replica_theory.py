"""Overlaps of replicas, symmetry breaking and the landscape of energies of a weight matrix.

The published functions by name, arguments and result. A call takes the matrix in one of two ways
(``method``, see :mod:`tgn.thermodynamics.replicas`):

- ``couplings`` of Ising spins, whose replicas are sampled at the temperature. Temperatures are in
  units where couplings as wide, but Gaussian, freeze at 1. At most ``n_spins`` rows and columns,
  drawn by ``rng``, are used: a block of the matrix.
- ``levels`` of one system: exact, of all entries, with temperatures in units of their sigma.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tgn.thermodynamics import replicas
from tgn.thermodynamics.levels import (
    checked_levels,
    checked_temperatures,
    temperature_grid,
    thermal_properties,
)

Array = NDArray[np.floating]
Method = Literal["couplings", "levels"]
Random = np.random.Generator | int | None

X_VALUES = (np.arange(100) + 0.5) / 100


def replica_entropy(
    weight_matrix: ArrayLike,
    temperature: float,
    n_replicas: int = 10,
    n_samples: int = 1000,
    *,
    method: Method = "couplings",
    n_spins: int = 64,
    rng: Random = None,
) -> float:
    """Thermal entropy in nats, per spin (0 to ln 2) or of the one system (0 to ln N).

    Of spins by integrating the replicas' mean energy from infinite temperature. The published
    -T sum ln lambda / (2 n) over the eigenvalues of an overlap matrix is no entropy.

    Raises
    ------
    ValueError
        If the matrix is unfit, the temperature not positive, the method unknown, or there are
        fewer than three replicas or one sample.
    """
    _check(method)
    temperature = _number(temperature)
    if method == "levels":
        return float(thermal_properties(_standard(weight_matrix), [temperature]).entropy[0])
    generator = np.random.default_rng(rng)
    coupled = replicas.couplings(weight_matrix, n_spins, rng=generator)
    found = replicas.sample(
        coupled, [temperature], rng=generator, n_replicas=n_replicas, n_samples=n_samples
    )
    return replicas.thermodynamics(found).entropy / len(coupled)


def energy_landscape_complexity(
    weight_matrix: ArrayLike,
    temperature_range: ArrayLike | tuple[float, float],
    n_temps: int = 20,
    n_replicas: int = 5,
    *,
    n_spins: int = 24,
    n_quenches: int = 300,
    rng: Random = None,
) -> dict[str, Any]:
    """ln(number of states) / N over temperature, of the matrix as couplings.

    The states are the minima in which quenches from random configurations end, each followed
    upwards in temperature as a solution of the mean-field equations. States merge as it rises, so
    the complexity falls, and is 0 from where there is only one.

    Parameters
    ----------
    temperature_range
        A tuple of two is a range.
    n_replicas
        Independent repetitions, each of ``n_quenches``, with a block of the matrix of its own.

    Returns
    -------
    dict
        ``temperatures``, ``complexity``, its standard ``error`` over repetitions (NaN of one), each
        (n_temperatures,), and ``coverage``: the share of quenches that end in known minima. Where
        it is low, the complexity is a lower bound.

    Raises
    ------
    ValueError
        If the matrix is unfit, a temperature is not positive, or a number below 1.
    """
    grid = temperature_grid(temperature_range, n_temps)
    if n_replicas < 1:
        raise ValueError(f"n_replicas must be at least 1, got {n_replicas}")
    generator = np.random.default_rng(rng)
    found, coverage = [], []
    for _ in range(n_replicas):
        coupled = replicas.couplings(weight_matrix, n_spins, rng=generator)
        minima = replicas.minima(coupled, n_quenches, rng=generator)
        standing = replicas.surviving(coupled, minima.states, grid)
        found.append(np.log(standing) / len(coupled))
        coverage.append(minima.coverage)
    spread = np.std(found, axis=0, ddof=1) if n_replicas > 1 else np.full(len(grid), np.nan)
    return {
        "temperatures": grid,
        "complexity": np.mean(found, axis=0),
        "error": spread / np.sqrt(n_replicas),
        "coverage": float(np.mean(coverage)),
    }


def replica_symmetry_breaking(
    weight_matrix: ArrayLike,
    temperature: float,
    n_replicas: int = 10,
    n_samples: int = 1000,
    *,
    method: Method = "couplings",
    n_spins: int = 64,
    n_null: int = 39,
    level: float = 0.05,
    rng: Random = None,
) -> dict[str, Any]:
    """Spectrum and distribution of overlaps, and whether they are broader than those of noise.

    Noise couplings break replica symmetry themselves, below 1. ``rsb_detected`` says that this
    matrix does so more than ``n_null`` Gaussian ones of its size, at this temperature: for a matrix
    of noise with probability ``level``, and next to never where noise is not frozen.

    Returns
    -------
    dict
        ``eigenvalues`` (n_replicas,) of the overlap matrix, falling, averaged over samples,
        ``eigenvalue_gap`` (between the first two), ``eigenvalue_dispersion`` (their standard
        deviation; their mean is 1); of abs(q) ``overlap_mean``, ``overlap_std``,
        ``overlap_dispersion`` (std / mean), and the errors of the former two, ``*_error``;
        ``overlap_std_null`` (n_null,), ``p_value``, ``frozen``, ``rsb_detected``, ``method``. With
        ``levels`` an overlap is 0 or 1, without error, and the null is of ``overlap_mean``, Y_2:
        ``overlap_mean_null``.

    Raises
    ------
    ValueError
        If the matrix is unfit, the temperature not positive, the method unknown, or there are
        fewer than three replicas, one sample or 19 draws of the null.
    """
    _check(method)
    temperature = _number(temperature)
    generator = np.random.default_rng(rng)
    if method == "levels":
        return _level_breaking(weight_matrix, temperature, n_replicas, n_null, level, generator)
    test, found = replicas.breaking(
        weight_matrix,
        temperature,
        rng=generator,
        n_spins=n_spins,
        n_replicas=n_replicas,
        n_samples=n_samples,
        n_null=n_null,
    )
    value, error = replicas.moments(found)
    return _spectrum(found.eigenvalues) | {
        "overlap_mean": value.mean,
        "overlap_mean_error": error.mean,
        "overlap_std": value.std,
        "overlap_std_error": error.std,
        "overlap_dispersion": value.std / value.mean,
        "overlap_std_null": test.null,
        "p_value": test.p_value,
        "frozen": test.is_frozen,
        "rsb_detected": test.is_detected(level),
        "method": method,
    }


def _level_breaking(
    weight_matrix: ArrayLike,
    temperature: float,
    n_replicas: int,
    n_null: int,
    level: float,
    rng: np.random.Generator,
) -> dict[str, Any]:
    test = replicas.level_breaking(_standard(weight_matrix), temperature, rng=rng, n_null=n_null)
    same = test.statistic
    spread = np.sqrt(same * (1 - same))
    # the mean of the overlap matrix: 1 on the diagonal, Y_2 off it
    eigenvalues = np.full(n_replicas, 1 - same)
    eigenvalues[0] += n_replicas * same
    return _spectrum(eigenvalues) | {
        "overlap_mean": same,
        "overlap_mean_error": 0.0,
        "overlap_std": spread,
        "overlap_std_error": 0.0,
        "overlap_dispersion": spread / same,
        "overlap_mean_null": test.null,
        "p_value": test.p_value,
        "frozen": test.is_frozen,
        "rsb_detected": test.is_detected(level),
        "method": "levels",
    }


def _spectrum(eigenvalues: Array) -> dict[str, Any]:
    return {
        "eigenvalues": eigenvalues,
        "eigenvalue_gap": float(eigenvalues[0] - eigenvalues[1]),
        "eigenvalue_dispersion": float(eigenvalues.std()),
    }


def parisi_order_parameter(
    weight_matrix: ArrayLike,
    temperature_range: ArrayLike | tuple[float, float],
    n_temps: int = 20,
    n_replicas: int = 10,
    *,
    n_samples: int = 1000,
    method: Method = "couplings",
    n_spins: int = 64,
    rng: Random = None,
) -> dict[str, Any]:
    """Parisi's q(x): the abs(q) below which a share x of the overlaps lies, with its error.

    Flat where replica symmetry holds, rising where it is broken; of levels a step from 0 to 1 at
    x = 1 - Y_2, exact.

    Parameters
    ----------
    temperature_range
        A tuple of two is a range.

    Returns
    -------
    dict
        ``temperatures`` (n,), ``x_values`` (100,), ``q_x_values`` and their standard errors
        ``q_x_errors``, both (n, 100); ``rsb_metrics``, a dict of arrays (n,): ``overlap_mean``,
        ``overlap_std``, ``overlap_square``, ``binder`` (0 of independent spins, 1 of a single
        abs(q)), each also with ``_error``, and ``step`` (q at x = 0.95 less q at x = 0.05).

    Raises
    ------
    ValueError
        As :func:`replica_symmetry_breaking`.
    """
    _check(method)
    grid = temperature_grid(temperature_range, n_temps)
    if method == "levels":
        same = replicas.level_overlap(_standard(weight_matrix), grid)
        curves = (1 - same[:, None] < X_VALUES).astype(float)
        errors = np.zeros_like(curves)
        # q is 0 or 1, so all its moments are Y_2
        values = np.array([same, np.sqrt(same * (1 - same)), same, (3 - 1 / same) / 2])
        spreads = np.zeros_like(values)
    else:
        generator = np.random.default_rng(rng)
        coupled = replicas.couplings(weight_matrix, n_spins, rng=generator)
        found = replicas.sample(
            coupled, grid, rng=generator, n_replicas=n_replicas, n_samples=n_samples
        )
        overlaps = [replicas.overlaps(spins) for spins in found.spins]
        pairs = [replicas.order_parameter(each, X_VALUES) for each in overlaps]
        curves, errors = (np.array(part) for part in zip(*pairs, strict=True))
        found_moments = np.array([replicas.moments(each) for each in overlaps])
        values, spreads = found_moments.transpose(1, 2, 0)
    names = ("overlap_mean", "overlap_std", "overlap_square", "binder")
    metrics = dict(zip(names, values, strict=True))
    metrics |= {f"{n}_error": e for n, e in zip(names, spreads, strict=True)}
    low, high = np.searchsorted(X_VALUES, [0.05, 0.95])
    return {
        "temperatures": grid,
        "x_values": X_VALUES.copy(),
        "q_x_values": curves,
        "q_x_errors": errors,
        "rsb_metrics": metrics | {"step": curves[:, high] - curves[:, low]},
    }


def free_energy_landscape(
    weight_matrix: ArrayLike,
    temperature: float,
    n_samples: int = 1000,
    *,
    n_replicas: int = 10,
    n_spins: int = 64,
    rng: Random = None,
) -> dict[str, Any]:
    """Thermal energies and minima of the matrix as couplings; of the whole system, not per spin.

    Parameters
    ----------
    n_samples
        Of the energy of each replica, and quenches from random configurations.

    Returns
    -------
    dict
        ``energy_samples`` (n_samples * n_replicas,), which their histogram is plotted from,
        ``energy_mean``, ``energy_std``, ``entropy`` and ``free_energy``, by integration from
        infinite temperature; ``n_minima`` found (no flip of one spin improves them, mirror images
        count once), ``effective_minima`` (exp of the entropy of their shares of quenches),
        ``log_complexity`` ln(n_minima), ``coverage`` (share of quenches that end in known minima;
        if low, the former are lower bounds), ``minimum_energies``, rising, and
        ``energy_barriers`` (at most 20,): upper bounds of the climb from each of the next minima
        to the lowest.

    Raises
    ------
    ValueError
        If the matrix is unfit, the temperature not positive, or there are no samples.
    """
    temperature = _number(temperature)
    generator = np.random.default_rng(rng)
    coupled = replicas.couplings(weight_matrix, n_spins, rng=generator)
    found = replicas.sample(
        coupled, [temperature], rng=generator, n_replicas=n_replicas, n_samples=n_samples
    )
    energies = found.energies[:, found.rungs[0]].ravel()
    thermal = replicas.thermodynamics(found)
    minima = replicas.minima(coupled, n_samples, rng=generator)
    n_minima = len(minima.energies)
    return {
        "free_energy": thermal.free_energy,
        "energy_mean": float(energies.mean()),
        "energy_std": float(energies.std()),
        "entropy": thermal.entropy,
        "n_minima": n_minima,
        "effective_minima": minima.effective_number,
        "log_complexity": float(np.log(n_minima)),
        "energy_barriers": replicas.barriers(coupled, minima),
        "energy_samples": energies,
        "minimum_energies": minima.energies,
        "coverage": minima.coverage,
    }


def _standard(weight_matrix: ArrayLike) -> Array:
    values = checked_levels(weight_matrix, "weight_matrix")
    sigma = values.std()
    if sigma == 0:
        raise ValueError("weight_matrix: all entries are equal, so there is no std to divide by")
    return (values - values.mean()) / sigma


def _number(temperature: float) -> float:
    if np.ndim(temperature):
        raise ValueError(f"temperature must be one number, got {temperature!r}")
    return float(checked_temperatures(temperature)[0])


def _check(method: str) -> None:
    if method not in ("couplings", "levels"):
        raise ValueError(f"method must be couplings or levels, got {method!r}")
