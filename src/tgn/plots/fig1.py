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
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import MaxNLocator, NullLocator

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
    odds,
    panel_letter,
    save,
)
from tgn.statistics import Statistic, read_statistics

COLD_TO_HOT = (BLUE, BLACK, RED)  # of three temperatures
WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # behind words on a panel
FIVE = (BLUE, SKY, BLACK, ORANGE, RED)  # cold to hot
CLAIMED = 1e-8  # how near to the softmax an optimiser is claimed to come
GATES = {
    "shut": Look("always shut", ORANGE),
    "open": Look("always open", SKY),
    "rule": Look("by the rule", BLUE),
    "soft": Look("best mixture, as networks do", GREEN),
}
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
# How the odds call them, and what the statistics of their laws are called.
LAWS = {
    "local": ("local", "power_minus_exponential_local"),
    "attention": ("attention", "exponential_minus_power_attention"),
    "evaluations": ("... in energies", "exponential_minus_power_attention_per_evaluation"),
    "row_softmax": ("... not corrected", "exponential_minus_power_row_softmax"),
    "uniform": ("uniform", "exponential_minus_power_uniform"),
}
LANDSCAPES = {
    "hypercube": ("Random energies on an n-cube", "spins n"),
    "ring": ("Random walk on a ring", "size n (4 n² sites)"),
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
RIVALS = ("hump", "line", "constant")  # of the S-curve
ARMS = ("intact", "shuffled_tokens", "random_weights")
PANELS = (
    "a1", "a2", "a3", "a4", "b1",
    "b2", "c1", "c2", "c3", "c4",
    "c5", "d1", "d2", "d3", "e1",
    "e2", "", "", "", "e4",  # e3 has the three places between
)  # fmt: skip
DIMENSIONS = (
    ("intact", "states", Look("trained", BLUE)),
    ("intact", "gaussian", Look("null: Gaussian of equal covariance", BLUE, "--")),
    ("intact", "shuffled", Look("null: values shuffled", BLUE, ":")),
    ("intact", "white", Look("null: white noise in all channels", BLACK, "-.")),
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
    records = read_statistics(statistics)
    by_model = {name: pd.read_parquet(path) for name, path in measured.items()}
    pages = [
        page(
            {
                **common,
                **{name: table[table["model"] == model] for name, table in by_model.items()},
            },
            {record.id: record for record in records},
            label,
        )
        for model, label in labels.items()
    ]
    # The random matrices and landscapes of a, b and d are themselves the subject.
    simulated = any(record.evidence == "simulated" for record in records if record.model in labels)
    save(pages, pdf=pdf, png=png, scale=scale, simulated=simulated)


def page(
    tables: Mapping[str, pd.DataFrame], records: Mapping[str, Statistic], label: str
) -> Figure:
    """All panels; c and e are those of one model, ``records`` those of panel d."""
    # Placed by hand: a layout engine would take longer than everything else.
    figure = plt.figure(figsize=(17, 17), layout="none")
    figure.suptitle(
        f"Attention as a thermal system: argument (a), random matrices (b), {label} (c, e) and "
        "rugged landscapes (d); means with 95 % intervals",
        fontsize=11,
        y=0.985,
    )
    grid = figure.add_gridspec(
        4, 5, left=0.06, right=0.985, top=0.955, bottom=0.085, hspace=0.74, wspace=0.28
    )
    places = {name: grid[divmod(at, 5)] for at, name in enumerate(PANELS) if name}
    panels = {name: figure.add_subplot(place) for name, place in places.items()}
    landscape_panel(panels["a1"], tables["landscape"])
    optimum_panel(panels["a2"], tables["checks"])
    kernel_panel(panels["a3"], tables["checks"])
    gate_panel(panels["a4"], tables["checks"])
    random_attention_panel(panels["b1"], tables["curves"])
    maxima_panel(panels["b2"], tables["maxima"])
    rank_panel(panels["c1"], tables["temperature"], tables["fits"])
    depth_panel(panels["c2"], tables["temperature"])
    perplexity_panel(panels["c3"], tables["temperature"])
    correlation_panel(panels["c4"], tables["correlation"])
    length_panel(panels["c5"], tables["temperature"], tables["correlation"])
    relaxation_panel(panels["d1"], tables["relaxation"], records, "hypercube")
    relaxation_panel(panels["d2"], tables["relaxation"], records, "ring")
    mixing_panel(panels["d3"], tables["relaxation"])
    growth_panel(panels["e1"], tables["temperature"])
    information_panel(panels["e2"], tables["temperature"])
    dimension_panel(panels["e4"], tables["dimension"])
    for axes in panels.values():
        axes.legend(
            loc="upper left", bbox_to_anchor=(-0.16, -0.17), fontsize=7, labelspacing=0.3
        )  # fmt: skip
    panels["e3"] = maps_panel(figure, grid[3, 1:4], tables["maps"])
    for letter, axes in panels.items():
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
    axes.xaxis.set_minor_locator(NullLocator())  # ticks take most of the time
    if axes.get_yscale() == "log":
        _plain_ordinate(axes)


def _plain_ordinate(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(lambda tick, _: f"{tick:g}")
    axes.yaxis.set_minor_formatter(lambda tick, _: minor_label(tick, *axes.get_ylim()))


def minor_label(tick: float, low: float, high: float) -> str:
    """What a minor tick says: nothing where two powers of ten lie within the limits.

    >>> minor_label(20, 3, 200), minor_label(20, 3, 60), minor_label(40, 3, 60)
    ('', '20', '')
    """
    low, high = np.log10(low), np.log10(high)
    if np.floor(high) - np.ceil(low) >= 1:
        return ""
    return f"{tick:g}" if high - low < 0.7 or f"{tick:e}"[0] in "235" else ""


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


def optimum_panel(axes: Axes, checks: pd.DataFrame) -> None:
    """How far the softmax is from what an optimiser finds that does not know it."""
    apart = np.sort(checks["value"][checks["quantity"] == "optimum_difference"])
    axes.step(
        apart, np.arange(1, len(apart) + 1) / len(apart), color=BLUE, where="post",
        label=f"{len(apart)} random problems, worst {apart[-1]:.1e}",
    )  # fmt: skip
    axes.axvline(CLAIMED, color=BLACK, linewidth=0.8, label=f"claimed: less than {CLAIMED:g}")
    axes.set(
        title="Softmax against a constrained optimiser",
        xlabel="largest difference of a weight",
        ylabel="share of problems below",
        xscale="log",
        ylim=(0, 1.03),
    )
    _plain_logs(axes)


def gate_panel(axes: Axes, checks: pd.DataFrame) -> None:
    """The loss of the gate's rule against the least of all gates, problem by problem."""
    gates = checks[checks["quantity"].str.startswith("gate_")]
    losses = gates.pivot(index="problem", columns="quantity", values="value")
    least = losses["gate_loss_least"]
    for name, look in GATES.items():
        axes.plot(
            least, losses[f"gate_loss_{name}"], ".", color=look.color, markersize=4,
            label=look.label,
        )  # fmt: skip
    agree = losses["gate_rule_is_best"]
    axes.axline(
        (least.min(),) * 2, slope=1, color=GREY, linewidth=0.8, zorder=1,
        label=f"least of all: the rule's in {agree.sum():.0f} of {len(agree)}",
    )  # fmt: skip
    axes.set(
        title="Gate of a token: rule against enumeration",
        xlabel="least loss of all open or shut gates",
        ylabel="loss, with the price of the gate",
    )


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
    published = curves[curves["definition"] == next(iter(RANKS))]
    others = published[(published["size"] != size) & (published["dimension"] == dimension)]
    sizes = ", ".join(f"{other:g}" for other in np.sort(others["size"].unique()))
    for place, (_, rows) in enumerate(others.groupby("size")):
        thin = Look("" if place else f"entropy of singular values, N {sizes}", BLUE)
        _band(axes, rows, "alpha", thin, linewidth=0.7)
    _usual(axes, "usual scaling")
    axes.set(
        title=f"Random attention, N = {size}, d = {dimension}",
        xlabel="inverse temperature (1/√d); hot left, cold right",
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
    axes.plot([], [], "D", color=BLACK, markersize=3.5, label=FROZEN.label)
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
        xlabel="inverse temperature (1/√d)",
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
    axes.set_ylim(bottom=axes.get_ylim()[0] / 5)  # room for the odds
    words = [f"AICc odds of a logistic over {', '.join(RIVALS)}:", *_odds_of_step(fits)]
    axes.text(
        0.02, 0.02, "\n".join(words), transform=axes.transAxes, va="bottom", fontsize=6.5,
        bbox=WHITE,
    )  # fmt: skip
    _over_temperature(axes, "Rank after the last block", "rank (directions)")


def _odds_of_step(fits: pd.DataFrame) -> list[str]:
    """Of every definition that is drawn, the evidence for the S-curve against each rival."""
    lines = []
    for definition, quantity, arm, look in LAST_RANKS:
        own = fits[
            (fits["definition"] == definition)
            & (fits["quantity"] == quantity)
            & (fits["arm"] == arm)
        ]
        if arm != "intact" or own.empty:
            continue
        aicc = own.set_index("shape")["aicc"]
        ratios = [odds((aicc[rival] - aicc["logistic"]) / 2) for rival in RIVALS]
        lines.append(f"{look.label}: {', '.join(ratios)}")
    return lines


def logistic(x: Any, row: Any) -> Any:
    """The S-curve of a row of fits."""
    return row.offset + row.amplitude / (1 + np.exp(-(x - row.centre) / row.width))


def depth_panel(axes: Axes, temperature: pd.DataFrame) -> None:
    """Rank after every measured block, at five temperatures."""
    rows = temperature[
        (temperature["arm"] == "intact")
        & (temperature["definition"] == "centred")
        & (temperature["quantity"] == "effective_rank")
    ]
    steps = np.sort(rows["temperature"].unique())
    chosen = steps[np.linspace(0, len(steps) - 1, len(FIVE)).round().astype(int)]
    for at, color in zip(chosen, FIVE, strict=True):
        look = Look(f"temperature {at:.2g}", color)
        _band(axes, rows[rows["temperature"] == at], "layer", look)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(
        title="Centred rank by depth",
        xlabel="after block (0: input)",
        ylabel="rank (directions)",
        yscale="log",
    )
    _plain_ordinate(axes)


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


def length_panel(axes: Axes, temperature: pd.DataFrame, correlation: pd.DataFrame) -> None:
    """Correlation length where there is a decay; a gap where there is none."""
    for arm in ARMS:
        lengths = temperature[
            (temperature["quantity"] == "correlation_length") & (temperature["arm"] == arm)
        ].set_index("temperature")
        if len(lengths):
            measured = np.unique(correlation["temperature"][correlation["arm"] == arm])
            rows = lengths.reindex(measured).rename_axis("temperature").reset_index()
            _band(axes, rows, "temperature", NETWORKS[arm], marker=".")
    farthest = correlation["distance"].max()
    axes.axhline(
        farthest, color=BLACK, linewidth=0.8, linestyle=":",
        label=f"longest distance that was measured, {farthest:g}",
    )  # fmt: skip
    axes.set_yscale("log")
    _over_temperature(axes, "Correlation length", "length of the decay (tokens)")


def three(temperatures: Sequence[float]) -> list[float]:
    """Lowest, the one nearest 1 and highest temperature."""
    ordered = sorted(temperatures)
    usual = min(ordered, key=lambda t: abs(np.log(t)))
    return list(dict.fromkeys([ordered[0], usual, ordered[-1]]))


# --- panel d


def relaxation_panel(
    axes: Axes, relaxation: pd.DataFrame, records: Mapping[str, Statistic], landscape: str
) -> None:
    """Relaxation times in steps, of jumps by attention also in energies, and the laws of each."""
    own = relaxation[relaxation["landscape"] == landscape]
    for arm, look in WALKS.items():
        rows = own[own["arm"] == arm]
        _law(axes, rows[rows["cost"] == "steps"], look)
        if arm == "attention":  # the others' are the same, but for the uncorrected jumps'
            paid = Look("... in energies evaluated", look.color)
            _law(axes, rows[rows["cost"] == "evaluations"], paid, markerfacecolor="white")
    states = own.drop_duplicates("size").sort_values("size")
    axes.plot(
        states["size"], np.log10(states["states"]), color=GREY, linestyle=":",
        label="listing all states (energies)",
    )  # fmt: skip
    notes = ["lines: power law; dashes: exponential; AICc odds:"]
    for words, name in LAWS.values():
        notes.append(f"{words}: {favoured(records[f'fig1.aic_{name}_{landscape}'])}")
    low, high = axes.get_ylim()
    axes.set_ylim(top=high + 0.35 * (high - low))  # room for the odds
    axes.text(
        0.02, 0.99, "\n".join(notes), transform=axes.transAxes, va="top", fontsize=6.5, bbox=WHITE
    )
    title, size = LANDSCAPES[landscape]
    axes.set(title=title, xlabel=size, ylabel="log10 relaxation time (steps)")


def _law(axes: Axes, rows: pd.DataFrame, look: Look, **marks: Any) -> None:
    """Times with their intervals, and both laws through them."""
    rows = rows.sort_values("size")
    bars = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
    axes.errorbar(
        rows["size"], rows["value"], yerr=bars, color=look.color, marker="o", markersize=3.5,
        linestyle="none", label=look.label, **marks,
    )  # fmt: skip
    for law, style in (("power", "-"), ("exponential", "--")):
        axes.plot(rows["size"], rows[law], color=look.color, linestyle=style, linewidth=0.8)


def favoured(record: Statistic) -> str:
    """The law that the evidence is for, with its odds; undecided if its interval holds both."""
    exponential = (record.value > 0) == ("power_minus_exponential" in record.id)
    law = f"{'exponential' if exponential else 'power law'} {odds(abs(record.value) / 2)}"
    interval = record.interval
    open_ = interval is not None and interval.low < 0 < interval.high
    return f"undecided ({law})" if open_ else law


def mixing_panel(axes: Axes, relaxation: pd.DataFrame) -> None:
    """Whether the relaxation time stands for the mixing time, which small landscapes have."""
    counted = relaxation[relaxation["cost"] == "mixing"]
    counted = counted.assign(**10 ** counted[["value", "low", "high"]])
    for landscape, style in zip(LANDSCAPES, ("-", "--"), strict=True):
        for arm, look in WALKS.items():
            rows = counted[(counted["landscape"] == landscape) & (counted["arm"] == arm)]
            label = look.label if style == "-" else ""
            _band(axes, rows, "states", Look(label, look.color, style), marker=".")
    axes.plot([], [], color=GREY, label="on the n-cube")
    axes.plot([], [], color=GREY, linestyle="--", label="on the ring")
    axes.set(
        title="Exact mixing time, small landscapes",
        xlabel="states",
        ylabel="mixing time / relaxation time",
        xscale="log",
    )
    _plain_logs(axes)
    axes.set_xticks(counted["states"][counted["landscape"] == "hypercube"].unique())


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


def maps_panel(figure: Figure, place: SubplotSpec, maps: pd.DataFrame) -> Axes:
    """One head at three temperatures; returns the first of its axes."""
    temperatures = np.sort(maps["temperature"].unique())
    layer, head = maps.iloc[0][["layer", "head"]]
    count = len(temperatures)
    cells = place.subgridspec(1, count + 2, width_ratios=[*[1] * count, 0.05, 0.1])
    panels = [figure.add_subplot(cells[at]) for at in range(count)]
    for axes, temperature in zip(panels, temperatures, strict=True):
        image = maps[maps["temperature"] == temperature].pivot(
            index="query", columns="key", values="weight"
        )
        mesh = axes.imshow(image.to_numpy(), norm=PowerNorm(0.4, 0, 1), cmap="viridis")
        axes.set(title=f"temperature {temperature:.2g}", xlabel="key", ylabel="query")
        axes.grid(False)
    bar = figure.add_subplot(cells[count])
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
    _plain_ordinate(axes)
