"""The band-pass filter of real and simulated signals alike, before they are correlated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import signal

Band: TypeAlias = Sequence[float]


def check_band(band: Band) -> tuple[float, float]:
    """Both ends, Hz.

    Raises
    ------
    ValueError
        If they are not ascending, or negative.
    """
    low, high = band
    if not 0 <= low < high:
        raise ValueError(f"band must be two ascending frequencies in Hz, got {list(band)}")
    return low, high


def band_passed(signals: NDArray, tr: float, band: Band) -> NDArray[np.float64]:
    """Detrended signals, (T, R), filtered by a Butterworth filter of order 5, there and back.

    So does ``nilearn.signal.clean``, which cleans recordings.

    Raises
    ------
    ValueError
        If `band` is not ascending, or ends above half the sampling rate.
    """
    low, high = check_band(band)
    if high >= 0.5 / tr:
        raise ValueError(f"a band up to {high} Hz needs volumes less than {0.5 / high:.3g} s apart")
    filtered = signal.butter(5, [low, high], "band", fs=1 / tr, output="sos")
    return signal.sosfiltfilt(filtered, signal.detrend(signals, axis=0), axis=0)
