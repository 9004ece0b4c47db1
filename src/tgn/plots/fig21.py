"""Figure 21: language models with a gated attention path, and what their gates do."""

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
    differences,
    panel_letter,
    save,
)
from tgn.statistics import Statistic, read_statistics
from tgn.training.plan import FLAT

ARMS = {
    "tgn": Look("TGN", RED),
    "tgn_published": Look("TGN, as published", ORANGE),
    "transformer": Look("Transformer, equal parameters", BLUE),
    "transformer_compute": Look("Transformer, equal compute", SKY, "--"),
    "recurrence": Look("recurrence only", GREEN),
}
MODES = {
    "hard": ("o", RED, "open tokens keep their gate"),
    "one": ("s", PURPLE, "published: 1 where g > 1/2"),
    "shuffled": ("x", GREY, "control: gates shuffled over tokens"),
}
RAMPS = {"fast": SKY, "slow": PURPLE}
PUBLISHED_GATE = 0.09


def draw(
    *,
    curves: str | Path,
    penalties: str | Path,
    ramps: str | Path,
    gates: str | Path,
    timing: str | Path,
    statistics: str | Path,
    pdf: str | Path,
    png: str | Path,
    swept: str,
    scale: str,
) -> None:
    """Draw the page from figure 21's tables and statistics."""
    numbers = {record.id: record for record in read_statistics(statistics)}
    seen = pd.read_parquet(curves)
    own = seen[seen["kind"] == "arm"]
    figure = plt.figure(figsize=(15, 7.6))
    any_record = next(iter(numbers.values()))
    figure.suptitle(
        f"Gated attention in {any_record.model}: loss, gates and cost",
        fontsize=11,
    )
    panels: Any = figure.subplots(2, 4)
    loss_panel(panels[0, 0], own, numbers["fig21.unigram_loss"])
    gate_panel(panels[0, 1], own)
    difference_panel(panels[0, 2], numbers)
    penalty_panel(panels[0, 3], pd.read_parquet(penalties))
    ramp_panel(panels[1, 0], pd.read_parquet(ramps))
    hard = pd.read_parquet(gates)
    hard_panel(panels[1, 1], hard[hard["run"] == f"{swept}-0"], "TGN")
    other = hard[hard["run"] != f"{swept}-0"]
    hard_panel(panels[1, 2], other, "TGN as published")
    time_panel(panels[1, 3], pd.read_parquet(timing))
    for letter, axes in zip("abcdefgh", panels.ravel(), strict=True):
        panel_letter(axes, letter)
    save([figure], pdf=pdf, png=png, scale=scale, simulated=any_record.evidence == "simulated")


def loss_panel(axes: Axes, own: pd.DataFrame, unigram: Statistic) -> None:
    """Validation loss against tokens, a line for each seed."""
    _runs(axes, own[own["quantity"] == "loss"])
    axes.axhline(unigram.value, color=BLACK, linestyle=":", linewidth=1)
    axes.annotate(
        "token frequencies alone", (1, unigram.value), xycoords=("axes fraction", "data"),
        ha="right", va="bottom", fontsize=7,
    )  # fmt: skip
    axes.set(title="validation loss, by seed", xlabel="training tokens", ylabel="nats per token")
    axes.legend()


def gate_panel(axes: Axes, own: pd.DataFrame) -> None:
    """Mean gate against tokens."""
    _runs(axes, own[own["quantity"] == "gate"])
    axes.axhline(PUBLISHED_GATE, color=BLACK, linestyle=":", linewidth=1)
    axes.annotate(
        "published: 9 %", (1, PUBLISHED_GATE), xycoords=("axes fraction", "data"),
        ha="right", va="bottom", fontsize=7,
    )  # fmt: skip
    axes.set(
        title="mean gate on validation text", xlabel="training tokens", ylabel="mean gate",
        yscale="log",
    )  # fmt: skip
    axes.legend()


def _runs(axes: Axes, rows: pd.DataFrame) -> None:
    for arm, look in ARMS.items():
        for number, (_, run) in enumerate(rows[rows["arm"] == arm].groupby("seed")):
            curve(
                axes, run["tokens"], run["value"], run["low"], run["high"],
                color=look.color, linestyle=look.linestyle, linewidth=1.2,
                label=look.label if number == 0 else None,
            )  # fmt: skip


def difference_panel(axes: Axes, numbers: dict[str, Statistic]) -> None:
    """Test loss of TGN less that of each other arm."""
    rivals = [arm for arm in ARMS if f"fig21.tgn_minus_{arm}" in numbers]
    differences(axes, [(numbers[f"fig21.tgn_minus_{arm}"], ARMS[arm]) for arm in rivals])
    axes.locator_params(axis="x", nbins=4)
    axes.set(
        title="test loss of TGN less that of ...", xlabel="nats per token (below 0: TGN is better)"
    )


def penalty_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Final gate and test perplexity against the penalty; a penalty of 0 stands at the left."""
    rows = rows.sort_values("strength")
    least = rows.loc[rows["strength"] > 0, "strength"].min()
    x = rows["strength"].where(rows["strength"] > 0, least / 10)
    axes.plot(x, rows["gate"], color=RED, marker="o", linestyle="none", label="mean gate (left)")
    axes.axhline(PUBLISHED_GATE, color=BLACK, linestyle=":", linewidth=1)
    axes.set(
        title="does the penalty set the gate?", xlabel="penalty λ in nats (leftmost: 0)",
        ylabel="final mean gate", xscale="log", yscale="log",
    )  # fmt: skip
    other = axes.twinx()
    other.plot(
        x, rows["perplexity"], color=BLUE, marker="s", markersize=4, linestyle="none",
        label="test perplexity (right)",
    )  # fmt: skip
    other.set_ylabel("test perplexity per token")
    other.grid(False)
    handles = [axes.get_legend_handles_labels(), other.get_legend_handles_labels()]
    axes.legend(handles[0][0] + handles[1][0], handles[0][1] + handles[1][1], loc="best")


def ramp_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Gate while the penalty goes up (full lines) and down (dashed), or stays."""
    for name, run in rows.groupby("run"):
        speed = name.split("-ramp-")[1].split("-")[0]
        run = run.sort_values("step")
        if speed == FLAT:
            axes.plot(
                run["penalty"], run["gate"], color=GREY, marker="_", markersize=9,
                linestyle="none", label="λ kept, as long as slow",
            )  # fmt: skip
            continue
        top = int(np.argmax(run["penalty"].to_numpy()))
        for part, style, way in ((run[: top + 1], "-", "up"), (run[top:], "--", "down")):
            curve(
                axes, part["penalty"], part["gate"], part["low"], part["high"],
                color=RAMPS.get(speed, BLACK), linestyle=style, marker=".",
                label=f"{speed}, {way}",
            )  # fmt: skip
    axes.set(
        title="penalty ramped up and down", xlabel="penalty λ in nats", ylabel="mean gate",
        xscale="log", yscale="log",
    )  # fmt: skip
    axes.set_ylim(top=axes.get_ylim()[1] * 40)  # room for the legend
    axes.legend(handlelength=3, loc="upper left")


def hard_panel(axes: Axes, rows: pd.DataFrame, arm: str) -> None:
    """Cost of hard gates against the share of open tokens."""
    for mode, (marker, color, label) in MODES.items():
        part = rows[rows["mode"] == mode].sort_values("occupancy")
        axes.errorbar(
            np.maximum(part["occupancy"], 1e-3), part["value"],
            yerr=np.abs(part[["low", "high"]].to_numpy().T - part["value"].to_numpy()),
            marker=marker, color=color, markersize=4, linewidth=1, label=label,
        )  # fmt: skip
    axes.axhline(0, color=BLACK, linewidth=0.8)
    axes.axhspan(-0.01, 0.01, color=GREY, alpha=0.15, linewidth=0)
    axes.set(
        title=f"hard gates, {arm}", xlabel="share of open tokens (test)",
        ylabel="loss less that of soft gates (nats)", xscale="log",
    )  # fmt: skip
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.4 * (high - low))  # room for the legend
    axes.legend(title="band: 1 % of perplexity", title_fontsize=7, loc="upper left")


def time_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Time of an attention layer against context, all tokens asking or some."""
    shares = sorted(rows["occupancy"].unique(), reverse=True)
    colors = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(shares)))
    for color, share in zip(colors, shares, strict=True):
        part = rows[rows["occupancy"] == share].sort_values("context")
        axes.plot(
            part["context"], 1e3 * part["value"], marker="o", markersize=3.5, color=color,
            label="full attention" if share == 1 else f"{share:.0%} of tokens open",
        )  # fmt: skip
        axes.fill_between(
            part["context"], 1e3 * part["low"], 1e3 * part["high"], color=color, alpha=0.2,
            linewidth=0,
        )  # fmt: skip
    axes.set(
        title="time of one attention layer, a sequence", xlabel="context (tokens)",
        ylabel="milliseconds (median and range)", xscale="log", yscale="log",
    )  # fmt: skip
    axes.set_xticks(sorted(rows["context"].unique()), labels=None)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.legend()
