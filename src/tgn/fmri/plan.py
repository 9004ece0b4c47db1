"""What figure 14 is made from: data sets, their subjects, and what must be there before a start.

The section ``fmri`` of the configuration names three data sets: ``cohort`` (simulated, one virtual
subject for each person whose connectome there is), ``recordings`` (ds003171, or a user's own folder
of fMRIPrep derivatives), and at the smoke scale ``fixture``. An atlas belongs to one of them, so
that a path with an atlas and a subject says whose signals it holds.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tgn.fmri import bids

COHORT, RECORDINGS = "cohort", "recordings"
LICENCE = "https://surfer.nmr.mgh.harvard.edu/registration.html"
RUNTIMES = ("apptainer", "singularity")

Section = Mapping[str, Any]


def shown(section: Section, derivatives: str | None) -> str:
    """The data set that the figure is about: a user's own derivatives come first.

    >>> shown({"shown": "cohort"}, None), shown({"shown": "cohort"}, "/data/derivatives")
    ('cohort', 'recordings')
    """
    return RECORDINGS if derivatives else str(section["shown"])


def people(section: Section) -> dict[str, str]:
    """Virtual subject to the person whose connectome drives it.

    >>> people({"people": ["101309", "NAP_001"]})
    {'01': '101309', '02': 'NAP_001'}
    """
    return {f"{number:02d}": name for number, name in enumerate(section["people"], 1)}


def subjects(section: Section, dataset: str) -> list[str]:
    """Labels without ``sub-``."""
    if dataset == COHORT:
        return list(people(section))
    return list(section["datasets"][dataset]["subjects"])


def dataset_of(section: Section, atlas: str) -> str:
    """The data set that an atlas is laid over.

    Raises
    ------
    ValueError
        If no data set has the atlas.
    """
    for name, dataset in section["datasets"].items():
        if atlas in dataset["atlases"]:
            return str(name)
    known = [atlas for dataset in section["datasets"].values() for atlas in dataset["atlases"]]
    raise ValueError(f"no data set of fmri.datasets has the atlas {atlas!r}; {', '.join(known)}")


def datasets_in_use(section: Section, derivatives: str | None) -> list[str]:
    """The data set shown, and the cohort on which the method is judged."""
    first = shown(section, derivatives)
    return [first, COHORT] if section["validation"] and first != COHORT else [first]


def sources_in_use(section: Section, derivatives: str | None) -> list[str]:
    """Entries of the registry of sources that are read."""
    found = set(section["connectomes"].values())
    for name in datasets_in_use(section, derivatives):
        dataset = section["datasets"][name]
        found |= {*dataset["atlases"], dataset["source"]}
        if name == RECORDINGS and derivatives:
            found.discard(dataset["source"])
    return sorted(found)


def arms(section: Section, dataset: str, derivatives: str | None) -> list[str]:
    """Ways to clean the signals: as published needs raw images, the truth needs a simulation."""
    found = list(section["arms"])
    if derivatives and dataset == RECORDINGS:
        found = [arm for arm in found if arm != "as_published"]
    return [*found, "truth"] if dataset == COHORT else found


def check(section: Section, derivatives: str | None, sources: Collection[str]) -> None:
    """Find wrong names and paths before anything is downloaded.

    Raises
    ------
    ValueError
        If a name is unknown, or what is asked for does not fit together.
    FileNotFoundError
        If a path that is given does not exist, or a folder of derivatives lacks runs.
    """
    datasets = section["datasets"]
    if section["shown"] not in datasets:
        known = ", ".join(datasets)
        raise ValueError(f"fmri.shown: {section['shown']!r} given; fmri.datasets has {known}")
    named = {f"fmri.connectomes.{key}": [name] for key, name in section["connectomes"].items()}
    owners: dict[str, str] = {}
    for name, dataset in datasets.items():
        where = f"fmri.datasets.{name}"
        named[f"{where}.source"] = [dataset["source"]]
        named[f"{where}.atlases"] = dataset["atlases"]
        for atlas in dataset["atlases"]:
            if owners.setdefault(atlas, name) != name:
                raise ValueError(f"{where}.atlases: {atlas} is an atlas of {owners[atlas]} already")
        if (longest := max(section["ranks"]["windows"])) > dataset["volumes"]:
            raise ValueError(
                f"fmri.ranks.windows: {longest} given; a run of {where} has {dataset['volumes']} "
                "volumes"
            )
    for key, names in named.items():
        if unknown := [name for name in names if name not in sources]:
            known = ", ".join(sources)
            raise ValueError(f"{key}: {', '.join(unknown)} given; config/sources.yaml has {known}")
    if (arm := section["arms"][0]) != "default":
        raise ValueError(f"fmri.arms: {arm} given first; `default` decides the claims")
    _check_paths(section["fmriprep"])
    if derivatives:
        _check_derivatives(section, derivatives)


def _check_paths(fmriprep: Section) -> None:
    licence, container = fmriprep["licence"], fmriprep["container"]
    if licence and not Path(licence).is_file():
        raise FileNotFoundError(
            f"fmri.fmriprep.licence: no file {licence}; the FreeSurfer licence is free: {LICENCE}"
        )
    if "://" not in container and not Path(container).is_file():
        raise FileNotFoundError(
            f"fmri.fmriprep.container: no file {container}; give an image file, or an address as "
            "docker://nipreps/fmriprep@sha256:..."
        )


def _check_derivatives(section: Section, derivatives: str) -> None:
    """Every run must be there, under the name that fMRIPrep gives it."""
    dataset = section["datasets"][RECORDINGS]
    try:
        bids.index(
            derivatives,
            subjects=dataset["subjects"],
            task=dataset["task"],
            states=list(section["states"]),
            space=dataset["space"],
        )
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(
            f"fmri_derivatives: {error}\n(subjects and space: fmri.datasets.{RECORDINGS})"
        ) from None


def lacking(section: Section) -> list[str]:
    """What fMRIPrep needs and is not there, each with what to do."""
    fmriprep = section["fmriprep"]
    found = []
    if not fmriprep["licence"]:
        found.append(
            "a FreeSurfer licence file: set fmri.fmriprep.licence to its path (free, from "
            f"{LICENCE})"
        )
    if "://" in fmriprep["container"] and not any(map(shutil.which, RUNTIMES)):
        found.append(
            f"{' or '.join(RUNTIMES)} on this machine, to fetch {fmriprep['container']}: install "
            "or load it, or set fmri.fmriprep.container to the path of an image file"
        )
    return found
