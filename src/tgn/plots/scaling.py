"""Thermodynamic scaling: weight matrices as levels, as spectra and under block averages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
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
    Look,
    curve,
    differences,
    panel_letter,
    save,
)
from tgn.statistics import Statistic, read_statistics
from tgn.thermodynamics.spectra import density

TRAINED = Look("trained", BLUE)
UNTRAINED = Look("untrained", ORANGE)
GAUSSIAN = Look("Gaussian levels", GREY)
FREEZING = Look(r"freezing, $\sigma/\sqrt{2\,\ln N}$", BLACK, ":")
KINDS = (("self_attention.query", BLUE), ("ffn.intermediate", GREEN))  # of which spectra are drawn
QUANTUM = (0.3, 0.7)  # the range of exponents called quantum-like
FLAT = -0.5  # excess kurtosis below which entries are nearer to a uniform law than to a normal one
ON_WHITE = {
    "frameon": True,
    "edgecolor": "none",
    "borderpad": 0,
    "handlelength": 1.4,
}  # of a key over a line
EXPONENTS = (
    ("exponent", Look("peak, trained", BLUE)),
    ("exponent_untrained", Look("peak, untrained", ORANGE)),
    ("exponent_gaussian", Look("peak, Gaussian", GREY)),
    ("exponent_sigma", Look(r"$\sigma$", BLACK)),
    ("exponent_over_sigma", Look(r"peak / $\sigma$", BLUE)),
    ("exponent_over_freezing", Look("peak / freezing", BLUE)),
)
EFFECTS = (
    ("log_peak_over_gaussian", Look("trained / Gaussian", BLUE)),
    ("log_peak_over_gaussian_untrained", Look("untrained / Gaussian", ORANGE)),
    ("log_peak_over_student", Look("trained / Student's t", PURPLE)),
    ("log_peak_over_isolated", Look("trained / lowest alone", RED)),
    ("log_peak_without_lowest", Look("without lowest / with", RED)),
    ("log_peak_without_outliers", Look("without outliers / with", RED)),
    ("log_peak_flipped", Look("sign flipped / not (size)", SKY)),
    ("log_peak_quantised", Look("Gaussian, 4 bits / not", GREY)),
)


def draw(
    *,
    bands: str | Path,
    models_table: str | Path,
    statistics: str | Path,
    matrices: Sequence[str],
    curves: str | Path,
    densities: str | Path,
    flows: str | Path,
    pdf: str | Path,
    png: str | Path,
    shown: str,
    labels: Mapping[str, str],
    scale: str,
) -> None:
    """Draw one page: the model ``shown`` in detail, and all models against size.

    Parameters
    ----------
    matrices
        Of every group of models, as :mod:`tgn.probing.weight_thermodynamics` writes them.
    curves, densities, flows
        The same, of the model shown. The other files are those of
        :mod:`tgn.probing.weight_statistics`.
    labels
        What the pretrained models are called; our own are called by their names.
    """
    records = read_statistics(statistics)
    medians = pd.read_parquet(bands)
    figure = page(
        medians[medians["model"] == shown],
        pd.read_parquet(curves),
        pd.read_parquet(models_table),
        pd.concat([pd.read_parquet(path) for path in matrices], ignore_index=True),
        pd.read_parquet(densities),
        pd.read_parquet(flows),
        records,
        shown=shown,
        label=labels[shown],
    )
    simulated = any(record.evidence == "simulated" for record in records)
    save([figure], pdf=pdf, png=png, scale=scale, simulated=simulated)


def page(
    bands: pd.DataFrame,
    curves: pd.DataFrame,
    models: pd.DataFrame,
    matrices: pd.DataFrame,
    densities: pd.DataFrame,
    flows: pd.DataFrame,
    records: Sequence[Statistic],
    *,
    shown: str,
    label: str,
) -> Figure:
    """All panels."""
    figure, grid = plt.subplots(3, 3, figsize=(14.5, 12.2))
    own = matrices[(matrices["model"] == shown) & (matrices["weights"] == "trained")]
    count = models.loc[models["weights"] == "trained", "model"].nunique()
    figure.suptitle(
        f"Entries of weight matrices as energy levels: the {len(own)} matrices of {label} "
        f"(a, b, e to i), and {count} models (c, d)",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    frozen = own["freezing_temperature"].mean()
    heat, entropy, size, exponents, lowest, effects, spectra, blocks, fisher = grid.ravel()
    heat_panel(heat, bands, curves, frozen)
    level_panel(entropy, bands, "entropy", frozen)
    renyi = bands[(bands["quantity"] == "renyi_2") & (bands["weights"] == "trained")]
    entropy.plot(
        renyi["t"], renyi["value"], color=BLUE, linestyle="--", label="trained, Rényi order 2"
    )
    entropy.set(title="entropy", ylabel=r"$S / \ln N$", ylim=(0, 1.02))
    entropy.legend(loc="upper left", **ON_WHITE)
    size_panel(size, models)
    exponent_panel(exponents, records)
    lowest_panel(lowest, matrices, shown, label)
    effect_panel(effects, [record for record in records if record.model == shown])
    spectrum_panel(spectra, densities)
    flow_panel(blocks, flows)
    level_panel(fisher, bands, "fisher", frozen)
    fisher.set(
        title="information in a level about the temperature", yscale="log",
        ylabel=r"Fisher information $C/T^2$ ($\sigma^{-2}$)", ylim=(1e-4, 2e3),
    )  # fmt: skip
    fisher.legend(loc="upper right")
    for letter, axes in zip("abcdefghi", grid.ravel(), strict=True):
        panel_letter(axes, letter)
    return figure


def heat_panel(axes: Axes, bands: pd.DataFrame, curves: pd.DataFrame, frozen: float) -> None:
    """Specific heat of every matrix of the middle layer, as peaks do not survive a mean."""
    layer = sorted(curves["layer"].unique())[curves["layer"].nunique() // 2]
    own = curves[(curves["layer"] == layer) & (curves["weights"] == "trained")]
    level_panel(axes, bands, "specific_heat", frozen, trained=False)
    for number, (_, rows) in enumerate(own.groupby("kind")):
        axes.plot(
            rows["t"], rows["specific_heat"], color=TRAINED.color, linewidth=0.9,
            label=None if number else f"trained, the matrices of layer {layer + 1}",
        )  # fmt: skip
    axes.set(title="specific heat", ylabel="$C$ ($k_B$)", ylim=(0, None))
    axes.legend(loc="upper left", **ON_WHITE)
    low, high = axes.get_ylim()
    axes.set_ylim(low, 1.25 * high)  # room for the key


def level_panel(
    axes: Axes, bands: pd.DataFrame, quantity: str, frozen: float, trained: bool = True
) -> None:
    """One quantity against temperature, of trained and untrained matrices and of their null."""
    chosen = bands[bands["quantity"] == quantity]
    own = chosen[chosen["weights"] == "trained"]
    null = own[["t", "null", "null_low", "null_high"]]
    drawn = [
        (GAUSSIAN, null.set_axis(["t", "value", "low", "high"], axis=1)),
        (UNTRAINED, chosen[chosen["weights"] == "untrained"]),
        (TRAINED, own),
    ]
    for look, rows in drawn if trained else drawn[:2]:
        curve(
            axes, rows["t"], rows["value"], rows["low"], rows["high"], color=look.color,
            label=look.label,
        )  # fmt: skip
    axes.axvline(frozen, color=BLACK, linestyle=":", linewidth=1, label=FREEZING.label)
    axes.set(xscale="log", xlabel=r"$k_B T / \sigma$")


def size_panel(axes: Axes, models: pd.DataFrame) -> None:
    """Temperature of the peak against size, one point a model, beside freezing and the null."""
    for look, weights, fill in (
        (TRAINED, "trained", TRAINED.color),
        (UNTRAINED, "untrained", "none"),
    ):
        rows = models[models["weights"] == weights]
        value = rows["critical_temperature"]
        axes.errorbar(
            rows["parameters"], value,
            yerr=[value - rows["critical_low"], rows["critical_high"] - value],
            color=look.color, markerfacecolor=fill, marker="o", markersize=5, capsize=2,
            elinewidth=1, linestyle="none", label=f"peak, {look.label}",
        )  # fmt: skip
    rows = models[models["weights"] == "trained"]
    axes.plot(
        rows["parameters"], rows["gaussian_temperature"], color=GREY, marker="x",
        linestyle="none", label="peak, Gaussian levels, σ as trained",
    )  # fmt: skip
    axes.plot(
        rows["parameters"], rows["freezing_temperature"], color=BLACK, linestyle="none",
        marker="_", markersize=9, label=f"{FREEZING.label}, σ as trained",
    )  # fmt: skip
    axes.set(
        title="temperature of the peak against size", xscale="log", yscale="log",
        xlabel="parameters outside of embeddings", ylabel="$k_B T$ (units of the weights)",
    )  # fmt: skip
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.45)  # room for the key
    handles, labels = axes.get_legend_handles_labels()  # lines, then what has error bars
    axes.legend(handles[2:] + handles[:2], labels[2:] + labels[:2], loc="upper left")


def exponent_panel(axes: Axes, records: Sequence[Statistic]) -> None:
    """Exponents against size with intervals over models, and the range called quantum-like."""
    rows = _found(records, EXPONENTS)
    differences(axes, rows)
    axes.axvspan(*QUANTUM, color=PURPLE, alpha=0.12, linewidth=0)
    axes.annotate(
        "called “quantum-like”", (np.mean(QUANTUM), 0.45), ha="center", va="top", fontsize=7.5,
    )  # fmt: skip
    axes.set(title="exponent over the parameters", xlabel="exponent")


def lowest_panel(axes: Axes, matrices: pd.DataFrame, shown: str, label: str) -> None:
    """The peak of each matrix against what its one lowest entry lets expect."""
    trained = matrices[(matrices["weights"] == "trained") & ~matrices["at_edge"]]
    flat = trained["kurtosis"] < FLAT
    others = trained["model"] != shown
    for name, rows, look in (
        ("other models", trained[others & ~flat], {"color": GREY}),
        (label, trained[~others & ~flat], {"color": BLUE}),
        ("nearly uniform entries", trained[flat], {"color": RED, "marker": "x"}),
    ):
        points: dict[str, Any] = {"marker": "o", "markersize": 3, "alpha": 0.6, **look}
        x, y = rows["isolated_temperature"], rows["critical_temperature"]
        axes.plot(x, y, linestyle="none", label=name, **points)
    ends = trained["isolated_temperature"].agg(["min", "max"])
    axes.plot(ends, ends, color=BLACK, linewidth=0.8, label="equal")
    axes.set(
        title="the peak beside what one entry explains", xscale="log", yscale="log",
        xlabel=r"expected of the lowest entry alone, $k_B T / \sigma$",
        ylabel=r"peak, $k_B T / \sigma$",
    )  # fmt: skip
    ticks = [0.1, 0.2, 0.5, 1, 2, 5]
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        inside = [tick for tick in ticks if low <= tick <= high]
        axis.set_ticks(inside, [f"{tick:g}" for tick in inside])
        axis.set_minor_formatter(NullFormatter())
    axes.legend(loc="upper left")


def effect_panel(axes: Axes, records: Sequence[Statistic]) -> None:
    """The peak's temperature beside that of other levels, as logarithms of ratios."""
    differences(axes, _found(records, EFFECTS))
    axes.set(title="temperature of the peak beside others", xlabel="log ratio (nats)")


def spectrum_panel(axes: Axes, densities: pd.DataFrame) -> None:
    """Mean density of eigenvalues of two kinds, of the same shuffled, and the law of noise."""
    kinds = [kind for kind, _ in KINDS if kind in set(densities["kind"])]
    colors = dict(KINDS)
    for kind in kinds or sorted(set(densities["kind"]))[:2]:
        rows = densities[(densities["kind"] == kind) & (densities["weights"] == "trained")]
        sides = rows["rows"].iloc[0], rows["columns"].iloc[0]
        color = colors.get(kind, BLUE)
        for entries, line, suffix in (("weights", "-", ""), ("shuffled", ":", ", shuffled")):
            part = rows[rows["entries"] == entries]
            found = part[part["density"] > 0]
            axes.plot(
                np.sqrt(found["low"] * found["high"]), found["density"], color=color,
                linestyle=line, label=f"{kind}{suffix}",
            )  # fmt: skip
        x = np.geomspace(1e-3, 10, 4000)
        law = density(x, min(sides) / max(sides))
        axes.plot(
            x[law > 0], law[law > 0], color=color, linewidth=4, alpha=0.25,
            label=f"Marchenko-Pastur, {sides[0]} x {sides[1]}",
        )  # fmt: skip
    axes.set(
        title="eigenvalues of $WW^T$", xscale="log", yscale="log", ylim=(1e-5, 1e2),
        xlabel=r"eigenvalue / ($\sigma^2 \times$ longer side)", ylabel="density",
    )  # fmt: skip
    axes.legend(loc="lower left")


def flow_panel(axes: Axes, flows: pd.DataFrame) -> None:
    """Block averages: how much of the spread is left, against permuted rows and columns."""
    steps = flows[flows["step"] > 0]
    for number, (_, rows) in enumerate(steps.groupby(["layer", "kind"])):
        axes.plot(
            rows["step"], rows["ratio"], color=BLUE, linewidth=0.7, alpha=0.5,
            label=None if number else "a matrix",
        )  # fmt: skip
    mean = steps.groupby("step")[["ratio", "permuted", "low", "high"]].mean()
    axes.plot(mean.index, mean["ratio"], color=BLUE, marker="o", label="mean")
    curve(
        axes, mean.index, mean["permuted"], mean["low"], mean["high"], color=GREY,
        label="rows and columns permuted\n(mean 95 % range of one matrix)",
    )  # fmt: skip
    axes.axhline(1, color=BLACK, linewidth=0.8, label="independent entries")
    axes.set(
        title="block averages of 2 x 2, repeated",
        xlabel="step", ylabel=r"$2\times$ std after / before", xticks=list(mean.index),
    )  # fmt: skip
    axes.legend(loc="upper left")


def _found(
    records: Sequence[Statistic], rows: Sequence[tuple[str, Look]]
) -> list[tuple[Statistic, Look]]:
    known = {record.id.removeprefix("scaling."): record for record in records}
    return [(known[name], look) for name, look in rows if name in known]
