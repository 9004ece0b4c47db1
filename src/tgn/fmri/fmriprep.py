"""fMRIPrep in its container: raw recordings of one person -> images in template space.

The container is run by apptainer (or singularity, its former name) and sees four places only: the
data set (read only), the folder of derivatives, a folder for its own work, and the licence file of
FreeSurfer. Templates are those inside the image, so nothing is downloaded while it runs.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from tgn.files import replacing, scratch
from tgn.fmri import bids
from tgn.fmri.plan import RUNTIMES
from tgn.sources import read_receipt

TEMPLATES = "/home/fmriprep/.cache/templateflow"  # inside the image
PROGRAMS = ("APPTAINER", "SINGULARITY")  # as their variables begin
SCRATCH = "/scratch"  # where the container sees its own folder


def runtime() -> str:
    """The program that runs containers.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    for name in RUNTIMES:
        if found := shutil.which(name):
            return found
    raise FileNotFoundError(
        f"neither {' nor '.join(RUNTIMES)} is on the PATH: install or load it, or give a folder of "
        "derivatives made elsewhere with --config fmri_derivatives=PATH"
    )


def pull(*, container: str, image: str | Path) -> None:
    """Fetch a container as one file; what is kept on the way is kept beside it, and then goes.

    Parameters
    ----------
    container
        Address, such as ``docker://nipreps/fmriprep@sha256:...``.
    image
        Written.

    Raises
    ------
    RuntimeError
        If it cannot be had.
    """
    folder = Path(image).resolve().parent
    with scratch(folder / ".unpacking") as place, replacing(image) as temporary:
        # layers and the image's files, several times its size: else in the user's home and in /tmp
        kept = {f"{name}_{what}DIR": str(place) for name in PROGRAMS for what in ("CACHE", "TMP")}
        _run([runtime(), "pull", "--force", str(temporary), container], **kept)


def preprocess(
    *,
    source: str | Path,
    image: str | Path,
    licence: str | Path,
    subject: str,
    task: str,
    states: Sequence[str],
    space: str,
    resolution: int,
    surfaces: bool,
    memory_mb: int,
    seed: int,
    work: str | Path,
    derivatives: str | Path,
    images: Sequence[str | Path],
    masks: Sequence[str | Path],
    confounds: Sequence[str | Path],
) -> None:
    """Run fMRIPrep on one person.

    What it has done so far stays in ``work`` when it fails or is killed, and the next run goes on
    from there; when all is done the folder goes.

    Parameters
    ----------
    source
        Receipt of the raw data set, in its folder.
    image, licence
        Files of the container and of FreeSurfer's licence.
    subject, task, states
        Whose runs, and which.
    space, resolution
        Template of the output, and its number in TemplateFlow.
    surfaces
        Whether FreeSurfer reconstructs the cortex, for hours, before the runs are registered to it.
    memory_mb
        Memory to keep within.
    work, derivatives
        Folders; made.
    images, masks, confounds
        Files that must be there at the end.

    Raises
    ------
    FileNotFoundError
        If the data set lacks the person's anatomical image or a run, or if there is no runtime.
    RuntimeError
        If fMRIPrep fails or leaves out a file.
    """
    check_raw(read_receipt(source), subject, task, states)
    work, derivatives = Path(work), Path(derivatives)
    for folder in (work, derivatives):
        folder.mkdir(parents=True, exist_ok=True)
    chosen = {"bold": {"task": [f"{task}{state}" for state in states]}}
    (work / "filter.json").write_text(json.dumps(chosen), encoding="utf-8")
    _run(
        command(
            program=runtime(),
            image=image,
            data=Path(source).parent,
            derivatives=derivatives,
            work=work,
            licence=licence,
            subject=subject,
            space=f"{space}:res-{resolution}",
            surfaces=surfaces,
            cpus=int(os.environ.get("OMP_NUM_THREADS", "1")),  # what the job may use
            memory_mb=memory_mb,
            seed=seed,
        )
    )
    if absent := [path for path in (*images, *masks, *confounds) if not Path(path).is_file()]:
        listed = "\n  ".join(map(str, absent))
        raise RuntimeError(f"fMRIPrep ended without an error but did not write\n  {listed}")
    shutil.rmtree(work)


def check_raw(files: Iterable[str], subject: str, task: str, states: Sequence[str]) -> None:
    """See that a data set has what fMRIPrep needs of a person.

    Raises
    ------
    FileNotFoundError
        Naming what is missing.
    """
    own = [Path(path).name for path in files if path.startswith(f"sub-{subject}/")]
    found = {bids.task_and_state(name) for name in own if name.endswith("_bold.nii.gz")}
    missing = [f"the {task} run of {state}" for state in states if (task, state) not in found]
    if not any(name.endswith("_T1w.nii.gz") for name in own):
        missing.append("a T1-weighted image")
    if missing:
        raise FileNotFoundError(
            f"the data set lacks of sub-{subject}: {', '.join(missing)}; if it was fetched in "
            "part, `tgn fetch ds003171` completes it"
        )


def command(
    *,
    program: str,
    image: str | Path,
    data: Path,
    derivatives: Path,
    work: Path,
    licence: str | Path,
    subject: str,
    space: str,
    surfaces: bool,
    cpus: int,
    memory_mb: int,
    seed: int,
) -> list[str]:
    """The command line.

    Its temporary files and its home go into ``work`` too: by default they would go into the memory
    that apptainer sets aside.
    """
    binds = {
        f"{data.resolve()}": "/data:ro",
        f"{derivatives.resolve()}": "/out",
        f"{work.resolve()}": SCRATCH,
        f"{Path(licence).resolve()}": "/licence.txt:ro",
    }
    return [
        *(program, "run", "--cleanenv", "--contain", "--workdir", str(work.resolve())),
        *("--env", f"TEMPLATEFLOW_HOME={TEMPLATES},TEMPLATEFLOW_AUTOUPDATE=0"),
        *(word for place, seen in binds.items() for word in ("--bind", f"{place}:{seen}")),
        *(str(image), "/data", "/out", "participant", "--participant-label", subject),
        *("--output-spaces", space, "--bids-filter-file", f"{SCRATCH}/filter.json"),
        *("--work-dir", SCRATCH, "--fs-license-file", "/licence.txt"),
        *([] if surfaces else ["--fs-no-reconall"]),
        *("--nprocs", str(cpus), "--mem-mb", str(memory_mb), "--random-seed", str(seed)),
        *("--skull-strip-fixed-seed", "--skip-bids-validation", "--stop-on-first-crash"),
        "--notrack",
    ]


def _run(command: list[str], **environment: str) -> None:
    """Run a command with these variables set, its words going where this job's go.

    Raises
    ------
    RuntimeError
        If it fails; with the command and its last words.
    """
    said: list[str] = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **environment},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            said = [*said[-11:], line]
    if process.returncode:
        words = "".join(said).rstrip()
        raise RuntimeError(f"exit status {process.returncode} of\n  {shlex.join(command)}\n{words}")
