"""The runs of a data set, found by their file names.

The layout is that of OpenNeuro ds003171: ``sub-X/func/sub-X_task-{task}{state}_run-01_...``, the
state being part of the task label. The name decides. The ``TaskName`` inside the JSON files is
inconsistent across that data set ("rest", "audiolight" in a deep run) and is never read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

STATES = ("awake", "light", "deep", "recovery")
TEMPLATES = ("MNI152NLin2009cAsym", "MNI152NLin6Asym")  # what fMRIPrep calls the spaces of an atlas
# Runs whose task label lacks the state. That 10JR's is the awake one follows from its time of
# acquisition, the first of the visit. The simulated cohort carries the same oddity.
ODD_RUNS = {"sub-10JR_task-audio_run-01": "audioawake", "sub-06_task-audio_run-01": "audioawake"}

_NATIVE = """\
these images are in the space of the scanner or of the person's own anatomy, where a region of an
  MNI atlas lies at the same millimetres but not in the same anatomy. Run fMRIPrep with
  --output-spaces {wanted}, or point to a derivative folder that has it. (Only the arm
  "as_published" applies an atlas to such images, to show what that does.)"""


class Run(NamedTuple):
    """One run of one person.

    ``mask`` and ``confounds`` are None for raw data, which has neither.
    """

    image: Path
    sidecar: Path
    mask: Path | None = None
    confounds: Path | None = None


def entities(name: str) -> dict[str, str]:
    """Key and value pairs of a BIDS file name, and its ``suffix``.

    >>> entities("sub-01_task-restdeep_run-01_bold.nii.gz")
    {'sub': '01', 'task': 'restdeep', 'run': '01', 'suffix': 'bold'}
    """
    *pairs, suffix = name.split(".", 1)[0].split("_")
    found = dict(pair.split("-", 1) for pair in pairs if "-" in pair)
    return {**found, "suffix": suffix}


def task_and_state(name: str) -> tuple[str, str] | None:
    """Task and state that a file name states, or None if it names no state.

    >>> task_and_state("sub-02CB_task-restlight_run-01_bold.nii.gz")
    ('rest', 'light')
    >>> task_and_state("sub-10JR_task-audio_run-01_bold.nii.gz")
    ('audio', 'awake')
    >>> task_and_state("sub-02CB_task-audio_run-01_bold.nii.gz")
    """
    found = entities(name)
    stem = f"sub-{found.get('sub')}_task-{found.get('task')}_run-{found.get('run')}"
    label = ODD_RUNS.get(stem, found.get("task", ""))
    match = re.fullmatch(rf"([A-Za-z0-9]+?)({'|'.join(STATES)})", label)
    return (match[1], match[2]) if match else None


def index(
    root: str | Path,
    *,
    subjects: Iterable[str],
    task: str = "rest",
    states: Sequence[str] = STATES,
    space: str | None,
) -> dict[str, dict[str, Run]]:
    """Find the runs of some people, and everything that belongs to them.

    Parameters
    ----------
    root
        A folder of fMRIPrep derivatives, or the raw data set.
    subjects
        Labels without ``sub-``.
    task, states
        What is needed of each person.
    space
        Template space of the derivatives; None for the raw data set.

    Returns
    -------
    dict
        Subject to state to :class:`Run`, in the order asked for.

    Raises
    ------
    FileNotFoundError
        If anything is missing; every missing run and file is listed.
    ValueError
        If the space is not that of an atlas, if the images are there in other spaces only, or if
        a run exists more than once.
    """
    root = Path(root)
    if space is not None and space not in TEMPLATES:
        wanted = " or ".join(TEMPLATES)
        raise ValueError(f"space {space!r} is not that of an MNI atlas (expected {wanted}):"
                         f"\n  {_NATIVE.format(wanted=TEMPLATES[0])}")  # fmt: skip
    if not root.is_dir():
        raise FileNotFoundError(f"there is no data set at {root}")
    found: dict[str, dict[str, Run]] = {}
    missing, elsewhere, twice, nameless = [], [], [], []
    for subject in subjects:
        images = sorted((root / f"sub-{subject}" / "func").glob(f"sub-{subject}_*_bold.nii.gz"))
        nameless += [path.name for path in images if task_and_state(path.name) is None]
        found[subject] = {}
        for state in states:
            runs = [path for path in images if task_and_state(path.name) == (task, state)]
            here = [path for path in runs if _is_of(path.name, space)]
            what = f"sub-{subject}: {task}, {state}"
            if len(here) > 1:
                twice.append(f"{what}: {', '.join(path.name for path in here)}")
            elif here:
                run = found[subject][state] = _companions(here[0], space)
                missing += [f"{what}: {path}" for path in run[1:] if path and not path.is_file()]
            elif runs and space is not None:
                elsewhere.append(f"{what}: {', '.join(path.name for path in runs)}")
            else:
                name = f"sub-{subject}_task-{task}{state}_*{_ending(space)}"
                missing.append(f"{what}: {root}/sub-{subject}/func/{name}")
    if elsewhere:
        raise ValueError("\n  ".join([f"{root} has no image in {space} of:", *elsewhere])
                         + f"\n  {_NATIVE.format(wanted=space)}")  # fmt: skip
    if twice:
        raise ValueError("\n  ".join([f"more than one image of a run in {root}:", *twice,
                         "keep one resolution and one run of each"]))  # fmt: skip
    if missing:
        notes = [f"names without a known state: {', '.join(nameless)}"] if nameless else []
        raise FileNotFoundError("\n  ".join([
            f"{root} lacks {len(missing)} of the files needed (names count, not TaskName):",
            *missing, *notes, "add them, or take these people out of the list of subjects",
        ]))  # fmt: skip
    return found


def _ending(space: str | None) -> str:
    return "_bold.nii.gz" if space is None else f"_space-{space}_*desc-preproc_bold.nii.gz"


def _is_of(name: str, space: str | None) -> bool:
    found = entities(name)
    wanted = (None, None) if space is None else (space, "preproc")
    return (found.get("space"), found.get("desc")) == wanted


def _companions(image: Path, space: str | None) -> Run:
    sidecar = image.with_name(image.name.replace(".nii.gz", ".json"))
    if space is None:
        return Run(image, sidecar)
    stem = re.sub(r"_(space|res|desc)-[^_]+", "", image.name).removesuffix("_bold.nii.gz")
    confounds = image.with_name(f"{stem}_desc-confounds_timeseries.tsv")
    former = image.with_name(f"{stem}_desc-confounds_regressors.tsv")  # before fMRIPrep 20.2
    return Run(
        image,
        sidecar,
        image.with_name(image.name.replace("_desc-preproc_bold", "_desc-brain_mask")),
        former if former.is_file() and not confounds.is_file() else confounds,
    )
