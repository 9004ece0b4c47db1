"""Panels beside Paper 3's own figures: what its text and its quick-start notebooks claim."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from tgn.constraints.tables import FINAL
from tgn.plots.constraint_parts import (
    GAIN,
    OURS,
    OWN,
    PUBLISHED,
    PUBLISHED_A,
    Rows,
    Seen,
    by_category,
    curves,
    ends_of,
    key,
    log_axes,
    measured,
    median_band,
    name_of,
    number,
    numbers,
    of,
    over_size,
    points,
    printed,
    profile,
    published_gains,
    range_of,
    said,
    series,
    turning_shares,
)
from tgn.plots.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, Look, curve

# What has been called gain: our statistic, where it was published (table, quantity), and its look.
DEFINITIONS = (
    ("log_gain_final", (), Look("last block, median over tokens", BLUE)),
    ("log_gain_final_first", (), Look("last block, first token", SKY)),
    (
        "log_gain_published_a",
        (("sweep", "gain_published_a"), ("hunt", "gain_published_a")),
        Look("G-a: block L - 1, last token", GREEN),
    ),
    (
        "log_gain_published_b",
        (("benchmark", "gain_published_b"),),
        Look("G-b: last block, last token", ORANGE),
    ),
    (
        "log_gain_published_c",
        (("cumulative", "gain_published_c"), ("mistral", "gain_published_c")),
        Look("G-c: last block, sequence", RED),
    ),
    (
        "log_gain_published_mlp",
        (("mistral", "gain_mlp"), ("scaling", "gain_mlp")),
        Look("G-d: last MLP over its input", PURPLE),
    ),
)


def crowding(axes: Axes, seen: Seen) -> Rows:
    """Gains over head density, with true widths of heads."""
    old, own, runs = published_gains(seen), measured(seen), measured(seen, controlled=True)
    drawn = [
        points(axes, rows["rho"], rows, look, quantity=quantity)
        for rows, look, quantity in (
            (old, PUBLISHED_A, "gain_published_a"),
            (runs, OWN, "gain_final"),
            (own, OURS, "gain_final"),
        )
    ]
    series(axes, runs, "rho", lambda part: part["rho"])
    for _, row in of(seen, "printed", "critical_density").iterrows():
        axes.axvspan(
            row["low"], row["high"], color=RED, alpha=0.1, linewidth=0, label="called critical"
        )
    axes.axhline(1, color=BLACK, linewidth=0.8)
    axes.set(
        title="dimensional crowding", ylabel=GAIN,
        xlabel=r"head density $\rho$, heads over width of a head",
    )  # fmt: skip
    log_axes(axes, "xy")
    key(
        axes,
        said(seen, "gain_with_rho_given_layers_rank", "rank correlation, L held"),
        said(seen, "controlled_gain_per_log_density", "controlled, ln gain per ln density"),
    )
    return drawn


def twins(axes: Axes, seen: Seen) -> Rows:
    """The gain of a model tuned from another over that of the other."""
    base, tuned = (of(seen, "twins", f"gain_{side}") for side in ("base", "instruct"))
    drawn = [points(axes, base["value"], tuned, PUBLISHED, quantity="gain_tuned")]
    shown = [
        (model, x, y, GREY)
        for model, x, y in zip(tuned["model"], base["value"], tuned["value"], strict=True)
    ]
    rows = measured(seen).set_index("model", drop=False)
    pairs = [pair for pair in seen.twins if set(pair) <= set(rows.index)]
    before, after = (rows.loc[[pair[side] for pair in pairs]] for side in (0, 1))
    drawn.append(points(axes, before["value"], after, OURS, quantity="gain_tuned"))
    chats = [by_category(seen, tuned, FINAL, ["chat"]) for _, tuned in pairs]
    if chats:
        chat, look = pd.concat(chats, ignore_index=True), Look("ours, in the chat template", SKY)
        drawn.append(
            points(axes, before["value"], chat, look, quantity="gain_tuned_chat", marker="D")
        )
    for first, then in zip(before.itertuples(), after.itertuples(), strict=True):
        axes.plot([first.low, first.high], [then.value] * 2, color=BLUE, linewidth=1)
        shown.append((then.model, first.value, then.value, BLUE))
    for model, x, y, color in shown:
        axes.annotate(
            name_of(seen, model), (x, y), xytext=(6, -9), textcoords="offset points", fontsize=7,
            color=color,
        )  # fmt: skip
    low, high = range_of(
        [*base["value"], *tuned["value"], *before["low"], *after["low"], *before["high"],
         *after["high"], *(gain for chat in chats for gain in chat["value"]), 0.9],
        room=1.3,
    )  # fmt: skip
    axes.plot([low, high], [low, high], color=BLACK, linewidth=0.8, label="unchanged")
    axes.fill_between([low, 1], 1, high, color=RED, alpha=0.08, linewidth=0, label="sign inverted")
    axes.fill_between([1, high], low, 1, color=RED, alpha=0.08, linewidth=0)
    axes.set(
        title="twin test" if pairs else "twin test: no pair at this scale", xlim=(low, high),
        ylim=(low, high), xlabel=f"base model: {GAIN}", ylabel="model tuned from it: the same",
    )  # fmt: skip
    log_axes(axes, "xy")
    key(
        axes,
        said(seen, "twin_largest_change", "largest change of ln gain"),
        said(seen, "twin_largest_change_chat", "in the chat template") if pairs else "",
        said(seen, "twin_sign_kept_by_dampers", "ln gain of tuned dampers, on their side"),
    )
    return drawn


def last_mlp(axes: Axes, seen: Seen) -> Rows:
    """What the published scaling law is of: the last MLP's output over its normed input."""

    def component(rows: pd.DataFrame) -> pd.DataFrame:
        last = [curves(seen.gains, name, "published_mlp")[:, -1:] for name in rows["model"]]
        ends = [np.ravel(median_band(values)) if values.size else [np.nan] * 3 for values in last]
        columns = ["value", "low", "high"]
        return rows.assign(**pd.DataFrame(ends, rows.index, columns).astype(float))

    look = Look("published, Pythia", GREY)
    drawn = over_size(axes, seen, ("scaling", "gain_mlp"), look, component, "gain_mlp")
    old = drawn[0]
    law = of(seen, "scaling", "exponent", "pythia").iloc[0]
    middle = np.exp(np.log(old[["against", "value"]]).mean())
    x = np.array(range_of(old["against"]))
    for exponent, words, line in (
        (law["value"], f"published, [{law['low']:.2f}, {law['high']:.2f}]", "-"),
        (printed(seen, "scaling", "exponent_hypothesised", "pythia"), "hypothesis", "--"),
    ):
        axes.plot(
            x, middle["value"] * (x / middle["against"]) ** exponent, color=GREY, linestyle=line,
            linewidth=1, label=f"exponent {exponent:.3g}: {words}",
        )  # fmt: skip
    axes.set(
        title="scaling law of the last MLP",
        ylabel=r"last MLP (G-d), $|\mathrm{output}| / |\mathrm{normed\ input}|$",
    )
    log_axes(axes, "xy")
    key(axes, said(seen, "sweep_mlp_exponent", "exponent of Pythia, ours"))
    return drawn


def definitions(axes: Axes, seen: Seen) -> Rows:
    """What has been called gain, side by side, of the models of the published benchmarks."""
    benchmarks = (("benchmark", "gain_published_b"), ("cumulative", "gain_published_c"))
    names = [seen.shown, *(name for where in benchmarks for name in of(seen, *where)["model"])]
    place = {model: -i for i, model in enumerate(dict.fromkeys(names))}
    drawn = []
    for offset, (id, where, look) in zip(
        np.linspace(0.25, -0.25, len(DEFINITIONS)), DEFINITIONS, strict=True
    ):
        bare = Look("", look.color)
        for table, quantity in where:
            old = of(seen, table, quantity)
            old = old[old["model"].isin(list(place))]
            y = old["model"].map(place) + offset
            drawn.append(points(axes, y, old, bare, quantity=quantity, along="y"))
        found = {model: number(seen, id, model) for model in place}
        own = pd.DataFrame(
            [(model, *np.exp(ends_of(n))) for model, n in found.items() if n],
            columns=["model", "value", "low", "high"],
        )
        y = own["model"].map(place).astype(float) + offset
        quantity = id.removeprefix("log_")
        drawn.append(points(axes, y, own, bare, quantity=quantity, along="y"))
        axes.plot([], [], color=look.color, marker="o", linestyle="none", label=look.label)
    axes.plot(
        [], [], color=BLACK, marker="o", markerfacecolor="white", linestyle="none",
        label="hollow: published",
    )  # fmt: skip
    axes.axvline(1, color=BLACK, linewidth=0.8)
    axes.set_yticks(list(place.values()), [name_of(seen, model) for model in place])
    axes.set(title="one word, six quantities", xlabel="gain", ylim=(-len(place) + 0.5, 0.5))
    log_axes(axes, "x")
    key(axes)
    return drawn


def norms(axes: Axes, seen: Seen) -> Rows:
    """Spectral norms of value and output matrices, layer by layer."""
    own = seen.spectra[seen.spectra["model"] == seen.shown]
    drawn = []
    for quantity, full, look in (
        ("spectral_v", True, Look("$|W_V|_2$", BLUE)),
        ("spectral_v_published", True, Look("published slice for $|W_V|_2$", SKY, ":")),
        ("spectral_o", True, Look("$|W_O|_2$", ORANGE)),
        ("spectral_ov", False, Look("$|W_O W_V|_2$ of a head, mean and range", GREEN)),
    ):
        rows = own[(own["quantity"] == quantity) & ((own["head"] < 0) == full)]
        spread = rows.groupby("layer")["value"].agg(value="mean", low="min", high="max")
        x = spread.index / max(spread.index, default=1)
        curve(axes, x, spread["value"], spread["low"], spread["high"], color=look.color,
              linestyle=look.linestyle, label=look.label)  # fmt: skip
        drawn.append(numbers(x, spread, model=seen.shown, quantity=quantity, source="ours"))
    axes.set(
        title=f"value and output matrices, {name_of(seen, seen.shown)}", ylabel="spectral norm",
        xlabel="layer over number of layers", yscale="log",
    )  # fmt: skip
    key(axes)
    return drawn


def contraction(axes: Axes, seen: Seen) -> Rows:
    """The published contraction ratio, which is below 1 by construction."""
    look = Look(name_of(seen, seen.shown), BLUE)
    drawn = profile(axes, seen.sheaf, seen.shown, "contraction", look)
    found = turning_shares(seen, controlled=False).set_index("model")["value"]
    if seen.shown in found:
        axes.axvline(found[seen.shown], color=BLACK, linestyle=":", linewidth=1, label="$L^* / L$")
    axes.axhline(1, color=BLACK, linewidth=0.8, label="most there can be")
    axes.set(
        title="contraction of restriction maps", xlabel="layer over number of layers",
        ylabel=r"$|\sqrt{A_{ij}}\,W_V| / |W_V|$, mean over pairs", ylim=(0, 1.05),
    )  # fmt: skip
    key(axes, said(seen, "contraction_highest", "in the highest block", seen.shown))
    return drawn
