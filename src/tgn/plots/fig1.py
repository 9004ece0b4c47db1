"""Figure 1: the mechanism, from attention's free energy to a language model's temperature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from tgn.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    NETWORKS,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    Look,
    curve,
    legend_below,
    panel_letter,
    save,
)
from tgn.statistics import read_statistics

COLD_TO_HOT = (BLUE, BLACK, RED)  # of three temperatures
RANKS = {
    "effective_rank_sigma": Look("entropy of singular values", BLUE),
    "centred": Look("... mean row removed", SKY),
    "effective_rank_sigma2": Look("entropy of their squares", GREEN),
    "participation_ratio": Look("participation ratio", ORANGE),
    "stable_rank": Look("stable rank", RED),
    "row_rank": Look("effective keys of a row", PURPLE),
}
FROZEN = Look("half of the rows' entropy", BLACK)
WALKS = {
    "local": Look("local moves", BLACK),
    "attention": Look("and jumps by attention", BLUE),
    "row_softmax": Look("... not corrected", SKY),
    "uniform": Look("and uniform jumps", ORANGE),
}
# Definition and quantity of the rank after the last block, and the arm it is drawn for.
LAST_RANKS = (
    ("centred", "effective_rank", "intact", Look("centred", BLUE)),
    ("without_outliers", "effective_rank", "intact", Look("... without heaviest channels", SKY)),
    ("centred", "participation_ratio", "intact", Look("participation ratio", ORANGE)),
    ("centred_with_first", "effective_rank_sigma2", "intact", Look("as published", RED)),
    ("centred", "effective_rank", "shuffled_tokens", NETWORKS["shuffled_tokens"]),
    ("centred", "effective_rank", "random_weights", NETWORKS["random_weights"]),
)
ARMS = ("intact", "shuffled_tokens", "random_weights")
DIMENSIONS = (
    ("intact", "states", Look("trained", BLUE)),
    ("intact", "gaussian", Look("null: Gaussian of equal covariance", BLUE, "--")),
    ("intact", "shuffled", Look("null: values shuffled", BLUE, ":")),
    ("random_weights", "states", NETWORKS["random_weights"]),
)


def draw(
    *,
    landscape: str | Path,
    checks: str | Path,
    curves: str | Path,
    maxima: str | Path,
    relaxation: str | Path,
    temperature: str | Path,
    fits: str | Path,
    correlation: str | Path,
    dimension: str | Path,
    maps: str | Path,
    statistics: str | Path,
    pdf: str | Path,
    png: str | Path,
    labels: Mapping[str, str],
    scale: str,
) -> None:
    """Draw a page a model in the order of ``labels``; the PNG shows the first.

    What needs no model (panels a, b, d) is the same on every page.
    """
    own = {
        "landscape": landscape,
        "checks": checks,
        "curves": curves,
        "maxima": maxima,
        "relaxation": relaxation,
    }
    measured = {
        "temperature": temperature,
        "fits": fits,
        "correlation": correlation,
        "dimension": dimension,
        "maps": maps,
    }
    common = {name: pd.read_parquet(path) for name, path in own.items()}
    by_model = {name: pd.read_parquet(path) for name, path in measured.items()}
    pages = [
        page(
            {
                **common,
                **{name: table[table["model"] == model] for name, table in by_model.items()},
            },
            label,
        )
        for model, label in labels.items()
    ]
    # The random matrices and landscapes of a, b and d are themselves the subject.
    simulated = any(
        record.evidence == "simulated"
        for record in read_statistics(statistics)
        if record.model in labels
    )
    save(pages, pdf=pdf, png=png, scale=scale, simulated=simulated)


def page(tables: Mapping[str, pd.DataFrame], label: str) -> Figure:
    """All panels; c and e are those of one model."""
    figure = plt.figure(figsize=(15.5, 13.4))
    figure.suptitle(
        f"Attention as a thermal system: argument (a), random matrices (b), {label} (c, e) and "
        "rugged landscapes (d); means with 95 % intervals",
        fontsize=11,
    )
    rows: Any = figure.subfigures(3, 1, height_ratios=[1, 1.15, 1.1])
    top, top_keys = rows[0].subplots(2, 4, height_ratios=[1, 0.3], width_ratios=[1, 0.9, 1.1, 1])
    middle, middle_keys = rows[1].subplots(2, 5, height_ratios=[1, 0.55])
    left, maps, right = rows[2].subfigures(1, 3, width_ratios=[2.2, 1.45, 1.25])
    (growth, information), left_keys = left.subplots(2, 2, height_ratios=[1, 0.42])
    dimension, right_key = right.subplots(2, 1, height_ratios=[1, 0.42])
    keys = [*top_keys, *middle_keys, *left_keys, right_key]
    for axes in keys:
        axes.axis("off")
    landscape_panel(top[0], tables["landscape"])
    kernel_panel(top[1], tables["checks"])
    random_attention_panel(top[2], tables["curves"])
    maxima_panel(top[3], tables["maxima"])
    rank_panel(middle[0], tables["temperature"], tables["fits"])
    perplexity_panel(middle[1], tables["temperature"])
    correlation_panel(middle[2], tables["correlation"])
    relaxation_panel(middle[3], tables["relaxation"], "hypercube")
    relaxation_panel(middle[4], tables["relaxation"], "ring")
    growth_panel(growth, tables["temperature"])
    information_panel(information, tables["temperature"])
    images = maps_panel(maps, tables["maps"])
    dimension_panel(dimension, tables["dimension"])
    panels = [*top, *middle, growth, information, dimension]
    for axes, key in zip(panels, keys, strict=True):
        legend_below(key, axes, ncols=2 if axes in (top[0], top[2]) else 1)
    lettered = [*top, *middle, growth, information, images, dimension]
    names = ["a1", "a2", "b1", "b2", "c1", "c2", "c3", "d1", "d2", "e1", "e2", "e3", "e4"]
    for letter, axes in zip(names, lettered, strict=True):
        panel_letter(axes, letter)
    return figure


def _band(axes: Axes, rows: pd.DataFrame, x: str, look: Look, **line: Any) -> None:
    """A curve with its band; the tables name the ends low and high, or ci_low and ci_high."""
    rows = rows.rename(columns={"ci_low": "low", "ci_high": "high"}).sort_values(x)
    options = {**look._asdict(), **line}
    curve(axes, rows[x], rows["value"], rows["low"], rows["high"], **options)


def _usual(axes: Axes, words: str = "") -> None:
    """Where the usual scaling lies."""
    axes.axvline(1, color=BLACK, linewidth=0.8)
    if words:
        axes.text(1.04, 0.02, words, fontsize=7, transform=axes.get_xaxis_transform(), va="bottom")


def _plain_logs(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(lambda tick, _: f"{tick:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    if axes.get_yscale() == "log":
        axes.yaxis.set_major_formatter(lambda tick, _: f"{tick:g}")
        axes.yaxis.set_minor_formatter(lambda tick, _: f"{tick:g}" if narrow(axes) else "")


def narrow(axes: Axes) -> bool:
    """Whether a logarithmic ordinate spans less than a decade, so that few powers of ten lie in."""
    low, high = axes.get_ylim()
    return high < 10 * low


# --- panel a


def landscape_panel(axes: Axes, landscape: pd.DataFrame) -> None:
    """A landscape, and how the weights gather in it."""
    first = landscape.drop_duplicates("x")
    axes.plot(first["x"], first["energy"], color=GREY, label="energy E")
    floor = first["energy"].min() - 0.3
    for place, (temperature, rows) in enumerate(landscape.groupby("temperature")):
        density = rows["weight"] / rows["weight"].max()
        base = floor - 1.3 * (place + 1)
        axes.fill_between(
            rows["x"], base, base + density, color=COLD_TO_HOT[place], alpha=0.6, linewidth=0,
            label=f"weights, temperature {temperature:g}",
        )  # fmt: skip
    axes.set(
        title="Boltzmann weights of a landscape (drawing)",
        xlabel="key",
        ylabel="energy (its spread)",
    )
    axes.set_yticks([-1, 0, 1, 2])
    axes.grid(False)


def kernel_panel(axes: Axes, checks: pd.DataFrame) -> None:
    """How far attention is from the Gaussian kernel, by the spread of the norms of the keys."""
    planned = checks[checks["quantity"] == "kernel_distance"]
    found = planned.groupby("spread")["value"].quantile([0.025, 0.5, 0.975]).unstack().loc[1e-9:]
    curve(
        axes, 100 * found.index, found[0.5], found[0.025], found[0.975], color=BLUE, marker="o",
        markersize=3, label="planned norms",
    )  # fmt: skip
    normal = checks[checks["quantity"] == "kernel_distance_normal"]
    axes.plot(
        100 * normal["spread"], normal["value"], ".", color=ORANGE, markersize=2.5, zorder=3,
        label="normal keys",
    )  # fmt: skip
    equal = planned["value"][planned["spread"] == 0].max()
    axes.axhline(equal, color=GREEN, label=f"equal norms: at most {equal:.0e}")
    axes.set(
        title="Attention against the Gaussian kernel",
        xlabel="spread of the norms of the keys (%)",
        ylabel="total variation",
        xscale="log",
        ylim=(-0.03, 1),
    )
    _plain_logs(axes)


# --- panel b


def random_attention_panel(axes: Axes, curves: pd.DataFrame) -> None:
    """Rank of random attention by every definition, in the case that decides."""
    size, dimension = curves.iloc[0][["size", "dimension"]]
    own = curves[(curves["size"] == size) & (curves["dimension"] == dimension)]
    for definition, look in RANKS.items():
        _band(axes, own[own["definition"] == definition], "alpha", look)
    _usual(axes, "usual scaling")
    axes.set(
        title=f"Random attention, N = {size}, d = {dimension}",
        xlabel=r"inverse temperature ($1/\sqrt{d}$); hot left, cold right",
        ylabel="rank (directions)",
        xscale="log",
        yscale="log",
        ylim=(0.8, 1.5 * size),
    )
    _plain_logs(axes)


def maxima_panel(axes: Axes, maxima: pd.DataFrame) -> None:
    """Where each definition is highest, by size and dimension."""
    cases = maxima[["size", "dimension"]].drop_duplicates().sort_values(["dimension", "size"])
    looks = {**RANKS, "half_row_entropy": FROZEN}
    for row, (size, dimension) in enumerate(cases.itertuples(index=False)):
        case = maxima[(maxima["size"] == size) & (maxima["dimension"] == dimension)]
        for shift, (definition, look) in enumerate(looks.items()):
            (found,) = case[case["definition"] == definition].itertuples()
            value, low, high = np.exp([found.value, found.low, found.high])
            height = row + 0.09 * (shift - len(looks) / 2)
            axes.plot([low, high], [height, height], color=look.color, linewidth=1.2)
            axes.plot(
                value, height, "D" if look is FROZEN else "o", color=look.color, markersize=3.5,
                markerfacecolor="white" if found.at_edge > 0 else look.color,
            )  # fmt: skip
        freezing = np.sqrt(np.log(size))
        axes.plot(
            [freezing] * 2, [row - 0.42, row + 0.42], color=BLACK, linewidth=1, linestyle=":",
            label="... in the random-energy model, many tokens" if row == 0 else None,
        )  # fmt: skip
    axes.plot([], [], "D", color=BLACK, markersize=3.5, label=FROZEN.label)
    axes.plot([], [], "o", color=GREY, markersize=3.5, label="highest rank (colours as b1)")
    axes.plot(
        [], [], "o", color=GREY, markerfacecolor="white", markersize=3.5,
        label="... at an end of the range",
    )  # fmt: skip
    _usual(axes)
    names = [f"N {size}, d {dimension}" for size, dimension in cases.itertuples(index=False)]
    axes.set_yticks(range(len(names)), names)
    axes.set(
        title="Where the rank is highest",
        xlabel=r"inverse temperature ($1/\sqrt{d}$)",
        xscale="log",
        xlim=np.exp([maxima["value"].min() - 0.2, maxima["value"].max() + 0.3]),
    )
    _plain_logs(axes)


# --- panel c


def _of_layer(rows: pd.DataFrame, quantity: str, arm: str, layer: int | None = None) -> Any:
    chosen = rows[(rows["quantity"] == quantity) & (rows["arm"] == arm)]
    return chosen[chosen["layer"] == (chosen["layer"].max() if layer is None else layer)]


def _arms(axes: Axes, temperature: pd.DataFrame, quantity: str) -> None:
    """A quantity after the last block, of the network and its nulls."""
    for arm in ARMS:
        rows = _of_layer(temperature, quantity, arm)
        if len(rows):
            _band(axes, rows, "temperature", NETWORKS[arm])


def _over_temperature(axes: Axes, title: str, ylabel: str) -> None:
    _usual(axes)
    axes.set(title=title, xlabel="temperature of attention", ylabel=ylabel, xscale="log")
    _plain_logs(axes)


def rank_panel(axes: Axes, temperature: pd.DataFrame, fits: pd.DataFrame) -> None:
    """Rank after the last block against the temperature of attention."""
    for definition, quantity, arm, look in LAST_RANKS:
        rows = temperature[temperature["definition"] == definition]
        _band(axes, _of_layer(rows, quantity, arm), "temperature", look)
    own = fits[
        (fits["arm"] == "intact")
        & (fits["definition"] == "centred")
        & (fits["quantity"] == "effective_rank")
    ]
    grid = np.geomspace(temperature["temperature"].min(), temperature["temperature"].max(), 100)
    for row in own[own["shape"] == "logistic"].itertuples():
        axes.plot(
            grid, np.exp(logistic(np.log(grid), row)), color=BLACK, linewidth=0.9,
            linestyle="--", label="logistic fit to centred",
        )  # fmt: skip
    axes.set_yscale("log")
    _over_temperature(axes, "Rank after the last block", "rank (directions)")


def logistic(x: Any, row: Any) -> Any:
    """The S-curve of a row of fits."""
    return row.offset + row.amplitude / (1 + np.exp(-(x - row.centre) / row.width))


def perplexity_panel(axes: Axes, temperature: pd.DataFrame) -> None:
    _arms(axes, temperature, "perplexity")
    axes.set_yscale("log")
    _over_temperature(axes, "Perplexity", "perplexity")


def correlation_panel(axes: Axes, correlation: pd.DataFrame) -> None:
    """Two-point function of the final states, with its sign."""
    own = correlation[correlation["arm"] == "intact"]
    for temperature, color in zip(three(own["temperature"].unique()), COLD_TO_HOT, strict=False):
        rows = own[own["temperature"] == temperature]
        _band(axes, rows, "distance", Look(f"temperature {temperature:.2g}", color))
        axes.plot(rows["distance"], rows["null"], color=color, linewidth=0.8, linestyle=":")
    axes.plot([], [], color=GREY, linestyle=":", linewidth=0.8, label="all pairs: no distance")
    shuffled = correlation[correlation["arm"] == "shuffled_tokens"]
    if len(shuffled):
        usual = min(shuffled["temperature"].unique(), key=lambda t: abs(np.log(t)))
        rows = shuffled[shuffled["temperature"] == usual]
        _band(axes, rows, "distance", NETWORKS["shuffled_tokens"])
    axes.axhline(0, color=BLACK, linewidth=0.8)
    axes.set(
        title="Correlation of final states",
        xlabel="distance (tokens)",
        ylabel="mean cosine",
        xscale="log",
    )
    _plain_logs(axes)


def three(temperatures: Sequence[float]) -> list[float]:
    """Lowest, the one nearest 1 and highest temperature."""
    ordered = sorted(temperatures)
    usual = min(ordered, key=lambda t: abs(np.log(t)))
    return list(dict.fromkeys([ordered[0], usual, ordered[-1]]))


# --- panel d


def relaxation_panel(axes: Axes, relaxation: pd.DataFrame, landscape: str) -> None:
    """Relaxation times in steps; of jumps by attention also in energies evaluated."""
    own = relaxation[relaxation["landscape"] == landscape]
    for arm, look in WALKS.items():
        rows = own[own["arm"] == arm]
        _band(axes, rows[rows["cost"] == "steps"], "size", look)
        if arm == "attention":  # the others' are the same, but for the uncorrected jumps'
            dashed = Look("... in energies evaluated", look.color, "--")
            _band(axes, rows[rows["cost"] == "evaluations"], "size", dashed)
    states = own.drop_duplicates("size").sort_values("size")
    axes.plot(
        states["size"], np.log10(states["states"]), color=GREY, linestyle=":",
        label="listing all states (energies)",
    )  # fmt: skip
    words = {"hypercube": "Random energies on an n-cube", "ring": "Random walk on a ring"}
    sizes = {"hypercube": "spins n", "ring": "size n (4 n² sites)"}
    axes.set(
        title=words[landscape], xlabel=sizes[landscape], ylabel="log10 relaxation time (steps)"
    )


# --- panel e


def growth_panel(axes: Axes, temperature: pd.DataFrame) -> None:
    """What becomes of a small perturbation of one token's embedding."""
    _arms(axes, temperature, "growth")
    axes.axhline(0, color=BLACK, linewidth=0.8)
    _over_temperature(
        axes, "Growth of a small perturbation", "log relative size, output / input (nats)"
    )


def information_panel(axes: Axes, temperature: pd.DataFrame) -> None:
    """Exact information of the attention matrices, and a bound on that of the output."""
    channel = temperature[
        (temperature["quantity"] == "channel_information") & (temperature["arm"] == "intact")
    ]
    layers = np.sort(channel["layer"].unique())
    chosen = dict.fromkeys([layers[0], layers[len(layers) // 2], layers[-1]])
    for layer, color in zip(chosen, (SKY, BLUE, BLACK), strict=False):
        rows = channel[channel["layer"] == layer]
        _band(axes, rows, "temperature", Look(f"attention of block {layer}", color))
    for quantity, look in (
        ("token_information_lag0", Look("input token in its output, at least", RED)),
        ("token_information_shuffled", Look("null: inputs permuted", RED, ":")),
    ):
        _band(axes, _of_layer(temperature, quantity, "intact"), "temperature", look)
    _over_temperature(axes, "Information", "information (nats)")


def maps_panel(figure: Any, maps: pd.DataFrame) -> Axes:
    """One head at three temperatures; returns the first of its axes."""
    temperatures = np.sort(maps["temperature"].unique())
    layer, head = maps.iloc[0][["layer", "head"]]
    cells = figure.subplots(2, (len(temperatures) + 2) // 2, sharex=True, sharey=True).ravel()
    panels = cells[: len(temperatures)]
    for axes, temperature in zip(panels, temperatures, strict=True):
        image = maps[maps["temperature"] == temperature].pivot(
            index="query", columns="key", values="weight"
        )
        mesh = axes.imshow(image.to_numpy(), norm=PowerNorm(0.4, 0, 1), cmap="viridis")
        axes.set(title=f"temperature {temperature:.2g}", xlabel="key", ylabel="query")
        axes.grid(False)
    for axes in cells[len(temperatures) :]:
        axes.axis("off")
    bar = cells[len(temperatures)].inset_axes((0, 0.05, 0.08, 0.9))
    figure.colorbar(mesh, cax=bar, label=f"attention weight (block {layer:g}, head {head:g})")
    return panels[0]


def dimension_panel(axes: Axes, dimension: pd.DataFrame) -> None:
    """Intrinsic dimension of the states by layer, with its nulls."""
    for arm, sample, look in DIMENSIONS:
        rows = dimension[(dimension["arm"] == arm) & (dimension["sample"] == sample)]
        if len(rows):
            _band(axes, rows, "layer", look)
    axes.axhline(dimension["width"].iloc[0], color=BLACK, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.text(0, dimension["width"].iloc[0], "channels", fontsize=7, va="bottom")
    axes.set(
        title="Intrinsic dimension of the states",
        xlabel="after block (0: input)",
        ylabel="dimension",
        yscale="log",
    )
    axes.yaxis.set_major_formatter(lambda tick, _: f"{tick:g}")
    axes.yaxis.set_minor_formatter(lambda tick, _: f"{tick:g}" if narrow(axes) else "")
