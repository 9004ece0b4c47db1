"""The experiment of figure 5 as files: traces of an arm, then curves and statistics of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tgn.config import read_yaml
from tgn.files import replacing, write_table
from tgn.progress import bar
from tgn.spin_glass.analysis import (
    ENDS,
    KEYS,
    TOLERANCE,
    figure_statistics,
    fitted_times,
    reference_energies,
    resampled_means,
    solution_times,
    summary,
    with_residuals,
)
from tgn.spin_glass.experiment import run_arm
from tgn.spin_glass.lattice import Disorder
from tgn.statistics import write_statistics

FITTED_ARMS = ("tgn", "tempering", "tempering_bitcoded")  # whose growth laws are drawn
GATE_COLUMNS = ("gate", "local_acceptance", "geometric_acceptance")


def measure(
    *,
    arm: str,
    costs: str | Path,
    trace: str | Path,
    gates: str | Path,
    disorders: Sequence[Disorder],
    sides: Sequence[int],
    rungs: Sequence[int],
    seconds: Sequence[float],
    checkpoints: int,
    samples: int,
    seed: int,
) -> None:
    """Run one arm, or the reference, on every size and kind of coupling, and write its traces.

    Parameters
    ----------
    costs
        Table of nanoseconds an update, see `tgn.spin_glass.experiment`.
    trace, gates
        Written: the two tables of :func:`tgn.spin_glass.experiment.run_arm`.
    rungs, seconds
        For each side: temperatures of the ladder, CPU seconds a sample. Checkpoints halve the
        seconds again and again.
    """
    table = read_yaml(costs)
    cases = [
        (disorder, *size)
        for disorder in disorders
        if disorder in table.get(arm, {})
        for size in zip(sides, rungs, seconds, strict=True)
    ]
    parts = [
        run_arm(
            arm,
            side=side,
            disorder=disorder,
            n_samples=samples,
            seconds=budget * 0.5 ** np.arange(checkpoints)[::-1],
            costs=table,
            rungs=n_rungs,
            seed=seed,
        )
        for disorder, side, n_rungs, budget in bar(cases, desc=arm, unit="size")
    ]
    for path, tables in zip((trace, gates), zip(*parts, strict=True), strict=True):
        write_table(path, pd.concat(tables, ignore_index=True))


def summarise(
    *,
    traces: Sequence[str],
    opening: Sequence[str],
    reference: str | Path | Sequence[str],
    curves: str | Path,
    times: str | Path,
    fits: str | Path,
    gates: str | Path,
    statistics: str | Path,
    samples: int,
    resamples: int,
    seed: int,
) -> None:
    """Write the curves, the times to solution, the gates and the statistics of figure 5.

    Parameters
    ----------
    traces, opening
        What :func:`measure` wrote, arm by arm.
    reference
        The traces of the independent long runs, or the table kept of them (CSV).
    curves, times, fits, gates, statistics
        Written.
    samples, seed
        Of the run, which must be those of the reference: other samples have other energies.

    Raises
    ------
    ValueError
        If the reference belongs to other samples.
    """
    measured = pd.concat(map(pd.read_parquet, traces), ignore_index=True)
    independent = read_reference(reference, samples=samples, seed=seed)
    residuals = with_residuals(measured, reference_energies(measured, independent))
    gated = pd.concat([part for part in map(pd.read_parquet, opening) if len(part)])
    written = {
        curves: summary(residuals, resamples=resamples, seed=seed),
        times: solution_times(residuals, resamples=resamples, seed=seed),
        fits: fitted_times(residuals, FITTED_ARMS),
        gates: gate_bands(gated, resamples=resamples, seed=seed),
    }
    for path, table in written.items():
        write_table(path, table)
    write_statistics(statistics, figure_statistics(residuals, resamples=resamples, seed=seed))


def keep_reference(*, traces: Sequence[str], table: str | Path, seed: int) -> None:
    """Keep what the reference runs found as a table (CSV), with the seed of its samples."""
    with replacing(table) as temporary:
        _pooled(traces).assign(seed=seed).to_csv(temporary, index=False)


def read_reference(source: str | Path | Sequence[str], *, samples: int, seed: int) -> pd.DataFrame:
    """Least energy per spin by disorder, side and sample, and the number of runs that found it.

    Parameters
    ----------
    source
        A table of :func:`keep_reference`, or the traces of the runs.

    Raises
    ------
    ValueError
        If a table was made with another seed or for fewer samples.
    """
    if not isinstance(source, str | Path):
        return _pooled(source)
    table = pd.read_csv(source)
    made_with = table["seed"].unique().tolist()
    kept = table.groupby(["disorder", "side"])["sample"].nunique().min()
    if made_with != [seed] or kept < samples:
        raise ValueError(
            f"{source} holds {kept} samples of a size and seed {made_with}; this run has {samples} "
            f"and {seed}: set spin_glass.reference to null, and the pipeline computes its own"
        )
    return table.drop(columns="seed")


def _pooled(traces: Sequence[str]) -> pd.DataFrame:
    """Least last energy of each sample over runs, and the number of runs that found it."""
    runs = [pd.read_parquet(trace) for trace in traces]
    last = pd.concat([run[run["checkpoint"] == run["checkpoint"].max()] for run in runs])
    least = last.groupby(KEYS)["energy"].transform("min")
    last["found"] = last["energy"] <= least + TOLERANCE
    return last.groupby(KEYS, as_index=False).agg(energy=("energy", "min"), found=("found", "sum"))


def gate_bands(gated: pd.DataFrame, *, resamples: int, seed: int) -> pd.DataFrame:
    """Mean and 95 % bootstrap band over samples of gate and acceptances, by temperature.

    Samples without a value, where no move was tried, are left out of the means.
    """
    rng = np.random.default_rng([seed, 8])
    parts = []
    keys = ["arm", "disorder", "side"]
    for labels, part in gated.groupby(keys, sort=True):
        wide = part.pivot(index="sample", columns="temperature", values=list(GATE_COLUMNS))
        values = wide.to_numpy(dtype=np.float64)
        known = np.isfinite(values)
        sums = resampled_means(
            np.stack([np.where(known, values, 0), known], axis=1), resamples, rng
        )
        with np.errstate(invalid="ignore"):
            low, high = np.quantile(sums[:, 0] / sums[:, 1], ENDS, axis=0)
        bands = {"": wide.mean(), "_low": low, "_high": high}
        columns = [
            pd.Series(band, index=wide.columns).unstack(level=0).add_suffix(end)
            for end, band in bands.items()
        ]
        labelled = dict(zip(keys, labels, strict=True))
        parts.append(pd.concat(columns, axis=1).reset_index().assign(**labelled))
    return pd.concat(parts, ignore_index=True)
