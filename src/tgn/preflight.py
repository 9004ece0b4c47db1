"""What a scale stands on, and what this machine lacks for it, before the first job is submitted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tgn import config as configuration
from tgn import sources
from tgn.fmri import plan as fmri_plan

PACKAGES = ("tgn", "torch", "transformers", "snakemake")
SLURM_TOOLS = ("sbatch", "squeue", "scancel")
SLURM_PLUGIN = "snakemake-executor-plugin-slurm"
KERNELS = {  # and who needs them
    "mamba-ssm": "models with a Mamba mixer need it on GPUs",
    "causal-conv1d": "mamba-ssm imports it",
}
GPU_SECTIONS = (
    "temperature", "rank_dynamics", "language_model", "gravity", "recall", "recall_tasks",
    "constraints", "bridge",
)  # fmt: skip
TRAINED = ("language_model", "convergence", "recall", "recall_tasks")
FMRIPREP_GB = 30  # a person, while fMRIPrep runs
RESULTS_GB = {"laptop": 1.0, "smoke": 0.1}  # measured; the paper's follow from its trainings
ENVIRONMENTS = {"conda": ("conda",), "apptainer": ("apptainer", "singularity")}  # any of these
ASKED = 10  # seconds that a command may take to answer
GB = 1e9


class Finding(NamedTuple):
    """A line of the report; with ``lacks`` something that is needed is not there."""

    part: str
    said: str
    lacks: bool = False


def sources_in_use(config: Mapping[str, Any], models: Mapping[str, Any]) -> list[str]:
    """Entries of the registry of sources that a complete configuration reads.

    Parameters
    ----------
    models
        Content of ``config/models.yaml``.
    """
    named = [
        name
        for section in ("temperature", "rank_dynamics", "scaling", "constraints")
        for name in config[section]["models"]
    ]
    found = {models[name]["source"] for name in named}
    found |= {config[section]["corpus"] for section in ("temperature", "rank_dynamics")}
    for section in ("language_model", "gravity"):
        text = config[section]["text"] or {}
        found |= {text.get(key) for key in ("corpus", "source", "tokenizer")}
    found |= set(fmri_plan.sources_in_use(config["fmri"], config["fmri_derivatives"]))
    return sorted((found | {"edwards-anderson"}) - {None, "char"})


def machine() -> Iterator[Finding]:
    """What every scale needs: packages, and git for the revision that results are labelled with."""
    for package in PACKAGES:
        found = _version(package)
        yield Finding(package, found or "missing: pip install -r requirements.lock", not found)
    git = shutil.which("git")
    yield Finding(
        "git", git or "missing: results could not name the revision that made them", not git
    )


def scale(
    config: Mapping[str, Any], root: Path, resources: Path, profile: Mapping[str, Any] | None = None
) -> Iterator[Finding]:
    """What a scale needs beyond that, on this machine or through the profile of a cluster.

    Parameters
    ----------
    config
        Complete configuration.
    root
        The project's folder.
    resources
        Where downloads are kept.
    profile
        Content of a Snakemake profile; None: jobs run on this machine.
    """
    slurm = profile is not None and profile.get("executor") == "slurm"
    if profile is not None:
        yield from _profile(profile)
    yield from _gpus(config, slurm)
    yield from _fmriprep(config)
    yield from _space(config, root, resources)


def _profile(profile: Mapping[str, Any]) -> Iterator[Finding]:
    """Programs that a profile has Snakemake call, and what a site must edit."""
    if profile.get("executor") == "slurm":
        for tool in SLURM_TOOLS:
            found = shutil.which(tool)
            yield Finding(
                tool, found or "missing: submit from a login node of the cluster", not found
            )
        plugin = _version(SLURM_PLUGIN)
        yield Finding("SLURM plugin", plugin or f"missing: pip install {SLURM_PLUGIN}", not plugin)
        if (profile.get("default-resources") or {}).get("slurm_account") == "default":
            said = "`default`: set slurm_account in the profile if your site books hours"
            yield Finding("account", said)
    methods = profile.get("software-deployment-method") or []
    for method in [methods] if isinstance(methods, str) else methods:
        names = ENVIRONMENTS.get(method, (method,))
        found = next(filter(None, map(shutil.which, names)), None)
        said = found or f"missing: the profile's software-deployment-method is {method}"
        yield Finding(names[0], said, not found)


def _gpus(config: Mapping[str, Any], slurm: bool) -> Iterator[Finding]:
    """GPUs against those asked for, the build of torch, and kernels that models need on GPUs."""
    asked = max(config[section]["gpus"] for section in GPU_SECTIONS)
    asked = max(asked, config["constraints"]["family"]["gpus"])
    if _version("torch") is None:
        return
    import torch  # slow to import

    there, needed = torch.cuda.device_count(), asked and config["require_gpus"]
    said = torch.cuda.get_device_name() if there else "CPU only"
    if not asked:
        yield Finding("device", said)
        return
    build = torch.version.cuda or torch.version.hip
    remedy = "a build for CPUs: install the one for your GPUs, see https://pytorch.org"
    yield Finding(
        "torch build", f"CUDA or HIP {build}" if build else remedy, bool(needed and not build)
    )
    if slurm:
        yield Finding("device", f"{said} here; jobs ask SLURM for up to {asked} GPUs each")
    else:
        said = f"{said}: {there} GPUs, and jobs ask for up to {asked}"
        if there < asked:
            said += ": --profile profiles/slurm, other `gpus`, or require_gpus=False for CPUs"
        yield Finding("device", said, bool(needed and there < asked))
    if '"mamba"' in json.dumps([config[section] for section in TRAINED]):
        for package, who in KERNELS.items():
            found = _version(package)
            missing = f"missing, and {who}: docs/cluster.md"
            yield Finding(package, found or missing, bool(needed and not found))


def _fmriprep(config: Mapping[str, Any]) -> Iterator[Finding]:
    """A container runtime and FreeSurfer's licence, if this scale preprocesses recordings."""
    runtime = next(filter(None, map(shutil.which, fmri_plan.RUNTIMES)), None)
    if fmri_plan.shown(config["fmri"], config["fmri_derivatives"]) != fmri_plan.RECORDINGS:
        yield Finding("containers", runtime or "none, which only fMRIPrep needs: docs/fmri.md")
        return
    if config["fmri_derivatives"]:
        yield Finding("containers", "not needed: figure 14 reads your derivatives")
        return
    yield Finding("containers", runtime or "no apptainer or singularity found")
    licence = config["fmri"]["fmriprep"]["licence"]
    if licence:
        yield Finding("licence", f"FreeSurfer's at {licence}", not Path(licence).is_file())
    for what in fmri_plan.lacking(config["fmri"]):
        yield Finding("fMRIPrep", f"lacks {what}", True)


def _space(config: Mapping[str, Any], root: Path, resources: Path) -> Iterator[Finding]:
    """Free disk, and the user's quota, against what is still to be downloaded and computed."""
    registry = sources.load_registry(root / "config/sources.yaml")
    models = configuration.read_yaml(root / "config/models.yaml")
    lacking = [
        registry[name].get("bytes", 0)
        for name in sources_in_use(config, models)
        if not (resources / name / sources.RECEIPT).is_file()
    ]
    results = _results(config)
    needed = sum(lacking) + results
    home = next(path for path in (resources, *resources.resolve().parents) if path.exists())
    free = shutil.disk_usage(home).free
    yield Finding(
        "disk",
        f"{free / GB:.0f} GB free at {home}; {config['scale']} needs about {needed / GB:.1f}: "
        f"{sum(lacking) / GB:.1f} of downloads, {results / GB:.1f} of results",
        free < needed,
    )
    yield from _quota(home, needed)


def _results(config: Mapping[str, Any]) -> float:
    """Bytes that results take at most, states of unfinished runs included."""
    known = RESULTS_GB.get(config["scale"])
    if known is not None or _version("torch") is None:
        return (known or 0) * GB
    from tgn.training.allocation import allocations

    trained = sum(
        a.runs * (a.weights + a.checkpoint) for a in allocations(config, activations=False)
    )
    people = 0
    if (
        fmri_plan.shown(config["fmri"], None) == fmri_plan.RECORDINGS
        and not config["fmri_derivatives"]
    ):
        people = len(fmri_plan.subjects(config["fmri"], fmri_plan.RECORDINGS))
    return trained + people * FMRIPREP_GB * GB


def _quota(folder: Path, needed: float) -> Iterator[Finding]:
    """What the user may still write where ``quota`` knows the file system of a folder."""
    if not shutil.which("quota"):
        return
    command = ["quota", "--no-wrap", "--raw-grace"]
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=ASKED,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding("quota", f"could not be asked: {error}")
        return
    mounts = [
        p for p in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(p.mountpoint)
    ]
    device = max(mounts, key=lambda part: len(part.mountpoint)).device if mounts else None
    for line in answer.stdout.splitlines():
        # file system, blocks of 1 kB (with * where there are too many), soft and hard limit, ...
        name, *columns = line.split()
        numbers = [column.rstrip("*") for column in columns[:3]]
        if name != device or len(numbers) < 3 or not all(n.isdecimal() for n in numbers):
            continue
        used, soft, hard = (1024 * int(number) for number in numbers)
        limit = soft or hard
        if limit:
            left = limit - used
            said = f"{left / GB:.1f} of {limit / GB:.1f} GB left on {name}"
            yield Finding("quota", said, left < needed)
            return
    yield Finding("quota", f"none on the file system of {folder}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
