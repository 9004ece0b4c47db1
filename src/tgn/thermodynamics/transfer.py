"""Transfer functions: how much of a change at the input of a layer is found at its output.

The gain of a layer for a small perturbation d is ||J d|| / ||d||, with J its Jacobian, which for a
linear map y = W x is W. With the singular value decomposition W = sum_i s_i u_i v_i',

    ||W d||^2 = sum_i s_i^2 (v_i' d)^2,

so the singular values are the gains of the layer, each for one direction of its input, and what
comes in along v_i goes out along u_i. For a perturbation without a direction (white, of n
components) the root mean square gain is ||W|| / sqrt(n), in the Frobenius norm: it knows the scale
of the entries and nothing else. The control is therefore the gains of Gaussian noise of the same
shape and scale, after Marchenko and Pastur (1967). A layer that is not linear has the singular
values of its Jacobian, at one input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator, svds

from tgn.rank import marchenko_pastur
from tgn.thermodynamics.levels import checked_levels
from tgn.thermodynamics.spectra import checked_matrix

Array = NDArray[np.floating]
Map = Callable[[Array], Array]


class Transfer(NamedTuple):
    """The gains of a linear map.

    Attributes
    ----------
    gains
        Singular values, falling, shape (k,) with k = min(outputs, inputs).
    null_gains
        What Gaussian entries of the same mean square would have, shape (k,).
    isotropic_gain
        Root mean square gain of a perturbation without a direction.
    outputs, inputs
        Directions: rows u_i (k, outputs) and v_i (k, inputs).
    """

    gains: Array
    null_gains: Array
    isotropic_gain: float
    outputs: Array
    inputs: Array


def linear(matrix: ArrayLike) -> Transfer:
    """The transfer function of y = W x.

    Parameters
    ----------
    matrix : array, shape (outputs, inputs)

    Raises
    ------
    ValueError
        If it is no matrix, is empty or not finite.

    Examples
    --------
    >>> linear([[3.0, 0.0], [0.0, 4.0]]).gains
    array([4., 3.])
    """
    values = checked_matrix(matrix, "matrix")
    outputs, gains, inputs = np.linalg.svd(values, full_matrices=False)
    scale = np.sqrt(np.mean(values**2))
    return Transfer(
        gains=gains,
        null_gains=scale * marchenko_pastur(*values.shape),
        isotropic_gain=float(np.sqrt(np.sum(gains**2) / values.shape[1])),
        outputs=outputs.T,
        inputs=inputs,
    )


def response(matrix: ArrayLike, perturbations: ArrayLike) -> Array:
    """Gain of a linear map for each perturbation, ||W d|| / ||d||.

    Parameters
    ----------
    matrix : array, shape (outputs, inputs)
    perturbations : array, shape (n, inputs) or (inputs,)

    Returns
    -------
    array, shape (n,)

    Raises
    ------
    ValueError
        If the matrix is none or not finite, or a perturbation is of another length, not finite or
        zero.
    """
    values = checked_matrix(matrix, "matrix")
    given = np.atleast_2d(np.asarray(perturbations, np.float64))
    checked_levels(given, "perturbations")
    if given.ndim != 2 or given.shape[1] != values.shape[1]:
        raise ValueError(
            f"perturbations have shape {np.shape(perturbations)}; the matrix takes "
            f"(n, {values.shape[1]})"
        )
    sizes = np.linalg.norm(given, axis=1)
    if not sizes.all():
        raise ValueError(f"perturbations: number {int(np.argmin(sizes))} is zero")
    return np.linalg.norm(given @ values.T, axis=1) / sizes


def largest_gains(
    apply: Map,
    adjoint: Map,
    shape: tuple[int, int],
    number: int,
    *,
    rng: np.random.Generator,
    tolerance: float = 1e-5,
) -> tuple[Array, Array]:
    """The largest gains of a linear map of which only products are known, as of a Jacobian.

    Parameters
    ----------
    apply, adjoint
        d -> J d, of shapes (inputs,) and (outputs,), and e -> J' e the other way.
    shape
        (outputs, inputs).
    number
        How many; fewer than either side.
    rng
        Of the vector from which ARPACK starts.
    tolerance
        Relative error of the gains.

    Returns
    -------
    gains : array, shape (number,), falling
    inputs : array, shape (number, inputs)
        The directions with these gains, of unit length.

    Raises
    ------
    ValueError
        If the number is below 1 or not below the shorter side.
    """
    if not 1 <= number < min(shape):
        raise ValueError(f"number of gains must be from 1 to {min(shape) - 1}, got {number}")
    # scipy's stubs do not know that an operator takes its products as arguments
    operator = LinearOperator(shape, matvec=apply, rmatvec=adjoint, dtype=np.float64)
    start = rng.standard_normal(min(shape))
    _, gains, inputs = svds(operator, k=number, v0=start, tol=tolerance)
    order = np.argsort(gains)[::-1]
    return gains[order], inputs[order]
