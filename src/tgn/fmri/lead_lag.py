"""Which moves first, the rank of connectivity or the synchrony of the parcels?

Both curves are taken in the same sliding windows, so that they are smoothed alike. A positive lag
means that the rank leads. Two estimators, fixed beforehand:

- the lag of the extreme (largest absolute) cross-correlation, on the overlap of the two curves;
- the difference of their change points, only where both curves change more than their null.

The null of a unit are its own phase-randomised surrogates with the same cross-correlation: what a
stationary linear process with these spectra and this connectivity would show. Nothing is padded:
windows in which synchrony is not defined (the edges of the run) are in neither curve.

Rank and mean correlation of one window are tied by arithmetic (any shared signal lowers the one and
raises the other), so a cross-correlation near -1 at lag 0 is no finding; a lag would be. In
simulated runs the mechanism is assumed, so that a lead there is no evidence of a cause.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tgn.files import write_table
from tgn.fmri.connectivity import mean_correlations, window_starts, windowed_ranks
from tgn.fmri.ranks import read_runs
from tgn.fmri.surrogates import phase_randomised
from tgn.fmri.synchrony import kuramoto_order, windowed_mean
from tgn.progress import bar

Array = NDArray[np.float64]

MEASURES = ("kuramoto", "mean_fc")
RAMP_ARMS = ("ramp", "control")  # of the model's runs; those of subjects' runs are their states
LEAST_OVERLAP = 8  # windows that a cross-correlation rests on
LEVEL = 0.05  # of the test whether a curve changes


class Curves(NamedTuple):
    """Rank and synchrony in the same windows, arrays of one shape (n,)."""

    time: NDArray[Any]
    """Middle of each window in s from the beginning of the run."""
    rank: Array
    kuramoto: Array
    mean_fc: Array


class Unit(NamedTuple):
    """A run of which a lag is measured."""

    unit: str
    arm: str
    model: str
    tr: float
    signals: Array


# --- the job


def lead_lag_tables(
    *,
    runs: Sequence[str | Path],
    lead_lag: str | Path,
    synchrony: str | Path,
    window: int,
    step: int,
    band: Sequence[float],
    max_lag_s: float,
    draws: int,
    seed: int,
) -> None:
    """Measure lead and lag of every run.

    Parameters
    ----------
    runs
        Simulated ramps (``ramp`` and ``control``, each (seeds, T, P), ``tr``, ``person``; units
        are called ``{person}-{seed}``), or parcel signals ``{arm}/{atlas}/sub-{subject}.npz``
        (units are subjects, arms their states).
    lead_lag
        Written: model, unit, arm, measure, lag_s, correlation, surrogate_low, surrogate_high
        (2.5 and 97.5 % of the unit's surrogates, lag by lag), permuted_low, permuted_high (of the
        arm's mean curve when ranks of one unit meet the synchrony of another), and, the same in
        all rows of a unit, best_lag_s, best_correlation, changed, onset_lag_s (NaN where not).
    synchrony
        Written: the curves; model, unit, arm, time_s, rank, kuramoto, mean_fc.
    window, step
        Volumes of a window, and from one to the next.
    band
        Of the phases, in Hz.
    max_lag_s
        Longest lag looked at, in s, either way.
    draws
        Surrogates of a unit; at least 19, below which no change is told at 5 %.

    Raises
    ------
    ValueError
        If there is no run, there are too few draws, or a run is too short for windows, edges and
        lags.
    """
    if draws < 1 / LEVEL - 1:
        raise ValueError(f"draws must be at least {1 / LEVEL - 1:.0f}, got {draws}")
    units = [unit for path in runs for unit in read_units(path)]
    if not units:
        raise ValueError("no run in any file")
    found, series = [], []
    pairs: dict[tuple[str, str], list[Curves]] = {}
    for number, unit in enumerate(bar(units, desc="lead-lag", unit="run")):
        about = {"model": unit.model, "unit": unit.unit, "arm": unit.arm}
        options: dict[str, Any] = {"tr": unit.tr, "window": window, "step": step, "band": band}
        try:
            curves = measured_curves(unit.signals, **options)
            rng = np.random.default_rng([seed, number])
            null = [
                measured_curves(phase_randomised(unit.signals, rng, cross="same"), **options)
                for _ in range(draws)
            ]
            pace = step * unit.tr
            for measure in MEASURES:
                table = unit_table(curves, null, measure, max_lag=int(max_lag_s / pace), pace=pace)
                found.append(table.assign(measure=measure, **about))
        except ValueError as error:
            raise ValueError(f"{unit.unit}, {unit.arm}: {error}") from error
        series.append(pd.DataFrame(curves._asdict()).rename(columns={"time": "time_s"}))
        series[-1] = series[-1].assign(**about)
        pairs.setdefault((unit.model, unit.arm), []).append(curves)
    table = pd.concat(found, ignore_index=True)
    reach = table.groupby(["model", "arm"])["lag"].max()
    bands = [
        permuted_band(
            own, measure, max_lag=reach[model, arm], draws=200, rng=np.random.default_rng(seed)
        ).assign(model=model, arm=arm, measure=measure)
        for (model, arm), own in pairs.items()
        for measure in MEASURES
    ]
    table = table.merge(pd.concat(bands), on=["model", "arm", "measure", "lag"]).drop(columns="lag")
    write_table(lead_lag, table)
    write_table(synchrony, pd.concat(series, ignore_index=True))


def read_units(path: str | Path) -> Iterator[Unit]:
    """Runs of a file of simulated ramps or of parcel signals."""
    with np.load(path, allow_pickle=False) as stored:
        ramps = {arm: stored[arm] for arm in RAMP_ARMS if arm in stored}
        tr = float(stored["tr"])
        person = str(stored["person"]) if ramps else ""
    for arm, batch in ramps.items():
        for seed, signals in enumerate(batch):
            yield Unit(f"{person}-{seed}", arm, "whole-brain model", tr, signals.astype(float))
    if not ramps:
        for run in read_runs(path):
            yield Unit(run.subject, run.state, f"{run.arm}/{run.atlas}", tr, run.signals)


# --- what it is made of


def measured_curves(
    signals: ArrayLike, *, tr: float, window: int, step: int, band: Sequence[float]
) -> Curves:
    """Rank (definition ``pearson``), Kuramoto order and mean correlation in sliding windows.

    Only windows in which the phases are defined are kept. Arguments as `lead_lag_tables`.
    """
    x = np.asarray(signals, dtype=np.float64)
    order = windowed_mean(kuramoto_order(x, tr=tr, band=band), window, step)
    inside = np.isfinite(order)
    if not inside.any():
        raise ValueError(f"no window of {window} volumes lies between the edges of the run")
    starts = window_starts(len(x), window, step)
    return Curves(
        time=(starts[inside] + window / 2) * tr,
        rank=windowed_ranks(x, window, step, definitions=["pearson"])["pearson"][inside],
        kuramoto=order[inside],
        mean_fc=mean_correlations(x, window, step)[inside],
    )


def unit_table(
    curves: Curves, null: Sequence[Curves], measure: str, *, max_lag: int, pace: float
) -> pd.DataFrame:
    """Cross-correlation of one unit, lag by lag, with its surrogates' band and both estimates.

    Parameters
    ----------
    null
        Curves of the unit's surrogates.
    measure
        Which synchrony, a field of `Curves`.
    max_lag
        In windows.
    pace
        Seconds from one window to the next.
    """
    synchrony = getattr(curves, measure)
    correlations = cross_correlation(curves.rank, synchrony, max_lag)
    surrogate = np.array([cross_correlation(c.rank, getattr(c, measure), max_lag) for c in null])
    low, high = np.quantile(surrogate, [0.025, 0.975], axis=0)
    lags = np.arange(-max_lag, max_lag + 1)
    best = int(np.abs(correlations).argmax())
    changed = all(
        change_p(getattr(curves, name), [getattr(c, name) for c in null]) <= LEVEL
        for name in ("rank", measure)
    )
    onset = np.nan
    if changed:
        onset = pace * (change_point(synchrony)[0] - change_point(curves.rank)[0])
    return pd.DataFrame(
        {
            "lag": lags,
            "lag_s": lags * pace,
            "correlation": correlations,
            "surrogate_low": low,
            "surrogate_high": high,
            "best_lag_s": lags[best] * pace,
            "best_correlation": correlations[best],
            "changed": changed,
            "onset_lag_s": onset,
        }
    )


def cross_correlation(first: ArrayLike, second: ArrayLike, max_lag: int) -> Array:
    """Pearson correlation of ``first[t]`` with ``second[t + k]``, k from -max_lag to max_lag.

    Each lag is standardised on its own overlap: nothing is padded. At positive k the first leads.

    Parameters
    ----------
    first, second : arrays, shape (n,)
    max_lag : int

    Returns
    -------
    array, shape (2 * max_lag + 1,)

    Raises
    ------
    ValueError
        If the lengths differ, a curve is constant, or fewer than 8 points overlap.

    Examples
    --------
    >>> x = np.sin(np.arange(40) / 3)
    >>> int(cross_correlation(x[2:], x[:-2], 4).argmax()) - 4  # the first is two ahead
    2
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"two curves of one length are needed, got {a.shape} and {b.shape}")
    if max_lag < 0 or len(a) - max_lag < LEAST_OVERLAP:
        raise ValueError(
            f"{len(a)} windows leave {len(a) - max_lag} at a lag of {max_lag}, and "
            f"{LEAST_OVERLAP} are needed; take a longer run, a shorter step or a shorter lag"
        )
    found = []
    for lag in range(-max_lag, max_lag + 1):
        u = a[max(-lag, 0) : len(a) - max(lag, 0)]
        v = b[max(lag, 0) : len(b) - max(-lag, 0)]
        u, v = u - u.mean(), v - v.mean()
        size = np.sqrt((u @ u) * (v @ v))
        if size == 0:
            raise ValueError("a curve is constant, so that it leads and follows nothing")
        found.append(u @ v / size)
    return np.array(found)


def change_point(curve: ArrayLike) -> tuple[int, float]:
    """The one step that fits a curve best, and how much of the curve it explains.

    Returns
    -------
    index of the first point after the step, share of the variance that the step explains

    References
    ----------
    Bai 1997, *Econometric Theory* 13:315 (least-squares estimate of a change point).

    Examples
    --------
    >>> change_point([1.0, 1.0, 1.0, 3.0, 3.0])
    (3, 1.0)
    """
    x = np.asarray(curve, dtype=np.float64)
    x = x - x.mean()
    n, before = len(x), np.arange(1, len(x))
    # Variance between the two parts, from the sum of the first.
    between = np.cumsum(x)[:-1] ** 2 * n / (before * (n - before))
    total = x @ x
    best = int(between.argmax())
    return best + 1, min(float(between[best] / total), 1.0) if total > 0 else 0.0


def change_p(curve: ArrayLike, null: Sequence[ArrayLike]) -> float:
    """Share of the null's curves, and this one, that one step explains as well as this one."""
    own = change_point(curve)[1]
    as_large = sum(change_point(other)[1] >= own for other in null)
    return (1 + as_large) / (1 + len(null))


def permuted_band(
    units: Sequence[Curves], measure: str, *, max_lag: int, draws: int, rng: np.random.Generator
) -> pd.DataFrame:
    """2.5 and 97.5 % of the mean cross-correlation when every rank meets another unit's synchrony.

    What all units have in common in time, such as a ramp, is still in it; what is a unit's own is
    not. NaN for fewer than three units, which have too few such pairings.
    """
    lags = np.arange(-max_lag, max_lag + 1)
    low = high = np.full(len(lags), np.nan)
    if len(units) > 2:
        length = min(len(c.time) for c in units)
        pairs = np.array(
            [
                [
                    cross_correlation(a.rank[:length], getattr(b, measure)[:length], max_lag)
                    for b in units
                ]
                for a in units
            ]
        )
        count = len(units)
        means = []
        for _ in range(draws):
            # A random order, turned by one: nobody meets himself.
            order = rng.permutation(count)
            means.append(pairs[order, np.roll(order, 1)].mean(axis=0))
        low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return pd.DataFrame({"lag": lags, "permuted_low": low, "permuted_high": high})
