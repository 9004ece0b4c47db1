"""Trained arms compared on the same text, with the chance of text and of seeds in each interval.

Two kinds of chance make a number uncertain, and both are in its interval: which text a model was
evaluated on, by a bootstrap over blocks of the test split or windows of the validation split; and
the seed of the run, by the spread of the arms that were trained more than once. The two half-widths
add up in squares. Arms are compared on the same blocks and windows.

The spread over seeds is pooled over arms, since two or three seeds say little about it: over all,
or over those of one recipe of training, as one recipe may be far less steady than another.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from tgn.statistics import Interval, bootstrap_interval
from tgn.text.tokens import open_tokens
from tgn.training import evaluation

Runs = Mapping[str, Mapping[str, Any]]
Pair = tuple[str, str]
Spread = tuple[float, int]  # standard deviation over seeds, and its degrees of freedom


def by_run(paths: Sequence[str], runs: Runs) -> pd.DataFrame:
    """Tables of runs in one, with columns run, arm, seed, kind (arm, penalty, ramp) and strength.

    Parameters
    ----------
    paths
        A table of every run, in a folder of the run's name.
    runs
        Plan of the runs, as :func:`tgn.training.plan.runs`.
    """
    parts = []
    for path in paths:
        name = Path(path).parent.name
        run = runs[name]
        ramped = not isinstance(run["penalty"], int | float)
        parts.append(
            pd.read_parquet(path).assign(
                run=name,
                arm=run["arm"],
                seed=run["seed"],
                kind="ramp" if ramped else "penalty" if "-penalty-" in name else "arm",
                strength=np.nan if ramped else run["penalty"],
            )
        )
    return pd.concat(parts, ignore_index=True)


def by_arm(table: pd.DataFrame, unit: str, value: str = "nats") -> dict[str, NDArray[np.float64]]:
    """A number by unit of text (block, window) and seed, shape (units, seeds), for each arm."""
    return {
        str(arm): rows.pivot(index=unit, columns="seed", values=value).to_numpy()
        for arm, rows in table.groupby("arm")
    }


def targets_of(table: pd.DataFrame, unit: str) -> NDArray[np.int64]:
    """Predicted tokens of each unit, the same for every run."""
    return table.drop_duplicates(unit).sort_values(unit)["targets"].to_numpy()


def compare(
    nats: Mapping[str, NDArray],
    targets: NDArray,
    pairs: Iterable[Pair] = (),
    recipes: Mapping[str, str] | None = None,
    *,
    rng: np.random.Generator,
    resamples: int,
) -> tuple[dict[str, Interval], dict[Pair, Interval]]:
    """Mean nats a target of each arm, and differences of pairs of arms, first less second.

    Parameters
    ----------
    nats
        For each arm, sums over units of text by seed, shape (units, seeds).
    targets
        Predicted tokens of each unit.
    recipes
        A name for how each arm is trained; arms of one recipe share a spread over seeds.

    Raises
    ------
    ValueError
        If no arm has two seeds.
    """
    spreads = spreads_by_arm({a: n.sum(axis=0) / targets.sum() for a, n in nats.items()}, recipes)

    def interval(*arms: str) -> Interval:
        bootstrapped = bootstrap_interval(
            (*(nats[arm].mean(axis=1) for arm in arms), targets),
            lambda *units: (units[0] - sum(units[1:-1])).sum() / units[-1].sum(),
            rng=rng,
            resamples=resamples,
        )
        seeds: dict[Spread, list[float]] = {}
        for arm in arms:
            seeds.setdefault(spreads[arm], []).append(nats[arm].shape[1])
        (spread, own), *others = seeds.items()
        return widened(bootstrapped, spread, own, *others)

    levels = {arm: interval(arm) for arm in nats}
    return levels, {(one, other): interval(one, other) for one, other in pairs}


def unigram_nats(folder: str | Path, split: str) -> NDArray[np.float64]:
    """Nats of each token of a split, guessed by its frequency in the train split.

    See :func:`tgn.training.evaluation.unigram_nats`.

    Parameters
    ----------
    folder
        A folder made by :func:`tgn.text.tokens.prepare`.
    """
    vocabulary = json.loads((Path(folder) / "counts.json").read_text(encoding="utf-8"))[
        "vocabulary"
    ]
    nats = evaluation.unigram_nats(open_tokens(folder, "train"), vocabulary)
    return nats[open_tokens(folder, split)]


def spreads_by_arm(
    values: Mapping[str, NDArray], recipes: Mapping[str, str] | None = None
) -> dict[str, Spread]:
    """The spread over seeds of each arm's recipe; of all arms, if none of the recipe has two seeds.

    Parameters
    ----------
    values
        For each arm, a number for each seed.
    recipes
        As in :func:`compare`.
    """
    recipes = recipes or dict.fromkeys(values, "")
    of_all = seed_spread(list(values.values()))
    spreads = {
        recipe: seed_spread([v for arm, v in values.items() if recipes[arm] == recipe])
        for recipe in {recipes[arm] for arm in values}
    }
    found = {arm: spreads[recipes[arm]] for arm in values}
    return {arm: spread if spread[1] else of_all for arm, spread in found.items()}


def seed_spread(by_arm: Sequence[NDArray]) -> Spread:
    """Pooled standard deviation over seeds, and its degrees of freedom.

    Parameters
    ----------
    by_arm
        For each arm, a number for each seed.

    Examples
    --------
    >>> seed_spread([np.array([1.0, 3.0]), np.array([5.0])])
    (1.4142135623730951, 1)
    """
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in by_arm)
    freedom = sum(len(values) - 1 for values in by_arm)
    return (math.sqrt(squares / freedom) if freedom else math.nan), freedom


def widened(
    interval: Interval,
    spread: Spread,
    seeds: Sequence[float],
    *others: tuple[Spread, Sequence[float]],
) -> Interval:
    """An interval with what seeds add: Student's, of a mean or a difference of means over seeds.

    Parameters
    ----------
    spread, seeds
        Of the arms that enter, and how many seeds each had.
    others
        The same of arms with another spread. Degrees of freedom are then those of Welch (1947,
        *Biometrika* 34, 28).

    Raises
    ------
    ValueError
        If no arm had two seeds.
    """
    parts = [(spread, seeds), *others]
    if not all(freedom for (_, freedom), _ in parts):
        raise ValueError("no arm was trained with two seeds, so their spread is unknown")
    variances = [deviation**2 * sum(1 / n for n in each) for (deviation, _), each in parts]
    total = sum(variances)
    weights = (
        [variance / total for variance in variances] if total else [1 / len(parts)] * len(parts)
    )
    freedom = 1 / sum(w**2 / f for w, ((_, f), _) in zip(weights, parts, strict=True))
    margin = student.ppf(0.975, freedom) * math.sqrt(total)
    value, low, high = interval
    return Interval(
        value, value - math.hypot(value - low, margin), value + math.hypot(high - value, margin)
    )
