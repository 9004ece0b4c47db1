"""The effective-rank family: how many directions a matrix of tokens or samples really uses.

Five different quantities are published as "effective rank". They are one family: the Renyi
rank of order q of the weights ``sigma`` or ``sigma**2``, where ``sigma`` are the singular values
after an explicit centring. Numbers that differ in order, weighting, centring or length must
never share an axis, so here all four are arguments and nothing has a hidden default scale.

Matrices are arrays of shape ``(..., T, D)``: T rows (tokens, time points), D columns (channels,
regions), with any leading batch dimensions. Results have the leading shape, a scalar for one
matrix. Every rank is a pure number and is invariant under ``x -> c * x``. The zero matrix has
rank 0.0 by definition; nothing here returns NaN. Every function raises ValueError, naming the
argument, if a matrix is empty, has fewer than two dimensions, or holds NaN, infinite or complex
values.

Sources
-------
Roy and Vetterli 2007 (effective rank of ``sigma``, normalised by the nuclear norm); Renyi 1961
and Hill 1973 (the orders); Marchenko and Pastur 1967 (white data); Dong, Cordonnier and Loukas
2021, arXiv 2103.03404 (distance to the collapsed, row-constant matrix).
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy

Centre: TypeAlias = Literal["none", "columns", "zscore"]
Weighting: TypeAlias = Literal["sigma", "sigma2"]
Norm: TypeAlias = Literal["frobenius", "mixed"]
Array: TypeAlias = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)
TINY = float(np.finfo(np.float64).tiny)
# Share of the nuclear norm that the Gram matrix may leave in doubt before the SVD takes over.
# The entropy then moves by at most about 1e-6 * ln(1e10), well below the promised 1e-4.
DOUBT = 1e-6


def singular_values(x: ArrayLike, *, centre: Centre = "none") -> Array:
    """Singular values of each matrix, in descending order.

    They are square roots of the eigenvalues of the smaller Gram matrix, in float64 whatever the
    type of `x`: several times faster than an SVD, but squaring hides what lies below about 1e-7
    of the largest value. The possible error of every value is bounded, and any matrix in which
    these bounds add up to more than 1e-6 of the sum of all values (a nearly collapsed matrix,
    or outliers beyond 1e4) is handed to the exact SVD instead. Sums of singular values are thus
    good to 1e-6 and effective ranks to 1e-4 relative, everywhere (measured: 3e-6 at worst, 1e-12
    on white data with an outlier channel x 1000). Values that cannot be told from rounding
    error are returned as exactly 0.

    Parameters
    ----------
    x : array, shape (..., T, D)
    centre : {"none", "columns", "zscore"}
        "columns" subtracts the mean of each column; "zscore" also divides by its population
        standard deviation, so that the squares are T times the eigenvalues of the Pearson
        matrix. A constant column becomes exactly zero under both.

    Returns
    -------
    array, shape (..., min(T, D)), in the unit of `x` (a pure number for "zscore")

    Raises
    ------
    ValueError
        If `x` is not a matrix of finite real numbers, or `centre` is unknown.

    Examples
    --------
    >>> singular_values([[3.0, 0.0], [0.0, 4.0]])
    array([4., 3.])
    """
    values, scale = _spectrum(x, centre)
    return values * scale


def renyi_rank(weights: ArrayLike, order: float) -> Any:
    """Exponential of the Renyi entropy of normalised weights: their effective number.

    Order 0 counts the non-zero weights, 1 is the exponential Shannon entropy, 2 the inverse
    Simpson index (participation ratio), ``inf`` the sum over the largest. The value falls with
    the order and lies in [1, n]. No constant is added anywhere: ``0 ln 0 = 0``, and weights
    that are all zero have rank 0.0.

    Parameters
    ----------
    weights : array, shape (..., n)
        Non-negative, in any unit.
    order : float
        Non-negative, may be ``numpy.inf``.

    Returns
    -------
    float or array, shape (...)

    Raises
    ------
    ValueError
        If `weights` is empty, 0-D, negative or not finite, or `order` is negative or NaN.

    Examples
    --------
    >>> float(renyi_rank([2.0, 2.0, 0.0], 0)), float(renyi_rank([3.0, 1.0], np.inf))
    (2.0, 1.3333333333333333)
    """
    weights = np.asarray(weights, dtype=np.float64)
    if weights.ndim == 0 or weights.size == 0:
        raise ValueError("weights must have at least one dimension and one element")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("weights must be finite and non-negative")
    if not order >= 0:
        raise ValueError(f"order must be a non-negative number, got {order}")
    count = (weights > 0).sum(axis=-1, dtype=np.float64)
    if order == 0:
        return count
    # Relative to the largest weight, no power can underflow to a sum of zero.
    q = _ratio(weights, weights.max(axis=-1, keepdims=True))
    total = np.where(count > 0, q.sum(axis=-1), 1.0)
    if abs(order - 1) < 1e-8:  # the general form would divide rounding errors by order - 1
        entropy = np.log(total) - xlogy(q, q).sum(axis=-1) / total
    elif np.isinf(order):
        entropy = np.log(total)
    else:
        powers = np.where(count > 0, (q**order).sum(axis=-1), 1.0)
        entropy = np.log(powers) / (1 - order) + np.log(total) * (order / (order - 1))
    return np.exp(entropy) * (count > 0)


def effective_rank(x: ArrayLike, *, weighting: Weighting = "sigma", centre: Centre = "none") -> Any:
    """Exponential Shannon entropy of the normalised singular values.

    With ``weighting="sigma"`` the weights sum to the nuclear norm (Roy and Vetterli 2007); with
    "sigma2" they are the eigenvalues of the Gram or covariance matrix, and for
    ``centre="zscore"`` those of the Pearson matrix.

    Parameters
    ----------
    x : array, shape (..., T, D)
    weighting : {"sigma", "sigma2"}
    centre : {"none", "columns", "zscore"}
        See `singular_values`, which also states the accuracy.

    Returns
    -------
    float or array, shape (...)

    Raises
    ------
    ValueError
        If `x` is not a matrix of finite real numbers, or an option is unknown.

    Examples
    --------
    >>> float(effective_rank(np.eye(4)).round(12))
    4.0
    >>> float(effective_rank(np.ones((4, 3)), centre="columns"))
    0.0
    """
    _check_option("weighting", weighting, Weighting)
    sigma, _ = _spectrum(x, centre)
    return renyi_rank(sigma if weighting == "sigma" else sigma**2, 1)


def participation_ratio(x: ArrayLike, *, centre: Centre = "none") -> Any:
    """``(sum lambda)**2 / sum lambda**2``, the Renyi rank of order 2 of ``sigma**2``.

    Trace and Frobenius norm of the Gram matrix give both sums, so nothing is decomposed. No
    small eigenvalue has to be resolved, so a float32 or float16 `x` is multiplied out in
    float32 (relative error a few 1e-6), anything else in float64.

    Parameters
    ----------
    x : array, shape (..., T, D)
    centre : {"none", "columns", "zscore"}
        See `singular_values`.

    Returns
    -------
    float or array, shape (...)

    Raises
    ------
    ValueError
        If `x` is not a matrix of finite real numbers, or `centre` is unknown.

    Examples
    --------
    >>> float(participation_ratio(np.diag([1.0, 1.0, 0.0])))
    2.0
    """
    x = np.asarray(x)
    dtype = np.float32 if x.dtype in (np.float16, np.float32) else np.float64
    gram = _gram(_prepare(x, centre, dtype)[0])
    trace = np.einsum("...ii->...", gram, dtype=np.float64)
    squares = np.square(gram).sum(axis=(-2, -1), dtype=np.float64)
    return _ratio(np.square(trace), squares)


def stable_rank(x: ArrayLike, *, centre: Centre = "none") -> Any:
    """Squared Frobenius norm over squared spectral norm: order infinity of ``sigma**2``.

    Parameters
    ----------
    x : array, shape (..., T, D)
    centre : {"none", "columns", "zscore"}
        See `singular_values`.

    Returns
    -------
    float or array, shape (...)

    Raises
    ------
    ValueError
        If `x` is not a matrix of finite real numbers, or `centre` is unknown.
    """
    sigma, _ = _spectrum(x, centre)
    return renyi_rank(sigma**2, np.inf)


def rank_cap(n_rows: int, n_columns: int, *, centre: Centre = "none") -> int:
    """Largest rank a matrix can have: ``min(T, D)``, or ``min(T - 1, D)`` once centred.

    Raises
    ------
    ValueError
        If `n_rows` or `n_columns` is below 1, or `centre` is unknown.
    """
    _check_option("centre", centre, Centre)
    for name, count in (("n_rows", n_rows), ("n_columns", n_columns)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    return min(n_rows - (centre != "none"), n_columns)


def rank_profile(x: ArrayLike, *, centre: Centre = "none") -> dict[str, Any]:
    """Every definition of the family from one decomposition, with the cap.

    Parameters
    ----------
    x : array, shape (..., T, D)
    centre : {"none", "columns", "zscore"}
        See `singular_values`.

    Returns
    -------
    dict of floats or arrays, shape (...)
        "stable_rank" <= "participation_ratio" <= "effective_rank_sigma2" <=
        "effective_rank_sigma" <= "rank" <= "cap", where "rank" counts the singular values that
        can be told from rounding error.

    Raises
    ------
    ValueError
        If `x` is not a matrix of finite real numbers, or `centre` is unknown.

    Examples
    --------
    >>> {name: round(float(r), 9) for name, r in rank_profile(np.diag([2.0, 2.0, 0.0])).items()}
    ... # doctest: +NORMALIZE_WHITESPACE
    {'stable_rank': 2.0, 'participation_ratio': 2.0, 'effective_rank_sigma2': 2.0,
     'effective_rank_sigma': 2.0, 'rank': 2.0, 'cap': 3.0}
    """
    sigma, _ = _spectrum(x, centre)
    return _profile(sigma, rank_cap(*np.shape(x)[-2:], centre=centre))


def relative_residual(x: ArrayLike, *, norm: Norm = "frobenius") -> Any:
    """Relative distance to rank collapse: ``||X - 1 m'|| / ||X||`` with ``m`` the mean row.

    Zero for identical rows (all tokens alike), 1 at most in the Frobenius norm. There the mean
    row is the best row; in the mixed norm ``sqrt(||.||_1 ||.||_inf)`` of Dong et al. (largest
    absolute column sum, largest absolute row sum), whose best row has no closed form, it comes
    within a factor of 2 of the best. The zero matrix, which is row-constant, has distance 0.0.

    Parameters
    ----------
    x : array, shape (..., T, D)
    norm : {"frobenius", "mixed"}

    Returns
    -------
    float or array, shape (...)

    Raises
    ------
    ValueError
        If `x` is not a matrix of finite real numbers, or `norm` is unknown.

    Examples
    --------
    >>> float(relative_residual([[1.0, 2.0], [1.0, 2.0]]))
    0.0
    """
    _check_option("norm", norm, Norm)
    measure = _frobenius_norm if norm == "frobenius" else _mixed_norm
    prepared, _ = _prepare(x, "none")
    whole = measure(prepared)
    _subtract_means(prepared)
    return _ratio(measure(prepared), whole)


def outlier_share(x: ArrayLike) -> tuple[Any, Any]:
    """Shares of the total squared norm carried by the heaviest row and the heaviest column.

    Massive activations (one token, a few channels) hold nearly all of the norm of an uncentred
    hidden state and then decide its rank. Z-scoring removes the weight of a channel; only
    dropping the row removes a token.

    Parameters
    ----------
    x : array, shape (..., T, D)

    Returns
    -------
    (token_share, channel_share) : floats or arrays, shape (...)
        At least 1/T and 1/D; 0.0 for the zero matrix.

    Raises
    ------
    ValueError
        If `x` is not a matrix of finite real numbers.
    """
    squares = np.square(_prepare(x, "none")[0])
    rows, columns = squares.sum(axis=-1), squares.sum(axis=-2)
    total = rows.sum(axis=-1)
    return _ratio(rows.max(axis=-1), total), _ratio(columns.max(axis=-1), total)


def equal_length(x: ArrayLike, length: int, rng: np.random.Generator | None = None) -> NDArray:
    """A contiguous window of `length` rows, so that ranks of unequal lengths may be compared.

    Rank grows with T even for noise: cut every condition to the shortest first.

    Parameters
    ----------
    x : array, shape (..., T, D)
    length : int
        Rows to keep, 1 to T.
    rng : numpy Generator, optional
        Draws the first row uniformly, one draw for a whole batch. Without it the window is the
        first `length` rows.

    Returns
    -------
    array, shape (..., length, D), a view of `x`

    Raises
    ------
    ValueError
        If `x` is not a matrix of finite real numbers, or `length` is not in 1 ... T.
    """
    x, _ = _check_matrix(x)
    spare = x.shape[-2] - length
    if length < 1 or spare < 0:
        raise ValueError(f"length must be in 1 ... {x.shape[-2]}, got {length}")
    start = 0 if rng is None else int(rng.integers(spare + 1))
    return x[..., start : start + length, :]


def shuffled_within_columns(x: ArrayLike, rng: np.random.Generator) -> NDArray:
    """The row-shuffle null: the rows of every column are permuted independently.

    Each channel keeps its values, so its mean, variance and outliers; the dependence between
    channels is broken. (One permutation of whole rows would be no null at all: it leaves every
    singular value as it was.) The order in time goes too: for autocorrelated series use
    phase-randomised surrogates as well.

    Parameters
    ----------
    x : array, shape (..., T, D)
    rng : numpy Generator

    Returns
    -------
    array, shape (..., T, D), a copy

    Raises
    ------
    ValueError
        If `x` is not a matrix of finite real numbers.
    """
    return rng.permuted(_check_matrix(x)[0], axis=-2)


def marchenko_pastur(n_rows: int, n_columns: int, *, centre: Centre = "none") -> Array:
    """Expected singular values of white data of unit variance (Marchenko and Pastur 1967).

    The mid-point quantiles of the limiting law, scaled to the finite shape. Centring costs one
    row (exactly so for Gaussian data); z-scored white data follow the law of centred ones.

    Parameters
    ----------
    n_rows, n_columns : int
        T and D.
    centre : {"none", "columns", "zscore"}

    Returns
    -------
    array, shape (min(T, D),), descending
        Zero where centring removes a dimension.

    Raises
    ------
    ValueError
        If `n_rows` or `n_columns` is below 1, or `centre` is unknown.

    Examples
    --------
    >>> marchenko_pastur(400, 100)[[0, -1]].round(1)  # edges 20 + 10 and 20 - 10
    array([29.5, 10.3])
    """
    n_values = rank_cap(n_rows, n_columns, centre=centre)
    expected = np.zeros(min(n_rows, n_columns))
    if n_values == 0:
        return expected
    longer = max(n_rows - (centre != "none"), n_columns)
    root = np.sqrt(n_values / longer)
    theta = np.linspace(0.0, np.pi, 20_001)
    cumulative = _marchenko_pastur_cumulative(theta, root)
    quantiles = (np.arange(n_values)[::-1] + 0.5) / n_values
    eigenvalues = 1 + root**2 - 2 * root * np.cos(np.interp(quantiles, cumulative, theta))
    expected[:n_values] = np.sqrt(longer * eigenvalues)
    return expected


def marchenko_pastur_cdf(eigenvalues: ArrayLike, aspect: float) -> Array:
    """Share of the Marchenko-Pastur law below each eigenvalue, for entries of unit variance.

    Parameters
    ----------
    eigenvalues : array of any shape
        Of W W' / longer side, the shorter side being that of W W'.
    aspect : float
        Shorter over longer side, in (0, 1].

    Raises
    ------
    ValueError
        If the aspect is outside (0, 1].
    """
    if not 0 < aspect <= 1:
        raise ValueError(f"aspect is shorter over longer side, in (0, 1], got {aspect}")
    root = np.sqrt(aspect)
    cosine = (1 + aspect - np.asarray(eigenvalues, dtype=np.float64)) / (2 * root)
    return _marchenko_pastur_cumulative(np.arccos(np.clip(cosine, -1, 1)), root)


def _marchenko_pastur_cumulative(theta: Array, root: float) -> Array:
    """With lambda = 1 + root**2 - 2 root cos(theta) the density is (2/pi) sin(theta)**2 / lambda,
    smooth up to both edges, and its integral is elementary."""
    angle = np.arctan2((1 + root) * np.sin(theta / 2), (1 - root) * np.cos(theta / 2))
    integral = (1 + root**2) * theta + 2 * root * np.sin(theta) - 2 * (1 - root**2) * angle
    return integral / (2 * np.pi * root**2)


def white_noise_profile(n_rows: int, n_columns: int, *, centre: Centre = "none") -> dict[str, Any]:
    """`rank_profile` expected of white data of shape (T, D), from the Marchenko-Pastur law.

    Parameters, errors and source as for `marchenko_pastur`; keys as in `rank_profile`. Within
    3 % of simulated Gaussian data from about 30 rows and columns on.

    Examples
    --------
    >>> round(white_noise_profile(128, 64)["effective_rank_sigma"])
    59
    """
    sigma = marchenko_pastur(n_rows, n_columns, centre=centre)
    return _profile(sigma, rank_cap(n_rows, n_columns, centre=centre))


def _profile(sigma: Array, cap: int) -> dict[str, Any]:
    """All ranks of singular values of shape (..., n)."""
    squares = sigma**2
    rank = renyi_rank(sigma, 0)
    return {
        "stable_rank": renyi_rank(squares, np.inf),
        "participation_ratio": renyi_rank(squares, 2),
        "effective_rank_sigma2": renyi_rank(squares, 1),
        "effective_rank_sigma": renyi_rank(sigma, 1),
        "rank": rank,
        "cap": np.full_like(rank, cap)[()],
    }


def _spectrum(x: ArrayLike, centre: Centre) -> tuple[Array, Array]:
    """Singular values of the prepared matrices, and the factor that restores their unit."""
    x = np.asarray(x)
    prepared, scale = _prepare(x, centre)
    gram = _gram(prepared)
    del prepared  # gives its pages to the eigensolver; few matrices need it again
    eigenvalues = np.linalg.eigvalsh(gram)[..., ::-1]
    rounding = max(x.shape[-2:]) * EPS
    noise = np.maximum(rounding * eigenvalues[..., :1], TINY)
    values = np.sqrt(np.where(eigenvalues > noise, eigenvalues, 0.0))
    error = noise / (values + np.sqrt(noise))
    doubtful = error.sum(axis=-1) > DOUBT * values.sum(axis=-1)
    if doubtful.any():
        exact = np.linalg.svd(_prepare(x[doubtful], centre)[0], compute_uv=False)
        values[doubtful] = np.where(exact > rounding * exact[..., :1], exact, 0.0)
    return values, scale


def _prepare(x: ArrayLike, centre: Centre, dtype: Any = np.float64) -> tuple[NDArray, NDArray]:
    """Centred copy of `x`, and the factor, shape (..., 1), that restores its unit.

    Each matrix is divided by the power of two below its largest entry: an exact division after
    which no square overflows or vanishes.
    """
    _check_option("centre", centre, Centre)
    x, peak = _check_matrix(x)
    scale = _power_of_two(peak).astype(dtype)
    # In place from here on: fresh pages cost as much as the arithmetic.
    prepared = np.divide(x, scale, out=np.empty(x.shape, dtype))
    if centre != "none":
        _subtract_means(prepared)
        # What remains may be far smaller than the offsets were.
        remaining = np.minimum(_power_of_two(_peak(prepared)), 1).astype(dtype)
        prepared /= remaining
        scale *= remaining
    if centre == "zscore":
        variance = np.einsum("...td,...td->...d", prepared, prepared)[..., None, :] / x.shape[-2]
        np.divide(prepared, np.sqrt(variance), out=prepared, where=variance > 0)
        scale = np.ones_like(scale)
    return prepared, scale[..., 0]


def _subtract_means(x: NDArray) -> None:
    """Centre the columns in place.

    Subtracting the first row before the mean makes a constant column exactly zero, which its
    rounded mean would not, and rids float32 of large offsets before anything is summed.
    """
    x -= x[..., :1, :].copy()
    x -= x.mean(axis=-2, keepdims=True)


def _peak(x: NDArray) -> Array:
    """Largest magnitude in each matrix, shape (..., 1, 1); NaN if it holds one."""
    highest = x.max(axis=(-2, -1), keepdims=True).astype(np.float64)
    lowest = x.min(axis=(-2, -1), keepdims=True).astype(np.float64)
    return np.maximum(highest, -lowest)


def _power_of_two(peak: Array) -> Array:
    """Power of two at or below each magnitude (0.5 for zero)."""
    return np.ldexp(1.0, np.frexp(peak)[1] - 1)


def _gram(x: NDArray) -> NDArray:
    """``x x'`` or ``x' x``, whichever is smaller; numpy computes one triangle only (syrk)."""
    transposed = x.swapaxes(-1, -2)
    return x @ transposed if x.shape[-2] <= x.shape[-1] else transposed @ x


def _frobenius_norm(x: Array) -> Array:
    return np.sqrt(np.square(x).sum(axis=(-2, -1)))


def _mixed_norm(x: Array) -> Array:
    size = np.abs(x)
    return np.sqrt(size.sum(axis=-2).max(axis=-1) * size.sum(axis=-1).max(axis=-1))


def _ratio(numerator: Array, denominator: Array) -> Any:
    """Quotient of non-negative arrays, 0.0 where the denominator is zero."""
    quotient = np.zeros(np.shape(numerator))
    return np.divide(numerator, denominator, out=quotient, where=denominator > 0)[()]


def _check_matrix(x: ArrayLike) -> tuple[NDArray, Array]:
    """`x` as an array of finite real matrices, and the peak of each."""
    x = np.asarray(x)
    if x.ndim < 2:
        raise ValueError(f"x must have shape (..., T, D), got {x.ndim} dimension(s)")
    if x.size == 0:
        raise ValueError(f"x must not be empty, got shape {x.shape}")
    if x.dtype.kind not in "biuf":
        raise ValueError(f"x must hold real numbers, got {x.dtype}")
    peak = _peak(x)
    if not np.isfinite(peak).all():
        raise ValueError("x must not hold NaN or infinite values")
    return x, peak


def _check_option(name: str, value: str, options: Any) -> None:
    if value not in get_args(options):
        raise ValueError(f"{name} must be one of {get_args(options)}, got {value!r}")
