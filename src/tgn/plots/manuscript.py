"""The paper's own five figures, composed of the panels of the figures that remake them.

Under the panels stands every claim that the ledger puts on that page (``manuscript``): its verdict,
the claim, what was published and our numbers with their intervals. All of it is read from
``claims.json``; nothing is typed here.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from tgn.claims import in_words, named, quantity
from tgn.plots import bridge, fig1, fig5, fig14, fig21, fig22
from tgn.plots.style import (
    BLACK,
    GREEN,
    GREY,
    ORANGE,
    RED,
    keep_layout,
    legend_below,
    mark_simulated,
    panel_letter,
    save,
)
from tgn.statistics import read_statistics

Record = Mapping[str, Any]

VERDICTS = {"reproduced": GREEN, "not reproduced": RED, "inconclusive": ORANGE}  # others: grey
COLUMNS = {"verdict": 1.25, "claim": 3.6, "published": 2.1, "ours": 5.8}  # inches
WIDTH = sum(COLUMNS.values()) + 0.4
POINTS = 7
LINE = 1.42 * POINTS / 72  # inches
SPACING = 1.36  # which gives lines of that height
CHARACTERS = 18.5  # of that size in an inch
GAP = 0.045  # inches between rows


def mechanism(
    *,
    landscape: str | Path,
    curves: str | Path,
    temperature: str | Path,
    fits: str | Path,
    statistics: str | Path,
    claims: str | Path,
    pdf: str | Path,
    png: str | Path,
    model: str,
    label: str,
    scale: str,
) -> None:
    """Figure 1: an energy landscape, random attention, and rank against temperature.

    Parameters
    ----------
    model, label
        The pretrained model that is shown, and its name for readers.
    """
    heat, shapes = (
        table[table["model"] == model] for table in map(pd.read_parquet, (temperature, fits))
    )
    subject = f"the mechanism (a, b), and the temperature of {label} (c, d)"
    figure, panels, below = page(5.6, 1, subject, claims)
    axes, keys = panels.subplots(2, 4, height_ratios=[1, 0.38])
    fig1.landscape_panel(axes[0], pd.read_parquet(landscape))
    fig1.random_attention_panel(axes[1], pd.read_parquet(curves))
    fig1.rank_panel(axes[2], heat, shapes)
    fig1.growth_panel(axes[3], heat)
    for number, (panel, key) in enumerate(zip(axes, keys, strict=True)):
        key.axis("off")
        legend_below(key, panel, ncols=1)
        panel_letter(panel, "abcd"[number])
    simulated = any(
        record.evidence == "simulated"
        for record in read_statistics(statistics)
        if record.model == model
    )
    finish(figure, below, claims, 1, pdf=pdf, png=png, scale=scale, simulated=simulated)


def spin_glass(
    *, curves: str | Path, claims: str | Path, pdf: str | Path, png: str | Path, scale: str
) -> None:
    """Figure 2: energy against the size of the spin glass, and its convergence."""
    means = pd.read_parquet(curves)
    kind = next(kind for kind in fig5.COUPLINGS if kind in set(means["disorder"]))
    own = means[means["disorder"] == kind]
    figure, panels, below = page(5.1, 2, "three-dimensional spin glass", claims)
    axes, keys = panels.subplots(2, 3, height_ratios=[1, 0.3])
    fig5.residual_panel(axes[0], own, fig5.COUPLINGS[kind])
    fig5.convergence_panel(axes[1], own, "seconds", "CPU seconds a sample")
    fig5.convergence_panel(axes[2], own, "updates", "spin updates of a sample")
    for key in keys:
        key.axis("off")
    fig5.arms_legend(keys[0], axes, ncols=4)
    for letter, panel in zip(("a", "b1", "b2"), axes, strict=True):
        panel_letter(panel, letter)
    finish(figure, below, claims, 2, pdf=pdf, png=png, scale=scale, simulated=False)


def language(
    *,
    curves: str | Path,
    convergence: str | Path,
    gates: str | Path,
    losses: str | Path,
    claims: str | Path,
    pdf: str | Path,
    png: str | Path,
    scale: str,
) -> None:
    """Figure 3: the gate and the perplexity of language models, and their early training.

    Parameters
    ----------
    curves, gates
        Figure 21's table of curves and its statistics.
    convergence, losses
        Figure 22's table of validation losses and its statistics.
    """
    seen = pd.read_parquet(curves)
    own = seen[seen["kind"] == "arm"]
    of_gates, of_losses = (
        {record.id: record for record in read_statistics(path)} for path in (gates, losses)
    )
    figure, panels, below = page(4.1, 3, "language models with a gate", claims)
    axes = panels.subplots(1, 3)
    fig21.gate_panel(axes[0], own)
    fig21.loss_panel(axes[1], own, of_gates["fig21.unigram_loss"])
    for panel in axes[:2]:
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    right = axes[1].secondary_yaxis("right", functions=(np.exp, _log))
    right.set(ylabel="perplexity per token", yticks=_round_perplexities(axes[1].get_ylim()))
    right.yaxis.set_major_formatter("{x:g}")
    fig22.loss_panel(
        axes[2], fig22.of_all_seeds(pd.read_parquet(convergence)),
        of_losses["fig22.unigram_loss"], of_losses["fig22.unigram_entropy"],
        along="tokens", label="training tokens",
    )  # fmt: skip
    for letter, panel in zip(("a1", "a2", "b"), axes, strict=True):
        panel_letter(panel, letter)
    simulated = of_gates["fig21.unigram_loss"].evidence == "simulated"
    finish(figure, below, claims, 3, pdf=pdf, png=png, scale=scale, simulated=simulated)


def recall(
    *, recall: str | Path, claims: str | Path, pdf: str | Path, png: str | Path, scale: str
) -> None:
    """Figure 4: multi-query associative recall against the length of the sequence."""
    answers = fig22.of_all_seeds(pd.read_parquet(recall))
    figure, panels, below = page(4.2, 4, "multi-query associative recall", claims)
    length, pairs, key, state = panels.subplots(1, 4, width_ratios=[1, 1, 0.42, 1])
    fig22.accuracy_panel(length, answers, along=fig22.LENGTH, legend=False)
    fig22.accuracy_panel(pairs, answers, along=fig22.PAIRS, legend=False)
    fig22.state_panel(state, answers)
    key.axis("off")
    legend = key.legend(
        *pairs.get_legend_handles_labels(), loc="upper left", bbox_to_anchor=(0, 1),
        borderaxespad=0, fontsize=POINTS, markerscale=0.8,
    )  # fmt: skip
    legend.set_in_layout(False)
    for letter, panel in zip("abc", (length, pairs, state), strict=True):
        panel_letter(panel, letter)
    finish(figure, below, claims, 4, pdf=pdf, png=png, scale=scale, simulated=False)


def consciousness(
    *,
    states: str | Path,
    expansion: str | Path,
    lags: str | Path,
    courses: str | Path,
    statistics: str | Path,
    doses: str | Path,
    matched: str | Path,
    similarity: str | Path,
    claims: str | Path,
    pdf: str | Path,
    png: str | Path,
    arms: Sequence[str],
    data: str,
    evidence: Literal["real", "simulated"],
    scale: str,
) -> None:
    """Figure 5: rank by state of sedation, psychedelics in silico, lead and lag; and the bridge.

    Parameters
    ----------
    states, expansion, lags, courses, statistics
        Figure 14's tables and statistics.
    doses, matched, similarity
        The bridge's tables and statistics, its ``curves`` first.
    arms
        Of the bridge.
    data, evidence
        Whose states they are; if simulated, the panels that show them say so.
    """
    numbers, likeness = (
        {record.id.partition(".")[2]: record for record in read_statistics(path)}
        for path in (statistics, similarity)
    )
    figure, panels, below = page(
        8.0, 5, "rank in states of sedation, in silico and in language models", claims
    )
    upper, lower = panels.subfigures(2, 1)
    left, middle, right = upper.subfigures(1, 3, width_ratios=[1.1, 0.8, 1.4])
    people = fig14.state_panel(left.subplots(), pd.read_parquet(states), numbers)
    drug = fig14.expansion_panel(middle.subplots(), pd.read_parquet(expansion))
    lead = fig14.lag_panel(right, pd.read_parquet(lags), pd.read_parquet(courses))
    closing, matching, chance = lower.subplots(1, 3)
    bridge.dose_panel(closing, pd.read_parquet(doses), arms)
    bridge.state_panel(matching, pd.read_parquet(matched), arms, data)
    bridge.similarity_panel(chance, likeness, arms)
    shown = (people, drug, lead, closing, matching, chance)
    for letter, panel in zip("abcdef", shown, strict=True):
        panel_letter(panel, letter)
    if evidence == "simulated":
        for panel in (people, matching, chance):
            mark_simulated(panel)
    finish(figure, below, claims, 5, pdf=pdf, png=png, scale=scale, simulated=False)


# --- the page


def page(
    panels_height: float, number: int, subject: str, claims: str | Path
) -> tuple[Figure, Any, Any]:
    """A page with room for panels above and for the claims of a figure of the paper below.

    Returns
    -------
    figure, and the subfigures of the panels and of the claims
    """
    text = height_of(rows_of(claims_of(claims, number)))
    figure = plt.figure(figsize=(WIDTH, panels_height + text))
    parts: Any = figure.subfigures(2, 1, height_ratios=[panels_height, text])
    upper, lower = parts
    upper.suptitle(f"Figure {number} of the TGN paper, remade: {subject}", x=0.015, ha="left")
    return figure, upper, lower


def finish(
    figure: Figure,
    below: Any,
    claims: str | Path,
    number: int,
    *,
    pdf: str | Path,
    png: str | Path,
    scale: str,
    simulated: bool,
) -> None:
    """Write the claims below the panels, and save the page."""
    layout: Any = figure.get_layout_engine()
    layout.execute(figure)  # before the many lines of the table, which have no part in it
    keep_layout(figure)
    write_rows(below, rows_of(claims_of(claims, number)))
    save([figure], pdf=pdf, png=png, scale=scale, simulated=simulated)


def claims_of(path: str | Path, number: int) -> list[Record]:
    """The claims that the ledger puts on the page of a figure of the TGN paper, in its order.

    Raises
    ------
    ValueError
        If there is none.
    """
    records = json.loads(Path(path).read_text(encoding="utf-8"))
    found = [record for record in records if number in record["manuscript"]]
    if not found:
        raise ValueError(f"{path} puts no claim on the page of figure {number} of the TGN paper")
    return found


def rows_of(records: Sequence[Record]) -> list[dict[str, list[str]]]:
    """The lines of every column, for each claim."""
    rows = []
    for record in records:
        published = record["published"]
        if isinstance(published, Mapping):
            published = quantity(published["value"], None, None, published["unit"])
        ours = [in_words(row) for row in record["ours"]] or ["not measured"]
        ours += dict.fromkeys(f"control: {named(row)}" for row in record["controls"])
        cells = {
            "verdict": [record["verdict"]],
            "claim": [record["sentence"]],
            "published": [published],
            "ours": ours,
        }
        rows.append({name: _wrapped(cell, COLUMNS[name]) for name, cell in cells.items()})
    return rows


def height_of(rows: Sequence[Mapping[str, Sequence[str]]]) -> float:
    """Inches that the rows take, with their heading."""
    lines = sum(max(map(len, row.values())) for row in rows)
    return lines * LINE + (len(rows) + 1) * 2 * GAP + 2 * LINE + 0.25


def write_rows(figure: Any, rows: Sequence[Mapping[str, Sequence[str]]]) -> None:
    """Write the table of claims into a subfigure of the height of :func:`height_of`."""
    axes = figure.add_axes((0, 0, 1, 1))
    height = height_of(rows)
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    axes.axis("off")
    places = dict(zip(COLUMNS, 0.2 + np.cumsum([0, *COLUMNS.values()][:-1]), strict=True))
    y = GAP
    for name, x in places.items():
        axes.text(x, y, name, fontsize=POINTS, fontweight="bold", va="top")
    y += LINE + GAP
    for row in rows:
        axes.plot([0.2, WIDTH - 0.2], [y, y], color=GREY, linewidth=0.5)
        y += GAP
        for name, x in places.items():
            color = VERDICTS.get(" ".join(row[name]), GREY) if name == "verdict" else BLACK
            weight = "bold" if name == "verdict" else "normal"
            axes.text(
                x, y, "\n".join(row[name]), fontsize=POINTS, color=color, fontweight=weight,
                va="top", linespacing=SPACING, parse_math=False,
            )  # fmt: skip
        y += max(map(len, row.values())) * LINE + GAP


def _wrapped(lines: Sequence[str], inches: float) -> list[str]:
    width = int(CHARACTERS * (inches - 0.1))
    return [part for line in lines for part in textwrap.wrap(" ".join(line.split()), width)]


def _log(perplexity: Any) -> Any:
    return np.log(np.maximum(perplexity, 1e-300))  # the axis asks for 0 as it is made


def _round_perplexities(loss: tuple[float, float]) -> list[float]:
    """Round numbers within a range of losses."""
    candidates = [base * 10**power for power in range(7) for base in (1, 2, 5)]
    return [c for c in candidates if loss[0] <= np.log(c) <= loss[1]]
