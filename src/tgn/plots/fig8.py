"""Figure 8: effective rank of the residual stream across the layers of a language model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_hex
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import NullFormatter

from tgn.plots.style import (
    BLACK,
    BLUE,
    NETWORKS,
    SKY,
    Look,
    curve,
    legend_below,
    panel_letter,
    save,
)
from tgn.statistics import Statistic, read_statistics

FP32 = float(np.finfo(np.float32).eps)
# All of the intact network: black where uncentred, blue where centred.
DEFINITIONS = {
    "published": Look("as published: uncentred, all positions", BLACK),
    "uncentred": Look("uncentred, first position left out", BLACK, "--"),
    "centred": Look("centred, first position left out", BLUE),
    "without_outliers": Look("... and heaviest channels left out", SKY),
    "shuffled_values": Look("null: values shuffled", BLUE, ":"),
}
WITH_SKIP = (
    "intact",
    "no_attention",
    "no_mlp",
    "random_mixer",
    "shuffled_tokens",
    "random_weights",
    "no_attention_random_weights",
)
DISTANCES = (
    "intact",
    "no_attention",
    "no_mlp",
    "no_skip",
    "mlp_only",
    "attention_only",
    "nothing",
)
# Statistic, what it is of the arm that gives the colour, and that arm.
EFFECTS = (
    ("final_log_rank_intact_minus_no_attention", "final: intact / {}", "no_attention"),
    (
        "final_log_rank_intact_minus_no_attention_without_outliers",
        "... heaviest channels left out",
        "no_attention",
    ),
    ("final_log_rank_intact_minus_no_mlp", "final: intact / {}", "no_mlp"),
    (
        "final_log_rank_intact_minus_no_mlp_without_outliers",
        "... heaviest channels left out",
        "no_mlp",
    ),
    ("final_log_rank_intact_minus_random_mixer", "final: intact / {}", "random_mixer"),
    ("fall_log_rank", "lowest / input: {}", "intact"),
    ("fall_log_rank_random_init", "lowest / input: {}", "random_weights"),
    ("fall_log_rank_published_definition", "lowest / input: {}, as published", "intact"),
    ("fall_log_rank_uncentred_without_first", "... first position left out", "intact"),
    ("recovery_log_rank", "final / lowest: {}", "intact"),
    ("recovery_log_rank_random_init", "final / lowest: {}", "random_weights"),
    ("recovery_log_rank_published_definition", "final / lowest: {}, as published", "intact"),
    ("no_attention_final_log_rank_ratio", "final / input: {}", "no_attention"),
    (
        "no_attention_final_log_rank_ratio_without_outliers",
        "... heaviest channels left out",
        "no_attention",
    ),
    ("no_mlp_final_log_rank_ratio", "final / input: {}", "no_mlp"),
    (
        "no_attention_final_log_rank_ratio_random_init",
        "final / input: {}",
        "no_attention_random_weights",
    ),
    ("no_attention_lowest_minus_intact_lowest", "lowest: {} / intact", "no_attention"),
    ("dip_log_depth_published_definition", "shallow dip: input / lowest, as published", "intact"),
    ("dip_log_depth_without_outliers", "... at that layer, without outliers", "intact"),
)


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
    figure = plt.figure(figsize=(14.5, 10.4))
    passages = int(bands["n"].max())
    figure.suptitle(
        f"Effective rank of the residual stream of {label}: "
        f"{passages} passages of {length} tokens, means with 95 % bootstrap bands",
        fontsize=11,
    )
    halves: Any = figure.subfigures(2, 1)
    upper, lower = halves
    curves, keys = upper.subplots(2, 3, height_ratios=[1, 0.24])
    left, middle, right = lower.subfigures(1, 3, width_ratios=[1, 1.45, 1.15])
    distances, key = left.subplots(2, 1, height_ratios=[1, 0.24])
    effects = middle.subplots()
    for axes in (*keys, key):
        axes.axis("off")
    definitions_panel(curves[0], bands)
    outliers_panel(curves[1], bands)
    ablations_panel(curves[2], bands, cap=min(length - 2, shapes["index"].max()))
    distance_panel(distances, bands)
    effects_panel(effects, records)
    spectra_panel(right, shapes)
    for axes, below in zip((*curves, distances), (*keys, key), strict=True):
        legend_below(below, axes)
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
            _draw(axes, scaled, Look(f"{length} tokens", to_hex(colour)))
        axes.set(title=DEFINITIONS[definition].label, xlabel="after block")
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


def _draw(axes: Axes, rows: pd.DataFrame, look: Look) -> None:
    band = (rows[name] for name in ("layer", "value", "ci_low", "ci_high"))
    curve(axes, *band, **look._asdict())


def definitions_panel(axes: Axes, bands: pd.DataFrame) -> None:
    for definition, look in DEFINITIONS.items():
        _draw(axes, _select(bands, "intact", definition, "effective_rank"), look)
    axes.set(
        title="Intact network, five definitions",
        xlabel="after block (0: input of the first)",
        ylabel="effective rank (directions)",
        ylim=(0, None),
    )


def outliers_panel(axes: Axes, bands: pd.DataFrame) -> None:
    lines = [
        ("published", "token_share", Look("heaviest token, all positions", BLACK)),
        ("uncentred", "token_share", Look("heaviest token, first left out", BLACK, "--")),
        ("published", "channel_share", Look("heaviest channel, all positions", SKY)),
        ("uncentred", "channel_share", Look("heaviest channel, first left out", SKY, "--")),
    ]
    for definition, quantity, look in lines:
        _draw(axes, _select(bands, "intact", definition, quantity), look)
    axes.set(
        title="Intact network: the heaviest token and channel",
        xlabel="after block",
        ylabel="share of the squared norm",
        ylim=(0, 1.02),
    )


def ablations_panel(axes: Axes, bands: pd.DataFrame, cap: int) -> None:
    for arm in WITH_SKIP:
        rows = _select(bands, arm, "centred", "effective_rank")
        if len(rows):
            _draw(axes, rows, NETWORKS[arm])
    axes.axhline(cap, color=BLACK, linewidth=0.8)
    axes.text(0, cap, f"largest possible: {cap}", fontsize=7, va="bottom")
    axes.set(
        title="Skips kept (centred, first position left out)",
        xlabel="after block",
        ylabel="effective rank (directions)",
        ylim=(0, 1.08 * cap),
    )


def distance_panel(axes: Axes, bands: pd.DataFrame) -> None:
    for arm in DISTANCES:
        rows = _select(bands, arm, "uncentred", "distance")
        if len(rows):
            _draw(axes, rows, NETWORKS[arm])
    axes.axhline(FP32, color=BLACK, linewidth=0.8)
    axes.text(0, 1.3 * FP32, "fp32 rounding: nothing is seen below", fontsize=7, va="bottom")
    axes.set(
        title="Distance to identical tokens (0: collapsed)",
        xlabel="after block",
        ylabel="relative distance to the best constant row",
        yscale="log",
        ylim=(5e-8, 3),
    )


def effects_panel(axes: Axes, records: list[Statistic]) -> None:
    found = {record.id.removeprefix("fig8."): record for record in records}
    names = []
    for row, (name, words, arm) in enumerate(EFFECTS):
        record, look = found[name], NETWORKS[arm]
        assert record.interval is not None
        value, low, high = np.exp(record.interval)
        axes.plot([low, high], [row, row], color=look.color, linewidth=2.4, solid_capstyle="butt")
        axes.plot(value, row, "o", color=look.color, markersize=3.5)
        axes.text(
            1.02, row, f"{value:.3g} [{low:.3g}, {high:.3g}]", fontsize=7, va="center",
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
        names.append(words.format(look.label))
    axes.axvline(1, color=BLACK, linewidth=0.8)
    axes.set(
        title="Ratios of rank behind the claims",
        xlabel="ratio of effective ranks (95 % interval)",
        xscale="log",
        ylim=(len(EFFECTS) - 0.5, -0.5),
    )
    axes.set_yticks(range(len(EFFECTS)), names, fontsize=7)
    axes.xaxis.set_major_formatter(lambda tick, _: f"{tick:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def spectra_panel(figure: SubFigure, shapes: pd.DataFrame) -> None:
    sheets = [
        ("intact", "centred", "Spectra\nintact"),
        ("intact", "shuffled_values", "null:\nvalues shuffled"),
        ("random_weights", "centred", f"null:\n{NETWORKS['random_weights'].label}"),
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
    figure.colorbar(mesh, ax=panels, label="singular value / sum of all (centred)", pad=0.02)
