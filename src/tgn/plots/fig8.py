"""Figure 8: effective rank of the residual stream across the layers of a language model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import NullFormatter

from tgn.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    curve,
    panel_letter,
    save,
)
from tgn.statistics import Statistic, read_statistics

FP32 = float(np.finfo(np.float32).eps)
DEFINITIONS = {
    "published": ("as published: uncentred, all positions", RED),
    "uncentred": ("uncentred, first position left out", ORANGE),
    "centred": ("centred, first position left out", BLUE),
    "without_outliers": ("... and heaviest channels left out", SKY),
    "shuffled_values": ("null: values shuffled", GREY),
}
WITH_SKIP = {
    "intact": ("intact", BLUE),
    "no_attention": ("attention removed", RED),
    "no_mlp": ("MLP removed", GREEN),
    "random_mixer": ("attention replaced by a random average", ORANGE),
    "shuffled_tokens": ("null: tokens shuffled", PURPLE),
    "random_weights": ("null: untrained weights", GREY),
}
DISTANCES = {
    "intact": ("intact", BLUE, "-"),
    "no_attention": ("MLP + skip", RED, "-"),
    "no_mlp": ("attention + skip", GREEN, "-"),
    "no_skip": ("attention + MLP", BLUE, "--"),
    "mlp_only": ("MLP only", RED, "--"),
    "attention_only": ("attention only", GREEN, "--"),
    "nothing": ("none of the three", GREY, ":"),
}
NO_ATTENTION = "attention removed"
EFFECTS = {
    "final_log_rank_intact_minus_no_attention": f"final: intact / {NO_ATTENTION}",
    "final_log_rank_intact_minus_random_mixer": "final: intact / random average",
    "fall_log_rank": "lowest / input: intact",
    "fall_log_rank_random_init": "lowest / input: untrained",
    "recovery_log_rank": "final / lowest: intact",
    "recovery_log_rank_random_init": "final / lowest: untrained",
    "no_attention_final_log_rank_ratio": f"final / input: {NO_ATTENTION}",
    "no_attention_final_log_rank_ratio_without_outliers": "... heaviest channels left out",
    "no_attention_final_log_rank_ratio_random_init": "... untrained",
    "no_attention_lowest_minus_intact_lowest": f"lowest: {NO_ATTENTION} / intact",
    "dip_log_depth_published_definition": "shallow dip as published: input / lowest",
    "dip_log_depth_without_outliers": "... at that layer, without outliers",
}


def draw(
    *,
    curves: str | Path,
    spectra: str | Path,
    statistics: str | Path,
    pdf: str | Path,
    png: str | Path,
    labels: Mapping[str, str],
    length: int,
    scale: str,
) -> None:
    """Draw a page a model in the order of ``labels``, and one more if lengths were compared.

    The PNG shows the first page.
    """
    bands, shapes = pd.read_parquet(curves), pd.read_parquet(spectra)
    records = read_statistics(statistics)
    pages = []
    for model, label in labels.items():
        own = bands[bands["model"] == model]
        pages.append(
            page(
                own[own["length"] == length],
                shapes[(shapes["model"] == model) & (shapes["length"] == length)],
                [record for record in records if record.model == model],
                label=label,
                length=length,
            )
        )
        if own["length"].nunique() > 1:
            pages.append(lengths_page(own, label=label))
    simulated = any(record.evidence == "simulated" for record in records)
    save(pages, pdf=pdf, png=png, scale=scale, simulated=simulated)


def page(
    bands: pd.DataFrame, shapes: pd.DataFrame, records: list[Statistic], *, label: str, length: int
) -> Figure:
    """All panels for one model."""
    figure = plt.figure(figsize=(13.5, 9.6))
    passages = int(bands["n"].iloc[0])
    figure.suptitle(
        f"Effective rank of the residual stream of {label}: "
        f"{passages} passages of {length} tokens, means with 95 % bootstrap bands",
        fontsize=11,
    )
    halves: Any = figure.subfigures(2, 1)
    upper, lower = halves
    curves, upper_keys = upper.subplots(2, 3, height_ratios=[1, 0.22])
    left, right = lower.subfigures(1, 2, width_ratios=[1.75, 1.25])
    (distances, effects), lower_keys = left.subplots(2, 2, height_ratios=[1, 0.22])
    for axes in (*upper_keys, *lower_keys):
        axes.axis("off")
    definitions_panel(curves[0], bands)
    outliers_panel(curves[1], bands)
    ablations_panel(curves[2], bands, cap=min(length - 2, shapes["index"].max()))
    distance_panel(distances, bands)
    effects_panel(effects, records)
    spectra_panel(right, shapes)
    for axes, key in zip((*curves, distances), (*upper_keys, lower_keys[0]), strict=True):
        _legend_in(key, axes)
    panels = [*curves, distances, effects, right.axes[0]]
    for letter, axes in zip("abcdef", panels, strict=True):
        panel_letter(axes, letter)
    return figure


def lengths_page(bands: pd.DataFrame, *, label: str) -> Figure:
    """Rank as a share of its cap, for passages of different lengths."""
    figure, panels = plt.subplots(1, 2, figsize=(9.5, 4.6), sharey=True)
    figure.suptitle(f"Effective rank of the residual stream of {label} by passage length")
    shades = plt.get_cmap("viridis")
    lengths = sorted(bands["length"].unique())
    for axes, definition in zip(panels, ("published", "centred"), strict=True):
        for index, length in enumerate(lengths):
            rows = _select(bands[bands["length"] == length], "intact", definition, "effective_rank")
            # Positions, less the first if left out, less one if centred; no model here is narrower.
            cap = length if definition == "published" else length - 2
            scaled = rows.assign(
                **{name: rows[name] / cap for name in ("value", "ci_low", "ci_high")}
            )
            colour = shades(0.9 * index / max(1, len(lengths) - 1))
            _draw(axes, scaled, f"{length} tokens", color=colour)
        axes.set(title=DEFINITIONS[definition][0], xlabel="after block")
    panels[0].set(ylabel="effective rank / number of tokens that span it", ylim=(0, 1))
    panels[0].legend()
    return figure


def _select(bands: pd.DataFrame, arm: str, definition: str, quantity: str) -> pd.DataFrame:
    chosen = bands[
        (bands["arm"] == arm)
        & (bands["definition"] == definition)
        & (bands["quantity"] == quantity)
    ]
    return chosen.sort_values("layer")


def _draw(axes: Axes, rows: pd.DataFrame, label: str, **look: object) -> None:
    curve(axes, rows["layer"], rows["value"], rows["ci_low"], rows["ci_high"], label=label, **look)


def _legend_in(key: Axes, axes: Axes) -> None:
    """The legend of a panel in an empty one below it, where it hides no curve."""
    legend = key.legend(
        *axes.get_legend_handles_labels(),
        loc="upper left",
        bbox_to_anchor=(-0.06, 1.1),
        ncols=2,
        columnspacing=1.0,
    )
    legend.set_in_layout(False)


def definitions_panel(axes: Axes, bands: pd.DataFrame) -> None:
    for definition, (label, colour) in DEFINITIONS.items():
        _draw(axes, _select(bands, "intact", definition, "effective_rank"), label, color=colour)
    axes.set(
        title="Intact network, five definitions",
        xlabel="after block (0: input of the first)",
        ylabel="effective rank (directions)",
        ylim=(0, None),
    )


def outliers_panel(axes: Axes, bands: pd.DataFrame) -> None:
    lines = [
        ("published", "token_share", "heaviest token, all positions", RED, "-"),
        ("uncentred", "token_share", "heaviest token, first left out", RED, "--"),
        ("published", "channel_share", "heaviest channel, all positions", BLUE, "-"),
        ("uncentred", "channel_share", "heaviest channel, first left out", BLUE, "--"),
    ]
    for definition, quantity, label, colour, style in lines:
        rows = _select(bands, "intact", definition, quantity)
        _draw(axes, rows, label, color=colour, linestyle=style)
    axes.set(
        title="Intact network: the heaviest token and channel",
        xlabel="after block",
        ylabel="share of the squared norm",
        ylim=(0, 1.02),
    )


def ablations_panel(axes: Axes, bands: pd.DataFrame, cap: int) -> None:
    for arm, (label, colour) in WITH_SKIP.items():
        rows = _select(bands, arm, "centred", "effective_rank")
        if len(rows):
            _draw(axes, rows, label, color=colour)
    axes.axhline(cap, color=BLACK, linestyle=":", linewidth=1, label=f"cap: {cap}")
    axes.set(
        title="Skip connections kept (centred, first position left out)",
        xlabel="after block",
        ylabel="effective rank (directions)",
        ylim=(0, 1.08 * cap),
    )


def distance_panel(axes: Axes, bands: pd.DataFrame) -> None:
    for arm, (label, colour, style) in DISTANCES.items():
        rows = _select(bands, arm, "uncentred", "distance")
        if len(rows):
            _draw(axes, rows, label, color=colour, linestyle=style)
    axes.axhline(FP32, color=BLACK, linewidth=0.8, linestyle=":")
    axes.text(0, 1.3 * FP32, "fp32 rounding", fontsize=7, va="bottom")
    axes.set(
        title="Collapse: distance to identical tokens",
        xlabel="after block",
        ylabel="relative distance to the best constant row",
        yscale="log",
        ylim=(5e-8, 3),
    )


def effects_panel(axes: Axes, records: list[Statistic]) -> None:
    found = {record.id.removeprefix("fig8."): record for record in records}
    for row, name in enumerate(EFFECTS):
        record = found[name]
        assert record.ci_low is not None
        assert record.ci_high is not None
        low, value, high = np.exp([record.ci_low, record.value, record.ci_high])
        axes.plot([low, high], [row, row], color=BLUE, linewidth=2.4, solid_capstyle="butt")
        axes.plot(value, row, "o", color=BLUE, markersize=3.5)
    axes.axvline(1, color=BLACK, linewidth=0.8)
    axes.set(
        title="Ratios of rank behind the claims",
        xlabel="ratio of effective ranks (95 % interval)",
        xscale="log",
        ylim=(len(EFFECTS) - 0.5, -0.5),
    )
    axes.set_yticks(range(len(EFFECTS)), list(EFFECTS.values()), fontsize=7)
    axes.xaxis.set_major_formatter(lambda tick, _: f"{tick:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def spectra_panel(figure: SubFigure, shapes: pd.DataFrame) -> None:
    sheets = [
        ("intact", "centred", "spectra, trained"),
        ("intact", "shuffled_values", "values shuffled"),
        ("random_weights", "centred", "untrained"),
    ]
    panels = figure.subplots(1, 3, sharey=True)
    positive = shapes["share"][shapes["share"] > 0]
    norm = LogNorm(vmin=max(positive.min(), 1e-4), vmax=positive.max())
    for axes, (arm, definition, title) in zip(panels, sheets, strict=True):
        chosen = shapes[(shapes["arm"] == arm) & (shapes["definition"] == definition)]
        image = chosen.pivot(index="index", columns="layer", values="share")
        mesh = axes.pcolormesh(
            image.columns, image.index, image.to_numpy().clip(1e-12), norm=norm, cmap="viridis",
            rasterized=True,
        )  # fmt: skip
        axes.set(title=title, xlabel="after block", yscale="log")
        axes.grid(False)
    panels[0].set_ylabel("index of singular value")
    panels[0].invert_yaxis()
    figure.colorbar(mesh, ax=panels, label="share of the nuclear norm", pad=0.02)
