"""The published way to parcel signals, kept as an arm of its own.

The images are taken as they are: no registration, motion correction, confounds, filter or
scrubbing; an atlas in template space is laid over whatever the header says, and every region's
mean is standardised. On images in the scanner's space the regions are not anatomy. One thing is
not copied: regions that fall off an image silently shortened the published vectors, run by run;
here a region must have a signal in all runs of a person, and the report lists the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from nilearn import signal

from tgn.files import write_json
from tgn.fmri import bids
from tgn.fmri.atlas import read_atlas
from tgn.fmri.derivatives import region_means, write_signals


def extract_subject(
    *,
    root: str | Path,
    subject: str,
    atlas: str | Path,
    signals: str | Path,
    report: str | Path,
    task: str,
    states: Sequence[str],
    tr: float,
    space: str | None = None,
    after: str | Path | None = None,
) -> None:
    """Write the standardised means of one person's images, untouched otherwise.

    Parameters
    ----------
    root, subject, task, states, space
        As in :func:`tgn.fmri.bids.index`; ``space`` None is the raw data set.
    atlas
        Receipt of the atlas.
    signals, report
        npz, and JSON with the regions that each run lacks.
    tr
        Seconds, written into the npz; nothing here depends on it.
    after
        A file that this step waits for; not read.

    Raises
    ------
    FileNotFoundError, ValueError
        If runs are missing or an image is damaged.
    """
    del after
    runs = bids.index(root, subjects=[subject], task=task, states=states, space=space)[subject]
    parcellation = read_atlas(atlas)
    means, reasons = {}, {}
    for state, run in runs.items():
        means[state] = region_means(run._replace(mask=None), parcellation)
        broken = means[state].broken
        reasons[state] = f"{broken} voxels of the regions are not finite" if broken else None
    lacking = {
        state: set(parcellation.names) - set(m.labels[np.ptp(m.values, axis=0) > 0].tolist())
        for state, m in means.items()
    }
    gone = set.union(*lacking.values())
    present = np.array([label for label in parcellation.names if label not in gone], dtype=np.int64)
    usable = [state for state, reason in reasons.items() if reason is None]
    enough = len(usable) > 1 and len(present) > 1
    arrays: dict[str, Any] = {}
    for state in usable if enough else []:
        values = means[state].values[:, np.isin(means[state].labels, present)]
        arrays[state] = np.float32(
            signal.clean(values, detrend=False, filter=False, standardize="zscore_sample")
        )
        arrays[f"{state}_fd"] = _mean_displacement(runs[state])
        arrays[f"{state}_kept"] = np.array([len(values), len(values)])
    write_signals(signals, arrays, present if enough else present[:0], parcellation, tr)
    write_json(
        report,
        {
            "subject": subject,
            "task": task,
            "space": space or "as scanned",
            "excluded": None
            if enough
            else f"{len(usable)} states and {len(present)} regions left: nothing to compare",
            "parcels": {
                "present": len(present),
                "missing": {
                    parcellation.names[label]: "no signal in: "
                    + ", ".join(state for state in lacking if label in lacking[state])
                    for label in sorted(gone)
                },
            },
            "runs": {
                state: {
                    "excluded": reasons[state],
                    "volumes": len(m.values),
                    "kept": len(m.values),
                    "parcels_as_published": len(parcellation.names) - len(lacking[state]),
                    "axes": "".join(
                        nib.aff2axcodes(nib.Nifti1Image.from_filename(runs[state].image).affine)
                    ),
                }
                for state, m in means.items()
            },
        },
    )


def _mean_displacement(run: bids.Run) -> float:
    """Mean framewise displacement in mm, for use beside the result; raw images have none."""
    if run.confounds is None:
        return float("nan")
    return float(pd.read_csv(run.confounds, sep="\t")["framewise_displacement"].mean())
