"""What closing the gate does to the rank, and whether it goes as the rank of brains under sedation.

The tables of :mod:`tgn.probing.sedation` and the states of figure 14 become the curves and the
statistics of the bridge. Ranks enter as logarithms: a difference is a ratio of ranks, for networks
and for brains alike. Intervals over text and seeds are those of :mod:`tgn.training.comparison`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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
from tgn.training.comparison import Runs, spreads_by_arm, widened

Array = NDArray[np.float64]
Contrast = Callable[[pd.DataFrame], Array | None]  # rows of an arm -> (windows, seeds)
RANK, PARTICIPATION = "effective_rank", "participation_ratio"
CLAMPED, RANDOM, OWN, PERMUTED = "clamped", "random", "own", "permuted"
SCALED, UNTRAINED = "scaled", "untrained"
OPEN, SHUT = 1.0, 0.0
BASE = "awake"  # the state that ranks are compared with


def summarise(
    *,
    tables: Sequence[str],
    states: str,
    curves: str,
    matched: str,
    null: str,
    statistics: str,
    runs: Runs,
    arms: Sequence[str],
    depth: Mapping[str, float],
    permutations: int,
    model: str,
    evidence: Evidence,
    states_model: str,
    states_evidence: Evidence,
    resamples: int,
    seed: int,
) -> None:
    """Write the tables and statistics of the bridge.

    Parameters
    ----------
    tables
        A table of :func:`tgn.probing.sedation.measure` for each arm.
    states
        Figure 14's table of ranks by state.
    curves
        Written: mean over windows with its 95 % band, by arm, seed, mode, dose, layer and quantity
        (ranks; at the last layer also ``nats``, ``gate``, ``extra_nats``, the loss less that of the
        same window as the network was trained, and ``log_ratio``, the log rank less that with the
        gate shut).
    matched
        Written: log rank less that awake by state with its 95 % interval, of people (``brain``,
        over subjects) and of the curves at the dose that stands for the state (over windows).
    null
        Written: the similarity of people and network, measured and with states permuted.
    runs
        Plan of the runs, as :func:`tgn.training.plan.runs`.
    arms
        Arms measured; the first is the one whose curve is laid beside the states.
    depth
        Of sedation by state; the deepest stands for a shut gate, the lightest for an open one.
    permutations
        Of the states within each person.
    model, states_model
        What was measured, in networks and in brains; each with its evidence.

    Raises
    ------
    ValueError
        If no person has three states, or no arm two seeds.
    """
    rng = np.random.default_rng(seed)
    seen = pd.concat([_labelled(path, runs) for path in tables], ignore_index=True)
    write_table(curves, curve_table(seen, rng=rng, resamples=resamples))
    common: dict[str, Any] = {"model": model, "evidence": evidence}
    records = network_statistics(seen, runs, arms, rng=rng, resamples=resamples, **common)

    people = log_ranks(pd.read_parquet(states), depth)
    opened = gate_of_depth(depth)
    shapes = state_curves(seen, arms, opened)
    write_table(matched, matched_table(people, shapes, opened, rng=rng, resamples=resamples))
    means = {curve: windows.mean(axis=0) for curve, windows in shapes.items()}
    found = similarities(people, means, permutations=permutations, rng=rng)
    write_table(null, found)
    simulated = "simulated" in (evidence, states_evidence)
    records += similarity_statistics(
        people, means, found, first=arms[0], rng=rng, resamples=resamples,
        model=f"{model}; {states_model}", evidence="simulated" if simulated else "real",
    )  # fmt: skip
    write_statistics(statistics, records)


def _labelled(path: str, runs: Runs) -> pd.DataFrame:
    table = pd.read_parquet(path)
    return table.assign(
        arm=table["run"].map(lambda run: runs[run]["arm"]),
        seed=table["run"].map(lambda run: runs[run]["seed"]),
    )


def curve_table(seen: pd.DataFrame, *, rng: np.random.Generator, resamples: int) -> pd.DataFrame:
    """Mean and 95 % bootstrap band over windows, as ``curves`` of :func:`summarise`."""
    keys = ["arm", "seed", "mode", "dose", "layer"]
    last = last_layer(seen)
    last = last.assign(log_ratio=log_ratios(last), extra_nats=extra_nats(last))
    long = pd.concat(
        [
            seen.melt([*keys, "window"], [RANK, PARTICIPATION], "quantity"),
            last.melt([*keys, "window"], ["log_ratio", "nats", "extra_nats", "gate"], "quantity"),
        ]
    )
    labels = long.groupby([*keys, "quantity"], dropna=False).ngroup()
    by_window = long.assign(curve=labels).pivot(index="window", columns="curve", values="value")
    band = bootstrap_band(by_window.to_numpy(), rng=rng, resamples=resamples)
    table = long.assign(curve=labels).drop_duplicates("curve").sort_values("curve")
    return table[[*keys, "quantity"]].assign(
        value=band.value, low=band.low, high=band.high, n=len(by_window)
    )


def log_ratios(last: pd.DataFrame) -> pd.Series:
    """Log rank after the last block less that of the same window with the gate shut.

    Shuffled weights have their own rank at a dose of 0; all else has that of the trained ones.
    """
    keys = ["arm", "seed", "window", "shuffled"]
    ranks = last.assign(shuffled=last["mode"] == UNTRAINED, log=np.log(last[RANK]))
    shut = ranks[ranks["dose"] == SHUT].set_index(keys)["log"]
    return ranks["log"] - shut.loc[pd.MultiIndex.from_frame(ranks[keys])].to_numpy()


def extra_nats(last: pd.DataFrame) -> pd.Series:
    """Loss less that of the same window with the network as it was trained."""
    keys = ["arm", "seed", "window"]
    trained = (last["mode"] == OWN) | ((last["mode"] == SCALED) & (last["dose"] == OPEN))
    own = last[trained].set_index(keys)["nats"]
    return last["nats"] - own.loc[pd.MultiIndex.from_frame(last[keys])].to_numpy()


def last_layer(seen: pd.DataFrame) -> pd.DataFrame:
    """Rows after the last block, which is not the same one in every arm."""
    return seen[seen["layer"] == seen.groupby("arm")["layer"].transform("max")]


def network_statistics(
    seen: pd.DataFrame,
    runs: Runs,
    arms: Sequence[str],
    *,
    rng: np.random.Generator,
    resamples: int,
    model: str,
    evidence: Evidence,
) -> list[Statistic]:
    """Every contrast of every arm that has it, after the last block."""
    final = last_layer(seen)
    recipes = {run["arm"]: json.dumps(run["training"], sort_keys=True) for run in runs.values()}
    records: list[Statistic] = []
    own = final[final["mode"] == OWN].groupby(["arm", "seed"])["gate"].mean()
    for arm in own.index.unique("arm"):
        each = ", ".join(f"{gate:.3g}" for gate in own[arm])
        records.append(
            Statistic(
                id=f"bridge.{arm}_own_gate",
                **ends(own[arm].mean()),
                n=len(own[arm]),
                unit="",
                method="mean gate as trained; mean over seeds",
                model=model,
                evidence=evidence,
                note=f"by seed: {each}",
            )
        )
    for name, (contrast, unit, said) in _contrasts(final).items():
        found = {arm: contrast(final[final["arm"] == arm]) for arm in arms}
        values = {arm: value for arm, value in found.items() if value is not None}
        spreads = spreads_by_arm({arm: v.mean(axis=0) for arm, v in values.items()}, recipes)
        for arm, value in values.items():
            over_text = bootstrap_interval(value.mean(axis=1), rng=rng, resamples=resamples)
            interval = widened(over_text, spreads[arm], [value.shape[1]])
            each = ", ".join(f"{mean:.3g}" for mean in value.mean(axis=0))
            records.append(
                Statistic(
                    id=f"bridge.{arm}_{name}",
                    **ends(interval),
                    n=len(value),
                    unit=unit,
                    method=f"{said}; mean over windows and seeds, 95 % interval over both",
                    model=model,
                    evidence=evidence,
                    note=f"by seed: {each}",
                )
            )
    return records


def _contrasts(final: pd.DataFrame) -> dict[str, tuple[Contrast, str, str]]:
    """By name: what takes the rows of an arm to a number a window and seed, its unit, its words."""
    doses = final["dose"].dropna().unique()
    half = float(doses[np.abs(doses - 0.5).argmin()])

    def at(rows: pd.DataFrame, quantity: str, mode: str, dose: float | None = None) -> Array | None:
        if mode == CLAMPED and SCALED in set(rows["mode"]):
            mode = SCALED
        part = rows[rows["mode"] == mode]
        part = part if dose is None else part[part["dose"] == dose]
        if part.empty:
            return None
        return part.pivot(index="window", columns="seed", values=quantity).to_numpy()

    def less(first: tuple[Any, ...], second: tuple[Any, ...], *, quantity: str) -> Contrast:
        def contrast(rows: pd.DataFrame) -> Array | None:
            one, other = at(rows, quantity, *first), at(rows, quantity, *second)
            if one is None or other is None:
                return None
            return one - other if quantity == "nats" else np.log(one) - np.log(other)

        return contrast

    own, opened, shut = (OWN,), (CLAMPED, OPEN), (CLAMPED, SHUT)
    log_rank = "log effective rank after the last block"
    dose = "the gate (attention's scale, without a gate)"
    return {
        "log_rank_open_minus_shut": (
            less(opened, shut, quantity=RANK), "nats", f"{log_rank}, {dose} at 1 less at 0",
        ),
        "log_rank_open_minus_shut_untrained": (
            less((UNTRAINED, OPEN), (UNTRAINED, SHUT), quantity=RANK), "nats",
            f"{log_rank}, {dose} at 1 less at 0, weights of the blocks shuffled",
        ),
        "log_rank_own_minus_shut": (
            less(own, shut, quantity=RANK), "nats", f"{log_rank}, as trained less {dose} at 0",
        ),
        "log_rank_random_minus_shut": (
            less((RANDOM, half), shut, quantity=RANK), "nats",
            f"{log_rank}, a share of {half:g} of the gates open at random less all shut",
        ),
        "log_rank_permuted_minus_shut": (
            less((PERMUTED,), shut, quantity=RANK), "nats",
            f"{log_rank}, gates as trained but at other tokens less all shut",
        ),
        "log_rank_own_minus_permuted": (
            less(own, (PERMUTED,), quantity=RANK), "nats",
            f"{log_rank}, gates as trained less the same at other tokens",
        ),
        "log_rank_clamped_minus_random": (
            less((CLAMPED, half), (RANDOM, half), quantity=RANK), "nats",
            f"{log_rank}, every gate at {half:g} less that share of gates open",
        ),
        "log_participation_open_minus_shut": (
            less(opened, shut, quantity=PARTICIPATION), "nats",
            f"log participation ratio after the last block, {dose} at 1 less at 0",
        ),
        "log_participation_own_minus_shut": (
            less(own, shut, quantity=PARTICIPATION), "nats",
            f"log participation ratio after the last block, as trained less {dose} at 0",
        ),
        "loss_open_minus_own": (
            less(opened, own, quantity="nats"), "nats per token",
            f"loss, {dose} at 1 less as trained",
        ),
        "loss_shut_minus_own": (
            less(shut, own, quantity="nats"), "nats per token",
            f"loss, {dose} at 0 less as trained",
        ),
    }  # fmt: skip


# The states of figure 14


def log_ranks(states: pd.DataFrame, depth: Mapping[str, float]) -> pd.DataFrame:
    """Log rank of each person, a row, in each state, a column; NaN where a state is missing.

    Raises
    ------
    ValueError
        If nobody has three states, with which alone an order can be told from a coincidence.
    """
    people = states[states["kind"] == "subject"]
    table = np.log(people.pivot(index="subject", columns="state", values="value"))
    table = table.reindex(columns=list(depth))
    table = table[table.notna().sum(axis=1) >= 3]
    if table.empty:
        raise ValueError("nobody has a rank in three states, so that no curve can be compared")
    return table


def gate_of_depth(depth: Mapping[str, float]) -> dict[str, float]:
    """The gate that stands for each state: 1 at the least depth of sedation, 0 at the greatest.

    Examples
    --------
    >>> gate_of_depth({"awake": 2, "light": 3, "deep": 6})
    {'awake': 1.0, 'light': 0.75, 'deep': 0.0}
    """
    least, most = min(depth.values()), max(depth.values())
    return {state: (most - level) / (most - least) for state, level in depth.items()}


def state_curves(
    seen: pd.DataFrame, arms: Sequence[str], opened: Mapping[str, float]
) -> dict[str, Array]:
    """Log rank after the last block at the gate of each state, read off between the doses.

    Returns
    -------
    dict of arrays, shape (windows, states)
        Mean over seeds, by arm. Of the first arm also ``random``, its gates open at random, and
        ``untrained``, its weights shuffled. ``depth`` is a straight line in the gate, what any
        falling curve has in common with a network's; its shape is (1, states).
    """
    final = last_layer(seen)
    final = final.assign(log=np.log(final[RANK]))
    gates = np.array(list(opened.values()))
    main = final["mode"].isin((CLAMPED, SCALED))
    at_end = main & final["dose"].isin((OPEN, SHUT))  # where a random gate is the clamped one
    chosen = {arm: main & (final["arm"] == arm) for arm in arms}
    own = final["arm"] == arms[0]
    chosen[RANDOM] = own & ((final["mode"] == RANDOM) | at_end)
    chosen[UNTRAINED] = own & (final["mode"] == UNTRAINED)

    def at_states(rows: pd.DataFrame) -> Array:
        ranks = rows.pivot_table(index="window", columns="dose", values="log")
        doses = ranks.columns.to_numpy()
        return np.stack([np.interp(gates, doses, window) for window in ranks.to_numpy()])

    return {name: at_states(final[rows]) for name, rows in chosen.items()} | {"depth": gates[None]}


def matched_table(
    people: pd.DataFrame,
    shapes: Mapping[str, Array],
    opened: Mapping[str, float],
    *,
    rng: np.random.Generator,
    resamples: int,
) -> pd.DataFrame:
    """Log rank less that awake by state, as ``matched`` of :func:`summarise`."""
    rows = []
    for state, gate in opened.items():
        differences = (people[state] - people[BASE]).dropna().to_numpy()
        if len(differences) > 1:
            mean = bootstrap_interval(differences, rng=rng, resamples=resamples)
            rows.append(("brain", state, gate, *mean, len(differences)))
    base = list(opened).index(BASE)
    for curve, windows in shapes.items():
        if curve != "depth":
            band = bootstrap_band(windows - windows[:, [base]], rng=rng, resamples=resamples)
            count = [len(windows)] * len(opened)
            rows += zip([curve] * len(opened), opened, opened.values(), *band, count, strict=True)
    return pd.DataFrame(rows, columns=["curve", "state", "gate", "value", "low", "high", "n"])


def correlations(people: Array, curve: Array) -> Array:
    """Correlation over states of each person, a row, with a curve; 0 where either is constant.

    NaN marks a missing state.

    Examples
    --------
    >>> correlations(np.array([[1.0, 2.0, np.nan], [3.0, 1.0, 2.0]]), np.array([0.0, 1.0, 0.5]))
    array([ 1., -1.])
    """
    present = ~np.isnan(people)
    count = present.sum(axis=-1, keepdims=True)

    def centred(values: Array) -> Array:
        values = np.where(present, values, 0.0)
        return np.where(present, values - values.sum(axis=-1, keepdims=True) / count, 0.0)

    x, y = centred(people), centred(np.broadcast_to(curve, people.shape))
    size = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    dot: Array = (x * y).sum(axis=-1)
    return np.divide(dot, size, out=np.zeros_like(dot), where=size > 1e-12)


def similarities(
    people: pd.DataFrame,
    shapes: Mapping[str, Array],
    *,
    permutations: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Mean correlation of people with each curve, as measured and with their states permuted.

    Returns
    -------
    pandas.DataFrame
        Columns curve, permuted, value; one row a curve and permutation, the same for all curves.
    """
    ranks = people.to_numpy()
    # Missing states stay where they are: the order is that of the states a person has.
    shuffled = [_permuted(ranks, rng) for _ in range(permutations)]
    parts = []
    for curve, values in shapes.items():
        measured = correlations(ranks, values).mean()
        by_chance = correlations(np.stack(shuffled), values).mean(axis=-1)
        parts.append(
            pd.DataFrame(
                {"value": [measured, *by_chance], "permuted": [False] + [True] * permutations}
            ).assign(curve=curve)
        )
    return pd.concat(parts, ignore_index=True)


def _permuted(ranks: Array, rng: np.random.Generator) -> Array:
    permuted = ranks.copy()
    for row in permuted:
        present = ~np.isnan(row)
        row[present] = rng.permutation(row[present])
    return permuted


def similarity_statistics(
    people: pd.DataFrame,
    shapes: Mapping[str, Array],
    found: pd.DataFrame,
    *,
    first: str,
    rng: np.random.Generator,
    resamples: int,
    model: str,
    evidence: Evidence,
) -> list[Statistic]:
    """The similarity of people with each curve, its chance, and its lead over a straight line."""
    ranks, count = people.to_numpy(), len(people)
    said = (
        "correlation over states of a person's log rank with the network's at the dose that stands "
        "for the state"
    )
    over = "mean over people"
    records = []

    def add(name: str, interval: Interval | float, unit: str, method: str, note: str = "") -> None:
        records.append(
            Statistic(
                id=f"bridge.{name}",
                n=count,
                unit=unit,
                method=method,
                model=model,
                evidence=evidence,
                note=note,
                **ends(interval),
            )
        )

    line = correlations(ranks, shapes["depth"])
    states = list(people.columns)
    lightest, deepest = (int(pick(shapes["depth"])) for pick in (np.argmax, np.argmin))
    falls = ranks[:, lightest] - ranks[:, deepest]
    falls = falls[~np.isnan(falls)] - (shapes[first][lightest] - shapes[first][deepest])
    if len(falls) > 1:
        add(
            "fall_people_minus_network", _mean(falls, rng, resamples), "nats",
            f"fall of a person's log rank from {states[lightest]} to {states[deepest]} less the "
            f"network's from an open gate to a shut one; {over}, 95 % bootstrap interval",
        )  # fmt: skip
    for curve, values in shapes.items():
        each = correlations(ranks, values)
        name = "similarity" if curve == first else f"similarity_{curve}"
        words = said if curve != "depth" else (
            "correlation over states of a person's log rank with the depth of sedation, falling"
        )  # fmt: skip
        add(name, _mean(each, rng, resamples), "", f"{words}; {over}, 95 % bootstrap interval")
        own = found[(found["curve"] == curve) & found["permuted"]]["value"].to_numpy()
        low, high = np.quantile(own, [0.025, 0.975])
        middle = float(np.clip(own.mean(), low, high))
        add(
            f"{name}_permuted", Interval(middle, float(low), float(high)), "",
            f"{words}, states permuted within each person; {over}, mean and 95 % range over "
            f"{len(own)} permutations",
        )  # fmt: skip
        if curve != first:
            continue
        add(
            "similarity_minus_depth", _mean(each - line, rng, resamples), "",
            f"{said}, less that with the depth itself; {over}, 95 % bootstrap interval",
        )  # fmt: skip
        p = (1 + int((own >= each.mean() - 1e-12).sum())) / (1 + len(own))
        add("similarity_p", p, "", f"share of {len(own)} permutations as similar; one-sided")
    return records


def _mean(values: Array, rng: np.random.Generator, resamples: int) -> Interval:
    return bootstrap_interval(values, rng=rng, resamples=resamples)
