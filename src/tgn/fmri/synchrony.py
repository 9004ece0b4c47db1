"""How much the parcels go together, from volume to volume.

Source: Kuramoto 1984 (the order parameter); Glerean et al. 2012, *Brain Connectivity* 2:91
(phases of band-passed BOLD by the Hilbert transform, 0.04 to 0.07 Hz).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import butter, hilbert, sosfiltfilt

from tgn.fmri.connectivity import checked, window_starts

Array = NDArray[np.float64]


def kuramoto_order(signals: ArrayLike, *, tr: float, band: Sequence[float]) -> Array:
    """Length of the mean phase vector over parcels, 0 to 1, volume by volume.

    Parcels without any relation have about ``0.89 / sqrt(P)``.

    Parameters
    ----------
    signals : array, shape (T, P)
    tr : float
        Seconds from volume to volume.
    band : (low, high)
        In Hz. A phase has a meaning only in a narrow band.

    Returns
    -------
    array, shape (T,)
        NaN in the first and last period of the lowest frequency, where filter and transform see
        the edge of the run.

    Raises
    ------
    ValueError
        If the band does not lie between 0 and the Nyquist frequency, or no volume is left, or a
        parcel is constant or not finite.
    """
    x = checked(signals)
    low, high = band
    if not 0 < low < high < 0.5 / tr:
        raise ValueError(f"band {low} ... {high} Hz must lie between 0 and {0.5 / tr} Hz (Nyquist)")
    edge = int(np.ceil(1 / (low * tr)))
    if len(x) <= 2 * edge:
        raise ValueError(
            f"{len(x)} volumes of {tr} s leave none between two edges of one period of {low} Hz "
            f"({edge} volumes); take longer runs or a higher band"
        )
    # Second order, as usual for BOLD; forwards and backwards, so that it shifts no phase.
    filtered = sosfiltfilt(butter(2, (low, high), "bandpass", fs=1 / tr, output="sos"), x.T)
    analytic = hilbert(filtered)
    order = np.abs((analytic / np.abs(analytic)).mean(axis=0))
    order[:edge] = order[-edge:] = np.nan
    return order


def windowed_mean(series: ArrayLike, window: int, step: int = 1) -> Array:
    """Mean of a series, shape (T,), in every window, shape (n,); NaN where a window holds one."""
    x = np.asarray(series, dtype=np.float64)
    return np.array([x[s : s + window].mean() for s in window_starts(len(x), window, step)])
