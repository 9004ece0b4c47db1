"""Figure 5: the three-dimensional Edwards-Anderson spin glass, arm by arm."""

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
    YELLOW,
    odds,
    panel_letter,
    save,
)

ARMS = {
    "tgn": ("TGN", RED, "-", "o"),
    "tgn_gate_shut": ("TGN, gate shut", RED, "--", "d"),
    "tgn_cold": ("TGN at T = 0.1", RED, ":", "*"),
    "tempering": ("parallel tempering", BLUE, "-", "s"),
    "tempering_houdayer": ("tempering + Houdayer clusters", SKY, "-", "D"),
    "tempering_bitcoded": ("tempering, bit-coded (another class of kernel)", BLUE, ":", "P"),
    "annealing": ("simulated annealing", GREEN, "-", "^"),
    "langevin": ("Langevin, not clipped", ORANGE, "-", "v"),
    "langevin_published": ("Langevin, as published", ORANGE, "--", "v"),
    "attention_published": ("attention, as published", PURPLE, "--", "D"),
    "tempering_published": ("tempering, as published", YELLOW, "--", "D"),
    "random_restarts": ("random restarts + quench", GREY, "-", "x"),
    "greedy_quench": ("one greedy quench", GREY, "--", "x"),
    "random_configurations": ("best random configuration", BLACK, ":", "x"),
}
COUPLINGS = {"gaussian": "Gaussian couplings", "bimodal": "±J couplings"}


def draw(
    *,
    curves: str | Path,
    times: str | Path,
    fits: str | Path,
    gates: str | Path,
    pdf: str | Path,
    png: str | Path,
    scale: str,
) -> None:
    """Draw one row of panels for each kind of coupling.

    The energies above the reference come at equal CPU time (a, b) and at equal spin updates (c).
    The spins are simulated by nature of the model, which is the subject itself here; the page is
    marked as simulated nowhere else than in its statistics.
    """
    means, solved, laws, opening = map(pd.read_parquet, (curves, times, fits, gates))
    kinds = [kind for kind in COUPLINGS if kind in set(means["disorder"])]
    figure = plt.figure(figsize=(17, 4.1 * len(kinds) + 1.5))
    figure.suptitle(
        "3-D Edwards-Anderson spin glass: residual energies and times to solution, "
        "means with 95 % bootstrap intervals over disorder samples",
        fontsize=11,
    )
    panels: Any = figure.subplots(len(kinds) + 1, 5, height_ratios=[1] * len(kinds) + [0.28])
    for row, kind in enumerate(kinds):
        own = means[means["disorder"] == kind]
        residual_panel(panels[row, 0], own, COUPLINGS[kind])
        convergence_panel(panels[row, 1], own, "seconds", "CPU seconds a sample")
        convergence_panel(panels[row, 2], own, "updates", "spin updates of a sample")
        own_laws = laws[laws["disorder"] == kind] if len(laws) else laws
        times_panel(panels[row, 3], solved[solved["disorder"] == kind], own_laws)
        gate_panel(panels[row, 4], opening[opening["disorder"] == kind])
    for axes in panels[-1]:
        axes.axis("off")
    arms_legend(panels[-1, 0], panels[:-1, 0])
    for letter, axes in zip("abcdefghij", panels[:-1].ravel(), strict=False):
        panel_letter(axes, letter)
    save([figure], pdf=pdf, png=png, scale=scale, simulated=False)


def arms_legend(key: Axes, panels: Any, ncols: int = 6) -> None:
    """Every arm of any panel once, in the order of ``ARMS``."""
    handles: dict[str, Any] = {}
    for axes in panels:
        handles |= {
            label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
    labels = [label for label, *_ in ARMS.values() if label in handles]
    legend = key.legend(
        [handles[label] for label in labels], labels, loc="upper left", ncols=ncols,
        bbox_to_anchor=(-0.05, 0.95),
    )  # fmt: skip
    legend.set_in_layout(False)


def _lines(
    axes: Axes, rows: pd.DataFrame, x: str, y: str, low: str, high: str, *, joined: bool = True
) -> None:
    for arm, (label, colour, style, marker) in ARMS.items():
        part = rows[rows["arm"] == arm].sort_values(x)
        part = part[np.isfinite(part[y]) & (part[y] > 0)]
        if part.empty:
            continue
        bars = np.abs(part[[low, high]].to_numpy().T - part[y].to_numpy())
        bars[~np.isfinite(bars)] = 0
        line = style if joined else "none"
        axes.errorbar(
            part[x], part[y], yerr=bars, label=label, color=colour, marker=marker, linestyle=line,
            markersize=4, linewidth=1.2, elinewidth=0.8,
        )  # fmt: skip


def residual_panel(axes: Axes, rows: pd.DataFrame, couplings: str) -> None:
    last = rows[rows["checkpoint"] == rows.groupby(["arm", "side"])["checkpoint"].transform("max")]
    _lines(axes, last, "side", "residual", "ci_low", "ci_high")
    samples = int(last["n"].max())
    known = last[last["n"] == samples].groupby("side")["converged"].max()
    axes.set_xticks(known.index, [f"{side}\n{share:.0%}" for side, share in known.items()])
    axes.set(
        title=f"{couplings}, {samples} samples a size",
        xlabel="side L; samples with a converged reference",
        ylabel="energy per spin above the reference (J)",
        yscale="log",
    )


def convergence_panel(axes: Axes, rows: pd.DataFrame, work: str, label: str) -> None:
    largest = rows["side"].max()
    _lines(axes, rows[rows["side"] == largest], work, "residual", "ci_low", "ci_high")
    axes.set(
        title=f"Convergence at L = {largest}",
        xlabel=label,
        ylabel="energy per spin above the reference (J)",
        xscale="log",
        yscale="log",
    )


def times_panel(axes: Axes, rows: pd.DataFrame, laws: pd.DataFrame) -> None:
    able = set(rows.loc[rows["solved"] > 0, "arm"])  # of solving any sample at all
    rows = rows[rows["arm"].isin(able)]
    rows = rows.assign(place=rows["side"] + rows["arm"].map(_offsets(able)).astype(float))
    _lines(axes, rows, "place", "tts", "ci_low", "ci_high", joined=False)
    for arm, part in rows[rows["solved"] == 0].groupby("arm"):
        axes.plot(
            part["place"], part["ci_low"], color=ARMS[str(arm)][1], linestyle="none", marker="^",
            markerfacecolor="none", markersize=4,
        )  # fmt: skip
    notes = [
        "open triangles: nothing solved at this size, 97.5 % bound",
        "fits: lines power law, dashes exponential",
    ]
    for arm, part in laws.groupby("arm") if len(laws) else ():
        label, colour, *_ = ARMS[str(arm)]
        for law, style in (("exponential", "--"), ("power", "-")):
            axes.plot(part["side"], part[law], color=colour, linestyle=style, linewidth=0.9)
        difference = float(part["aic_difference"].iloc[0])
        favoured = "power law" if difference > 0 else "exponential"
        ratio = odds(abs(difference) / 2)
        verdict = f"{favoured} {ratio}" if abs(difference) > 2 else "undecided"
        notes.append(f"{label.split(' (')[0]}: {verdict}")
    axes.text(
        0.02, 0.99, "\n".join(notes), transform=axes.transAxes, va="top", fontsize=7, zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )  # fmt: skip
    finite = pd.concat([rows["tts"], rows["ci_low"]])
    finite = finite[np.isfinite(finite) & (finite > 0)]
    axes.set(
        ylim=(finite.min() / 3, finite.max() * 1e3) if len(finite) else None,
        xticks=sorted(rows["side"].unique()),
        title="Time to solution at 99 %",
        xlabel="side L",
        ylabel="CPU seconds",
        yscale="log",
    )


def _offsets(arms: set[str]) -> dict[str, float]:
    """Small shifts that keep the marks of arms at one size apart."""
    shown = [arm for arm in ARMS if arm in arms]
    return dict(zip(shown, np.linspace(-0.35, 0.35, len(shown)), strict=True))


def gate_panel(axes: Axes, rows: pd.DataFrame) -> None:
    if rows.empty:
        axes.axis("off")
        return
    largest = rows[(rows["side"] == rows["side"].max()) & (rows["arm"] == "tgn")]
    for column, label, colour in (
        ("gate", "gate: share of geometric steps", RED),
        ("local_acceptance", "acceptance of local steps", BLUE),
        ("geometric_acceptance", "acceptance of geometric steps", GREEN),
    ):
        axes.plot(
            largest["temperature"],
            largest[column],
            color=colour,
            label=label,
            marker="o",
            markersize=3,
        )
        axes.fill_between(
            largest["temperature"], largest[f"{column}_low"], largest[f"{column}_high"],
            color=colour, alpha=0.18, linewidth=0,
        )  # fmt: skip
    axes.set(
        title=f"TGN at L = {rows['side'].max()}, the gate as frozen",
        xlabel="temperature (J)",
        ylabel="probability",
    )
    axes.set_ylim(bottom=0)
    axes.margins(y=0.3)
    axes.legend()
