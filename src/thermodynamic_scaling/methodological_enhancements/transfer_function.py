"""Singular-value response of layers: how much of a change at the input arrives at the output.

As published this module was empty. A linear layer is known exactly by its singular values; a block
of a model, by those of its Jacobian at a passage, from products with it. The formulas stand in
:mod:`tgn.thermodynamics.transfer`, the derivatives in :mod:`tgn.probing.transfer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from transformers import PreTrainedModel

from tgn.probing import transfer as of_blocks
from tgn.thermodynamics import transfer

Seed = np.random.Generator | int | None


def linear_transfer(weight_matrix: ArrayLike) -> dict[str, Any]:
    """The gains of y = W x, with those of noise of the same shape and scale.

    Parameters
    ----------
    weight_matrix : array, shape (outputs, inputs)

    Returns
    -------
    dict
        ``gains`` (singular values, falling), ``null_gains`` (of Gaussian entries of the same mean
        square), ``isotropic_gain`` (||W||_F / sqrt(inputs)), ``outputs`` and ``inputs`` (the
        directions, one a row) and ``shape``.

    Raises
    ------
    ValueError
        If it is no matrix, is empty or not finite.
    """
    return {**transfer.linear(weight_matrix)._asdict(), "shape": np.shape(weight_matrix)}


def transfer_response(weight_matrix: ArrayLike, perturbations: ArrayLike) -> NDArray[np.floating]:
    """||W d|| / ||d|| of each perturbation.

    Parameters
    ----------
    weight_matrix : array, shape (outputs, inputs)
    perturbations : array, shape (n, inputs) or (inputs,)

    Returns
    -------
    array, shape (n,)

    Raises
    ------
    ValueError
        If the shapes do not fit, or a perturbation is zero or not finite.
    """
    return transfer.response(weight_matrix, perturbations)


def block_transfer(
    model: PreTrainedModel,
    tokens: ArrayLike,
    layer: int,
    *,
    n_gains: int = 8,
    sizes: Sequence[float] = of_blocks.SIZES,
    draws: int = 4,
    increment: bool = False,
    rng: Seed = None,
) -> dict[str, Any]:
    """The response of one block of a model to perturbations of the residual stream.

    Parameters
    ----------
    model
        One stack of blocks, in evaluation mode.
    tokens : int array, shape (tokens,)
        The passage at which the block is linearised.
    layer
        From 0.
    n_gains
        How many of the largest.
    sizes
        Of finite perturbations, relative to the norm of the block's input.
    draws
        Random directions.
    increment
        Whether to leave out the skip connection.
    rng
        Generator or seed.

    Returns
    -------
    dict
        ``gains`` (n_gains,), the largest singular values of the Jacobian; ``isotropic_gain``, root
        mean square over random directions; ``response``, a DataFrame with a row for each
        ``direction`` and ``size``: ``gain`` (by the derivative), ``gain_finite`` (by a central
        difference) and ``relative_difference`` of the two answers.

    Raises
    ------
    ValueError
        If the family is unknown, the model is in training mode, or an argument is out of range.
    """
    generator = np.random.default_rng(rng)
    found = of_blocks.block_gains(
        model, tokens, layer, rng=generator, number=n_gains, draws=draws, increment=increment
    )
    table = of_blocks.block_response(
        model, tokens, layer, rng=generator, sizes=sizes, draws=draws, increment=increment
    )
    return {"gains": found.gains, "isotropic_gain": found.isotropic_gain, "response": table}
