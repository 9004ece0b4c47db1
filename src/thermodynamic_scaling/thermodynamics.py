"""Thermodynamics of a weight matrix whose entries are the levels of one system.

Every function is the published one by name, arguments and result; where the published one was wrong
(overflow, single precision, an edge of the grid taken for a transition) it is right here. The
formulas stand in :mod:`tgn.thermodynamics.levels`, the peak and its null in
:mod:`tgn.thermodynamics.critical`.

``use_gpu`` is kept for the signature and refused when true: a 768 x 768 matrix takes two
milliseconds at fifty temperatures on one core.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tgn.thermodynamics import critical, levels

Ensemble = Literal["entries", "singular_values", "symmetric_eigenvalues"]
Normalize = Literal["std"] | None
Array = NDArray[np.floating]


def partition_function(energies: ArrayLike, beta: float, use_gpu: bool = False) -> float:
    """Z = sum exp(-beta E).

    Raises
    ------
    ValueError
        If the energies are empty or not finite, or beta is not positive.
    OverflowError
        If Z is beyond float64; :func:`free_energy` is not.
    """
    log_z = -beta * free_energy(energies, _temperature(beta), use_gpu=use_gpu)
    if log_z > np.log(np.finfo(np.float64).max):
        raise OverflowError(f"Z = exp({log_z:.6g}) is beyond float64; take free_energy instead")
    return float(np.exp(log_z))


def expectation_value(
    energies: ArrayLike, beta: float, order: int = 1, use_gpu: bool = False
) -> float:
    """<E^order>.

    Raises
    ------
    ValueError
        As :func:`partition_function`, and if the order is negative.
    """
    _refuse_gpu(use_gpu)
    if order < 0:
        raise ValueError(f"order must not be negative, got {order}")
    found = levels.checked_levels(energies)
    weights = np.exp(-(found - found.min()) / _temperature(beta))
    return float(weights @ found**order / weights.sum())


def specific_heat(
    energies: ArrayLike, temperature: float, k_B: float = 1.0, use_gpu: bool = False
) -> float:
    """C = (<E^2> - <E>^2) / (k_B T^2), in two passes."""
    return _at(energies, temperature, k_B, use_gpu).specific_heat.item()


def entropy(
    energies: ArrayLike, temperature: float, k_B: float = 1.0, use_gpu: bool = False
) -> float:
    """S = k_B (ln Z + beta <E>), between 0 and k_B ln N."""
    return _at(energies, temperature, k_B, use_gpu).entropy.item()


def free_energy(
    energies: ArrayLike, temperature: float, k_B: float = 1.0, use_gpu: bool = False
) -> float:
    """F = -k_B T ln Z."""
    return _at(energies, temperature, k_B, use_gpu).free_energy.item()


def compute_thermal_properties(
    weight_matrix: ArrayLike | Mapping[Any, ArrayLike],
    temps: ArrayLike | tuple[float, float],
    k_B: float = 1.0,
    use_gpu: bool = False,
    *,
    n_temps: int = 50,
    normalize: Normalize = None,
    ensemble: Ensemble = "entries",
) -> dict[str, Any]:
    """All thermal quantities of a matrix, over temperature.

    Parameters
    ----------
    weight_matrix : array of any shape, or mapping of layer to matrix
        A mapping, such as ``weights["self_attention.query"]``, is one ensemble of all its layers.
    temps : tuple of two numbers, or array
        A tuple (lowest, highest) becomes ``n_temps`` temperatures, evenly spaced in the logarithm;
        anything else is taken as the temperatures themselves.
    k_B
        Boltzmann's constant.
    normalize
        ``std`` counts energies from their mean in units of their standard deviation, which is what
        can be compared between matrices; None takes the weights as they are, as published.
    ensemble
        What the levels are: the ``entries``, the ``singular_values``, or the eigenvalues of
        (W + W') / 2, ``symmetric_eigenvalues``. The latter two of each layer of a mapping.

    Returns
    -------
    dict
        ``temperatures``, ``specific_heat``, ``energy``, ``entropy``, ``free_energy``, each of shape
        (n_temperatures,); and ``mean``, ``sigma``, ``n_levels``, ``freezing_temperature`` (of
        Gaussian levels as many and as wide, in the units of the temperatures), ``ensemble``,
        ``normalize``, ``layers`` (the mapping's keys, else None).

    Raises
    ------
    ValueError
        If the matrix is empty or not finite, a temperature or k_B is not positive, or an option is
        unknown; and if levels that are all equal are to be normalised.
    """
    _refuse_gpu(use_gpu)
    if normalize not in (None, "std"):
        raise ValueError(f"normalize must be 'std' or None, got {normalize!r}")
    layers = list(weight_matrix) if isinstance(weight_matrix, Mapping) else None
    parts = list(weight_matrix.values()) if isinstance(weight_matrix, Mapping) else [weight_matrix]
    if not parts:
        raise ValueError("weight_matrix is empty")
    energies = np.concatenate([_energies(part, ensemble) for part in parts])
    mean, sigma = float(energies.mean()), float(energies.std())
    if normalize == "std":
        if sigma == 0:
            raise ValueError("weight_matrix: all levels are equal, so there is no std to divide by")
        energies = (energies - mean) / sigma
    found = levels.thermal_properties(energies, levels.temperature_grid(temps, n_temps), k_B=k_B)
    width = 1.0 if normalize == "std" else sigma
    n_levels = energies.size
    return {
        "temperatures": found.temperatures,
        "specific_heat": found.specific_heat,
        "energy": found.energy,
        "entropy": found.entropy,
        "free_energy": found.free_energy,
        "mean": mean,
        "sigma": sigma,
        "n_levels": n_levels,
        "freezing_temperature": (
            critical.freezing_temperature(width, n_levels) / k_B if n_levels > 1 else None
        ),
        "ensemble": ensemble,
        "normalize": normalize,
        "layers": layers,
    }


def find_critical_point(
    temps: ArrayLike,
    specific_heats: ArrayLike,
    smoothing: bool = False,
    window_length: int = 5,
) -> critical.Peak:
    """The highest peak of the specific heat, as ``(T_c, peak_height)``.

    The result unpacks as that pair and knows more: ``at_edge`` tells that the peak is the end of
    the grid and so no peak, see :class:`tgn.thermodynamics.critical.Peak`. A peak as such is no
    critical point: a matrix of noise has one too. Exact curves need no ``smoothing``, which was on
    as published.

    Raises
    ------
    ValueError
        If the curves do not fit, are not finite, do not rise in temperature, or are too short.
    """
    return critical.find_peak(
        temps, specific_heats, smoothing=smoothing, window_length=window_length
    )


def analyze_critical_scaling(
    temps: ArrayLike,
    specific_heats: ArrayLike,
    critical_temp: float,
    temp_range: float = 0.2,
) -> dict[str, Any]:
    """C ~ |t|^-alpha on either side of T_c, t = (T - T_c) / T_c, where that is what it looks like.

    Returns
    -------
    dict
        For ``below`` and ``above``: ``n_*`` points and, if at least six, ``aic_difference_*`` (the
        power law against a parabola in ln C; above 2 speaks for the law). Only then
        ``alpha_*``, ``r_squared_*`` and ``std_err_*``; else ``declined_*`` says why not.
    """
    found: dict[str, Any] = {}
    for side in ("below", "above"):
        law = critical.power_law_at(
            temps, specific_heats, critical_temp, side=side, reach=temp_range
        )
        found[f"n_{side}"] = law.n
        if law.n < critical.FEWEST_POINTS:
            found[f"declined_{side}"] = f"fewer than {critical.FEWEST_POINTS} points"
            continue
        found[f"aic_difference_{side}"] = law.aic_difference
        if law.is_preferred:
            found |= {
                f"alpha_{side}": law.alpha,
                f"r_squared_{side}": law.r_squared,
                f"std_err_{side}": law.std_err,
            }
        else:
            found[f"declined_{side}"] = "a smooth hump accounts for the points as well"
    return found


def batch_analyze_matrices(
    matrices: Mapping[str, ArrayLike],
    temp_range: tuple[float, float] = (0.1, 2.0),
    n_temps: int = 50,
    k_B: float = 1.0,
    use_gpu: bool = False,
    *,
    normalize: Normalize = "std",
) -> dict[str, dict[str, Any]]:
    """Thermal properties, peak and scaling of each matrix, by name.

    Temperatures are in units of each matrix's sigma unless ``normalize`` is None.

    Returns
    -------
    dict
        Name to ``thermal_properties``, ``critical_temperature``, ``peak_height``, ``at_edge``,
        ``matrix_shape`` and ``scaling_results``.

    Raises
    ------
    ValueError
        If anything is no matrix, naming it; and as :func:`compute_thermal_properties`.
    """
    analysed = {}
    for name, matrix in matrices.items():
        shape = np.shape(matrix)
        if len(shape) != 2:
            raise ValueError(f"matrices: {name!r} has {len(shape)} axes, a matrix has two")
        curves = compute_thermal_properties(
            matrix, tuple(temp_range), k_B, use_gpu, n_temps=n_temps, normalize=normalize
        )
        peak = find_critical_point(curves["temperatures"], curves["specific_heat"])
        analysed[name] = {
            "thermal_properties": curves,
            "critical_temperature": peak.temperature,
            "peak_height": peak.height,
            "at_edge": peak.at_edge,
            "matrix_shape": shape,
            "scaling_results": analyze_critical_scaling(
                curves["temperatures"], curves["specific_heat"], peak.temperature
            ),
        }
    return analysed


def eigenvalue_spectrum(weight_matrix: ArrayLike) -> Array:
    """Squared singular values, falling: the eigenvalues of W W', square or not.

    As published, a square matrix went to a solver for symmetric ones, which reads one triangle.
    """
    return _energies(weight_matrix, "singular_values") ** 2


def _energies(matrix: ArrayLike, ensemble: Ensemble) -> Array:
    values = np.asarray(matrix, np.float64)
    levels.checked_levels(values, "weight_matrix")
    if ensemble == "entries":
        return values.ravel()
    if values.ndim != 2:
        raise ValueError(f"weight_matrix has {values.ndim} axes; {ensemble} take a matrix")
    if ensemble == "singular_values":
        return np.linalg.svd(values, compute_uv=False)
    if ensemble == "symmetric_eigenvalues":
        if values.shape[0] != values.shape[1]:
            raise ValueError(f"weight_matrix is {values.shape}; {ensemble} take a square one")
        return np.linalg.eigvalsh((values + values.T) / 2)
    raise ValueError(
        f"ensemble must be entries, singular_values or symmetric_eigenvalues, got {ensemble!r}"
    )


def _at(
    energies: ArrayLike, temperature: float, k_B: float, use_gpu: bool
) -> levels.ThermalProperties:
    _refuse_gpu(use_gpu)
    if np.ndim(temperature):
        raise ValueError(f"temperature must be one number, got {temperature!r}")
    return levels.thermal_properties(energies, [temperature], k_B=k_B)


def _temperature(beta: float) -> float:
    if not (np.isfinite(beta) and beta > 0):
        raise ValueError(f"beta must be positive and finite, got {beta}")
    return 1 / beta


def _refuse_gpu(use_gpu: bool) -> None:
    if use_gpu:
        raise ValueError("use_gpu: there is no GPU path; leave it out, the CPU takes milliseconds")
