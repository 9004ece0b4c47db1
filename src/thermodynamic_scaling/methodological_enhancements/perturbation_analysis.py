"""How weight matrices answer to noise, pruning, truncation and quantisation.

As published this module was empty. A matrix is changed, and what is measured is how its
thermodynamics and its spectrum move (:func:`perturbation_response`), what the model loses
(:func:`perplexity_response`), and how fast both begin to (:func:`susceptibility`). Every change
stands beside its control, noise of the same size in a random direction. The kinds of change, their
amounts and the formulas are those of :mod:`tgn.thermodynamics.perturbation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from torch import nn

from tgn.probing import weight_perturbation
from tgn.thermodynamics import perturbation

Seed = np.random.Generator | int | None

CHANGES: Mapping[str, Sequence[float]] = {
    "noise": (0.01, 0.03, 0.1, 0.3),
    "sign_flip": (0.001, 0.01, 0.1),
    "top_direction": (0.03, 0.1, 0.3),
    "bottom_direction": (0.03, 0.1, 0.3),
    "pruning": (0.1, 0.3, 0.5),
    "truncation": (0.1, 0.3, 0.5),
    "quantisation": (8, 6, 4, 3),
}
"""What is done unless other changes are named."""


def perturb_matrix(
    weight_matrix: ArrayLike, kind: str, amount: float, *, rng: Seed = None
) -> NDArray[np.floating]:
    """A matrix after one change.

    Parameters
    ----------
    weight_matrix : array, shape (m, n)
    kind
        ``noise``, ``sign_flip``, ``top_direction``, ``bottom_direction``, ``pruning``,
        ``truncation`` or ``quantisation``.
    amount
        Relative Frobenius norm of noise and directions; share of the entries flipped or pruned, of
        the singular values truncated; bits of quantisation.
    rng
        Generator or seed, for noise and sign_flip.

    Returns
    -------
    array, shape (m, n), float64

    Raises
    ------
    ValueError
        If it is no matrix, is empty or not finite, the kind is unknown, or the amount is out of its
        range.
    """
    return perturbation.apply(weight_matrix, kind, amount, rng=np.random.default_rng(rng))


def perturbation_response(
    weight_matrix: ArrayLike,
    changes: Mapping[str, Sequence[float]] | None = None,
    *,
    name: str = "matrix",
    draws: int = 5,
    control: bool = True,
    temperatures: ArrayLike | tuple[float, float] = (0.05, 2.0),
    temperature: float = 1.0,
    rng: Seed = None,
) -> pd.DataFrame:
    """Critical temperature, entropy, specific heat, spectrum and ranks after every change.

    Parameters
    ----------
    weight_matrix : array, shape (m, n)
    changes
        From the kind to its amounts, :data:`CHANGES` unless given.
    name
        For the column ``matrix``.
    draws
        Of each random change and each control.
    control
        Whether to add noise of the same size, as rows with ``control`` true.
    temperatures
        Range in which the peak of the specific heat is looked for.
    temperature
        Of entropy, energy, free energy and specific heat. Both in units of the standard deviation
        of the unchanged matrix.
    rng
        Generator or seed.

    Returns
    -------
    DataFrame
        Tidy: ``matrix``, ``kind``, ``amount``, ``control``, ``draw``, ``eps`` (relative size of the
        change), ``metric``, ``value``, ``reference`` (unchanged) and ``change``. The metrics are
        those of :func:`tgn.thermodynamics.perturbation.quantities`, and ``spectrum``.

    Raises
    ------
    ValueError
        As :func:`perturb_matrix`; and if all entries are equal, there are no changes or draws, or a
        temperature is not positive.
    """
    return perturbation.respond(
        weight_matrix,
        CHANGES if changes is None else changes,
        rng=np.random.default_rng(rng),
        name=name,
        draws=draws,
        control=control,
        temperatures=temperatures,
        at=temperature,
    )


def perplexity_response(
    model: nn.Module,
    windows: ArrayLike,
    changes: Mapping[str, Sequence[float]] | None = None,
    *,
    names: Sequence[str] | None = None,
    draws: int = 1,
    control: bool = True,
    batch: int = 4,
    rng: Seed = None,
) -> pd.DataFrame:
    """Loss and perplexity of a model with one of its matrices changed at a time.

    Parameters
    ----------
    model
        A causal language model in evaluation mode; afterwards it is as before, to the bit.
    windows : int array, shape (n, length)
        Token ids, the same for all changes; the first of a window is only read.
    changes, draws, control, rng
        As :func:`perturbation_response`.
    names
        Of matrices, such as ``layer_0/self_attention.query``; all unless given, one pass over the
        windows for each change and control.
    batch
        Windows at once.

    Returns
    -------
    DataFrame
        The columns of :func:`perturbation_response` with metrics ``nats`` (a token) and
        ``perplexity``, and ``low``, ``high``: the 95 % interval of the change over windows.

    Raises
    ------
    ValueError
        If the model is in training mode, a matrix is unknown, the windows are no token ids of at
        least two a window, a change is refused or a loss is not finite.
    """
    return weight_perturbation.respond(
        model,
        windows,
        CHANGES if changes is None else changes,
        rng=np.random.default_rng(rng),
        names=names,
        draws=draws,
        control=control,
        batch=batch,
    )


def susceptibility(rows: pd.DataFrame, *, largest: float = 0.2, rng: Seed = None) -> pd.DataFrame:
    """Slope and curvature at eps = 0 of every quantity, from the rows of either response.

    Parameters
    ----------
    rows
        Of one or more matrices.
    largest
        Up to which eps a change counts as small.
    rng
        Of the bootstrap over draws: generator or seed.

    Returns
    -------
    DataFrame
        For each matrix, kind, control and metric with two such sizes: ``slope``, ``low``, ``high``,
        ``curvature``, ``curvature_low``, ``curvature_high`` and ``draws``; intervals are of 95 %
        and missing below three draws.

    Raises
    ------
    ValueError
        If columns are missing, ``largest`` is not positive, or nothing has two such sizes.
    """
    return perturbation.susceptibility(rows, rng=np.random.default_rng(rng), largest=largest)


def linear_response(
    weight_matrix: ArrayLike, direction: ArrayLike, temps: ArrayLike
) -> NDArray[np.floating]:
    """dF / d eps of the entries W + eps D as levels: the Boltzmann average of D, exactly.

    Parameters
    ----------
    weight_matrix, direction : arrays of one shape
    temps : array, shape (n,)
        In units of the weights.

    Returns
    -------
    array, shape (n,)

    Raises
    ------
    ValueError
        If the shapes differ, values are missing or not finite, or a temperature is not positive.
    """
    return perturbation.free_energy_slope(weight_matrix, direction, temps)
