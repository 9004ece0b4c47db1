"""From preprocessed images of one person to the signals of regions.

What a new run of fMRIPrep or another configuration can mend (a missing, damaged or mislabelled
file) is an error that names every such fault of the person's runs. What lies in the recording (too
few volumes left after scrubbing, voxels without a number, a region outside the field of view) is an
exclusion, written into the person's report with its reason. Nothing is shortened in silence.

What cannot be seen: images mirrored left to right in all files alike. A brain is nearly its own
mirror image, so the overlap with the atlas stays; only a disagreement within the files (qform
against sform, image against mask, one run against another) gives a mirrored image away. Nor can a
shift of a few millimetres, or data that were turned round inside a mask that was not.
"""

from __future__ import annotations

import gc
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
from nilearn import signal
from nilearn.interfaces.fmriprep import load_confounds
from nilearn.maskers import NiftiLabelsMasker
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from tgn.files import replacing, write_json
from tgn.fmri import bids
from tgn.fmri.atlas import Atlas, inside, on_grid, read_atlas, share_inside

ARMS: dict[str, tuple[str, ...]] = {"default": (), "gsr": ("global_signal",)}
AT_ONCE = 32_000_000  # voxels of a run in memory, over its volumes
TR_TOLERANCE = 1e-3  # seconds
BETTER = 0.02  # overlap by which another orientation must win to be believed
BRAIN_TO_ATLAS = 5.0  # the brain is at most so many times an atlas of its cortex
_DAMAGE = (EOFError, OSError, zlib.error, ValueError, nib.filebasedimages.ImageFileError)


class Means(NamedTuple):
    """Mean signals of regions before any cleaning.

    ``values`` is (volumes, regions) float64, in the order of ``labels``; ``broken`` counts voxels
    of those regions that are not finite in some volume.
    """

    values: NDArray[np.float64]
    labels: NDArray[np.int64]
    broken: int


def extract_subject(
    *,
    root: str | Path,
    subject: str,
    atlas: str | Path,
    signals: Mapping[str, str | Path],
    report: str | Path,
    task: str,
    states: Sequence[str],
    space: str,
    tr: float,
    volumes: int | None,
    cleaning: Mapping[str, Any],
    checks: Mapping[str, float],
    clean: str | Path | None = None,
    after: str | Path | None = None,
) -> None:
    """Write the cleaned signals of one person, one file an arm, and a report of what was kept.

    Parameters
    ----------
    root, subject, task, states, space
        Where and what to look for, see :func:`tgn.fmri.bids.index`.
    atlas
        Receipt of the atlas.
    signals
        Arm (``default``, ``gsr``, and ``truth`` if ``clean`` is given) to npz.
    report
        JSON: per run the volumes, those kept, motion, regressors; regions that are missing; why
        runs or the person were excluded.
    tr, volumes
        Repetition time in seconds and number of volumes that the runs must have (None: any).
    cleaning
        ``motion`` and ``wm_csf`` as in nilearn's ``load_confounds``; ``fd_mm``, ``std_dvars`` and
        ``min_segment`` (volumes) of the scrubbing; ``band_hz`` (low, high).
    checks
        ``min_overlap``: share of the atlas inside each brain mask; ``min_coverage``: share of a
        region inside it; ``min_volumes`` kept; ``min_states`` left.
    clean
        npz of simulated signals, whose true values pass the same filter and scrubbing.
    after
        A file that this step waits for; not read.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`tgn.fmri.bids.index`; or with every fault of the images and tables.
    """
    del after
    runs = bids.index(root, subjects=[subject], task=task, states=states, space=space)[subject]
    parcellation = read_atlas(atlas)
    if found := list(faults(runs, parcellation, tr, volumes, checks["min_overlap"])):
        raise ValueError("\n  ".join([f"sub-{subject}: these files cannot be used:", *found]))
    shares = pd.DataFrame(
        {state: share_inside(parcellation, *_mask(run)) for state, run in runs.items()}
    )
    wanted = shares.index[(shares >= checks["min_coverage"]).all(axis=1)]
    means = {state: region_means(run, parcellation, wanted) for state, run in runs.items()}
    present = _alive(means)
    truth = {} if clean is None else _by_label(clean, states)

    arms: dict[str, dict[str, Any]] = {arm: {} for arm in signals}
    accounts: dict[str, dict[str, Any]] = {}
    for state, run in runs.items():
        kept, displacement = scrubbing(run, cleaning)
        reason = _why_excluded(means[state], kept, checks["min_volumes"])
        account: dict[str, Any] = {
            "excluded": reason,
            "volumes": len(kept),
            "kept": int(kept.sum()),
            "mean_fd_mm": round(float(displacement.mean()), 6),
            "regressors": {},
        }
        accounts[state] = account
        if reason is not None:
            continue
        recorded = means[state].values[:, np.isin(means[state].labels, present)]
        for arm, arrays in arms.items():
            confounds = None if arm == "truth" else regressors(run, cleaning, ARMS[arm])
            values = truth[state][present].to_numpy() if arm == "truth" else recorded
            arrays[state] = cleaned(values, confounds, kept, tr=tr, band_hz=cleaning["band_hz"])
            arrays[f"{state}_fd"] = displacement.mean()
            arrays[f"{state}_kept"] = np.array([kept.sum(), len(kept)])
            account["regressors"][arm] = 0 if confounds is None else confounds.shape[1]

    excluded = _why_left_out(accounts, len(present), checks["min_states"])
    for arm, path in signals.items():
        arrays, labels = (arms[arm], present) if excluded is None else ({}, present[:0])
        write_signals(path, arrays, labels, parcellation, tr)
    write_json(
        report,
        {
            "subject": subject,
            "task": task,
            "space": space,
            "made_by": _made_by(root),
            "excluded": excluded,
            "parcels": {
                "present": len(present),
                "missing": _why_missing(parcellation, shares, checks["min_coverage"], present),
            },
            "runs": accounts,
        },
    )


def _by_label(clean: str | Path, states: Sequence[str]) -> dict[str, pd.DataFrame]:
    with np.load(clean, allow_pickle=False) as stored:
        return {
            state: pd.DataFrame(stored[state].astype(float), columns=stored["parcels"])
            for state in states
        }


def write_signals(
    path: str | Path,
    runs: Mapping[str, Any],
    labels: NDArray[np.int64],
    atlas: Atlas,
    tr: float,
) -> None:
    """One npz: signals as float32 with their motion and volumes by state, labels and names."""
    with replacing(path) as temporary:
        np.savez_compressed(
            temporary,
            parcels=np.asarray(labels, dtype=np.int64),
            names=np.array([atlas.names[int(label)] for label in labels], dtype=str),
            tr=tr,
            **runs,
        )


# --- faults of files ------------------------------------------------------------------------------


def faults(
    runs: Mapping[str, bids.Run], atlas: Atlas, tr: float, volumes: int | None, min_overlap: float
) -> Iterator[str]:
    """Say what is wrong with the files of one person's runs, each fault with its file."""
    grids = {}
    for state, run in runs.items():
        try:
            image = nib.Nifti1Image.from_filename(run.image)
            brain, mask_affine = _mask(run)
        except _DAMAGE as error:
            yield f"{run.image} or its mask is no whole NIfTI file ({error}): make it again"
            continue
        wrong = list(_affine_faults(image))
        yield from (f"{run.image}: {fault}" for fault in wrong)
        if image.ndim != 4:
            yield f"{run.image}: expected four dimensions, got {image.ndim}"
            continue
        grids[state] = (image.shape[:3], image.affine)
        if not _same_grid((brain.shape, mask_affine), grids[state]):
            yield f"{run.mask}: another grid (shape or affine) than its image {run.image.name}"
        elif not wrong:
            misfits = _overlap_faults(atlas, brain, mask_affine, min_overlap)
            yield from (f"{run.mask}: {misfit}" for misfit in misfits)
        yield from (f"{run.image}: {fault}" for fault in _time_faults(image, run, tr, volumes))
    if grids:
        first, *others = grids
        for state in others:
            if not _same_grid(grids[first], grids[state]):
                yield (
                    f"{runs[state].image}: another grid (shape or affine) than that of the "
                    f"{first} run; resample all runs to one grid of the template"
                )


def _affine_faults(image: Any) -> Iterator[str]:
    linear = image.affine[:3, :3]
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(linear)) < 1e-6:
        yield "the affine is singular or not finite"
        return
    lengths = np.linalg.norm(linear, axis=0)
    if not np.allclose((linear / lengths).T @ (linear / lengths), np.eye(3), atol=1e-3):
        yield "the axes of the affine are not at right angles"
    if not np.allclose(lengths, image.header.get_zooms()[:3], rtol=1e-3):
        yield "the affine's voxel sizes are not those of the header (pixdim)"
    qform, sform = image.get_qform(coded=True), image.get_sform(coded=True)
    if qform[1] and sform[1]:
        if np.linalg.det(qform[0][:3, :3]) * np.linalg.det(sform[0][:3, :3]) < 0:
            yield "qform and sform are mirror images of each other: left and right are unknown"
        elif not np.allclose(qform[0], sform[0], atol=0.1):
            yield "qform and sform place the image differently"


def _same_grid(one: tuple[Any, NDArray], other: tuple[Any, NDArray]) -> bool:
    return tuple(one[0]) == tuple(other[0]) and np.allclose(one[1], other[1], atol=1e-3)


def _overlap_faults(
    atlas: Atlas, brain: NDArray[np.bool_], affine: NDArray, min_overlap: float
) -> Iterator[str]:
    overlap = inside(atlas, brain, affine).mean()
    if overlap < min_overlap:
        yield (
            f"only {overlap:.0%} of the atlas lies inside this brain mask (at least "
            f"{min_overlap:.0%} expected): an axis is swapped or turned round in the affine, the "
            "image was moved, or it is not in the space that its name states"
        )
    turned = {
        code: inside(atlas, np.flip(brain, axis), affine).mean()
        for axis, code in enumerate(nib.aff2axcodes(affine))
        if code not in ("L", "R")  # the mirror image fits as well
    }
    best = max(turned, key=lambda code: turned[code], default="")
    if turned and turned[best] > overlap + BETTER:
        yield (
            f"{turned[best]:.0%} of the atlas would lie inside this brain mask with the axis "
            f"{best} turned round, but {overlap:.0%} does as it is: the affine or the data is wrong"
        )
    size = brain.sum() * abs(np.linalg.det(affine[:3, :3]))
    region = (np.asarray(atlas.image.dataobj) != 0).sum()
    ratio = size / (region * abs(np.linalg.det(atlas.image.affine[:3, :3])))
    if ratio > BRAIN_TO_ATLAS:
        yield f"the mask has {ratio:.1f} times the volume of the atlas: wrong voxel sizes?"


def _time_faults(image: Any, run: bids.Run, tr: float, volumes: int | None) -> Iterator[str]:
    scale = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}.get(image.header.get_xyzt_units()[1])
    stated = {"its header": None if scale is None else float(image.header.get_zooms()[3]) * scale}
    try:
        stated[run.sidecar.name] = json.loads(run.sidecar.read_text("utf-8"))["RepetitionTime"]
    except (ValueError, KeyError):
        yield f"{run.sidecar} states no RepetitionTime"
    for where, value in stated.items():
        if value is None or abs(float(value) - tr) > TR_TOLERANCE:
            yield f"repetition time is {value} s by {where}, expected {tr} s"
    if volumes is not None and image.shape[3] != volumes:
        yield f"{image.shape[3]} volumes, expected {volumes}"
    if run.confounds is not None:
        table = pd.read_csv(run.confounds, sep="\t")
        if len(table) != image.shape[3]:
            yield f"{image.shape[3]} volumes, but {run.confounds.name} has {len(table)} rows"
        if lacking := {"framewise_displacement", "std_dvars"} - set(table.columns):
            yield f"{run.confounds.name} has no column {', '.join(sorted(lacking))}"


# --- reading --------------------------------------------------------------------------------------


def region_means(run: bids.Run, atlas: Atlas, wanted: Sequence[int] | None = None) -> Means:
    """Mean of every region's voxels (inside the mask, if the run has one) in every volume.

    The image is read some volumes at a time, so that memory does not grow with the run's length.
    Regions without a voxel on the image's grid are absent from ``labels``.

    Raises
    ------
    ValueError
        If the file is cut short or damaged.
    """
    image = nib.Nifti1Image.from_filename(
        run.image, keep_file_open=True
    )  # one pass through the compressed stream
    labels = on_grid(atlas, image.shape[:3], image.affine)
    if run.mask is not None:
        labels[~_mask(run)[0]] = 0
    if wanted is not None:
        labels[~np.isin(labels, wanted)] = 0
    present = np.unique(labels[labels != 0]).astype(np.int64)
    values = np.empty((image.shape[3], len(present)))
    if not len(present):
        return Means(values, present, 0)
    # Standardising and confounds come later, over the whole run.
    masker = NiftiLabelsMasker(
        nib.Nifti1Image(labels, image.affine), resampling_target=None, reports=False
    )
    with _cheap_collection():
        masker.fit()
    broken = np.zeros(int((labels != 0).sum()), dtype=bool)
    step = max(1, AT_ONCE // labels.size)
    for start in range(0, image.shape[3], step):
        try:
            block = np.array(image.dataobj[..., start : start + step], dtype=np.float32)
        except _DAMAGE as error:
            raise ValueError(
                f"{run.image} is cut short or damaged from volume {start} on ({error}): "
                "make or fetch it again"
            ) from error
        broken |= ~np.isfinite(block[labels != 0]).all(axis=1)
        np.nan_to_num(block, copy=False, posinf=0, neginf=0)  # nilearn would, with a warning
        with _cheap_collection():
            values[start : start + step] = masker.transform(nib.Nifti1Image(block, image.affine))
    return Means(values, present, int(broken.sum()))


@contextmanager
def _cheap_collection() -> Iterator[None]:
    """Hide what lives now from garbage collection, which nilearn asks for whenever it reads data.

    Each time it would walk through every object that the imports have made: 0.2 s.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _mask(run: bids.Run) -> tuple[NDArray[np.bool_], NDArray]:
    assert run.mask is not None, "derivatives come with a mask"
    mask = nib.Nifti1Image.from_filename(run.mask)
    return np.asarray(mask.dataobj) > 0, mask.affine


def _alive(means: Mapping[str, Means]) -> NDArray[np.int64]:
    """Labels whose signal changes in every run."""
    alive = [set(m.labels[np.ptp(m.values, axis=0) > 0].tolist()) for m in means.values()]
    return np.array(sorted(set.intersection(*alive)), dtype=np.int64)


def regressors(
    run: bids.Run, cleaning: Mapping[str, Any], more: Sequence[str] = ()
) -> NDArray[np.float64]:
    """Confounds of a run by nilearn's strategy: (volumes, regressors).

    Raises
    ------
    ValueError
        If the table lacks a column that the strategy needs, or has gaps.
    """
    table, _ = load_confounds(
        str(run.image),
        strategy=("motion", "wm_csf", *more),
        motion=cleaning["motion"],
        wm_csf=cleaning["wm_csf"],
        global_signal="basic",
    )
    if broken := [str(name) for name in table.columns[~np.isfinite(table).all()]]:
        raise ValueError(f"{run.confounds}: not finite after the first row: {', '.join(broken)}")
    return table.to_numpy(dtype=float)


def scrubbing(
    run: bids.Run, cleaning: Mapping[str, Any]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which volumes to keep (Power et al. 2014), and framewise displacement in mm from the second
    volume on.

    Volumes above either threshold go, and stretches shorter than ``min_segment`` between them;
    also those that fMRIPrep marks as before the steady state.
    """  # fmt: skip
    table = pd.read_csv(run.confounds, sep="\t")
    kept = np.ones(len(table), dtype=bool)
    _, sample = load_confounds(
        str(run.image),
        strategy=("scrub",),
        scrub=cleaning["min_segment"],
        fd_threshold=cleaning["fd_mm"],
        std_dvars_threshold=cleaning["std_dvars"],
    )
    if sample is not None:  # None: no volume goes
        kept[:] = False
        kept[sample] = True
    return kept, table["framewise_displacement"].to_numpy(dtype=float)[1:]


# --- cleaning -------------------------------------------------------------------------------------


def cleaned(
    values: NDArray[np.float64],
    confounds: NDArray[np.float64] | None,
    kept: NDArray[np.bool_],
    *,
    tr: float,
    band_hz: Sequence[float],
) -> NDArray[np.float32]:
    """Filter, scrub, regress and standardise, in the order of Lindquist et al. 2018.

    Signals and confounds: scrubbed volumes are bridged by a cubic spline (those at either end are
    cut off), trends removed, the band passed, scrubbed volumes taken out; then the confounds are
    regressed out of the signals, which are scaled to mean 0 and variance 1.

    The bridging is done here: ``nilearn.signal.clean`` (0.13.1) with a sample mask of indices does
    not bridge two scrubbed volumes that lie symmetrically about the middle of the run, and cuts
    the wrong volumes if the first and the last are both scrubbed.

    Parameters
    ----------
    values, confounds
        (volumes, regions) and (volumes, regressors).
    kept
        (volumes,) whether a volume is kept.
    tr, band_hz
        Seconds; low and high edge in hertz.

    Returns
    -------
    ndarray
        (volumes kept, regions).
    """
    first, last = np.flatnonzero(kept)[[0, -1]]
    within = kept[first : last + 1]
    times = np.arange(len(within))

    def filtered(series: NDArray[np.float64]) -> NDArray[np.float64]:
        known = series[first : last + 1][within]
        bridged = CubicSpline(times[within], known)(times)
        low, high = band_hz
        passed = signal.clean(
            bridged, detrend=True, standardize=None, t_r=tr, high_pass=low, low_pass=high
        )
        return passed[within]

    result = signal.clean(
        filtered(values),
        confounds=None if confounds is None else filtered(confounds),
        detrend=False,
        filter=False,
        standardize="zscore_sample",
    )
    return np.asarray(result, dtype=np.float32)


# --- exclusions -----------------------------------------------------------------------------------


def _why_excluded(means: Means, kept: NDArray[np.bool_], min_volumes: float) -> str | None:
    if means.broken:
        return f"{means.broken} voxels of the regions are not finite (NaN or infinite)"
    if kept.sum() < min_volumes:
        return f"{kept.sum()} of {len(kept)} volumes left after scrubbing, fewer than {min_volumes}"
    return None


def _why_left_out(runs: Mapping[str, Any], parcels: int, min_states: float) -> str | None:
    left = [state for state, run in runs.items() if run["excluded"] is None]
    if parcels < 2:
        return f"{parcels} regions have a signal in all runs"
    if len(left) < min_states:
        names = ", ".join(left) or "none"
        return f"{len(left)} states left ({names}), fewer than {min_states}: nothing to compare"
    return None


def _why_missing(
    atlas: Atlas, shares: pd.DataFrame, min_coverage: float, present: NDArray[np.int64]
) -> dict[str, str]:
    reasons = {}
    for label, name in atlas.names.items():
        if label in present:
            continue
        state, share = shares.loc[label].idxmin(), shares.loc[label].min()
        reasons[name] = (
            f"{share:.0%} inside the brain mask of the {state} run, less than {min_coverage:.0%}"
            if share < min_coverage
            else "no voxel on the grid, or a signal that never changes, in some run"
        )
    return reasons


def _made_by(root: str | Path) -> list[str]:
    """What the data set says made it."""
    path = Path(root) / "dataset_description.json"
    if not path.is_file():
        return []
    makers = json.loads(path.read_text("utf-8")).get("GeneratedBy", [])
    return [f"{maker.get('Name')} {maker.get('Version', '')}".strip() for maker in makers]
