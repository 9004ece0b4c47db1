"""Block averages of a weight matrix, their flow and its fixed points, and correlation lengths.

The published functions by name, arguments and result. Neurons have no natural order, so everything
that depends on it stands beside its value for permuted rows and columns. Formulas:
:mod:`tgn.thermodynamics.renormalisation`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tgn.thermodynamics import renormalisation
from tgn.thermodynamics.critical import find_peak, freezing_temperature
from tgn.thermodynamics.levels import (
    checked_levels,
    checked_temperatures,
    temperature_grid,
    thermal_properties,
)

Array = NDArray[np.floating]
Random = np.random.Generator | int | None


def block_spin_renormalization(weight_matrix: ArrayLike, block_size: int) -> Array:
    """Means of square blocks, shape (m // block_size, n // block_size).

    A remainder is cut off, with a warning.

    Raises
    ------
    ValueError
        If it is no matrix, is not finite, or is smaller than a block.
    """
    averaged = renormalisation.block_average(weight_matrix, block_size)
    shape = np.shape(weight_matrix)
    if any(side % block_size for side in shape):
        warnings.warn(
            f"weight_matrix {shape} is no multiple of {block_size}: the remainder is cut off",
            stacklevel=2,
        )
    return averaged


def renormalization_flow(
    weight_matrix: ArrayLike,
    temps: ArrayLike | tuple[float, float],
    n_steps: int = 5,
    block_size: int = 2,
    *,
    n_permutations: int = 100,
    rng: Random = None,
) -> dict[str, Any]:
    """Block averages, again and again, each scaled to mean 0 and standard deviation 1.

    Parameters
    ----------
    temps
        In units of each matrix's sigma. A tuple of two is a range.
    n_steps
        Fewer are made if the matrix becomes too small.

    Returns
    -------
    dict
        ``temperatures`` (n_temperatures,); of the matrix and of each average ``matrices`` (list),
        ``specific_heat`` (list of arrays), ``critical_temps`` (its peaks), ``at_edge``,
        ``freezing_temps`` (of as many Gaussian levels); of each average
        ``tc_log_ratio``, the logarithm of two successive peaks' ratio in base ``block_size``;
        ``critical_exponents``, the same under its published name, though it is no exponent;
        ``std_ratios`` of the averages, beside the ``expected_ratio`` 1 / block_size of independent
        entries and the ``std_ratios_null`` (mean) and ``std_ratio_p_values`` of permuted ones.

    Raises
    ------
    ValueError
        If the matrix is too small, not finite or all alike, or the block below 2.
    """
    grid = temperature_grid(temps)
    steps = renormalisation.flow(
        weight_matrix,
        grid,
        rng=np.random.default_rng(rng),
        steps=n_steps,
        block=block_size,
        permutations=n_permutations,
    )
    peaks = np.array([step.peak_temperature for step in steps])
    tests = [step.test for step in steps if step.test is not None]
    ratios = np.diff(np.log(peaks)) / np.log(block_size)
    return {
        "temperatures": grid,
        "matrices": [step.matrix for step in steps],
        "specific_heat": [step.specific_heat for step in steps],
        "critical_temps": peaks,
        "at_edge": np.array([step.at_edge for step in steps]),
        "freezing_temps": np.array([step.freezing_temperature for step in steps]),
        "tc_log_ratio": ratios,
        "critical_exponents": ratios,
        "std_ratios": np.array([test.ratio for test in tests]),
        "std_ratios_null": np.array([test.null.mean() for test in tests]),
        "std_ratio_p_values": np.array([test.p_value for test in tests]),
        "expected_ratio": 1 / block_size,
    }


def calculate_correlation_length(
    weight_matrix: ArrayLike,
    temperature: float,
    *,
    n_permutations: int = 999,
    rng: Random = None,
) -> float:
    """Distance over which Boltzmann weights exp(-W / T) are correlated along rows and columns.

    NaN, with a warning that says why, where no decaying correlation stands out from permuted rows
    and columns; it is never a default. Error, p-value and the correlations themselves are given by
    :func:`tgn.thermodynamics.renormalisation.correlation_length`.

    Raises
    ------
    ValueError
        If the matrix is smaller than 8 x 8, not finite or all alike, or the temperature is not
        positive.
    """
    if np.ndim(temperature):
        raise ValueError(f"temperature must be one number, got {temperature!r}")
    temperature = checked_temperatures(temperature)[0]
    values = np.asarray(weight_matrix, np.float64)
    lowest = checked_levels(values, "weight_matrix").min()
    found = renormalisation.correlation_length(
        np.exp(-(values - lowest) / temperature),
        rng=np.random.default_rng(rng),
        permutations=n_permutations,
    )
    if found.reason:
        warnings.warn(f"correlation length: {found.reason}", stacklevel=2)
    return found.length


def scaling_dimension_analysis(
    weight_matrices: Mapping[str, ArrayLike] | Iterable[ArrayLike],
    temps: ArrayLike | tuple[float, float],
) -> dict[str, Any]:
    """The peak's temperature against size, T_c(L) = T_inf (1 + a L^(-1/nu)), L the longer side.

    Each matrix counts its levels in units of its sigma, or the width of the weights would be the
    scaling. What then remains of noise is T_f ~ 1 / sqrt(ln N); the law is given only if it
    accounts for the peaks better than that, by AICc.

    Returns
    -------
    dict
        ``sizes``, ``critical_temps``, ``freezing_temps``, ``at_edge``; ``Tc_infinite``, ``nu``,
        ``fit_uncertainty`` (standard errors of these two, by name), ``amplitude``,
        ``aicc_difference`` and, if the former are NaN, the reason, ``declined``.

    Raises
    ------
    ValueError
        If there are fewer than two sizes, or a matrix is unfit.
    """
    parts = (
        list(weight_matrices.values())
        if isinstance(weight_matrices, Mapping)
        else list(weight_matrices)
    )
    grid = temperature_grid(temps)
    sizes, frozen, peaks = [], [], []
    for part in parts:
        values = renormalisation.normalised(part)
        sizes.append(max(values.shape))
        frozen.append(freezing_temperature(1.0, values.size))
        peaks.append(find_peak(grid, thermal_properties(values, grid).specific_heat))
    found = renormalisation.size_law(sizes, [peak.temperature for peak in peaks], frozen)
    return {
        "sizes": np.array(sizes),
        "critical_temps": np.array([peak.temperature for peak in peaks]),
        "freezing_temps": np.array(frozen),
        "at_edge": np.array([peak.at_edge for peak in peaks]),
        "Tc_infinite": found.limit,
        "nu": found.nu,
        "fit_uncertainty": {"Tc_infinite": found.limit_error, "nu": found.nu_error},
        "amplitude": found.amplitude,
        "aicc_difference": found.aicc_difference,
        "declined": found.reason,
    }


def fixed_point_analysis(
    weight_matrix: ArrayLike,
    block_size: int = 2,
    max_steps: int = 10,
    convergence_threshold: float = 1e-4,
    *,
    rng: Random = None,
) -> dict[str, Any]:
    """Block averages until the distribution of normalised entries no longer changes.

    Changes are Wasserstein distances, in units of sigma. They count as none within the threshold,
    or if two samples of one distribution would be as far apart.

    Returns
    -------
    dict
        ``converged``, ``steps_to_convergence`` (None if not), ``reason``, ``final_matrix``,
        ``flow_path`` (all matrices, normalised), ``similarity_metrics`` (a dict for each:
        ``entries``, ``skewness``, ``excess_kurtosis``, ``distance`` from the last and its
        ``noise``).

    Raises
    ------
    ValueError
        If the matrix is smaller than a block, not finite or all alike, or the threshold negative.
    """
    found = renormalisation.fixed_point(
        weight_matrix,
        rng=np.random.default_rng(rng),
        block=block_size,
        most_steps=max_steps,
        threshold=convergence_threshold,
    )
    return {
        "converged": found.converged,
        "steps_to_convergence": found.steps,
        "reason": found.reason,
        "final_matrix": found.matrices[-1],
        "flow_path": found.matrices,
        "similarity_metrics": [shape._asdict() for shape in found.shapes],
    }
