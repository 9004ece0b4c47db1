"""Spectra of weight matrices, against noise and against critical temperatures.

An eigenvalue is always one of W W' / max(m, n), the squared singular value over the longer side,
whether the matrix (m, n) is square or not; as published it was one of three things. The law of
noise, its edges and its normalisation stand in :mod:`tgn.thermodynamics.spectra`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from tgn.thermodynamics import spectra
from tgn.thermodynamics.levels import checked_levels

Array = NDArray[np.floating]
METRICS = ("mean", "max", "min", "gap", "participation_ratio")


def eigenvalue_distribution(weight_matrix: ArrayLike, bins: int = 50) -> tuple[Array, Array, Array]:
    """Eigenvalues, falling, with their histogram (a density) and its edges.

    Raises
    ------
    ValueError
        If it is no matrix, is empty or not finite.
    """
    values = spectra.eigenvalues(weight_matrix)
    density, edges = np.histogram(values, bins=bins, density=True)
    return values, density, edges


def spectral_density(
    eigenvalues: ArrayLike,
    energy_range: tuple[float, float] | None = None,
    bandwidth: float = 0.1,
    n_points: int = 1000,
) -> tuple[Array, Array]:
    """Gaussian kernel estimate of the density: ``x, density``, each (n_points,).

    Parameters
    ----------
    energy_range
        Where; by default all eigenvalues and three kernels on either side.
    bandwidth
        Standard deviation of the kernel in units of that of the eigenvalues.

    Raises
    ------
    ValueError
        If there are no two different eigenvalues, the bandwidth is not positive, the range does not
        rise or there are fewer than two points.
    """
    values = checked_levels(eigenvalues, "eigenvalues")
    if np.ptp(values) == 0:
        raise ValueError("eigenvalues: a density takes at least two different ones")
    if not bandwidth > 0:
        raise ValueError(f"bandwidth must be positive, got {bandwidth}")
    if n_points < 2:
        raise ValueError(f"n_points must be at least 2, got {n_points}")
    margin = 3 * bandwidth * values.std(ddof=1)
    low, high = energy_range or (values.min() - margin, values.max() + margin)
    if low >= high:
        raise ValueError(f"energy_range {energy_range} does not rise")
    x = np.linspace(low, high, n_points)
    return x, stats.gaussian_kde(values, bandwidth)(x)


def marchenko_pastur_distance(
    eigenvalues: ArrayLike, aspect_ratio: float, *, variance: float | None = None
) -> float:
    """Kolmogorov-Smirnov distance of eigenvalues of W W' / max(m, n) from the law of noise.

    Parameters
    ----------
    eigenvalues
        The min(m, n) of them.
    aspect_ratio
        m / n or n / m: a matrix and its transpose have one law.
    variance
        Of the entries; by the median eigenvalue if None.

    Raises
    ------
    ValueError
        If there are none, or the ratio or the variance is not positive.
    """
    if not (np.isfinite(aspect_ratio) and aspect_ratio > 0):
        raise ValueError(f"aspect_ratio must be positive and finite, got {aspect_ratio}")
    return spectra.distance(eigenvalues, min(aspect_ratio, 1 / aspect_ratio), variance)


def correlate_eigenvalues_criticality(
    models_data: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Correlation over models of spectra with critical temperatures.

    Parameters
    ----------
    models_data
        By model: ``eigenvalues`` and ``critical_temperature``. One row a model.

    Returns
    -------
    dict
        ``correlations``: for mean, max, min, gap and participation_ratio, ``pearson_r``,
        ``pearson_p``, ``spearman_r``, ``spearman_p`` and ``n``, NaN where a metric does not vary;
        ``data``: the table they are from.

    Raises
    ------
    ValueError
        If there are fewer than three models, or one lacks something.
    """
    if len(models_data) < 3:
        raise ValueError(f"models_data: it takes at least three models, got {len(models_data)}")
    rows = []
    for model, known in models_data.items():
        missing = {"eigenvalues", "critical_temperature"} - set(known)
        if missing:
            raise ValueError(f"models_data[{model!r}] lacks {', '.join(sorted(missing))}")
        temperature = float(checked_levels(known["critical_temperature"], f"{model}: T_c")[0])
        rows.append(
            {"model": model, "critical_temperature": temperature, **_metrics(known["eigenvalues"])}
        )
    table = pd.DataFrame(rows)
    target = table["critical_temperature"]
    found = {}
    for metric in METRICS:
        if np.ptp(table[metric]) == 0 or np.ptp(target) == 0:
            pearson = spearman = (float("nan"),) * 2
        else:
            pearson = stats.pearsonr(table[metric], target)
            spearman = stats.spearmanr(table[metric], target)
        found[metric] = {
            "pearson_r": float(pearson[0]),
            "pearson_p": float(pearson[1]),
            "spearman_r": float(spearman[0]),
            "spearman_p": float(spearman[1]),
            "n": len(table),
        }
    return {"correlations": found, "data": table}


def layer_wise_eigenvalue_analysis(
    model_weights: Mapping[str, Any],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Spectrum of each matrix of each layer.

    Parameters
    ----------
    model_weights
        Layer to type to matrix, as from
        :func:`thermodynamic_scaling.model_loading.extract_model_weights`; a matrix outside of the
        layers, such as ``embeddings.word``, becomes ``word`` of the layer ``embeddings``.

    Returns
    -------
    dict
        Layer to matrix to ``eigenvalues`` (min(m, n),), ``mean``, ``max``, ``min``, ``gap`` (of the
        largest two), ``participation_ratio``, ``shape``, and ``mp_distance``, ``outliers``,
        ``outlier_share`` against noise with the variance of the bulk.

    Raises
    ------
    ValueError
        If there is nothing, or something is no matrix, naming it.
    """
    if not model_weights:
        raise ValueError("model_weights is empty")
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, part in model_weights.items():
        layer, _, kind = name.partition(".")
        matrices = part if isinstance(part, Mapping) else {kind or name: part}
        for kind, matrix in matrices.items():
            values = spectra.checked_matrix(matrix, f"{name} {kind}")
            found.setdefault(layer, {})[kind] = _analysed(values)
    return found


def _analysed(matrix: Array) -> dict[str, Any]:
    values = spectra.eigenvalues(matrix)
    aspect = min(matrix.shape) / max(matrix.shape)
    found: dict[str, Any] = {"eigenvalues": values, **_metrics(values), "shape": matrix.shape}
    rounding = values[0] * (max(matrix.shape) * np.finfo(float).eps) ** 2
    if np.median(values) <= rounding:  # of low rank: there is no bulk to compare
        return found | {"mp_distance": np.nan, "outliers": np.nan, "outlier_share": np.nan}
    variance = spectra.bulk_variance(values, aspect)
    beyond = spectra.outliers(values, matrix.shape, variance)
    return found | {
        "mp_distance": spectra.distance(values, aspect, variance),
        "outliers": beyond.number,
        "outlier_share": beyond.share,
    }


def random_matrix_baseline(
    shape: tuple[int, int],
    n_samples: int = 10,
    *,
    std: float = 1.0,
    rng: np.random.Generator | int | None = None,
) -> dict[str, dict[str, float]]:
    """What matrices of Gaussian noise show.

    Parameters
    ----------
    std
        Of the entries; take that of the matrix to be judged.

    Returns
    -------
    dict
        For mean, max, min, gap, participation_ratio and mp_distance, the ``mean``, ``std``, ``min``
        and ``max`` over the samples; and ``marchenko_pastur``: ``lambda_min``, ``lambda_max``,
        ``aspect_ratio`` (shorter over longer side).

    Raises
    ------
    ValueError
        If a side, the number of samples or the std is not positive.
    """
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape must be two positive numbers, got {shape}")
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}")
    if not (np.isfinite(std) and std > 0):
        raise ValueError(f"std must be positive and finite, got {std}")
    generator = np.random.default_rng(rng)
    aspect = min(shape) / max(shape)
    rows = []
    for _ in range(n_samples):
        values = spectra.eigenvalues(std * generator.standard_normal(shape))
        distance = spectra.distance(values, aspect, std**2)
        rows.append({**_metrics(values), "mp_distance": distance})
    found = {
        name: {
            "mean": float(column.mean()),
            "std": float(column.std(ddof=0)),
            "min": float(column.min()),
            "max": float(column.max()),
        }
        for name, column in pd.DataFrame(rows).items()
    }
    low, high = spectra.edges(aspect, std**2)
    law = {"lambda_min": float(low), "lambda_max": float(high), "aspect_ratio": aspect}
    return {str(name): row for name, row in found.items()} | {"marchenko_pastur": law}


def power_law_tail(eigenvalues: ArrayLike) -> dict[str, float]:
    """Power law of the largest eigenvalues against a lognormal and an exponential.

    Returns
    -------
    dict
        The fields of :class:`tgn.thermodynamics.spectra.Tail`: ``alpha``, ``alpha_error``,
        ``start``, ``n``, ``distance``, and ``log_ratio_*`` and ``p_*`` of either comparison. An
        exponent means little unless the power law is preferred.

    Raises
    ------
    ValueError
        If there are fewer than ten positive eigenvalues.
    """
    return spectra.tail(eigenvalues)._asdict()


def _metrics(eigenvalues: ArrayLike) -> dict[str, float]:
    values = np.sort(checked_levels(eigenvalues, "eigenvalues"))[::-1]
    if values[-1] < 0:
        raise ValueError("eigenvalues: those of W W' are not negative")
    squares = float((values**2).sum())
    return {
        "mean": float(values.mean()),
        "max": float(values[0]),
        "min": float(values[-1]),
        "gap": float(values[0] - values[1]) if len(values) > 1 else float("nan"),
        "participation_ratio": float(values.sum() ** 2 / squares) if squares else float("nan"),
    }
