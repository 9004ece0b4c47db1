"""From measurements at many temperatures to curves with bands and figure 1's statistics.

Passages are the independent units: every interval is a bootstrap over passages, which met every
temperature, so that a place on the temperature axis (an inflection, an extremum, a crossing) is
found anew in every resample. Where an arm drew several random networks, the draws are the units,
too few to be resampled: numbers are read off each of them, and intervals are Student's.
Temperatures enter as x = ln T, ranks as logarithms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from tgn.files import write_table
from tgn.probing.rank_statistics import are_several, by_draw, count_units, drawn, mean_band
from tgn.statistics import (
    Evidence,
    Interval,
    Statistic,
    aicc,
    bootstrap_interval,
    ends,
    student_interval,
    write_statistics,
)

# How rank is defined, by the suffix of the statistics that use it.
RANKS = {
    "": ("centred", "effective_rank"),
    "_published_definition": ("centred_with_first", "effective_rank_sigma2"),
    "_without_outliers": ("without_outliers", "effective_rank"),
    "_participation_ratio": ("centred", "participation_ratio"),
    "_stable_rank": ("centred", "stable_rank"),
}
PARAMETERS = {"logistic": 4, "hump": 4, "line": 2, "constant": 1}
LENGTHS = np.geomspace(0.5, 5000, 93)  # tokens, among which a correlation length is looked for
FITTED = 9  # temperatures without which four parameters mean nothing
NEAR = 4  # distances up to this are near, the last quarter of them is far


class Reading(NamedTuple):
    """A number read off the mean curves of passages, or the mean of those read off draws."""

    units: tuple[NDArray, ...]  # each (units, ...), the same units in all
    read: Callable[..., float]  # of the mean curves
    method: str
    unit: str = "nats"
    controls: tuple[str, ...] = ()
    note: str = ""
    over: str = "passages"


def summarise(
    *,
    tables: Sequence[str],
    correlations: Sequence[str],
    dimensions: Sequence[str],
    maps: Sequence[str],
    curves: str | Path,
    correlation: str | Path,
    dimension: str | Path,
    attention: str | Path,
    fits: str | Path,
    statistics: str | Path,
    evidence: Mapping[str, Evidence],
    resamples: int,
    seed: int,
) -> None:
    """Write the tables of panels c and e of figure 1, and their statistics.

    Parameters
    ----------
    tables, correlations, dimensions, maps
        Files ``{model}/{arm}.{part}.*`` of :func:`tgn.probing.temperature.measure_arm`.
    curves
        Written: mean and 95 % band of every quantity by model, arm, definition, layer and
        temperature; ``perplexity`` and, where the correlation decays, ``correlation_length``.
    correlation
        Written: the two-point function by model, arm, temperature and distance, with ``null``, its
        mean over all pairs of tokens of a passage, which it would be if distance did not matter.
    dimension
        Written: intrinsic dimension by model, arm, layer and sample, with the number of points
        and the number of channels, ``width``.
    attention
        Written: the attention maps of all models.
    fits
        Written: four shapes fitted to the logarithm of rank after the last block.
    statistics
        Written: one record a statistic and model.
    evidence
        ``real`` or ``simulated``, for each model.
    """
    measured, pairs, clouds, weights = (
        _joined(paths) for paths in (tables, correlations, dimensions, maps)
    )
    draws = {"resamples": resamples, "seed": seed}
    lengths = length_table(pairs, **draws)
    write_table(curves, pd.concat([band_table(measured, **draws), lengths], ignore_index=True))
    write_table(correlation, correlation_table(pairs, **draws))
    write_table(dimension, dimension_table(clouds, **draws))
    write_table(attention, weights[weights["arm"] == "intact"].drop(columns="arm"))
    write_table(fits, fit_table(measured))
    records = [
        record
        for model, kind in evidence.items()
        for record in model_statistics(
            *(table[table["model"] == model] for table in (measured, pairs, clouds)),
            model=model, evidence=kind, **draws,
        )
    ]  # fmt: skip
    write_statistics(statistics, records)


def _joined(paths: Sequence[str]) -> pd.DataFrame:
    """Tables of arms and their parts; those without rows would lend others their types."""
    found = [_labelled(path) for path in paths]
    return pd.concat([table for table in found if len(table)], ignore_index=True)


def _labelled(path: str) -> pd.DataFrame:
    """A table with its model and arm, which its path names."""
    place = Path(path)
    return pd.read_parquet(place).assign(model=place.parent.name, arm=place.name.split(".")[0])


def by_temperature(
    rows: pd.DataFrame, quantity: str, *, definition: str = "", layer: int | None = None
) -> NDArray:
    """One quantity of one arm as an array (units, temperatures), in order of temperature.

    The layer is the last one unless named.
    """
    chosen = rows[(rows["quantity"] == quantity) & (rows["definition"] == definition)]
    chosen = chosen[chosen["layer"] == (chosen["layer"].max() if layer is None else layer)]
    return _units(chosen, "temperature")


def _units(rows: pd.DataFrame, axis: str) -> NDArray:
    """Values (units, axis): passages, or draws where there are several."""
    values = rows.pivot(index="passage", columns=axis, values="value")
    return by_draw(values.to_numpy(), drawn(rows))


def _over(rows: pd.DataFrame) -> str:
    """What the units of an arm are."""
    return "draws" if are_several(drawn(rows)) else "passages"


def band_table(measured: pd.DataFrame, *, resamples: int, seed: int) -> pd.DataFrame:
    """Mean and 95 % band over passages or draws, and perplexity from the loss.

    Returns
    -------
    pandas.DataFrame
        Columns model, arm, definition, quantity, layer, temperature, value, ci_low, ci_high, n.
    """
    parts = []
    for (model, arm, quantity), rows in measured.groupby(["model", "arm", "quantity"], sort=False):
        part = _banded(rows, ["definition", "layer", "temperature"], resamples, seed)
        parts.append(part.assign(model=model, arm=arm, quantity=quantity))
    bands = pd.concat(parts, ignore_index=True)
    losses = bands[bands["quantity"] == "loss"].assign(quantity="perplexity")
    exponential = losses.assign(**np.exp(losses[["value", "ci_low", "ci_high"]]))
    return pd.concat([bands, exponential], ignore_index=True)


def _banded(rows: pd.DataFrame, keys: Sequence[str], resamples: int, seed: int) -> pd.DataFrame:
    """Mean and band at every combination of keys that occurs, all from the same resamples."""
    values = rows.pivot(index="passage", columns=keys, values="value")
    draws, rng = drawn(rows), np.random.default_rng([seed, 4])
    band = mean_band(values.to_numpy(), draws, rng=rng, resamples=resamples)
    n = count_units(draws)
    columns = {"value": band.value, "ci_low": band.low, "ci_high": band.high, "n": n}
    return values.columns.to_frame(index=False).assign(**columns)


def correlation_table(pairs: pd.DataFrame, *, resamples: int, seed: int) -> pd.DataFrame:
    """Two-point functions with their bands, and their mean over all pairs as ``null``."""
    parts = []
    for (model, arm), rows in pairs.groupby(["model", "arm"], sort=False):
        part = _banded(rows, ["temperature", "distance"], resamples, seed)
        part["null"] = part["temperature"].map(rows.groupby("temperature")["null"].mean())
        parts.append(part.assign(model=model, arm=arm))
    return pd.concat(parts, ignore_index=True)


def length_table(pairs: pd.DataFrame, *, resamples: int, seed: int) -> pd.DataFrame:
    """Correlation lengths of every arm, of the temperatures at which there is a decay.

    There is one where the two-point function is higher near than far, beyond doubt; nothing is
    fitted elsewhere. The columns are those of `band_table`, the layer -1.
    """
    rng = np.random.default_rng([seed, 5])
    rows = []
    for labels, part in pairs.groupby(["model", "arm", "temperature"], sort=False):
        units, distances = _units(part, "distance"), np.sort(part["distance"].unique())
        over = _over(part)
        if _interval((units,), decay, over, rng, resamples).low <= 0:
            continue
        length = partial(correlation_length, distances)
        found = _interval((units,), length, over, rng, resamples)
        rows.append((*labels, *found, len(units)))
    columns = ["model", "arm", "temperature", "value", "ci_low", "ci_high", "n"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(definition="", quantity="correlation_length", layer=-1)


def _interval(
    units: tuple[NDArray, ...],
    read: Callable[..., float],
    over: str,
    rng: np.random.Generator,
    resamples: int,
) -> Interval:
    """Student's over what is read off each draw, else a bootstrap of the mean over passages."""
    if over == "draws":
        return student_interval([read(*draw) for draw in zip(*units, strict=True)])
    return bootstrap_interval(units, _mean(read), rng=rng, resamples=resamples)


def _mean(read: Callable[..., float]) -> Callable[..., float]:
    """The same reading, of the means over units."""
    return lambda *units: read(*(np.mean(part, axis=0) for part in units))


def decay(curve: NDArray) -> float:
    """How much higher a two-point function is near (up to `NEAR`) than far (its last quarter)."""
    return float(curve[:NEAR].mean() - curve[-(len(curve) // 4) :].mean())


def correlation_length(distances: NDArray, curve: NDArray) -> float:
    """Length xi of the best a + b exp(-r / xi) with b above zero, in tokens.

    Offset and amplitude are solved for at each of `LENGTHS`. The longest of these is the answer
    where no length fits best: a flat curve, or one that falls as a straight line.
    """
    basis = np.exp(-distances / LENGTHS[:, None])
    squares, amplitude = _projected(basis, curve)
    squares[amplitude <= 0] = np.inf
    return float(LENGTHS[squares.argmin()] if np.isfinite(squares).any() else LENGTHS[-1])


def _projected(basis: NDArray, curve: NDArray) -> tuple[NDArray, NDArray]:
    """Residual squares and amplitudes of offset + amplitude x basis, for many bases."""
    centred = basis - basis.mean(axis=1, keepdims=True)
    power = (centred**2).sum(axis=1)
    product = centred @ (curve - curve.mean())
    amplitude = np.divide(product, power, out=np.zeros_like(power), where=power > 1e-9)
    squares = ((curve - curve.mean()) ** 2).sum() - amplitude * product
    return np.maximum(squares, 0), amplitude


def dimension_table(clouds: pd.DataFrame, *, resamples: int, seed: int) -> pd.DataFrame:
    """Intrinsic dimension and its band over passages, by model, arm, layer and sample."""
    keys = ["model", "arm", "layer", "sample", "width"]
    parts = []
    for labels, rows in clouds.groupby(keys, sort=False):
        interval = bootstrap_interval(
            _cloud(rows), _mean(_dimension), rng=np.random.default_rng([seed, 6]),
            resamples=resamples,
        )  # fmt: skip
        parts.append((*labels, *interval, int(rows["points"].sum())))
    return pd.DataFrame(parts, columns=[*keys, "value", "ci_low", "ci_high", "n"])


def _cloud(rows: pd.DataFrame) -> NDArray:
    """Points and sums of their inverse dimensions, (passages, 2)."""
    return rows.sort_values("passage")[["points", "value"]].to_numpy(dtype=float)


def _dimension(totals: NDArray) -> float:
    return float(totals[0] / totals[1])


def shape_bases(x: NDArray) -> dict[str, tuple[NDArray, NDArray]]:
    """Centres and widths, (n, 2), of the logistic steps and humps to fit, and their curves.

    A hump has its top well inside the range; one that only rises or falls would be a step.
    """
    span = x[-1] - x[0]
    widths = np.geomspace((x[1] - x[0]) / 2, span, 18)
    steps = np.array([(c, w) for c in np.linspace(x[0], x[-1], 81) for w in widths])
    inner = np.linspace(x[0] + span / 8, x[-1] - span / 8, 61)
    humps = np.array([(c, w) for c in inner for w in widths])
    at = (x - steps[:, :1]) / steps[:, 1:]
    bump = (x - humps[:, :1]) / humps[:, 1:]
    return {
        "logistic": (steps, 1 / (1 + np.exp(-at))),
        "hump": (humps, np.exp(-(bump**2) / 2)),
        "line": (np.array([[0.0, 1.0]]), x[None]),
    }


def fit_shapes(
    bases: Mapping[str, tuple[NDArray, NDArray]], curve: NDArray
) -> dict[str, dict[str, float]]:
    """Least-squares fits of a step, a hump, a line and a constant to one curve.

    Returns
    -------
    dict
        By shape: ``aicc`` (see :func:`tgn.statistics.aicc`), ``centre``, ``width``, ``offset``,
        ``amplitude``, ``r2``.
    """
    n, total = len(curve), ((curve - curve.mean()) ** 2).sum()
    flat = {"centre": 0.0, "width": 1.0, "offset": float(curve.mean()), "amplitude": 0.0, "r2": 0.0}
    found = {"constant": {"aicc": aicc(total, n, 1), **flat}}
    for shape, (places, basis) in bases.items():
        squares, amplitude = _projected(basis, curve)
        best = int(squares.argmin())
        found[shape] = {
            "aicc": aicc(squares[best], n, PARAMETERS[shape]),
            "centre": float(places[best, 0]),
            "width": float(places[best, 1]),
            "offset": float(curve.mean() - amplitude[best] * basis[best].mean()),
            "amplitude": float(amplitude[best]),
            "r2": float(1 - squares[best] / total) if total else 0.0,
        }
    return found


def step_advantage(fits: Mapping[str, Mapping[str, float]]) -> float:
    """AICc of the best rival minus that of the logistic step: above zero where the step wins."""
    rivals = [fit["aicc"] for shape, fit in fits.items() if shape != "logistic"]
    return min(rivals) - fits["logistic"]["aicc"]


def fit_table(measured: pd.DataFrame) -> pd.DataFrame:
    """`fit_shapes` of the mean logarithm of rank after the last block, under every definition."""
    rows = []
    for (model, arm), part in measured.groupby(["model", "arm"], sort=False):
        if part["temperature"].nunique() < FITTED:
            continue
        bases = shape_bases(np.log(np.sort(part["temperature"].unique())))
        for definition, quantity in RANKS.values():
            curve = np.log(by_temperature(part, quantity, definition=definition)).mean(axis=0)
            named = {"model": model, "arm": arm, "definition": definition, "quantity": quantity}
            rows += [
                {**named, "shape": shape, **fit} for shape, fit in fit_shapes(bases, curve).items()
            ]
    return pd.DataFrame(rows)


def smoothed(curve: NDArray, derivative: int = 0) -> NDArray:
    """Cubic Savitzky-Golay smoothing over seven points (of few points: all), or a derivative."""
    return _smoother(len(curve), derivative) @ curve


@cache
def _smoother(points: int, derivative: int) -> NDArray:
    """The smoothing as a matrix, which many resamples share."""
    window = min(7, points - 1 + points % 2)
    return savgol_filter(np.eye(points), window, min(3, window - 1), deriv=derivative, axis=0)


def top(x: NDArray, curve: NDArray) -> float:
    """Where an evenly sampled curve is highest, between its points by a parabola.

    >>> top(np.arange(5.0), -((np.arange(5.0) - 1.8) ** 2)).__round__(6)
    1.8
    """
    at = int(curve.argmax())
    if at in (0, len(curve) - 1):
        return float(x[at])
    below, here, above = curve[at - 1 : at + 2]
    bend = below - 2 * here + above
    return float(x[at] + (x[1] - x[0]) * (0.5 * (below - above) / bend if bend < 0 else 0))


def highest(x: NDArray, curve: NDArray) -> float:
    """Where the smoothed curve is highest."""
    return top(x, smoothed(curve))


def steepest(x: NDArray, curve: NDArray) -> float:
    """Where the smoothed curve rises or falls most steeply: its inflection."""
    return top(x, np.abs(smoothed(curve, derivative=1)))


def crossing(x: NDArray, curve: NDArray) -> float:
    """Where a curve passes through zero nearest to x = 0.

    If it nowhere does: the end of the range where it comes nearer to zero, beyond which a crossing
    would lie.

    >>> crossing(np.array([-1.0, 0.0, 1.0]), np.array([-3.0, -1.0, 1.0]))
    0.5
    """
    before, after = curve[:-1], curve[1:]
    at = np.flatnonzero(before * after <= 0)
    gap = np.where(after == before, 1, after - before)[at]
    found = x[at] - before[at] / gap * (x[1] - x[0])
    if not len(found):
        return float(x[0] if abs(curve[0]) < abs(curve[-1]) else x[-1])
    return float(found[np.abs(found).argmin()])


def model_statistics(
    measured: pd.DataFrame,
    pairs: pd.DataFrame,
    clouds: pd.DataFrame,
    *,
    model: str,
    evidence: Evidence,
    resamples: int,
    seed: int,
) -> list[Statistic]:
    """The statistics of panels c and e of figure 1 for one model."""
    arms = {str(arm): part for arm, part in measured.groupby("arm")}
    rng = np.random.default_rng([seed, 7])
    readings = {
        **_ranks(arms),
        **_growth(arms["intact"]),
        **_information(arms["intact"]),
        **_evenness(arms),
        **_correlations({str(arm): part for arm, part in pairs.groupby("arm")}),
        **_dimensions(clouds[clouds["arm"] == "intact"]),
    }
    return [
        _record(name, reading, model=model, evidence=evidence, rng=rng, resamples=resamples)
        for name, reading in readings.items()
    ]


def _record(
    name: str,
    reading: Reading,
    *,
    model: str,
    evidence: Evidence,
    rng: np.random.Generator,
    resamples: int,
) -> Statistic:
    kind = "Student's" if reading.over == "draws" else "bootstrap"
    interval = _interval(reading.units, reading.read, reading.over, rng, resamples)
    note = reading.note
    if not interval.low <= interval.value <= interval.high:
        note += "; " * bool(note) + "a place that jumps between resamples: the interval misses it"
    return Statistic(
        id=f"fig1.{name}",
        **ends(interval),
        n=len(reading.units[0]),
        unit=reading.unit,
        method=f"{reading.method}; 95 % {kind} interval over {reading.over}",
        model=model,
        evidence=evidence,
        controls=reading.controls,
        note=note,
    )


def _ranks(arms: Mapping[str, pd.DataFrame]) -> dict[str, Reading]:
    """The shape of rank against temperature, its inflection, its maximum, and the loss."""
    intact = arms["intact"]
    x = _x(intact)
    bases = shape_bases(x)
    loss = by_temperature(intact, "loss")
    made = {
        "loss_log_temperature_of_minimum": Reading(
            (loss,), lambda curve: highest(x, -curve), "ln T of the lowest loss, smoothed", unit=""
        )
    }
    for suffix, (definition, quantity) in RANKS.items():
        log_rank = np.log(by_temperature(intact, quantity, definition=definition))
        what = f"ln {quantity} ({definition}) after the last block"
        fits = fit_shapes(bases, log_rank.mean(axis=0))
        made |= {
            f"rank_step_aic{suffix}": Reading(
                (log_rank,),
                lambda curve: step_advantage(fit_shapes(bases, curve)),
                f"{what} against ln T: AICc of the best of hump, line and constant minus that of "
                "a logistic step, on the mean over passages",
                unit="",
                note=_shares(fits),
            ),
            f"rank_log_temperature_of_inflection{suffix}": Reading(
                (log_rank,),
                lambda curve: steepest(x, curve),
                f"ln T where {what} is steepest",
                unit="",
            ),
            f"rank_log_temperature_of_maximum{suffix}": Reading(
                (log_rank,),
                lambda curve: highest(x, curve),
                f"ln T where {what} is highest",
                unit="",
            ),
            f"rank_inflection_minus_loss_minimum{suffix}": Reading(
                (log_rank, loss),
                lambda curve, losses: steepest(x, curve) - highest(x, -losses),
                f"ln T where {what} is steepest minus ln T of the lowest loss",
                unit="",
            ),
        }
        for arm, rows in arms.items():
            logs = np.log(by_temperature(rows, quantity, definition=definition))
            made[f"rank_hot_minus_cold{suffix}" + _named(arm)] = Reading(
                (logs,),
                lambda curve: float(curve[-1] - curve[0]),
                f"{what}: at the highest temperature minus at the lowest{_words(arm)}",
                over=_over(rows),
            )
    return made


def _x(rows: pd.DataFrame) -> NDArray:
    return np.log(np.sort(rows["temperature"].unique()))


def _named(arm: str) -> str:
    return "" if arm == "intact" else f"_{arm}"


def _words(arm: str) -> str:
    return "" if arm == "intact" else f", {arm.replace('_', ' ')}"


def _shares(fits: Mapping[str, Mapping[str, float]]) -> str:
    """What each shape explains, in words."""
    parts = [f"{shape} {fits[shape]['r2']:.3f}" for shape in PARAMETERS if shape != "constant"]
    return f"share of the variance over T explained: {', '.join(parts)}"


def _growth(intact: pd.DataFrame) -> dict[str, Reading]:
    """How a small change of one token grows to the last block: zero is the edge of chaos."""
    x = _x(intact)
    here = int(np.abs(x).argmin())
    made: dict[str, Reading] = {}
    for suffix, quantity, words in (
        ("", "growth", "relative to the states"),
        ("_absolute", "growth_absolute", "in absolute size"),
    ):
        growth = by_temperature(intact, quantity)
        what = f"logarithmic growth of a small change of one token to the last block, {words}"
        made |= {
            f"growth_at_one{suffix}": Reading(
                (growth,), lambda curve: float(curve[here]), f"{what}, at T = 1"
            ),
            f"growth_hot_minus_cold{suffix}": Reading(
                (growth,),
                lambda curve: float(curve[-1] - curve[0]),
                f"{what}: at the highest temperature minus at the lowest",
            ),
            f"growth_log_temperature_of_zero{suffix}": Reading(
                (growth,),
                lambda curve: crossing(x, curve),
                f"ln T where the {what} is zero, nearest to T = 1",
                unit="",
                note=_crossed(x, growth.mean(axis=0)),
            ),
        }
    return made


def _crossed(x: NDArray, curve: NDArray) -> str:
    low, high = curve.min(), curve.max()
    found = f"between {low:.3g} and {high:.3g} nats over temperatures"
    return found if low <= 0 <= high else f"{found}: never zero, so that the nearer end is given"


def _information(intact: pd.DataFrame) -> dict[str, Reading]:
    """Where most is transmitted, under each meaning of the word."""
    x = _x(intact)
    here = int(np.abs(x).argmin())
    kept = {f"lag{lag}": by_temperature(intact, f"token_information_lag{lag}") for lag in (0, 1)}
    null = by_temperature(intact, "token_information_shuffled")
    found = {
        "channel_information": (
            _over_layers(intact, "channel_information"),
            "information of the attention matrices, mean over heads and layers",
        ),
        "token_information": (
            kept["lag0"],
            "bound on the information of the last state about its own input",
        ),
        "previous_token_information": (
            kept["lag1"],
            "bound on the information of the last state about the input before its own",
        ),
    }
    made = {
        f"{name}_log_temperature_of_maximum": Reading(
            (units,), lambda curve: highest(x, curve), f"ln T of the highest {words}", unit=""
        )
        for name, (units, words) in found.items()
    }
    made["token_information_minus_shuffled"] = Reading(
        (kept["lag0"] - null,),
        lambda curve: float(curve[here]),
        "bound on the information of the last state about its own input, at T = 1, minus the same "
        "about permuted inputs",
        controls=("inputs permuted",),
    )
    return made


def _over_layers(rows: pd.DataFrame, quantity: str) -> NDArray:
    """Mean over layers, (units, temperatures)."""
    chosen = rows[rows["quantity"] == quantity]
    mean = chosen.groupby(["passage", "temperature", "draw"])["value"].mean().reset_index()
    return _units(mean, "temperature")


def _evenness(arms: Mapping[str, pd.DataFrame]) -> dict[str, Reading]:
    """How even attention is at both ends of the temperatures: 0 reads one token, 1 all alike."""
    return {
        f"evenness_{end}" + _named(arm): Reading(
            (_over_layers(rows, "evenness"),),
            lambda curve, at=at: float(curve[at]),
            f"entropy of attention over that of even attention, mean over heads and layers, at the "
            f"{words} temperature{_words(arm)}",
            unit="",
            over=_over(rows),
        )
        for arm, rows in arms.items()
        for end, at, words in (("cold", 0, "lowest"), ("hot", -1, "highest"))
    }


def _correlations(arms: Mapping[str, pd.DataFrame]) -> dict[str, Reading]:
    """How the correlation of states falls with distance at T = 1."""
    made: dict[str, Reading] = {}
    for arm, rows in arms.items():
        near_one = rows["temperature"].iloc[np.abs(np.log(rows["temperature"])).argmin()]
        own = rows[rows["temperature"] == near_one]
        units, distances = _units(own, "distance"), np.sort(own["distance"].unique())
        made[f"correlation_decay{_named(arm)}"] = Reading(
            (units,),
            decay,
            f"two-point function of the last states at T = 1: mean over distances to {NEAR} minus "
            f"over the last quarter of them{_words(arm)}",
            unit="",
            over=_over(own),
        )
        if arm == "intact":
            made["correlation_log_length"] = Reading(
                (units,),
                lambda curve, at=distances: float(np.log(correlation_length(at, curve))),
                "ln of the length, in tokens, of an exponential decay to a constant, fitted to the "
                "two-point function of the last states at T = 1",
                unit="",
                note=f"distances to {distances[-1]} tokens; nothing above {LENGTHS[-1]:.0f}",
            )
    return made


def _dimensions(clouds: pd.DataFrame) -> dict[str, Reading]:
    """Intrinsic dimension against the number of channels and against three references."""
    layers = np.sort(clouds["layer"].unique())
    shown = {"input": layers[0], "middle": layers[len(layers) // 2], "final": layers[-1]}
    made: dict[str, Reading] = {}
    for place, layer in shown.items():
        here = clouds[clouds["layer"] == layer]
        units = {str(name): _cloud(part) for name, part in here.groupby("sample")}
        width, points = int(here["width"].iloc[0]), int(units["states"][:, 0].sum())
        where = f"of the states at {place} layer {layer}, {points} points"
        for sample, cloud in units.items():
            suffix = "" if sample == "states" else f"_{sample}"
            made[f"dimension_log_ratio_{place}{suffix}"] = Reading(
                (cloud,),
                lambda totals, width=width: float(np.log(_dimension(totals) / width)),
                f"ln of intrinsic dimension (maximum likelihood) over {width} channels, {where}"
                + ("" if sample == "states" else f", of its reference: {sample}"),
            )
        for sample in ("gaussian", "white"):
            made[f"dimension_log_states_minus_{sample}_{place}"] = Reading(
                (units["states"], units[sample]),
                lambda own, other: float(np.log(_dimension(own) / _dimension(other))),
                f"ln of intrinsic dimension {where}, over that of as many points of its "
                f"reference: {sample}",
                controls=(sample,),
            )
    return made
