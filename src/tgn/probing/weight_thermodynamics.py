"""A model's weight matrices as levels, as spectra and under block averages, each beside its nulls.

The entries of a matrix, in units of their standard deviation sigma and counted from their mean, are
the energies of one system in one of N states (:mod:`tgn.thermodynamics.levels`). Its specific heat
has a peak. What that peak is worth is told by other levels of the same number:

    weights             the matrix as it is
    flipped             with the other sign, which hidden units do not fix
    without_lowest      without its single lowest entry
    without_outliers    without all entries below -sqrt(2 ln N), where Gaussian ones end
    gaussian            independent Gaussian levels: the random-energy model
    student             Student's t with the kurtosis of the matrix: heavy tails and nothing else
    gaussian_quantised  the Gaussian ones after 4-bit storage, where the matrix comes from that

An entry far below the others is a state that the system falls into alone. With e = |lowest| / sigma
and L = ln N it does so where the free energies e / T and L + 1 / (2 T^2) of that one state and of
the Gaussian rest are equal, at the temperature (:func:`isolated_temperature`)

    T = (e + sqrt(e^2 - 2 L)) / (2 L),

which at e = sqrt(2 L), the lowest of Gaussian levels, is their freezing temperature 1 / sqrt(2 L).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import skew

from tgn import sources
from tgn.files import write_table
from tgn.progress import bar
from tgn.rank import renyi_rank
from tgn.thermodynamics import spectra
from tgn.thermodynamics.critical import (
    Null,
    excess,
    find_peak,
    freezing_temperature,
    gaussian_null,
    power_law_at,
)
from tgn.thermodynamics.levels import ThermalProperties, checked_levels, thermal_properties
from tgn.thermodynamics.renormalisation import flow, normalised

Array = NDArray[np.floating]

LEAST_SIDE = 16  # of a matrix: narrower ones are gains, taps and gates
QUARTERS = 4  # parts of the rows, by which the peak of a matrix is uncertain
STORED_BLOCK = 32  # entries of a row that share a scale in 4-bit storage (GGUF's Q4_1)
STORED_VALUES = 16  # which they can take
HEAVIEST = 0.01  # excess kurtosis below which tails are Gaussian
LEAST_TAIL = 10  # eigenvalues of which a tail is fitted
REACH = 0.5  # of a power law around the peak, in |T - T_c| / T_c
EIGENVALUES = np.geomspace(1e-3, 1e3, 61)  # edges of the histogram, in units of the variance


class Weights(NamedTuple):
    """One weight matrix, shape (rows, columns), and where it stands."""

    layer: int
    kind: str
    matrix: Array


class Source(NamedTuple):
    """A model's matrices: trained or untrained, with its parameters outside of embeddings."""

    model: str
    weights: str
    parameters: int
    depth: int
    matrices: Iterator[Weights]


def measure_levels(
    *,
    models: Sequence[str],
    labels: Sequence[str],
    matrices: str | Path,
    peaks: str | Path,
    curves: str | Path,
    nulls: str | Path,
    temperatures: Sequence[float],
    per_octave: int,
    draws: int,
    seed: int,
) -> None:
    """Measure the levels of every matrix of some models, trained and untrained.

    Parameters
    ----------
    models
        Receipts of model folders, or ``model.safetensors`` of our own training runs.
    labels
        What each of them is called.
    matrices
        Written: one row a matrix, see :func:`levels_row`.
    peaks
        Written: one row a matrix and kind of levels, with the peak of the specific heat. Those of
        ``gaussian_null`` are draws of the null, which ``layer`` counts.
    curves
        Written: one row a matrix and temperature, see :func:`curve_rows`.
    nulls
        Written: mean and 95 % range of Gaussian levels by number of levels and temperature.
    temperatures
        Lowest and highest, in units of sigma.
    per_octave
        Temperatures in each factor of two, so that T / 2 is on the grid with T.
    draws
        Of the Gaussian null, for each number of levels.

    Raises
    ------
    ValueError
        If the range has less than one octave.
    """
    lowest, highest = temperatures
    grid = temperature_octaves(lowest, highest, per_octave)
    known: dict[int, Null] = {}
    rows: list[dict[str, Any]] = []
    tops: list[dict[str, Any]] = []
    lines: list[pd.DataFrame] = []

    def measure(source: Source) -> None:
        for found in bar(source.matrices, desc=f"{source.model}, {source.weights}", unit="matrix"):
            n = found.matrix.size
            if n not in known:
                null_rng = np.random.default_rng([seed, n])
                known[n] = gaussian_null(n, grid, rng=null_rng, draws=draws)
            keys = _keys(source, found)
            row, own_peaks, curve = measure_matrix(
                found.matrix,
                grid,
                known[n],
                rng=np.random.default_rng([seed, len(rows)]),
                compared=source.weights == "trained",
            )
            rows.append(keys | {"parameters": source.parameters} | row)
            tops.extend(keys | {"n_levels": n} | peak for peak in own_peaks)
            lines.append(curve_rows(curve, per_octave).assign(**keys))

    _each_source(measure, models, labels, seed)
    tops += [row for n, null in known.items() for row in _null_peaks(n, null)]
    for path, table in (
        (matrices, pd.DataFrame(rows)),
        (peaks, pd.DataFrame(tops)),
        (curves, pd.concat(lines, ignore_index=True)),
        (nulls, pd.concat([_null_band(n, null) for n, null in known.items()], ignore_index=True)),
    ):
        write_table(path, table)


def measure_spectra(
    *,
    models: Sequence[str],
    labels: Sequence[str],
    spectra_table: str | Path,
    densities: str | Path,
    flows: str | Path,
    layers: int,
    steps: int,
    permutations: int,
    seed: int,
) -> None:
    """Measure the spectrum of every matrix and, in some layers, its nulls, tail and block averages.

    Parameters
    ----------
    models, labels
        As of :func:`measure_levels`.
    spectra_table
        Written: one row a matrix, see :func:`spectrum_row`. Of the chosen layers also the untrained
        matrices, and the trained ones with their entries shuffled; and with the trained ones the
        fit of a power law to the tail.
    densities
        Written: mean density of eigenvalues in units of the entries' variance, by shape and kind.
    flows
        Written: one row a matrix and step, see :func:`flow_rows`; trained weights alone.
    layers
        How many layers are chosen, evenly from first to last.
    steps, permutations
        Of the flow.
    """
    rows: list[dict[str, Any]] = []
    histograms: list[tuple[dict[str, Any], tuple[int, ...], Array]] = []
    steps_made: list[pd.DataFrame] = []

    def measure(source: Source) -> None:
        trained = source.weights == "trained"
        chosen = set(np.linspace(0, source.depth - 1, layers).round().astype(int))
        for found in bar(source.matrices, desc=f"{source.model}, {source.weights}", unit="matrix"):
            rng = np.random.default_rng([seed, len(rows)])
            if not trained and found.layer not in chosen:
                continue
            keys, deep = _keys(source, found), trained and found.layer in chosen
            for entries in ("weights", "shuffled") if deep else ("weights",):
                matrix = found.matrix
                if entries == "shuffled":
                    matrix = rng.permutation(matrix.ravel()).reshape(matrix.shape)
                values = spectra.eigenvalues(matrix)
                row = spectrum_row(values, matrix.shape)
                if deep and entries == "weights" and (values > 0).sum() >= LEAST_TAIL:
                    row |= tail_row(values)
                rows.append(keys | {"entries": entries} | row)
                histograms.append((keys | {"entries": entries}, matrix.shape, values))
            if deep:
                made = flow_rows(found.matrix, rng=rng, steps=steps, permutations=permutations)
                steps_made.append(made.assign(**keys))

    _each_source(measure, models, labels, seed)
    for path, table in (
        (spectra_table, pd.DataFrame(rows)),
        (densities, _densities(histograms)),
        (flows, pd.concat(steps_made, ignore_index=True)),
    ):
        write_table(path, table)


def temperature_octaves(lowest: float, highest: float, per_octave: int) -> Array:
    """Temperatures from ``lowest`` up, ``per_octave`` in each factor of two, past ``highest``.

    Raises
    ------
    ValueError
        If the range has less than one octave, or octaves have no temperatures.

    Examples
    --------
    >>> temperature_octaves(0.5, 2.0, 1)
    array([0.5, 1. , 2. ])
    """
    if not (lowest > 0 and highest >= 2 * lowest):
        raise ValueError(f"temperatures: {lowest} to {highest} has less than one octave")
    if per_octave < 1:
        raise ValueError(f"per_octave must be at least 1, got {per_octave}")
    count = int(np.ceil(per_octave * np.log2(highest / lowest) - 1e-9))
    return lowest * 2.0 ** (np.arange(count + 1) / per_octave)


def measure_matrix(
    matrix: ArrayLike, grid: Array, null: Null, *, rng: np.random.Generator, compared: bool = True
) -> tuple[dict[str, Any], list[dict[str, Any]], ThermalProperties]:
    """The row of a matrix, its peaks beside those of other levels, and its curves.

    Parameters
    ----------
    matrix : array, shape (rows, columns)
    grid : array, shape (n_temperatures,)
        Temperatures in units of sigma.
    null
        Gaussian levels of the same number.
    compared
        Measure the other kinds of levels of this module too.

    Raises
    ------
    ValueError
        If the matrix has no entries or no spread, or one is not finite.
    """
    values = np.asarray(matrix, np.float64)
    levels = normalised(values)
    curve = thermal_properties(levels, grid)
    row = levels_row(values, levels, curve, null, rng=rng)
    kinds = {"weights": curve}
    if compared:
        others = _other_levels(levels, row["degrees_of_freedom"], row["stored_values"], rng)
        kinds |= {name: thermal_properties(other, grid) for name, other in others}
    peaks = []
    for name, found in kinds.items():
        temperature, height, at_edge = _peak(found)
        peaks.append(
            {"levels": name, "temperature": temperature, "height": height, "at_edge": at_edge}
        )
    return row, peaks, curve


def levels_row(
    values: Array, levels: Array, curve: ThermalProperties, null: Null, *, rng: np.random.Generator
) -> dict[str, Any]:
    """One matrix: its entries, its peak, and how far that is from Gaussian levels.

    Returns
    -------
    dict
        ``rows``, ``columns``, ``n_levels``; ``mean`` and ``sigma`` of the weights; ``skewness``,
        ``kurtosis`` (excess), ``lowest`` and ``highest`` in units of sigma, and the number of
        ``outliers`` below :func:`gaussian_edge`; ``degrees_of_freedom``
        of Student's t with that kurtosis (NaN where tails are Gaussian); ``stored_values``, the
        most that a block of 4-bit storage holds (NaN where rows are no such blocks).
        In units of sigma ``critical_temperature`` and its ``low`` and ``high``, the range over
        quarters of the rows brought to N levels as freezing does; ``peak_height``, ``at_edge``,
        ``spacing`` (relative, of the grid); ``freezing_temperature`` and ``isolated_temperature``.
        Against the null ``z``, ``p``, ``height_z``, ``height_p``. ``power_law_below`` and
        ``power_law_above``: AICc of a parabola less that of a power law about the peak, NaN where
        no peak is inside of the temperatures or fewer than six of them are near it.
    """
    grid = curve.temperatures
    peak = find_peak(grid, curve.specific_heat)
    z, p = excess(peak.temperature, null.peak_temperature)
    height_z, height_p = excess(peak.height, null.peak_height)
    kurtosis = float((levels**2).ravel() @ (levels**2).ravel() / levels.size - 3)
    quarters = _quarters(levels, grid, rng)
    return {
        "rows": values.shape[0],
        "columns": values.shape[1],
        "n_levels": values.size,
        "mean": float(values.mean()),
        "sigma": float(values.std()),
        "skewness": float(skew(levels, axis=None)),
        "kurtosis": kurtosis,
        "lowest": float(levels.min()),
        "highest": float(levels.max()),
        "outliers": int((levels < -gaussian_edge(levels.size)).sum()),
        "degrees_of_freedom": 4 + 6 / kurtosis if kurtosis > HEAVIEST else np.nan,
        "stored_values": stored_values(values),
        "critical_temperature": peak.temperature,
        "low": min(quarters),
        "high": max(quarters),
        "peak_height": peak.height,
        "at_edge": peak.at_edge,
        "spacing": peak.spacing,
        "freezing_temperature": freezing_temperature(1.0, values.size),
        "isolated_temperature": isolated_temperature(levels.min(), values.size),
        "z": z,
        "p": p,
        "height_z": height_z,
        "height_p": height_p,
        **_power_laws(grid, curve.specific_heat),
    }


def isolated_temperature(lowest: float, n_levels: int) -> float:
    """Where Gaussian levels fall into one far below them; in units of sigma.

    Where it is not below the lowest of Gaussian ones, they freeze first, at their own temperature.

    Parameters
    ----------
    lowest
        The one level, in units of sigma from the mean.

    Raises
    ------
    ValueError
        If there are fewer than two levels.

    Examples
    --------
    >>> n = 10_000
    >>> edge = -np.sqrt(2 * np.log(n))
    >>> bool(np.isclose(isolated_temperature(edge, n), freezing_temperature(1.0, n)))
    True
    """
    frozen = freezing_temperature(1.0, n_levels)
    depth, states = max(-lowest, 0.0), np.log(n_levels)
    if depth**2 <= 2 * states:
        return float(frozen)
    return float((depth + np.sqrt(depth**2 - 2 * states)) / (2 * states))


def gaussian_edge(n_levels: int) -> float:
    """How far from the mean the outermost of Gaussian levels lie, about; in units of sigma."""
    return float(np.sqrt(2 * np.log(n_levels)))


def stored_values(matrix: ArrayLike) -> float:
    """Most different values in a block of :data:`STORED_BLOCK` entries of a row; NaN if none fits.

    16 or fewer tell that the matrix was stored in 4 bits.

    Examples
    --------
    >>> stored_values(np.tile([0.0, 1.0], (2, 32)))
    2.0
    """
    values = np.asarray(matrix)
    if values.shape[-1] % STORED_BLOCK:
        return np.nan
    ordered = np.sort(values.reshape(-1, STORED_BLOCK), axis=1)
    return float(1 + (np.diff(ordered, axis=1) != 0).sum(axis=1).max())


def as_stored(levels: ArrayLike) -> Array:
    """Levels after storage in 4 bits: 16 equal steps from the least to the greatest of a block.

    The scale and the least of each block are in half precision, as in GGUF's Q4_1. Its shape, of
    rows of whole blocks, is kept; the lowest and the highest of a block nearly are, too.

    Raises
    ------
    ValueError
        If rows are no whole blocks.
    """
    values = np.asarray(levels, np.float64)
    if values.shape[-1] % STORED_BLOCK:
        raise ValueError(f"levels: rows of {values.shape[-1]} are no blocks of {STORED_BLOCK}")
    blocks = values.reshape(-1, STORED_BLOCK)
    least = blocks.min(axis=1, keepdims=True)
    step = (blocks.max(axis=1, keepdims=True) - least) / (STORED_VALUES - 1)
    number = np.round((blocks - least) / np.where(step > 0, step, 1.0))
    stored = number * step.astype(np.float16).astype(float) + least.astype(np.float16).astype(float)
    return stored.reshape(values.shape)


def curve_rows(curve: ThermalProperties, per_octave: int) -> pd.DataFrame:
    """Curves of one matrix, in units of sigma.

    Returns
    -------
    pandas.DataFrame
        Columns ``t``, ``specific_heat``, ``entropy`` (Shannon's, nats), ``renyi_2`` (nats, NaN in
        the first octave) and ``fisher``, the information C / T^2 about the temperature.

    Notes
    -----
    ln sum p^2 = ln Z(2 beta) - 2 ln Z(beta), so that Renyi's entropy of order two is
    2 (F(T/2) - F(T)) / T and takes no other pass over the levels.
    """
    t, free = curve.temperatures, curve.free_energy
    renyi = np.full(len(t), np.nan)
    renyi[per_octave:] = 2 * (free[:-per_octave] - free[per_octave:]) / t[per_octave:]
    return pd.DataFrame(
        {
            "t": t,
            "specific_heat": curve.specific_heat,
            "entropy": curve.entropy,
            "renyi_2": renyi,
            "fisher": curve.specific_heat / t**2,
        }
    )


def spectrum_row(values: Array, shape: tuple[int, int]) -> dict[str, float]:
    """What a spectrum comes down to, from the eigenvalues of :func:`tgn.thermodynamics.spectra`.

    Returns
    -------
    dict
        ``mp_distance`` (Kolmogorov-Smirnov, from Marchenko and Pastur's law with the variance of
        the bulk), ``variance`` (of the bulk), ``outliers``, ``outlier_share`` (of the trace),
        ``largest`` (over the law's upper edge), ``cap`` (their number), ``effective_rank``,
        ``participation_ratio`` and ``stable_rank`` (of the eigenvalues).
    """
    aspect = min(shape) / max(shape)
    variance = spectra.bulk_variance(values, aspect)
    beyond = spectra.outliers(values, shape, variance)
    return {
        "cap": len(values),
        "mp_distance": spectra.distance(values, aspect, variance),
        "variance": variance,
        "outliers": beyond.number,
        "outlier_share": beyond.share,
        "largest": float(values[0] / spectra.edges(aspect, variance)[1]),
        "effective_rank": float(renyi_rank(np.sqrt(values), 1)),
        "participation_ratio": float(renyi_rank(values, 2)),
        "stable_rank": float(renyi_rank(values, np.inf)),
    }


def tail_row(values: Array) -> dict[str, float]:
    """The power law of the largest eigenvalues, and its rivals on the same tail."""
    tail = spectra.tail(values)
    return {
        "tail_exponent": tail.alpha,
        "tail_n": tail.n,
        "tail_p_lognormal": tail.p_lognormal,
        "tail_ratio_lognormal": tail.log_ratio_lognormal,
    }


def flow_rows(
    matrix: ArrayLike, *, rng: np.random.Generator, steps: int, permutations: int
) -> pd.DataFrame:
    """Block averages of 2 x 2, again and again, against permuted rows and columns.

    Returns
    -------
    pandas.DataFrame
        One row a step: ``step``, ``ratio`` of the standard deviations after and before times two
        (1 for independent entries), the mean, ``low`` and ``high`` (95 % range) of permuted
        matrices, the one-sided ``p``, and the ``critical_temperature`` of the averaged matrix over
        the ``freezing_temperature`` of as many levels, both in units of its own sigma.
    """
    rows = []
    for number, step in enumerate(flow(matrix, rng=rng, steps=steps, permutations=permutations)):
        row = {
            "step": number,
            "critical_temperature": np.nan if step.at_edge else step.peak_temperature,
            "freezing_temperature": step.freezing_temperature,
        }
        if step.test is not None:
            low, high = np.quantile(step.test.null, [0.025, 0.975])
            row |= {
                "ratio": step.test.ratio / step.test.expected,
                "permuted": step.test.null.mean() / step.test.expected,
                "low": low / step.test.expected,
                "high": high / step.test.expected,
                "p": step.test.p_value,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def _other_levels(
    levels: Array, freedom: float, stored: float, rng: np.random.Generator
) -> Iterator[tuple[str, Array]]:
    """The other kinds of levels that a matrix is compared with, one at a time."""
    yield "flipped", -levels
    yield "without_lowest", np.delete(levels.ravel(), levels.argmin())
    yield "without_outliers", levels[levels >= -gaussian_edge(levels.size)]
    gaussian = rng.standard_normal(levels.shape)
    yield "gaussian", gaussian
    if stored <= STORED_VALUES:
        yield "gaussian_quantised", as_stored(gaussian)
    if np.isfinite(freedom):
        yield "student", rng.standard_t(freedom, levels.size) / np.sqrt(freedom / (freedom - 2))


def _peak(curve: ThermalProperties) -> tuple[float, float, bool]:
    """Temperature (NaN at the edge of the grid, where it may be no peak), height, and at_edge."""
    peak = find_peak(curve.temperatures, curve.specific_heat)
    return np.nan if peak.at_edge else peak.temperature, peak.height, peak.at_edge


def _quarters(levels: Array, grid: Array, rng: np.random.Generator) -> list[float]:
    """Peaks of parts of the rows, brought to all levels: freezing goes as 1 / sqrt(ln N)."""
    order = rng.permutation(len(levels))
    found = []
    for part in np.array_split(order, QUARTERS):
        chosen = checked_levels(levels[part])
        peak = find_peak(grid, thermal_properties(chosen, grid).specific_heat)
        found.append(peak.temperature * np.sqrt(np.log(len(chosen)) / np.log(levels.size)))
    return found


def _power_laws(grid: Array, heat: Array) -> dict[str, float]:
    """Evidence for C ~ |T - T_c|^-alpha on either side of the peak, against a smooth hump."""
    peak = find_peak(grid, heat)

    def evidence(side: str) -> float:
        if peak.at_edge:
            return np.nan
        return power_law_at(grid, heat, peak.temperature, side=side, reach=REACH).aic_difference

    return {f"power_law_{side}": evidence(side) for side in ("below", "above")}


def _null_peaks(n_levels: int, null: Null) -> Iterator[dict[str, Any]]:
    for draw, (temperature, height) in enumerate(
        zip(null.peak_temperature, null.peak_height, strict=True)
    ):
        at_edge = not null.temperatures[0] < temperature < null.temperatures[-1]
        yield {
            "model": "", "weights": "null", "kind": "", "layer": draw, "levels": "gaussian_null",
            "n_levels": n_levels, "temperature": np.nan if at_edge else temperature,
            "height": height, "at_edge": at_edge,
            **_power_laws(null.temperatures, null.specific_heat[draw]),
        }  # fmt: skip


def _null_band(n_levels: int, null: Null) -> pd.DataFrame:
    columns: dict[str, Array] = {}
    for name, curves in (("specific_heat", null.specific_heat), ("entropy", null.entropy)):
        low, high = np.quantile(curves, [0.025, 0.975], axis=0)
        columns |= {name: curves.mean(axis=0), f"{name}_low": low, f"{name}_high": high}
    return pd.DataFrame({"n_levels": n_levels, "t": null.temperatures, **columns})


def _densities(histograms: Sequence[tuple[dict[str, Any], tuple[int, ...], Array]]) -> pd.DataFrame:
    """Mean density of eigenvalues over the entries' variance, of matrices of one kind and shape."""
    grouped: dict[tuple[Any, ...], list[Array]] = {}
    for keys, shape, values in histograms:
        variance = values.sum() / min(shape)
        counts, _ = np.histogram(values / variance, EIGENVALUES)
        label = keys["model"], keys["weights"], keys["entries"], keys["kind"], *shape
        grouped.setdefault(label, []).append(counts / len(values) / np.diff(EIGENVALUES))
    names = ["model", "weights", "entries", "kind", "rows", "columns"]
    return pd.concat(
        [
            pd.DataFrame({"low": EIGENVALUES[:-1], "high": EIGENVALUES[1:]}).assign(
                density=np.mean(found, axis=0), n=len(found), **dict(zip(names, label, strict=True))
            )
            for label, found in grouped.items()
        ],
        ignore_index=True,
    )


def _keys(source: Source, found: Weights) -> dict[str, Any]:
    return {
        "model": source.model,
        "weights": source.weights,
        "layer": found.layer,
        "kind": found.kind,
    }


def _each_source(
    measure: Callable[[Source], None], models: Sequence[str], labels: Sequence[str], seed: int
) -> None:
    """Hand each model on, trained and untrained; no two are in memory at a time."""
    for path, label in zip(models, labels, strict=True):
        read = _pretrained if Path(path).name == sources.RECEIPT else _own
        for weights in ("trained", "untrained"):
            measure(read(Path(path), label, weights, seed))
            gc.collect()  # models hold cycles, and the next one needs their memory


def _pretrained(receipt: Path, label: str, weights: str, seed: int) -> Source:
    from tgn.probing.adapters import adapt_stacks
    from tgn.probing.pretrained import load_body, random_model
    from tgn.probing.weights import EMBEDDINGS
    from tgn.probing.weights import matrices as named

    folder = sources.receipt_folder(receipt)
    model = load_body(folder) if weights == "trained" else random_model(folder, seed=seed)

    def found() -> Iterator[Weights]:
        for name, matrix in named(model):
            if name != EMBEDDINGS:
                place, _, kind = name.rpartition("/")
                stack, _, layer = place.rpartition("layer_")
                yield Weights(int(layer), f"{stack}{kind}", matrix.double().numpy())

    embeddings = model.get_input_embeddings().get_parameter("weight").numel()
    body = model.base_model  # without a head, which the trained one comes without
    parameters = sum(parameter.numel() for parameter in body.parameters()) - embeddings
    depth = sum(len(adapter.blocks) for adapter in adapt_stacks(model).values())
    return Source(label, weights, parameters, depth, found())


def _own(weights_file: Path, label: str, weights: str, seed: int) -> Source:
    """A model of this project; a kind is the name of the parameter in its block."""
    import torch

    from tgn.models import build, io

    model = io.load(weights_file.parent)
    if weights == "untrained":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build(model.config)

    def found() -> Iterator[Weights]:
        for number, block in enumerate(model.blocks):
            for name, parameter in block.named_parameters():
                matrix = parameter.detach().double().numpy()
                # what starts at zero has no levels to speak of
                if matrix.ndim == 2 and min(matrix.shape) >= LEAST_SIDE and matrix.std() > 0:
                    yield Weights(number, name.removesuffix(".weight"), matrix)

    total = sum(parameter.numel() for parameter in model.parameters())
    return Source(
        label, weights, total - model.embedding.weight.numel(), len(model.blocks), found()
    )
