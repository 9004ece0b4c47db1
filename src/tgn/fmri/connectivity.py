"""Functional connectivity and its effective rank, over whole runs and in sliding windows.

Signals are arrays (..., T, P): T volumes, P parcels, any unit. Connectivity is the Pearson matrix
of the parcels. Every rank is a pure number from 1 to its cap, invariant under a change of unit of
all signals; those of the Pearson matrix also under a change of unit or offset of any parcel.

Ranks grow with the number of volumes and fall with autocorrelation and with any signal shared by
all parcels. Compare them only at equal volumes, equal parcels and beside their surrogates
(:mod:`tgn.fmri.surrogates`).

Definitions
-----------
``sigma_uncentred``, ``sigma_centred``
    Exponential entropy of the singular values of the signals (Roy and Vetterli 2007).
``covariance``
    The same of the eigenvalues of the covariance matrix.
``pearson``
    The same of the eigenvalues of the Pearson matrix: the one that figure 14 draws.
``pearson_sigma``
    The same of their square roots, the singular values of the z-scored signals.
``participation_ratio``, ``stable_rank``
    Orders 2 and infinity of the eigenvalues of the Pearson matrix.
``thresholded``
    Exponential entropy of the singular values of the Pearson matrix after its negative entries
    were set to zero and its rows divided by their sums, as a published text describes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from tgn import rank
from tgn.kernels.spectra import dual_spectra

Array = NDArray[np.float64]
Names: TypeAlias = Sequence[Any] | NDArray[Any]

PEARSON = ("pearson", "pearson_sigma", "participation_ratio", "stable_rank")
DEFINITIONS = ("sigma_uncentred", "sigma_centred", "covariance", *PEARSON, "thresholded")
LEAST_VOLUMES = 3  # two make every correlation 1 or -1
_NAMES = {  # in the profile of the rank module
    "pearson": "effective_rank_sigma2",
    "pearson_sigma": "effective_rank_sigma",
    "participation_ratio": "participation_ratio",
    "stable_rank": "stable_rank",
}


def pearson(signals: ArrayLike, parcels: Names | None = None) -> Array:
    """Pearson matrix of the parcels, shape (..., P, P), with a diagonal of exactly 1.

    Parameters
    ----------
    signals : array, shape (..., T, P)
    parcels : sequence, optional
        Names or labels of the parcels, for messages.

    Raises
    ------
    ValueError
        If a parcel holds NaN or infinite values or is constant, or there are fewer than 3 volumes.

    Examples
    --------
    >>> pearson([[0.0, 5.0], [1.0, 3.0], [2.0, 1.0]]).round(12)
    array([[ 1., -1.],
           [-1.,  1.]])
    """
    z = standardised(signals, parcels)
    matrix = np.clip(z.swapaxes(-1, -2) @ z / z.shape[-2], -1, 1)
    diagonal = np.arange(z.shape[-1])
    matrix[..., diagonal, diagonal] = 1.0
    return matrix


def standardised(signals: ArrayLike, parcels: Names | None = None) -> Array:
    """Every parcel with mean 0 and population variance 1; arguments and errors as `pearson`."""
    x = checked(signals, parcels)
    # Subtracting the first volume before the mean leaves less to round off.
    x = x - x[..., :1, :]
    x -= x.mean(axis=-2, keepdims=True)
    x /= x.std(axis=-2, keepdims=True)
    return x


def rank_profile(signals: ArrayLike, parcels: Names | None = None) -> dict[str, Any]:
    """Rank of the connectivity by every definition of this module.

    Parameters
    ----------
    signals : array, shape (..., T, P)
    parcels : sequence, optional
        Names or labels of the parcels, for messages.

    Returns
    -------
    dict of floats or arrays, shape (...), with the keys `DEFINITIONS`

    Raises
    ------
    ValueError
        As `pearson`.
    """
    x = checked(signals, parcels)
    centred = rank.rank_profile(x, centre="columns")
    of_pearson = rank.rank_profile(x, centre="zscore")
    return {
        "sigma_uncentred": rank.effective_rank(x),
        "sigma_centred": centred["effective_rank_sigma"],
        "covariance": centred["effective_rank_sigma2"],
        **{name: of_pearson[own] for name, own in _NAMES.items()},
        "thresholded": thresholded_rank(pearson(x)),
    }


def thresholded_rank(correlations: ArrayLike) -> Any:
    """Effective rank of Pearson matrices, (..., P, P), without negative entries, rows made to sum
    to 1."""
    positive = np.maximum(correlations, 0)
    return rank.effective_rank(positive / positive.sum(axis=-1, keepdims=True))


def rank_caps(volumes: int, parcels: int) -> dict[str, int]:
    """Largest value that each definition can take.

    ``thresholded`` has the number of parcels for a cap, since setting entries to zero adds
    directions that the signals do not have.
    """
    centred = rank.rank_cap(volumes, parcels, centre="zscore")
    return {
        **dict.fromkeys(DEFINITIONS, centred),
        "sigma_uncentred": rank.rank_cap(volumes, parcels),
        "thresholded": parcels,
    }


def window_starts(volumes: int, window: int, step: int = 1) -> NDArray[np.int64]:
    """First volumes of all windows of equal length that fit, none of them padded.

    Raises
    ------
    ValueError
        If `window` is not in 3 ... `volumes` or `step` is below 1.

    Examples
    --------
    >>> window_starts(10, 4, 3)
    array([0, 3, 6])
    """
    if not LEAST_VOLUMES <= window <= volumes:
        raise ValueError(f"window must be in {LEAST_VOLUMES} ... {volumes} volumes, got {window}")
    if step < 1:
        raise ValueError(f"step must be at least 1 volume, got {step}")
    return np.arange(0, volumes - window + 1, step)


def pearson_spectra(
    signals: ArrayLike, window: int, step: int = 1, parcels: Names | None = None
) -> Array:
    """Eigenvalues of the Pearson matrix of every window, in descending order.

    Short windows go through the Gram matrix of their volumes, which has the same eigenvalues
    except for zeros and is far smaller.

    Parameters
    ----------
    signals : array, shape (T, P)
    window, step : int
        Volumes of a window, and from the first of one to the first of the next.
    parcels : sequence, optional
        Names or labels of the parcels, for messages.

    Returns
    -------
    array, shape (n, min(window, P))
        In units of one parcel's variance, so that a row sums to P. The errors are of the order of
        rounding errors of the largest eigenvalue; what cannot be told from them is 0.

    Raises
    ------
    ValueError
        If a parcel is not finite, or is constant within a window, if `signals` is no single
        matrix, or as `window_starts`.
    """
    x = checked(signals, parcels)
    if x.ndim != 2:
        raise ValueError(f"signals must have shape (T, P), got {x.shape}")
    starts = window_starts(len(x), window, step)
    if window > 2 * x.shape[1]:  # then the Pearson matrix is so much smaller that it is faster
        windows = sliding_window_view(x, window, axis=0)[::step].swapaxes(-1, -2)
        _refuse_still(np.ptp(windows, axis=-2) == 0, starts, window, parcels)
        return rank.singular_values(windows, centre="zscore") ** 2 / window
    eigenvalues, variances = dual_spectra(x, window, step)
    _refuse_still(variances == 0, starts, window, parcels)
    eigenvalues = np.sort(eigenvalues, axis=-1)[:, ::-1][:, : x.shape[1]] / window
    noise = max(x.shape) * rank.EPS * eigenvalues[:, :1]
    return np.where(eigenvalues > noise, eigenvalues, 0.0)


def windowed_ranks(
    signals: ArrayLike,
    window: int,
    step: int = 1,
    parcels: Names | None = None,
    definitions: Sequence[str] = PEARSON,
) -> dict[str, Array]:
    """Ranks of the Pearson matrix of every window.

    Parameters and errors as `pearson_spectra`, and `definitions` out of `PEARSON`.

    Returns
    -------
    dict of arrays, shape (n,), one for each definition
        All are good to 1e-9, but for ``pearson_sigma``, whose roots magnify the errors of small
        eigenvalues: it is good to 1e-6, or exact where that could not be told.
    """
    unknown = sorted(set(definitions) - set(PEARSON))
    if unknown:
        raise ValueError(f"no windowed rank {unknown}, only {list(PEARSON)}")
    eigenvalues = pearson_spectra(signals, window, step, parcels)
    orders = {"pearson": 1, "participation_ratio": 2, "stable_rank": np.inf}
    return {
        name: rank.renyi_rank(eigenvalues, orders[name])
        if name in orders
        else _rank_of_roots(eigenvalues, np.asarray(signals), window, step)
        for name in definitions
    }


def _rank_of_roots(eigenvalues: Array, signals: NDArray[Any], window: int, step: int) -> Array:
    """Rank of the singular values, from an exact decomposition where their errors might matter."""
    sigma = np.sqrt(eigenvalues)
    ranks = rank.renyi_rank(sigma, 1)
    noise = max(signals.shape) * rank.EPS * eigenvalues[:, :1]
    error = (noise / (sigma + np.sqrt(noise))).sum(axis=-1)
    doubtful = error > rank.DOUBT * sigma.sum(axis=-1)
    if doubtful.any():
        windows = sliding_window_view(signals, window, axis=0)[::step][doubtful]
        ranks[doubtful] = rank.effective_rank(windows.swapaxes(-1, -2), centre="zscore")
    return ranks


def windowed_thresholded_ranks(signals: ArrayLike, window: int, step: int) -> Array:
    """Rank ``thresholded`` of every window, shape (n,); parameters and errors as `pearson`."""
    x = checked(signals)
    starts = window_starts(len(x), window, step)
    return np.array([float(thresholded_rank(pearson(x[s : s + window]))) for s in starts])


def mean_correlations(signals: ArrayLike, window: int, step: int = 1) -> Array:
    """Mean correlation of all pairs of parcels in every window, shape (n,).

    It needs no Pearson matrix: the sum over its entries is the mean square of the sum of the
    z-scored signals. Parameters and errors as `pearson`.
    """
    x = checked(signals)
    starts = window_starts(len(x), window, step)
    windows = sliding_window_view(x, window, axis=0)[::step]  # (n, P, window)
    centred = windows - windows[..., :1]  # so that a constant becomes exactly 0
    centred -= centred.mean(axis=-1, keepdims=True)
    variances = np.einsum("npt,npt->np", centred, centred) / window
    _refuse_still(variances == 0, starts, window, None)
    totals = np.einsum("npt,np->nt", centred, 1 / np.sqrt(variances))
    parcels = x.shape[1]
    return (np.square(totals).mean(axis=1) - parcels) / (parcels * (parcels - 1))


def checked(signals: ArrayLike, parcels: Names | None = None) -> Array:
    """Signals as float64, of at least 3 volumes and 2 parcels, finite, none of them constant."""
    x = np.asarray(signals, dtype=np.float64)
    if x.ndim < 2 or x.shape[-2] < LEAST_VOLUMES or x.shape[-1] < 2:
        raise ValueError(
            f"signals must have shape (..., T, P) with T >= {LEAST_VOLUMES} and P >= 2, "
            f"got {x.shape}"
        )
    leading = tuple(range(x.ndim - 1))
    broken = ~np.isfinite(x).all(axis=leading)
    if broken.any():
        raise ValueError(f"not finite: {_named(broken, parcels)}; drop what has no signal first")
    still = (np.ptp(x, axis=-2) == 0).any(axis=leading[:-1])
    if still.any():
        raise ValueError(
            f"constant, so without correlation: {_named(still, parcels)}; "
            "drop what has no signal first"
        )
    return x


def _refuse_still(
    still: NDArray[np.bool_], starts: Array | NDArray, window: int, parcels: Names | None
) -> None:
    """Refuse windows, (n, P), in which a parcel is constant."""
    if still.any():
        first = int(np.argmax(still.any(axis=1)))
        raise ValueError(
            f"constant in the window of {window} volumes from {starts[first]} on: "
            f"{_named(still[first], parcels)}; drop what has no signal first"
        )


def _named(which: Any, parcels: Names | None) -> str:
    numbers = [int(k) for k in np.flatnonzero(which)]
    if parcels is None:
        return "column " + ", ".join(map(str, numbers))
    return "parcel " + ", ".join(str(parcels[k]) for k in numbers)
