"""Surrogate signals, which say what rank autocorrelation and finite length alone would give.

Phase randomisation turns a run into a stationary Gaussian-like one with the same spectra. With one
set of phases for all parcels it keeps every cross-correlation, at all lags, and destroys only what
changes in time; with phases of its own for every parcel it destroys the cross-correlation too.

Sources: Theiler et al. 1992, *Physica D* 58:77 (phase randomisation); Prichard and Theiler 1994,
*Physical Review Letters* 73:951 (shared phases).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.signal import lfilter

from tgn.fmri.connectivity import (
    Names,
    checked,
    rank_caps,
    rank_profile,
    window_starts,
    windowed_ranks,
    windowed_thresholded_ranks,
)

Cross = Literal["same", "destroyed"]
Array = NDArray[np.float64]

PUBLISHED_WINDOW = 100  # volumes


def phase_randomised(signals: ArrayLike, rng: np.random.Generator, *, cross: Cross) -> Array:
    """Signals with the same amplitudes at every frequency and random phases.

    Parameters
    ----------
    signals : array, shape (T, P)
    rng : numpy Generator
    cross : {"same", "destroyed"}
        "same" adds the same phases to all parcels, which keeps the Pearson matrix to rounding;
        "destroyed" gives each parcel its own.

    Returns
    -------
    array, shape (T, P)
        Means and power spectra are those of `signals` to rounding.

    Raises
    ------
    ValueError
        If `cross` is unknown, or `signals` is not a finite matrix of changing parcels.
    """
    if cross not in get_args(Cross):
        raise ValueError(f"cross must be one of {get_args(Cross)}, got {cross!r}")
    x = checked(signals)
    volumes, parcels = x.shape
    spectrum = np.fft.rfft(x, axis=0)
    columns = 1 if cross == "same" else parcels
    phases = rng.uniform(0, 2 * np.pi, (len(spectrum), columns))
    phases[0] = 0  # the mean
    if volumes % 2 == 0:  # the last frequency has no phase but a sign
        phases[-1] = np.pi * (phases[-1] < np.pi)
    return np.fft.irfft(spectrum * np.exp(1j * phases), n=volumes, axis=0)


def autoregressive(
    volumes: int, parcels: int, *, phi: float, shared: float, rng: np.random.Generator
) -> Array:
    """Parcels of unit variance, first-order autoregressive, with one signal common to all.

    Parameters
    ----------
    phi : float
        Correlation of one volume with the next, in (-1, 1).
    shared : float
        Share of the variance of every parcel that the common signal has, 0 to 1.

    Returns
    -------
    array, shape (volumes, parcels)

    Raises
    ------
    ValueError
        If `phi` or `shared` is out of range.
    """
    if not -1 < phi < 1:
        raise ValueError(f"phi must be in (-1, 1), got {phi}")
    if not 0 <= shared <= 1:
        raise ValueError(f"shared must be in 0 ... 1, got {shared}")
    noise = rng.standard_normal((volumes, parcels + 1))
    noise[1:] *= np.sqrt(1 - phi**2)  # the first volume is stationary already
    x = lfilter([1.0], [1.0, -phi], noise, axis=0)
    return np.sqrt(1 - shared) * x[:, 1:] + np.sqrt(shared) * x[:, :1]


def ranks_with_surrogates(
    signals: ArrayLike,
    *,
    windows: Sequence[int],
    step: int,
    draws: int,
    rng: np.random.Generator,
    parcels: Names | None = None,
) -> pd.DataFrame:
    """Ranks of a run by every definition, whole and windowed, with their surrogates.

    Parameters
    ----------
    signals : array, shape (T, P)
    windows : sequence of int
        Lengths in volumes; ranks are means over windows. The whole run comes first, as window 0.
    step : int
        Volumes from one window to the next. The definition ``thresholded``, which has no fast
        way, is measured in windows of at least 100 volumes, as published, that do not overlap.
    draws : int
        Surrogates of each kind; their ranks are averaged.
    rng : numpy Generator
    parcels : sequence, optional
        Names or labels of the parcels, for messages.

    Returns
    -------
    table with columns definition, window, rank, cap, surrogate_same, surrogate_destroyed, volumes,
    windows (how many)
        Surrogates with the same cross-correlation have the same whole-run ranks to rounding, so
        there ``surrogate_same`` repeats the rank.

    Raises
    ------
    ValueError
        If `draws` is below 1, or as :func:`tgn.fmri.connectivity.pearson_spectra`.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    x = checked(signals, parcels)
    observed = _ranks(x, windows, step, parcels)
    destroyed = [
        _ranks(phase_randomised(x, rng, cross="destroyed"), windows, step) for _ in range(draws)
    ]
    same = [
        _ranks(phase_randomised(x, rng, cross="same"), windows, step, whole=False)
        for _ in range(draws if windows else 0)
    ]
    rows = []
    for (definition, window), value in observed.items():
        key = definition, window
        length = window or len(x)
        pace = window if definition == "thresholded" else step
        rows.append(
            {
                "definition": definition,
                "window": window,
                "rank": value,
                "cap": rank_caps(length, x.shape[1])[definition],
                "surrogate_same": np.mean([s[key] for s in same]) if window else value,
                "surrogate_destroyed": np.mean([s[key] for s in destroyed]),
                "volumes": len(x),
                "windows": len(window_starts(len(x), window, pace)) if window else 1,
            }
        )
    return pd.DataFrame(rows)


def _ranks(
    x: Array,
    windows: Sequence[int],
    step: int,
    parcels: Names | None = None,
    *,
    whole: bool = True,
) -> dict[tuple[str, int], float]:
    """Rank by definition and window, of which 0 is the whole run."""
    found = {}
    if whole:
        found = {(name, 0): float(value) for name, value in rank_profile(x, parcels).items()}
    for window in windows:
        ranks = windowed_ranks(x, window, step, parcels)
        if window >= PUBLISHED_WINDOW:
            ranks["thresholded"] = windowed_thresholded_ranks(x, window, window)
        found |= {(name, window): float(values.mean()) for name, values in ranks.items()}
    return found
