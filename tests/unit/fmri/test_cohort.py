"""The simulated recordings: names, bytes, physics, and that the signals can be had back."""

import gzip
import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgn.files import digest
from tgn.fmri import bids, cohort, derivatives
from tgn.fmri.cohort import Recording
from tgn.fmri.connectomes import Connectome

SPACE = "MNI152NLin2009cAsym"


@pytest.fixture(scope="module")
def anatomy(made):
    return cohort.build_anatomy(made.regions, list(made.regions.names), 12.0)


@pytest.fixture
def still():
    return np.zeros((100, 6))


def quiet(**changes):
    """A recording without any disturbance but those asked for."""
    names = ("noise", "drift", "physiology", "respiration", "leak", "drop")
    return Recording(**{**dict.fromkeys(names, 0.0), **changes})


# --- files ----------------------------------------------------------------------------------------


def test_same_seed_same_bytes(made, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        cohort.fixture(tmp_path / name, atlas=made.regions, seed=seed, subjects=["06"], volumes=40)

    def checksums(name):
        paths = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        return {path.relative_to(tmp_path / name): digest(path) for path in paths}

    assert checksums("a") == checksums("b")
    assert checksums("a").keys() == checksums("c").keys()
    bold = next(path for path in checksums("a") if path.name.endswith("preproc_bold.nii.gz"))
    assert checksums("a")[bold] != checksums("c")[bold]


def test_list_of_files_is_true_and_complete(made):
    for subject in ("01", "06"):
        content = json.loads((made.root / f"sub-{subject}_files.json").read_text())
        listed = {entry["path"] for entry in content["files"]}
        found = {
            p.relative_to(made.root).as_posix() for p in made.root.rglob(f"sub-{subject}/**/*")
        }
        assert listed == {p for p in found if "." in p} | {"dataset_description.json"}
        for entry in content["files"]:
            assert digest(made.root / entry["path"]) == entry["sha256"]
            assert (made.root / entry["path"]).stat().st_size == entry["bytes"]
        assert content["evidence"] == "simulated"


def test_list_of_files_comes_last(made, tmp_path, monkeypatch):
    def full_disk(*args, **options):
        raise OSError("No space left on device")

    monkeypatch.setattr(cohort.pd.DataFrame, "to_csv", full_disk)
    with pytest.raises(OSError, match="No space"):
        cohort.fixture(tmp_path, atlas=made.regions, seed=1, subjects=["01"], volumes=30)
    assert not list(tmp_path.glob("*_files.json"))
    assert not list(tmp_path.rglob(".*"))  # no temporary file stays


def test_the_odd_run_is_where_it_is_expected(made):
    found = bids.index(made.root, subjects=["06"], task="audio", states=["awake"], space=SPACE)
    assert nib.load(found["06"]["awake"].image).shape[3] == 60
    with pytest.raises(FileNotFoundError):
        bids.index(made.root, subjects=["01"], task="audio", states=["awake"], space=SPACE)


def test_data_set_says_what_it_is(made):
    content = json.loads((made.root / "dataset_description.json").read_text())
    assert content["DatasetType"] == "derivative"
    assert "simulated" in content["GeneratedBy"][0]["Description"]


def test_image_on_disk(made):
    image = nib.load(made.bold("deep"))
    assert image.get_data_dtype() == np.int16
    assert image.header.get_zooms() == (12.0, 12.0, 12.0, 2.0)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 4
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)
    slope, _ = np.asarray(gzip_floats(made.bold("deep"), 112, 2))
    assert slope < 0.2  # of an intensity of 1000, whose noise is 10


def gzip_floats(path, offset, count):
    return np.frombuffer(gzip.decompress(path.read_bytes()), "<f4", count, offset)


# --- anatomy and names ----------------------------------------------------------------------------


def test_tissues_part_the_brain(anatomy, made):
    regions = anatomy.labels != 0
    assert not (anatomy.white & anatomy.fluid).any()
    np.testing.assert_array_equal(anatomy.brain, regions | anatomy.white | anatomy.fluid)
    assert not (regions & (anatomy.white | anatomy.fluid)).any()
    assert set(np.unique(anatomy.labels)) == {0, *made.regions.names}
    assert anatomy.white.sum() > 3
    assert anatomy.fluid.sum() > 3


def test_regions_without_a_signal_are_out_of_view_and_listed(made, tmp_path):
    labels = np.arange(1, 15)
    signals = cohort.planted({"awake": 0.0}, 14, 30, np.random.default_rng(0))
    cohort.write_subject(
        tmp_path,
        "01",
        signals,
        labels,
        atlas=made.regions,
        recording=quiet(volumes=30, noise=0.01),
        seed=1,
        files=tmp_path / "files.json",
        made_from="a test",
    )
    content = json.loads((tmp_path / "files.json").read_text())
    assert content["regions_without_signal"] == [made.regions.names[15], made.regions.names[16]]
    seen = cohort.build_anatomy(made.regions, labels, 12.0)
    assert set(np.unique(seen.labels)) == {0, *labels}
    full = cohort.build_anatomy(made.regions, list(made.regions.names), 12.0)
    assert not (seen.brain & (full.labels > 14)).any()


def test_regions_are_matched_by_name_in_whatever_order(made):
    names = list(made.regions.names.values())
    regions = ["Elsewhere_L", *names[::-1]]
    signals = {"awake": np.arange(17.0)[None] * np.ones((5, 1))}
    labels, matched = cohort.match_regions(signals, regions, made.regions)
    assert labels.tolist() == list(made.regions.names)
    assert matched["awake"][0].tolist() == list(range(16, 0, -1))


def test_no_common_names(made):
    with pytest.raises(ValueError, match="share 0 names"):
        cohort.match_regions({}, ["V1", "V2"], made.regions)


# --- motion and confounds -------------------------------------------------------------------------


def test_framewise_displacement_by_hand():
    motion = np.zeros((3, 6))
    motion[1] = [0.1, -0.2, 0.3, 0.002, 0, -0.004]
    np.testing.assert_allclose(cohort.framewise_displacement(motion), [np.nan, 0.9, 0.9])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 3.0))
def test_displacement_scales_with_motion_and_ignores_position(seed, factor):
    motion = cohort.head_motion(40, 0.1, 1.0, np.random.default_rng(seed))
    plain = cohort.framewise_displacement(motion)
    np.testing.assert_allclose(cohort.framewise_displacement(factor * motion + 5), factor * plain)


def test_more_spikes_more_displacement():
    calm, restless = (
        np.nanmean(
            cohort.framewise_displacement(
                cohort.head_motion(4000, spikes, 1.0, np.random.default_rng(1))
            )
        )
        for spikes in (0.0, 0.05)
    )
    assert 0.05 < calm < 0.3
    assert restless > 1.3 * calm


def test_standardised_dvars_of_noise_is_one_and_a_jump_stands_out():
    image = 100 + np.random.default_rng(2).standard_normal((2000, 80))
    image[:, 40:] += 5
    raw, standard = cohort.dvars(image)
    assert np.isnan(raw[0])
    assert standard[40] > 2
    plain = np.delete(raw, [0, 40])
    np.testing.assert_allclose(plain, np.sqrt(2), rtol=0.1)
    _, quiet_ones = cohort.dvars(np.random.default_rng(3).standard_normal((2000, 80)))
    np.testing.assert_allclose(quiet_ones[1:], 1, rtol=0.1)


def test_cosines_are_orthonormal_and_slow():
    basis = cohort.cosines(256, 2.0)
    assert len(basis) == 8  # 512 s, half periods down to 64 s
    np.testing.assert_allclose(basis @ basis.T, np.eye(8), atol=1e-12)


def test_confounds_are_those_of_the_image(made):
    run = bids.index(made.root, subjects=["01"], space=SPACE)["01"]["light"]
    table = pd.read_csv(run.confounds, sep="\t")
    image = nib.load(run.image).get_fdata()
    brain = nib.load(run.mask).get_fdata() > 0
    np.testing.assert_allclose(table["global_signal"], image[brain].mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(
        table["trans_x_derivative1"][1:], np.diff(table["trans_x"]), atol=1e-6
    )
    np.testing.assert_allclose(table["rot_z_power2"], table["rot_z"] ** 2, atol=1e-9)
    assert table["csf_derivative1"].isna().tolist() == [True] + [False] * 119


# --- painting -------------------------------------------------------------------------------------


def means(image, anatomy):
    labels = anatomy.labels[anatomy.brain]
    return np.stack(
        [image[labels == label].mean(axis=0) for label in np.unique(labels[labels > 0])]
    )


def test_without_disturbance_every_voxel_has_its_regions_signal(anatomy, still):
    signals = np.random.default_rng(0).standard_normal((100, 16)) * np.linspace(1, 3, 16)
    image = cohort.paint(
        signals, np.arange(1, 17), still, anatomy, quiet(), np.random.default_rng(1)
    )
    labels = anatomy.labels[anatomy.brain]
    column = image[labels == 5]
    np.testing.assert_allclose(column, np.broadcast_to(column[0], column.shape), rtol=1e-6)
    change = means(image, anatomy) / 1000 - 1
    centred = signals - signals.mean(axis=0)
    np.testing.assert_allclose(change, 0.01 * centred.T / centred.std(), atol=1e-5)


def test_amplitudes_of_disturbances(anatomy, still):
    nothing = np.random.default_rng(0).standard_normal((100, 16))
    labels = np.arange(1, 17)

    def spread(**changes):
        recording = quiet(signal=0.0, **changes)
        image = cohort.paint(nothing, labels, still, anatomy, recording, np.random.default_rng(1))
        return (image[anatomy.labels[anatomy.brain] > 0] / 1000).std()

    assert spread() < 1e-7
    assert spread(noise=0.02) == pytest.approx(0.02, rel=0.02)
    assert spread(respiration=0.003) == pytest.approx(0.003, rel=0.3)  # one series of AR(1)
    assert 0.3 < spread(drift=0.01) / 0.01 < 1
    assert 0.3 < spread(physiology=0.01) / 0.01 < 1.5


def test_motion_moves_edges_and_dims_the_head(anatomy):
    motion = np.zeros((100, 6))
    motion[50, 0] = 2.0  # mm to the right
    nothing = np.random.default_rng(0).standard_normal((100, 16))
    changes = {}
    for name, recording in (
        ("leak", quiet(signal=0.0, leak=1.0)),
        ("drop", quiet(signal=0.0, drop=0.01)),
    ):
        image = cohort.paint(
            nothing, np.arange(1, 17), motion, anatomy, recording, np.random.default_rng(1)
        )
        changes[name] = image[:, 50] - image[:, 0]
    np.testing.assert_allclose(changes["drop"], -0.02 * image[:, 0], rtol=1e-4)
    moved = np.zeros(anatomy.brain.shape)
    moved[anatomy.brain] = changes["leak"]
    places = nib.affines.apply_affine(anatomy.affine, np.argwhere(anatomy.brain))
    # The head's right edge gets brighter, its left edge darker, when the head goes right.
    assert changes["leak"][places[:, 0] > 45].mean() > 20
    assert changes["leak"][places[:, 0] < -45].mean() < -20
    assert abs(changes["leak"].sum()) < 0.02 * np.abs(changes["leak"]).sum()


def test_signals_come_back_through_the_default_recording(anatomy):
    rng = np.random.default_rng(4)
    signals = cohort.planted({"x": 0.2}, 16, 200, rng)["x"]
    motion = cohort.head_motion(200, 0.0, 1.0, rng)
    image = cohort.paint(signals, np.arange(1, 17), motion, anatomy, Recording(), rng)
    across = np.corrcoef(means(image, anatomy), signals.T)[:16, 16:]
    assert np.diag(across).min() > 0.5
    assert np.diag(across).mean() > 0.7


@settings(max_examples=20, deadline=None)
@given(st.floats(0.0, 1.0), st.integers(0, 2**31))
def test_planted_signals_have_unit_variance_and_the_share_asked_for(share, seed):
    values = cohort.planted({"x": share}, 40, 2000, np.random.default_rng(seed))["x"]
    assert values.var() == pytest.approx(1, abs=0.2)
    off = np.corrcoef(values.T)[np.triu_indices(40, 1)]
    assert off.mean() == pytest.approx(share, abs=0.1)


# --- the whole way --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:From release 0.14.0, confounds:DeprecationWarning")
def test_model_to_images_to_signals(made, tmp_path):
    """A model whose regions decouple: the pipeline finds the order of the true ranks."""
    rng = np.random.default_rng(7)
    weights = rng.random((16, 16))
    weights = (weights + weights.T) * (1 - np.eye(16))
    weights /= np.linalg.eigvalsh(weights).max()
    names = list(made.regions.names.values())[::-1]
    person = Connectome(
        person="p",
        dataset="hcp",
        sc=weights,
        lengths=np.zeros((16, 16)),
        bold=np.zeros((2, 16), dtype=np.float32),
        tr=2.0,
        regions=np.array(names),
        labels=np.arange(16, 0, -1),
    )
    np.savez(tmp_path / "connectome.npz", **person._asdict())
    fitted = {
        "frequencies": [0.05] * 16,
        "parameters": {"coupling": 2.0, "bifurcation": -0.02, "noise": 0.02},
    }
    (tmp_path / "fitted.json").write_text(json.dumps({"person": "p", "models": {"hopf": fitted}}))
    states = {"awake": {}, "deep": {"coupling": 0.02}}
    cohort.make_subject(
        connectome=tmp_path / "connectome.npz",
        fitted=tmp_path / "fitted.json",
        atlas=made.atlas,
        clean=tmp_path / "clean.npz",
        files=tmp_path / "set/sub-02_files.json",
        subject="02",
        model="hopf",
        states=states,
        recording={"volumes": 100, "voxel_mm": 12.0, "spikes": {"deep": 0.02}},
        seed=3,
    )
    derivatives.extract_subject(
        root=tmp_path / "set",
        subject="02",
        atlas=made.atlas,
        signals={arm: tmp_path / f"{arm}.npz" for arm in ("default", "truth")},
        report=tmp_path / "report.json",
        task="rest",
        states=list(states),
        space=SPACE,
        tr=2.0,
        volumes=100,
        cleaning={
            "motion": "basic",
            "wm_csf": "basic",
            "fd_mm": 0.5,
            "std_dvars": 1.5,
            "min_segment": 5,
            "band_hz": [0.01, 0.1],
        },
        checks={"min_overlap": 0.75, "min_coverage": 0.5, "min_volumes": 50, "min_states": 2},
        clean=tmp_path / "clean.npz",
    )
    recorded, truth = np.load(tmp_path / "default.npz"), np.load(tmp_path / "truth.npz")
    across = {state: np.corrcoef(recorded[state].T, truth[state].T)[:16, 16:] for state in states}
    assert all(np.diag(matrix).mean() > 0.6 for matrix in across.values())
    # Where regions are independent, each must be most like itself: none was mistaken for another.
    assert across["deep"].argmax(axis=1).tolist() == list(range(16))
    top = {
        name: [np.linalg.eigvalsh(np.corrcoef(arm[state].T))[-1] for state in states]
        for name, arm in (("recorded", recorded), ("truth", truth))
    }
    assert top["truth"][0] > top["truth"][1]
    assert top["recorded"][0] > top["recorded"][1]
