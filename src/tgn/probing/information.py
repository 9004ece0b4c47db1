"""What the states of a network still say about its input: bounds on mutual information.

Mutual information between vectors of hundreds of channels cannot be counted; it can be bounded from
below. Whoever can pick the true input among N candidates from the state alone holds at least so
much information, and never more than ln N of it is seen.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.special import logsumexp

from tgn.probing.rank_statistics import cross_fitted

SHARPNESS = np.array([0.0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0])


def mutual_information_bound(inputs: NDArray, states: NDArray, *, components: int) -> NDArray:
    """InfoNCE lower bound with a linear-Gaussian critic, cross-fitted over passages.

    On one half of the passages the principal components of the inputs are predicted linearly from
    those of the states; on the other half each state has to find its own input among those of
    every token there, by the ratio of densities of a Gaussian around the prediction and of the
    inputs at large. How sharp that Gaussian is taken is chosen on other passages than are read.

    Parameters
    ----------
    inputs, states
        Shape (passages, tokens, channels), each state beside its own input.
    components
        Principal components of either to keep.

    Returns
    -------
    array, shape (passages,)
        Nats; mean over tokens. At most ln(tokens of half the passages); about zero or below
        where nothing is found.

    Raises
    ------
    ValueError
        If there are fewer than four passages.

    References
    ----------
    Van den Oord, Li and Vinyals 2018, arXiv 1807.03748; Poole et al. 2019, arXiv 1905.06922.
    """
    if len(inputs) < 4:
        raise ValueError(f"halves that are halved again need four passages, not {len(inputs)}")
    first = np.arange(len(inputs)) < len(inputs) // 2
    values = np.empty(len(inputs))
    for fit_on, read_on in ((first, ~first), (~first, first)):
        curves = _found(inputs, states, fit_on, read_on, components)
        values[read_on] = cross_fitted(
            curves, lambda mean: int(mean.argmax()), lambda part, chosen: part[:, chosen]
        )
    return values


def _found(
    inputs: NDArray, states: NDArray, fit_on: NDArray, read_on: NDArray, components: int
) -> NDArray:
    """The bound at each sharpness, shape (passages read, sharpnesses)."""
    target, other_target = _components(inputs[fit_on], inputs[read_on], components)
    source, other_source = _components(states[fit_on], states[read_on], components)
    # Columns of the source are uncorrelated and of unit variance: each coefficient by itself,
    # shrunk to what is more than chance.
    slopes = source.T @ target / len(source)
    slopes *= np.maximum(1 - 1 / (len(source) * np.maximum(slopes**2, 1e-12)), 0)
    predicted = other_source @ slopes
    left = np.maximum(1 - (slopes**2).sum(axis=0), 0.05)  # variance not predicted
    # log density around the prediction minus log density at large, of every candidate
    score = (
        predicted @ (other_target / left).T
        - 0.5 * (predicted**2 / left).sum(axis=1)[:, None]
        - 0.5 * (other_target**2 * (1 / left - 1)).sum(axis=1)[None, :]
    )
    own = np.diagonal(score)
    bounds = [
        sharp * own - logsumexp(sharp * score, axis=1) + np.log(len(score)) for sharp in SHARPNESS
    ]
    return np.stack(bounds, axis=1).reshape(read_on.sum(), -1, len(SHARPNESS)).mean(axis=1)


def _components(fit: NDArray, read: NDArray, count: int) -> tuple[NDArray, NDArray]:
    """Whitened principal components of standardised channels: of the points fitted and others."""
    flat, other = (part.reshape(-1, part.shape[-1]).astype(np.float64) for part in (fit, read))
    mean, spread = flat.mean(axis=0), flat.std(axis=0)
    spread[spread == 0] = 1
    flat, other = (flat - mean) / spread, (other - mean) / spread
    axes = _whitening(flat, count)
    return flat @ axes, other @ axes


def _whitening(points: NDArray, count: int) -> NDArray:
    """Axes (channels, components) on which centred points are uncorrelated, of unit variance.

    Only the components asked for are computed, and from the smaller of the two Gram matrices,
    which have the same eigenvalues.
    """
    wide = len(points) < points.shape[1]
    gram = (points @ points.T if wide else points.T @ points) / len(points)
    size = len(gram)
    values, vectors = scipy.linalg.eigh(gram, subset_by_index=(max(size - count, 0), size - 1))
    kept = values > values[-1] * size * np.finfo(float).eps
    values, vectors = values[kept][::-1], vectors[:, kept][:, ::-1]
    if wide:
        vectors = points.T @ vectors / np.sqrt(len(points) * values)
    return vectors / np.sqrt(values)
