"""A parcellation: an image of labels, the names of its labels, and where they lie."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.affines import apply_affine
from nibabel.processing import resample_from_to

from tgn import sources


class Atlas(NamedTuple):
    """Labels of regions in template space.

    Attributes
    ----------
    image
        Integers on a grid of three dimensions; 0 is no region.
    names
        Label to name of every region that the image holds, in the order of the labels.
    """

    image: nib.Nifti1Image
    names: dict[int, str]


def read_atlas(receipt: str | Path) -> Atlas:
    """Open the one label image and the one table of names that a receipt lists.

    Raises
    ------
    ValueError
        If the receipt lists other than one image and one table, or labels have no name.
    """
    files = sources.read_receipt(receipt)
    images = [path for name, path in files.items() if name.endswith((".nii", ".nii.gz"))]
    tables = [path for name, path in files.items() if name.endswith((".csv", ".tsv", ".txt"))]
    if len(images) != 1 or len(tables) != 1:
        raise ValueError(
            f"{receipt} is not an atlas: expected one NIfTI image and one table of names (.csv, "
            f".tsv, .txt), found {len(images)} and {len(tables)} among {', '.join(files)}"
        )
    return open_atlas(images[0], tables[0])


def open_atlas(image: str | Path, table: str | Path) -> Atlas:
    """Read a label image and its names.

    Parameters
    ----------
    image
        NIfTI of three dimensions holding whole numbers.
    table
        Label and name in the first two columns, parted by commas (.csv) or tabs; lines whose
        first column is no number are headings. FreeSurfer-like tables as those of the Schaefer
        atlases have further columns, which are not read.

    Raises
    ------
    ValueError
        If the image is not of whole numbers in three dimensions, or labels have no name.
    """
    loaded = nib.Nifti1Image.from_filename(image)
    values = np.asanyarray(loaded.dataobj)
    if values.ndim != 3 or not np.array_equal(values, np.round(values)):
        raise ValueError(f"{image} is not a label image: expected whole numbers on three axes")
    labels = values.astype(np.int32)
    present = [int(label) for label in np.unique(labels) if label != 0]
    delimiter = "," if Path(table).suffix == ".csv" else "\t"
    with open(table, encoding="utf-8", newline="") as handle:
        rows = [row for row in csv.reader(handle, delimiter=delimiter) if len(row) >= 2]
    known = {int(row[0]): row[1].strip() for row in rows if row[0].strip().isdigit()}
    if nameless := [label for label in present if label not in known]:
        raise ValueError(f"{table} names no region {nameless}, which {image} holds")
    return Atlas(nib.Nifti1Image(labels, loaded.affine), {label: known[label] for label in present})


def on_grid(atlas: Atlas, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Labels at the centres of another grid's voxels, by nearest neighbour in millimetres.

    Small regions may vanish on a coarse grid; whoever calls compares with ``atlas.names``.
    """
    resampled = resample_from_to(atlas.image, (shape, affine), order=0)
    return np.asarray(resampled.dataobj, dtype=np.int32)


def inside(atlas: Atlas, mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Whether each voxel of the atlas that belongs to a region lies in a mask on whatever grid.

    Asked for the atlas's own voxels, so that parts beyond the edge of the grid count as outside.

    Returns
    -------
    ndarray of bool
        In the order of ``np.argwhere(labels != 0)``.
    """
    voxels = np.argwhere(np.asarray(atlas.image.dataobj) != 0)
    to_mask = np.linalg.inv(affine) @ atlas.image.affine
    places = np.rint(apply_affine(to_mask, voxels)).astype(int)
    within = np.all((places >= 0) & (places < mask.shape), axis=1)
    found = np.zeros(len(voxels), dtype=bool)
    found[within] = mask[tuple(places[within].T)]
    return found


def share_inside(atlas: Atlas, mask: np.ndarray, affine: np.ndarray) -> pd.Series:
    """Share of each region's volume that lies inside a mask, from 0 to 1, by label."""
    labels = np.asarray(atlas.image.dataobj)
    return pd.Series(inside(atlas, mask, affine)).groupby(labels[labels != 0]).mean()


def centroids(atlas: Atlas) -> pd.DataFrame:
    """Centre of gravity of every region: columns ``x``, ``y``, ``z`` in millimetres, by label."""
    labels = np.asarray(atlas.image.dataobj)
    places = apply_affine(atlas.image.affine, np.argwhere(labels != 0))
    return pd.DataFrame(places, columns=["x", "y", "z"]).groupby(labels[labels != 0]).mean()
