"""From traces of all arms to residual energies, times to solution and the statistics of figure 5.

Disorder samples are the independent units: every interval is over samples, a bootstrap or, of the
share of them that was solved, which may be none, Wilson's; arms are compared sample by sample.
Residuals are taken from reference energies, the least that any arm or an independent long run has
found; where that was found only once, a sample is flagged.

A *time to solution* at 99 % is ``t ln 0.01 / ln(1 - p)``: how long runs of length t, started anew,
must go on to find a ground state with that probability. Here p is the share of samples solved in
t, and t the checkpoint that makes it least. Samples without a converged reference count as not
solved: an arm must not be its own yardstick. Traces are tables of `tgn.spin_glass.experiment`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tgn.statistics import Interval, Statistic, ends, share_interval

KEYS = ["disorder", "side", "sample"]
TOLERANCE = 1e-7  # energy per spin; levels are further apart: 1e-6 for Gaussian couplings, L = 12
CONFIDENCE = 0.99
ENDS = (0.025, 0.975)  # of a 95 % interval
TINY = float(np.finfo(np.float64).tiny)
LEAST_SIDES = 4  # below this the two laws cannot be told apart


def reference_energies(
    traces: pd.DataFrame, independent: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Least energy of every sample over all arms and, if given, independent long runs.

    Parameters
    ----------
    traces : columns arm, disorder, side, sample, energy
    independent : columns disorder, side, sample, energy and found, the number of runs that have
        found it

    Returns
    -------
    table with columns disorder, side, sample, energy (per spin) and converged: whether at least
    two runs, of arms or independent, have found it. A single finding may be undercut.
    """
    found = traces.groupby([*KEYS, "arm"], as_index=False)["energy"].min().assign(found=1)
    if independent is not None:
        found = pd.concat([found, independent[[*KEYS, "energy", "found"]]])
        known = found.set_index(KEYS).index.isin(traces.set_index(KEYS).index)
        found = found[known]
    least = found.groupby(KEYS)["energy"].transform("min")
    found["hits"] = found["found"] * (found["energy"] <= least + TOLERANCE)
    table = found.groupby(KEYS, as_index=False).agg(energy=("energy", "min"), hits=("hits", "sum"))
    return table.assign(converged=table["hits"] >= 2).drop(columns="hits")


def with_residuals(traces: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """`traces` with columns residual (energy per spin above the reference), converged, solved.

    A sample is solved if it reaches a converged reference.

    Raises
    ------
    ValueError
        If a sample has no reference, or an arm lies below it.
    """
    joined = traces.merge(reference, on=KEYS, how="left", suffixes=("", "_reference"))
    joined["residual"] = joined["energy"] - joined.pop("energy_reference")
    if joined["residual"].isna().any():
        raise ValueError("reference lacks samples of the traces")
    if (joined["residual"] < -TOLERANCE).any():
        raise ValueError("reference lies above an energy that an arm has found: pool it first")
    return joined.assign(solved=(joined["residual"] <= TOLERANCE) & joined["converged"])


def summary(residuals: pd.DataFrame, *, resamples: int, seed: int) -> pd.DataFrame:
    """Curves of figure 5, by arm, disorder, side and checkpoint.

    Returns
    -------
    table with the means over samples of updates, residual (with ci_low and ci_high, 95 %),
    success (share of samples solved, with Wilson's success_low and success_high) and acceptance,
    the number n of samples and the share of them with a converged reference.
    """
    parts = []
    keys = ["arm", "disorder", "side"]
    columns = ["seconds", "updates", "residual", "solved", "acceptance", "converged"]
    for labels, rows in residuals.groupby(keys, sort=True):
        curves = rows.groupby("checkpoint")[columns].mean().rename(columns={"solved": "success"})
        residual = rows.pivot(index="sample", columns="checkpoint", values="residual").to_numpy()
        draws = resampled_means(residual, resamples, np.random.default_rng([seed, 5]))
        curves["ci_low"], curves["ci_high"] = np.quantile(draws, ENDS, axis=0)
        shares = [share_interval(solved) for _, solved in rows.groupby("checkpoint")["solved"]]
        curves["success_low"] = [share.low for share in shares]
        curves["success_high"] = [share.high for share in shares]
        labelled = dict(zip(keys, labels, strict=True))
        parts.append(curves.reset_index().assign(n=len(residual), **labelled))
    return pd.concat(parts, ignore_index=True)


def resampled_means(values: NDArray, resamples: int, rng: np.random.Generator) -> NDArray:
    """Bootstrap means over axis 0, shape (resamples, ...)."""
    units = len(values)
    drawn = rng.integers(units, size=(resamples, units))
    drawn += units * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
    means = counts.astype(np.float64) @ values.reshape(units, -1).astype(np.float64) / units
    return means.reshape(resamples, *values.shape[1:])


def mean_interval(values: NDArray, resamples: int, rng: np.random.Generator) -> Interval:
    """Mean with its 95 % percentile interval over axis 0."""
    value = float(values.mean())
    low, high = np.quantile(resampled_means(values, resamples, rng), ENDS)
    return Interval(value, min(value, float(low)), max(value, float(high)))  # but for rounding


def time_to_solution(seconds: ArrayLike, share: ArrayLike) -> Any:
    """``t ln 0.01 / ln(1 - p)`` in the unit of t; at least t, and infinite where p = 0.

    Examples
    --------
    >>> time_to_solution(2.0, [0.0, 0.9, 1.0])
    array([inf,  4.,  2.])
    """
    with np.errstate(divide="ignore"):
        runs = np.log(1 - CONFIDENCE) / np.log1p(-np.asarray(share, dtype=np.float64))
    runs = np.where(np.asarray(share) > 0, np.maximum(runs, 1), np.inf)
    return np.asarray(seconds) * runs


def best_checkpoint(seconds: ArrayLike, shares: ArrayLike) -> Any:
    """Index of the least time to solution along the last axis; the last where p = 0 throughout.

    Parameters
    ----------
    seconds : array, shape (checkpoints,)
    shares : array, shape (..., checkpoints)
    """
    times = time_to_solution(seconds, shares)
    last = times.shape[-1] - 1
    return np.where(np.isfinite(times).any(axis=-1), times.argmin(axis=-1), last)


def solution_times(residuals: pd.DataFrame, *, resamples: int, seed: int) -> pd.DataFrame:
    """Time to solution by arm, disorder and side, with 95 % bootstrap intervals over samples.

    Returns
    -------
    table with columns arm, disorder, side, tts, ci_low, ci_high (CPU seconds, infinite where no
    sample, or too few resamples, were solved), seconds (the best checkpoint), solved and n. Where
    no sample was solved, ci_low is a lower bound of the same confidence: that of the share p at
    which n failures in a row have a probability of 2.5 %.
    """
    rows = []
    for labels, part in residuals.groupby(["arm", "disorder", "side"], sort=True):
        seconds, solved = _outcomes(part)
        draws = resampled_means(solved, resamples, np.random.default_rng([seed, 7]))
        times = time_to_solution(seconds, draws).min(axis=-1)
        low, high = np.quantile(times, ENDS, method="nearest")
        shares = solved.mean(axis=0)
        best = int(best_checkpoint(seconds, shares))
        found = int(solved[:, best].sum())
        value = float(time_to_solution(seconds[best], shares[best]))
        if found == 0:
            low = time_to_solution(seconds[best], _most(len(solved)))
        rows.append((*labels, value, low, high, seconds[best], found, len(solved)))
    columns = ["arm", "disorder", "side", "tts", "ci_low", "ci_high", "seconds", "solved", "n"]
    return pd.DataFrame(rows, columns=columns)


def _most(n: int) -> float:
    """The probability at which n failures in a row have one of 2.5 %: an upper bound of it."""
    return float(1 - ENDS[0] ** (1 / n))


def _outcomes(part: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Seconds of the checkpoints and, (samples, checkpoints), whether solved; one arm and size."""
    wide = part.pivot(index="sample", columns="checkpoint", values="solved")
    seconds = part.groupby("checkpoint")["seconds"].mean()
    return seconds.to_numpy(), wide.to_numpy(dtype=bool)


class Scaling(NamedTuple):
    """Growth of the time to solution with the side L, both laws fitted to the same counts."""

    exponential_rate: NDArray[np.float64]
    """b of ``t ~ exp(b L)``."""
    power: NDArray[np.float64]
    """b of ``t ~ L**b``."""
    aic_difference: NDArray[np.float64]
    """AIC of the exponential minus that of the power law: positive favours the power law."""
    exponential_tau: NDArray[np.float64]
    """Fitted tau at each size, in the unit of the seconds, shape (..., sizes)."""
    power_tau: NDArray[np.float64]


def fit_scaling(
    sides: ArrayLike, seconds: ArrayLike, solved: ArrayLike, samples: ArrayLike
) -> Scaling:
    """Fit ``ln tau = a + b L`` and ``ln tau = a + b ln L`` to counts of solved samples.

    A run of length t solves a sample with probability ``1 - exp(-t / tau)``, the assumption
    behind every time to solution. Counts are then binomial with a complementary log-log link, and
    sizes where nothing (or everything) was solved enter as the bounds that they are: dropping
    them, or a plug-in value, would bend the curve. Both laws have two parameters; the evidence
    ratio is ``exp(aic_difference / 2)``.

    Parameters
    ----------
    sides : array, shape (sizes,)
    seconds, solved, samples : arrays, shape (..., sizes)
        Length of a run, samples solved within it, samples tried. Leading dimensions, such as
        bootstrap resamples, are fitted one by one.

    Raises
    ------
    ValueError
        If there are fewer than 4 sizes, they are not distinct and positive, a run lasts no time,
        or `solved` is not between 0 and `samples`.

    Sources
    -------
    McCullagh and Nelder 1989, chapter 4 (the link); Burnham and Anderson 2002 (AIC).
    """
    sides = np.asarray(sides, dtype=np.float64)
    if len(np.unique(sides)) < LEAST_SIDES or (sides <= 0).any():
        raise ValueError(f"sides must be at least {LEAST_SIDES} positive sizes, got {sides}")
    seconds, solved, samples = np.broadcast_arrays(
        *(np.asarray(a, dtype=np.float64) for a in (seconds, solved, samples))
    )
    if not (seconds > 0).all():
        raise ValueError("seconds must be positive")
    if not ((solved >= 0) & (solved <= samples)).all():
        raise ValueError("solved must lie between 0 and samples")
    rate, exponential, tau = _log_log_fit(sides, np.log(seconds), solved, samples)
    power, power_law, power_tau = _log_log_fit(np.log(sides), np.log(seconds), solved, samples)
    return Scaling(rate, power, 2 * (power_law - exponential), tau, power_tau)


def _log_log_fit(
    x: NDArray, offset: NDArray, solved: NDArray, total: NDArray
) -> tuple[NDArray, NDArray, NDArray]:
    """Fit ``p = 1 - exp(-exp(offset - a - b x))`` by Fisher scoring: b, log-likelihood, tau.

    A weak Gaussian prior, of width 100 on ln tau at the middle and on its rise over all sizes,
    keeps the maximum finite if no size has some samples solved and some not.
    """
    width = np.ptp(x)
    design = np.stack([np.ones_like(x), (x - x.mean()) / width], axis=1)
    prior = np.eye(2) / 100.0**2
    share = (solved + 0.5) / (total + 1)  # inside (0, 1), to start from
    beta = (np.log(-np.log1p(-share)) - offset) @ np.linalg.pinv(design).T

    def log_likelihood(beta: NDArray) -> NDArray:
        hazard = np.exp(np.clip(offset + beta @ design.T, -500, 500))
        log_p = np.log(np.maximum(-np.expm1(-hazard), TINY))
        return (solved * log_p - (total - solved) * hazard).sum(axis=-1)

    def penalised(beta: NDArray) -> NDArray:
        return log_likelihood(beta) - np.einsum("...i,ij,...j->...", beta, prior, beta) / 2

    for _ in range(200):
        hazard = np.exp(np.clip(offset + beta @ design.T, -30, 30))
        odds = np.exp(-hazard) / -np.expm1(-hazard)
        score = (hazard * (solved * odds - (total - solved))) @ design - beta @ prior
        weight = total * np.square(hazard) * odds
        information = np.einsum("si,...s,sj->...ij", design, weight, design) + prior
        step = np.linalg.solve(information, score[..., None])[..., 0]
        before = penalised(beta)
        for _ in range(40):  # halve the steps that went too far
            worse = penalised(beta + step) < before
            if not worse.any():
                break
            step = np.where(worse[..., None], step / 2, step)
        beta = beta + step
        if np.abs(step).max() < 1e-8:
            break
    tau = np.exp(np.clip(-beta @ design.T, -500, 500))
    return -beta[..., 1] / width, log_likelihood(beta), tau


def figure_statistics(
    residuals: pd.DataFrame, *, resamples: int, seed: int, claimed: str = "tgn"
) -> list[Statistic]:
    """The statistics of figure 5, for each kind of coupling.

    For every arm, at its last checkpoint: residual, success and acceptance at the largest size, the
    slope of the residual against the size and, given four sizes, the comparison of growth laws.
    For the claimed arm against its rivals on the same samples: differences of the residual at the
    largest size, at equal CPU time and at equal updates.

    Parameters
    ----------
    residuals : table of `with_residuals`
    claimed : the arm whose claims are decided
    """
    records: list[Statistic] = []
    for disorder, part in residuals.groupby("disorder", sort=True):
        rng = np.random.default_rng([seed, 6])
        for arm, rows in part.groupby("arm", sort=True):
            name = f"{disorder} couplings"
            records += _arm_statistics(str(arm), rows, name, resamples, rng)
        records += _contrasts(part, claimed, f"{disorder} couplings", resamples, rng)
    return records


RIVALS = (
    "tempering",
    "tempering_houdayer",
    "annealing",
    "langevin",
    "langevin_published",
    "random_restarts",
    "tgn_gate_shut",
)
PAIRS_AT_EQUAL_UPDATES = (
    ("attention_published", "random_configurations"),
    ("langevin_published", "random_configurations"),
    ("tempering_published", "random_configurations"),
    ("langevin", "langevin_published"),
)


def _arm_statistics(
    arm: str, rows: pd.DataFrame, model: str, resamples: int, rng: np.random.Generator
) -> list[Statistic]:
    last = rows[rows["checkpoint"] == rows["checkpoint"].max()]
    by_side = {int(side): part["residual"].to_numpy() for side, part in last.groupby("side")}
    sides = list(by_side)
    largest, units = by_side[max(sides)], sum(map(len, by_side.values()))
    final = last[last["side"] == max(sides)]
    over = "95 % bootstrap interval over samples"
    records = [
        _statistic(
            f"{arm}_residual",
            mean_interval(largest, resamples, rng),
            len(largest),
            "coupling per spin",
            f"lowest energy above the reference at L = {max(sides)}, full CPU budget; mean and "
            f"{over}",
            model,
        ),
        _statistic(
            f"{arm}_success",
            share_interval(final["solved"]),
            len(largest),
            "",
            f"share of samples brought to a converged reference at L = {max(sides)}, full CPU "
            "budget; Wilson's 95 % interval over samples",
            model,
        ),
    ]
    if final["acceptance"].notna().all():
        records.append(
            _statistic(
                f"{arm}_acceptance",
                mean_interval(final["acceptance"].to_numpy(), resamples, rng),
                len(largest),
                "",
                "accepted share of the arm's own moves (of exchanges, where it tempers) at "
                f"L = {max(sides)}; mean and {over}",
                model,
                note=""
                if final["acceptance"].nunique() > 1
                else "counted over all samples at once",
            )
        )
    if len(sides) > 1:
        means = np.stack([part.mean() for part in by_side.values()])
        draws = [resampled_means(part, resamples, rng) for part in by_side.values()]
        records.append(
            _statistic(
                f"{arm}_residual_slope",
                _with_ends(_slope(sides, means), _slope(sides, np.stack(draws, axis=-1))),
                units,
                "coupling per spin and lattice constant",
                f"least-squares slope of the mean residual against L, full CPU budget; {over} of "
                "each size",
                model,
            )
        )
    if len(sides) >= LEAST_SIDES:
        parts = [_outcomes(part) for _, part in rows.groupby("side")]
        value = _evidence(sides, parts, [solved.mean(axis=0) for _, solved in parts]).aic_difference
        spread = value  # as in every resample if no sample was ever solved
        if rows["solved"].any():
            drawn = [resampled_means(solved, resamples, rng) for _, solved in parts]
            spread = _evidence(sides, parts, drawn).aic_difference
        records.append(
            _statistic(
                f"{arm}_tts_aic_exponential_minus_power",
                _with_ends(value, spread),
                units,
                "",
                "AIC of exponential minus power-law growth of the time to solution with L, "
                f"binomial fit to samples solved at the best checkpoint; {over} of each size",
                model,
                note="resampling adds scatter to counts, so the interval may miss the value",
            )
        )
    return records


def _slope(sides: Sequence[int], means: NDArray) -> NDArray:
    """Least-squares slope along the last axis."""
    x = np.asarray(sides) - np.mean(sides)
    return means @ x / (x @ x)


def _evidence(
    sides: Sequence[int],
    parts: Sequence[tuple[NDArray, NDArray]],
    shares: Sequence[NDArray],
) -> Scaling:
    """Both laws fitted to the shares solved at every checkpoint, (..., checkpoints) a size."""
    at, solved = [], []
    for (seconds, outcomes), share in zip(parts, shares, strict=True):
        best = best_checkpoint(seconds, share)
        at.append(seconds[best])
        solved.append(np.take_along_axis(share, best[..., None], axis=-1)[..., 0] * len(outcomes))
    samples = [len(outcomes) for _, outcomes in parts]
    counts = np.round(np.stack(solved, axis=-1))
    return fit_scaling(sides, np.stack(at, axis=-1), counts, samples)


def fitted_times(residuals: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Both laws of growth fitted to some arms' times to solution, at the sizes that were run.

    Returns
    -------
    table with columns arm, disorder, side, exponential and power (CPU seconds at 99 %), and the
    aic_difference of the two; arms that were not run, or on fewer than 4 sizes, are left out.
    """
    rows = []
    chosen = residuals[residuals["arm"].isin(arms)]
    for (arm, disorder), part in chosen.groupby(["arm", "disorder"], sort=True):
        sides = sorted(part["side"].unique())
        if len(sides) < LEAST_SIDES:
            continue
        parts = [_outcomes(rows_of_side) for _, rows_of_side in part.groupby("side")]
        fit = _evidence(sides, parts, [solved.mean(axis=0) for _, solved in parts])
        table = pd.DataFrame({"side": sides, "aic_difference": float(fit.aic_difference)})
        for law, tau in (("exponential", fit.exponential_tau), ("power", fit.power_tau)):
            table[law] = -np.log(1 - CONFIDENCE) * tau
        rows.append(table.assign(arm=arm, disorder=disorder))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def _with_ends(value: NDArray, draws: NDArray) -> Interval:
    low, high = np.quantile(draws, ENDS)
    return Interval(float(value), float(low), float(high))


def _contrasts(
    part: pd.DataFrame, claimed: str, model: str, resamples: int, rng: np.random.Generator
) -> list[Statistic]:
    arms = set(part["arm"])
    side = part["side"].max()
    part = part[part["side"] == side]
    final = part[part["checkpoint"] == part.groupby("arm")["checkpoint"].transform("max")]
    records = []

    def add(first: str, second: str, rows: pd.DataFrame, suffix: str, how: str) -> None:
        wide = rows.pivot(index="sample", columns="arm", values="energy")[[first, second]].dropna()
        gap = mean_interval((wide[first] - wide[second]).to_numpy(), resamples, rng)
        records.append(
            _statistic(
                f"{first}_minus_{second}{suffix}",
                gap,
                len(wide),
                "coupling per spin",
                f"lowest energy per spin at L = {side} {how}, paired by sample; mean and 95 % "
                "bootstrap interval over samples",
                model,
                controls=[second],
            )
        )

    for rival in RIVALS:
        if {claimed, rival} <= arms and rival != claimed:
            add(claimed, rival, final, "", "at equal CPU time")
            equal = at_equal_updates(part, claimed, rival)
            add(claimed, rival, equal, "_equal_updates", "at equal spin updates")
    for first, second in PAIRS_AT_EQUAL_UPDATES:
        if {first, second} <= arms:
            equal = at_equal_updates(part, first, second)
            add(first, second, equal, "_equal_updates", "at equal spin updates")
    return records


def at_equal_updates(part: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Energies of two arms of one size at the same number of updates: the less of their totals.

    The energies of the arm that got further are interpolated between its checkpoints, linearly
    in the logarithm of the updates. (An arm whose first checkpoint is beyond is read there.)

    Returns
    -------
    table with columns arm, sample and energy
    """
    work = part.groupby(["arm", "checkpoint"])["updates"].mean()
    limit = min(work[arm].max() for arm in (first, second))
    read = []
    for arm in (first, second):
        wide = part[part["arm"] == arm].pivot(index="sample", columns="checkpoint", values="energy")
        # The number of the checkpoint, with the way to the next one as its fraction.
        place = np.interp(np.log(limit), np.log(work[arm]), np.arange(len(work[arm])))
        before, share = int(place), place % 1
        after = min(before + 1, wide.shape[1] - 1)
        energy = (1 - share) * wide.iloc[:, before] + share * wide.iloc[:, after]
        read.append(pd.DataFrame({"arm": arm, "sample": wide.index, "energy": energy.to_numpy()}))
    return pd.concat(read, ignore_index=True)


def _statistic(
    name: str,
    interval: Interval,
    n: int,
    unit: str,
    method: str,
    model: str,
    *,
    controls: Sequence[str] = (),
    note: str = "",
) -> Statistic:
    return Statistic(
        id=f"fig5.{name}",
        **ends(interval),
        n=n,
        unit=unit,
        method=method,
        model=model,
        evidence="simulated",
        controls=controls,
        note=note,
    )
