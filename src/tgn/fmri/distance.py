"""How the change of connectivity between two states depends on the distance of parcels.

Subjects are the units: every subject has one number a bin and one slope, and intervals run over
subjects. Edges that share a parcel or a subject are not independent, so that the published error,
the standard deviation over edges divided by the root of their number, is far too small.

Whether distance matters beyond what any other arrangement of the same parcels would show is asked
by permuting parcels (Mantel 1967). Neighbouring parcels are alike, which the permutation destroys:
its null is somewhat too narrow, and its p somewhat too small.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import pdist, squareform

from tgn.files import write_table

log = logging.getLogger(__name__)
SLOPE_MM = 100.0  # slopes are changes per this distance


def measure_distance(
    *,
    signals: Sequence[str | Path],
    atlas: str | Path,
    table: str | Path,
    from_state: str,
    to_state: str,
    width_mm: float,
    least_edges: int,
    long_range_mm: float,
    permutations: int,
    seed: int,
) -> None:
    """Write the change of connectivity by distance, subject by subject.

    All runs are cut to the volumes of the shortest and to the parcels that every subject has. A
    subject without both states is left out. What was cut and left out is printed.

    Parameters
    ----------
    signals
        One ``sub-{subject}.npz`` a subject, of one arm and atlas.
    atlas
        Receipt of the atlas whose labels the parcels are.
    table
        Written: what :func:`change_by_distance` returns, with subjects' names and ``volumes``.
    from_state, to_state
        The change is ``to_state`` less ``from_state``.
    width_mm, least_edges, long_range_mm, permutations, seed
        As for :func:`change_by_distance`.

    Raises
    ------
    ValueError
        If no subject has both states, or the atlas lacks a parcel.
    """
    from tgn.fmri.atlas import centroids, read_atlas

    runs = {}
    for path in sorted(map(Path, signals)):
        with np.load(path, allow_pickle=False) as file:
            absent = [state for state in (from_state, to_state) if state not in file]
            if absent:
                log.warning("%s lacks %s and is left out", path.name, " and ".join(absent))
                continue
            # one column a parcel, named by its label
            runs[path.stem.removeprefix("sub-")] = [
                pd.DataFrame(file[state], columns=file["parcels"])
                for state in (from_state, to_state)
            ]
    if not runs:
        raise ValueError(f"no subject has both {from_state} and {to_state}")
    every = [run for pair in runs.values() for run in pair]
    shared = sorted(set.intersection(*(set(run.columns) for run in every)))
    dropped = sorted(set.union(*(set(run.columns) for run in every)) - set(shared))
    volumes = min(map(len, every))
    print(f"{len(runs)} subjects, {volumes} volumes; parcels dropped: {dropped or 'none'}")
    places = centroids(read_atlas(atlas))
    if unknown := [label for label in shared if label not in places.index]:
        raise ValueError(f"{atlas} has no parcels {unknown}")
    change = np.stack(
        [
            edges(end[shared][:volumes]) - edges(start[shared][:volumes])
            for start, end in runs.values()
        ]
    )
    found = change_by_distance(
        change,
        places.loc[shared].to_numpy(),
        width_mm=width_mm,
        least_edges=least_edges,
        long_range_mm=long_range_mm,
        permutations=permutations,
        rng=np.random.default_rng(seed),
    )
    found["subject"] = np.array(list(runs))[found["subject"]]
    write_table(table, found.assign(volumes=volumes))


def edges(signals: ArrayLike) -> NDArray:
    """Pearson correlations of all pairs of parcels, in the order of :func:`pdist`.

    Parameters
    ----------
    signals : array, shape (volumes, parcels)

    Raises
    ------
    ValueError
        If a parcel's signal is constant or not finite.

    Examples
    --------
    >>> edges([[0.0, 1.0, 0.0], [1.0, 2.0, -1.0], [2.0, 3.0, -2.0]]).round()
    array([ 1., -1., -1.])
    """
    values = np.asarray(signals, dtype=float)
    spread = values.std(axis=0)
    if not (np.isfinite(spread).all() and (spread > 0).all()):
        bad = np.flatnonzero(~(np.isfinite(spread) & (spread > 0)))
        raise ValueError(f"the signals of parcels {bad.tolist()} are constant or not finite")
    matrix = np.corrcoef(values, rowvar=False)
    return matrix[np.triu_indices_from(matrix, k=1)]


def distance_bins(distances: ArrayLike, *, width: float, least: int) -> NDArray:
    """Bounds of bins of one width, of which those with too few edges are merged.

    A bin takes in the ones after it until it holds ``least`` edges; what is left at the far end
    joins the last full bin.

    Parameters
    ----------
    distances : array, shape (edges,)
        In mm.

    Returns
    -------
    array, shape (bins + 1,)
        Bin ``i`` holds ``bounds[i] <= distance < bounds[i + 1]``.

    Raises
    ------
    ValueError
        If the width is not positive, ``least`` is below 1, or there are fewer edges than that.

    Examples
    --------
    >>> distance_bins([5.0, 15.0, 16.0, 25.0, 95.0], width=10, least=2)
    array([  0.,  20., 100.])
    """
    lengths = np.asarray(distances, dtype=float)
    if width <= 0 or least < 1:
        raise ValueError(f"a bin needs a width and an edge, not {width} mm and {least}")
    if len(lengths) < least:
        raise ValueError(f"{len(lengths)} edges are fewer than the {least} of one bin")
    fine = width * np.arange(np.floor(lengths.max() / width) + 2)
    bounds, held = [fine[0]], 0
    for high, count in zip(fine[1:], np.histogram(lengths, fine)[0], strict=True):
        held += int(count)
        if held >= least:
            bounds.append(high)
            held = 0
    bounds[-1] = fine[-1]
    return np.array(bounds)


def change_by_distance(
    change: ArrayLike,
    centroids: ArrayLike,
    *,
    width_mm: float,
    least_edges: int,
    long_range_mm: float,
    permutations: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Mean change of connectivity by bin of distance, its long and short range, and its slope.

    Parameters
    ----------
    change : array, shape (subjects, edges)
        Edges in the order of :func:`scipy.spatial.distance.pdist`.
    centroids : array, shape (parcels, 3)
        In mm.
    width_mm, least_edges
        As for :func:`distance_bins`.
    long_range_mm
        ``long`` is the mean over edges of at least this length, ``short`` over the others.
    permutations
        Of the parcels, for the null of the mean over subjects.

    Returns
    -------
    table with columns subject (row of ``change``), kind (``bin``, ``long``, ``short``, ``slope``
    per 100 mm), bin, low_mm, high_mm, distance_mm (mean), edges, value, and of the null of the
    mean over subjects: null_low, null_high (2.5 and 97.5 %) and null_p (two-sided).

    Raises
    ------
    ValueError
        If the shapes do not fit, or no edge is long or none is short.

    References
    ----------
    Mantel, "The detection of disease clustering and a generalized regression approach", *Cancer
    Research* 27 (1967) 209.
    """
    values, places = np.asarray(change, dtype=float), np.asarray(centroids, dtype=float)
    parcels = len(places)
    if values.ndim != 2 or values.shape[1] != parcels * (parcels - 1) // 2:
        raise ValueError(f"{parcels} parcels do not have edges of shape {values.shape}")
    distances = pdist(places)
    is_long = distances >= long_range_mm
    if is_long.all() or not is_long.any():
        raise ValueError(f"{long_range_mm} mm does not part long from short edges")
    bounds = distance_bins(distances, width=width_mm, least=least_edges)
    which = np.digitize(distances, bounds) - 1
    centred = distances - distances.mean()
    # every quantity is a weighted sum over edges: one column each
    weights = np.column_stack(
        [
            *(_mean_over(which == place) for place in range(len(bounds) - 1)),
            _mean_over(is_long),
            _mean_over(~is_long),
            SLOPE_MM * centred / (centred @ centred),
        ]
    )
    columns = [
        *(
            ("bin", place, bounds[place], bounds[place + 1], which == place)
            for place in range(len(bounds) - 1)
        ),
        ("long", -1, long_range_mm, distances.max(), is_long),
        ("short", -1, 0.0, long_range_mm, ~is_long),
        ("slope", -1, 0.0, distances.max(), np.ones_like(is_long)),
    ]
    found = values @ weights
    null = permuted(values.mean(axis=0), parcels, weights, permutations=permutations, rng=rng)
    low, high = np.quantile(null, [0.025, 0.975], axis=0)
    # two-sided about the null's own centre, which is the overall change and not zero
    centre = null.mean(axis=0)
    further = np.abs(null - centre) >= np.abs(found.mean(axis=0) - centre)
    p = (1 + further.sum(axis=0)) / (1 + permutations)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "subject": np.arange(len(values)),
                    "kind": kind,
                    "bin": place,
                    "low_mm": start,
                    "high_mm": end,
                    "distance_mm": distances[chosen].mean(),
                    "edges": int(chosen.sum()),
                    "value": found[:, k],
                    "null_low": low[k],
                    "null_high": high[k],
                    "null_p": p[k],
                }
            )
            for k, (kind, place, start, end, chosen) in enumerate(columns)
        ],
        ignore_index=True,
    )


def permuted(
    change: ArrayLike,
    parcels: int,
    weights: ArrayLike,
    *,
    permutations: int,
    rng: np.random.Generator,
) -> NDArray:
    """Weighted sums of a change over edges, with the parcels permuted.

    Parameters
    ----------
    change : array, shape (edges,)
    weights : array, shape (edges, quantities)

    Returns
    -------
    array, shape (permutations, quantities)
    """
    matrix = squareform(np.asarray(change, dtype=float))
    first, second = np.triu_indices(parcels, k=1)
    null = np.empty((permutations, np.shape(weights)[1]))
    for row in null:
        order = rng.permutation(parcels)
        row[:] = matrix[order[first], order[second]] @ weights
    return null


def _mean_over(chosen: NDArray) -> NDArray:
    return chosen / chosen.sum()
