"""A small recorded data set with planted ranks, and its atlas, made once a session."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from tgn import sources
from tgn.fmri import cohort
from tgn.fmri.atlas import Atlas

CLEANING = {
    "motion": "full",
    "wm_csf": "basic",
    "fd_mm": 0.5,
    "std_dvars": 1.5,
    "min_segment": 5,
    "band_hz": [0.01, 0.1],
}
CHECKS = {"min_overlap": 0.75, "min_coverage": 0.5, "min_volumes": 60, "min_states": 2}


class DataSet(NamedTuple):
    root: Path
    atlas: Path  # receipt
    regions: Atlas

    def file(self, pattern: str) -> Path:
        """The one file of sub-01 whose name fits."""
        (found,) = (self.root / "sub-01" / "func").glob(pattern)
        return found

    def bold(self, state: str) -> Path:
        return self.file(f"*_task-rest{state}_*_desc-preproc_bold.nii.gz")

    def mask(self, state: str) -> Path:
        return self.file(f"*_task-rest{state}_*_desc-brain_mask.nii.gz")

    def confounds(self, state: str) -> Path:
        return self.file(f"*_task-rest{state}_*_desc-confounds_timeseries.tsv")


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bids")
    regions = cohort.fixture_atlas(folder / "atlas")
    receipt = folder / "atlas" / sources.RECEIPT
    sources.write_receipt(receipt, name="toy", kind="fixture", evidence="simulated")
    cohort.fixture(folder / "derivatives", atlas=regions, seed=3)
    return DataSet(folder / "derivatives", receipt, regions)


@pytest.fixture
def data_set(made, tmp_path):
    """A copy that a test may damage."""
    root = tmp_path / "derivatives"
    shutil.copytree(made.root, root)
    return made._replace(root=root)


@pytest.fixture
def extract(tmp_path):
    """Run the step on sub-01 and return its signals by arm and its report."""
    import json

    import numpy as np

    from tgn.fmri import derivatives

    def run(data, **changes):
        signals = {arm: tmp_path / f"{arm}.npz" for arm in ("default", "gsr")}
        arguments = {
            "root": data.root,
            "subject": "01",
            "atlas": data.atlas,
            "signals": signals,
            "report": tmp_path / "report.json",
            "task": "rest",
            "states": ("awake", "light", "deep", "recovery"),
            "space": "MNI152NLin2009cAsym",
            "tr": 2.0,
            "volumes": 120,
            "cleaning": CLEANING,
            "checks": CHECKS,
        } | changes
        derivatives.extract_subject(**arguments)
        loaded = {arm: dict(np.load(path)) for arm, path in arguments["signals"].items()}
        return loaded, json.loads(arguments["report"].read_text())

    return run
