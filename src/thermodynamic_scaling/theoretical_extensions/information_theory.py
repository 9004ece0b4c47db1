"""Information in a weight matrix, between matrices, and in what a layer passes on.

The published functions by name, arguments and result, in nats, for the Boltzmann weights
p_i = exp(-W_i / T) / Z of a matrix's entries. Formulas and sources:
:mod:`tgn.thermodynamics.information`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tgn.thermodynamics import information
from tgn.thermodynamics.levels import temperature_grid, thermal_properties


def calculate_entropy(weights: ArrayLike, temperature: float) -> float:
    """H = -sum p ln p, with 0 ln 0 = 0; between 0 and ln N.

    Raises
    ------
    ValueError
        If there are no weights, one is not finite, or the temperature is not positive.
    """
    return information.complexity(weights, temperature).shannon


def fisher_information(weights: ArrayLike, temperature: float, delta: float = 1e-5) -> float:
    """I(T) = sum p (d ln p / dT)^2 = C / T^2, in 1 / temperature^2.

    Exact, so the step ``delta`` of the published finite difference is not used. That difference
    estimated (dS / dT)^2, which is :func:`entropy_slope_squared`.

    Raises
    ------
    ValueError
        As :func:`calculate_entropy`.
    """
    return float(information.fisher_information(weights, [_number(temperature)])[0])


def entropy_slope_squared(weights: ArrayLike, temperature: float) -> float:
    """(dS / dT)^2 = (C / T)^2, what was published as Fisher information."""
    return float(information.entropy_slope_squared(weights, [_number(temperature)])[0])


def kullback_leibler_divergence(
    weights1: ArrayLike, weights2: ArrayLike, temperature: float
) -> float:
    """Sum of p_1 ln(p_1 / p_2) over entries at the same place; at least 0.

    It takes matrices whose entries belong together, such as one matrix before and after training.

    Raises
    ------
    ValueError
        If the shapes differ: then :func:`level_distance` compares the distributions.
    """
    return information.kullback_leibler(weights1, weights2, temperature)


def level_distance(weights1: ArrayLike, weights2: ArrayLike) -> dict[str, float]:
    """Distance of two distributions of entries, whatever their order and number.

    Returns
    -------
    dict
        ``kolmogorov_smirnov``, its ``p_value``, and ``wasserstein``, in the units of the weights.
    """
    return information.level_distance(weights1, weights2)._asdict()


def mutual_information_layer_pairs(
    model_weights: Mapping[str, Any],
    layer_indices: Sequence[int],
    temperature: float,
    *,
    matrix_type: str = "self_attention.query",
    bins: int = 16,
    n_permutations: int = 100,
    rng: np.random.Generator | int | None = None,
) -> dict[str, float]:
    """Mutual information between the entries at the same place in each pair of layers.

    Of Boltzmann weights in bins of equal probability, less its mean under permutations of rows and
    columns: about 0 for unrelated matrices, where it may be slightly negative. A Boltzmann weight
    is a monotone function of its entry, and the bins do not change under one, so that the result is
    the same at every temperature.

    Parameters
    ----------
    model_weights
        ``layer_i`` to {type: matrix}, see
        :func:`thermodynamic_scaling.model_loading.extract_model_weights`.
    layer_indices
        At least two, all different; pairs are taken in this order.

    Returns
    -------
    dict
        ``i_j`` to a number, in nats.

    Raises
    ------
    ValueError
        If there is no such layer or type, two matrices differ in shape, or the temperature is not
        positive.
    """
    thermal_properties([0.0], [_number(temperature)])
    if len(set(layer_indices)) < max(2, len(layer_indices)):
        raise ValueError(f"layer_indices must be two or more different ones, got {layer_indices}")
    matrices = {}
    for index in layer_indices:
        try:
            matrices[index] = model_weights[f"layer_{index}"][matrix_type]
        except KeyError as error:
            raise ValueError(f"model_weights has no {matrix_type} in layer_{index}") from error
    generator = np.random.default_rng(rng)
    return {
        f"{i}_{j}": information.mutual_information(
            matrices[i], matrices[j], rng=generator, bins=bins, permutations=n_permutations
        ).corrected
        for i, j in combinations(layer_indices, 2)
    }


def information_scan(
    weights: ArrayLike, temperature_range: ArrayLike | tuple[float, float], n_temps: int = 20
) -> dict[str, Any]:
    """Entropy and Fisher information over temperature.

    Parameters
    ----------
    temperature_range
        A tuple of two is a range of ``n_temps`` temperatures, evenly spaced in the logarithm;
        anything else the temperatures themselves.

    Returns
    -------
    dict
        ``temperatures``, ``entropy``, ``fisher_information``, each of shape (n_temperatures,).
    """
    grid = temperature_grid(temperature_range, n_temps)
    found = thermal_properties(weights, grid)
    return {
        "temperatures": grid,
        "entropy": found.entropy,
        "fisher_information": found.specific_heat / grid**2,
    }


def information_bottleneck_analysis(
    weights: ArrayLike,
    temperature_range: ArrayLike | tuple[float, float],
    n_temps: int = 20,
    *,
    inputs: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    n_permutations: int = 100,
    rng: np.random.Generator | int | None = None,
) -> dict[str, Any]:
    """:func:`information_scan` and, given inputs and labels, what the layer keeps of them.

    A matrix alone has no bottleneck: as published, and without inputs, this is the scan. With
    inputs x and labels y the representation is t = W x + noise, where the noise of a channel has
    the variance temperature times the mean variance of the channels. I(X;T) and I(T;Y) over the
    temperatures are then the layer's path in the information plane of Tishby and Zaslavsky (2015),
    by the pairwise-distance estimator of Kolchinsky and Tracey (2017), see
    :func:`tgn.thermodynamics.information.bottleneck`.

    Parameters
    ----------
    weights : array, shape (d_out, d_in)
    inputs : array, shape (n, d_in), optional
    labels : array, shape (n,), optional

    Returns
    -------
    dict
        The keys of the scan and, with inputs, ``I_XT``, ``I_XT_lower``, ``I_TY``, ``I_TY_lower``,
        ``I_TY_null`` (mean under permuted labels), ``I_TY_p_value``, each (n_temperatures,).

    Raises
    ------
    ValueError
        If only one of inputs and labels is given or shapes do not fit.
    """
    scan = information_scan(weights, temperature_range, n_temps)
    if inputs is None and labels is None:
        return scan
    if inputs is None or labels is None:
        raise ValueError("inputs and labels are needed together")
    matrix, x = np.asarray(weights, np.float64), np.asarray(inputs, np.float64)
    if matrix.ndim != 2 or x.ndim != 2 or x.shape[1] != matrix.shape[1]:
        raise ValueError(f"inputs {x.shape} do not fit weights {matrix.shape}: (n, d_in) is needed")
    generator = np.random.default_rng(rng)
    path = [
        information.bottleneck(
            x @ matrix.T, labels, noise, rng=generator, permutations=n_permutations
        )
        for noise in scan["temperatures"]
    ]
    return scan | {
        "I_XT": np.array([at.input_information for at in path]),
        "I_XT_lower": np.array([at.input_lower for at in path]),
        "I_TY": np.array([at.label_information for at in path]),
        "I_TY_lower": np.array([at.label_lower for at in path]),
        "I_TY_null": np.array([at.null.mean() for at in path]),
        "I_TY_p_value": np.array([at.p_value for at in path]),
    }


def complexity_measures(weights: ArrayLike, temperature: float) -> dict[str, float]:
    """How many entries share the Boltzmann weight: 1 <= 1 / sum p^2 <= exp H <= N.

    Returns
    -------
    dict
        ``shannon_entropy`` H, ``renyi_entropy`` -ln sum p^2, ``effective_dimension`` exp H,
        ``participation_ratio`` 1 / sum p^2.
    """
    found = information.complexity(weights, temperature)
    return {
        "shannon_entropy": found.shannon,
        "renyi_entropy": found.renyi_2,
        "effective_dimension": found.effective_number,
        "participation_ratio": found.participation_ratio,
    }


def _number(temperature: float) -> float:
    if np.ndim(temperature):
        raise ValueError(f"temperature must be one number, got {temperature!r}")
    return temperature
