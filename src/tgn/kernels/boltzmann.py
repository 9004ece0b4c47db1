"""One pass over energy levels: power sums by bin, from which all temperatures follow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tgn.kernels.compiling import kernel

MOMENTS = 4
_BLOCK = 1024  # levels at a time: finding the bins is vectorised, adding to them cannot be


@kernel
def binned_moments(
    energies: NDArray[np.float64], low: float, width: float, bins: int
) -> NDArray[np.float64]:
    """Sums of powers of the levels' places in their bins.

    Parameters
    ----------
    energies : array, shape (N,)
        All within [low, low + bins * width].
    low, width, bins
        Where the first bin begins, how wide each is, how many there are.

    Returns
    -------
    array, shape (bins, MOMENTS)
        Sum of x^j over the levels of a bin, j = 0 ... 3, where x runs from -1 to 1 across it.
    """
    moments = np.zeros(bins * MOMENTS)
    row = np.empty(_BLOCK, np.uint32)
    offset = np.empty(_BLOCK)
    scale, last = 1.0 / width, np.int32(bins - 1)
    for first in range(0, len(energies), _BLOCK):
        count = min(_BLOCK, len(energies) - first)
        for i in range(count):
            place = (energies[first + i] - low) * scale
            number = min(np.int32(place), last)
            row[i] = MOMENTS * number
            offset[i] = 2.0 * (place - number) - 1.0
        for i in range(count):
            j, x = np.uint64(row[i]), offset[i]
            moments[j] += 1.0
            moments[j + np.uint64(1)] += x
            moments[j + np.uint64(2)] += x * x
            moments[j + np.uint64(3)] += x * x * x
    return moments.reshape(bins, MOMENTS)
