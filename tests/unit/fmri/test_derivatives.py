"""The whole path from images to signals on real files: known ranks, and every fault."""

import gzip
import json
import struct

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn import signal

from tgn.fmri import bids, cohort, derivatives

pytestmark = pytest.mark.filterwarnings(
    "ignore:From release 0.14.0, confounds will be standardized:DeprecationWarning"
)

STATES = ("awake", "light", "deep", "recovery")
BAND = (0.01, 0.1)
SCRUBBING = {"fd_mm": 0.5, "std_dvars": 1.5, "min_segment": 5}


def pearson_rank(values):
    """Entropy rank of the correlation matrix."""
    weights = np.linalg.eigvalsh(np.corrcoef(values.T))
    weights = weights[weights > 1e-10] / weights.sum()
    return np.exp(-(weights * np.log(weights)).sum())


def rewrite(path, change, zooms=1):
    """Save an image again after ``change(values, affine)`` gave new ones."""
    image = nib.load(path)
    values, affine = change(image.get_fdata(dtype=np.float32), image.affine.copy())
    new = nib.Nifti1Image(values, affine)
    sizes = image.header.get_zooms()
    new.header.set_zooms((*(zooms * size for size in sizes[:3]), *sizes[3:]))
    new.header.set_xyzt_units("mm", "sec")
    nib.save(new, path)


def edit_header(path, offset, *values):
    """Overwrite 32-bit numbers of a NIfTI-1 header."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[offset : offset + 4 * len(values)] = struct.pack(f"<{len(values)}f", *values)
    path.write_bytes(gzip.compress(bytes(raw)))


# --- what is right --------------------------------------------------------------------------------


def test_planted_order_of_ranks_is_recovered(made, extract):
    signals, report = extract(made)
    ranks = {state: pearson_rank(signals["default"][state]) for state in STATES}
    assert ranks["awake"] > ranks["recovery"] > ranks["light"] > ranks["deep"]
    assert report["excluded"] is None


def test_signals_follow_the_contract(made, extract):
    signals, report = extract(made)
    for arm in signals.values():
        assert arm["parcels"].tolist() == list(made.regions.names)
        assert arm["names"].tolist() == list(made.regions.names.values())
        assert float(arm["tr"]) == 2.0
        for state in STATES:
            kept, total = arm[f"{state}_kept"]
            assert arm[state].shape == (kept, 16)
            assert arm[state].dtype == np.float32
            assert total == 120
            assert kept == report["runs"][state]["kept"]
            np.testing.assert_allclose(arm[state].mean(axis=0), 0, atol=1e-5)
            np.testing.assert_allclose(arm[state].std(axis=0, ddof=1), 1, rtol=1e-5)
            table = pd.read_csv(made.confounds(state), sep="\t")
            assert arm[f"{state}_fd"] == pytest.approx(table["framewise_displacement"].mean())
    assert min(run["kept"] for run in report["runs"].values()) < 120
    assert report["runs"]["deep"]["regressors"] == {"default": 26, "gsr": 27}


def test_global_signal_regression_takes_the_common_signal_away(made, extract):
    signals, _ = extract(made)
    assert pearson_rank(signals["gsr"]["deep"]) > 1.5 * pearson_rank(signals["default"]["deep"])


def test_clean_signals_pass_the_same_filter_and_scrubbing(made, extract, tmp_path):
    planted = cohort.planted({state: 0.3 for state in STATES}, 16, 120, np.random.default_rng(0))
    # In another order of regions: labels decide.
    labels = np.array(list(made.regions.names))[::-1]
    backwards = {state: values[:, ::-1] for state, values in planted.items()}
    np.savez(tmp_path / "clean.npz", parcels=labels, tr=2.0, **backwards)
    signals, report = extract(
        made,
        signals={"default": tmp_path / "d.npz", "truth": tmp_path / "t.npz"},
        clean=tmp_path / "clean.npz",
    )
    runs = bids.index(made.root, subjects=["01"], space="MNI152NLin2009cAsym")["01"]
    for state in STATES:
        assert signals["truth"][state].shape == signals["default"][state].shape
        assert report["runs"][state]["regressors"]["truth"] == 0
        kept, _ = derivatives.scrubbing(runs[state], SCRUBBING)
        expected = derivatives.cleaned(planted[state], None, kept, tr=2.0, band_hz=BAND)
        np.testing.assert_allclose(signals["truth"][state], expected, atol=1e-5)


def test_region_means_do_not_depend_on_how_much_is_read_at_once(made, monkeypatch):
    run = bids.index(made.root, subjects=["01"], space="MNI152NLin2009cAsym")["01"]["deep"]
    whole = derivatives.region_means(run, made.regions)
    monkeypatch.setattr(derivatives, "AT_ONCE", 7 * nib.load(run.image).dataobj[..., 0].size)
    pieces = derivatives.region_means(run, made.regions)
    np.testing.assert_allclose(pieces.values, whole.values, rtol=1e-6)
    image = nib.load(run.image).get_fdata()
    labels = derivatives.on_grid(made.regions, image.shape[:3], nib.load(run.image).affine)
    np.testing.assert_allclose(whole.values[:, 4], image[labels == 5].mean(axis=0), rtol=1e-5)


# --- files that cannot be used --------------------------------------------------------------------


def test_missing_run(data_set, extract):
    data_set.bold("light").unlink()
    data_set.confounds("deep").unlink()
    with pytest.raises(FileNotFoundError, match=r"rest, light(.|\n)*rest, deep: .*confounds"):
        extract(data_set)


@pytest.mark.parametrize("share", [0.5, 0.999])
def test_truncated_image(data_set, extract, share):
    path = data_set.bold("deep")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"restdeep.*cut short or damaged from volume 0 on"):
        extract(data_set)


def test_truncated_before_compression(data_set, extract):
    path = data_set.bold("deep")
    raw = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(raw[: len(raw) // 2]))
    with pytest.raises(ValueError, match=r"restdeep.*cut short"):
        extract(data_set)


@pytest.mark.parametrize("which", ["bold", "mask"])
def test_no_image_at_all(data_set, extract, which):
    getattr(data_set, which)("deep").write_bytes(b"<html>404</html>")
    with pytest.raises(ValueError, match=r"restdeep.*no whole NIfTI"):
        extract(data_set)


def test_fewer_volumes_than_expected(data_set, extract):
    rewrite(data_set.bold("deep"), lambda values, affine: (values[..., :110], affine))
    with pytest.raises(ValueError, match=r"110 volumes, expected 120") as error:
        extract(data_set)
    assert "110 volumes, but" in str(error.value)
    assert "has 120 rows" in str(error.value)


def test_wrong_repetition_time_in_the_header(data_set, extract):
    edit_header(data_set.bold("deep"), 76 + 4 * 4, 2.5)
    with pytest.raises(ValueError, match=r"repetition time is 2.5 s by its header, expected 2.0"):
        extract(data_set)


def test_wrong_repetition_time_in_the_sidecar(data_set, extract):
    path = data_set.file("*_task-restdeep_*_bold.json")
    path.write_text(json.dumps({"RepetitionTime": 2000}))
    with pytest.raises(ValueError, match=rf"repetition time is 2000 s by {path.name}"):
        extract(data_set)


def test_other_repetition_time_than_expected(made, extract):
    with pytest.raises(ValueError, match=r"repetition time is 2\.0 s") as error:
        extract(made, tr=0.72)
    assert str(error.value).count("expected 0.72 s") == 8  # header and sidecar of every run


@pytest.mark.parametrize("rows", [1, 119, 121])
def test_confounds_of_another_length(data_set, extract, rows):
    path = data_set.confounds("recovery")
    table = pd.read_csv(path, sep="\t")
    table.reindex(range(rows)).to_csv(path, sep="\t", index=False, na_rep="n/a")
    with pytest.raises(ValueError, match=rf"120 volumes, but sub-01_.* has {rows} rows"):
        extract(data_set)


def test_confounds_without_the_columns_of_scrubbing(data_set, extract):
    path = data_set.confounds("awake")
    table = pd.read_csv(path, sep="\t").drop(columns="std_dvars")
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    with pytest.raises(ValueError, match="has no column std_dvars"):
        extract(data_set)


def test_confounds_with_a_gap(data_set, extract):
    path = data_set.confounds("awake")
    table = pd.read_csv(path, sep="\t")
    table.loc[40, "rot_y"] = np.nan
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    with pytest.raises(ValueError, match="not finite after the first row: rot_y"):
        extract(data_set)


def test_every_fault_of_all_runs_is_in_one_error(data_set, extract):
    edit_header(data_set.bold("deep"), 76 + 4 * 4, 2.5)
    rewrite(data_set.bold("light"), lambda values, affine: (values[..., :110], affine))
    with pytest.raises(ValueError, match=r"restlight(.|\n)*restdeep|restdeep(.|\n)*restlight"):
        extract(data_set)


# --- affines --------------------------------------------------------------------------------------


def everywhere(data_set, change):
    """Give images and masks of all runs another affine or other voxels."""
    for state in STATES:
        rewrite(data_set.bold(state), change)
        rewrite(data_set.mask(state), change)


@pytest.mark.parametrize("rows", [(1, 0, 2), (0, 2, 1), (2, 1, 0)])
def test_swapped_axes(data_set, extract, rows):
    def swap(values, affine):
        affine[:3] = affine[list(rows)]
        return values, affine

    everywhere(data_set, swap)
    with pytest.raises(ValueError, match="axis is swapped or turned round in the affine"):
        extract(data_set)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_sign_of_an_axis_without_its_origin(data_set, extract, axis):
    def turn(values, affine):
        affine[axis, axis] *= -1
        return values, affine

    everywhere(data_set, turn)
    with pytest.raises(ValueError, match="only 0% of the atlas lies inside"):
        extract(data_set)


def test_voxels_of_twice_the_size_about_the_middle(data_set, extract):
    def swell(values, affine):
        middle = affine @ [*(np.array(values.shape[:3]) / 2), 1]
        affine[:3, :3] *= 2
        affine[:3, 3] += (middle - affine @ [*(np.array(values.shape[:3]) / 2), 1])[:3]
        return values, affine

    for state in STATES:
        for path in (data_set.bold(state), data_set.mask(state)):
            rewrite(path, swell, zooms=2)
    with pytest.raises(ValueError, match="times the volume of the atlas: wrong voxel sizes"):
        extract(data_set)


@pytest.mark.parametrize("axis", [1, 2])
def test_data_turned_round(data_set, extract, axis):
    everywhere(data_set, lambda values, affine: (np.flip(values, axis), affine))
    with pytest.raises(ValueError, match="turned round"):
        extract(data_set)


def test_mirror_image_in_all_files_alike_is_not_seen(data_set, extract):
    """A limit, stated in the documentation: what is left becomes right."""
    before, _ = extract(data_set)
    everywhere(data_set, lambda values, affine: (np.flip(values, 0), affine))
    after, report = extract(data_set)
    assert report["excluded"] is None
    pairs = before["default"]["deep"].reshape(-1, 8, 2)[..., ::-1].reshape(-1, 16)
    across = np.corrcoef(after["default"]["deep"].T, pairs.T)[:16, 16:]
    assert np.diag(across).mean() > 0.9


def test_mirrored_run_among_others_is_seen(data_set, extract):
    def mirror(values, affine):
        affine[0] *= -1
        return values, affine

    rewrite(data_set.bold("deep"), mirror)
    rewrite(data_set.mask("deep"), mirror)
    with pytest.raises(ValueError, match=r"restdeep.*another grid .* than that of the awake run"):
        extract(data_set)


def test_image_on_another_grid_than_its_mask(data_set, extract):
    def shift(values, affine):
        affine[1, 3] += 12
        return values, affine

    rewrite(data_set.mask("deep"), shift)
    with pytest.raises(ValueError, match=r"restdeep.*another grid .* than its image"):
        extract(data_set)


def test_qform_and_sform_that_mirror_each_other(data_set, extract):
    image = nib.load(data_set.bold("deep"))
    sform = image.affine.copy()
    sform[0] *= -1
    edit_header(data_set.bold("deep"), 280, *sform[0])
    with pytest.raises(ValueError, match="left and right are unknown"):
        extract(data_set)


def test_sheared_affine(data_set, extract):
    def shear(values, affine):
        affine[0, 1] = 3.0
        return values, affine

    rewrite(data_set.bold("deep"), shear)
    with pytest.raises(ValueError, match="not at right angles"):
        extract(data_set)


def test_voxel_sizes_unlike_the_affine(data_set, extract):
    edit_header(data_set.bold("deep"), 76 + 4, 6.0)
    with pytest.raises(ValueError, match=r"not those of the header|differently"):
        extract(data_set)


def test_three_dimensions(data_set, extract):
    rewrite(data_set.mask("deep"), lambda values, affine: (values, affine))
    data_set.bold("deep").write_bytes(data_set.mask("deep").read_bytes())
    with pytest.raises(ValueError, match="expected four dimensions, got 3"):
        extract(data_set)


# --- what lies in the reporting -------------------------------------------------------------------


def test_nan_voxel_excludes_the_run_and_says_so(data_set, extract):
    labels = derivatives.on_grid(
        data_set.regions,
        nib.load(data_set.mask("deep")).shape,
        nib.load(data_set.mask("deep")).affine,
    )
    place = tuple(np.argwhere(labels == 6)[0])

    def spoil(values, affine):
        values[(*place, 17)] = np.nan
        return values, affine

    rewrite(data_set.bold("deep"), spoil)
    signals, report = extract(data_set)
    assert report["runs"]["deep"]["excluded"] == (
        "1 voxels of the regions are not finite (NaN or infinite)"
    )
    assert report["excluded"] is None
    for arm in signals.values():
        assert not {"deep", "deep_fd", "deep_kept"} & arm.keys()
        assert all(np.isfinite(arm[state]).all() for state in ("awake", "light", "recovery"))


def test_nan_outside_the_brain_does_not_matter(data_set, extract):
    def spoil(values, affine):
        values[0, 0, 0] = np.nan
        return values, affine

    rewrite(data_set.bold("deep"), spoil)
    _, report = extract(data_set)
    assert report["runs"]["deep"]["excluded"] is None


def test_region_outside_one_runs_mask_is_left_out_of_all_and_named(data_set, extract):
    mask = nib.load(data_set.mask("light"))
    labels = derivatives.on_grid(data_set.regions, mask.shape, mask.affine)
    rewrite(data_set.mask("light"), lambda values, affine: (values * (labels != 16), affine))
    signals, report = extract(data_set)
    name = data_set.regions.names[16]
    assert "inside the brain mask of the light run" in report["parcels"]["missing"][name]
    assert 16 not in signals["default"]["parcels"]
    assert name not in signals["default"]["names"]
    assert {signals["default"][state].shape[1] for state in STATES} == {15}


def test_region_that_never_changes_is_left_out_of_all_and_named(data_set, extract):
    mask = nib.load(data_set.mask("light"))
    labels = derivatives.on_grid(data_set.regions, mask.shape, mask.affine)

    def silence(values, affine):
        values[labels == 3] = 500.0
        return values, affine

    rewrite(data_set.bold("light"), silence)
    signals, report = extract(data_set)
    assert "never changes" in report["parcels"]["missing"][data_set.regions.names[3]]
    assert signals["default"]["awake"].shape[1] == 15


def test_restless_run_is_excluded(data_set, extract):
    path = data_set.confounds("deep")
    table = pd.read_csv(path, sep="\t")
    table.loc[30:, "framewise_displacement"] = 0.9
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    signals, report = extract(data_set)
    reason = report["runs"]["deep"]["excluded"]
    assert reason.endswith("of 120 volumes left after scrubbing, fewer than 60")
    assert "deep" not in signals["gsr"]


@pytest.mark.filterwarnings("ignore:All volumes were marked as motion outliers")
def test_subject_with_one_state_left_is_excluded(data_set, extract):
    for state in ("awake", "light", "recovery"):
        path = data_set.confounds(state)
        table = pd.read_csv(path, sep="\t")
        table["framewise_displacement"] = 0.9
        table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    signals, report = extract(data_set)
    assert report["excluded"] == "1 states left (deep), fewer than 2: nothing to compare"
    for arm in signals.values():
        assert set(arm) == {"parcels", "names", "tr"}
        assert len(arm["parcels"]) == 0


# --- cleaning -------------------------------------------------------------------------------------


@pytest.fixture
def series():
    rng = np.random.default_rng(5)
    return rng.standard_normal((100, 4)).cumsum(axis=0), rng.standard_normal((100, 3))


def nilearns(values, confounds, kept):
    return signal.clean(
        values,
        confounds=confounds,
        sample_mask=np.flatnonzero(kept),
        detrend=True,
        standardize="zscore_sample",
        t_r=2.0,
        high_pass=BAND[0],
        low_pass=BAND[1],
    )


@pytest.mark.parametrize("scrubbed", [[], [20], [0, 1], [40, 41, 42, 70], [98, 99]])
def test_cleaning_is_that_of_nilearn(series, scrubbed):
    kept = np.ones(100, dtype=bool)
    kept[scrubbed] = False
    ours = derivatives.cleaned(*series, kept, tr=2.0, band_hz=BAND)
    np.testing.assert_allclose(ours, nilearns(*series, kept), atol=1e-4)


@pytest.mark.parametrize("scrubbed", [[20], [20, 79], [0, 99], [0, 50, 99], [49, 50]])
def test_scrubbed_volumes_have_no_influence(series, scrubbed):
    """Also where they lie symmetrically about the middle of the run."""
    values, confounds = series
    kept = np.ones(100, dtype=bool)
    kept[scrubbed] = False
    before = derivatives.cleaned(values, confounds, kept, tr=2.0, band_hz=BAND)
    spoilt = values.copy()
    spoilt[scrubbed] += 1000
    after = derivatives.cleaned(spoilt, confounds, kept, tr=2.0, band_hz=BAND)
    assert before.shape == (kept.sum(), 4)
    np.testing.assert_array_equal(before, after)


def test_confounds_are_gone(series):
    values, confounds = series
    kept = np.ones(100, dtype=bool)
    mixed = values + 20 * confounds @ np.ones((3, 4))
    result = derivatives.cleaned(mixed, confounds, kept, tr=2.0, band_hz=BAND)
    passed = signal.clean(confounds, standardize=None, t_r=2.0, high_pass=BAND[0], low_pass=BAND[1])
    across = np.corrcoef(result.T, passed.T)[:4, 4:]
    np.testing.assert_allclose(across, 0, atol=1e-6)


def test_band(series):
    times = 2.0 * np.arange(400)
    waves = np.stack([np.sin(2 * np.pi * f * times) for f in (0.002, 0.05, 0.2)], axis=1)
    mixed = waves @ np.ones((3, 1))
    result = derivatives.cleaned(mixed, None, np.ones(400, dtype=bool), tr=2.0, band_hz=BAND)
    share = np.corrcoef(np.c_[result, waves].T)[0, 1:] ** 2
    assert share[1] > 0.9
    assert share[0] < 0.02
    assert share[2] < 0.02
