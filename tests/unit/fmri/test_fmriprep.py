"""fMRIPrep is called as it should be; a stand-in for apptainer says what it was asked."""

import json
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tgn.fmri import fmriprep
from tgn.sources import write_receipt

STATES = ["awake", "deep"]
NAMES = [
    f"sub-10JR/func/sub-10JR_task-rest{state}_run-01_{kind}"
    for state in STATES
    for kind in ("bold.nii.gz", "bold.json")
]
Container = Callable[[str], None]


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Container:
    """Put a script in apptainer's place; it writes its arguments down and does as it is told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)

    def behave(words: str) -> None:
        program = folder / "apptainer"
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/asked\n{words}\n')
        program.chmod(0o755)

    return behave


@pytest.fixture
def job(tmp_path: Path) -> dict[str, Any]:
    data = tmp_path / "ds003171"
    for name in (*NAMES, "sub-10JR/anat/sub-10JR_acq-MPRAGE_run-01_T1w.nii.gz"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(b"x")
    write_receipt(data / "receipt.json", name="ds003171", kind="openneuro", evidence="real")
    out = tmp_path / "out"
    return {
        "source": data / "receipt.json",
        "image": tmp_path / "image.sif",
        "licence": tmp_path / "license.txt",
        "subject": "10JR",
        "task": "rest",
        "states": STATES,
        "space": "MNI152NLin2009cAsym",
        "resolution": 2,
        "surfaces": True,
        "memory_mb": 28000,
        "seed": 14,
        "work": tmp_path / "kept/sub-10JR",
        "derivatives": out,
        "images": [out / f"{state}.nii.gz" for state in STATES],
        "masks": [],
        "confounds": [out / "confounds.tsv"],
    }


def done(job: dict[str, Any]) -> str:
    return "; ".join(f"touch {path}" for path in (*job["images"], *job["confounds"]))


def test_the_container_sees_four_places_and_is_asked_for_four_things(
    container: Container, job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    chosen = tmp_path / "chosen.json"
    container(f"cp {job['work']}/filter.json {chosen}; {done(job)}")
    fmriprep.preprocess(**job)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[:3] == ["run", "--cleanenv", "--contain"]
    binds = [after for word, after in pairwise(asked) if word == "--bind"]
    assert binds == [
        f"{tmp_path}/ds003171:/data:ro",
        f"{tmp_path}/out:/out",
        f"{tmp_path}/kept/sub-10JR:/scratch",
        f"{tmp_path}/license.txt:/licence.txt:ro",
    ]
    own = asked[asked.index(str(job["image"])) + 1 :]
    assert own[:5] == ["/data", "/out", "participant", "--participant-label", "10JR"]
    options = dict(pairwise(own))
    assert options["--output-spaces"] == "MNI152NLin2009cAsym:res-2"
    assert options["--fs-license-file"] == "/licence.txt"
    assert options["--nprocs"] == "6"
    assert options["--mem-mb"] == "28000"
    assert "--fs-no-reconall" not in own
    assert json.loads(chosen.read_text()) == {"bold": {"task": ["restawake", "restdeep"]}}
    assert not job["work"].exists()  # all done: what it kept is of no more use


def test_surfaces_can_be_left_out(
    container: Container, job: dict[str, Any], tmp_path: Path
) -> None:
    container(done(job))
    fmriprep.preprocess(**{**job, "surfaces": False})
    assert "--fs-no-reconall" in (tmp_path / "asked").read_text().splitlines()


def test_a_failure_says_what_was_run_and_keeps_what_was_done(
    container: Container, job: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    container("echo 'RuntimeError: no space left'; exit 3")
    with pytest.raises(RuntimeError, match=r"(?s)exit status 3 of\n  .*apptainer run.*no space"):
        fmriprep.preprocess(**job)
    assert "no space left" in capsys.readouterr().out  # the whole output is in the log
    assert (job["work"] / "filter.json").is_file()


def test_an_output_that_is_not_there_is_an_error(container: Container, job: dict[str, Any]) -> None:
    container(f"touch {job['images'][0]}")
    with pytest.raises(RuntimeError, match=r"(?s)did not write.*deep\.nii\.gz.*confounds\.tsv"):
        fmriprep.preprocess(**job)


@pytest.mark.parametrize(
    ("gone", "says"),
    [("T1w.nii.gz", "a T1-weighted image"), ("restdeep_run-01_bold.nii.gz", "rest run of deep")],
)
def test_what_the_data_set_lacks_is_named_before_hours_of_work(
    container: Container, job: dict[str, Any], tmp_path: Path, gone: str, says: str
) -> None:
    container(done(job))
    for path in job["source"].parent.rglob(f"*{gone}"):
        path.unlink()
    write_receipt(job["source"], name="ds003171", kind="openneuro", evidence="real")
    with pytest.raises(FileNotFoundError, match=f"sub-10JR: .*{says}.*tgn fetch ds003171"):
        fmriprep.preprocess(**job)
    assert not (tmp_path / "asked").exists()


def test_without_a_runtime_it_says_so(
    tmp_path: Path, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="neither apptainer nor singularity"):
        fmriprep.preprocess(**job)


def test_a_container_is_fetched_as_one_file_or_not_at_all(
    container: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image = tmp_path / "containers/image.sif"
    container('echo image > "$3"; echo "$APPTAINER_CACHEDIR $APPTAINER_TMPDIR" > kept')
    fmriprep.pull(container="docker://nipreps/fmriprep@sha256:0", image=image)
    assert image.read_text() == "image\n"
    assert list(image.parent.iterdir()) == [image]
    for place in Path("kept").read_text().split():  # not in the home of who runs it, nor in /tmp
        assert Path(place).is_relative_to(image.parent)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[:2] == ["pull", "--force"]
    assert asked[3] == "docker://nipreps/fmriprep@sha256:0"
    image.unlink()
    container('echo half > "$3"; exit 1')
    with pytest.raises(RuntimeError, match="apptainer pull"):
        fmriprep.pull(container="docker://nipreps/fmriprep@sha256:0", image=image)
    assert list(image.parent.iterdir()) == []
