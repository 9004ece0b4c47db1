r"""Figures of thermodynamic quantities, each returned as a matplotlib ``Figure``.

A figure belongs to nobody but its caller: it is not registered with pyplot, so it neither pops up
nor has to be closed, and matplotlib's settings are left as they were. A notebook shows it when it
is the last expression of a cell; a script calls ``figure.savefig``, or passes ``save_path``, which
writes at 300 dpi in the format of its suffix.

Wherever temperature is an axis, the freezing temperature of random levels is drawn too,

    T_f = sigma / sqrt(2 ln N)                                  (Derrida 1981, random-energy model),

since the specific heat of a matrix of noise has its peak near there. A maximum at an end of the
grid is drawn hollow and called so: it is no peak. Where a function is given only a curve, T_f is
bounded from above by the curve itself, see :func:`freezing_bound`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation
from numpy.typing import ArrayLike, NDArray

from tgn.files import replacing
from tgn.plots.look import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SETTINGS, SKY
from tgn.thermodynamics import spectra
from tgn.thermodynamics.critical import Null, find_peak
from tgn.thermodynamics.levels import checked_levels, checked_temperatures
from thermodynamic_scaling.scaling_law import fit_power_law

Array = NDArray[np.floating]
Size = tuple[float, float] | None
Target = str | Path | None

WEIGHTS, SIGMAS = "temperature $T$ (units of the weights)", r"temperature $T/\sigma$"
FREEZING = r"freezing of random levels, $T_f = \sigma/\sqrt{2\,\ln N}$"
BOUND = r"upper bound of $T_f$, from the curve"
EDGE = "highest at the edge of the grid: no peak"
CYCLE = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY)
LABELS = {
    "model_size": "parameters without embeddings",
    "model_name": "model",
    "model_architecture": "family",
    "critical_temperature": "peak of $C$ at $T$ (units of the weights)",
    "critical_temperature_over_sigma": r"peak of $C$ at $T/\sigma$",
    "critical_temperature_over_freezing": "peak of $C$ at $T/T_f$",
    "freezing_temperature": "$T_f$ (units of the weights)",
    "specific_heat_peak": r"height of the peak of $C$ ($k_B$)",
    "sigma": r"standard deviation $\sigma$ (units of the weights)",
    "layer_depth": "relative depth of the layer",
    "mp_distance": "distance from Marchenko-Pastur",
    "participation_ratio": "participation ratio (eigenvalues)",
}
RESPONSES = {
    "critical_temperature": r"$T/\sigma$ of the peak of $C$",
    "peak_height": "the peak of $C$ ($k_B$)",
    "entropy": "entropy ($k_B$)",
    "specific_heat": "$C$ ($k_B$)",
    "largest": "largest eigenvalue / edge of noise",
    "mp_distance": "distance from Marchenko-Pastur",
    "nats": "loss (nats a token)",
}
# What stands for T_f in the units of a column; T_c / T_f has it at 1.
NULLS = {"critical_temperature": "freezing_temperature"}


def freezing_bound(temperatures: ArrayLike, specific_heats: ArrayLike) -> float:
    """Upper bound of T_f that a specific heat alone gives, in the units of the temperatures.

    Far above freezing C = k_B sigma^2 / (k_B T)^2, and ln N is at least the integral of C / k_B
    over ln T, as entropy is nowhere negative. Both enter T_f such that k_B cancels. The bound is
    near T_f if the curve goes from below the peak to where C falls as T^-2.

    Raises
    ------
    ValueError
        If the arrays do not fit, are not finite, do not rise in temperature, or C is zero.
    """
    grid, heat = _checked_curve(temperatures, specific_heats)
    variance = heat[-1] * grid[-1] ** 2
    entropy = np.trapezoid(heat, np.log(grid)) + heat[-1] / 2
    if not entropy > 0:
        raise ValueError("specific_heats: without any there is no width of the levels")
    return float(np.sqrt(variance / (2 * entropy)))


def plot_specific_heat_curve(
    temperatures: ArrayLike,
    specific_heats: ArrayLike,
    model_name: str = "",
    matrix_name: str = "",
    *,
    freezing_temperature: float | None = None,
    normalize: str | None = None,
    null: Null | None = None,
    figsize: Size = None,
    save_path: Target = None,
    show_critical: bool = True,
) -> Figure:
    """One specific heat over temperature.

    Parameters
    ----------
    temperatures, specific_heats : arrays, shape (n,)
        Rising temperatures; C in units of k_B.
    freezing_temperature
        T_f, as :func:`thermodynamic_scaling.thermodynamics.compute_thermal_properties` gives it;
        else its bound by :func:`freezing_bound` is drawn.
    normalize
        ``std`` if temperatures are in units of sigma, None if in those of the weights.
    null
        Gaussian levels (:func:`tgn.thermodynamics.critical.gaussian_null`): their 95 % band, if
        temperatures are in units of sigma.
    show_critical
        Mark the peak.

    Raises
    ------
    ValueError
        If the arrays do not fit, are not finite or do not rise in temperature; or a null is given
        for temperatures in other units.
    """
    curve = {
        "temperatures": temperatures,
        "specific_heat": specific_heats,
        "freezing_temperature": freezing_temperature,
        "normalize": normalize,
    }
    title = ", ".join(name for name in (model_name, matrix_name) if name)
    with _drawing(1, figsize or (5.2, 4.2), save_path) as (figure, (axes,)):
        _heat_axes(axes, normalize)
        _null_band(axes, null, normalize)
        _heat(axes, curve, color=BLUE, label=matrix_name or "specific heat", peak=show_critical)
        axes.set_title(title)
        _legend(axes)
    return figure


def plot_specific_heat_curves(
    model_name: str,
    results: Mapping[str, Any],
    layer_types: Sequence[str] | None = None,
    figsize: Size = None,
    save_path: Target = None,
    show_critical: bool = True,
    *,
    null: Null | None = None,
) -> Figure:
    """Specific heats of many matrices, one panel a type.

    Parameters
    ----------
    results
        Name to what :func:`thermodynamic_scaling.thermodynamics.compute_thermal_properties` or
        :func:`thermodynamic_scaling.thermodynamics.batch_analyze_matrices` gives for it; also
        layer to type to that.
    layer_types
        Ends of names, such as ``self_attention.query``: a panel each. One panel of all if None.
    null
        As :func:`plot_specific_heat_curve`.

    Raises
    ------
    ValueError
        If there are no results, none of a type, or some are in other units than others.
    """
    curves = dict(_flat(results))
    if not curves:
        raise ValueError("results is empty")
    units = {curve.get("normalize") for curve in curves.values()}
    if len(units) > 1:
        raise ValueError("results: some temperatures are in units of sigma, some of the weights")
    (normalize,) = units
    panels = {
        kind: {name: curve for name, curve in curves.items() if name.endswith(kind)}
        for kind in (layer_types if layer_types is not None else [""])
    }
    if not panels or not all(panels.values()):
        empty = [kind for kind, chosen in panels.items() if not chosen]
        raise ValueError(f"layer_types: no results of {', '.join(empty)}; of {', '.join(curves)}")
    size = figsize or (3.6 * len(panels) + 1.6, 4.4)
    with _drawing(len(panels), size, save_path, sharey=True) as (figure, all_axes):
        for axes, (kind, chosen) in zip(all_axes, panels.items(), strict=True):
            _heat_axes(axes, normalize)
            _null_band(axes, null, normalize)
            many = len(chosen) > len(CYCLE)
            colors = _sequence(len(chosen)) if many else CYCLE
            for color, (name, curve) in zip(colors, chosen.items(), strict=False):
                label = "" if many else name.removesuffix(f"/{kind}")
                _heat(axes, curve, color=color, label=label, peak=show_critical, several=True)
            _freezing_lines(axes, chosen.values(), colors)
            axes.set_title(f"{model_name}, {kind}" if kind else model_name)
            axes.label_outer()
            _legend(axes)
            if many:
                ends = [name.removesuffix(f"/{kind}") for name in chosen]
                _order_bar(figure, axes, ends)
        _letters(all_axes)
    return figure


def plot_scaling_law(
    results_df: pd.DataFrame,
    x_col: str = "model_size",
    y_col: str = "critical_temperature",
    hue_col: str | None = None,
    figsize: Size = None,
    log_scale: bool = True,
    fit: bool = True,
    save_path: Target = None,
) -> Figure:
    """A quantity over another, a point a model, with a power law.

    Rows of one ``model_name`` are small points; their geometric means, what the law is fitted to,
    large ones (arithmetic on linear axes without a law, where numbers may be negative). Rows that
    are ``at_edge`` (a column of booleans, if there) are hollow and left out of means and fit. Of
    critical temperatures the freezing temperatures of as many Gaussian levels (column
    ``freezing_temperature``) are drawn beside.

    Raises
    ------
    ValueError
        If a column is missing, has numbers that are not finite or, for logarithms, not positive,
        or temperatures come without freezing temperatures.
    """
    needed = [x_col, y_col, *([hue_col] if hue_col else []), *_null_column(y_col)]
    positive = [x_col, y_col] if log_scale or fit else []
    table = _checked_table(results_df, needed, numbers=(x_col, y_col), positive=positive)
    inside = table[~table["at_edge"]]
    keys = ["model_name"] if "model_name" in table else []
    kind, mean = ("geometric", _geometric_mean) if positive else ("arithmetic", "mean")
    means = inside.groupby(keys)[[x_col, y_col]].agg(mean) if keys else inside
    with _drawing(1, figsize or (5.6, 4.6), save_path) as (figure, (axes,)):
        hues = table.groupby(hue_col, sort=False) if hue_col else [("", table)]
        for color, (name, rows) in zip(_colors(len(hues)), hues, strict=True):
            label = str(name) or ("matrices" if keys else "points")
            _scatter(axes, rows[x_col], rows[y_col], rows["at_edge"], color, label, size=14)
        if keys and len(means) < len(inside):
            axes.scatter(
                means[x_col], means[y_col], s=52, facecolors="none", edgecolors=BLACK, zorder=3,
                label=f"{kind} mean of a model",
            )  # fmt: skip
        _null_points(axes, table, x_col, y_col)
        if fit:
            _law(axes, means, x_col, y_col)
        if log_scale:
            axes.set(xscale="log", yscale="log")
        axes.set(xlabel=_label(x_col), ylabel=_label(y_col))
        axes.set_title(f"{len(means)} models" if keys else f"{len(means)} points")
        _legend(axes)
    return figure


def plot_model_comparisons(
    results_df: pd.DataFrame,
    property_col: str,
    groupby: str = "model_name",
    figsize: Size = None,
    save_path: Target = None,
) -> Figure:
    """All values of a property by group, with medians.

    Of critical temperatures the median freezing temperature of as many Gaussian levels is drawn
    beside, and rows that are ``at_edge`` are hollow and not in the median.

    Raises
    ------
    ValueError
        If a column is missing or has numbers that are not finite, or critical temperatures come
        without freezing temperatures.
    """
    needed = [property_col, groupby, *_null_column(property_col)]
    table = _checked_table(results_df, needed, numbers=(property_col,))
    groups = table.groupby(groupby, sort=False)
    size = figsize or (max(4.6, 1.0 * len(groups) + 1.2), 4.2)
    with _drawing(1, size, save_path) as (figure, (axes,)):
        for place, (_, rows) in enumerate(groups):
            beside = place + np.linspace(-0.22, 0.22, len(rows)) * (len(rows) > 1)
            first = place == 0
            inside = rows[~rows["at_edge"]]
            _scatter(
                axes, beside, rows[property_col], rows["at_edge"], BLUE,
                "matrices, in their order" if first else "", size=14,
            )  # fmt: skip
            if len(inside):
                axes.plot(
                    [place - 0.32, place + 0.32], [inside[property_col].median()] * 2,
                    color=BLACK, label="median" if first else "",
                )  # fmt: skip
            for column in _null_column(property_col):
                axes.plot(
                    [place - 0.32, place + 0.32], [rows[column].median()] * 2,
                    color=GREY, linestyle="--", label=FREEZING if first else "",
                )  # fmt: skip
        if property_col == "critical_temperature_over_freezing":
            axes.axhline(1, color=GREY, linestyle="--", label=FREEZING)
        axes.set_xticks(range(len(groups)), [str(name) for name, _ in groups], rotation=20)
        axes.grid(visible=False, axis="x")
        axes.set(ylabel=_label(property_col), title=f"by {_label(groupby)}")
        _legend(axes, below=48)
    return figure


def plot_renormalization_flow(
    flow_results: Mapping[str, Any], figsize: Size = None, save_path: Target = None
) -> Figure:
    """Specific heats, their peaks and the widths along a flow of block averages.

    Parameters
    ----------
    flow_results
        From ``renormalization_flow`` in
        :mod:`thermodynamic_scaling.theoretical_extensions.renormalization_group`.

    Raises
    ------
    ValueError
        If something of it is missing.
    """
    _require(
        flow_results,
        "flow_results",
        "temperatures", "specific_heat", "critical_temps", "at_edge", "freezing_temps",
        "std_ratios", "std_ratios_null", "std_ratio_p_values", "expected_ratio",
    )  # fmt: skip
    frozen = np.asarray(flow_results["freezing_temps"], float)
    peaks = np.asarray(flow_results["critical_temps"], float)
    edge = np.asarray(flow_results["at_edge"], bool)
    steps = np.arange(len(peaks))
    with _drawing(3, figsize or (10.6, 4.4), save_path) as (figure, (heat, tops, widths)):
        _heat_axes(heat, "std")
        curves = [
            {
                "temperatures": flow_results["temperatures"],
                "specific_heat": flow_results["specific_heat"][step],
                "freezing_temperature": frozen[step],
            }
            for step in steps
        ]
        colors = _sequence(len(steps))
        for step, color in zip(steps, colors, strict=True):
            name = "the matrix" if step == 0 else f"step {step}"
            _heat(heat, curves[step], color=color, label=name, peak=True, several=True)
        _freezing_lines(heat, curves, colors)
        heat.set_title("block averages, each scaled to σ = 1")
        tops.plot(steps, peaks, color=BLUE, zorder=1)
        _scatter(tops, steps, peaks, edge, BLUE, "peak of $C$", size=30)
        tops.plot(steps, frozen, color=GREY, linestyle="--", marker=".", label=FREEZING)
        tops.set(xlabel="step", ylabel=r"temperature $T/\sigma$", title="peaks")
        ratios = np.asarray(flow_results["std_ratios"], float)
        p_values = np.asarray(flow_results["std_ratio_p_values"], float)
        at = np.arange(1, len(ratios) + 1)
        widths.axhline(
            flow_results["expected_ratio"], color=GREY, linestyle="--",
            label="independent entries, 1 / block size",
        )  # fmt: skip
        widths.plot(
            at, flow_results["std_ratios_null"], color=GREY, marker="x", linestyle="",
            label="rows and columns permuted, mean",
        )  # fmt: skip
        widths.plot(at, ratios, color=BLUE, marker="o", label="the matrix")
        for step, ratio, p in zip(at, ratios, p_values, strict=True):
            widths.annotate(
                f"p = {p:.2g}", (step, ratio), xytext=(0, 7), textcoords="offset points",
                ha="center", fontsize=7,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
            )  # fmt: skip
        widths.margins(x=0.12, y=0.2)
        widths.set(xlabel="step", ylabel=r"$\sigma$ after / $\sigma$ before", title="widths")
        for axes in (tops, widths):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in (heat, tops, widths):
            _legend(axes)
        _letters((heat, tops, widths))
    return figure


def plot_eigenvalue_spectrum(
    eigenvalues: ArrayLike | tuple[Array, Array, Array],
    with_mp_law: bool = True,
    aspect_ratio: float | None = None,
    bins: int = 50,
    figsize: Size = None,
    save_path: Target = None,
) -> Figure:
    """Histogram of the eigenvalues of W W' / max(m, n), with the law of Marchenko and Pastur.

    Both axes are logarithmic: those of a square matrix crowd towards zero, where the law diverges,
    and those of a trained one reach far beyond it.

    Parameters
    ----------
    eigenvalues : array, shape (min(m, n),)
        Or the three arrays that ``eigenvalue_distribution`` in
        :mod:`thermodynamic_scaling.methodological_enhancements.eigenvalue_analysis` returns, of
        which these are the first. Those that cannot be told from zero are counted in the title.
    aspect_ratio
        m / n or n / m; needed for the law, whose variance is that of the bulk.

    Raises
    ------
    ValueError
        If there are no eigenvalues, all are zero, some are negative or not finite, or the law is to
        be drawn without an aspect ratio, or with one that is not positive.
    """
    if isinstance(eigenvalues, tuple) and np.ndim(eigenvalues[0]):
        eigenvalues = eigenvalues[0]
    values = checked_levels(eigenvalues, "eigenvalues")
    if values.min() < 0:
        raise ValueError("eigenvalues: those of W W' are not negative")
    if with_mp_law and not (aspect_ratio is not None and 0 < aspect_ratio < np.inf):
        raise ValueError(
            f"aspect_ratio must be positive, got {aspect_ratio}: give the matrix's m / n, or "
            "with_mp_law=False"
        )
    if not values.max() > 0:
        raise ValueError("eigenvalues: all are zero")
    positive = values[values > len(values) * np.finfo(float).eps * values.max()]
    ends = np.geomspace(0.999 * positive.min(), 1.001 * positive.max(), bins + 1)
    counts, _ = np.histogram(positive, ends)
    heights = counts / np.diff(ends) / len(values)
    reach = ends[-1]
    with _drawing(1, figsize or (5.6, 4.2), save_path) as (figure, (axes,)):
        axes.stairs(heights, ends, fill=True, color=SKY, label="eigenvalues")
        if with_mp_law and aspect_ratio is not None:
            aspect = min(aspect_ratio, 1 / aspect_ratio)
            variance = spectra.bulk_variance(values, aspect)
            low, high = spectra.edges(aspect, variance)
            # evenly in the root, for the density may diverge at the lower edge
            x = np.linspace(np.sqrt(low), np.sqrt(high), 600)[1:] ** 2
            law = spectra.density(x, aspect, variance)
            distance = spectra.distance(values, aspect, variance)
            beyond = spectra.outliers(values, (len(values), round(len(values) / aspect)), variance)
            axes.plot(
                x, law, color=RED,
                label=f"Marchenko-Pastur, variance {variance:.3g}; distance {distance:.3f}",
            )  # fmt: skip
            reach = max(reach, beyond.threshold)
            axes.axvline(
                beyond.threshold, color=GREY, linestyle="--",
                label=f"99 % of noise ends below: {beyond.number} of {len(values)} beyond",
            )  # fmt: skip
        zeros = len(values) - len(positive)
        axes.set(
            xlabel=r"eigenvalue of $WW^T/\max(m,n)$ (squared units of the weights)",
            ylabel="density",
            title=f"{len(values)} eigenvalues" + f", {zeros} of them zero" * bool(zeros),
            xscale="log",
            yscale="log",
            xlim=(ends[0] / 1.5, 1.5 * reach),
            ylim=(heights[heights > 0].min() / 3, 3 * heights.max()),  # the law may diverge
        )
        _legend(axes)
    return figure


def plot_2d_phase_diagram(
    param1_values: ArrayLike,
    param2_values: ArrayLike,
    critical_temps: ArrayLike,
    param_names: tuple[str, str] = ("parameter 1", "parameter 2"),
    figsize: Size = None,
    save_path: Target = None,
    *,
    freezing_temps: ArrayLike | None = None,
    at_edge: ArrayLike | None = None,
    unit: str = "units of the weights",
) -> Figure:
    """Temperatures of the peak of C over two parameters.

    Parameters
    ----------
    param1_values, param2_values : arrays, shapes (n,) and (m,)
        Rising.
    critical_temps : array, shape (n, m)
        NaN leaves a place empty.
    freezing_temps : array, shape (n, m), optional
        T_f of as many Gaussian levels: a second panel shows the ratio to it.
    at_edge : array of booleans, shape (n, m), optional
        Where the peak is the end of the grid, which is crossed out.

    Raises
    ------
    ValueError
        If shapes do not fit, parameters do not rise, or there are no temperatures.
    """
    one = checked_levels(param1_values, "param1_values")
    two = checked_levels(param2_values, "param2_values")
    for name, parameter in (("param1_values", one), ("param2_values", two)):
        if (np.diff(parameter) <= 0).any():
            raise ValueError(f"{name} must rise")
    shape = (len(one), len(two))
    tops = _of_shape(critical_temps, shape, "critical_temps")
    if not np.isfinite(tops).any():
        raise ValueError("critical_temps has no finite numbers")
    panels: dict[str, Array] = {f"peak of $C$ at $T$ ({unit})": tops}
    if freezing_temps is not None:
        frozen = _of_shape(freezing_temps, shape, "freezing_temps")
        panels[r"peak over freezing of random levels, $T/T_f$"] = tops / frozen
    crossed = _of_shape(np.zeros(shape) if at_edge is None else at_edge, shape, "at_edge") > 0
    size = figsize or (4.9 * len(panels), 4.2)
    with _drawing(len(panels), size, save_path) as (figure, all_axes):
        for axes, (label, values) in zip(all_axes, panels.items(), strict=True):
            # along index 0 goes the first parameter, which is drawn along x
            places = [np.arange(n) for n in shape]
            image = axes.pcolormesh(*places, np.ma.masked_invalid(values).T, cmap="viridis")
            figure.colorbar(image, ax=axes, label=label)
            if crossed.any():
                axes.plot(*np.nonzero(crossed), "x", color=RED, label=EDGE)
                _legend(axes)
            axes.set_xticks(*_ticks(one))
            axes.set_yticks(*_ticks(two))
            axes.grid(visible=False)
            axes.set(xlabel=param_names[0], ylabel=param_names[1])
        _letters(all_axes)
    return figure


def plot_free_energy_landscape(
    free_energy_data: Mapping[str, Any],
    temperature: float,
    figsize: Size = None,
    save_path: Target = None,
) -> Figure:
    """Energies visited at a temperature, and the minima below them with the climbs between.

    Parameters
    ----------
    free_energy_data
        From ``free_energy_landscape`` in
        :mod:`thermodynamic_scaling.theoretical_extensions.replica_theory`.
    temperature
        It was taken at, in units where Gaussian couplings freeze at 1; drawn in the title.

    Raises
    ------
    ValueError
        If something of it is missing, or the temperature is not positive.
    """
    _require(
        free_energy_data, "free_energy_data",
        "energy_samples", "minimum_energies", "energy_barriers", "energy_mean", "n_minima",
        "coverage",
    )  # fmt: skip
    (at,) = checked_temperatures(temperature)
    samples = checked_levels(free_energy_data["energy_samples"], "energy_samples")
    minima = checked_levels(free_energy_data["minimum_energies"], "minimum_energies")
    climbs = np.asarray(free_energy_data["energy_barriers"], float)
    with _drawing(2, figsize or (9.0, 4.2), save_path) as (figure, (visited, valleys)):
        visited.hist(samples, 40, density=True, color=SKY, label="visited")
        visited.axvline(free_energy_data["energy_mean"], color=BLUE, label="mean")
        visited.plot(
            minima, np.zeros_like(minima), "|", color=RED, markersize=14, clip_on=False,
            label=f"{free_energy_data['n_minima']} minima found "
            f"({free_energy_data['coverage']:.0%} of quenches end in known ones)",
        )  # fmt: skip
        side = "below" if at < 1 else "above"
        visited.set(
            xlabel="energy (units of the couplings)", ylabel="density",
            title=f"T = {at:.3g}, {side} 1, where Gaussian couplings freeze",
        )  # fmt: skip
        number = np.arange(1, len(minima) + 1)
        shown = min(len(minima), len(climbs) + 1)
        valleys.plot(number[:shown], minima[:shown], "o", color=RED, label="minimum")
        valleys.vlines(
            number[1:shown], minima[1:shown], minima[1:shown] + climbs[: shown - 1], color=GREY,
            label="climb on the way to the lowest (upper bound)",
        )  # fmt: skip
        valleys.xaxis.set_major_locator(MaxNLocator(integer=True))
        valleys.set(
            xlabel="minimum, by energy", ylabel="energy (units of the couplings)",
            title=f"the lowest {shown} of {len(minima)}",
        )  # fmt: skip
        for axes in (visited, valleys):
            _legend(axes)
        _letters((visited, valleys))
    return figure


def plot_scaling_collapse(
    collapse_results: Mapping[str, Any],
    figsize: Size = None,
    save_path: Target = None,
    *,
    freezing_temps: Mapping[str, float] | None = None,
) -> Figure:
    """Curves before and after they are rescaled by size.

    Parameters
    ----------
    collapse_results
        From :func:`thermodynamic_scaling.scaling_law.universal_scaling_function`.
    freezing_temps
        T_f by label. Given that, a first panel shows the curves over temperature.

    Raises
    ------
    ValueError
        If something is missing.
    """
    _require(
        collapse_results, "collapse_results",
        "scaled_data", "collapse_quality", "critical_exponents",
    )  # fmt: skip
    data = collapse_results["scaled_data"]
    if not data:
        raise ValueError("collapse_results: scaled_data is empty")
    exponents = collapse_results["critical_exponents"]
    nu, beta, t_c = (exponents[name] for name in ("nu", "beta", "T_c"))
    if freezing_temps is not None:
        _require(freezing_temps, "freezing_temps", *data)
    n_panels = 1 if freezing_temps is None else 2
    size = figsize or (4.9 * n_panels, 4.4)
    with _drawing(n_panels, size, save_path) as (figure, all_axes):
        collapsed = all_axes[-1]
        by_size = sorted(data.items(), key=lambda item: item[1]["size"])
        for color, (label, curve) in zip(_sequence(len(data)), by_size, strict=True):
            length = curve["size"]
            name = f"{label}, L = {length:g}"
            collapsed.plot(curve["x"], curve["y"], color=color, label=name)
            if freezing_temps is not None:
                temperatures = t_c * (1 + curve["x"] * length ** (-1 / nu))
                values = curve["y"] * length ** (-beta / nu)
                all_axes[0].plot(temperatures, values, color=color, label=name)
                all_axes[0].axvline(
                    freezing_temps[label], color=color, linestyle="--", linewidth=0.9,
                    label=_once(all_axes[0], FREEZING),
                )  # fmt: skip
        if freezing_temps is not None:
            all_axes[0].axvline(t_c, color=BLACK, linewidth=1, label="$T_c$ as given")
            all_axes[0].set(xlabel="temperature $T$", ylabel="$y$", title="as measured")
        null = collapse_results.get("null_quality")
        against = "" if null is None else (
            f"; sizes permuted {null:.2f}, p = {collapse_results['p_value']:.2g}"
        )  # fmt: skip
        collapsed.set(
            xlabel=r"$L^{1/\nu}\,(T - T_c)/T_c$",
            ylabel=r"$L^{\beta/\nu}\,y$",
            title=rf"$\nu$ = {nu:.3g}, $\beta$ = {beta:.3g}: "
            f"quality {collapse_results['collapse_quality']:.2f}{against}",
        )
        for axes in all_axes:
            _legend(axes)
        _letters(all_axes)
    return figure


def plot_information_metrics(
    info_theory_results: Mapping[str, Any],
    figsize: Size = None,
    save_path: Target = None,
    *,
    freezing_temperature: float | None = None,
) -> Figure:
    """Entropy and Fisher information over temperature, and the information plane if it is there.

    Parameters
    ----------
    info_theory_results
        From ``information_scan`` or ``information_bottleneck_analysis`` in
        :mod:`thermodynamic_scaling.theoretical_extensions.information_theory`.
    freezing_temperature
        T_f; else its bound by :func:`freezing_bound`.

    Raises
    ------
    ValueError
        If something is missing or does not fit.
    """
    _require(
        info_theory_results, "info_theory_results", "temperatures", "entropy", "fisher_information"
    )
    grid, fisher = _checked_curve(
        info_theory_results["temperatures"], info_theory_results["fisher_information"]
    )
    has_plane = "I_XT" in info_theory_results
    n_panels = 3 if has_plane else 2
    size = figsize or (3.6 * n_panels, 4.0)
    with _drawing(n_panels, size, save_path) as (figure, all_axes):
        entropy, information = all_axes[:2]
        entropy.plot(grid, info_theory_results["entropy"], color=BLUE, label="entropy")
        entropy.set(ylabel="entropy (nats)", ylim=(0, None), title="entropy")
        information.plot(grid, fisher, color=BLUE, label="Fisher information $C/T^2$")
        information.set(
            yscale="log",
            ylabel="information about $T$ (1 / temperature²)",
            title="Fisher information",
        )
        for axes in (entropy, information):
            axes.set(xscale="log", xlabel=WEIGHTS)
            _freezing_line(axes, freezing_temperature, grid, fisher * grid**2)
        if has_plane:
            _information_plane(figure, all_axes[2], info_theory_results)
        for axes in all_axes:
            _legend(axes)
        _letters(all_axes)
    return figure


def _information_plane(figure: Figure, axes: Axes, results: Mapping[str, Any]) -> None:
    kept, known = (np.asarray(results[name], float) for name in ("I_XT", "I_TY"))
    axes.plot(kept, known, color=GREY, zorder=1, linewidth=1)
    points = axes.scatter(
        kept, known, c=np.asarray(results["temperatures"], float), norm="log", s=22, zorder=2,
        label="upper bounds",
    )  # fmt: skip
    axes.plot(kept, results["I_TY_null"], color=RED, linestyle=":", label="labels permuted, mean")
    figure.colorbar(points, ax=axes, label="noise (share of the channels' variance)")
    axes.set(xlabel="$I(X;T)$ (nats)", ylabel="$I(T;Y)$ (nats)", title="information plane")
    axes.set(xlim=(0, 1.06 * kept.max() or 1.0), ylim=(0, 1.1 * known.max() or 1.0))


def generate_all_visualizations(
    results_df: pd.DataFrame | None = None,
    scaling_results: Mapping[str, Any] | None = None,
    info_theory_results: Mapping[str, Any] | None = None,
    rg_results: Mapping[str, Any] | None = None,
    eigenvalue_results: Mapping[str, Any] | None = None,
    perturbation_results: pd.DataFrame | None = None,
    save_dir: Target = None,
) -> dict[str, Figure]:
    """Every figure there are results for.

    Parameters
    ----------
    results_df
        Rows of matrices: ``model_name``, ``model_size``, ``critical_temperature``,
        ``freezing_temperature``; see :func:`plot_scaling_law`.
    scaling_results
        From :func:`thermodynamic_scaling.scaling_law.universal_scaling_function`.
    info_theory_results, rg_results
        As :func:`plot_information_metrics` and :func:`plot_renormalization_flow` take them.
    eigenvalue_results
        Layer to matrix to spectrum, from ``layer_wise_eigenvalue_analysis`` in
        :mod:`thermodynamic_scaling.methodological_enhancements.eigenvalue_analysis`: a figure each.
    perturbation_results
        As :func:`plot_perturbation_response` takes them.
    save_dir
        Folder for ``<name>.png``; nothing is written if None.

    Returns
    -------
    dict
        Name to figure.

    Raises
    ------
    ValueError
        If there are no results at all, and as the single functions.
    """
    made: dict[str, Figure] = {}
    if results_df is not None:
        made["scaling_law"] = plot_scaling_law(results_df)
        made["model_comparison"] = plot_model_comparisons(results_df, "critical_temperature")
    if scaling_results is not None:
        made["scaling_collapse"] = plot_scaling_collapse(scaling_results)
    if info_theory_results is not None:
        made["information_metrics"] = plot_information_metrics(info_theory_results)
    if rg_results is not None:
        made["renormalization_flow"] = plot_renormalization_flow(rg_results)
    for layer, found in (eigenvalue_results or {}).items():
        for kind, spectrum in found.items():
            rows, columns = spectrum["shape"]
            made[f"eigenvalues_{layer}_{kind}"] = plot_eigenvalue_spectrum(
                spectrum["eigenvalues"], aspect_ratio=rows / columns
            )
    if perturbation_results is not None:
        made["perturbation_response"] = plot_perturbation_response(perturbation_results)
    if not made:
        raise ValueError("there are no results to draw: all arguments are None or empty")
    if save_dir is not None:
        for name, figure in made.items():
            _save(figure, Path(save_dir) / f"{name}.png")
    return made


def plot_perturbation_response(
    perturbation_results: pd.DataFrame,
    metrics: Sequence[str] = ("critical_temperature", "entropy", "largest", "mp_distance"),
    figsize: Size = None,
    save_path: Target = None,
) -> Figure:
    """How quantities answer to changes of a matrix, each kind beside noise of its size.

    Means over matrices and draws with their standard deviation. Peaks at the edge of the grid are
    left out. Of the critical temperature the shift that independent levels would show is drawn too.

    Parameters
    ----------
    perturbation_results
        Rows of ``perturbation_response`` in
        :mod:`thermodynamic_scaling.methodological_enhancements.perturbation_analysis`.
    metrics
        A panel each.

    Raises
    ------
    ValueError
        If a column is missing, there are no rows, or none of a metric.
    """
    needed = ("kind", "amount", "control", "eps", "metric", "change", "reference")
    missing = [name for name in needed if name not in perturbation_results]
    if missing:
        raise ValueError(f"perturbation_results lacks {', '.join(missing)}")
    if not len(metrics):
        raise ValueError("metrics is empty")
    for metric in metrics:
        if not (perturbation_results["metric"] == metric).any():
            raise ValueError(f"metrics: there are no rows of {metric!r}")
    kinds = list(perturbation_results["kind"].unique())
    size = figsize or (3.3 * len(metrics), 4.0)
    with _drawing(len(metrics), size, save_path) as (figure, all_axes):
        for axes, metric in zip(all_axes, metrics, strict=True):
            rows = perturbation_results[perturbation_results["metric"] == metric]
            for color, kind in zip(_colors(len(kinds)), kinds, strict=True):
                for control, part in rows[rows["kind"] == kind].groupby("control"):
                    _response(axes, part, color, kind, control=bool(control))
            if metric == "critical_temperature":
                eps = np.linspace(0, rows["eps"].max(), 100)
                axes.plot(
                    eps, rows["reference"].mean() * (np.sqrt(1 + eps**2) - 1), color=BLACK,
                    linestyle=":", label=r"as wider random levels, $\sqrt{1+\varepsilon^2}$",
                )  # fmt: skip
            axes.axhline(0, color=GREY, linewidth=0.8)
            axes.set(
                xlabel=r"relative size $\varepsilon$ of the change",
                ylabel=f"change of {RESPONSES.get(metric, metric.replace('_', ' '))}",
                title=metric.replace("_", " "),
            )
        handles = {
            label: handle
            for axes in all_axes
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles, loc="outside lower left", ncols=4)
        _letters(all_axes)
    return figure


def _response(axes: Axes, rows: pd.DataFrame, color: Any, kind: str, *, control: bool) -> None:
    known = rows[np.isfinite(rows["change"])].groupby("amount")
    means, spread = known[["eps", "change"]].mean(), known["change"].std().fillna(0)
    order = means["eps"].argsort()
    axes.errorbar(
        means["eps"].iloc[order], means["change"].iloc[order], spread.iloc[order], color=color,
        linestyle="--" if control else "-", marker="" if control else "o", markersize=3,
        linewidth=1, capsize=2,
        label=kind.replace("_", " ") + (", noise of its size" if control else ""),
    )  # fmt: skip


@contextmanager
def _drawing(
    n_panels: int, size: tuple[float, float], save_path: Target, *, sharey: bool = False
) -> Iterator[tuple[Figure, Sequence[Axes]]]:
    """An empty figure; once drawn on, its layout is fixed, and it is saved."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        yield figure, figure.subplots(1, n_panels, squeeze=False, sharey=sharey)[0]
        figure.draw_without_rendering()  # ticks take their look from the settings when first drawn
        if save_path is not None:
            _save(figure, save_path)


def _save(figure: Figure, path: str | Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=300)


def _heat_axes(axes: Axes, normalize: str | None) -> None:
    if normalize not in (None, "std"):
        raise ValueError(f"normalize must be 'std' or None, got {normalize!r}")
    axes.set(xscale="log", ylabel="specific heat $C$ ($k_B$)")
    axes.set_xlabel(SIGMAS if normalize == "std" else WEIGHTS)


def _heat(
    axes: Axes,
    curve: Mapping[str, Any],
    *,
    color: Any,
    label: str,
    peak: bool,
    several: bool = False,
) -> None:
    """C(T), the freezing temperature that belongs to it, and its peak or what passes for one."""
    grid, heat = _checked_curve(curve["temperatures"], curve["specific_heat"])
    axes.plot(grid, heat, color=color, label=label, linewidth=1.1 if several else 1.6)
    if not several:
        _freezing_line(axes, curve.get("freezing_temperature"), grid, heat)
    if not peak:
        return
    top = find_peak(grid, heat)
    if top.at_edge:
        axes.plot(
            top.temperature, top.height, marker="v", color=color, markerfacecolor="white",
            linestyle="", clip_on=False, zorder=4, label=_once(axes, EDGE),
        )  # fmt: skip
    else:
        name = "peaks" if several else f"peak at {top.temperature:.3g}"
        axes.plot(
            top.temperature, top.height, marker="o", color=color, linestyle="", markersize=4,
            zorder=4, label=_once(axes, name),
        )  # fmt: skip


def _freezing_lines(axes: Axes, curves: Iterable[Mapping[str, Any]], colors: Iterable[Any]) -> None:
    """Those of many curves, each in its colour; grey if all are one."""
    lines = []
    for color, curve in zip(colors, curves, strict=False):
        frozen, name = curve.get("freezing_temperature"), FREEZING
        if frozen is None:
            frozen, name = freezing_bound(curve["temperatures"], curve["specific_heat"]), BOUND
        lines.append((float(frozen), color, name))
    if np.allclose([at for at, *_ in lines], lines[0][0], rtol=1e-3):
        lines = [(lines[0][0], GREY, lines[0][2])]
    for at, color, name in lines:
        axes.axvline(at, color=color, linestyle="--", linewidth=0.9, label=_once(axes, name))


def _once(axes: Axes, label: str) -> str:
    """The label, unless the panel has it."""
    return "" if label in axes.get_legend_handles_labels()[1] else label


def _freezing_line(axes: Axes, frozen: float | None, grid: Array, heat: Array) -> None:
    if frozen is None:
        at, name = freezing_bound(grid, heat), BOUND
    else:
        (at,), name = checked_temperatures(frozen), FREEZING
    axes.axvline(at, color=GREY, linestyle="--", label=f"{name} ({at:.3g})")


def _null_band(axes: Axes, null: Null | None, normalize: str | None) -> None:
    if null is None:
        return
    if normalize != "std":
        raise ValueError("null is in units of sigma, so normalize must be 'std'")
    low, high = np.quantile(null.specific_heat, (0.025, 0.975), axis=0)
    axes.fill_between(
        null.temperatures, low, high, color=GREY, alpha=0.3, linewidth=0,
        label="Gaussian levels as many, 95 %",
    )  # fmt: skip


def _scatter(
    axes: Axes, x: Any, y: Any, at_edge: Any, color: Any, label: str, *, size: float
) -> None:
    """Points, hollow where they are the end of a grid."""
    x, y, edge = np.asarray(x), np.asarray(y), np.asarray(at_edge, bool)
    axes.scatter(x[~edge], y[~edge], s=size, color=color, label=label, zorder=2)
    if edge.any():
        axes.scatter(
            x[edge], y[edge], s=size + 6, marker="v", facecolors="white", edgecolors=[color],
            zorder=2, label=_once(axes, EDGE),
        )  # fmt: skip


def _null_column(column: str) -> list[str]:
    return [NULLS[column]] if column in NULLS else []


def _null_points(axes: Axes, table: pd.DataFrame, x_col: str, y_col: str) -> None:
    for column in _null_column(y_col):
        axes.scatter(
            table[x_col], table[column], s=90, marker="_", color=GREY, label=FREEZING, zorder=1
        )
    if y_col == "critical_temperature_over_freezing":
        axes.axhline(1, color=GREY, linestyle="--", label=FREEZING)
    for column in _null_column(x_col):
        axes.axvline(table[column].median(), color=GREY, linestyle="--", label=FREEZING)


def _law(axes: Axes, means: pd.DataFrame, x_col: str, y_col: str) -> None:
    """The power law through one point a model, or why there is none."""
    if means[x_col].nunique() < 3:
        axes.plot([], [], linestyle="", label="no law: fewer than three sizes")
        return
    found = fit_power_law(means[x_col], means[y_col])
    line = found["log_linear"]
    x = np.geomspace(means[x_col].min(), means[x_col].max(), 100)
    label = f"power {line['b']:.2f} [{line['low']:.2f}, {line['high']:.2f}], n = {found['n']}"
    if found["preferred"] != "power law":
        label += f"; better by AICc: {found['preferred']}"
    axes.plot(x, line["a"] * x ** line["b"], color=BLACK, linewidth=1, label=label)


def _checked_curve(temperatures: ArrayLike, values: ArrayLike) -> tuple[Array, Array]:
    grid = checked_temperatures(temperatures)
    curve = checked_levels(values, "specific_heats")
    if len(grid) != len(curve):
        raise ValueError(f"specific_heats has {len(curve)} values for {len(grid)} temperatures")
    if len(grid) < 3:
        raise ValueError(f"temperatures: a curve takes at least three points, got {len(grid)}")
    if (np.diff(grid) <= 0).any():
        raise ValueError("temperatures must rise")
    return grid, curve


def _checked_table(
    table: pd.DataFrame,
    needed: Sequence[str],
    *,
    numbers: Sequence[str],
    positive: Sequence[str] = (),
) -> pd.DataFrame:
    """The rows with a column ``at_edge``, all False unless there is one."""
    missing = [name for name in needed if name not in table]
    if missing:
        raise ValueError(f"results_df lacks {', '.join(missing)}")
    if table.empty:
        raise ValueError("results_df is empty")
    for name in numbers:
        if not np.isfinite(table[name].to_numpy(float)).all():
            raise ValueError(f"results_df: {name} has numbers that are not finite")
    for name in positive:
        if not (table[name] > 0).all():
            raise ValueError(f"results_df: {name} must be positive for logarithms")
    edge = table["at_edge"].astype(bool) if "at_edge" in table else False
    return table.assign(at_edge=edge)


def _require(found: Mapping[str, Any], name: str, *keys: str) -> None:
    missing = [key for key in keys if key not in found]
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)}")


def _of_shape(values: ArrayLike, shape: tuple[int, int], name: str) -> Array:
    found = np.asarray(values, float)
    if found.shape != shape:
        raise ValueError(f"{name} has shape {found.shape}, the parameters {shape}")
    return found


def _flat(results: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Curves by name, with layer and type joined where they are nested."""
    for name, found in results.items():
        if not isinstance(found, Mapping):
            raise ValueError(f"results[{prefix + name!r}] holds no thermal properties")
        if "thermal_properties" in found:
            yield prefix + name, found["thermal_properties"]
        elif "specific_heat" in found:
            yield prefix + name, found
        else:
            yield from _flat(found, f"{prefix}{name}/")


def _geometric_mean(values: pd.Series) -> float:
    return float(np.exp(np.log(values).mean()))


def _label(column: str) -> str:
    return LABELS.get(column, column.replace("_", " "))


def _colors(n: int) -> Sequence[Any]:
    return CYCLE[:n] if n <= len(CYCLE) else _sequence(n)


def _sequence(n: int) -> list[Any]:
    """n colours in an order."""
    return list(matplotlib.colormaps["viridis"](np.linspace(0, 0.9, n)))


def _order_bar(figure: Figure, axes: Axes, names: list[str]) -> None:
    """What the colours of many curves mean: their place in the order given."""
    scale = matplotlib.colors.ListedColormap(_sequence(len(names)))
    norm = matplotlib.colors.Normalize(0.5, len(names) + 0.5)
    bar = figure.colorbar(matplotlib.cm.ScalarMappable(norm, scale), ax=axes)
    bar.set_label(f"{names[0]} (1) to {names[-1]} ({len(names)})")


def _ticks(values: Array, most: int = 8) -> tuple[Array, list[str]]:
    """Places and names of at most so many ticks on an axis that counts values."""
    chosen = np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int))
    return chosen, [f"{values[index]:.4g}" for index in chosen]


def _legend(axes: Axes, below: float = 36) -> None:
    """The legend under its panel, ``below`` points from the axis, where it hides no curve."""
    figure = axes.get_figure()
    if figure is None or not axes.get_legend_handles_labels()[0]:
        return
    named = zip(*axes.get_legend_handles_labels(), strict=True)
    shared = {FREEZING, BOUND, EDGE, "peaks"}  # what belongs to several curves comes last
    handles, labels = zip(*sorted(named, key=lambda pair: pair[1] in shared), strict=True)
    shift = ScaledTranslation(0, -below / 72, figure.dpi_scale_trans)
    axes.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(-0.02, 0.0),
        bbox_transform=axes.transAxes + shift, borderaxespad=0,
    )  # fmt: skip


def _letters(all_axes: Sequence[Axes]) -> None:
    if len(all_axes) > 1:
        for letter, axes in zip("abcdefghij", all_axes, strict=False):
            axes.set_title(rf"$\bf{{{letter}}}$  {axes.get_title(loc='left')}", loc="left")
