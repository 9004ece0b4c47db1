"""Figure 14: effective rank of functional connectivity, awake and sedated, and what moves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import LogLocator, NullLocator

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
from tgn.statistics import Statistic, read_statistics

STATES = {"awake": BLUE, "light": SKY, "deep": RED, "recovery": GREEN}
LEVELS = {  # what the subjects' ranks stand beside
    "truth": Look("clean signals", ORANGE, "none"),
    "surrogate_destroyed": Look("surrogates: spectra alone", GREY, "none"),
}
MARKERS = {"truth": "D", "surrogate_destroyed": "x"}
OFFSETS = {"truth": 0.14, "surrogate_destroyed": 0.0}
EXPANSIONS = {
    "none": Look("unchanged", GREY),
    "gain": Look("gain (5-HT2A)", RED),
    "noise": Look("noise only", SKY),
    "both": Look("gain and noise", PURPLE),
}
QUANTITIES = {"simulated": "o", "exact": "D"}
RAMPS = {"ramp": Look("sedation ramp", RED), "control": Look("no sedation", GREY, "--")}
BAND = ("value", "low", "high")
FACTORS = {
    "planted_motion": "head motion planted (mm)",
    "motion": "head motion (mm)",
    "length": "run length (volumes)",
    "parcels": "parcels",
}
ARMS = {
    "default": "motion, CSF and WM removed",
    "gsr": "global signal removed too",
    "as_published": "as published: raw images",
}
DEFINITIONS = {
    "pearson": "Pearson, eigenvalues",
    "pearson_sigma": "z-scored signals, σ",
    "covariance": "covariance",
    "sigma_centred": "centred signals, σ",
    "sigma_uncentred": "uncentred signals, σ",
    "participation_ratio": "participation ratio",
    "stable_rank": "stable rank",
    "thresholded": "thresholded (Methods text)",
}


def draw(
    *,
    states: str | Path,
    contrasts: str | Path,
    expansion: str | Path,
    lags: str | Path,
    courses: str | Path,
    distances: str | Path,
    biases: str | Path,
    statistics: str | Path,
    pdf: str | Path,
    png: str | Path,
    arm: str,
    atlas: str,
    definition: str,
    window: int,
    data: str,
    evidence: Literal["real", "simulated"],
    command: str | None,
    scale: str,
) -> None:
    """Draw the page from figure 14's tables and statistics.

    Parameters
    ----------
    arm, atlas, definition, window
        The ranks that decide, as for :func:`tgn.fmri.summary.summarise`.
    data, evidence
        What the subjects are; if simulated, the figure says so and names ``command``.
    command
        Makes this figure from the real data; not needed if they are real.
    """
    numbers = {record.id.removeprefix("fig14."): record for record in read_statistics(statistics)}
    simulated = evidence == "simulated"
    remark = f" (simulated; for the real data: {command})" if simulated else ""
    figure = page(
        *map(pd.read_parquet, (states, contrasts, expansion, lags, courses, distances, biases)),
        numbers=numbers,
        choice=(arm, atlas, definition, window),
        title=f"Effective rank of functional connectivity in four states: {data}{remark}",
    )
    save([figure], pdf=pdf, png=png, scale=scale, simulated=simulated)


def page(
    states: pd.DataFrame,
    contrasts: pd.DataFrame,
    expansion: pd.DataFrame,
    lags: pd.DataFrame,
    courses: pd.DataFrame,
    distances: pd.DataFrame,
    biases: pd.DataFrame,
    *,
    numbers: dict[str, Statistic],
    choice: tuple[str, str, str, int],
    title: str,
) -> Figure:
    """All panels."""
    figure = plt.figure(figsize=(15, 9.2))
    figure.suptitle(title, fontsize=11)
    halves: Any = figure.subfigures(2, 1)
    left, middle, right = halves[0].subfigures(1, 3, width_ratios=[1.1, 0.8, 1.4])
    panels = [
        state_panel(left.subplots(), states, numbers),
        expansion_panel(middle.subplots(), expansion),
        lag_panel(right, lags, courses),
    ]
    left, middle, right = halves[1].subfigures(1, 3, width_ratios=[1.5, 0.8, 1])
    panels += [
        bias_panel(left, biases),
        distance_panel(middle.subplots(), distances),
        effect_panel(right.subplots(), contrasts, choice),
    ]
    for letter, axes in zip("abcdef", panels, strict=True):
        panel_letter(axes, letter)
    return figure


def state_panel(axes: Axes, table: pd.DataFrame, numbers: dict[str, Statistic]) -> Axes:
    """Rank by state, a line a subject, with means, truth, surrogates and real people."""
    place = {state: x for x, state in enumerate(STATES)}
    alone = table[table["kind"] == "subject"]
    for _, subject in alone.groupby("subject"):
        own = subject.assign(x=subject["state"].map(place)).sort_values("x")
        axes.plot(own["x"], own["value"], color=GREY, linewidth=0.7, alpha=0.8)
    means = table[table["kind"] == "mean"]
    _points(axes, means["state"].map(place), means, BLACK, "o", "mean, 95 %", size=6)
    for kind, look in LEVELS.items():
        rows = table[table["kind"] == kind]
        if len(rows):
            x = rows["state"].map(place) + OFFSETS[kind]
            _points(axes, x, rows, look.color, MARKERS[kind], look.label)
    names = list(STATES)
    if (table["kind"] == "person").any():
        people = table[table["kind"] == "person"]["value"]
        x = len(names) + np.linspace(-0.15, 0.1, len(people))
        axes.plot(x, people, "o", color=GREY, markersize=2.5)
        for kind, color, marker in (
            ("people", BLACK, "o"),
            ("people_surrogate_destroyed", GREY, MARKERS["surrogate_destroyed"]),
        ):
            rows = table[table["kind"] == kind]
            _points(axes, [len(names)] * len(rows), rows, color, marker, None)
        names.append(f"{len(people)} real\npeople, awake")
    axes.set_xticks(range(len(names)), names)
    p, size = numbers["p_awake_deep"], numbers["dz_awake_deep"]
    axes.set(
        title=f"rank by state, {p.n} {'virtual ' if p.evidence == 'simulated' else ''}subjects",
        ylabel="effective rank (directions)",
        ylim=(0, 1.32 * table["value"].max()),
    )
    interval = "" if size.ci_low is None else f" [{size.ci_low:.2f}, {size.ci_high:.2f}]"
    said = f"awake - deep: p = {p.value:.2g} (sign flips), dz = {size.value:.2f}{interval}"
    axes.text(0.02, 0.985, said, transform=axes.transAxes, va="top", fontsize=7.5)
    axes.legend(ncols=2, loc="upper left", bbox_to_anchor=(0, 0.955), columnspacing=1)
    return axes


def _points(
    axes: Axes,
    x: Any,
    rows: pd.DataFrame,
    color: str,
    marker: str,
    label: str | None,
    size: int = 5,
) -> None:
    """Means with their intervals, where there are any."""
    bars = np.abs(rows[["low", "high"]].to_numpy(dtype=float).T - rows["value"].to_numpy())
    axes.errorbar(
        x, rows["value"], yerr=np.nan_to_num(bars), color=color, marker=marker, linestyle="none",
        markersize=size, capsize=2, linewidth=1.2, label=label,
    )  # fmt: skip


def expansion_panel(axes: Axes, table: pd.DataFrame) -> Axes:
    """How the rank grows in the model under the drug, the noise, both and neither."""
    offsets = {"simulated": -0.15, "exact": 0.2}
    for x, (arm, look) in enumerate(EXPANSIONS.items()):
        for quantity, marker in QUANTITIES.items():
            rows = table[(table["arm"] == arm) & (table["quantity"] == quantity)]
            alone = np.exp(rows.loc[rows["kind"] == "person", "value"])
            spread = np.linspace(-0.1, 0.1, len(alone))
            place = x + offsets[quantity]
            axes.plot(
                place + spread, alone, marker, color=look.color, markersize=2.5, alpha=0.5,
                linestyle="none",
            )  # fmt: skip
            mean = rows[rows["kind"] == "mean"]
            ends = np.exp(mean[["low", "high", "value"]])
            _points(axes, [place] * len(ends), ends, BLACK, marker, None)
    axes.axhline(1, color=BLACK, linewidth=0.8)
    for quantity, label in (("simulated", "runs"), ("exact", "linearised model, exact")):
        axes.plot([], [], QUANTITIES[quantity], color=BLACK, markersize=4, label=label)
    people = int(table.loc[table["kind"] == "mean", "n"].max())
    names = [look.label.replace(" ", "\n", 1) for look in EXPANSIONS.values()]
    axes.set_xticks(range(len(EXPANSIONS)), names)
    axes.set(
        title=f"drug in silico, {people} connectomes",
        ylabel="rank after the change / before",
        yscale="log",
    )
    axes.yaxis.set_major_locator(LogLocator(subs=(0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.4, 1.6, 2, 3)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.2)
    axes.legend(loc="upper left")
    return axes


def lag_panel(figure: SubFigure, table: pd.DataFrame, courses: pd.DataFrame) -> Axes:
    """Rank and synchrony while the model is sedated, and which of them leads."""
    grid = figure.add_gridspec(2, 2, width_ratios=[1, 1.15])
    upper, lower = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0])
    labels = {"rank": "effective rank in windows", "kuramoto": "synchrony (Kuramoto)"}
    for axes, (quantity, label) in zip((upper, lower), labels.items(), strict=True):
        rows = courses[courses["quantity"] == quantity]
        for arm, look in RAMPS.items():
            part = rows[rows["arm"] == arm].sort_values("time_s")
            curve(axes, *(part[name] for name in ("time_s", *BAND)), **look._asdict())
        axes.set(ylabel=label)
    upper.tick_params(labelbottom=False)
    upper.set(title=f"rank and synchrony in silico, {int(table['n'].max())} connectomes")
    low, high = upper.get_ylim()
    upper.set_ylim(low, high + 0.45 * (high - low))
    upper.legend(loc="upper left")
    lower.set(xlabel="time (s)")
    axes = figure.add_subplot(grid[:, 1])
    rows = table[table["measure"] == "kuramoto"]
    ramp = rows[rows["arm"] == "ramp"].sort_values("lag_s")
    axes.fill_between(
        ramp["lag_s"], ramp["surrogate_low"], ramp["surrogate_high"], color=GREY, alpha=0.25,
        linewidth=0, label="single ramps, phase-randomised",
    )  # fmt: skip
    for end in ("permuted_low", "permuted_high"):
        axes.plot(
            ramp["lag_s"], ramp[end], color=BLACK, linestyle=":", linewidth=0.9,
            label="mean, rank of other ramps" if end == "permuted_low" else None,
        )  # fmt: skip
    for arm, look in RAMPS.items():
        part = rows[rows["arm"] == arm].sort_values("lag_s")
        curve(
            axes, *(part[name] for name in ("lag_s", *BAND)), color=look.color,
            linestyle=look.linestyle,
        )  # fmt: skip
    axes.axvline(0, ymax=0.8, color=BLACK, linewidth=0.8)
    axes.axhline(0, color=BLACK, linewidth=0.8)
    axes.set(
        title=" ", xlabel="lag (s); right: rank leads", ylabel="correlation of rank and synchrony"
    )
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.25 * (high - low))
    axes.legend(loc="upper left")
    return upper


def bias_panel(figure: SubFigure, table: pd.DataFrame) -> Axes:
    """Rank awake and in deep sedation against what should not move it."""
    shown = [factor for factor in FACTORS if factor in set(table["factor"])]
    if not shown:  # no virtual cohort, so that nothing was moved
        axes: Axes = figure.subplots()
        axes.set(title="what moves the estimate: not measured", xticks=[], yticks=[])
        return axes
    panels = np.atleast_1d(figure.subplots(1, len(shown), sharey=True))
    for axes, factor in zip(panels, shown, strict=True):
        rows = table[table["factor"] == factor]
        for state in ("awake", "deep"):
            own = rows[rows["state"] == state].sort_values("level")
            for quantity, style in (("rank", "-"), ("truth", ":")):
                part = own[own["quantity"] == quantity]
                if part.empty:
                    continue
                label = state if quantity == "rank" else f"{state}, clean signals"
                axes.plot(
                    part["level"], part["value"], color=STATES[state], linestyle=style, marker=".",
                    label=label,
                )  # fmt: skip
                axes.fill_between(
                    part["level"], part["low"], part["high"], color=STATES[state], alpha=0.15,
                    linewidth=0,
                )  # fmt: skip
        axes.set(xlabel=FACTORS[factor], title=" ")
    panels[0].set(title="what moves the estimate", ylabel="effective rank (directions)")
    panels[0].set_ylim(bottom=0)
    panels[0].legend(loc="best")
    first: Axes = panels[0]
    return first


def distance_panel(axes: Axes, table: pd.DataFrame) -> Axes:
    """Change of connectivity by distance, with errors over subjects and the parcels' null."""
    rows = table[table["kind"] == "bin"].sort_values("distance_mm")
    axes.fill_between(
        rows["distance_mm"], rows["null_low"], rows["null_high"], color=GREY, alpha=0.25,
        linewidth=0, label="parcels permuted, 95 %",
    )  # fmt: skip
    _points(axes, rows["distance_mm"], rows, RED, "o", "mean over subjects, 95 %")
    axes.axhline(0, color=BLACK, linewidth=0.8)
    axes.set(
        title="connectivity, deep - awake",
        xlabel="distance of parcels (mm)",
        ylabel="change of correlation",
    )
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.25 * (high - low))
    axes.legend(loc="upper left")
    return axes


def effect_panel(axes: Axes, table: pd.DataFrame, choice: tuple[str, str, str, int]) -> Axes:
    """Effect size of the fall from awake to deep, however the rank is measured."""
    arm, atlas, definition, window = choice
    falls = table[(table["first"] == "awake") & (table["second"] == "deep")]
    falls = falls[falls["arm"] != "truth"]  # whose spread is not that of a measurement
    kept = [falls["arm"] == arm, falls["atlas"] == atlas]
    kept += [falls["definition"] == definition, falls["window"] == window]
    groups = []  # what is varied, and the rows that differ from the choice in nothing else
    for column, same in zip(("arm", "atlas", "definition", "window"), kept, strict=True):
        others = np.logical_and.reduce([mask for mask in kept if mask is not same])
        groups.append((column, falls[others & ~same]))
    chosen = falls[np.logical_and.reduce(kept)]
    rows = pd.concat([chosen, *(part for _, part in groups)])
    names = ["the rank that decides"]
    names += [_named(column, row) for column, part in groups for _, row in part.iterrows()]
    for y, (_, row) in enumerate(rows.iterrows()):
        color = BLACK if y == 0 else ORANGE if row["arm"] == "as_published" else BLUE
        axes.plot([row["dz_low"], row["dz_high"]], [y, y], color=color, linewidth=2)
        axes.plot(row["dz"], y, "o", color=color, markersize=4)
        axes.text(
            1.02, y, f"p = {row['p']:.1g}", fontsize=7, va="center",
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    axes.axvline(0, color=BLACK, linewidth=0.8)
    axes.set_yticks(range(len(rows)), names, fontsize=7.5)
    axes.set(
        title="awake - deep, however measured",
        ylim=(len(rows) - 0.5, -0.5),
    )
    axes.set_xlabel("dz (95 %); above 0: the rank falls", loc="left")
    return axes


def _named(column: str, row: pd.Series) -> str:
    value = row[column]
    if column == "window":
        return f"windows of {value} volumes" if value else "whole run"
    return str({"arm": ARMS, "definition": DEFINITIONS}.get(column, {}).get(value, value))
