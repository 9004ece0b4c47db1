"""Connectomes from MATLAB files, and every way in which such files can be wrong."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.io import savemat

from tgn import sources
from tgn.fmri import connectomes

NAMES = ["Cuneus_L", "Cuneus_R", "Angular_L", "Angular_R", "Cerebelum_3_L", "Vermis_3"]
LABELS = [10, 11, 20, 21, 30, 31]
COUNTS = np.array([[5.0, 2, 0, 1], [4, 5, 6, 0], [0, 6, 5, 2], [0, 0, 2, 5]])
LENGTHS = np.array([[0.0, 10, 99, 40], [20, 0, 30, 99], [99, 30, 0, 50], [99, 99, 50, 0]])
FOLDER = "some/package/datasets/gw/subjects/P_1"


@pytest.fixture
def atlas(tmp_path):
    folder = tmp_path / "atlas"
    folder.mkdir()
    pd.DataFrame({"index": LABELS, "name": NAMES}).to_csv(folder / "labels.csv", index=False)
    values = np.array(LABELS, dtype=np.int16).reshape(-1, 1, 1)
    nib.save(nib.Nifti1Image(values, np.eye(4)), folder / "atlas.nii.gz")
    return receipt(folder)


@pytest.fixture
def bold():
    return np.random.default_rng(1).normal(9000, 50, size=(4, 30))


def receipt(folder):
    sources.write_receipt(
        folder / sources.RECEIPT, name="toy", kind="fixture", evidence="simulated"
    )
    return folder / sources.RECEIPT


@pytest.fixture
def people(tmp_path, bold):
    """Writes a person's files, with changes, and returns the receipt."""

    def write(folder=FOLDER, **changes):
        contents = {
            "structural/DTI_CM.mat": {"sc": COUNTS},
            "structural/DTI_LEN.mat": {"len": LENGTHS},
            "functional/BOLD_rsfMRI.mat": {"tc": bold},
        }
        for name, content in contents.items():
            path = tmp_path / "people" / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            savemat(path, {key: changes.get(key, value) for key, value in content.items()})
        return receipt(tmp_path / "people")

    return write


def prepared(people_receipt, atlas, tmp_path, person="P_1"):
    output = tmp_path / "person.npz"
    connectomes.prepare_person(source=people_receipt, atlas=atlas, person=person, output=output)
    return connectomes.load(output)


def test_a_person(people, atlas, tmp_path, bold):
    found = prepared(people(), atlas, tmp_path)
    assert (found.person, found.dataset, found.tr) == ("P_1", "gw", 2.0)
    assert found.regions.tolist() == NAMES[:4]
    assert found.labels.tolist() == LABELS[:4]
    np.testing.assert_array_equal(found.bold, bold.T.astype(np.float32))
    mean = np.array([[0, 3, 0, 0.5], [3, 0, 6, 0], [0, 6, 0, 2], [0.5, 0, 2, 0]])
    np.testing.assert_allclose(found.sc, mean / np.abs(np.linalg.eigvalsh(mean)).max())
    # Of a tract found in both directions the mean; of one found in one, its length there.
    expected = [[0, 15, 0, 40], [15, 0, 30, 0], [0, 30, 0, 50], [40, 0, 50, 0]]
    np.testing.assert_array_equal(found.lengths, expected)


@given(arrays(float, (5, 5), elements=st.floats(0, 1e7)))
def test_normalised(counts):
    counts[0, 1] += 1
    before = counts.copy()
    found = connectomes.normalised(counts)
    np.testing.assert_array_equal(counts, before)
    np.testing.assert_array_equal(found, found.T)
    assert not np.diag(found).any()
    assert np.linalg.norm(found, 2) == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sc": -COUNTS}, "11 tract counts are negative"),
        ({"sc": np.eye(4)}, "connect no two regions"),
        ({"sc": COUNTS[:3, :3]}, r"counts of P_1 have shape \(3, 3\), expected \(4, 4\)"),
        ({"len": LENGTHS * np.nan}, "lengths of P_1 hold NaN"),
        ({"tc": np.zeros((4, 30))}, "constant in Cuneus_L, Cuneus_R, Angular_L, Angular_R"),
        ({"tc": np.zeros((30, 4))}, "BOLD of P_1 have shape"),
    ],
)
def test_wrong_numbers_are_refused(people, atlas, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        prepared(people(**change), atlas, tmp_path)


def test_an_unknown_person_or_data_set_is_refused(people, atlas, tmp_path):
    with pytest.raises(FileNotFoundError, match="no files of 'P_2'; people are P_1"):
        prepared(people(), atlas, tmp_path, person="P_2")
    other = people(folder="x/datasets/elsewhere/subjects/P_3")
    with pytest.raises(ValueError, match="'elsewhere', whose repetition time is not known"):
        prepared(other, atlas, tmp_path, person="P_3")


def test_a_damaged_or_missing_file_is_refused(people, atlas, tmp_path):
    people()
    path = tmp_path / "people" / FOLDER / "structural" / "DTI_CM.mat"
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(ValueError, match=r"DTI_CM.mat is no MATLAB file with 'sc'"):
        prepared(receipt(tmp_path / "people"), atlas, tmp_path)
    path.unlink()
    (tmp_path / "people" / sources.RECEIPT).unlink()
    with pytest.raises(FileNotFoundError, match=r"one file '\*DTI_CM\*.mat', found 0"):
        prepared(receipt(tmp_path / "people"), atlas, tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        {2: "Cuneus_L", 1: "Cuneus_R"},
        {1: "Cuneus_L", 2: "Cuneus_L"},
        {1: "Cerebelum_3_L", 2: "Cuneus_L"},
        {1: "Vermis_3"},
    ],
)
def test_another_order_of_regions_is_refused(names):
    with pytest.raises(ValueError, match="not in the order of AAL2"):
        connectomes.region_names(names)


def test_a_file_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", sc=np.eye(2))
    with pytest.raises(ValueError, match=r"x.npz is no connectome: it lacks bold"):
        connectomes.load(tmp_path / "x.npz")
