"""What figure 14 plans at every scale, and what it refuses before anything is downloaded."""

import json
import os
import re
from pathlib import Path

import pytest
import yaml
from running import ROOT, copy_checkout, snakemake
from test_plan import planned

from tgn.sources import write_receipt

STATES = ["awake", "light", "deep", "recovery"]
PAPER = ["--config", "scale=paper", "--dry-run", "results/paper/fig14.pdf"]


@pytest.fixture(scope="module")
def section():
    return yaml.safe_load((ROOT / "config.yaml").read_text())["fmri"]


@pytest.fixture(scope="module")
def subjects(section):
    return section["datasets"]["recordings"]["subjects"]


@pytest.fixture(scope="module")
def paper(checkout):
    return snakemake(checkout, *PAPER)


def make_derivatives(folder, subjects, missing=()):
    """Empty files named as fMRIPrep names them: a plan reads no image."""
    for subject in subjects:
        for state in STATES:
            stem = f"sub-{subject}_task-rest{state}_run-01"
            spatial = f"{stem}_space-MNI152NLin2009cAsym_res-2_desc"
            for name in (
                f"{spatial}-preproc_bold.nii.gz",
                f"{spatial}-preproc_bold.json",
                f"{spatial}-brain_mask.nii.gz",
                f"{stem}_desc-confounds_timeseries.tsv",
            ):
                if not any(part in name for part in missing):
                    path = folder / f"sub-{subject}" / "func" / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.touch()
    return folder


@pytest.fixture(scope="module")
def derivatives(tmp_path_factory, subjects):
    return make_derivatives(tmp_path_factory.mktemp("derivatives"), subjects)


def test_the_manifest_has_the_people_of_the_configuration(subjects):
    rows = (ROOT / "config/ds003171_manifest.tsv").read_text().splitlines()[1:]
    paths = [row.split("\t")[0] for row in rows]
    people = {path[4:].split("/")[0] for path in paths if path.startswith("sub-")}
    assert sorted(people) == sorted(subjects)
    assert len(subjects) == 17
    for subject in subjects:
        for state in STATES:
            name = f"sub-{subject}/func/sub-{subject}_task-rest{state}_run-01_bold.nii.gz"
            assert name in paths


def test_the_paper_scale_preprocesses_four_runs_of_seventeen_people(paper, subjects):
    jobs = planned(paper)
    assert jobs["fmriprep"] == 17
    assert jobs["fmriprep_image"] == 1
    said = paper.stdout + paper.stderr
    runs = set(re.findall(r"fmriprep/sub-\w+/func/(\S+_desc-preproc_bold)\.nii\.gz", said))
    assert runs == {
        f"sub-{subject}_task-rest{state}_run-01_space-MNI152NLin2009cAsym_res-2_desc-preproc_bold"
        for subject in subjects
        for state in STATES
    }
    assert len(runs) == 17 * 4


def test_the_paper_scale_reads_the_recordings_and_says_so(paper):
    jobs = planned(paper)
    assert jobs["parcel_signals"] == 17 * 2  # atlases
    assert jobs["published_signals"] == 17 * 2 + 12  # the cohort's too
    said = paper.stdout + paper.stderr
    assert "resources/ds003171/receipt.json" in said
    assert re.search(r"ds003171: real, 2\.61 GB, from OpenNeuro", paper.stderr)
    assert "schaefer-100: real" in paper.stderr


def test_fmriprep_asks_a_cluster_for_what_it_needs(checkout, section):
    run = snakemake(checkout, "--profile", "profiles/slurm", "-n", "results/paper/fig14.pdf")
    asked = re.search(r"rule fmriprep:\n(?:    .*\n)*?    resources: (.*)", run.stdout + run.stderr)
    wanted = section["fmriprep"]
    for key, value in {
        "cpus_per_task": wanted["cpus"],
        "mem_mb": wanted["memory_mb"],
        "runtime": 60 * wanted["hours"],
    }.items():
        assert f"{key}={value}" in asked[1]


def test_what_fmriprep_lacks_is_said_in_a_plan_and_refused_before_a_download(paper, tmp_path):
    """Whether there is a container runtime here or not, there is no licence."""
    assert planned(paper)
    assert "lacks a FreeSurfer licence file: set fmri.fmriprep.licence" in paper.stderr
    checkout = copy_checkout(tmp_path)
    run = snakemake(checkout, "results/paper/fig14.pdf", "--config", "scale=paper")
    assert run.returncode != 0
    said = run.stdout + run.stderr
    assert "a FreeSurfer licence file: set fmri.fmriprep.licence" in said
    assert "fmri_derivatives=PATH" in said
    assert "rule fetch:" not in said
    assert not (checkout / "resources").exists()


def test_other_figures_of_the_paper_scale_need_no_licence(checkout):
    run = snakemake(checkout, "results/paper/fig8.pdf", "-n", "--config", "scale=paper")
    assert "fmriprep" not in planned(run)


@pytest.mark.parametrize(
    ("overlay", "words"),
    [
        (
            "fmri: {fmriprep: {licence: /nowhere/license.txt}}",
            ["fmri.fmriprep.licence", "/nowhere/license.txt", "surfer.nmr.mgh.harvard.edu"],
        ),
        ("fmri_derivatives: /nowhere", ["fmri_derivatives", "/nowhere"]),
        ("fmri: {cleaning: {fd: 0.2}}", ["fmri.cleaning", "fd", "fd_mm"]),
    ],
)
def test_a_wrong_setting_stops_a_plan_with_what_to_do(checkout, tmp_path, overlay, words):
    path = tmp_path / "overlay.yaml"
    path.write_text(overlay)
    run = snakemake(checkout, "-n", "results/fig14.pdf", "--configfile", str(path))
    assert run.returncode != 0
    said = run.stdout + run.stderr
    assert "Job stats" not in said
    for word in words:
        assert word in said, said


def test_own_derivatives_skip_download_and_preprocessing(checkout, derivatives):
    own = f"fmri_derivatives={derivatives}"
    run = snakemake(checkout, "results/fig14.pdf", "-n", "--config", own)
    jobs = planned(run)
    assert not {"fmriprep", "fmriprep_image"} & jobs.keys()
    assert jobs["parcel_signals"] == 17 * 2
    assert jobs["published_signals"] == 12  # the cohort's: there are no raw images of these people
    said = run.stdout + run.stderr
    assert "resources/ds003171" not in said
    assert f"Figure 14: your derivatives in {derivatives}" in run.stderr
    inputs = re.findall(r"rule parcel_signals:\n    input: (.*)", said)
    assert all(line.count("_desc-preproc_bold.nii.gz") == 4 for line in inputs)


def test_a_run_that_the_derivatives_lack_is_named_at_the_start(checkout, tmp_path, subjects):
    folder = make_derivatives(tmp_path, subjects, missing=["sub-16RA_task-restdeep", "19AK_task-"])
    own = f"fmri_derivatives={folder}"
    run = snakemake(checkout, "-n", "results/fig14.pdf", "--config", own)
    assert run.returncode != 0
    said = run.stdout + run.stderr
    assert "sub-16RA: rest, deep" in said
    assert said.count("sub-19AK: rest, ") == 4
    assert "sub-02CB" not in said


def test_the_laptop_simulates_a_cohort_through_the_same_rules(checkout, section):
    run = snakemake(checkout, "-n", "results/fig14.pdf")
    jobs = planned(run)
    people = len(section["people"])
    assert jobs["fetch"] == 2  # connectomes and their atlas
    for rule in ("connectome", "brain_model", "virtual_subject", "cohort_signals", "in_silico"):
        assert jobs[rule] == people
    assert not {"fmriprep", "parcel_signals"} & jobs.keys()
    assert "Figure 14: simulated recordings." in run.stderr
    assert "snakemake results/paper/fig14.pdf --config scale=paper" in run.stderr
    assert "--config fmri_derivatives=PATH" in run.stderr


def test_fewer_people_are_downloaded_if_fewer_are_asked_for(tmp_path, subjects):
    folder = copy_checkout(tmp_path / "checkout")
    (folder / "Snakefile").open("a").write("\nprint(part_of('ds003171'), file=sys.stderr)\n")
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("fmri: {datasets: {recordings: {subjects: [02CB, 10JR]}}}")
    run = snakemake(folder, *PAPER, "--configfile", str(overlay))
    assert planned(run)["fmriprep"] == 2
    patterns = re.search(r"^\[.*\]$", run.stderr, re.M)[0]
    assert re.findall(r"sub-(\w+)/\*", patterns) == ["02CB", "10JR"]
    assert Path("dataset_description.json").name in patterns


APPTAINER = """#!/bin/sh
if [ "$1" = pull ]; then echo image > "$3"; exit; fi
out=$(printf "%s\\n" "$@" | sed -n "s/:.out$//p")/sub-02CB/func
mkdir -p $out
for state in awake light deep recovery; do
    run=sub-02CB_task-rest${state}_run-01
    space=space-MNI152NLin2009cAsym_res-2_desc
    touch $out/${run}_${space}-preproc_bold.nii.gz $out/${run}_${space}-brain_mask.nii.gz
    touch $out/${run}_desc-confounds_timeseries.tsv
done
"""


def test_one_person_goes_through_the_container(tmp_path):
    """A stand-in for apptainer leaves the files that fMRIPrep would; the rule finds them all."""
    folder = copy_checkout(tmp_path / "checkout")
    data = folder / "resources/ds003171"
    raw = [f"func/sub-02CB_task-rest{state}_run-01_bold.nii.gz" for state in STATES]
    for name in (*raw, "anat/sub-02CB_acq-MPRAGE_run-01_T1w.nii.gz"):
        (data / "sub-02CB" / name).parent.mkdir(parents=True, exist_ok=True)
        (data / "sub-02CB" / name).write_bytes(b"x")
    write_receipt(data / "receipt.json", name="ds003171", kind="openneuro", evidence="real")
    program = tmp_path / "bin/apptainer"
    program.parent.mkdir()
    program.write_text(APPTAINER)
    program.chmod(0o755)
    (folder / "license.txt").touch()
    (folder / "my.yaml").write_text("fmri: {fmriprep: {licence: license.txt}}")
    target = "results/paper/fmri/fmriprep/sub-02CB.provenance.json"
    own = ["--config", "scale=paper", "--configfile", "my.yaml"]
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    run = snakemake(folder, target, *own, PATH=path)
    assert run.returncode == 0, run.stderr[-3000:]
    images = (folder / target).parent.glob("sub-02CB/func/*_desc-preproc_bold.nii.gz")
    assert len(list(images)) == 4
    record = json.loads((folder / target).read_text())
    assert any(name.endswith(".sif") for name in record["inputs"])
    assert not (folder / "results/paper/fmri/unfinished/sub-02CB").exists()
