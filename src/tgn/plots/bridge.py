"""The bridge: the rank of language models while their gate is closed, beside states of sedation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from tgn.plots.fig22 import look_of
from tgn.plots.style import BLACK, GREY, Look, curve, mark_simulated, panel_letter, save
from tgn.statistics import Statistic, read_statistics

RANK, RATIO = "effective_rank", "log_ratio"
BAND = ("value", "low", "high")
MAIN = ("clamped", "scaled")  # with a gate, and without one
MODES = {  # of one arm
    "random": Look("as large a share of gates open, at random", BLACK, "--"),
    "untrained": Look("weights shuffled", GREY),
}
CONTROLS = {  # of similarity, beside the arms
    "random": Look("gates open at random", BLACK, "--"),
    "untrained": MODES["untrained"],
    "depth": Look("a straight line", BLACK, ":"),
}
COLLAPSE = 2.0  # the rank when open, in ranks when shut, that figure 8 calls a collapse


def draw(
    *,
    curves: str | Path,
    matched: str | Path,
    statistics: str | Path,
    pdf: str | Path,
    png: str | Path,
    arms: Sequence[str],
    data: str,
    evidence: Literal["real", "simulated"],
    scale: str,
) -> None:
    """Draw the page from the bridge's tables and statistics.

    Parameters
    ----------
    arms
        Arms in order; the first is the one whose curve is laid beside the states.
    data, evidence
        Whose states they are; if simulated, the panels that show them say so.
    """
    records = {record.id.removeprefix("bridge."): record for record in read_statistics(statistics)}
    seen, states = map(pd.read_parquet, (curves, matched))
    first = arms[0]
    figure = plt.figure(figsize=(13.5, 7.8))
    figure.suptitle(
        "Closing the gate of trained language models (a to d), beside the states of sedation of "
        f"figure 14 (e, f: {data})",
        fontsize=11,
    )
    panels: Any = figure.subplots(2, 3)
    dose_panel(panels[0, 0], seen, arms)
    control_panel(panels[0, 1], seen, first)
    layer_panel(panels[0, 2], seen, first)
    loss_panel(panels[1, 0], seen, arms, records)
    state_panel(panels[1, 1], states, arms, data)
    similarity_panel(panels[1, 2], records, arms)
    for letter, axes in zip("abcdef", panels.ravel(), strict=True):
        panel_letter(axes, letter)
    networks = records[f"{first}_log_rank_open_minus_shut"].evidence
    if evidence == "simulated" and networks == "real":
        mark_simulated(panels[1, 1])
        mark_simulated(panels[1, 2])
    save([figure], pdf=pdf, png=png, scale=scale, simulated=networks == "simulated")


def dose_panel(axes: Axes, seen: pd.DataFrame, arms: Sequence[str]) -> None:
    """Rank after the last block against the gate, of every arm, a line a seed."""
    rows = seen[(seen["quantity"] == RATIO) & seen["mode"].isin(MAIN)]
    for arm in arms:
        look = look_of(arm)
        scaled = " (attention scaled)" if "scaled" in set(rows[rows["arm"] == arm]["mode"]) else ""
        for number, (_, run) in enumerate(rows[rows["arm"] == arm].groupby("seed")):
            _line(axes, run, look, f"{look.label}{scaled}" if number == 0 else None)
    axes.axhline(1, color=BLACK, linewidth=0.8)
    axes.axhline(COLLAPSE, color=BLACK, linewidth=1, linestyle=":")
    axes.annotate(
        "from here closing would halve the rank", (1, COLLAPSE), va="bottom", ha="right", fontsize=7
    )
    _ratio(axes)
    axes.set(title="closing the gate, by seed", ylabel="rank after the last block / gate shut")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.8), max(high, 2.3) * 1.5)
    axes.legend(loc="upper left", ncols=2, columnspacing=1)


def control_panel(axes: Axes, seen: pd.DataFrame, arm: str) -> None:
    """The first arm's curve beside its controls."""
    rows = seen[(seen["quantity"] == RATIO) & (seen["arm"] == arm)]
    look = look_of(arm)
    for number, (_, run) in enumerate(rows.groupby("seed")):
        for mode, other in {
            "clamped": look._replace(label="every gate at this level"),
            **MODES,
        }.items():
            _line(axes, run[run["mode"] == mode], other, other.label if number == 0 else None)
    axes.axhline(1, color=BLACK, linewidth=0.8)
    _ratio(axes)
    axes.set(
        title=f"{look.label}: controls, by seed", ylabel="rank after the last block / gate shut"
    )
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.3 * (high - low))
    axes.legend(loc="upper left")


def layer_panel(axes: Axes, seen: pd.DataFrame, arm: str) -> None:
    """Rank by layer at every dose, a line a seed."""
    rows = seen[(seen["arm"] == arm) & (seen["quantity"] == RANK)]
    doses = sorted(rows["dose"].dropna().unique())
    colors = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(doses)))
    for number, (_, run) in enumerate(rows.groupby("seed")):
        clamped = run[run["mode"].isin(MAIN)]
        shown = [
            (clamped[clamped["dose"] == dose], Look(f"gate {dose:g}", color))
            for dose, color in zip(doses, colors, strict=True)
        ]
        shown.append((run[run["mode"] == "own"], Look("gate as trained", BLACK, ":")))
        for part, look in shown:
            curve(
                axes, part["layer"], *(part[name] for name in BAND), color=look.color,
                linestyle=look.linestyle, marker=".", label=look.label if number == 0 else None,
            )  # fmt: skip
    axes.set(
        title=f"{look_of(arm).label}: rank by layer, by seed",
        xlabel="after block (0: input of the first)",
        ylabel="effective rank (directions)",
    )
    if rows["layer"].max() < 13:
        axes.set_xticks(sorted(rows["layer"].unique()))
    axes.legend(loc="best", ncols=2)


def loss_panel(
    axes: Axes, seen: pd.DataFrame, arms: Sequence[str], records: dict[str, Statistic]
) -> None:
    """What the dose costs: the loss above that of the network as it was trained."""
    rows = seen[(seen["quantity"] == "extra_nats") & seen["mode"].isin(MAIN)]
    for arm in arms:
        look = look_of(arm)
        for number, (_, run) in enumerate(rows[rows["arm"] == arm].groupby("seed")):
            run = run.sort_values("dose")
            curve(
                axes, run["dose"], *(run[name] for name in BAND), color=look.color,
                linestyle=look.linestyle, linewidth=1.2, marker=".",
                label=look.label if number == 0 else None,
            )  # fmt: skip
        if f"{arm}_own_gate" in records:
            axes.plot(
                records[f"{arm}_own_gate"].value, 0, marker="*", color=look.color, markersize=9,
                linestyle="none", clip_on=False, zorder=5,
            )  # fmt: skip
    axes.plot([], [], marker="*", color=GREY, linestyle="none", label="mean gate as trained")
    axes.set_yscale("symlog", linthresh=0.1)
    axes.yaxis.set_major_formatter("{x:g}")
    low, high = axes.get_ylim()
    axes.set(
        title="what it costs, by seed",
        xlabel="gate (Transformer: scale of attention)",
        ylabel="loss less that as trained (nats per token)",
        ylim=(low, high * 12),
    )
    axes.legend(loc="upper left", ncols=2, columnspacing=1)


def state_panel(axes: Axes, states: pd.DataFrame, arms: Sequence[str], data: str) -> None:
    """Rank by state over that awake: of people, and of networks at the gate for the state."""
    people = states[states["curve"] == "brain"]
    order = list(states[states["curve"] == arms[0]]["state"])
    place = people["state"].map(order.index)
    value, low, high = (np.exp(people[name]) for name in BAND)
    axes.errorbar(
        place, value, yerr=[value - low, high - value], color=BLACK, marker="o", capsize=3,
        linewidth=1.2, label=f"{data}, mean of {people['n'].max()}",
    )  # fmt: skip
    for name in (*arms, "random", "untrained"):
        look = CONTROLS.get(name) or look_of(name)
        own = states[states["curve"] == name]
        curve(
            axes, own["state"].map(order.index), *(np.exp(own[end]) for end in BAND),
            color=look.color, linestyle=look.linestyle, marker=".", linewidth=1.2, label=look.label,
        )  # fmt: skip
    gates = states[states["curve"] == arms[0]]["gate"]
    names = [f"{state}\ngate {gate:.2g}" for state, gate in zip(order, gates, strict=True)]
    axes.set_xticks(range(len(order)), names)
    axes.axhline(1, color=BLACK, linewidth=0.8)
    axes.set(
        title="states, and gates that stand for them",
        ylabel="effective rank / awake (each its own kind)",
        yscale="log",
    )
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    low_end, high_end = axes.get_ylim()
    axes.set_ylim(low_end, high_end * (high_end / low_end) ** 0.45)
    axes.legend(loc="upper left", ncols=2, columnspacing=1)


def similarity_panel(axes: Axes, records: dict[str, Statistic], arms: Sequence[str]) -> None:
    """Similarity of people's states and each curve; grey, the same with the states permuted."""
    looks = {arm: look_of(arm) for arm in arms} | CONTROLS
    for place, (name, look) in enumerate(looks.items()):
        own = "similarity" if name == arms[0] else f"similarity_{name}"
        chance, found = records[f"{own}_permuted"].interval, records[own].interval
        assert chance is not None
        assert found is not None
        axes.fill_between(
            [chance.low, chance.high], -place - 0.35, -place + 0.35, color=GREY, alpha=0.3,
            linewidth=0,
        )  # fmt: skip
        value, low, high = found
        axes.errorbar(
            value, -place, xerr=[[value - low], [high - value]], color=look.color, marker="o",
            markersize=4, capsize=3,
        )  # fmt: skip
    axes.axvline(0, color=BLACK, linewidth=0.8, zorder=0)
    places = [-place for place in range(len(looks))]
    axes.set_yticks(places, [look.label for look in looks.values()], fontsize=7)
    axes.set(title="similarity, and by chance (grey)", xlim=(-1.05, 1.05))
    axes.set_xlabel("correlation over states, mean over people", loc="left")


def _line(axes: Axes, rows: pd.DataFrame, look: Look, label: str | None) -> None:
    rows = rows.sort_values("dose")
    curve(
        axes, rows["dose"], *(np.exp(rows[name]) for name in BAND),
        color=look.color, linestyle=look.linestyle, linewidth=1.2, marker=".", label=label,
    )  # fmt: skip


def _ratio(axes: Axes) -> None:
    axes.set(xlabel="gate (Transformer: scale of attention)", yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
