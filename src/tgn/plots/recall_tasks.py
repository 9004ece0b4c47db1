"""The small recall tasks: one pair in noise above, ListOps below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from tgn.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    Look,
    curve,
    panel_letter,
    save,
)
from tgn.statistics import read_statistics

ARMS = {
    "attention": Look("attention", BLUE),
    "tgn": Look("TGN", RED),
    "tgn_gru": Look("TGN with a GRU", ORANGE),
    "tgn_late": Look("TGN, penalty later", RED, "--"),
    "gru": Look("GRU", GREEN),
    "mingru": Look("minGRU", GREEN, "--"),
    "mamba": Look("Mamba", PURPLE),
}
BASELINES = {
    "chance": Look("chance", BLACK, ":"),
    "most_frequent": Look("most frequent token", GREY, ":"),
    "majority": Look("majority class", BLACK, ":"),
    "first_operator": Look("majority by first operator", GREY, ":"),
    "flat": Look("first operator on all digits", GREY, "--"),
}
GENERATORS = {
    "ours": BLUE,
    "published, kept": RED,
    "published, drawn": SKY,
}
OPEN = 0.5  # a gate above it counts as open
OVERALL = "all"
MEAN = "mean"


def draw(
    *,
    accuracy: str | Path,
    occupancy: str | Path,
    shapes: str | Path,
    statistics: str | Path,
    pdf: str | Path,
    png: str | Path,
    scale: str,
) -> None:
    """Draw the page from the tables of the small recall tasks."""
    answers, gates = pd.read_parquet(accuracy), pd.read_parquet(occupancy)
    forms = pd.read_parquet(shapes)
    any_record = read_statistics(statistics)[0]
    figure = plt.figure(figsize=(15, 7.6))
    figure.suptitle(f"Small recall tasks ({any_record.model})", fontsize=11)
    panels: Any = figure.subplots(2, 4)
    for row, (task, name, x, shape) in enumerate(
        (
            ("associative", "one pair in noise", "distance from the pair to the query", "depth"),
            ("listops", "ListOps", "depth of the brackets", "length"),
        )
    ):
        own = answers[answers["task"] == task]
        arm_panel(panels[row, 0], own, name)
        stratum_panel(panels[row, 1], own, name, x)
        gate_panel(panels[row, 2], gates[gates["task"] == task], name)
        shape_panel(panels[row, 3], forms[forms["quantity"] == shape], shape)
    for letter, axes in zip("abcdefgh", panels.ravel(), strict=True):
        panel_letter(axes, letter)
    save([figure], pdf=pdf, png=png, scale=scale, simulated=any_record.evidence == "simulated")


def arm_panel(axes: Axes, own: pd.DataFrame, name: str) -> None:
    """Accuracy over all test sets, by arm; a circle for each seed."""
    whole = own[own["stratum"] == OVERALL]
    arms = [arm for arm in ARMS if arm in set(whole["arm"])]
    for place, arm in enumerate(arms):
        rows = whole[whole["arm"] == arm]
        mean = rows[rows["seed"] == MEAN].iloc[0]
        seeds = rows.loc[rows["seed"] != MEAN, "accuracy"]
        axes.errorbar(
            mean["accuracy"], -place,
            xerr=[[mean["accuracy"] - mean["low"]], [mean["high"] - mean["accuracy"]]],
            color=ARMS[arm].color, marker="|", markersize=12, capsize=3, linewidth=1,
        )  # fmt: skip
        axes.plot(
            seeds, [-place] * len(seeds), color=ARMS[arm].color, marker="o", markersize=5,
            linestyle="none", markerfacecolor="none",
        )  # fmt: skip
    for baseline, look in BASELINES.items():
        row = whole[(whole["arm"] == baseline) & (whole["seed"] == MEAN)]
        if len(row):
            axes.axvline(
                row["accuracy"].iloc[0], color=look.color, linestyle=look.linestyle,
                linewidth=1, label=look.label,
            )  # fmt: skip
    axes.set_yticks([-place for place in range(len(arms))], [ARMS[arm].label for arm in arms])
    axes.set(
        title=f"{name}: accuracy by arm", xlabel="accuracy on test sequences",
        xlim=(-0.02, 1.02), ylim=(-len(arms) + 0.4, 2.6),
    )  # fmt: skip
    axes.legend(loc="upper right", frameon=True, framealpha=1, edgecolor="none")


def stratum_panel(axes: Axes, own: pd.DataFrame, name: str, x: str) -> None:
    """Mean accuracy over seeds by distance or depth, with what needs no model."""
    rows = own[(own["stratum"] != OVERALL) & (own["seed"] == MEAN)].sort_values("low_end")
    strata = list(rows["stratum"].drop_duplicates())
    for arm, look in (ARMS | BASELINES).items():
        part = rows[rows["arm"] == arm]
        if not len(part):
            continue
        places = [strata.index(stratum) for stratum in part["stratum"]]
        style: dict[str, Any] = {"color": look.color, "linestyle": look.linestyle, "linewidth": 1.2}
        if arm in ARMS:
            curve(
                axes, places, part["accuracy"], part["low"], part["high"], marker="o",
                markersize=3.5, label=look.label, **style,
            )  # fmt: skip
        else:
            axes.plot(places, part["accuracy"], label=look.label, **style)
    axes.set_xticks(range(len(strata)), strata)
    axes.set(title=f"{name}: by {x.split()[0]}", xlabel=x, ylabel="accuracy", ylim=(-0.02, 1.5))
    axes.set_yticks(np.linspace(0, 1, 6))  # above is the key's room
    axes.legend(ncols=2, handlelength=2.6, columnspacing=1, fontsize=7, loc="upper right")


def gate_panel(axes: Axes, gates: pd.DataFrame, name: str) -> None:
    """Mean gate by role of the token: first layer as circles, the last as squares."""
    roles = [r for r in ("query", "key", "value", "noise", "operator", "digit", "bracket")
             if r in set(gates["role"])]  # fmt: skip
    layers = sorted(set(gates["layer"]) - {OVERALL}, key=int)
    arms = [arm for arm in ARMS if arm in set(gates["arm"])]
    seen = gates[gates["seed"] == MEAN].set_index(["arm", "role", "layer"])
    for number, arm in enumerate(arms):
        for layer, marker in ((layers[0], "o"), (layers[-1], "s")):
            rows = seen.loc[[(arm, role, layer) for role in roles]]
            offset = 0.8 * ((number + 0.5) / len(arms) - 0.5)
            value = rows["gate"].to_numpy()
            axes.errorbar(
                np.arange(len(roles)) + offset, value,
                yerr=np.abs(rows[["low", "high"]].to_numpy().T - value),
                color=ARMS[arm].color, marker=marker, markersize=4.5, linewidth=0.6,
                markerfacecolor="none" if ARMS[arm].linestyle == "--" else ARMS[arm].color,
                linestyle="none",
                label=ARMS[arm].label if marker == "o" else None,
            )  # fmt: skip
    axes.axhline(OPEN, color=BLACK, linestyle=":", linewidth=0.8)
    axes.annotate(
        "a gate counts as open above 1/2", (0.01, OPEN), xycoords=("axes fraction", "data"),
        ha="left", va="bottom", fontsize=7,
    )  # fmt: skip
    axes.set_xticks(range(len(roles)), roles)
    axes.set(title=f"{name}: gate by token", ylabel="mean gate", ylim=(-0.03, 1.25))
    axes.legend(
        loc="upper left", ncols=len(arms), columnspacing=0.8, handletextpad=0.1,
        title="circle: first layer, square: last", title_fontsize=7,
    )  # fmt: skip


def shape_panel(axes: Axes, forms: pd.DataFrame, quantity: str) -> None:
    """Shares of expressions by depth or length, ours and the published generator's."""
    values = sorted(forms["value"].unique())
    width = 0.8 / len(GENERATORS)
    for number, (generator, color) in enumerate(GENERATORS.items()):
        part = forms[forms["generator"] == generator]
        axes.bar(
            [values.index(value) + (number - 1) * width for value in part["value"]], part["share"],
            width=width, color=color, label=generator,
        )  # fmt: skip
    axes.set_xticks(range(len(values)), [str(value) for value in values], fontsize=7)
    axes.set(
        title=f"ListOps: {quantity} of expressions", ylabel="share of expressions",
        xlabel="depth (0: a bare digit)" if quantity == "depth" else "tokens, at least",
    )  # fmt: skip
    axes.legend()
