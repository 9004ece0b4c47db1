"""From training runs on associative recall to the tables and statistics of figure 22.

An accuracy's interval is Wilson's with a sequence, whose share of right answers is at most 1, for a
trial: too wide rather than too narrow. Over seeds the variance is taken to be a factor times
p (1 - p), with one factor for all arms and test sets, from those with several seeds; it makes the
trials count for less. Without several seeds the interval holds the sequences alone, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from statsmodels.stats.proportion import proportion_confint

from tgn.claims import quantity
from tgn.files import write_json, write_table
from tgn.statistics import (
    Interval,
    Statistic,
    bootstrap_interval,
    difference,
    ends,
    read_statistics,
    write_statistics,
)
from tgn.training.comparison import Spread, seed_spread, widened

WINDOW = 20  # records over which a gate is averaged
MEAN = "mean"  # what the rows over seeds have for a seed
FULL_HISTORY = ("attention", "tgn")  # what is held against the best of the fixed states
TINY = 1e-12  # keeps the logarithm of a gate finite
TASK = ["input_seq_len", "num_kv_pairs"]
OPEN = ["open", "open_low", "open_high"]
# What decides claims, and the baselines that must be fair before it may.
ATTENTION = "fig22.recall_trained_least_attention"
BASELINES = {
    "fig22.recall_longest_mamba_16": (ATTENTION, "fig22.recall_trained_lightest_mamba_16"),
    "fig22.recall_longest_tgn": (ATTENTION,),
    "fig22.recall_longest_tgn_published": (ATTENTION,),
    "fig22.recall_heaviest_attention_minus_best_fixed_state": (
        ATTENTION,
        "fig22.recall_trained_lightest_mamba_64",
    ),
}

Runs = Mapping[str, Mapping[str, Any]]
Record = dict[str, Any]


def summarise(
    *,
    accuracies: Sequence[str],
    occupancies: Sequence[str],
    metrics: Sequence[str],
    convergence: str,
    recall: str,
    widths: str,
    occupancy: str,
    recall_training: str,
    statistics: str,
    undecided: str,
    runs: Runs,
    width: int,
    length: int,
    pairs: int,
    early: float,
    fair: float,
    model: str,
    evidence: Any,
    resamples: int,
    seed: int,
) -> None:
    """Write figure 22's tables of recall, and all statistics of the figure.

    Parameters
    ----------
    accuracies, occupancies, metrics
        Tables of :func:`tgn.training.synthetic.train` of every run, in a folder of its name.
    convergence
        Statistics of the figure's other half, which are taken over.
    recall, occupancy, recall_training
        Parquet to write: :func:`accuracy_table`, :func:`occupancy_table`, :func:`training_table`,
        of the arms of the usual width.
    widths
        Parquet to write: :func:`accuracy_table` of all arms.
    statistics, undecided
        JSON to write: all statistics, but for those that :func:`withheld` lists.
    runs
        Plan of the runs, as :func:`tgn.training.recall_plan.runs`.
    width
        The usual one.
    length, pairs
        At which accuracy is read against pairs, and against length.
    early
        Fraction of a run that is its early phase.
    fair
        Accuracy that baselines must reach before claims are judged.
    model, evidence
        What was measured, for the statistics.
    """
    rng = np.random.default_rng(seed)
    usual = {name: run for name, run in runs.items() if run["model"]["width"] == width}
    everything = accuracy_table(_joined(accuracies, runs), trained_on(runs))
    answers = everything[everything["arm"].isin({run["arm"] for run in usual.values()})]
    measured = _joined(occupancies, usual)
    gates = occupancy_table(measured)
    trained = _joined(metrics, usual)
    tables = {
        recall: answers,
        widths: everything,
        occupancy: gates,
        recall_training: training_table(trained),
    }
    for path, table in tables.items():
        write_table(path, table)
    means = answers[answers["seed"] == MEAN]
    records = chain(
        accuracy_statistics(means),
        length_statistics(means, pairs),
        capacity_statistics(means, length),
        width_statistics(everything[everything["seed"] == MEAN], runs, length),
        contrast_statistics(measured, length, pairs),
        open_statistics(gates[gates["seed"] == MEAN], length, pairs),
        gate_statistics(
            trained,
            max(run["training"]["steps"] for run in usual.values()),
            early,
            rng=rng,
            resamples=resamples,
        ),
    )
    own = [Statistic(**fields, model=model, evidence=evidence) for fields in records]
    reasons = withheld(own, fair)
    kept = [statistic for statistic in own if statistic.id not in reasons]
    write_statistics(statistics, [*read_statistics(convergence), *kept])
    write_json(
        undecided, [{"id": id, "model": model, "reason": why} for id, why in reasons.items()]
    )


def withheld(statistics: Sequence[Statistic], fair: float) -> dict[str, str]:
    """The statistics that may decide no claim, since a baseline of theirs is not fair, and why.

    A baseline is fair unless all of its interval lies below what it must reach.
    """
    known = {statistic.id: statistic for statistic in statistics}
    found = {}
    for id, baselines in BASELINES.items():
        unfair = [
            f"{_written(baseline)}, and a fair baseline has {fair:g}"
            for baseline in (known[name] for name in baselines if name in known)
            if (baseline.value if baseline.ci_high is None else baseline.ci_high) < fair
        ]
        if id in known and unfair:
            found[id] = "; ".join([*unfair, f"without that condition, {_written(known[id])}"])
    return found


def _written(statistic: Statistic) -> str:
    number = quantity(statistic.value, statistic.ci_low, statistic.ci_high, statistic.unit)
    return f"{statistic.id} is {number}"


def trained_on(runs: Runs) -> set[tuple[int, int]]:
    """Lengths and pairs that all runs were trained on."""
    return {
        (task["input_seq_len"], task["num_kv_pairs"])
        for run in runs.values()
        for task in run["train_tasks"]
    }


def _joined(paths: Sequence[str], runs: Runs) -> pd.DataFrame:
    """The tables of these runs in one, with columns arm and seed."""
    tables = []
    for path in paths:
        if run := runs.get(Path(path).parent.name):
            table = pd.read_parquet(path).assign(arm=run["arm"], seed=run["seed"])
            tables.append(table)
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


# --- tables of the panels


def accuracy_table(found: pd.DataFrame, trained: set[tuple[int, int]]) -> pd.DataFrame:
    """Accuracies with intervals, by arm, test set and seed, and over the seeds (seed ``mean``).

    Parameters
    ----------
    found
        ``accuracy.parquet`` of all runs.
    trained
        Lengths and pairs in training.

    Returns
    -------
    table with columns arm, seed (text), state_bytes, parameters, input_seq_len, num_kv_pairs,
    accuracy, low, high, n (sequences), seeds, among, trained, chance (any value), context_chance
    (any value of the context), learnt (whether the arm is clearly above that on any trained set)
    """
    factor = overdispersion(found)
    rows = []
    for (arm, *task), table in found.groupby(["arm", *TASK]):
        both = {
            "arm": arm,
            **table.iloc[0][["state_bytes", "parameters", *TASK]].astype(int),
            "trained": tuple(task) in trained,
            "chance": 2 / int(table["vocab_size"].iloc[0]),
            "context_chance": 1 / int(task[1]),
        }
        for seed, part in [*table.groupby("seed"), (MEAN, table)]:
            accuracy, n = float(part["accuracy"].mean()), int(part["n"].sum())
            trials = effective(n, len(part), factor if seed == MEAN else 0.0)
            low, high = wilson(accuracy, trials)
            rows.append(
                both
                | {"seed": str(seed), "accuracy": accuracy, "low": low, "high": high}
                | {"n": n, "trials": trials, "seeds": len(part), "among": part["among"].mean()}
            )
    made = pd.DataFrame(rows)
    known = made[(made["seed"] == MEAN) & made["trained"]]
    above = known.loc[known["low"] > known["context_chance"], "arm"]
    return made.assign(learnt=made["arm"].isin(above))


def overdispersion(
    found: pd.DataFrame, value: str = "accuracy", keys: Sequence[str] = ("arm", *TASK)
) -> float:
    """Variance over seeds in units of p (1 - p), over all arms and test sets; NaN if unknown."""
    groups = found.groupby(list(keys))[value]
    seeds, mean = groups.size(), groups.mean()
    several = seeds > 1
    squares = (groups.var() * (seeds - 1))[several].sum()
    possible = (mean * (1 - mean) * (seeds - 1))[several].sum()
    if not several.any():
        return math.nan
    return float(squares / possible) if possible else 0.0


def effective(n: int, seeds: int, factor: float) -> float:
    """How many independent trials n sequences of some seeds are worth.

    >>> effective(100, 1, 0.0), effective(100, 2, 0.02)
    (100.0, 50.0)
    """
    return float(n) if math.isnan(factor) else 1 / (1 / n + factor / seeds)


def wilson(share: float, trials: float, alpha: float = 0.05) -> tuple[float, float]:
    """Wilson's interval of a share."""
    low, high = proportion_confint(share * trials, trials, alpha, method="wilson")
    return min(float(low), share), max(float(high), share)  # rounding at 0 and 1


def occupancy_table(found: pd.DataFrame) -> pd.DataFrame:
    """Gates with intervals over sequences, by arm, layer, position, test set and seed.

    Returns
    -------
    table with columns arm, seed (text; ``mean`` over the seeds, where the spread of seeds over all
    arms is in the interval), layer, position, input_seq_len, num_kv_pairs, gate, low, high, open
    (share above 1/2), open_low, open_high (its interval, as that of an accuracy), n
    """
    keys = ["layer", "position", *TASK]
    factor = overdispersion(found, "open", ["arm", *keys])
    rows = []
    for names, rivals in found.groupby(keys):
        spread = _spread_of_gates(rivals)
        for (arm,), table in rivals.groupby(["arm"]):
            for seed, part in [*table.groupby("seed"), (MEAN, table)]:
                interval = _mean_gate(part, spread if seed == MEAN else None)
                opened, n = float(part["open"].mean()), int(part["n"].sum())
                trials = effective(n, len(part), factor if seed == MEAN else 0.0)
                rows.append(
                    dict(zip(keys, names, strict=True))
                    | {"arm": arm, "seed": str(seed), "gate": interval.value, "n": n}
                    | {"low": max(0.0, interval.low), "high": min(1.0, interval.high)}
                    | dict(zip(OPEN, (opened, *wilson(opened, trials)), strict=True))
                )
    return pd.DataFrame(rows)


def contrast_table(found: pd.DataFrame) -> pd.DataFrame:
    """Of each run and layer, the gate at queries less the mean of it over the other positions.

    Parameters
    ----------
    found
        Gates of one test set: arm, seed, layer, position, gate, standard_error, n.

    Returns
    -------
    table with columns arm, seed, layer, gate (the difference), standard_error, n
    """
    rows = []
    for names, table in found.groupby(["arm", "seed", "layer"]):
        by_position = table.set_index("position")
        query, others = by_position.loc["query"], by_position.drop(index="query")
        rows.append(
            dict(zip(["arm", "seed", "layer"], names, strict=True))
            | {
                "gate": query["gate"] - others["gate"].mean(),
                # gates elsewhere go up and down together at worst
                "standard_error": math.hypot(
                    query["standard_error"], others["standard_error"].mean()
                ),
                "n": query["n"],
            }
        )
    return pd.DataFrame(rows)


def _spread_of_gates(rivals: pd.DataFrame) -> Spread:
    return seed_spread([arm.to_numpy() for _, arm in rivals.groupby("arm")["gate"]])


def _mean_gate(runs: pd.DataFrame, spread: Spread | None) -> Interval:
    """Mean over seeds, with the chance of sequences and, where it is known, of seeds."""
    value = float(runs["gate"].mean())
    margin = 1.96 * math.sqrt((runs["standard_error"] ** 2).sum()) / len(runs)
    interval = Interval(value, value - margin, value + margin)
    return widened(interval, spread, [len(runs)]) if spread and spread[1] else interval


def training_table(found: pd.DataFrame) -> pd.DataFrame:
    """Gate and validation accuracy in training: arm, seed (text), step, tokens, gate, accuracy.

    The gate is that of the training batches, as :func:`gate_statistics` averages it, at the middle
    of its window; missing where an arm has none.
    """
    gate = found["gate"] if "gate" in found else pd.Series(np.nan, found.index)
    runs = [found["arm"], found["seed"]]
    return pd.DataFrame(
        {
            "arm": found["arm"],
            "seed": found["seed"].astype(str),
            "step": found["step"],
            "tokens": found["tokens"],
            "gate": gate.groupby(runs).transform(
                lambda run: run.rolling(WINDOW, center=True, min_periods=1).mean()
            ),
            "accuracy": found["validation_accuracy"],
        }
    )


# --- statistics


def _accuracy(row: pd.Series) -> Record:
    notes = []
    if row["seeds"] == 1:
        known = row["trials"] < row["n"]
        notes.append(
            "one seed; in the interval the spread of seeds is "
            + ("that of other arms" if known else "left out")
        )
    if not row["learnt"]:
        notes.append("the arm never left the chance of the context on any trained set")
    return {
        "value": row["accuracy"],
        "ci_low": row["low"],
        "ci_high": row["high"],
        "n": row["n"],
        "unit": "share of queries",
        "method": "mean over test sequences, Wilson's interval",
        "note": "; ".join(notes),
    }


def accuracy_statistics(means: pd.DataFrame) -> list[Record]:
    """Accuracy of every arm on every test set; the least, and the lightest, it was trained for."""
    found = [
        {"id": f"fig22.recall_{r['arm']}_{r['input_seq_len']}_{r['num_kv_pairs']}", **_accuracy(r)}
        for _, r in means.iterrows()
    ]
    for arm, table in means[means["trained"]].groupby("arm"):
        sets = [wilson(r["accuracy"], r["trials"], 0.05 / len(table)) for _, r in table.iterrows()]
        least = table.loc[table["accuracy"].idxmin()]
        found.append(
            {
                "id": f"fig22.recall_trained_least_{arm}",
                **_accuracy(least),
                "ci_low": min(low for low, _ in sets),
                "ci_high": min(high for _, high in sets),
                "method": f"least of {len(table)} test sets of trained lengths and pairs; Wilson's "
                "intervals at a level shared among them",
            }
        )
        lightest = table.sort_values([*reversed(TASK)]).iloc[0]
        found.append({"id": f"fig22.recall_trained_lightest_{arm}", **_accuracy(lightest)})
    return found


def length_statistics(means: pd.DataFrame, pairs: int) -> list[Record]:
    """At so many pairs, accuracy at the shortest and the longest sequences, and chance there."""
    table = means[means["num_kv_pairs"] == pairs]
    found = []
    for name, length in (
        ("shortest", table["input_seq_len"].min()),
        ("longest", table["input_seq_len"].max()),
    ):
        for _, row in table[table["input_seq_len"] == length].iterrows():
            found.append({"id": f"fig22.recall_{name}_{row['arm']}", **_accuracy(row)})
    guess = 1 / pairs
    return [
        *found,
        {
            "id": "fig22.recall_context_chance",
            **ends(Interval(guess, guess, guess)),
            "n": pairs,
            "unit": "share of queries",
            "method": "guessing any value of the context, exact",
        },
    ]


def capacity_statistics(means: pd.DataFrame, length: int) -> list[Record]:
    """What the bytes of a state are worth, with the fewest and the most pairs at a length.

    Fixed states are those that do not grow with the sequence. Full history is held against the
    best of them, chosen on the same test set, which favours the fixed states.
    """
    grows = means.groupby("arm")["state_bytes"].nunique() > 1
    at_length = means[means["input_seq_len"] == length]
    found = []
    for name, pairs in (
        ("lightest", at_length["num_kv_pairs"].min()),
        ("heaviest", at_length["num_kv_pairs"].max()),
    ):
        table = at_length[at_length["num_kv_pairs"] == pairs].set_index("arm")
        fixed = table[~grows[table.index]]
        best = fixed["accuracy"].idxmax()
        for arm in (arm for arm in FULL_HISTORY if arm in table.index):
            gap = difference(_interval(table.loc[arm]), _interval(fixed.loc[best]))
            found.append(
                {
                    "id": f"fig22.recall_{name}_{arm}_minus_best_fixed_state",
                    **ends(gap),
                    "n": int(table.loc[arm, "n"]),
                    "unit": "share of queries",
                    "method": f"{length} tokens, {pairs} pairs; intervals of both in squares",
                    "controls": [best],
                }
            )
        family = fixed[fixed.index.str.match("mamba")]
        if family["state_bytes"].nunique() > 1:
            found.append(
                {
                    "id": f"fig22.recall_{name}_slope_state_bytes",
                    **ends(slope(np.log2(family["state_bytes"].to_numpy(float)), family)),
                    "n": int(family["n"].min()),
                    "unit": "share of queries per doubling",
                    "method": f"least squares over {len(family)} state sizes of Mamba; {length} "
                    f"tokens, {pairs} pairs",
                }
            )
    return found


def width_statistics(means: pd.DataFrame, runs: Runs, length: int) -> list[Record]:
    """What a wider model is worth to an arm that has several widths, with most pairs at a length.

    Parameters
    ----------
    means
        Of :func:`accuracy_table` of all arms.
    runs
        Plan of the runs, in which arms of other widths are called ``arm_d128``.
    """
    widths = {run["arm"]: float(run["model"]["width"]) for run in runs.values()}
    table = means[means["input_seq_len"] == length]
    pairs = table["num_kv_pairs"].max()
    table = table[table["num_kv_pairs"] == pairs]
    return [
        {
            "id": f"fig22.recall_heaviest_slope_width_{arm}",
            **ends(slope(np.log2(rows["arm"].map(widths).to_numpy()), rows)),
            "n": int(rows["n"].min()),
            "unit": "share of queries per doubling",
            "method": f"least squares over {len(rows)} widths; {length} tokens, {pairs} pairs",
        }
        for arm, rows in table.groupby(table["arm"].str.replace(r"_d\d+$", "", regex=True))
        if len(rows) > 1
    ]


def _interval(row: pd.Series) -> Interval:
    return Interval(row["accuracy"], row["low"], row["high"])


def slope(x: NDArray[np.float64], table: pd.DataFrame) -> Interval:
    """Least-squares slope of accuracies, the distances to their ends adding up in squares.

    As :func:`tgn.statistics.difference`, for a weighted sum of independent estimates.
    """
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    value, low, high = (table[name].to_numpy(float) for name in ("accuracy", "low", "high"))
    down, up = weights * (value - low), weights * (high - value)
    below = np.where(weights > 0, down, up)
    above = np.where(weights > 0, up, down)
    middle = float(weights @ value)
    return Interval(
        middle,
        middle - float(np.sqrt((below**2).sum())),
        middle + float(np.sqrt((above**2).sum())),
    )


def contrast_statistics(found: pd.DataFrame, length: int, pairs: int) -> list[Record]:
    """Gate at queries less the gate elsewhere, by arm and layer."""
    at = found[(found["input_seq_len"] == length) & (found["num_kv_pairs"] == pairs)]
    statistics = []
    for layer, rivals in contrast_table(at).groupby("layer"):
        spread = _spread_of_gates(rivals)
        seeds = (
            ", with the spread of seeds over all arms (Student's t, "
            f"{spread[1]} degrees of freedom)"
            if spread[1]
            else " alone, since no arm has two seeds"
        )
        for arm, runs in rivals.groupby("arm"):
            value, low, high = _mean_gate(runs, spread)
            statistics.append(
                {
                    "id": f"fig22.recall_{arm}_gate_query_minus_elsewhere_layer_{layer}",
                    **ends(Interval(value, max(-1.0, low), min(1.0, high))),
                    "n": int(runs["n"].sum()),
                    "unit": "",
                    "method": f"{length} tokens, {pairs} pairs; elsewhere: mean of the other "
                    f"classes of positions; over sequences{seeds}",
                }
            )
    return statistics


def open_statistics(gates: pd.DataFrame, length: int, pairs: int) -> list[Record]:
    """Shares of open gates at queries and elsewhere, by arm and layer."""
    at = gates[(gates["input_seq_len"] == length) & (gates["num_kv_pairs"] == pairs)]
    found = []
    for (arm, layer), table in at.groupby(["arm", "layer"]):
        rows = table.set_index("position")
        others = rows.drop(index="query")
        for place, row in (("query", rows.loc["query"]), ("elsewhere", others[OPEN].mean())):
            found.append(
                {
                    "id": f"fig22.recall_{arm}_open_{place}_layer_{layer}",
                    **ends(Interval(*map(float, row[OPEN]))),
                    "n": int(rows["n"].iloc[0]),
                    "unit": "share of tokens",
                    "method": f"gates above 1/2; {length} tokens, {pairs} pairs; elsewhere: mean "
                    f"of {len(others)} classes of positions; Wilson's interval over sequences, "
                    "with the spread of seeds over all arms and layers",
                }
            )
    return found


def gate_statistics(
    found: pd.DataFrame, steps: int, early: float, *, rng: np.random.Generator, resamples: int
) -> list[Record]:
    """The lowest gate of the early phase and of the run, and the last one, in logarithms, by arm.

    A gate is the mean over the training batches of :data:`WINDOW` successive records, averaged over
    seeds. Which one is the lowest is chosen on every other record and read on the
    records between, so that the choice does not lower it.

    Parameters
    ----------
    found
        ``metrics.parquet`` of all runs.
    steps, early
        Of a whole run, and the fraction of them that is the early phase.
    """
    recorded = found[found["gate"].notna()] if "gate" in found else found[:0]
    records = []
    for arm, table in recorded.groupby("arm"):
        runs = [run.sort_values("step") for _, run in table.groupby("seed")]
        whole = [run["gate"].to_numpy() for run in runs]
        phase = [run.loc[run["step"] <= early * steps, "gate"].to_numpy() for run in runs]
        for name, gates in (
            ("lowest_early", lowest(_side_by_side(phase))),
            ("lowest", lowest(_side_by_side(whole))),
            ("final", _side_by_side([gate[-WINDOW:][::-1] for gate in whole])),
        ):
            interval = bootstrap_interval(gates, _level, rng=rng, resamples=resamples)
            records.append(
                {
                    "id": f"fig22.recall_{arm}_log_{name}_gate",
                    **ends(interval),
                    "n": len(gates),
                    "unit": "nats",
                    "method": f"training batches of {WINDOW} successive records, bootstrap over "
                    f"records; early: first {early:g} of the run",
                    "note": f"seeds: {len(runs)}, whose spread is not in the interval",
                }
            )
    return records


def _side_by_side(runs: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The rows that all runs have, shape (records, seeds)."""
    return np.stack([run[: min(map(len, runs))] for run in runs], axis=1)


def _level(gates: NDArray[np.float64]) -> float:
    return math.log(gates.mean() + TINY)


def lowest(gates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every other record of the window whose other records are the lowest.

    Parameters
    ----------
    gates
        Shape (records, ...), in the order of steps; at least 2 records.
    """
    size = min(WINDOW, len(gates))
    means = [gates[start : start + size : 2].mean() for start in range(len(gates) - size + 1)]
    start = int(np.argmin(means))
    return gates[start + 1 : start + size : 2]
