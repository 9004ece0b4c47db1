"""From the tables of figure 1's mechanism to the tables of its panels and its statistics.

Independent units are random problems (a), draws of queries and keys (b) and landscapes (d).
Intervals over few draws are Student's, over problems and landscapes bootstrapped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from tgn.files import write_table
from tgn.mechanism.landscapes import ARMS
from tgn.mechanism.random_attention import (
    DEFINITIONS,
    PRIMARY,
    crossing,
    freezing_alpha,
    highest,
    width_of_rise,
)
from tgn.statistics import (
    Interval,
    Statistic,
    aicc,
    bootstrap_interval,
    ends,
    read_statistics,
    share_interval,
    student_interval,
    write_statistics,
)

Array = NDArray[np.float64]
Curves = Mapping[tuple[int, int], Mapping[str, Array]]  # (size, dimension), definition: (draws, n)


def summarise(
    *,
    checks: str | Path,
    attention: str | Path,
    gaps: str | Path,
    temperature: str | Path,
    curves: str | Path,
    maxima: str | Path,
    relaxation: str | Path,
    statistics: str | Path,
    resamples: int,
    seed: int,
) -> None:
    """Write the tables of panels b and d, and every statistic of figure 1.

    Parameters
    ----------
    checks, attention, gaps
        Tables of :mod:`tgn.mechanism.free_energy`, :mod:`tgn.mechanism.random_attention` and
        :mod:`tgn.mechanism.landscapes`.
    temperature
        Statistics of the pretrained models (panels c and e), which are taken over.
    curves, maxima, relaxation
        Parquet to write: :func:`rank_curves`, :func:`rank_maxima`, :func:`relaxation_table`.
    statistics
        JSON to write.
    """
    proofs, ranks, walks = (pd.read_parquet(path) for path in (checks, attention, gaps))
    write_table(curves, rank_curves(ranks))
    write_table(maxima, rank_maxima(ranks))
    write_table(relaxation, relaxation_table(walks, resamples=resamples, seed=seed))
    interval = partial(bootstrap_interval, resamples=resamples)
    rng = np.random.default_rng(seed)
    records = [
        *check_statistics(proofs, partial(interval, rng=rng)),
        *rank_statistics(ranks),
        *walk_statistics(walks, partial(interval, rng=rng)),
    ]
    write_statistics(statistics, [*read_statistics(temperature), *records])


# --- panel a


def check_statistics(
    checks: pd.DataFrame, interval: Callable[..., Interval]
) -> Iterable[Statistic]:
    """What the free-energy argument proves, over random problems."""
    values = {str(quantity): rows for quantity, rows in checks.groupby("quantity")}
    equal = values["kernel_distance"]
    equal = equal[equal["spread"] == 0]
    normal = values["kernel_distance_normal"]
    record = partial(_simulated, model="random queries and keys")
    optimum = values["optimum_difference"]["value"].to_numpy()
    yield record(
        "softmax_minus_minimiser",
        interval(optimum, np.max),
        len(optimum),
        "largest difference between a softmax weight and the constrained minimiser of the free "
        "energy, found without it, in any problem",
        note=f"{optimum.mean():.1e} on average over problems",
    )
    yield record(
        "softmax_minus_kernel_equal_norms",
        interval(equal["value"].to_numpy()),
        len(equal),
        "total variation between attention and the normalised Gaussian kernel, keys of one norm",
    )
    yield record(
        "softmax_minus_kernel_normal_keys",
        interval(normal["value"].to_numpy()),
        len(normal),
        "total variation between attention and the normalised Gaussian kernel, standard normal "
        "keys at the usual scaling",
        note=f"the norms of the keys spread by {100 * normal['spread'].mean():.1f} %",
    )
    agree = values["gate_rule_is_best"]["value"].to_numpy()
    yield record(
        "gate_rule_is_best",
        share_interval(agree),
        len(agree),
        "share of problems in which the threshold rule gives the gates of least loss among all",
        model="random gating problems",
    )
    for name, what, model in (
        (
            "soft_gate_inside",
            "share of tokens whose best soft gate is neither 0 nor 1, squared loss of the mixture",
            "random gating problems",
        ),
        (
            "heat_step_log_energy",
            "log Dirichlet energy after a step of a symmetric heat kernel over before",
            "random tokens",
        ),
        (
            "heat_step_log_rank",
            "log centred effective rank of the tokens after such a step over before",
            "random tokens",
        ),
        (
            "attention_step_log_rank",
            "log centred effective rank of the tokens after a step of attention over before",
            "random tokens",
        ),
        (
            "attention_step_log_spread",
            "log distance of the tokens from their mean after a step of attention over before",
            "random tokens",
        ),
    ):
        found = values[name]["value"].to_numpy()
        unit = "" if name == "soft_gate_inside" else "nats"
        yield record(name, interval(found), len(found), what, model=model, unit=unit)


def _simulated(
    name: str, interval: Interval, n: int, method: str, *, unit: str = "", **fields: Any
) -> Statistic:
    return Statistic(
        id=f"fig1.{name}",
        **ends(interval),
        n=n,
        unit=unit,
        method=method,
        evidence="simulated",
        **fields,
    )


# --- panel b


def rank_curves(ranks: pd.DataFrame) -> pd.DataFrame:
    """Mean and 95 % interval over draws.

    Returns
    -------
    table with columns size, dimension, definition, alpha, value, low, high, n
    """
    keys = ["size", "dimension", "definition", "alpha"]
    rows = [
        dict(zip(keys, labels, strict=True))
        | student_interval(part["value"].to_numpy())._asdict()
        | {"n": len(part)}
        for labels, part in ranks.groupby(keys, sort=False)
    ]
    return pd.DataFrame(rows)


def rank_maxima(ranks: pd.DataFrame) -> pd.DataFrame:
    """Where each definition is highest, and where the rows freeze.

    Returns
    -------
    table with columns size, dimension, definition (also ``half_row_entropy``: where the mean
    entropy of the rows is half of its most), value (logarithm of alpha), low, high, at_edge (share
    of draws that are highest at an end of the grid), n
    """
    alphas, curves = _by_case(ranks)
    rows = []
    for (size, dimension), case in curves.items():
        for definition, draws in case.items():
            found = [highest(alphas, draw) for draw in draws]
            places = np.array([place for place, _ in found])
            edges = float(np.mean([edge for _, edge in found]))
            rows.append((size, dimension, definition, places, edges))
        frozen = _half_entropy(alphas, case["row_rank"], size)
        rows.append((size, dimension, "half_row_entropy", frozen, 0.0))
    return pd.DataFrame(
        [
            {"size": size, "dimension": dimension, "definition": definition}
            | student_interval(places)._asdict()
            | {"at_edge": edges, "n": len(places)}
            for size, dimension, definition, places, edges in rows
        ]
    )


def rank_statistics(ranks: pd.DataFrame) -> Iterable[Statistic]:
    """Where the rank of random attention is highest, and whether anything happens at alpha = 1."""
    alphas, curves = _by_case(ranks)
    size, dimension = next(iter(curves))  # the first case decides
    case = curves[size, dimension]
    record = partial(
        _simulated, model=f"random attention, N {size}, d {dimension}", n=len(case[PRIMARY])
    )
    grid = f"{alphas[0]:g} to {alphas[-1]:g}"
    words = {
        PRIMARY: "exponential entropy of singular values, as published",
        "effective_rank_sigma2": "exponential entropy of squared singular values",
        "participation_ratio": "participation ratio of squared singular values",
        "stable_rank": "stable rank",
        "centred": "exponential entropy of singular values, mean row removed",
        "row_rank": "effective keys of a row",
    }
    for definition in DEFINITIONS:
        found = [highest(alphas, draw) for draw in case[definition]]
        edges = sum(edge for _, edge in found)
        yield record(
            f"log_alpha_of_highest_{definition}",
            interval=student_interval(np.array([place for place, _ in found])),
            method=f"log inverse temperature, in units of 1/sqrt(d), of the highest rank: "
            f"{words[definition]}; Student's interval over draws",
            unit="nats",
            note=f"at an end of the grid ({grid}) in {edges} of {len(found)} draws"
            if edges
            else "",
        )
    at_one = np.array([np.interp(0.0, np.log(alphas), draw) for draw in case[PRIMARY]])
    yield record(
        "log_rank_at_one_over_highest",
        interval=student_interval(np.log(at_one / case[PRIMARY].max(axis=1))),
        method="log effective rank at alpha 1 over the highest; Student's interval over draws",
        unit="nats",
    )
    yield record(
        "log_rank_hottest_over_coldest",
        interval=student_interval(np.log(case[PRIMARY][:, 0] / case[PRIMARY][:, -1])),
        method=f"log effective rank at alpha {alphas[0]:g} over alpha {alphas[-1]:g}; Student's "
        "interval over draws",
        unit="nats",
    )
    frozen = _half_entropy(alphas, case["row_rank"], size)
    predicted = math.log(freezing_alpha(size) / math.sqrt(2))
    yield record(
        "log_alpha_of_half_row_entropy",
        interval=student_interval(frozen),
        method="log inverse temperature at which the mean entropy of the rows is half of its most; "
        "Student's interval over draws",
        unit="nats",
        note=f"a random-energy model of as many levels as tokens puts it at {predicted:.2f} in the "
        "limit of many, whatever the dimension",
    )
    yield from _trends(alphas, curves)


def _trends(alphas: Array, curves: Curves) -> Iterable[Statistic]:
    """How place and sharpness change with the number of tokens, at the dimension that decides."""
    _, dimension = next(iter(curves))
    sizes = {n: case for (n, d), case in curves.items() if d == dimension}
    if len(sizes) < 3:
        return
    places = {
        n: np.array([highest(alphas, draw)[0] for draw in case[PRIMARY]])
        for n, case in sizes.items()
    }
    widths = {
        n: np.log([width_of_rise(alphas, draw) for draw in case[PRIMARY]])
        for n, case in sizes.items()
    }
    frozen = {n: _half_entropy(alphas, case["row_rank"], n) for n, case in sizes.items()}
    model = f"random attention, N {min(sizes)} to {max(sizes)}, d {dimension}"
    for name, found, x, what in (
        (
            "log_alpha_of_highest_against_log_size",
            places,
            np.log,
            "slope of the log inverse temperature of the highest effective rank over log N",
        ),
        (
            "log_width_of_rise_against_log_size",
            widths,
            np.log,
            "slope over log N of the log of the width, in log alpha, from a quarter to three "
            "quarters of the rise of the effective rank",
        ),
        (
            "log_alpha_of_half_row_entropy_against_log_log_size",
            frozen,
            lambda n: np.log(np.log(n)),
            "slope over log log N of the log inverse temperature at half of the row entropy; 0.5 "
            "in a random-energy model",
        ),
    ):
        yield _simulated(
            name,
            slope(found, x),
            sum(map(len, found.values())),
            f"{what}; least squares over draws, Student's interval",
            model=model,
        )


def slope(found: Mapping[int, Array], x: Callable[[Array], Array]) -> Interval:
    """Slope of a straight line through numbers at several sizes, with its 95 % interval.

    >>> slope({1: np.array([1.0, 1.2]), 2: np.array([2.0, 2.2])}, lambda n: n).value
    1.0
    """
    sizes = np.concatenate([np.full(len(values), n, dtype=float) for n, values in found.items()])
    values, abscissa = np.concatenate(list(found.values())), x(sizes)
    away = abscissa - abscissa.mean()
    rise = float(away @ values / (away @ away))
    left = values - values.mean() - rise * away
    freedom = len(values) - 2
    error = math.sqrt(float(left @ left) / freedom / float(away @ away))
    margin = float(student.ppf(0.975, freedom)) * error
    return Interval(rise, rise - margin, rise + margin)


def _by_case(ranks: pd.DataFrame) -> tuple[Array, dict[tuple[int, int], dict[str, Array]]]:
    """Alphas (n,), and every case's curves (draws, n) by definition, in the order of the table."""
    alphas = np.sort(ranks["alpha"].unique())
    curves = {
        (int(size), int(dimension)): {
            str(definition): rows.pivot(index="draw", columns="alpha", values="value").to_numpy()
            for definition, rows in part.groupby("definition", sort=False)
        }
        for (size, dimension), part in ranks.groupby(["size", "dimension"], sort=False)
    }
    return alphas, curves


def _half_entropy(alphas: Array, row_ranks: Array, size: int) -> Array:
    return np.array([crossing(alphas, np.log(draw), math.log(size) / 2) for draw in row_ranks])


# --- panel d


def relaxation_table(walks: pd.DataFrame, *, resamples: int, seed: int) -> pd.DataFrame:
    """Mean logarithms of the relaxation time, the laws through them, and of the mixing time.

    Returns
    -------
    table with columns landscape, arm, cost (relaxation time in steps or in evaluations; mixing:
    the mixing time over it, where it was counted), size, states, value, low, high (decimal
    logarithms), distance (of the stationary distribution, mean), n, exponential, power (the laws
    fitted to the relaxation times, decimal logarithms)
    """
    rows = []
    for (landscape, arm, size), part in walks.groupby(["landscape", "arm", "size"], sort=False):
        times = {
            "steps": 1 / part["gap"],
            "evaluations": part["evaluations"] / part["gap"],
            "mixing": part["mixing"] * part["gap"],
        }
        for cost, time in times.items():
            if time.isna().any():
                continue
            interval = bootstrap_interval(
                np.log10(time).to_numpy(), rng=np.random.default_rng(seed), resamples=resamples
            )
            rows.append(
                {
                    "landscape": landscape,
                    "arm": arm,
                    "cost": cost,
                    "size": size,
                    "states": part["states"].iloc[0],
                    "distance": part["distance"].mean(),
                    "n": len(part),
                }
                | interval._asdict()
            )
    table = pd.DataFrame(rows)
    relaxation = table[table["cost"] != "mixing"]
    for _, part in relaxation.groupby(["landscape", "arm", "cost"]):
        for law, at in _laws(part["size"].to_numpy(dtype=float)).items():
            table.loc[part.index, law] = np.polyval(np.polyfit(at, part["value"], 1), at)
    return table


def _laws(sizes: Array) -> dict[str, Array]:
    """What the logarithm of a time is a straight line of, under either law."""
    return {"power": np.log(sizes), "exponential": sizes}


def power_minus_exponential(sizes: Array, logs: Array) -> float:
    """Akaike's criterion of a power law less that of an exponential, of logarithms of times.

    Positive where ``log t = a + b n`` fits better than ``log t = a + b log n``.

    Parameters
    ----------
    sizes : array, shape (sizes,)
    logs : array, shape (samples, sizes)
    """
    points = np.broadcast_to(sizes, logs.shape).ravel()
    criterion = {
        law: aicc(_squares(at, logs.ravel()), logs.size, parameters=2)
        for law, at in _laws(points).items()
    }
    return criterion["power"] - criterion["exponential"]


def _squares(x: Array, y: Array) -> float:
    """Sum of squared residuals from a straight line."""
    design = np.column_stack([np.ones_like(x), x])
    return float(np.square(y - design @ np.linalg.lstsq(design, y, rcond=None)[0]).sum())


def _rise(sizes: Array, logs: Array) -> float:
    return float(np.polyfit(sizes, logs.mean(axis=0), 1)[0])


def walk_statistics(walks: pd.DataFrame, interval: Callable[..., Interval]) -> Iterable[Statistic]:
    """Gaps against those of local moves, and how relaxation grows with the size."""
    for name, part in walks.groupby("landscape", sort=False):
        landscape = str(name)
        times, costs, distances = (
            {arm: _by_size(rows) for arm, rows in part.assign(of=values).groupby("arm")}
            for values in (
                -np.log(part["gap"]),
                np.log(part["evaluations"] / part["gap"]),
                part["distance"],
            )
        )
        sizes = np.sort(part["size"].unique()).astype(float)
        largest = f"{landscape}, size {sizes[-1]:g}"
        samples = len(times["local"])
        for arm, rival in (
            ("attention", "local"),
            ("row_softmax", "local"),
            ("uniform", "local"),
            ("attention", "uniform"),
        ):
            what = f"{_WORDS[arm]} over that of {_WORDS[rival]}"
            record = partial(_simulated, n=samples, model=largest, unit="nats", controls=(rival,))
            yield record(
                f"log_gap_{arm}_over_{rival}_{landscape}",
                interval((times[rival] - times[arm])[:, -1]),
                method=f"log spectral gap of {what}; mean over landscapes",
            )
            if arm == "uniform":
                continue  # steps cost one energy each, as the rival's
            yield record(
                f"log_gap_per_evaluation_{arm}_over_{rival}_{landscape}",
                interval((costs[rival] - costs[arm])[:, -1]),
                method=f"log spectral gap an energy evaluated, of {what}; mean over landscapes",
            )
        yield from _growth(landscape, sizes, times, costs, interval)
        yield from _mixing(landscape, part, interval)
        yield _simulated(
            f"stationary_distance_row_softmax_{landscape}",
            interval(distances["row_softmax"][:, -1]),
            samples,
            "total variation between the distribution in which row-softmax jumps end up and "
            "Boltzmann's; mean over landscapes",
            model=largest,
        )
        if landscape == "hypercube":
            listing = math.log(2) * sizes[-1]
            yield _simulated(
                f"log_evaluations_attention_over_listing_{landscape}",
                interval(costs["attention"][:, -1] - listing),
                samples,
                "log energies evaluated in a relaxation time of jumps by attention, over those in "
                "listing every state once, after which no walk is needed; mean over landscapes",
                model=largest,
                unit="nats",
            )


_WORDS = {
    "local": "local moves alone",
    "attention": "local moves with jumps by attention",
    "row_softmax": "local moves with uncorrected jumps by attention",
    "uniform": "local moves with uniform jumps",
}
assert set(_WORDS) == set(ARMS)


def _growth(
    landscape: str,
    sizes: Array,
    times: Mapping[str, Array],
    costs: Mapping[str, Array],
    interval: Callable[..., Interval],
) -> Iterable[Statistic]:
    """Exponential or power law of each arm, and the rate of the exponential."""
    measured = {arm: (logs, "steps") for arm, logs in times.items()}
    measured["attention_per_evaluation"] = (costs["attention"], "energies evaluated")
    for arm, (logs, unit) in measured.items():
        record = partial(
            _simulated, n=logs.size, model=f"{landscape}, size {sizes[0]:g} to {sizes[-1]:g}"
        )
        words = f"relaxation time in {unit}, {_WORDS[arm.removesuffix('_per_evaluation')]}"
        found = interval(logs, lambda units: power_minus_exponential(sizes, units))
        fits = f"two-parameter fits of the log {words}, against size; bootstrap over landscapes"
        if arm == "local":  # claimed: exponential
            yield record(
                f"aic_power_minus_exponential_{arm}_{landscape}",
                found,
                method=f"AICc of a power law minus that of an exponential: {fits}",
                note=_missed(found),
            )
        else:  # claimed: a power law
            turned = Interval(-found.value, -found.high, -found.low)
            yield record(
                f"aic_exponential_minus_power_{arm}_{landscape}",
                turned,
                method=f"AICc of an exponential minus that of a power law: {fits}",
                note=_missed(turned),
            )
        yield record(
            f"relaxation_rate_{arm}_{landscape}",
            interval(logs, lambda units: _rise(sizes, units)),
            method=f"slope over size of the log {words}; bootstrap over landscapes",
            unit="nats per unit of size",
        )


def _mixing(
    landscape: str, walks: pd.DataFrame, interval: Callable[..., Interval]
) -> Iterable[Statistic]:
    """How far the relaxation time is from the mixing time, where that was counted."""
    counted = walks.dropna(subset="mixing")
    if counted.empty:
        return
    largest = counted[counted["size"] == counted["size"].max()]
    for arm in ("local", "attention"):
        own = largest[largest["arm"] == arm]
        yield _simulated(
            f"log_mixing_over_relaxation_{arm}_{landscape}",
            interval(np.log(own["mixing"] * own["gap"]).to_numpy()),
            len(own),
            f"log mixing time over relaxation time, {_WORDS[arm]}; mean over landscapes",
            model=f"{landscape}, size {largest['size'].iloc[0]:g}",
            unit="nats",
        )


def _missed(found: Interval) -> str:
    """A remark where a percentile interval misses its value, which a ratio of fits can do."""
    inside = found.low <= found.value <= found.high
    return "" if inside else "resampled landscapes fit worse than the landscapes themselves"


def _by_size(rows: pd.DataFrame) -> Array:
    """Shape (samples, sizes)."""
    return rows.pivot(index="sample", columns="size", values="of").to_numpy()
