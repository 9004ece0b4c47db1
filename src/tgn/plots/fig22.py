"""Figure 22: attention, Mamba and TGN: convergence on text, and associative recall."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.markers import CARETDOWN
from matplotlib.ticker import EngFormatter, SymmetricalLogLocator

from tgn.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    Look,
    curve,
    differences,
    panel_letter,
    save,
)
from tgn.statistics import Statistic, read_statistics
from tgn.training.plan import MEAN, REFERENCE

# The colour tells the family, dashes what is inside. Arms of figure 21 look as they do there.
ARMS = {
    "transformer": Look("Transformer", BLUE),
    "attention": Look("attention", BLUE),
    "mamba": Look("Mamba", PURPLE),
    "recurrence": Look("recurrence only (minGRU)", GREEN),
    "mingru": Look("minGRU", GREEN),
    "gru": Look("GRU", GREEN, "--"),
    "tgn": Look("TGN, minGRU inside", RED),
    "tgn_gru": Look("TGN, GRU inside", RED, ":"),
    "tgn_mamba": Look("TGN, Mamba inside", RED, "--"),
    "tgn_sequential": Look("TGN, sequential", RED, "-."),
    "tgn_free": Look("TGN, no penalty", RED, (0, (3, 1, 1, 1, 1, 1))),  # type: ignore[arg-type]
    "tgn_published": Look("TGN, as published", ORANGE),
}
POSITIONS = {"query": (RED, "o"), "context": (BLUE, "s"), "other": (GREY, "^")}
PUBLISHED_GATE = 0.01  # the early phase is said to stay below
FLOOR = 1e-4  # of gates, on a logarithmic axis
USUAL_STATES = 16  # of each channel of Mamba
MARKERS = {"-": "o", "--": "s", ":": "^", "-.": "D"}  # by the line of an arm's look, else P
LENGTH, PAIRS = "input_seq_len", "num_kv_pairs"


def draw(
    *,
    convergence: str | Path,
    recall: str | Path,
    occupancy: str | Path,
    recall_training: str | Path,
    statistics: str | Path,
    timings: str | Path,
    pdf: str | Path,
    png: str | Path,
    scale: str,
) -> None:
    """Draw the page from figure 22's tables and statistics.

    Of the seeds of an arm the rows called ``mean`` are drawn, where a table has such rows.
    """
    numbers = {record.id: record for record in read_statistics(statistics)}
    clock = next(r.unit for r in read_statistics(timings) if r.id.endswith("_seconds"))
    losses, answers, gates, training = (
        of_all_seeds(pd.read_parquet(path))
        for path in (convergence, recall, occupancy, recall_training)
    )
    unigram = numbers["fig22.unigram_loss"]
    guess = (unigram, numbers["fig22.unigram_entropy"])
    figure = plt.figure(figsize=(15, 7.8))
    figure.suptitle(
        f"Attention, Mamba and TGN: convergence of {unigram.model}, at equal parameters (a to c), "
        "and multi-query associative recall (d to h)",
        fontsize=11,
    )
    panels: Any = figure.subplots(2, 4)
    loss_panel(panels[0, 0], losses, *guess, along="tokens", label="training tokens")
    loss_panel(
        panels[0, 1], losses, *guess, along="seconds", label=f"training time ({clock})",
        legend=False,
    )  # fmt: skip
    difference_panel(panels[0, 2], numbers)
    training_panel(panels[0, 3], training)
    accuracy_panel(panels[1, 0], answers, along=LENGTH, legend=False)
    accuracy_panel(panels[1, 1], answers, along=PAIRS)
    state_panel(panels[1, 2], answers)
    gate_panel(panels[1, 3], gates)
    for letter, axes in zip("abcdefgh", panels.ravel(), strict=True):
        panel_letter(axes, letter)
    simulated = any(record.evidence == "simulated" for record in numbers.values())
    save([figure], pdf=pdf, png=png, scale=scale, simulated=simulated)


def look_of(arm: str) -> Look:
    """An arm's look; a Mamba of fewer states than the usual is paler, of more darker."""
    if arm in ARMS:
        return ARMS[arm]
    if of_state := re.fullmatch(r"mamba_?(\d+)", arm):
        states = int(of_state[1])
        share = np.clip(0.3 * np.log2(states / USUAL_STATES), -0.7, 0.7)
        towards = np.zeros(3) if share > 0 else np.ones(3)
        mixed = (1 - abs(share)) * np.array(to_rgb(PURPLE)) + abs(share) * towards
        return Look(f"Mamba, {states} states", to_hex(mixed))
    return Look(arm.replace("_", " "), GREY)


def loss_panel(
    axes: Axes,
    losses: pd.DataFrame,
    unigram: Statistic,
    entropy: Statistic,
    *,
    along: str,
    label: str,
    legend: bool = True,
) -> None:
    """Validation loss against tokens or time, mean over seeds, from the least to the greatest.

    Beside it, what the frequencies of tokens alone reach, ``unigram`` on the same windows and
    ``entropy`` on the text they are of.
    """
    for look, rows in _by_arm(losses):
        curve(
            axes, rows[along], rows["validation"], rows["low"], rows["high"],
            color=look.color, linestyle=look.linestyle, linewidth=1.3, label=look.label,
        )  # fmt: skip
    axes.axhline(
        unigram.value, color=BLACK, linestyle=":", linewidth=1,
        label=f"cross-entropy of frequencies: {unigram.value:.2f}",
    )  # fmt: skip
    axes.axhline(
        entropy.value, color=GREY, linestyle="-.", linewidth=0.8,
        label=f"entropy of frequencies: {entropy.value:.2f}",
    )  # fmt: skip
    axes.set(title=f"validation loss against {along}", xlabel=label, ylabel="nats per token")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if legend:
        axes.legend(loc="upper right", fontsize=7, labelspacing=0.3, handlelength=1.6)


def difference_panel(axes: Axes, numbers: dict[str, Statistic]) -> None:
    """Test loss of each arm less the Transformer's."""
    ids = {arm: f"fig22.{arm}_minus_{REFERENCE}" for arm in ARMS}
    differences(axes, [(numbers[id], ARMS[arm]) for arm, id in ids.items() if id in numbers])
    axes.set_xscale("symlog", linthresh=0.1, linscale=2)  # small ones seen beside large ones
    axes.margins(x=0.12)  # room for numbers, and for intervals at the ends
    axes.xaxis.set_major_locator(SymmetricalLogLocator(linthresh=0.1, base=10, subs=(1,)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(title="test loss less the Transformer's", xlabel="nats per token (below 0: better)")


def training_panel(axes: Axes, training: pd.DataFrame) -> None:
    """Mean gate while recall is learnt."""
    gated = training[training["gate"].notna()]
    for look, rows in _by_arm(gated):
        rows = rows.sort_values("step")
        axes.plot(
            rows["step"], rows["gate"].clip(lower=FLOOR), color=look.color,
            linestyle=look.linestyle, linewidth=1.3, label=look.label,
        )  # fmt: skip
    _mark_published(axes)
    axes.set(
        title="gate while recall is learnt", xlabel="training step", ylabel="mean gate",
        yscale="log",
    )  # fmt: skip
    axes.legend()


def accuracy_panel(axes: Axes, answers: pd.DataFrame, *, along: str, legend: bool = True) -> None:
    """Accuracy against length or pairs, the other kept where it varies most."""
    fixed = PAIRS if along == LENGTH else LENGTH
    value = _widest(answers, along, fixed)
    shown = answers[answers[fixed] == value]
    for look, rows in _by_arm(shown):
        rows = rows.sort_values(along)
        curve(
            axes, rows[along], rows["accuracy"], rows["low"], rows["high"],
            color=look.color, linestyle=look.linestyle, marker=_marker(look), label=look.label,
            **_stroke(look),
        )  # fmt: skip
        beyond = rows[~rows["trained"]]
        axes.plot(
            beyond[along], beyond["accuracy"], marker=_marker(look), linestyle="none",
            color=look.color, markerfacecolor="white", markersize=_stroke(look)["markersize"],
        )  # fmt: skip
    at_chance = shown.drop_duplicates(along).sort_values(along)
    axes.plot(
        at_chance[along], at_chance["context_chance"], color=BLACK, linestyle=":", linewidth=1,
        label="chance, in context",
    )  # fmt: skip
    axes.plot(
        at_chance[along], at_chance["chance"], color=BLACK, linestyle=(0, (1, 4)), linewidth=1,
        label="chance",
    )  # fmt: skip
    kept, varied = ("pairs", "length") if along == LENGTH else ("tokens", "pairs")
    axes.set(
        title=f"recall against {varied}, {value} {kept}",
        xlabel="length of the sequence (tokens)" if along == LENGTH else "pairs to remember",
        ylabel="accuracy (open: not trained on)", xscale="log", ylim=(-0.03, 1.03),
    )  # fmt: skip
    axes.set_xticks(at_chance[along], [f"{x}" for x in at_chance[along]])
    axes.minorticks_off()
    if legend:  # in the gap beside the panel; it is the key of the panels next to it too
        key = axes.legend(
            loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, handlelength=1.9,
            fontsize=6.5,
        )  # fmt: skip
        key.set_in_layout(False)


def state_panel(axes: Axes, answers: pd.DataFrame) -> None:
    """Accuracy against the bytes a model keeps of what it has read, where most is asked."""
    length = _widest(answers, PAIRS, LENGTH)
    pairs = answers.loc[answers[LENGTH] == length, PAIRS].max()
    shown = answers[(answers[LENGTH] == length) & (answers[PAIRS] == pairs)]
    family = shown[shown["arm"].str.match(r"mamba")].sort_values("state_bytes")
    axes.plot(family["state_bytes"], family["accuracy"], color=PURPLE, linewidth=0.8)
    for look, rows in _by_arm(shown):
        error = np.abs(rows[["low", "high"]].to_numpy().T - rows["accuracy"].to_numpy())
        axes.errorbar(
            rows["state_bytes"], rows["accuracy"], yerr=error, color=look.color, capsize=2,
            marker=_marker(look), markersize=_stroke(look)["markersize"], linestyle="none",
        )  # fmt: skip
    axes.axhline(shown["context_chance"].iloc[0], color=BLACK, linestyle=":", linewidth=1)
    axes.set(
        title=f"recall against state, {length} tokens, {pairs} pairs",
        xlabel="bytes kept of the sequence", ylabel="accuracy", xscale="log", ylim=(-0.03, 1.03),
    )  # fmt: skip


def gate_panel(axes: Axes, gates: pd.DataFrame) -> None:
    """Mean gate at queries and elsewhere, by arm and layer, where most is asked.

    Symbols of the first layer are filled. An arrowhead ends what goes on below the axis.
    """
    length = _widest(gates, PAIRS, LENGTH)
    pairs = gates.loc[gates[LENGTH] == length, PAIRS].max()
    shown = gates[(gates[LENGTH] == length) & (gates[PAIRS] == pairs)]
    arms = sorted(set(shown["arm"]), key=_place)
    layers = shown["layer"].max() + 1
    for shift, (position, (color, marker)) in zip((-0.1, 0, 0.1), POSITIONS.items(), strict=True):
        for layer, rows in shown[shown["position"] == position].groupby("layer"):
            place = rows["arm"].map(arms.index) + (layer - (layers - 1) / 2) * 0.7 / layers + shift
            values = rows[["gate", "low", "high"]].clip(lower=FLOOR)
            axes.errorbar(
                place, values["gate"],
                yerr=np.abs(values[["low", "high"]].to_numpy().T - values["gate"].to_numpy()),
                color=color, marker=marker, markersize=4, capsize=2, linestyle="none",
                markerfacecolor="white" if layer else color, label="_" if layer else position,
            )  # fmt: skip
            below = place[rows["low"] < FLOOR]
            axes.plot(
                below, [FLOOR] * len(below), color=color, marker=CARETDOWN, markersize=6,
                linestyle="none",
            )  # fmt: skip
    _mark_published(axes)
    names = [look_of(arm).label.removeprefix("TGN, ").replace(" ", "\n") for arm in arms]
    axes.set_xticks(range(len(arms)), names, fontsize=7)
    axes.set(
        title=f"TGN's gate, {length} tokens, {pairs} pairs", ylabel="mean gate",
        yscale="log", ylim=(FLOOR / 2, 20),
    )  # fmt: skip
    axes.set_yticks(10.0 ** np.arange(-4, 1))
    axes.legend(
        ncols=3, loc="upper left", title_fontsize=6.5,
        title="filled: layer 1; open: after it; arrowhead: goes on below",
    )  # fmt: skip


def _mark_published(axes: Axes) -> None:
    axes.axhline(PUBLISHED_GATE, color=BLACK, linestyle=":", linewidth=1)
    axes.annotate(
        "published: below 1 % early", (1, PUBLISHED_GATE), xycoords=("axes fraction", "data"),
        ha="right", va="bottom", fontsize=7,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5},
    )  # fmt: skip


def of_all_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """The rows called ``mean``, where a table has such rows."""
    means = table["seed"].astype(str) == MEAN
    return table[means] if means.any() else table


def _by_arm(table: pd.DataFrame) -> Iterator[tuple[Look, pd.DataFrame]]:
    """Rows of each arm and seed, in the order of the looks; a further seed adds no label."""
    for arm in sorted(set(table["arm"]), key=_place):
        look = look_of(arm)
        for number, (_, rows) in enumerate(table[table["arm"] == arm].groupby("seed")):
            yield look._replace(label="_" if number else look.label), rows


def _place(arm: str) -> tuple[int, int, str]:
    """Where an arm stands: as in ARMS, Mambas by their states, strangers at the end."""
    of_state = re.fullmatch(r"mamba_?(\d+)", arm)
    name = "mamba" if of_state else arm
    return (
        list(ARMS).index(name) if name in ARMS else len(ARMS),
        int(of_state[1]) if of_state else 0,
        arm,
    )


def _stroke(look: Look) -> dict[str, float]:
    """Attention is drawn first and wide, so that it is seen under an arm that does as well."""
    wide = look.color == ARMS["attention"].color
    return {"linewidth": 4.0, "markersize": 9.0} if wide else {"linewidth": 1.3, "markersize": 4.0}


def _marker(look: Look) -> str:
    return MARKERS.get(look.linestyle, "P")


def _widest(table: pd.DataFrame, along: str, fixed: str) -> int:
    """The (largest) value of ``fixed`` at which most values of ``along`` were tested."""
    counts = table.groupby(fixed)[along].nunique()
    return int(counts[counts == counts.max()].index.max())
