"""From trained gravity models and their probes to the curves and statistics of the figure.

Intervals hold text and seeds, as :mod:`tgn.training.comparison` says, unless the method of a
statistic says otherwise. Everything read off a trained model stands beside the same number of the
network that its training started from (``untrained``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from tgn.files import write_table
from tgn.statistics import (
    Evidence,
    Interval,
    Statistic,
    bootstrap_band,
    bootstrap_interval,
    ends,
    write_statistics,
)
from tgn.training.comparison import Pair, Runs, by_arm, by_run, compare, unigram_nats
from tgn.training.convergence import curve_table, loss_statistics, unigram_statistics

FIGURE = "gravity"
VANILLA, PUBLISHED = "vanilla", "published"
# Differences that the published claims, or the repairs, ask for.
PAIRS: tuple[Pair, ...] = (
    ("gravity", VANILLA),
    (PUBLISHED, VANILLA),
    ("mass_in_value", VANILLA),
    ("combination", VANILLA),
    ("vanilla_width", VANILLA),
    ("gravity", PUBLISHED),
    ("mass_in_value", "gravity"),
    ("mass_in_value", "no_repulsion"),
    ("mass_in_value", "no_radius"),
    ("no_radius", "gravity"),
    ("hard_radius", "gravity"),
    ("no_repulsion", "gravity"),
    ("combination", "gravity"),
    ("combination", "mass_in_value"),
    ("published_mass_in_value", PUBLISHED),
    ("published_mass_in_value", "published_no_repulsion"),
    ("published_mass_in_value", "published_no_radius"),
    ("published_no_repulsion", PUBLISHED),
    ("published_no_radius", PUBLISHED),
    ("published_interval_8", PUBLISHED),
    ("published_soft_cutoff", PUBLISHED),
)
# Columns of the attention table, with what ids call them and how they are made.
LOOKS = {
    "rank_distance": ("rank_weight_distance", "Spearman's correlation of weight and squared "
                      "distance over the tokens before"),
    "rank_inside": ("rank_weight_distance_inside", "the same over the tokens within the radius"),
    "rank_mass": ("rank_weight_mass", "Spearman's correlation of weight and mass over the tokens "
                  "before"),
    "rank_dealt": ("rank_weight_mass_dealt", "the same with masses dealt to other tokens"),
    "farthest": ("share_farthest", "share of tokens whose most attended earlier token is the "
                 "farthest"),
    "nearest": ("share_nearest", "share of tokens whose most attended earlier token is the "
                "nearest"),
    "chance": ("share_by_chance", "what either share is by chance"),
    "own": ("weight_on_itself", "weight of a token on itself"),
    "pairs_beyond": ("pairs_beyond_radius", "share of earlier tokens beyond the radius"),
    "weight_beyond": ("weight_beyond_radius", "weight beyond the radius"),
}  # fmt: skip
DEALT = ("within", "all")
PERMUTATIONS = 200


def summarise(
    *,
    trajectories: Sequence[str],
    blocks: Sequence[str],
    tokens: str,
    numbers: str,
    masses: str,
    attention: str,
    distances: str,
    dealt: str,
    related: str,
    times: str,
    curves: str,
    pulls: str,
    speeds: str,
    statistics: str,
    timings: str,
    runs: Runs,
    model: str,
    evidence: Evidence,
    resamples: int,
    seed: int,
) -> None:
    """Write the curves, the statistics, and the statistics of what was timed.

    Parameters
    ----------
    trajectories, blocks
        ``trajectory.parquet`` and ``blocks.parquet`` of every run, in a folder of its name.
    tokens
        A file of the tokenised text's folder.
    numbers, masses, attention, distances, dealt, related
        Tables of :func:`tgn.probing.gravity.measure` (``distances`` are its ``curves``).
    times
        Table of :func:`tgn.training.step_times.measure`.
    curves
        Parquet to write, as :func:`tgn.training.convergence.curve_table`, without seconds.
    pulls
        Parquet to write, see :func:`pull_table`.
    speeds
        Parquet to write, see :func:`speed_table`.
    statistics, timings
        JSON to write; what depends on a clock goes to ``timings``.
    runs
        Plan of the runs, as :func:`tgn.training.plan.gravity_runs`.
    model, evidence
        What was measured, for the statistics.
    """
    rng = np.random.default_rng(seed)
    chance: dict[str, Any] = {"rng": rng, "resamples": resamples}
    watched, tested = by_run(trajectories, runs), by_run(blocks, runs)
    clockless = curve_table(watched.assign(seconds=np.nan), **chance)
    write_table(curves, clockless.drop(columns="seconds"))
    probes = {
        name: _labelled(path, runs)
        for name, path in {
            "numbers": numbers, "masses": masses, "attention": attention,
            "distances": distances, "dealt": dealt, "related": related,
        }.items()
    }  # fmt: skip
    write_table(pulls, pull_table(probes["distances"], **chance))
    clocks = pd.read_parquet(times)
    write_table(speeds, speed_table(clocks, **chance))

    a_run = next(iter(runs.values()))
    folder = Path(tokens).parent
    about: dict[str, Any] = {"model": model, "evidence": evidence}
    recipes = {r["arm"]: json.dumps(r["training"], sort_keys=True) for r in runs.values()}
    records = [
        *unigram_statistics(
            folder,
            a_run["model"]["context"],
            a_run["training"]["validation_windows"],
            FIGURE,
        ),
        *loss_statistics(
            tested, unigram_nats(folder, "test"), PAIRS, FIGURE, recipes=recipes, **chance
        ),
        *attention_statistics(probes["attention"], **chance),
        *number_statistics(probes["numbers"], **chance),
        *mass_statistics(probes["masses"], **chance),
        *dealt_statistics(probes["dealt"], **chance),
        *related_statistics(probes["related"], **chance),
    ]
    write_statistics(statistics, [Statistic(**fields, **about) for fields in records])
    timed = time_statistics(clocks, **chance)
    write_statistics(timings, [Statistic(**fields, **about) for fields in timed])


def _labelled(path: str, runs: Runs) -> pd.DataFrame:
    table = pd.read_parquet(path)
    return table.assign(
        arm=table["run"].map(lambda run: runs[run]["arm"]),
        seed=table["run"].map(lambda run: runs[run]["seed"]),
    )


# --- curves


def pull_table(
    distances: pd.DataFrame, *, rng: np.random.Generator, resamples: int
) -> pd.DataFrame:
    """Attention to an earlier token by its distance, over that of uniform attention.

    Parameters
    ----------
    distances
        Sums by window and bin, with ``arm``, ``seed`` and ``trained``.

    Returns
    -------
    table with columns arm, trained, distance (over the radius), weight, low, high (95 % over
    windows, seeds together) and share (of the pairs, in this bin). Bins that hold pairs of less
    than half of the windows are left out.
    """
    parts = []
    for (arm, trained), rows in distances.groupby(["arm", "trained"]):
        sums = rows.groupby(["window", "distance"])[["weight", "pairs"]].sum().unstack(fill_value=0)
        weight, pairs = sums["weight"], sums["pairs"]
        held = ((pairs > 0).mean() >= 0.5).to_numpy()
        if not held.any():
            continue
        band = bootstrap_band(
            (weight.to_numpy()[:, held], pairs.to_numpy()[:, held]),
            lambda w, n: w.sum(axis=0) / np.maximum(n.sum(axis=0), 1),
            rng=rng,
            resamples=resamples,
        )
        parts.append(
            pd.DataFrame(
                {
                    "arm": arm,
                    "trained": trained,
                    "distance": weight.columns[held],
                    "weight": band.value,
                    "low": band.low,
                    "high": band.high,
                    "share": (pairs.sum() / pairs.to_numpy().sum()).to_numpy()[held],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def speed_table(clocks: pd.DataFrame, *, rng: np.random.Generator, resamples: int) -> pd.DataFrame:
    """Training steps a second, of medians over repeats.

    Returns
    -------
    table with columns model, context, speed, low, high (95 % over repeats).
    """
    rows = []
    for (name, context), times in clocks.groupby(["model", "context"]):
        interval = bootstrap_interval(
            times["seconds"].to_numpy(), lambda s: 1 / np.median(s), rng=rng, resamples=resamples
        )
        rows.append((name, context, *interval))
    return pd.DataFrame(rows, columns=["model", "context", "speed", "low", "high"])


# --- statistics


def attention_statistics(
    attention: pd.DataFrame, *, rng: np.random.Generator, resamples: int
) -> list[dict[str, Any]]:
    """What decides whom a token draws, of trained and of untrained models."""
    found = []
    for trained, rows in attention.groupby("trained"):
        for column, (name, how) in LOOKS.items():
            means = rows.groupby(["arm", "seed", "window"], as_index=False)[column].mean().dropna()
            if means.empty:
                continue
            grids = by_arm(means, "window", column)
            levels = _levels(grids, rng=rng, resamples=resamples)
            found += [
                {
                    "id": f"{FIGURE}.{arm}_{name}{_suffix(trained)}",
                    **ends(interval),
                    "n": len(grids[arm]),
                    "unit": "",
                    "method": f"{how}; mean over layers, heads and tokens of the test split; "
                    "bootstrap over windows, and spread of seeds",
                    "note": f"seeds: {grids[arm].shape[1]}",
                }
                for arm, interval in levels.items()
            ]
    return found


def number_statistics(
    numbers: pd.DataFrame, *, rng: np.random.Generator, resamples: int
) -> list[dict[str, Any]]:
    """How far radii and strengths have moved in training, by arm."""
    keys = ["arm", "seed", "layer", "head"]
    wide = numbers.set_index([*keys, "trained"])[["gamma", "radius"]].unstack("trained")
    found = []
    for arm, rows in wide.groupby("arm"):
        for column in ("gamma", "radius"):
            moved = np.log(rows[column, True] / rows[column, False]).to_numpy()
            for name, values in (
                (f"log_{column}_change", moved),
                (f"log_{column}_moved", abs(moved)),
            ):
                interval = bootstrap_interval(values, rng=rng, resamples=resamples)
                size = "its size, " if name.endswith("moved") else ""
                found.append(
                    {
                        "id": f"{FIGURE}.{arm}_{name}",
                        **ends(interval),
                        "n": len(values),
                        "unit": "nats",
                        "method": f"log of {column} after training over that before, {size}mean "
                        "over heads of all layers and seeds; bootstrap over them",
                    }
                )
    return found


def mass_statistics(
    masses: pd.DataFrame, *, rng: np.random.Generator, resamples: int
) -> list[dict[str, Any]]:
    """Whether mass goes with how often a token was seen, and how much masses differ."""
    found = []
    for arm, rows in masses[masses["count"] > 0].groupby("arm"):
        grid = np.log(rows.pivot(index="token", columns="seed", values="mass").to_numpy())
        counts = rows.drop_duplicates("token").sort_values("token")["count"].to_numpy()
        common = {"n": len(grid), "note": f"seeds: {grid.shape[1]}"}
        how = (
            "Spearman's correlation of a token's mass and its count in the train split, of tokens "
            "that occur there, mean over seeds; "
        )
        measured = bootstrap_interval((grid, counts), _rank_of, rng=rng, resamples=resamples)
        null = [_rank_of(grid[rng.permutation(len(grid))], counts) for _ in range(PERMUTATIONS)]
        permuted = Interval(float(np.mean(null)), *np.quantile(null, [0.025, 0.975]).tolist())
        found += [
            {
                "id": f"{FIGURE}.{arm}_rank_mass_frequency{suffix}",
                **ends(interval),
                "unit": "",
                "method": how + unit,
                **common,
            }
            for suffix, interval, unit in (
                ("", measured, "bootstrap over tokens"),
                ("_permuted", permuted, "mean and 95 % of permutations of the masses"),
            )
        ]
        spread = bootstrap_interval(
            grid, lambda x: x.std(axis=0, ddof=1).mean(), rng=rng, resamples=resamples
        )
        found.append(
            {
                "id": f"{FIGURE}.{arm}_spread_of_log_mass",
                **ends(spread),
                "unit": "nats",
                "method": "standard deviation of log mass over tokens that occur in the train "
                "split, mean over seeds; bootstrap over tokens",
                **common,
            }
        )
    return found


def dealt_statistics(
    dealt: pd.DataFrame, *, rng: np.random.Generator, resamples: int
) -> list[dict[str, Any]]:
    """What it costs to deal the masses to other tokens."""
    keys = ["arm", "seed", "window"]
    mean = dealt.groupby([*keys, "masses"])[["nats", "targets"]].mean()
    targets = mean["targets"].groupby("window").first().to_numpy()
    nats = mean["nats"].unstack("masses")
    found = []
    for mode in DEALT:
        cost = (nats[mode] - nats["own"]).rename("nats").reset_index()
        grids = by_arm(cost, "window")
        levels, _ = compare(grids, targets, rng=rng, resamples=resamples)
        among = "of nearly one frequency" if mode == "within" else "of the vocabulary"
        found += [
            {
                "id": f"{FIGURE}.{arm}_cost_of_dealt_masses_{mode}",
                **ends(interval),
                "n": len(targets),
                "unit": "nats per token",
                "method": f"validation loss with masses dealt among tokens {among}, less that with "
                "each its own; bootstrap over windows, and spread of seeds",
                "note": f"seeds: {grids[arm].shape[1]}",
            }
            for arm, interval in levels.items()
        ]
    return found


def related_statistics(
    related: pd.DataFrame, *, rng: np.random.Generator, resamples: int
) -> list[dict[str, Any]]:
    """Whether forms of one word are nearer each other than forms of two."""
    found = []
    for (arm, trained), rows in related.groupby(["arm", "trained"]):
        by_pair = rows.groupby(["first", "second"])[["closer", "dealt"]].mean()
        for column, name in (("closer", "related_closer"), ("dealt", "related_closer_dealt")):
            values = by_pair[column].to_numpy()
            found.append(
                {
                    "id": f"{FIGURE}.{arm}_{name}{_suffix(trained)}",
                    **ends(bootstrap_interval(values, rng=rng, resamples=resamples)),
                    "n": len(values),
                    "unit": "share",
                    "method": "share of pairs of tokens, related by being one word but for case "
                    "and spaces, whose second token is farther from this pair's first than its "
                    "own by mean coordinates; mean over pairs and seeds; bootstrap over pairs"
                    + ("; partners dealt" if column == "dealt" else ""),
                }
            )
    return found


def time_statistics(
    clocks: pd.DataFrame, *, rng: np.random.Generator, resamples: int
) -> list[dict[str, Any]]:
    """How many times longer a training step is than the Transformer's, at the longest context."""
    context = clocks["context"].max()
    grid = clocks[clocks["context"] == context].pivot(
        index="repeat", columns="model", values="seconds"
    )
    found = []
    for name in grid.columns.drop(VANILLA):
        interval = bootstrap_interval(
            grid[[name, VANILLA]].to_numpy(),
            lambda s: np.log(np.median(s[:, 0]) / np.median(s[:, 1])),
            rng=rng,
            resamples=resamples,
        )
        found.append(
            {
                "id": f"{FIGURE}.{name}_log_step_time_over_{VANILLA}",
                **ends(interval),
                "n": len(grid),
                "unit": "nats",
                "method": f"log ratio of the medians of a training step's time at {context} "
                "tokens; bootstrap over repeats",
                "controls": [VANILLA],
            }
        )
    return found


# --- helpers


def _levels(
    grids: Mapping[str, NDArray], *, rng: np.random.Generator, resamples: int
) -> dict[str, Interval]:
    """Means of (units, seeds) by arm; without the spread of seeds where no arm has two."""
    chance: dict[str, Any] = {"rng": rng, "resamples": resamples}
    if max(grid.shape[1] for grid in grids.values()) < 2:
        return {arm: bootstrap_interval(g.mean(axis=1), **chance) for arm, g in grids.items()}
    units = len(next(iter(grids.values())))
    return compare(grids, np.ones(units), **chance)[0]


def _rank_of(values: NDArray, counts: NDArray) -> float:
    """Spearman's correlation of each column with the counts, mean over columns."""
    ranks = rankdata(np.column_stack([counts, values]), axis=0)
    return float(np.corrcoef(ranks, rowvar=False)[0, 1:].mean())


def _suffix(trained: bool) -> str:
    return "" if trained else "_untrained"
