"""How many dimensions a cloud of states fills near each point, and what such a number is held to.

An estimate from neighbours falls short of a high dimension: it would take exponentially many points
to fill it. So an estimate says nothing by itself. It is compared with what the same estimator says,
from as many points, of a Gaussian cloud with the same covariance (only linear structure), of values
permuted within each channel (no structure across channels) and of white noise (every channel
filled: the ceiling).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgn.rank import shuffled_within_columns

SAMPLES = ("states", "gaussian", "shuffled", "white")


def inverse_dimensions(points: NDArray, *, neighbours: int) -> NDArray:
    """One over the dimension around each point, by maximum likelihood from its neighbours.

    The inverse is what averages over points: the mean is one over the estimate of the whole cloud.

    Parameters
    ----------
    points
        Shape (points, channels), no two alike.

    Returns
    -------
    array, shape (points,)

    Raises
    ------
    ValueError
        If two points are alike, or there are no more points than neighbours.

    References
    ----------
    Levina and Bickel 2004; MacKay and Ghahramani 2005 (the average); the estimator is
    scikit-dimension's.

    Examples
    --------
    >>> plane = np.random.default_rng(0).normal(size=(500, 2)) @ np.eye(2, 30)
    >>> bool(abs(1 / inverse_dimensions(plane, neighbours=20).mean() - 2) < 0.1)
    True
    """
    from skdim.id import MLE  # seconds, which readers of the module need not wait

    if len(points) <= neighbours:
        raise ValueError(f"{neighbours} neighbours need more than {len(points)} points")
    if len(np.unique(points, axis=0)) < len(points):
        raise ValueError("two points are alike: the dimension between them is undefined")
    return 1 / MLE().fit(points, n_neighbors=neighbours).dimension_pw_


def gaussian_twin(points: NDArray, rng: np.random.Generator) -> NDArray:
    """As many points from the normal distribution with the cloud's own mean and covariance."""
    mean = points.mean(axis=0)
    mixing = rng.normal(size=(len(points), len(points))) / np.sqrt(len(points) - 1)
    return mean + mixing @ (points - mean)


def measure_dimension(
    states: NDArray, *, neighbours: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Dimension of the states of all passages together, and of its three references.

    Of states that are alike, as the embeddings of one token are, the first is kept.

    Parameters
    ----------
    states
        Shape (passages, tokens, channels).

    Returns
    -------
    pandas.DataFrame
        One row a sample and passage: ``sample``, one of `SAMPLES`; ``passage``; ``value``, the sum
        of the inverse dimensions of its points; ``points``, how many there are; ``width``, the
        number of channels.
    """
    passages = np.repeat(np.arange(len(states)), states.shape[1])
    points, first = np.unique(states.reshape(-1, states.shape[2]), axis=0, return_index=True)
    passages = passages[first]
    points = points.astype(np.float64)
    clouds = {
        "states": points,
        "gaussian": gaussian_twin(points, rng),
        "shuffled": shuffled_within_columns(points, rng),
        "white": rng.normal(size=points.shape),
    }
    parts = []
    for sample in SAMPLES:
        inverse = inverse_dimensions(clouds[sample], neighbours=neighbours)
        sums = pd.Series(inverse).groupby(passages).agg(["sum", "size"])
        sums = sums.rename(columns={"sum": "value", "size": "points"}).rename_axis("passage")
        parts.append(sums.reset_index().assign(sample=sample, width=points.shape[1]))
    return pd.concat(parts, ignore_index=True)
