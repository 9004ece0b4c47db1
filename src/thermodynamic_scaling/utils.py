"""Saving results, and small statistics and figures of matrices.

Results are kept as numpy arrays beside JSON, in which nothing can hide that runs when it is read;
as published they were pickled. Functions return figures that belong to their caller alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.signal import find_peaks, peak_widths

from tgn.files import replacing
from tgn.progress import bar
from tgn.thermodynamics.information import level_distance
from tgn.thermodynamics.levels import checked_levels
from tgn.thermodynamics.spectra import checked_matrix

Array = NDArray[np.floating]
Item = TypeVar("Item")
Result = TypeVar("Result")

FORMAT = "thermodynamic_scaling results 1"
STRUCTURE = "structure"
CORRELATIONS = ("pearson", "spearman", "kendall")


def save_results(results: Any, filepath: str | Path, overwrite: bool = False) -> None:
    """Write results to one ``.npz`` file: the arrays as they are, what holds them together as JSON.

    Parameters
    ----------
    results
        Numbers, text, None, arrays, data frames, and mappings, lists and tuples of those. Named
        tuples and dataclasses are written too, and come back as dicts.
    filepath
        Ends in ``.npz``.
    overwrite
        Whether a file that is there may be replaced.

    Raises
    ------
    FileExistsError
        If the file is there and may not be replaced.
    ValueError
        If the file is not called ``.npz``, or something in the results, which is named, is none of
        the above.
    """
    path = _npz(filepath)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} is there already: pass overwrite=True to replace it")
    arrays: dict[str, NDArray] = {}
    structure = {"format": FORMAT, "results": _packed(results, "results", arrays)}
    text = json.dumps(structure, allow_nan=False, ensure_ascii=False)
    members: dict[str, Any] = {STRUCTURE: np.array(text), **arrays}
    with replacing(path) as temporary, open(temporary, "wb") as handle:
        np.savez_compressed(handle, **members)


def load_results(filepath: str | Path) -> Any:
    """What :func:`save_results` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not one of its files.
    """
    path = _npz(filepath)
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        content = json.loads(str(arrays[STRUCTURE]))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
        return _unpacked(content["results"], arrays)
    except FileNotFoundError:
        raise
    except (OSError, KeyError, TypeError, ValueError, EOFError) as error:
        raise ValueError(f"{path} was not written by save_results: {error}") from error


def batch_process(
    data_list: Iterable[Item],
    process_func: Callable[[Item], Result],
    description: str = "Processing",
    show_progress: bool = True,
) -> list[Result]:
    """The results of a function for every item, in order.

    An error stops it and says at which item; as published, errors were passed over and the results
    no longer stood beside their items.
    """
    items = list(data_list)
    found = []
    for number, item in enumerate(bar(items, desc=description) if show_progress else items):
        try:
            found.append(process_func(item))
        except Exception as error:
            error.add_note(f"{description}: item {number} of {len(items)} (from 0)")
            raise
    return found


def truncate_matrix(matrix: ArrayLike, max_size: int = 1000) -> NDArray:
    """The top left corner of a matrix, at most ``max_size`` rows and columns.

    A corner has neither the levels nor the spectrum of the whole: it is for looking at.

    Raises
    ------
    ValueError
        If it is no matrix, or ``max_size`` is below 1.
    """
    values = np.asarray(matrix)
    if values.ndim != 2:
        raise ValueError(f"matrix has {values.ndim} axes, a matrix has two")
    if max_size < 1:
        raise ValueError(f"max_size must be at least 1, got {max_size}")
    return values[:max_size, :max_size]


def plot_matrix_heatmap(
    matrix: ArrayLike,
    title: str = "",
    *,
    max_size: int = 1000,
    figsize: tuple[float, float] = (5.0, 4.0),
    save_path: str | Path | None = None,
) -> Figure:
    """The entries as colours, symmetric about zero.

    Parameters
    ----------
    max_size
        Rows and columns shown, see :func:`truncate_matrix`; the axes tell how many.
    save_path
        Where to write the figure too, at 300 dpi.

    Raises
    ------
    ValueError
        If it is no matrix, is empty or not finite.
    """
    shown = truncate_matrix(checked_matrix(matrix, "matrix"), max_size)
    figure, image = _image(shown, float(np.abs(shown).max()) or 1.0, figsize)
    (axes,) = figure.axes
    axes.set(xlabel="input", ylabel="output", title=title)
    figure.colorbar(image, ax=axes, label="entry")
    return _saved(figure, save_path)


def compare_distributions(
    dist1: ArrayLike,
    dist2: ArrayLike,
    labels: Sequence[str] = ("first", "second"),
    bins: int = 30,
) -> dict[str, Any]:
    """Two samples side by side: statistics, distances and histograms over the same bins.

    Returns
    -------
    dict
        ``statistics`` and ``histograms`` (densities) by label, ``edges`` (bins + 1),
        ``kolmogorov_smirnov``, ``p_value`` and ``wasserstein``.

    Raises
    ------
    ValueError
        If a sample is empty or not finite, there are not two different labels, or no bins.
    """
    if len(labels) != 2 or labels[0] == labels[1]:
        raise ValueError(f"labels must be two different names, got {list(labels)}")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    samples = {
        labels[0]: checked_levels(dist1, "dist1"),
        labels[1]: checked_levels(dist2, "dist2"),
    }
    edges = np.histogram_bin_edges(np.concatenate(list(samples.values())), bins)
    distance = level_distance(*samples.values())
    return {
        "statistics": {name: calculate_statistics(sample) for name, sample in samples.items()},
        "histograms": {
            name: np.histogram(sample, edges, density=True)[0] for name, sample in samples.items()
        },
        "edges": edges,
        **distance._asdict(),
    }


def calculate_statistics(data: ArrayLike) -> dict[str, float]:
    """Mean, median, std, min, max, range, q25, q75, iqr, skewness and (excess) kurtosis.

    The last two are NaN where all values are equal. The standard deviation is that of the values
    given (divided by n).

    Raises
    ------
    ValueError
        If there are no values, or one is not finite.
    """
    values = checked_levels(data, "data")
    low, middle, high = np.percentile(values, [25, 50, 75])
    varies = np.ptp(values) > 0
    return {
        "mean": float(values.mean()),
        "median": float(middle),
        "std": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
        "range": float(np.ptp(values)),
        "q25": float(low),
        "q75": float(high),
        "iqr": float(high - low),
        "skewness": float(stats.skew(values)) if varies else math.nan,
        "kurtosis": float(stats.kurtosis(values)) if varies else math.nan,
    }


def calculate_correlation_matrix(
    data_dict: Mapping[str, ArrayLike],
    method: Literal["pearson", "spearman", "kendall"] = "pearson",
) -> tuple[Array, list[str]]:
    """Correlations of every two of several series, and their names.

    Returns
    -------
    matrix : array, shape (n, n)
        NaN beside a series that is constant.
    names : list of str

    Raises
    ------
    ValueError
        If the method is unknown, there are fewer than two series, they differ in length or have
        fewer than three values, or one is not finite.
    """
    if method not in CORRELATIONS:
        raise ValueError(f"method must be one of {', '.join(CORRELATIONS)}, got {method!r}")
    series = {name: checked_levels(values, name) for name, values in data_dict.items()}
    if len(series) < 2:
        raise ValueError(f"data_dict: at least two series are needed, got {len(series)}")
    lengths = {name: len(values) for name, values in series.items()}
    if len(set(lengths.values())) > 1 or min(lengths.values()) < 3:
        raise ValueError(f"data_dict: series of one length of at least three, got {lengths}")
    return pd.DataFrame(series).corr(method=method).to_numpy(), list(series)


def plot_correlation_matrix(
    matrix: ArrayLike,
    names: Sequence[str],
    *,
    figsize: tuple[float, float] = (5.0, 4.0),
    save_path: str | Path | None = None,
) -> Figure:
    """Correlations, from -1 to 1, as colours and numbers.

    Raises
    ------
    ValueError
        If the matrix is not square, or has not as many rows as there are names.
    """
    values = np.asarray(matrix, np.float64)
    if values.shape != (len(names), len(names)) or not len(names):
        raise ValueError(f"matrix has shape {values.shape} for {len(names)} names")
    figure, image = _image(values, 1.0, figsize)
    (axes,) = figure.axes
    ticks = range(len(names))
    axes.set_xticks(ticks, list(names), rotation=45, ha="right")
    axes.set_yticks(ticks, list(names))
    for row, column in np.argwhere(np.isfinite(values)):
        value = values[row, column]
        colour = "white" if abs(value) > 0.6 else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
    figure.colorbar(image, ax=axes, label="correlation")
    return _saved(figure, save_path)


def create_dataframe_from_results(results: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row for each result, with its single values; nested ones are called ``outer.inner``.

    Arrays and lists have no place in a cell and are left out.

    Raises
    ------
    ValueError
        If there are no results.
    """
    if not len(results):
        raise ValueError("results is empty")
    table = pd.json_normalize([dict(result) for result in results])
    single = [name for name in table if not any(map(np.ndim, table[name]))]
    return table[single]


def robust_normalization(
    data: ArrayLike, lower_quantile: float = 0.01, upper_quantile: float = 0.99
) -> Array:
    """Values mapped so that the two quantiles become 0 and 1, and cut off there.

    Returns
    -------
    array, of the shape given

    Raises
    ------
    ValueError
        If there are no values or one is not finite, the quantiles do not rise within [0, 1], or are
        equal in the data.
    """
    values = np.asarray(data, np.float64)
    checked_levels(values, "data")
    if not 0 <= lower_quantile < upper_quantile <= 1:
        raise ValueError(
            "lower_quantile and upper_quantile must rise within [0, 1], got "
            f"{lower_quantile} and {upper_quantile}"
        )
    low, high = np.quantile(values, [lower_quantile, upper_quantile])
    if low == high:
        raise ValueError(f"data: both quantiles are {low}, so there is no scale")
    return np.clip((values - low) / (high - low), 0.0, 1.0)


def moving_average(data: ArrayLike, window: int) -> Array:
    """Means over ``window`` neighbours, shape (n - window + 1,): where all of them are there.

    Raises
    ------
    ValueError
        If there are no values or one is not finite, or the window is not from 1 to n.
    """
    values = checked_levels(data, "data")
    if not 1 <= window <= len(values):
        raise ValueError(f"window must be from 1 to {len(values)}, got {window}")
    return np.lib.stride_tricks.sliding_window_view(values, window).mean(axis=1)


def estimate_peak_sharpness(x: ArrayLike, y: ArrayLike) -> float:
    """Place of the highest peak over its full width at half prominence, a pure number.

    Raises
    ------
    ValueError
        If the arrays do not fit, are not finite or x does not rise; or y has no peak inside.
    """
    places, heights = checked_levels(x, "x"), checked_levels(y, "y")
    if len(places) != len(heights):
        raise ValueError(f"y has {len(heights)} values for {len(places)} of x")
    if (np.diff(places) <= 0).any():
        raise ValueError("x must rise")
    peaks = find_peaks(heights)[0]
    if not len(peaks):
        raise ValueError("y has no peak inside: its highest value is at an edge")
    highest = peaks[np.argmax(heights[peaks])]
    _, _, left, right = peak_widths(heights, [highest], rel_height=0.5)
    ends = np.interp([left[0], right[0]], np.arange(len(places)), places)
    return float(abs(places[highest]) / (ends[1] - ends[0]))


def _npz(filepath: str | Path) -> Path:
    path = Path(filepath)
    if path.suffix != ".npz":
        raise ValueError(f"filepath must end in .npz, got {path.name}")
    return path


def _packed(value: Any, where: str, arrays: dict[str, NDArray]) -> Any:
    """JSON for a value; arrays are put aside under names."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise ValueError(f"{where} is an array of objects: give numbers or text")
        name = f"array_{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    if isinstance(value, pd.DataFrame):
        columns = [
            [name, _packed(_column(value[name]), f"{where}[{name!r}]", arrays)] for name in value
        ]
        return {"table": columns}
    if hasattr(value, "_asdict"):
        value = value._asdict()
    elif is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str | int | float):
                raise ValueError(f"{where} has the key {key!r}: keys are text or numbers")
        pairs = [
            [_packed(key, where, arrays), _packed(part, f"{where}[{key!r}]", arrays)]
            for key, part in value.items()
        ]
        return {"mapping": pairs}
    if isinstance(value, list | tuple):
        parts = [_packed(part, f"{where}[{i}]", arrays) for i, part in enumerate(value)]
        return {"tuple": parts} if isinstance(value, tuple) else parts
    raise ValueError(f"{where} is a {type(value).__name__}, which is neither array nor plain data")


def _column(column: pd.Series) -> Any:
    values = column.to_numpy()
    return values if values.dtype.kind in "biuf" else list(values)


def _unpacked(value: Any, arrays: Mapping[str, NDArray]) -> Any:
    if isinstance(value, list):
        return [_unpacked(part, arrays) for part in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "float":
        return float(content)
    if kind == "array":
        return arrays[content]
    if kind == "tuple":
        return tuple(_unpacked(part, arrays) for part in content)
    if kind not in ("mapping", "table"):
        raise ValueError(f"there is a {kind!r} in it")
    pairs = {_unpacked(key, arrays): _unpacked(part, arrays) for key, part in content}
    return pd.DataFrame(pairs) if kind == "table" else pairs


def _image(values: Array, limit: float, figsize: tuple[float, float]) -> tuple[Figure, Any]:
    figure = Figure(figsize=figsize, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    return figure, image


def _saved(figure: Figure, save_path: str | Path | None) -> Figure:
    if save_path is not None:
        with replacing(save_path) as temporary:
            figure.savefig(temporary, dpi=300)
    return figure
