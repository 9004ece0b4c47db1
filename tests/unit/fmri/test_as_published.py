"""The published arm takes any image as it is, and still loses nothing in silence."""

import json

import nibabel as nib
import numpy as np
import pytest
from nilearn.maskers import NiftiLabelsMasker

from tgn.fmri import as_published, bids, derivatives

STATES = ("awake", "light", "deep", "recovery")
SPACE = "MNI152NLin2009cAsym"


@pytest.fixture
def extract_as_published(tmp_path):
    def run(data, **changes):
        arguments = {
            "root": data.root,
            "subject": "01",
            "atlas": data.atlas,
            "signals": tmp_path / "signals.npz",
            "report": tmp_path / "report.json",
            "task": "rest",
            "states": STATES,
            "tr": 2.0,
            "space": SPACE,
        } | changes
        as_published.extract_subject(**arguments)
        return dict(np.load(arguments["signals"])), json.loads(arguments["report"].read_text())

    return run


@pytest.fixture
def raw(made, tmp_path):
    """The same images under the names of a raw data set, in a scanner's space of its own."""
    for state in STATES:
        image = nib.load(made.bold(state))
        tilt = np.deg2rad(12)
        turn = np.array(
            [[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]]
        )
        affine = nib.affines.from_matvec(turn, [6, -25, 30]) @ image.affine
        path = tmp_path / f"raw/sub-01/func/sub-01_task-rest{state}_run-01_bold.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32), affine), path)
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text("{}")
    return made._replace(root=tmp_path / "raw")


def test_it_is_the_labels_masker_with_standardisation_and_nothing_else(made, extract_as_published):
    signals, report = extract_as_published(made)
    masker = NiftiLabelsMasker(
        made.regions.image, standardize="zscore_sample", resampling_target="data", reports=False
    )
    for state in STATES:
        with derivatives._cheap_collection():
            expected = masker.fit_transform(nib.load(made.bold(state)))
        np.testing.assert_allclose(signals[state], expected, atol=1e-4)
        assert signals[f"{state}_kept"].tolist() == [120, 120]
        assert signals[f"{state}_fd"] > 0
    assert report["excluded"] is None


def test_images_in_the_scanners_space_are_taken_here_only(raw, extract, extract_as_published):
    with pytest.raises(ValueError, match="not in the same anatomy"):
        extract(raw)
    signals, report = extract_as_published(raw, space=None)
    assert report["space"] == "as scanned"
    assert np.isnan(signals["deep_fd"])  # nothing known about motion
    assert len({signals[state].shape for state in STATES}) == 1


def test_regions_off_an_image_are_counted_and_left_out_of_all_runs(raw, extract_as_published):
    run = bids.index(raw.root, subjects=["01"], space=None)["01"]["deep"]
    image = nib.load(run.image)
    cut = image.slicer[:, 7:]  # the back of the head is out of the field of view
    nib.save(cut, run.image)
    signals, report = extract_as_published(raw, space=None)
    runs = report["runs"]
    assert runs["deep"]["parcels_as_published"] < runs["awake"]["parcels_as_published"]
    assert all("deep" in reason for reason in report["parcels"]["missing"].values())
    widths = {signals[state].shape[1] for state in STATES}
    assert widths == {len(signals["parcels"])} == {report["parcels"]["present"]}


def test_missing_and_damaged_runs_are_errors(raw, extract_as_published):
    path = bids.index(raw.root, subjects=["01"], space=None)["01"]["deep"].image
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"restdeep.*cut short"):
        extract_as_published(raw, space=None)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="rest, deep"):
        extract_as_published(raw, space=None)
