"""One look for every figure, and one way to save it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from tgn.files import replacing
from tgn.plots.look import (  # noqa: F401  (the palette is imported from here)
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SETTINGS,
    SKY,
    YELLOW,
)
from tgn.provenance import footer
from tgn.statistics import Statistic


class Look(NamedTuple):
    """Name, colour and line of what is drawn."""

    label: str
    color: str
    linestyle: str = "-"


# Changed language models, by arm: one name and one look in every panel of every figure. The colour
# tells which parts are left; dashes, that the skip connections are removed.
NETWORKS = {
    "intact": Look("intact", BLUE),
    "no_attention": Look("attention removed", RED),
    "no_mlp": Look("MLPs removed", GREEN),
    "no_skip": Look("skips removed", BLUE, "--"),
    "mlp_only": Look("attention and skips removed", RED, "--"),
    "attention_only": Look("MLPs and skips removed", GREEN, "--"),
    "nothing": Look("all three removed", BLACK, ":"),
    "random_mixer": Look("random average for attention", ORANGE),
    "shuffled_tokens": Look("tokens shuffled", PURPLE),
    "random_weights": Look("untrained", GREY),
    "no_attention_random_weights": Look("untrained, attention removed", GREY, "-."),
}

plt.rcParams.update(SETTINGS)


def curve(axes: Axes, x: object, value: object, low: object, high: object, **look: object) -> None:
    """A line with its interval as a band."""
    (line,) = axes.plot(x, value, **look)  # type: ignore[arg-type]
    axes.fill_between(x, low, high, color=line.get_color(), alpha=0.18, linewidth=0)  # type: ignore[arg-type]


def differences(axes: Axes, rows: Sequence[tuple[Statistic, Look]]) -> None:
    """Numbers with their intervals about zero, one below the other, each called by its look."""
    for place, (record, look) in enumerate(rows):
        _, low, high = record.interval or (record.value,) * 3
        axes.errorbar(
            record.value, -place, xerr=[[record.value - low], [high - record.value]],
            color=look.color, marker="o", capsize=3,
        )  # fmt: skip
        axes.annotate(
            f"{record.value:+.3f}", (record.value, -place), xytext=(0, 6),
            textcoords="offset points", ha="center", fontsize=7,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},  # over the line at zero
        )  # fmt: skip
    axes.axvline(0, color=BLACK, linewidth=0.8)
    axes.set_yticks([-place for place in range(len(rows))], [look.label for _, look in rows])
    axes.set_ylim(-len(rows) + 0.4, 0.6)


def legend_below(key: Axes, axes: Axes, ncols: int = 2) -> None:
    """The legend of a panel in an empty one below it, where it hides no curve."""
    legend = key.legend(
        *axes.get_legend_handles_labels(),
        loc="upper left",
        bbox_to_anchor=(-0.06, 1.1),
        ncols=ncols,
        columnspacing=1.0,
    )
    legend.set_in_layout(False)


def mark_simulated(axes: Axes) -> None:
    """Say on the face of one panel that its data are simulated, where others of a page are not."""
    axes.text(
        0.5, 0.5, "SIMULATED", transform=axes.transAxes, ha="center", va="center", rotation=20,
        fontsize=26, color=RED, alpha=0.15, zorder=10,
    )  # fmt: skip


def odds(log_ratio: float) -> str:
    """An evidence ratio in a few characters.

    >>> odds(np.log(347)), odds(80)
    ('350 : 1', '1e35 : 1')
    """
    exponent = log_ratio / np.log(10)
    return f"{float(f'{10**exponent:.2g}'):g} : 1" if exponent < 4 else f"1e{exponent:.0f} : 1"


def panel_letter(axes: Axes, letter: str) -> None:
    """A bold letter before the panel's title."""
    axes.set_title(rf"$\bf{{{letter}}}$  {axes.get_title(loc='left')}", loc="left")


def keep_layout(figure: Figure) -> None:
    """Leave everything where the layout engine has put it, and spare its next run."""
    with plt.rc_context({"figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)


def save(
    figures: list[Figure], *, pdf: str | Path, png: str | Path, scale: str, simulated: bool
) -> None:
    """Write all pages as PDF and the first one as PNG, each with its scale and revision.

    A figure made from simulated data says so on its face.
    """
    for figure in figures:
        figure.text(
            0.995, 0.002, footer(scale), ha="right", va="bottom", fontsize=6, color="#666666"
        )
        if simulated:
            figure.text(
                0.5, 0.5, "SIMULATED DATA", ha="center", va="center", rotation=30, fontsize=60,
                color=RED, alpha=0.15, zorder=10,
            )  # fmt: skip
    with replacing(pdf) as temporary, PdfPages(temporary, metadata={"CreationDate": None}) as pages:
        for figure in figures:
            pages.savefig(figure)
            keep_layout(figure)  # for the PNG
    with replacing(png) as temporary:
        figures[0].savefig(temporary)
    for figure in figures:
        plt.close(figure)
