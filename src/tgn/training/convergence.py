"""From training runs to the curves and statistics of figure 22's convergence.

Intervals hold text and seeds, as :mod:`tgn.training.comparison` says. Runs of one seed read the
same windows in the same order, whatever their arm.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgn.files import write_table
from tgn.statistics import (
    Interval,
    Statistic,
    bootstrap_band,
    bootstrap_interval,
    ends,
    write_statistics,
)
from tgn.text.tokens import open_tokens
from tgn.training import evaluation
from tgn.training.comparison import (
    Pair,
    Runs,
    by_arm,
    by_run,
    compare,
    spreads_by_arm,
    targets_of,
    unigram_nats,
    widened,
)
from tgn.training.gate_statistics import level_statistics
from tgn.training.plan import MEAN, REFERENCE

FIGURE = "fig22"  # what ids of statistics begin with
# Differences that the published claims, or what they leave out, ask for.
PAIRS: tuple[Pair, ...] = (
    ("tgn_published", REFERENCE),
    ("tgn", REFERENCE),
    ("tgn_mamba", REFERENCE),
    ("mamba", REFERENCE),
    ("recurrence", REFERENCE),
    ("tgn_published", "mamba"),
    ("tgn", "mamba"),
    ("tgn_mamba", "mamba"),
    ("recurrence", "mamba"),
    ("tgn", "recurrence"),
    ("tgn", "tgn_published"),
)
LEAST = 1e-3  # of a run: the resolution in tokens and seconds


class Curves(NamedTuple):
    """An arm's validation losses in training, and at what they were reached.

    Attributes
    ----------
    nats
        Shape (windows, seeds, evaluations), sums over the window.
    targets
        Predicted tokens of each window.
    at
        Tokens or seconds at the evaluations, shape (seeds, evaluations).
    seeds
        Their numbers.
    """

    nats: NDArray[np.float64]
    targets: NDArray[np.int64]
    at: NDArray[np.float64]
    seeds: Sequence[int]


def summarise(
    *,
    trajectories: Sequence[str],
    blocks: Sequence[str],
    seconds: Sequence[str],
    tokens: str,
    curves: str,
    statistics: str,
    timings: str,
    runs: Runs,
    gpus: int,
    model: str,
    evidence: Any,
    resamples: int,
    seed: int,
) -> None:
    """Write the curves, the statistics, and the statistics of what was timed.

    Parameters
    ----------
    trajectories, blocks, seconds
        ``trajectory.parquet``, ``blocks.parquet`` and ``timings.parquet`` of every run, in a folder
        of its name.
    tokens
        A file of the tokenised text's folder.
    curves
        Parquet to write, see :func:`curve_table`.
    statistics, timings
        JSON to write; what depends on a clock goes to ``timings``.
    runs
        Plan of the runs, as :func:`tgn.training.plan.convergence_runs`.
    gpus
        Of a run; its seconds are theirs, or those of the CPU if it has none.
    model, evidence
        What was measured, for the statistics.
    """
    rng = np.random.default_rng(seed)
    watched, tested, clocks = (by_run(paths, runs) for paths in (trajectories, blocks, seconds))
    clocks["seconds"] = clocks["seconds"] * gpus if gpus else clocks["cpu_seconds"]
    watched = watched.merge(clocks[["run", "step", "seconds"]], on=["run", "step"], validate="m:1")
    write_table(curves, curve_table(watched, rng=rng, resamples=resamples))
    a_run = next(iter(runs.values()))
    folder, about = Path(tokens).parent, {"model": model, "evidence": evidence}
    recipes = {r["arm"]: json.dumps(r["training"], sort_keys=True) for r in runs.values()}
    chance: dict[str, Any] = {"rng": rng, "resamples": resamples}
    common: dict[str, Any] = {"recipes": recipes, **chance}
    write_statistics(
        statistics,
        [
            Statistic(**fields, **about)
            for fields in (
                *unigram_statistics(
                    folder, a_run["model"]["context"], a_run["training"]["validation_windows"]
                ),
                *loss_statistics(tested, unigram_nats(folder, "test"), **common),
                *area_statistics(watched, **common),
                *reach_statistics(watched, "tokens", **common),
                *level_statistics(watched, FIGURE, **chance),
            )
        ],
    )
    write_statistics(
        timings,
        [
            Statistic(**fields, **about)
            for fields in (
                *second_statistics(clocks, "GPU" if gpus else "CPU"),
                *reach_statistics(watched, "seconds", **common),
            )
        ],
    )


def curve_table(watched: pd.DataFrame, *, rng: np.random.Generator, resamples: int) -> pd.DataFrame:
    """Validation loss against tokens and seconds, by arm and seed, and the mean over seeds.

    Returns
    -------
    table with columns arm, seed (a number as text, or ``mean``), step, tokens, seconds (in
    training, of the CPU or the GPUs), validation (nats per token), low and high: of a seed the 95 %
    interval over windows; of the mean the least and the greatest seed.
    """
    rows = []
    for arm, of_arm in watched.groupby("arm"):
        seeds = []
        for seed, run in of_arm.groupby("seed"):
            grid = run.pivot(index="window", columns="step", values="nats").to_numpy()
            band = bootstrap_band(
                (grid, targets_of(run, "window")),
                lambda nats, targets: nats.sum(axis=0) / targets.sum(),
                rng=rng,
                resamples=resamples,
            )
            places = run.drop_duplicates("step").sort_values("step")
            seeds.append(
                places[["step", "tokens", "seconds"]].assign(
                    arm=arm, seed=str(seed), validation=band.value, low=band.low, high=band.high
                )
            )
        each = pd.concat(seeds, ignore_index=True)
        by_step = each.groupby(["step", "tokens"])
        mean = by_step[["seconds", "validation"]].mean().reset_index()
        loss = by_step["validation"]
        mean = mean.assign(
            arm=arm, seed=MEAN, low=loss.min().to_numpy(), high=loss.max().to_numpy()
        )
        rows += [each, mean]
    return pd.concat(rows, ignore_index=True)


# --- statistics


def unigram_statistics(
    folder: Path, context: int, windows: int, figure: str = FIGURE
) -> list[dict[str, Any]]:
    """What token frequencies alone would reach on the curves' windows, and their entropy."""
    nats = unigram_nats(folder, "validation")
    starts = evaluation.window_starts(len(nats), context, windows)
    seen = nats[starts[:, None] + np.arange(1, context + 1)]
    train = open_tokens(folder, "train")
    common = {
        "ci_low": None,
        "ci_high": None,
        "unit": "nats per token",
    }
    return [
        {
            "id": f"{figure}.unigram_loss",
            "value": float(seen.mean()),
            "n": len(starts),
            "method": "frequencies of the train split, counts raised by one, on the validation "
            "windows of the curves",
            **common,
        },
        {
            "id": f"{figure}.unigram_entropy",
            "value": evaluation.unigram_entropy(train),
            "n": len(train),
            "method": "entropy of the token frequencies of the train split, as counted",
            **common,
        },
    ]


def loss_statistics(
    tested: pd.DataFrame,
    unigram: NDArray,
    pairs: Sequence[Pair] = PAIRS,
    figure: str = FIGURE,
    *,
    recipes: Mapping[str, str] | None = None,
    rng: np.random.Generator,
    resamples: int,
) -> list[dict[str, Any]]:
    """Test losses, their differences, and how far each is below that of token frequencies.

    Parameters
    ----------
    unigram
        Nats of each token of the test split, guessed by its frequency.
    pairs
        Arms to compare, where both are present.
    figure
        That the ids begin with.
    recipes
        As in :func:`tgn.training.comparison.compare`.
    """
    losses, targets = by_arm(tested, "block"), targets_of(tested, "block")
    frequencies = np.add.reduceat(unigram, np.append(0, np.cumsum(targets)[:-1]))
    common = {
        "n": len(targets),
        "unit": "nats per token",
        "method": "mean over the test split; bootstrap over blocks of four contexts, and spread of "
        "seeds over arms trained alike",
    }
    chance: dict[str, Any] = {"recipes": recipes, "rng": rng, "resamples": resamples}
    levels, differences = compare(losses, targets, _present(losses, pairs), **chance)
    gained, _ = compare(
        {arm: nats - frequencies[:, None] for arm, nats in losses.items()}, targets, **chance
    )
    return [
        *_arms(levels, losses, f"{figure}.{{}}_loss", common),
        *_differences(differences, losses, f"{figure}.", common),
        *_arms(
            gained,
            losses,
            f"{figure}.{{}}_minus_unigram",
            {**common, "controls": ["token frequencies"]},
        ),
    ]


def area_statistics(
    watched: pd.DataFrame,
    *,
    recipes: Mapping[str, str] | None = None,
    rng: np.random.Generator,
    resamples: int,
) -> list[dict[str, Any]]:
    """Mean validation loss over the tokens of the run: who is lower for longer."""
    areas = {}
    for arm, curves in _curves(watched, "tokens").items():
        lengths = curves.at[:, -1] - curves.at[:, 0]
        areas[arm] = np.trapezoid(curves.nats, curves.at, axis=-1) / lengths
    targets = targets_of(watched, "window")
    levels, differences = compare(
        areas, targets, _present(areas), recipes, rng=rng, resamples=resamples
    )
    common = {
        "n": len(targets),
        "unit": "nats per token",
        "method": "validation loss, mean over the tokens of training (trapezoids); bootstrap over "
        "windows, and spread of seeds over arms trained alike",
    }
    return [
        *_arms(levels, areas, f"{FIGURE}.{{}}_area", common),
        *_differences(differences, areas, f"{FIGURE}.area_", common),
    ]


def reach_statistics(
    watched: pd.DataFrame,
    scale: str,
    *,
    recipes: Mapping[str, str] | None = None,
    rng: np.random.Generator,
    resamples: int,
) -> list[dict[str, Any]]:
    """How much more an arm takes than the Transformer to the worse of their two final losses.

    The log of a ratio of tokens or seconds. The worse of the final losses is the lowest that both
    curves reach. They are of one schedule each: a run planned shorter would have cooled earlier.
    """
    curves = _curves(watched, scale)
    reference = curves.pop(REFERENCE)
    intervals, by_pair = {}, {}
    for arm, own in curves.items():
        intervals[arm] = bootstrap_interval(
            (own.nats, reference.nats, own.targets),
            lambda nats, other, targets, own=own: _log_ratio(
                own._replace(nats=nats, targets=targets),
                reference._replace(nats=other, targets=targets),
            ),
            rng=rng,
            resamples=resamples,
        )
        both = [seed for seed in own.seeds if seed in reference.seeds]
        by_pair[arm] = np.array(
            [_log_ratio(_only(own, seed), _only(reference, seed)) for seed in both]
        )
    spreads = spreads_by_arm(by_pair, recipes)
    return [
        {
            "id": f"{FIGURE}.{arm}_log_{scale}_to_loss_minus_{REFERENCE}",
            **ends(widened(interval, spreads[arm], [len(by_pair[arm])])),
            "n": len(reference.targets),
            "unit": "nats",
            "method": f"log ratio of {scale} to the worse of the two final validation losses, read "
            "off straight lines between evaluations; bootstrap over windows, and spread of seeds "
            "over arms trained alike",
            "controls": [REFERENCE],
            "note": "by seed: " + ", ".join(f"{value:.2f}" for value in by_pair[arm]),
        }
        for arm, interval in intervals.items()
    ]


def second_statistics(clocks: pd.DataFrame, processor: str) -> list[dict[str, Any]]:
    """Seconds of a whole run, by arm."""
    last = clocks[clocks["step"] == clocks.groupby("run")["step"].transform("max")]
    return [
        {
            "id": f"{FIGURE}.{arm}_seconds",
            "value": float(rows["seconds"].mean()),
            "ci_low": float(rows["seconds"].min()) if len(rows) > 1 else None,
            "ci_high": float(rows["seconds"].max()) if len(rows) > 1 else None,
            "n": len(rows),
            "unit": f"{processor} s",
            "method": "training of a whole run, evaluation left out; mean and range of the seeds",
        }
        for arm, rows in last.groupby("arm")
    ]


def _curves(watched: pd.DataFrame, scale: str) -> dict[str, Curves]:
    """Every arm's curves against ``tokens`` or ``seconds``."""
    found = {}
    for arm, rows in watched.groupby("arm"):
        runs = [run for _, run in rows.groupby("seed")]
        found[str(arm)] = Curves(
            np.stack(
                [
                    run.pivot(index="window", columns="step", values="nats").to_numpy()
                    for run in runs
                ],
                axis=1,
            ),
            targets_of(rows, "window"),
            np.stack(
                [run.drop_duplicates("step").sort_values("step")[scale].to_numpy() for run in runs]
            ).astype(float),
            [int(run["seed"].iloc[0]) for run in runs],
        )
    return found


def _only(curves: Curves, seed: int) -> Curves:
    k = list(curves.seeds).index(seed)
    return curves._replace(nats=curves.nats[:, [k]], at=curves.at[[k]], seeds=[seed])


def _log_ratio(curves: Curves, others: Curves) -> float:
    """Log of the ratio of tokens or seconds to the worse of two final losses."""
    loss, other = (
        np.minimum.accumulate(c.nats.mean(axis=1).sum(axis=0) / c.targets.sum())
        for c in (curves, others)
    )
    level = max(loss[-1], other[-1])
    return math.log(
        _reached(loss, curves.at.mean(axis=0), level)
        / _reached(other, others.at.mean(axis=0), level)
    )


def _reached(loss: NDArray, at: NDArray, level: float) -> float:
    """Where a falling curve first meets a level, on straight lines; at least LEAST of its range."""
    after = int(np.argmax(loss <= level))
    before = max(0, after - 1)
    place = float(np.interp(-level, -loss[[before, after]], at[[before, after]]))
    return max(place, LEAST * float(at[-1]))


def _present(arms: Mapping[str, Any], pairs: Sequence[Pair] = PAIRS) -> list[Pair]:
    return [pair for pair in pairs if set(pair) <= set(arms)]


def _arms(
    intervals: Mapping[str, Interval],
    values: Mapping[str, NDArray],
    name: str,
    common: Mapping[str, Any],
) -> list[dict[str, Any]]:
    return [
        {
            "id": name.format(arm),
            **common,
            **ends(interval),
            "note": f"seeds: {values[arm].shape[1]}",
        }
        for arm, interval in intervals.items()
    ]


def _differences(
    intervals: Mapping[Pair, Interval],
    values: Mapping[str, NDArray],
    prefix: str,
    common: Mapping[str, Any],
) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{prefix}{one}_minus_{other}",
            **common,
            **ends(interval),
            "controls": [other],
            "note": f"seeds: {values[one].shape[1]} and {values[other].shape[1]}",
        }
        for (one, other), interval in intervals.items()
    ]
