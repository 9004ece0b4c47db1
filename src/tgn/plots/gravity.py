"""Gravity: attention of tokens that attract, as published and repaired, beside a Transformer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

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
from tgn.training.plan import MEAN

# The colour tells the family, dashes what was changed in it.
ARMS = {
    "vanilla": Look("Transformer, equal parameters", BLUE),
    "vanilla_width": Look("Transformer, equal MLP", BLUE, "--"),
    "published": Look("gravity as published", ORANGE),
    "gravity": Look("gravity, corrected", RED),
    "no_radius": Look("corrected, no radius", PURPLE, "--"),
    "hard_radius": Look("corrected, hard radius", PURPLE, ":"),
    "no_repulsion": Look("corrected, no repulsion", GREY, "--"),
    "mass_in_value": Look("corrected, mass on values", GREEN),
    "combination": Look("mass on values, no repulsion", SKY, "-."),
    "published_mass_in_value": Look("published, mass on values", ORANGE, "-."),
    "published_no_repulsion": Look("published, no repulsion", ORANGE, "--"),
    "published_no_radius": Look("published, no radius", ORANGE, ":"),
    "published_interval_8": Look("published, rarer repulsion", ORANGE, "--"),
    "published_soft_cutoff": Look("published, soft cutoff", ORANGE, ":"),
}
SHOWN = ("vanilla", "published", "gravity", "mass_in_value")  # in the key of the panel of curves
PROBED = ("gravity", "mass_in_value", "published")
BASE = "gravity"  # with which ablations are compared
PAIRS = (
    ("vanilla_width", "vanilla"),
    ("published", "vanilla"),
    ("gravity", "vanilla"),
    ("mass_in_value", "vanilla"),
    ("combination", "vanilla"),
    ("no_radius", BASE),
    ("hard_radius", BASE),
    ("no_repulsion", BASE),
    ("mass_in_value", BASE),
    ("combination", BASE),
    ("published_mass_in_value", "published"),
    ("published_no_repulsion", "published"),
    ("published_no_radius", "published"),
    ("published_interval_8", "published"),
    ("published_soft_cutoff", "published"),
)


def draw(
    *,
    curves: str | Path,
    numbers: str | Path,
    masses: str | Path,
    pulls: str | Path,
    speeds: str | Path,
    statistics: str | Path,
    timings: str | Path,
    arms: dict[str, str],
    clock: str,
    pdf: str | Path,
    png: str | Path,
    scale: str,
) -> None:
    """Draw the page from the figure's tables and statistics.

    Parameters
    ----------
    arms
        The arm of every run.
    clock
        Whose seconds were counted: ``CPU`` or ``GPU``.
    """
    records = {r.id.removeprefix("gravity."): r for r in read_statistics(statistics)}
    slower = {r.id.removeprefix("gravity."): r for r in read_statistics(timings)}
    losses, drawn, speed = map(pd.read_parquet, (curves, pulls, speeds))
    learned, heavy = (
        table.assign(arm=table["run"].map(arms))
        for table in map(pd.read_parquet, (numbers, masses))
    )
    figure = plt.figure(figsize=(15, 7.8))
    unigram = records["unigram_loss"]
    figure.suptitle(
        f"Attention by gravity in {unigram.model}: as published, with a kernel that repels the "
        "near, and corrected, with one that attracts",
        fontsize=11,
    )
    panels: Any = figure.subplots(2, 4)
    loss_panel(panels[0, 0], losses, unigram)
    difference_panel(panels[0, 1], records)
    number_panel(panels[0, 2], learned, "radius", "radius R")
    number_panel(panels[0, 3], learned, "gamma", "strength gamma")
    mass_panel(panels[1, 0], heavy, records)
    pull_panel(panels[1, 1], drawn, records, trained=True)
    pull_panel(panels[1, 2], drawn, records, trained=False)
    speed_panel(panels[1, 3], speed, slower, clock)
    for letter, axes in zip("abcdefgh", panels.ravel(), strict=True):
        panel_letter(axes, letter)
    simulated = any(record.evidence == "simulated" for record in records.values())
    save([figure], pdf=pdf, png=png, scale=scale, simulated=simulated)


def loss_panel(axes: Axes, losses: pd.DataFrame, unigram: Statistic) -> None:
    """Validation loss against tokens, mean over seeds, from the least to the greatest."""
    means = losses[losses["seed"].astype(str) == MEAN]
    starts = means[means["step"] == 0].set_index("arm")["validation"]
    for arm in SHOWN:
        rows, look = means[means["arm"] == arm], ARMS[arm]
        begins = f" (begins at {starts[arm]:.0f})" if arm == "published" else ""
        curve(
            axes, rows["tokens"], rows["validation"], rows["low"], rows["high"],
            color=look.color, linestyle=look.linestyle, label=look.label + begins,
            linewidth=4 if arm == "vanilla" else 1.3,  # seen under those that do as well
        )  # fmt: skip
    for arm, rows in means[~means["arm"].isin(SHOWN)].groupby("arm"):
        look = ARMS[arm]
        axes.plot(
            rows["tokens"], rows["validation"], color=look.color, linestyle=look.linestyle,
            linewidth=0.7,
        )  # fmt: skip
    axes.axhline(
        unigram.value, color=BLACK, linestyle=":", linewidth=1, label="token frequencies alone"
    )
    axes.set_ylim(means["validation"].min() - 0.15, starts["vanilla"] + 2.2)
    axes.set(
        title="validation loss against tokens", xlabel="training tokens", ylabel="nats per token"
    )
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.legend(loc="upper right", handlelength=1.3)


def difference_panel(axes: Axes, records: dict[str, Statistic]) -> None:
    """Test loss of each arm less the Transformer's, and of each ablation less what it changes."""
    rows = []
    for one, other in PAIRS:
        record = records.get(f"{one}_minus_{other}")
        if record:
            name = ARMS[one].label.removeprefix("corrected, ").removeprefix("gravity ")
            rows.append((record, ARMS[one]._replace(label=name)))
    differences(axes, rows)
    axes.margins(x=0.1)
    others = [other for one, other in PAIRS if f"{one}_minus_{other}" in records]
    for place in range(1, len(others)):
        if others[place] != others[place - 1]:
            axes.axhline(0.5 - place, color=GREY, linewidth=0.8)
    axes.set(
        title="test loss less the Transformer's (top),\n     ablations: less the form they change",
        xlabel="nats per token (below 0: better)",
    )


def number_panel(axes: Axes, learned: pd.DataFrame, column: str, label: str) -> None:
    """A learned number by layer and head, beside where it began."""
    layers = learned["layer"].max() + 1
    for place, arm in enumerate(PROBED):
        rows, look = learned[learned["arm"] == arm], ARMS[arm]
        after = rows[rows["trained"]]
        spread = (after["head"] - after["head"].mean()) / max(1, after["head"].nunique()) * 0.6
        width = 0.8 / len(PROBED)
        x = after["layer"] + 1 + (place - (len(PROBED) - 1) / 2) * width + spread * width
        axes.plot(
            x, after[column], linestyle="none", marker="o", markersize=3, color=look.color,
            alpha=0.8, label=look.label,
        )  # fmt: skip
        start = rows.loc[~rows["trained"], column].mean()
        axes.axhline(start, color=look.color, linewidth=1, linestyle=":")
    axes.set(
        title=f"{label.split()[0]} by head (dotted: start)", xlabel="layer", ylabel=label,
        yscale="log",
    )  # fmt: skip
    axes.set_xticks(range(1, layers + 1))
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.35)
    _plain_log(axes)
    axes.legend(loc="upper left")


def mass_panel(axes: Axes, heavy: pd.DataFrame, records: dict[str, Statistic]) -> None:
    """Mass against frequency of every token of the vocabulary, one seed."""
    for arm in ("published", "mass_in_value", "gravity"):
        rows = heavy[(heavy["arm"] == arm) & (heavy["count"] > 0)]
        rows = rows[rows["run"] == rows["run"].min()]
        rank = records[f"{arm}_rank_mass_frequency"]
        axes.plot(
            rows["count"], rows["mass"], linestyle="none", marker=".", markersize=1.6, alpha=0.5,
            color=ARMS[arm].color, rasterized=True,
            label=_measured(arm, rank),
        )  # fmt: skip
    axes.set(
        title="mass against frequency", xlabel="count in the train split", ylabel="mass",
        xscale="log", yscale="log",
    )  # fmt: skip
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.45)
    axes.legend(loc="upper left", markerscale=5, title="rank correlation", title_fontsize=7.5)


def pull_panel(
    axes: Axes, drawn: pd.DataFrame, records: dict[str, Statistic], *, trained: bool
) -> None:
    """Attention against distance, over that of uniform attention."""
    suffix = "" if trained else "_untrained"
    for arm in PROBED:
        rows = drawn[(drawn["arm"] == arm) & (drawn["trained"] == trained)]
        rank = records.get(f"{arm}_rank_weight_distance_inside{suffix}")
        if rows.empty or rank is None:
            continue
        curve(
            axes, rows["distance"], rows["weight"], rows["low"], rows["high"],
            color=ARMS[arm].color, label=_measured(arm, rank),
        )  # fmt: skip
    axes.axhline(1, color=BLACK, linewidth=0.8, linestyle=":")
    axes.axvline(1, ymax=0.7, color=BLACK, linewidth=0.8, linestyle=":")  # below the key
    axes.set_yscale("symlog", linthresh=0.1, linscale=0.5)
    high = axes.get_ylim()[1]
    axes.set_ylim(0, high * 12)
    axes.set_yticks([t for t in (0, 0.1, 1, 10, 100) if t <= high])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set(
        title=f"who attracts, {'trained' if trained else 'untrained (control)'}",
        xlabel="distance / radius", ylabel="attention / uniform attention", xlim=(0, 2),
    )  # fmt: skip
    title = "rank correlation of weight\nand distance, within the radius"
    axes.legend(loc="upper right", handlelength=1.3, title=title, title_fontsize=7.5)


def speed_panel(axes: Axes, speed: pd.DataFrame, slower: dict[str, Statistic], clock: str) -> None:
    """Training steps a second against context, at equal tokens a step."""
    for arm in ("vanilla", "gravity", "published"):
        rows, look = speed[speed["model"] == arm].sort_values("context"), ARMS[arm]
        record = slower.get(f"{arm}_log_step_time_over_vanilla")
        times = f" ({np.exp(record.value):.2g} x the time)" if record else ""
        curve(
            axes, rows["context"], rows["speed"], rows["low"], rows["high"],
            color=look.color, marker="o", markersize=4, label=look.label + times,
        )  # fmt: skip
    contexts = sorted(speed["context"].unique())
    axes.set(
        title="speed, at equal tokens a step", xlabel="context (tokens)",
        ylabel=f"steps per {clock} second", xscale="log", yscale="log",
    )  # fmt: skip
    axes.set_xticks(contexts, [f"{context}" for context in contexts])
    axes.minorticks_off()
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.5)
    _plain_log(axes)
    axes.legend(loc="upper left", title=f"at {contexts[-1]} tokens", title_fontsize=7.5)


def _measured(arm: str, record: Statistic) -> str:
    """A line of a key: the arm, its number and the interval."""
    label = ARMS[arm].label.removeprefix("corrected, ")
    between = f" [{record.ci_low:+.2f}, {record.ci_high:+.2f}]" if record.interval else ""
    return f"{label}: {record.value:+.2f}{between}"


def _plain_log(axes: Axes) -> None:
    """Ticks of a logarithmic axis as numbers."""
    low, high = axes.get_ylim()
    for steps in ([1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 8]):
        ticks = np.outer(10.0 ** np.arange(-4, 5), steps).ravel()
        shown = ticks[(ticks >= low) & (ticks <= high)]
        if len(shown) > 2:
            break
    axes.set_yticks(shown)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
