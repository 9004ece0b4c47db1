"""How a quantity grows with size: fits with errors on both axes, alternatives, and data collapse.

One point a model: the layers of one model are no independent points. A critical temperature has an
error of its own, which the fit carries on. A power law is reported with what it was weighed
against, and an exponent only with its interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import approx_fprime, minimize

from tgn.statistics import aicc
from tgn.thermodynamics.levels import checked_levels

Array = NDArray[np.floating]

LEAST_POINTS = 3  # for a slope with an error
LEAST_FOR_PREDICTION = 5


@dataclass(frozen=True)
class PowerLawFit:
    """y = a x^b by least squares of ln y on ln x; intervals at 95 %, Student's.

    ``aicc`` weighs the power law against a constant and a logarithm, on the same ln y: the least
    is the best account. ``None`` where the points are too few for the correction.
    """

    a: float
    b: float
    std_err: float
    low: float
    high: float
    r_squared: float
    p_value: float
    n: int
    aicc: Mapping[str, float | None]

    def __call__(self, x: ArrayLike) -> Array:
        """The law at x."""
        return self.a * np.asarray(x, float) ** self.b

    @property
    def best(self) -> str:
        """Which account has the least AICc; ``undecided`` if there are too few points."""
        known = {name: value for name, value in self.aicc.items() if value is not None}
        return min(known, key=lambda name: known[name]) if known else "undecided"


def fit_power_law(x: ArrayLike, y: ArrayLike) -> PowerLawFit:
    """Ordinary least squares in logarithms.

    Raises
    ------
    ValueError
        If there are fewer than three points, they do not fit, are not positive, or all x are one.
    """
    u, v = _logarithms(x, y)
    line = stats.linregress(u, v)
    n = len(u)
    reach = stats.t.ppf(0.975, n - 2) * line.stderr
    return PowerLawFit(
        a=float(np.exp(line.intercept)),
        b=float(line.slope),
        std_err=float(line.stderr),
        low=float(line.slope - reach),
        high=float(line.slope + reach),
        r_squared=float(line.rvalue**2),
        p_value=float(line.pvalue),
        n=n,
        aicc={
            "power law": _aicc(v - line.intercept - line.slope * u, 2),
            "constant": _aicc(v - v.mean(), 1),
            "logarithm": _logarithmic(u, v),
        },
    )


class ErrorsInVariables(NamedTuple):
    """y = a x^b with errors on both axes, by maximum likelihood in logarithms."""

    a: float
    b: float
    std_err: float
    low: float
    high: float
    reduced_chi_squared: float
    n: int


def fit_with_errors(
    x: ArrayLike, y: ArrayLike, *, x_error: ArrayLike, y_error: ArrayLike
) -> ErrorsInVariables:
    """Fit a power law to points with known standard errors on both axes.

    What is minimised is sum (v - c - b u)^2 / (s_v^2 + b^2 s_u^2) over logarithms u and v (York et
    al. 2004); the error of b is from the curvature there.

    Raises
    ------
    ValueError
        As :func:`fit_power_law`, and if an error is not positive.
    """
    u, v = _logarithms(x, y)
    spreads = []
    for name, error, value in (("x_error", x_error, x), ("y_error", y_error, y)):
        spread = checked_levels(error, name)
        if len(spread) != len(u) or (spread <= 0).any():
            raise ValueError(f"{name} must be {len(u)} positive numbers")
        spreads.append(spread / np.asarray(value, float))
    centre = u.mean()

    def misfit(line: Array) -> float:
        slope, level = line
        variance = spreads[1] ** 2 + (slope * spreads[0]) ** 2
        return float(((v - level - slope * (u - centre)) ** 2 / variance).sum())

    start = np.polyfit(u - centre, v, 1)
    found = minimize(misfit, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9})
    slope, level = found.x
    step = 1e-4
    curvature = np.array(
        [
            (approx_fprime(found.x + h, misfit, step) - approx_fprime(found.x - h, misfit, step))
            / (2 * step)
            for h in step * np.eye(2)
        ]
    )
    error = float(np.sqrt(2 * np.linalg.inv((curvature + curvature.T) / 2)[0, 0]))
    reach = stats.norm.ppf(0.975) * error
    return ErrorsInVariables(
        float(np.exp(level - slope * centre)),
        float(slope),
        error,
        float(slope - reach),
        float(slope + reach),
        float(found.fun / (len(u) - 2)),
        len(u),
    )


def bootstrap_exponent(
    x: ArrayLike, y: ArrayLike, *, rng: np.random.Generator, resamples: int = 2000
) -> tuple[float, float]:
    """95 % interval of the exponent over models, drawn with replacement.

    Draws with fewer than three different x have no slope and are drawn anew.

    Raises
    ------
    ValueError
        As :func:`fit_power_law`, and if fewer than three x differ.
    """
    u, v = _logarithms(x, y)
    if len(np.unique(u)) < LEAST_POINTS:
        raise ValueError(
            f"x: a slope over resamples takes at least {LEAST_POINTS} different values"
        )
    slopes: list[float] = []
    while len(slopes) < resamples:
        chosen = rng.integers(len(u), size=len(u))
        if len(np.unique(u[chosen])) >= LEAST_POINTS:
            slopes.append(float(np.polyfit(u[chosen], v[chosen], 1)[0]))
    low, high = np.quantile(slopes, [0.025, 0.975])
    return float(low), float(high)


class Collapse(NamedTuple):
    """Exponents at which curves of several sizes fall onto one, with intervals over sizes.

    ``spread`` is the mean squared distance between the rescaled curves over their variance, 0 for a
    perfect collapse; ``null_spread`` what remains with the sizes permuted, and ``p`` its rank.
    """

    nu: float
    beta: float
    nu_interval: tuple[float, float]
    beta_interval: tuple[float, float]
    spread: float
    null_spread: float
    p: float


def collapse(
    curves: Mapping[float, tuple[ArrayLike, ArrayLike]],
    critical_temperature: float,
    *,
    rng: np.random.Generator,
    resamples: int = 50,
    permutations: int = 99,
) -> Collapse:
    """Finite-size collapse: y L^(beta / nu) against (T - T_c) / T_c L^(1 / nu).

    Parameters
    ----------
    curves
        By linear size L: temperatures and values, rising in temperature.
    critical_temperature
        T_c of the infinite system.

    Raises
    ------
    ValueError
        If there are fewer than three sizes, a size or T_c is not positive, or a curve does not fit.
    """
    if len(curves) < LEAST_POINTS:
        raise ValueError(f"curves: a collapse takes at least three sizes, got {len(curves)}")
    sizes, points = _checked_curves(curves, critical_temperature)

    def optimum(chosen: Sequence[int], at: Array) -> tuple[Array, float]:
        def cost(theta: Array) -> float:
            return _spread([points[i] for i in chosen], at[chosen], np.exp(theta[0]), theta[1])

        starts = [(np.log(nu), beta) for nu in (0.5, 1.5) for beta in (0.0, 0.5)]
        found = [minimize(cost, start, method="Nelder-Mead") for start in starts]
        best = min(found, key=lambda result: result.fun)
        return np.array([np.exp(best.x[0]), best.x[1]]), float(best.fun)

    everything = list(range(len(sizes)))
    (nu, beta), spread = optimum(everything, sizes)
    drawn: list[Array] = []
    while len(drawn) < resamples:
        chosen = sorted(rng.integers(len(sizes), size=len(sizes)))
        if len(set(chosen)) >= 2:
            drawn.append(optimum(chosen, sizes)[0])
    null = np.array([optimum(everything, rng.permutation(sizes))[1] for _ in range(permutations)])
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0) if drawn else (np.full(2, np.nan),) * 2
    return Collapse(
        float(nu),
        float(beta),
        (float(low[0]), float(high[0])),
        (float(low[1]), float(high[1])),
        spread,
        float(null.mean()) if permutations else np.nan,
        float((1 + (null <= spread).sum()) / (permutations + 1)),
    )


def rescaled(
    curves: Mapping[float, tuple[ArrayLike, ArrayLike]],
    critical_temperature: float,
    nu: float,
    beta: float,
) -> tuple[dict[float, tuple[Array, Array]], float]:
    """The curves by size as given exponents rescale them, and their spread as in :class:`Collapse`.

    Raises
    ------
    ValueError
        If there are fewer than two sizes, nu is not positive, and as :func:`collapse`.
    """
    if len(curves) < 2:
        raise ValueError(f"curves: there is nothing to collapse of {len(curves)} sizes")
    if not nu > 0:
        raise ValueError(f"nu must be positive, got {nu}")
    sizes, points = _checked_curves(curves, critical_temperature)
    scaled = {
        size: (t * size ** (1 / nu), y * size ** (beta / nu))
        for size, (t, y) in zip(curves, points, strict=True)
    }
    return scaled, _spread(points, sizes, nu, beta)


def _checked_curves(
    curves: Mapping[float, tuple[ArrayLike, ArrayLike]], critical_temperature: float
) -> tuple[Array, list[tuple[Array, Array]]]:
    """Sizes, and of each reduced temperatures and values."""
    if not (critical_temperature > 0 and min(curves) > 0):
        raise ValueError("critical_temperature and sizes must be positive")
    points: list[tuple[Array, Array]] = []
    for size, (temperatures, values) in curves.items():
        t, y = checked_levels(temperatures, "curves"), checked_levels(values, "curves")
        if len(t) != len(y) or (np.diff(t) <= 0).any():
            raise ValueError(f"curves[{size}]: temperatures must rise and be as many as the values")
        points.append(((t - critical_temperature) / critical_temperature, y))
    sizes: Array = np.array(list(curves), np.float64)
    return sizes, points


def _spread(points: list[tuple[Array, Array]], sizes: Array, nu: float, beta: float) -> float:
    """Mean squared distance of each curve from the mean of the others, where they overlap."""
    scaled = [
        (t * size ** (1 / nu), y * size ** (beta / nu))
        for (t, y), size in zip(points, sizes, strict=True)
    ]
    total, terms = 0.0, 0
    for i, (x, y) in enumerate(scaled):
        others = [
            np.interp(x, u, v, left=np.nan, right=np.nan)
            for j, (u, v) in enumerate(scaled)
            if j != i
        ]
        stacked = np.array(others)
        shared = np.isfinite(stacked).any(axis=0)
        if shared.any():
            gap = y[shared] - np.nanmean(stacked[:, shared], axis=0)
            total += float((gap**2).sum())
            terms += int(shared.sum())
    everything = np.concatenate([y for _, y in scaled])
    if terms < len(everything) / 2:  # curves that hardly overlap are no collapse
        return 1e6
    return total / terms / max(float(everything.var()), 1e-300)


def least_squares(
    columns: Mapping[str, ArrayLike], y: ArrayLike, *, logarithms: bool
) -> dict[str, Any]:
    """Multiple regression of y, or of ln y on logarithms, with standard errors.

    Returns
    -------
    dict
        ``intercept``, ``slopes``, ``std_err`` (by name), ``r_squared``, ``n``.

    Raises
    ------
    ValueError
        If the columns do not fit, are collinear, or points are as few as coefficients.
    """
    transform: Callable[[Array], Array] = np.log if logarithms else lambda values: values
    target = checked_levels(y, "y")
    values = {name: checked_levels(column, name) for name, column in columns.items()}
    for name, column in {**values, "y": target}.items():
        if len(column) != len(target):
            raise ValueError(f"{name} has {len(column)} values for {len(target)} of y")
        if logarithms and (column <= 0).any():
            raise ValueError(f"{name} must be positive to take its logarithm")
    design = np.column_stack([np.ones(len(target)), *(transform(v) for v in values.values())])
    n, k = design.shape
    if n <= k:
        raise ValueError(f"y: {n} points do not decide {k} coefficients")
    if np.linalg.matrix_rank(design) < k:
        raise ValueError(f"{', '.join(values)}: the columns are collinear")
    v = transform(target)
    solution, *_ = np.linalg.lstsq(design, v, rcond=None)
    rest = v - design @ solution
    covariance = np.linalg.inv(design.T @ design) * (rest @ rest) / (n - k)
    total = ((v - v.mean()) ** 2).sum()
    return {
        "intercept": float(solution[0]),
        "slopes": dict(zip(values, map(float, solution[1:]), strict=True)),
        "std_err": dict(zip(values, map(float, np.sqrt(np.diag(covariance))[1:]), strict=True)),
        "r_squared": float(1 - rest @ rest / total) if total else 0.0,
        "n": n,
    }


def _logarithms(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    u, v = checked_levels(x, "x"), checked_levels(y, "y")
    if len(u) != len(v):
        raise ValueError(f"y has {len(v)} values for {len(u)} of x")
    if len(u) < LEAST_POINTS:
        raise ValueError(f"x: a power law takes at least {LEAST_POINTS} points, got {len(u)}")
    if (u <= 0).any() or (v <= 0).any():
        raise ValueError("x and y must be positive")
    if np.ptp(u) == 0:
        raise ValueError("x: all values are equal")
    return np.log(u), np.log(v)


def _logarithmic(u: Array, v: Array) -> float | None:
    """y = c + d ln x, judged on the same ln y as the others."""
    predicted = np.polyval(np.polyfit(u, np.exp(v), 1), u)
    return _aicc(v - np.log(predicted), 2) if (predicted > 0).all() else None


def _aicc(rest: Array, parameters: int) -> float | None:
    """None, which JSON knows, where the points are too few."""
    found = aicc(float(rest @ rest), len(rest), parameters)
    return found if np.isfinite(found) else None
