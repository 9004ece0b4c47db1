"""Thermodynamics and spectra of weight matrices while they are learned.

As published this module was empty. The first checkpoint, before training, is the null: only what
differs from it was learned. A run keeps checkpoints on its way when it is asked to, see
:mod:`tgn.training.snapshots`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from numpy.typing import ArrayLike

from tgn.probing.training_dynamics import Checkpoint, along, checkpoints_in


def training_dynamics(
    checkpoints: Mapping[int, Checkpoint] | Sequence[Checkpoint],
    *,
    matrices: Sequence[str] | None = None,
    temperatures: ArrayLike | tuple[float, float] = (0.05, 2.0),
    temperature: float = 1.0,
) -> pd.DataFrame:
    """Critical temperature, entropy, specific heat, spectrum and ranks at every checkpoint.

    Parameters
    ----------
    checkpoints
        In order: from the step to a checkpoint, or a sequence, whose steps are then 0, 1, 2, ... A
        checkpoint is a model's folder, a file of weights, or a mapping from names to matrices,
        such as the ``weights`` of
        :func:`thermodynamic_scaling.model_loading.extract_model_weights`.
    matrices
        Names of those to take, such as ``layer_0/self_attention.query``; all unless given.
    temperatures
        Range in which the peak of the specific heat is looked for.
    temperature
        Of entropy, energy, free energy and specific heat. Both in units of each matrix's own
        standard deviation at the time.

    Returns
    -------
    DataFrame
        A row for each ``step`` and ``matrix``: ``n_levels``, ``freezing_temperature`` (of Gaussian
        levels as many, the null of the critical temperature), the quantities of
        :func:`tgn.thermodynamics.perturbation.quantities`, and ``moved``, the relative distance
        from the first checkpoint.

    Raises
    ------
    ValueError
        If there are no checkpoints, steps do not rise, one cannot be read, or matrices are missing,
        not finite or of another shape than at first.
    """
    if not isinstance(checkpoints, Mapping):
        checkpoints = dict(enumerate(checkpoints))
    return along(checkpoints, matrices=matrices, temperatures=temperatures, at=temperature)


def find_checkpoints(folder: str | Path) -> dict[int, Path]:
    """The checkpoints in a folder by step, rising: those whose names end in a dash and a number.

    Raises
    ------
    ValueError
        If there is none, or two are of one step.
    """
    return checkpoints_in(folder)
