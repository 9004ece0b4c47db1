"""Runs are found by file name, and what is missing is named at once."""

import pytest

from tgn.fmri import bids

SPACE = "MNI152NLin2009cAsym"


def touch(root, *names):
    for name in names:
        path = root / name.split("_")[0] / "func" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def raw(root, subject, states=bids.STATES, task="rest"):
    for state in states:
        stem = f"sub-{subject}_task-{task}{state}_run-01_bold"
        touch(root, f"{stem}.nii.gz", f"{stem}.json")


@pytest.mark.parametrize("state", bids.STATES)
@pytest.mark.parametrize("task", ["rest", "audio"])
def test_state_is_read_off_the_task_label(task, state):
    assert bids.task_and_state(f"sub-2525JK_task-{task}{state}_run-01_bold.nii.gz") == (task, state)


def test_odd_run_is_audio_awake_for_that_person_only():
    assert bids.task_and_state("sub-10JR_task-audio_run-01_bold.nii.gz") == ("audio", "awake")
    assert bids.task_and_state("sub-04HD_task-audio_run-01_bold.nii.gz") is None
    assert bids.task_and_state("sub-10JR_task-rest_run-01_bold.nii.gz") is None


def test_odd_run_is_found_among_the_others(tmp_path):
    raw(tmp_path, "10JR", ("light", "deep", "recovery"), "audio")
    stem = "sub-10JR_task-audio_run-01_bold"
    touch(tmp_path, f"{stem}.nii.gz", f"{stem}.json")
    runs = bids.index(tmp_path, subjects=["10JR"], task="audio", space=None)["10JR"]
    assert runs["awake"].image.name == f"{stem}.nii.gz"
    assert list(runs) == list(bids.STATES)


def test_task_name_inside_the_json_is_not_believed(tmp_path):
    raw(tmp_path, "02CB")
    for path in tmp_path.rglob("*deep*.json"):
        path.write_text('{"TaskName": "restlight"}')
    runs = bids.index(tmp_path, subjects=["02CB"], space=None)["02CB"]
    assert "restdeep" in runs["deep"].image.name
    assert "restlight" in runs["light"].image.name


def test_every_missing_run_is_listed_in_one_error(tmp_path):
    raw(tmp_path, "02CB", ("awake", "deep"))
    raw(tmp_path, "04HD")
    (tmp_path / "sub-04HD/func/sub-04HD_task-restlight_run-01_bold.json").unlink()
    touch(tmp_path, "sub-02CB_task-rest_run-01_bold.nii.gz")
    with pytest.raises(FileNotFoundError) as error:
        bids.index(tmp_path, subjects=["02CB", "04HD", "99ZZ"], space=None)
    text = str(error.value)
    assert "lacks 7 of the files" in text
    for missing in ("sub-02CB: rest, light", "sub-02CB: rest, recovery", "sub-04HD: rest, light"):
        assert missing in text
    assert all(f"sub-99ZZ: rest, {state}" in text for state in bids.STATES)
    assert "sub-02CB_task-rest_run-01_bold.nii.gz" in text.split("known state")[1]
    assert "sub-02CB: rest, awake" not in text


def test_companions_of_a_derivative(made):
    runs = bids.index(made.root, subjects=["01", "06"], space=SPACE)
    assert list(runs) == ["01", "06"]
    for run in runs["01"].values():
        assert all(path.is_file() for path in run)
    audio = bids.index(made.root, subjects=["06"], task="audio", states=["awake"], space=SPACE)
    assert "task-audio_run-01" in audio["06"]["awake"].image.name


def test_confounds_under_their_former_name(data_set):
    path = data_set.confounds("deep")
    former = path.rename(path.with_name(path.name.replace("timeseries", "regressors")))
    assert bids.index(data_set.root, subjects=["01"], space=SPACE)["01"]["deep"].confounds == former


@pytest.mark.parametrize("space", ["T1w", "boldref", "fsaverage"])
def test_space_that_is_not_of_the_atlas_is_refused(made, space):
    with pytest.raises(ValueError, match="not that of an MNI atlas"):
        bids.index(made.root, subjects=["01"], space=space)


def test_derivatives_in_native_space_are_refused_with_the_reason(tmp_path):
    for state in bids.STATES:
        touch(tmp_path, f"sub-01_task-rest{state}_run-01_space-T1w_desc-preproc_bold.nii.gz")
    with pytest.raises(ValueError, match=r"not in the same anatomy(.|\n)*--output-spaces MNI152"):
        bids.index(tmp_path, subjects=["01"], space=SPACE)


def test_raw_data_are_refused_where_derivatives_are_needed(tmp_path):
    raw(tmp_path, "02CB")
    with pytest.raises(ValueError, match="not in the same anatomy"):
        bids.index(tmp_path, subjects=["02CB"], space=SPACE)


def test_derivatives_are_not_taken_for_raw_data(made):
    with pytest.raises(FileNotFoundError, match="lacks 4 of the files"):
        bids.index(made.root, subjects=["01"], space=None)


def test_two_images_of_one_run_are_refused(data_set):
    path = data_set.bold("deep")
    path.with_name(path.name.replace("_desc", "_res-2_desc")).touch()
    with pytest.raises(ValueError, match=r"more than one image(.|\n)*sub-01: rest, deep"):
        bids.index(data_set.root, subjects=["01"], space=SPACE)


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no data set"):
        bids.index(tmp_path / "none", subjects=["01"], space=SPACE)
