"""Information in levels, between matrices, and in what a layer passes on. All in nats (k_B = 1).

The Boltzmann weights p_i = exp(-E_i / T) / Z of N levels have

    H = -sum p ln p                               Shannon entropy
    H_2 = -ln sum p^2                             Renyi's of order two
    1 <= 1 / sum p^2 <= exp H <= N                how many levels share the weight
    I(T) = sum p (d ln p / dT)^2 = C / T^2        Fisher information about the temperature.

Between two matrices the Kullback-Leibler divergence takes levels that belong together one by one;
levels that do not are compared as distributions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, xlogy
from scipy.stats import ks_2samp, wasserstein_distance

from tgn.rank import renyi_rank
from tgn.thermodynamics.levels import checked_levels, checked_temperatures, thermal_properties
from tgn.thermodynamics.nulls import p_above

Array = NDArray[np.floating]

AT_ONCE = 2**22  # numbers in a block of pairwise distances


class Complexity(NamedTuple):
    """Entropies of the Boltzmann weights, and the numbers of levels they stand for."""

    shannon: float
    renyi_2: float
    effective_number: float
    participation_ratio: float


def complexity(energies: ArrayLike, temperature: float) -> Complexity:
    """H, H_2, exp H and 1 / sum p^2 at one temperature.

    Raises
    ------
    ValueError
        If there are no levels, one is not finite, or the temperature is not positive.

    Examples
    --------
    Of four equal levels, all:

    >>> complexity([1.0, 1.0, 1.0, 1.0], 0.5).participation_ratio
    4.0
    """
    levels = checked_levels(energies)
    weights = np.exp(-(levels - levels.min()) / _one(temperature))
    shannon, simpson = float(renyi_rank(weights, 1)), float(renyi_rank(weights, 2))
    return Complexity(float(np.log(shannon)), float(np.log(simpson)), shannon, simpson)


def fisher_information(energies: ArrayLike, temperatures: ArrayLike, *, k_B: float = 1.0) -> Array:
    """What one draw of a level tells about the temperature: Var(E) / (k_B^2 T^4) = C / (k_B T^2).

    Shape (n_temperatures,), in 1 / temperature^2: by Cramer and Rao no unbiased thermometer with n
    independent draws has a variance below 1 / (n I).

    Raises
    ------
    ValueError
        As :func:`tgn.thermodynamics.levels.thermal_properties`.
    """
    found = thermal_properties(energies, temperatures, k_B=k_B)
    return found.specific_heat / (k_B * found.temperatures**2)


def entropy_slope_squared(energies: ArrayLike, temperatures: ArrayLike) -> Array:
    """(dS / dT)^2 = (C / T)^2, which has been published as Fisher information and is not."""
    found = thermal_properties(energies, temperatures)
    return (found.specific_heat / found.temperatures) ** 2


def kullback_leibler(first: ArrayLike, second: ArrayLike, temperature: float) -> float:
    """Sum of p ln(p / q) over levels that belong together: entry by entry of equal shapes.

    Raises
    ------
    ValueError
        If the shapes differ, in which case :func:`level_distance` is the comparison to make; and
        for levels or a temperature that :func:`complexity` would refuse.
    """
    if np.shape(first) != np.shape(second):
        raise ValueError(
            f"first {np.shape(first)} and second {np.shape(second)} have no entries in common; "
            "compare their distributions, with level_distance"
        )
    beta = 1 / _one(temperature)
    log_p = _log_weights(-beta * checked_levels(first, "first"))
    log_q = _log_weights(-beta * checked_levels(second, "second"))
    return max(0.0, float(np.exp(log_p) @ (log_p - log_q)))


class LevelDistance(NamedTuple):
    """Between two sets of levels whatever their order and number.

    ``wasserstein`` is in the units of the energies, the others are pure numbers.
    """

    kolmogorov_smirnov: float
    p_value: float
    wasserstein: float


def level_distance(first: ArrayLike, second: ArrayLike) -> LevelDistance:
    """Kolmogorov-Smirnov and Wasserstein distance of two sets of levels.

    Raises
    ------
    ValueError
        If one is empty or not finite.
    """
    one, other = checked_levels(first, "first"), checked_levels(second, "second")
    found = ks_2samp(one, other, method="asymp")
    return LevelDistance(float(found[0]), float(found[1]), float(wasserstein_distance(one, other)))


class MutualInformation(NamedTuple):
    """In nats: the plug-in value, that minus its mean under permutations, and its rank there."""

    corrected: float
    plug_in: float
    null: Array
    p_value: float


def mutual_information(
    first: ArrayLike,
    second: ArrayLike,
    *,
    rng: np.random.Generator,
    bins: int = 16,
    permutations: int = 100,
) -> MutualInformation:
    """Mutual information of entries at the same place in two arrays of one shape.

    Each array's values are put into bins of equal probability, so that any strictly monotone
    function of the entries (their Boltzmann weight, at whatever temperature) gives the same result.
    The plug-in value is biased upwards by about (bins - 1)^2 / (2 N); what permutations give is
    taken off. A permutation moves whole slices of the second array along every axis: rows and
    columns of unlike width are no information about their place.

    Raises
    ------
    ValueError
        If the shapes differ, the arrays are empty or not finite, or there are fewer than two bins,
        fewer entries than bins, or no permutations.
    """
    if np.shape(first) != np.shape(second):
        raise ValueError(f"first {np.shape(first)} and second {np.shape(second)} differ in shape")
    if not 2 <= bins <= np.size(first):
        raise ValueError(f"bins must be from 2 to the {np.size(first)} entries, got {bins}")
    _check_permutations(permutations)
    one = _coded(checked_levels(first, "first"), bins)
    other = _coded(checked_levels(second, "second"), bins).reshape(np.shape(second))
    plug_in = _plug_in(one, other, bins)
    sides: tuple[int, ...] = np.shape(second)
    null = np.empty(permutations)
    for draw in range(permutations):
        moved = other[np.ix_(*(rng.permutation(side) for side in sides))]
        null[draw] = _plug_in(one, moved, bins)
    return MutualInformation(plug_in - float(null.mean()), plug_in, null, p_above(plug_in, null))


class Bottleneck(NamedTuple):
    """What a noisy representation T keeps of its input X and tells of a label Y, in nats.

    The values without suffix come from the upper bound of each entropy, ``*_lower`` are certain
    lower bounds. ``null`` are the values of I(T;Y) with labels permuted: with little noise every
    example is a class of its own and even random labels are told, so only the excess counts.
    """

    input_information: float
    input_lower: float
    label_information: float
    label_lower: float
    null: Array
    p_value: float


def bottleneck(
    activations: ArrayLike,
    labels: ArrayLike,
    noise: float,
    *,
    rng: np.random.Generator,
    permutations: int = 100,
) -> Bottleneck:
    """I(X;T) and I(T;Y) of T = activation + Gaussian noise, by pairwise distances.

    Without noise a representation that differs between examples holds all there is to know of
    them. With noise of variance s^2 a channel, T is a mixture of n Gaussians, and the entropy of
    that has the bounds of Kolchinsky and Tracey (2017, Entropy 19, 361):

        H(T) - H(T|X)  <=  -mean_i ln mean_j exp(-|t_i - t_j|^2 / (2 s^2)),
        and at least the same with 8 s^2 in place of 2 s^2.

    I(T;Y) = H(T) - sum_y P(y) H(T|y), with the same for each class. I(T;Y) <= H(Y) <= ln n and
    I(T;Y) <= I(X;T) <= ln n.

    Parameters
    ----------
    activations : array, shape (n, d)
    labels : array, shape (n,)
        Classes, of any type.
    noise
        Variance of the noise a channel, in units of the mean variance of the channels.

    Raises
    ------
    ValueError
        If the shapes do not fit, the activations are not finite or all alike, or the noise is not
        positive.
    """
    points = np.asarray(activations, np.float64)
    checked_levels(points, "activations")
    classes, codes = np.unique(np.asarray(labels), return_inverse=True)
    n = len(points)
    if points.ndim != 2 or codes.shape != (n,):
        raise ValueError(
            f"activations {points.shape} and labels {np.shape(labels)}: (n, d) and (n,) are needed"
        )
    if not (np.isfinite(noise) and noise > 0):
        raise ValueError(f"noise must be positive and finite, got {noise}")
    _check_permutations(permutations)
    variance = points.var(axis=0).mean()
    if variance == 0:
        raise ValueError("activations: all examples are alike")
    scaled = (points - points.mean(axis=0)) / np.sqrt(variance * noise)
    drawn = np.stack([codes, *(rng.permutation(codes) for _ in range(permutations))])
    share = np.bincount(codes) / n
    whole, within = _log_kernel_means(scaled, drawn, len(classes), 2)
    whole_low, _ = _log_kernel_means(scaled, drawn[:1], len(classes), 8)
    label_entropy = -float(xlogy(share, share).sum())
    told = label_entropy + (within - whole).mean(axis=1)
    lower = label_entropy + float(within.mean(axis=1)[0] - whole_low.mean())
    return Bottleneck(
        input_information=float(-whole.mean()),
        input_lower=float(-whole_low.mean()),
        label_information=float(told[0]),
        label_lower=max(0.0, lower),
        null=told[1:],
        p_value=p_above(told[0], told[1:]),
    )


def _log_kernel_means(
    points: Array, codes: NDArray[np.intp], classes: int, width: float
) -> tuple[Array, Array]:
    """Of each example: ln (sum of the kernel over all others and itself / n), and over its class.

    Shapes (n,) and (labellings, n).
    """
    n = len(points)
    squares = (points**2).sum(axis=1)
    members = (codes[:, None, :] == np.arange(classes)[:, None]).reshape(-1, n).T.astype(float)
    whole, within = np.empty(n), np.empty((len(codes), n))
    block = max(1, AT_ONCE // max(n, members.shape[1]))
    for first in range(0, n, block):
        rows = slice(first, min(first + block, n))
        apart = squares[rows, None] + squares - 2 * points[rows] @ points.T
        kernel = np.exp(-np.maximum(apart, 0) / width)
        kernel[np.arange(kernel.shape[0]), np.arange(first, rows.stop)] = 1.0
        whole[rows] = kernel.sum(axis=1)
        by_class = (kernel @ members).reshape(-1, len(codes), classes)
        own = np.take_along_axis(by_class, codes.T[rows, :, None], axis=2)[:, :, 0]
        within[:, rows] = own.T
    return np.log(whole / n), np.log(within / n)


def _coded(values: Array, bins: int) -> NDArray[np.intp]:
    """The number of each value's bin; equal values share one."""
    inner = np.quantile(values, np.arange(1, bins) / bins)
    return np.searchsorted(inner, values, side="right")


def _plug_in(one: NDArray[np.intp], other: NDArray[np.intp], bins: int) -> float:
    joint = np.bincount(one * bins + other.ravel(), minlength=bins**2).reshape(bins, bins)
    p = joint / joint.sum()
    return float(xlogy(p, p).sum() - sum(xlogy(q, q).sum() for q in (p.sum(0), p.sum(1))))


def _log_weights(exponents: Array) -> Array:
    return exponents - logsumexp(exponents)


def _one(temperature: float) -> float:
    if np.ndim(temperature):
        raise ValueError(f"temperature must be one number, got {temperature!r}")
    return float(checked_temperatures(temperature)[0])


def _check_permutations(permutations: int) -> None:
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
