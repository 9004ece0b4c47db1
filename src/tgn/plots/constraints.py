"""Constraints on transformers: Paper 3's figures, published values beside ours, and their table.

Every figure is composed of panels of :mod:`tgn.plots.constraint_paper` and
:mod:`tgn.plots.constraint_beside`; a table beside it holds the numbers that it shows.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tgn.files import replacing
from tgn.plots import constraint_beside as beside
from tgn.plots import constraint_paper as paper
from tgn.plots.constraint_parts import CONTROLLED, Rows, Seen, measured, name_of
from tgn.plots.style import panel_letter, save
from tgn.statistics import read_statistics

# Figures 1 to 3 and A1 to A5 of the paper, in its order.
PAPER = (
    paper.kleiber,
    paper.heritage,
    paper.spectral,
    paper.layer_dynamics,
    paper.turning_layer,
    paper.pythia_scaling,
    paper.input_robustness,
    paper.sheaf_trace,
)
Panel = Callable[[Axes, Seen], Rows]
FIGURES: dict[str, tuple[Panel, ...]] = {
    "constraints": (*PAPER, beside.crowding, beside.twins, beside.definitions, beside.last_mlp),
    **{panel.__name__: (panel,) for panel in PAPER},
    # the five notebooks that the published README begins with
    "scaling_law": (paper.kleiber, beside.last_mlp),
    "benchmark": (paper.heritage, beside.definitions),
    "restriction_maps": (paper.spectral, beside.norms, beside.contraction, paper.sheaf_trace),
    "twin_test": (beside.twins,),
    "crowding": (beside.crowding,),
}


def draw(
    *,
    figure: str,
    gains: Sequence[str],
    spectra: Sequence[str],
    sheaf: Sequence[str],
    turning: Sequence[str],
    architecture: Sequence[str],
    models_table: str | Path,
    statistics: str | Path,
    undecided: str | Path,
    published: str | Path,
    labels: Mapping[str, str],
    shown: Sequence[str],
    twins: Sequence[Sequence[str]],
    scale: str,
    table: str | Path,
    pdf: str | Path,
    png: str | Path,
) -> None:
    """Draw one figure and write its numbers.

    Parameters
    ----------
    figure
        A name of ``FIGURES``.
    gains, spectra, sheaf, turning, architecture
        As they were measured, see :mod:`tgn.constraints.tables`.
    models_table, statistics, undecided
        As :func:`tgn.constraints.summary.summarise` writes them.
    published
        Published numbers: table, model, quantity, value, sd, low, high, valid, note.
    labels
        What pretrained models are called.
    shown
        Pretrained models of this scale; the first that has gains is drawn in detail.
    twins
        Pairs of a base model and the model tuned from it.
    table
        Written (CSV): panel, model, quantity, source (published or ours), against (the
        other coordinate), value, low, high and
        note of what is drawn, and a row for each model that could not be measured,
        with the reason.

    Raises
    ------
    ValueError
        If there is no such figure.
    """
    if figure not in FIGURES:
        raise ValueError(f"no figure {figure!r}; there are {', '.join(FIGURES)}")
    records = read_statistics(statistics)
    models = pd.read_parquet(models_table)
    known = models.loc[np.isfinite(models["log_gain"].astype(float)), "model"]
    seen = Seen(
        models,
        _joined(gains),
        _joined(spectra),
        _joined(sheaf),
        _joined(turning),
        numbers=records,
        reasons=_listed(undecided),
        published=pd.read_csv(published, dtype={"value": str}),
        labels=labels,
        shown=next((name for name in shown if name in set(known)), shown[0]),
        twins=[(base, tuned) for base, tuned in twins],
    )
    missing = not_measured([record for path in architecture for record in _listed(path)])
    page, numbers = compose(FIGURES[figure], seen, missing)
    with replacing(table) as temporary:
        numbers.to_csv(temporary, index=False)
    simulated = any(record.evidence == "simulated" for record in records)
    save([page], pdf=pdf, png=png, scale=scale, simulated=simulated)


def compose(
    panels: Sequence[Panel], seen: Seen, missing: pd.DataFrame
) -> tuple[Figure, pd.DataFrame]:
    """A page of panels, and the table of its numbers."""
    columns = min(len(panels), 3 if len(panels) > 4 else 2)
    lines = -(-len(panels) // columns)
    page, grid = plt.subplots(
        lines,
        columns,
        figsize=(5.3 * columns, 5.2 * lines) if columns > 1 else (7, 6.2),
        squeeze=False,
    )
    tables = []
    for count, (panel, axes) in enumerate(zip(panels, grid.ravel(), strict=False)):
        tables += [rows.assign(panel=panel.__name__) for rows in panel(axes, seen) if len(rows)]
        if len(panels) > 1:
            panel_letter(axes, "abcdefghijklmnop"[count])
    for axes in grid.ravel()[len(panels) :]:
        axes.axis("off")
    heading = textwrap.fill(title(seen, missing), 60 * columns + 20)
    page.suptitle(heading, x=0.01, ha="left", fontsize=11 if columns > 1 else 9)
    numbers = pd.concat([*tables, missing.assign(panel="not measured")], ignore_index=True)
    return page, numbers[["panel", *(name for name in numbers if name != "panel")]]


def title(seen: Seen, missing: pd.DataFrame) -> str:
    """Whose numbers stand on a page."""
    own = measured(seen)["model"]
    runs = len(measured(seen, controlled=True))
    parts = [f"{len(own)} pretrained model{'s' * (len(own) != 1)}"]
    if len(own) == 1:
        parts = [name_of(seen, own.iloc[0])]
    if runs:
        parts.append(f"{runs} runs of the controlled family")
    less = f"; {len(missing)} listed but not measured" if len(missing) else ""
    return f"Constraints: published values (hollow) beside ours, {' and '.join(parts)}{less}"


def not_measured(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Models without gains of their own, and why: rows of a figure's table."""
    rows = [
        {"model": record["model"], "source": "ours", "note": record.get("reason") or ""}
        for record in records
        if record.get("status", "ok") != "ok" and record["family"] != CONTROLLED
    ]
    return pd.DataFrame(rows, columns=["model", "source", "note"])


def _joined(paths: Sequence[str]) -> pd.DataFrame:
    """Tables of all groups, with the names that panels ask for as codes, which compare fast."""
    table = pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)
    return table.astype({name: "category" for name in ("model", "quantity") if name in table})


def _listed(path: str | Path) -> list[dict[str, Any]]:
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    return content if isinstance(content, list) else [content]
