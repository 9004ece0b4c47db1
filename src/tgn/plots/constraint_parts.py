"""What the panels of the figures of constraints read, and what they are drawn with.

Published values are grey and hollow, crossed where they were measured wrongly; ours are filled:
pretrained models in blue, runs of the controlled family in orange.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from matplotlib.transforms import ScaledTranslation
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from tgn.constraints.associations import Undecidable
from tgn.constraints.controlled import groups
from tgn.constraints.pairs import SWEEP
from tgn.constraints.tables import FINAL, SINGLE, main_prompts, slug
from tgn.plots.style import BLUE, GREY, ORANGE, Look, curve
from tgn.probing.turning import MEAN
from tgn.statistics import Band, Statistic

Array = NDArray[np.float64]
Rows = list[pd.DataFrame]

CONTROLLED = "controlled"  # the family of this project's own runs
PUBLISHED = Look("published", GREY)
PUBLISHED_A = Look("published (G-a: block $L - 1$)", GREY)
PUBLISHED_B = Look("published (G-b: last block)", GREY)
OURS = Look("measured here", BLUE)
OWN = Look("controlled family, a run each", ORANGE)
GAIN = r"gain of the last block, $|x_L| / |x_{L-1}|$"
BLOCKS = r"parameters of the blocks, about $12\,L\,d^2$"
SERIES = {
    "layers": Look("depth alone differs (mean over seeds)", ORANGE),
    "width": Look("width alone differs", ORANGE, "--"),
    "rho": Look("heads alone differ (mean over seeds)", ORANGE),
}

# Numbers written on a logarithmic axis, by what it covers.
STEPS: tuple[tuple[float, tuple[float, ...]], ...] = (
    (2.5, (1, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2, 5, 6, 7, 8, 9)),
    (10, (1, 1.2, 1.5, 2, 3, 5, 7)),
    (200, (1, 2, 5)),
    (np.inf, (1,)),
)


class Seen(NamedTuple):
    """Everything that a panel may draw.

    Attributes
    ----------
    models
        One row a model, as :func:`tgn.constraints.tables.model_table` makes it.
    gains, spectra, sheaf, turning
        Tables of :mod:`tgn.constraints.tables`.
    numbers
        Every statistic.
    reasons
        Records (id, model, reason) of what could not be decided.
    published
        Columns table, model, quantity, value (text), sd, low, high, valid, note.
    labels
        Names for readers, of those models that have one.
    shown
        The model that is drawn in detail.
    twins
        Pairs of a base model and the model tuned from it.
    """

    models: pd.DataFrame
    gains: pd.DataFrame
    spectra: pd.DataFrame
    sheaf: pd.DataFrame
    turning: pd.DataFrame
    numbers: Sequence[Statistic]
    reasons: Sequence[Mapping[str, str]]
    published: pd.DataFrame
    labels: Mapping[str, str]
    shown: str
    twins: Sequence[tuple[str, str]]


# --- reading -------------------------------------------------------------------------------------


def of(seen: Seen, table: str, quantity: str, model: str | None = None) -> pd.DataFrame:
    """Published numbers of one kind: model, value, low, high, valid, note."""
    rows = seen.published
    rows = rows[(rows["table"] == table) & (rows["quantity"] == quantity)]
    rows = rows if model is None else rows[rows["model"] == model]
    return (
        rows[["model", "low", "high", "note"]]
        .assign(value=pd.to_numeric(rows["value"], errors="coerce"), valid=rows["valid"] == "yes")
        .reset_index(drop=True)
    )


def printed(seen: Seen, table: str, quantity: str, model: str) -> float:
    """One published number."""
    return float(of(seen, table, quantity, model)["value"].iloc[0])


def published_gains(seen: Seen) -> pd.DataFrame:
    """Published gains of the sweep and of the hunt (G-a), and what the networks are built like.

    A model of both is that of the sweep, which has more prompts.
    """
    parts = []
    for table in ("sweep", "hunt"):
        rows = of(seen, table, "gain_published_a").set_index("model")
        for name in ("layers", "heads", "head_dim", "rho"):
            rows[name] = of(seen, table, name).set_index("model")["value"]
        labs = seen.published[seen.published["table"] == table]
        labs = labs[labs["quantity"] == "lab"].set_index("model")["value"]
        parts.append(rows.assign(table=table, lab=labs).reset_index())
    parts[0]["lab"] = SWEEP[0]
    return pd.concat(parts, ignore_index=True).drop_duplicates("model")


def published_last_gains(seen: Seen) -> pd.DataFrame:
    """Published gains of last blocks (G-b), of the benchmark, with the lab of each model."""
    labs = seen.published[seen.published["table"] == "benchmark"]
    labs = labs[labs["quantity"] == "lab"].set_index("model")["value"]
    rows = of(seen, "benchmark", "gain_published_b")
    return rows.assign(lab=rows["model"].map(labs))


def measured(seen: Seen, controlled: bool = False) -> pd.DataFrame:
    """Our models that have a gain, with value, low and high of it."""
    rows = seen.models[np.isfinite(seen.models["log_gain"].astype(float))]
    rows = rows[(rows["family"] == CONTROLLED) == controlled].reset_index(drop=True)
    ends = {"value": "log_gain", "low": "log_gain_low", "high": "log_gain_high"}
    return rows.assign(**{end: np.exp(rows[name]) for end, name in ends.items()})


def curves(table: pd.DataFrame, model: str, quantity: str) -> Array:
    """One quantity of one model, shape (prompts, blocks); prompts of controls are left out."""
    rows = table[
        (table["model"] == model) & (table["quantity"] == quantity) & (table["layer"] >= 1)
    ]
    rows = main_prompts(rows) if "category" in rows else rows
    return rows.pivot(index="prompt", columns="layer", values="value").to_numpy(float)


def median_band(values: ArrayLike) -> Band:
    """Median over axis 0, between the order statistics that hold it with at least 95 %.

    Without ends where there are too few (fewer than six) or one is not finite.

    >>> [end.tolist() for end in median_band(np.arange(9.0)[:, None])]
    [[4.0], [1.0], [7.0]]
    """
    ordered = np.sort(np.asarray(values, float), axis=0)
    count = len(ordered)
    unknown = np.full(ordered.shape[1:], np.nan)
    if not count:
        return Band(unknown, unknown, unknown)
    rank = int(binom.ppf(0.025, count, 0.5))  # from 1, of the lower end
    ends = (ordered[rank - 1], ordered[count - rank]) if rank else (unknown, unknown)
    whole = np.isfinite(ordered).all(axis=0)
    return Band(*(np.where(whole, end, np.nan) for end in (np.median(ordered, axis=0), *ends)))


def by_category(seen: Seen, model: str, quantity: str, names: Sequence[str]) -> pd.DataFrame:
    """A gain of one model's last block by category: its median, and an interval if it has one."""
    rows = seen.gains[(seen.gains["model"] == model) & (seen.gains["quantity"] == quantity)]
    rows = rows[rows["layer"] == rows["layer"].max()]
    found = []
    for name in names:
        record = number(seen, f"log_gain_final_{slug(name)}", model) if quantity == FINAL else None
        if record:
            ends = np.exp(ends_of(record))
        else:
            own = rows.loc[rows["category"] == name, "value"]
            ends = np.array([np.exp(np.log(own).median()), np.nan, np.nan])
        found.append((model, *ends, name))
    return pd.DataFrame(found, columns=["model", "value", "low", "high", "note"])


def turning_shares(seen: Seen, controlled: bool) -> pd.DataFrame:
    """L* over L of our models: of the mean curve, reaching as far as those of prompts do.

    The ends are order statistics of the prompts' own L*, widened to hold that of the mean curve.
    """
    rows = seen.turning[
        (seen.turning["definition"] == "steepest_trace") & seen.turning["status"].isin(SINGLE)
    ]
    found = []
    for _, model in seen.models[(seen.models["family"] == CONTROLLED) == controlled].iterrows():
        own = rows[rows["model"] == model["model"]]
        mean = own["prompt"].astype(str) == MEAN
        if mean.any():
            layer = float(own.loc[mean, "layer"].iloc[0])
            _, low, high = median_band(own.loc[~mean, "layer"].to_numpy())
            ends = np.array([layer, np.fmin(layer, low), np.fmax(layer, high)])
            shares = ends / float(model["layers"])
            found.append((model["model"], model["layers"], model["heads"], *shares))
    return pd.DataFrame(found, columns=["model", "layers", "heads", "value", "low", "high"])


def number(seen: Seen, id: str, model: str | None = None) -> Statistic | None:
    """A statistic by its name, if it was decided; over models if none is named."""
    for record in seen.numbers:
        if record.id == f"constraints.{id}" and model in (None, record.model):
            return record
    return None


def ends_of(record: Statistic) -> Array:
    """Value, lower and upper end, which are NaN where there is no interval."""
    return np.array([record.value, record.ci_low, record.ci_high], float)


def said(seen: Seen, id: str, words: str, model: str | None = None) -> str:
    """A statistic in words, or why there is none."""
    record = number(seen, id, model)
    if record is None:
        for row in seen.reasons:
            if row["id"] == f"constraints.{id}" and model in (None, row["model"]):
                return f"{words}: {row['reason']}"
        return f"{words}: not measured"
    if record.ci_low is None:
        return f"{words}: {record.value:.3g}"
    return f"{words}: {record.value:.2f} [{record.ci_low:.2f}, {record.ci_high:.2f}]"


def name_of(seen: Seen, model: str) -> str:
    """What readers know a model by: of those that are in no configuration, as published."""
    rows = seen.published[seen.published["quantity"] == "name"]
    return seen.labels.get(model) or rows.set_index("model")["value"].get(model, model)


def blocks_of(layers: pd.Series, width: pd.Series) -> pd.Series:
    """Parameters of the blocks of a network of usual proportions, 12 L d^2."""
    return 12 * layers.astype(float) * width.astype(float) ** 2


def range_of(values: Sequence[float] | pd.Series, room: float = 1.15) -> tuple[float, float]:
    """The ends of positive numbers, with room beyond, as a factor."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    return float(known.min() / room), float(known.max() * room)


# --- drawing -------------------------------------------------------------------------------------


def points(
    axes: Axes,
    against: ArrayLike,
    rows: pd.DataFrame,
    look: Look,
    *,
    quantity: str,
    along: str = "x",
    marker: str = "o",
    filled: bool | None = None,
) -> pd.DataFrame:
    """Values with their intervals, upwards over ``against``; or, ``along`` y, to the right.

    Parameters
    ----------
    rows
        Columns model, value, low, high, and ``valid`` and ``note`` if published.
    look
        Without a label they do not stand in the legend.
    filled
        Unless said otherwise, what is ours.

    Returns
    -------
    pandas.DataFrame
        What was drawn, see :func:`numbers`.
    """
    published = "valid" in rows
    filled = not published if filled is None else filled
    known = np.isfinite(rows["value"].to_numpy(float))
    places, rows = np.asarray(against, float)[known], rows[known]
    valid = rows["valid"].to_numpy(bool) if published else np.full(len(rows), True)
    ends = rows[["value", "low", "high"]].to_numpy(float)
    reach = np.abs(ends[:, 1:] - ends[:, :1]).T  # to the lower end and to the upper one
    for chosen, sign, suffix in ((valid, marker, ""), (~valid, "x", ", measured wrongly")):
        if not chosen.any():
            continue
        place, value, error = places[chosen], ends[chosen, 0], np.nan_to_num(reach[:, chosen])
        upwards = {"x": place, "y": value, "yerr": error}
        sideways = {"x": value, "y": place, "xerr": error}
        axes.errorbar(
            **(upwards if along == "x" else sideways), color=look.color, marker=sign, markersize=5,
            markerfacecolor=look.color if filled else "white", linestyle="none", elinewidth=1,
            label=look.label + suffix if look.label else None, zorder=3 if filled else 2,
        )  # fmt: skip
    return numbers(places, rows, quantity=quantity, source="published" if published else "ours")


def profile(
    axes: Axes,
    table: pd.DataFrame,
    model: str,
    quantity: str,
    look: Look,
) -> Rows:
    """One quantity of one model over its depth, with an interval over prompts."""
    values = curves(table, model, quantity)
    if not values.size:
        return []
    found = median_band(values)
    depth = depths(found.value)
    curve(axes, depth, *found, color=look.color, linestyle=look.linestyle, label=look.label)
    return [numbers(depth, pd.DataFrame(found._asdict()), model=model, quantity=quantity,
                    source="ours")]  # fmt: skip


def others(axes: Axes, seen: Seen, table: pd.DataFrame, quantity: str) -> None:
    """The medians of all models but the one shown, as thin lines over depth."""
    for controlled, look in ((True, OWN), (False, Look("other models", BLUE))):
        label: str | None = look.label
        for model in measured(seen, controlled)["model"]:
            values = curves(table, model, quantity)
            if model == seen.shown or not values.size:
                continue
            axes.plot(
                depths(values[0]), np.median(values, axis=0), color=look.color, linewidth=0.6,
                alpha=0.5, label=label,
            )  # fmt: skip
            label = None


def depths(layers: ArrayLike) -> Array:
    """The places of layers, the last at 1."""
    count = len(np.asarray(layers))
    return np.arange(1, count + 1) / count


def series(
    axes: Axes, runs: pd.DataFrame, measure: str, x: Callable[[pd.DataFrame], pd.Series]
) -> None:
    """Lines through the means over seeds of the runs that differ in one measure alone."""
    look = SERIES[measure]
    try:
        parts = groups(runs, measure)
    except Undecidable:
        return
    parts = parts.dropna(subset=["value"])
    for count, (_, part) in enumerate(parts.groupby("group")):
        means = np.exp(np.log(part["value"]).groupby(x(part)).mean())
        axes.plot(
            means.index, means, color=look.color, linewidth=1, linestyle=look.linestyle,
            label=None if count else look.label,
        )  # fmt: skip


def over_size(
    axes: Axes,
    seen: Seen,
    published: tuple[str, str],
    look: Look,
    value: Callable[[pd.DataFrame], pd.DataFrame],
    quantity: str,
) -> Rows:
    """Published values of the sweep's models, and ours, over the parameters of their blocks.

    Parameters
    ----------
    published, look
        Table and quantity of the published values, and how they are drawn.
    value
        Of rows of :func:`measured`: the same with columns value, low and high.
    quantity
        What ``value`` gives.
    """
    shapes = published_gains(seen)[["model", "layers", "heads", "head_dim"]]
    old = of(seen, *published).merge(shapes, on="model")
    size = blocks_of(old["layers"], old["heads"] * old["head_dim"])
    drawn = [points(axes, size, old, look, quantity=published[1])]
    own, runs = value(measured(seen)), value(measured(seen, controlled=True))
    for rows, look in ((runs, OWN), (own, OURS)):
        size = blocks_of(rows["layers"], rows["width"])
        drawn.append(points(axes, size, rows, look, quantity=quantity))
    for measure in ("layers", "width"):
        series(axes, runs, measure, lambda part: blocks_of(part["layers"], part["width"]))
    swept = own[(own["lab"] == SWEEP[0]) & (own["family"] == SWEEP[1])].sort_values("parameters")
    if len(swept):
        axes.plot(
            blocks_of(swept["layers"], swept["width"]), swept["value"], color=BLUE, linewidth=1,
            label="Pythia, measured here",
        )  # fmt: skip
    axes.set_xlabel(BLOCKS)
    return drawn


def key(axes: Axes, *lines: str, ncols: int = 2) -> None:
    """Legend and numbers below a panel, where they hide nothing."""
    wrapped = [part for line in lines for part in textwrap.wrap(line, 68)]
    # inches below the axes, however tall they are: a share of them the layout cannot foresee
    below = ScaledTranslation(0, -0.45 if axes.get_xlabel() else -0.75, axes.figure.dpi_scale_trans)
    axes.legend(
        loc="upper left", bbox_to_anchor=(-0.12, 0), bbox_transform=axes.transAxes + below,
        ncols=ncols, title="\n".join(wrapped) or None, title_fontsize=7, alignment="left",
        fontsize=7, columnspacing=1.0, handlelength=1.6,
    )  # fmt: skip


def log_axes(axes: Axes, which: str) -> None:
    """Logarithmic axes with round numbers on them."""
    for name in which:
        axes.set(**{f"{name}scale": "log"})
        axis = axes.xaxis if name == "x" else axes.yaxis
        low, high = axis.get_view_interval()
        steps = next(steps for most, steps in STEPS if high / low <= most)
        decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)))
        _ticks(axis, [step * decade for decade in decades for step in steps])


def stretched(axes: Axes) -> None:
    """A vertical axis of gains, even in their logarithm from about 0.9 to 1.1, denser beyond."""
    axes.set_yscale(
        "function",
        functions=(
            lambda gain: np.arcsinh(10 * np.log(np.maximum(gain, 1e-12))),
            lambda place: np.exp(np.sinh(place) / 10),
        ),
    )
    low, high = axes.dataLim.intervaly
    axes.set_ylim(0.9 * low, 1.1 * high)
    around = [0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.2, 1.5]
    _ticks(axes.yaxis, [0.01, 0.1, 0.2, 0.5, *around, 2, 5, 20, 100, 1000])


def _ticks(axis: Any, ticks: Sequence[float]) -> None:
    low, high = axis.get_view_interval()
    inside = [tick for tick in ticks if low <= tick <= high]
    axis.set_major_locator(FixedLocator(inside))
    axis.set_major_formatter(FixedFormatter([_short(tick) for tick in inside]))
    axis.set_minor_locator(NullLocator())


def _short(value: float) -> str:
    for power, unit in ((9, "G"), (6, "M"), (3, "k")):
        if value >= 10**power:
            return f"{value / 10**power:g}{unit}"
    return f"{value:g}"


def numbers(against: ArrayLike, rows: pd.DataFrame, **named: Any) -> pd.DataFrame:
    """What was drawn, in the columns of a figure's table.

    Returns
    -------
    pandas.DataFrame
        Columns model, quantity, source, against (the other coordinate), value, low, high, note.
    """
    made = rows.assign(against=np.asarray(against, float), **named)
    made["note"] = made["note"].fillna("") if "note" in made else ""
    if "valid" in made:
        wrong = "measured wrongly: " + made["note"]
        made["note"] = made["note"].where(made["valid"], wrong)
    made = made[["model", "quantity", "source", "against", "value", "low", "high", "note"]]
    return made.astype(dict.fromkeys(("value", "low", "high"), float))
