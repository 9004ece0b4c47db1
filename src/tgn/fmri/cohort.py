"""Simulated people, recorded as a folder of fMRIPrep derivatives named as ds003171 is.

Signals of regions are painted on the voxels of an atlas and spoilt as a scanner would: noise of
every voxel, slow drift, signals of white matter and cerebrospinal fluid that leak into the grey
matter, breathing in the whole brain, and a moving head. Head motion acts by its first-order effect,
the gradient of the mean image times the displacement (what is left of it after realignment), and
by the drop of signal that goes with fast movements. Confounds are then computed from the very
images, as fMRIPrep does. So whoever reads the folder has to do what is done with real data, and the
right answer is known.

What this is not: a brain. Regions are homogeneous, noise is white and independent between voxels,
and all that the states change is what the caller says.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.affines import apply_affine, voxel_sizes
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import lfilter

from tgn.files import digest, replacing, write_json
from tgn.fmri import bids
from tgn.fmri.atlas import Atlas, on_grid, read_atlas
from tgn.fmri.connectomes import load as load_connectome
from tgn.fmri.surrogates import autoregressive

SPACE = bids.TEMPLATES[0]
HEAD_RADIUS = 50.0  # mm, turns rotation into displacement (Power et al. 2012)
_GREY, _WHITE, _FLUID = 1000.0, 850.0, 1300.0  # mean intensities


class Recording(NamedTuple):
    """How the scanner spoils the signals. Amplitudes are shares of the mean intensity (SD)."""

    tr: float = 2.0
    """Seconds between volumes."""
    volumes: int = 256
    audio_volumes: int = 155
    voxel_mm: float = 8.0
    signal: float = 0.01
    """Signal of a region."""
    noise: float = 0.01
    """Independent noise of a voxel."""
    drift: float = 0.01
    """Slow quadratic drift, of other shape in every voxel."""
    physiology: float = 0.004
    """Signals of white matter and fluid, leaking into grey matter with random weights."""
    respiration: float = 0.002
    """One signal in the whole brain."""
    leak: float = 0.2
    """Share of the head's displacement that realignment leaves."""
    drop: float = 0.01
    """Loss of intensity per mm of framewise displacement."""
    spike_mm: float = 1.0
    """Typical size of a sudden movement."""
    spikes: Mapping[str, float] = {}
    """Sudden movements per volume, by state; 0.01 for states not named."""


class Anatomy(NamedTuple):
    """A head on the recording's grid; arrays of its three dimensions."""

    labels: NDArray[np.int32]
    """Painted regions; 0 elsewhere."""
    brain: NDArray[np.bool_]
    white: NDArray[np.bool_]
    fluid: NDArray[np.bool_]
    affine: NDArray[np.float64]


# --- jobs -----------------------------------------------------------------------------------------


def make_subject(
    *,
    connectome: str | Path,
    fitted: str | Path,
    atlas: str | Path,
    clean: str | Path,
    files: str | Path,
    subject: str,
    model: str,
    states: Mapping[str, Mapping[str, Any]],
    recording: Mapping[str, Any],
    seed: int,
) -> None:
    """Simulate one person in every state and record it.

    Parameters
    ----------
    connectome, fitted
        Files of :mod:`tgn.fmri.connectomes` and :mod:`tgn.fmri.whole_brain` of one person.
    atlas
        Receipt of the atlas whose names the connectome's regions bear.
    clean
        Written: npz of the simulated signals before painting, by state, with their ``parcels``.
    files
        Written last: JSON listing the files of this person with sizes and checksums; its folder is
        the root of the data set.
    subject
        Label without ``sub-``.
    model
        Name of the whole-brain model.
    states
        State to the changes of parameters that make it, as ``whole_brain.changed`` takes them.
    recording
        Fields of :class:`Recording`.
    seed
        Person, state and purpose get streams of their own from it.

    Raises
    ------
    ValueError
        If the atlas and the connectome share fewer than two regions.
    """
    from tgn.fmri import whole_brain  # its kernels are compiled; the fixtures need none

    setup = Recording(**recording)
    person = load_connectome(connectome)
    fit = whole_brain.load_model(fitted, connectome, model=model)
    simulated = {
        state: whole_brain.changed(fit, changes)
        .simulate(volumes=setup.volumes, tr=setup.tr, seed=[seed, *subject.encode(), number])
        .signals
        for number, (state, changes) in enumerate(states.items())
    }
    parcellation = read_atlas(atlas)
    labels, signals = match_regions(simulated, list(person.regions), parcellation)
    with replacing(clean) as temporary:
        arrays: dict[str, Any] = dict(signals)
        np.savez_compressed(temporary, parcels=labels, tr=setup.tr, **arrays)
    write_subject(
        Path(files).parent,
        subject,
        signals,
        labels,
        atlas=parcellation,
        recording=setup,
        seed=seed,
        files=files,
        made_from=f"{model} model on the connectome of {person.person}",
    )


def fixture(
    root: str | Path,
    *,
    atlas: Atlas,
    seed: int,
    subjects: Sequence[str] = ("01", "06"),
    volumes: int = 120,
    shares: Mapping[str, float] = {"awake": 0.0, "light": 0.4, "deep": 0.7, "recovery": 0.2},
    **changes: Any,
) -> None:
    """A small data set whose ranks are planted: the larger a state's common signal, the lower.

    Parameters
    ----------
    root
        Folder to write; ``sub-{subject}_files.json`` are written last.
    atlas
        All its regions get a signal.
    shares
        State to the share of variance that one signal common to all regions has; the default
        orders the ranks awake > recovery > light > deep.
    changes
        Fields of :class:`Recording` other than ``volumes``.
    """
    setup = Recording(
        **{"volumes": volumes, "audio_volumes": volumes // 2, "voxel_mm": 12.0, **changes}
    )
    labels = np.array(list(atlas.names), dtype=np.int64)
    for subject in subjects:
        signals = planted(shares, len(labels), volumes, _stream(seed, subject, "planted"))
        write_subject(
            root,
            subject,
            signals,
            labels,
            atlas=atlas,
            recording=setup,
            seed=seed,
            files=Path(root) / f"sub-{subject}_files.json",
            made_from="noise with a planted common signal",
        )


def planted(
    shares: Mapping[str, float], regions: int, volumes: int, rng: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """Autocorrelated noise plus one common signal: state to (volumes, regions) of variance 1."""
    return {
        state: autoregressive(volumes, regions, phi=0.5, shared=share, rng=rng)
        for state, share in shares.items()
    }


def fixture_atlas(folder: str | Path, *, voxel_mm: float = 6.0) -> Atlas:
    """Write ``atlas.nii.gz`` and ``labels.csv``: sixteen regions of an egg the size of a brain.

    Like a brain it is its own mirror image from left to right, and not so along the other axes.
    """
    shape = np.ceil(np.array([156.0, 192.0, 156.0]) / voxel_mm).astype(int)
    affine = nib.affines.from_matvec(np.eye(3) * voxel_mm, [-78.0, -114.0, -66.0])
    x, y, z = np.moveaxis(apply_affine(affine, np.argwhere(np.ones(shape))), 1, 0)
    width = 60 - (y + 18) / 8  # wider behind
    height = np.where(z > 10, 66, 50)  # flatter below
    inside = (x / width) ** 2 + ((y + 18) / 88) ** 2 + ((z - 10) / height) ** 2 < 1
    hollow = (x / 24) ** 2 + ((y + 18) / 40) ** 2 + ((z - 10) / 22) ** 2 < 1
    slab = np.digitize(y, [-62.0, -18.0, 26.0])
    labels = np.where(inside & ~hollow, 1 + 4 * slab + 2 * (z > 10) + (x > 2), 0)
    image = nib.Nifti1Image(labels.reshape(shape).astype(np.int16), affine)
    names = {
        1 + 4 * slab + 2 * top + right: f"{part}_{'Upper' if top else 'Lower'}_{'LR'[right]}"
        for slab, part in enumerate(("Occipital", "Parietal", "Central", "Frontal"))
        for top in (0, 1)
        for right in (0, 1)
    }
    _write_image(Path(folder) / "atlas.nii.gz", image)
    with replacing(Path(folder) / "labels.csv") as temporary:
        pd.Series(names, name="name").rename_axis("index").to_csv(temporary)
    return Atlas(image, dict(sorted(names.items())))


# --- one person -----------------------------------------------------------------------------------


def match_regions(
    signals: Mapping[str, NDArray], regions: Sequence[str], atlas: Atlas
) -> tuple[NDArray[np.int64], dict[str, NDArray]]:
    """Labels of the atlas that bear a region's name, ascending, and the signals in that order.

    Raises
    ------
    ValueError
        If fewer than two names are the same.
    """
    column = {str(name): number for number, name in enumerate(regions)}
    labels = sorted(label for label, name in atlas.names.items() if name in column)
    if len(labels) < 2:
        raise ValueError(
            f"the atlas and the connectome share {len(labels)} names of regions: "
            f"{list(atlas.names.values())[:3]}... against {list(regions)[:3]}..."
        )
    order = [column[atlas.names[label]] for label in labels]
    return np.array(labels, dtype=np.int64), {s: values[:, order] for s, values in signals.items()}


def write_subject(
    root: str | Path,
    subject: str,
    signals: Mapping[str, NDArray],
    labels: NDArray[np.int64],
    *,
    atlas: Atlas,
    recording: Recording,
    seed: int,
    files: str | Path,
    made_from: str,
) -> None:
    """Record one rest run a state, and for some the audio run awake under its odd name.

    ``signals`` holds (volumes, regions) in the order of ``labels``. The audio run is there for its
    name: it has the awake signals again, cut to its length. The same arguments give the same
    bytes. The list ``files`` is written last.
    """
    root = Path(root)
    anatomy = build_anatomy(atlas, labels, recording.voxel_mm)
    names = {f"task-rest{state}_run-01": (state, recording.volumes) for state in signals}
    if f"sub-{subject}_task-audio_run-01" in bids.ODD_RUNS:
        names["task-audio_run-01"] = ("awake", recording.audio_volumes)
    written = [_write_description(root)]
    for name, (state, volumes) in names.items():
        rng = _stream(seed, subject, name)
        motion = head_motion(volumes, recording.spikes.get(state, 0.01), recording.spike_mm, rng)
        source = np.resize(signals[state], (volumes, len(labels)))
        image = paint(source, labels, motion, anatomy, recording, rng)
        folder = root / f"sub-{subject}" / "func"
        written += _write_run(folder / f"sub-{subject}_{name}", image, motion, anatomy, recording)
    write_json(
        files,
        {
            "subject": subject,
            "made_from": made_from,
            "evidence": "simulated",
            "regions_painted": len(labels),
            "regions_without_signal": [n for v, n in atlas.names.items() if v not in labels],
            "regions_without_voxel": [
                atlas.names[int(v)] for v in np.setdiff1d(labels, anatomy.labels)
            ],
            "files": [
                {
                    "path": path.relative_to(root).as_posix(),
                    "bytes": path.stat().st_size,
                    "sha256": digest(path),
                }
                for path in sorted(written)
            ],
        },
    )


def build_anatomy(atlas: Atlas, labels: Iterable[int], voxel_mm: float) -> Anatomy:
    """Lay the atlas on a coarse grid of its space, with white matter and fluid in what it leaves.

    The brain is the atlas with its gaps closed, without the regions that have no signal: they lie
    outside the field of view. White matter is what is in the brain and in no region; fluid is the
    part of it within 20 mm of the middle of the brain.
    """
    low, high = _extent(atlas)
    shape = tuple(np.ceil((high - low) / voxel_mm).astype(int) + 3)
    affine = nib.affines.from_matvec(np.eye(3) * voxel_mm, low - voxel_mm)
    everything = on_grid(atlas, shape, affine)
    closed = ndimage.binary_closing(everything != 0, structure=np.ones((3, 3, 3)))
    painted = np.isin(everything, list(labels))
    brain = ndimage.binary_fill_holes(closed) & ~((everything != 0) & ~painted)
    places = apply_affine(affine, np.argwhere(brain))
    from_middle = np.full(shape, np.inf)
    from_middle[brain] = np.linalg.norm(places - places.mean(axis=0), axis=1)
    rest = brain & ~painted
    fluid = rest & (from_middle <= max(20.0, np.sort(from_middle[rest], axis=None)[:4].max()))
    return Anatomy(np.where(painted, everything, 0), brain, rest & ~fluid, fluid, affine)


def _extent(atlas: Atlas) -> tuple[NDArray, NDArray]:
    places = apply_affine(atlas.image.affine, np.argwhere(np.asarray(atlas.image.dataobj) != 0))
    return places.min(axis=0), places.max(axis=0)


def head_motion(
    volumes: int, spikes: float, spike_mm: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Realignment parameters (volumes, 6): translations in mm, then rotations in radians.

    Slow wandering (SD 0.1 mm, or 0.1 mm at the surface of the head) and sudden movements, there and
    back within a volume, of exponentially distributed size.
    """
    motion = 0.1 * _slow(volumes, 6, 0.95, rng)
    size = rng.exponential(spike_mm, volumes) * (rng.random(volumes) < spikes)
    direction = rng.standard_normal((volumes, 6))
    motion += size[:, None] * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    motion[:, 3:] /= HEAD_RADIUS
    return motion


def framewise_displacement(motion: NDArray) -> NDArray[np.float64]:
    """Sum of absolute changes in mm (Power et al. 2012); not a number for the first volume."""
    change = np.abs(np.diff(motion, axis=0))
    return np.r_[np.nan, change[:, :3].sum(axis=1) + HEAD_RADIUS * change[:, 3:].sum(axis=1)]


def paint(
    signals: NDArray,
    labels: NDArray[np.int64],
    motion: NDArray,
    anatomy: Anatomy,
    recording: Recording,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Intensities of the voxels of the brain, (voxels, volumes), in the order of the mask.

    ``signals`` are scaled to variance 1 by one number for all regions, so that what a region's
    amplitude says is kept.
    """
    volumes, brain = len(signals), anatomy.brain
    mean = np.select([anatomy.fluid, anatomy.white, brain], [_FLUID, _WHITE, _GREY], 0.0)
    gradient = np.stack(np.gradient(mean, *voxel_sizes(anatomy.affine)), axis=-1)[brain]
    places = apply_affine(anatomy.affine, np.argwhere(brain))
    region, white, fluid = anatomy.labels[brain], anatomy.white[brain], anatomy.fluid[brain]
    grey, count = region != 0, len(region)

    centred = signals - signals.mean(axis=0)
    column = np.searchsorted(labels, region[grey])
    change = recording.noise * rng.standard_normal((count, volumes), dtype=np.float32)
    change[grey] += recording.signal / centred.std() * centred.T[column]

    wave = recording.physiology * _slow(volumes, 2, 0.5, rng).T  # of white matter and of fluid
    change[white] += 2 * wave[0]
    change[fluid] += 2 * wave[1]
    change[grey] += rng.random((int(grey.sum()), 2)) @ wave
    change += recording.respiration * _slow(volumes, 1, 0.5, rng).T

    time = np.linspace(-1, 1, volumes)
    change += recording.drift * rng.standard_normal((count, 2)) @ np.stack([time, time**2 - 1 / 3])

    displacement = np.nan_to_num(framewise_displacement(motion))
    change -= recording.drop * displacement
    intensity = mean[brain, None] * (1 + change)
    # A point moves by t + w x r; the image at a voxel changes by minus gradient times that.
    turning = np.cross(places, gradient)
    effect = gradient @ motion[:, :3].T + turning @ motion[:, 3:].T
    return np.asarray(intensity - recording.leak * effect, dtype=np.float32)


# --- confounds ------------------------------------------------------------------------------------


def confounds_table(image: NDArray, motion: NDArray, anatomy: Anatomy, tr: float) -> pd.DataFrame:
    """The columns of fMRIPrep that the analysis reads, from the voxels of the brain and motion."""
    brain = anatomy.brain
    table = pd.DataFrame(
        {
            "global_signal": image.mean(axis=0),
            "csf": image[anatomy.fluid[brain]].mean(axis=0),
            "white_matter": image[anatomy.white[brain]].mean(axis=0),
        },
        dtype=float,
    )
    for name, values in zip(
        ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"), motion.T, strict=True
    ):
        table[name] = values
    for name in list(table.columns):
        table[f"{name}_derivative1"] = table[name].diff()
        table[f"{name}_derivative1_power2"] = table[f"{name}_derivative1"] ** 2
        table[f"{name}_power2"] = table[name] ** 2
    table["framewise_displacement"] = framewise_displacement(motion)
    table["dvars"], table["std_dvars"] = dvars(image)
    for order, cosine in enumerate(cosines(len(motion), tr)):
        table[f"cosine{order:02d}"] = cosine
    return table


def dvars(image: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Root mean square change between volumes over voxels, and divided by what it would be were
    the changes those of the voxels' own noise (Nichols 2013: robust SD and lag-1 autocorrelation).
    """  # fmt: skip
    raw = np.sqrt(np.mean(np.diff(image, axis=1).astype(float) ** 2, axis=0))
    centred = image - image.mean(axis=1, keepdims=True)
    lag = (centred[:, 1:] * centred[:, :-1]).sum(axis=1) / (centred**2).sum(axis=1)
    spread = np.subtract(*np.percentile(image, [75, 25], axis=1)) / 1.349
    expected = np.sqrt(np.mean(2 * (1 - lag) * spread**2))
    return np.r_[np.nan, raw], np.r_[np.nan, raw / expected]


def cosines(volumes: int, tr: float, cutoff: float = 128.0) -> NDArray[np.float64]:
    """Discrete cosines slower than ``cutoff`` seconds, a row each."""
    orders = np.arange(1, int(2 * volumes * tr / cutoff) + 1)
    phase = np.pi * (np.arange(volumes) + 0.5) / volumes
    return np.sqrt(2 / volumes) * np.cos(orders[:, None] * phase)


# --- files ----------------------------------------------------------------------------------------


def _write_run(
    stem: Path, image: NDArray, motion: NDArray, anatomy: Anatomy, recording: Recording
) -> list[Path]:
    """Image, mask, sidecar and confounds of one run; returns their paths."""
    voxels = np.zeros((*anatomy.brain.shape, image.shape[1]), dtype=np.float32)
    voxels[anatomy.brain] = image
    bold = nib.Nifti1Image(voxels, anatomy.affine)
    bold.header.set_zooms((*voxel_sizes(anatomy.affine), recording.tr))
    mask = nib.Nifti1Image(anatomy.brain.astype(np.uint8), anatomy.affine)
    for picture in (bold, mask):
        picture.header.set_xyzt_units("mm", "sec")
        picture.set_sform(anatomy.affine, code="mni")
        picture.set_qform(anatomy.affine, code="mni")
    bold.set_data_dtype(np.int16)  # nibabel finds slope and intercept

    space = f"{stem.name}_space-{SPACE}_desc"
    paths = [
        stem.with_name(f"{space}-preproc_bold.nii.gz"),
        stem.with_name(f"{space}-brain_mask.nii.gz"),
        stem.with_name(f"{space}-preproc_bold.json"),
        stem.with_name(f"{stem.name}_desc-confounds_timeseries.tsv"),
        stem.with_name(f"{stem.name}_desc-confounds_timeseries.json"),
    ]
    _write_image(paths[0], bold)
    _write_image(paths[1], mask)
    task = bids.entities(stem.name)["task"]
    write_json(paths[2], {"RepetitionTime": recording.tr, "SkullStripped": True, "TaskName": task})
    table = confounds_table(image, motion, anatomy, recording.tr)
    with replacing(paths[3]) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep="n/a", float_format="%.8g")
    write_json(paths[4], {"csf": {"Method": "Mean"}, "white_matter": {"Method": "Mean"}})
    return paths


def _write_image(path: Path, image: nib.Nifti1Image) -> None:
    """Compress quickly, and without the time and name that gzip would put in."""
    packed = gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)
    with replacing(path) as temporary:
        temporary.write_bytes(packed)


def _write_description(root: Path) -> Path:
    path = root / "dataset_description.json"
    content = {
        "Name": "Simulated sedation cohort, named as OpenNeuro ds003171",
        "BIDSVersion": "1.8.0",
        "DatasetType": "derivative",
        "License": "MIT",
        "GeneratedBy": [{"Name": "tgn.fmri.cohort", "Description": "simulated, no person's data"}],
    }
    if not path.is_file() or json.loads(path.read_text("utf-8")) != content:
        write_json(path, content)
    return path


def _slow(volumes: int, columns: int, phi: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Stationary AR(1) noise of variance 1: (volumes, columns)."""
    kicks = rng.standard_normal((volumes, columns))
    kicks[1:] *= np.sqrt(1 - phi**2)
    return lfilter([1.0], [1.0, -phi], kicks, axis=0)


def _stream(seed: int, *names: str) -> np.random.Generator:
    """A generator of its own for every purpose."""
    return np.random.default_rng([seed, *(byte for name in names for byte in name.encode())])
