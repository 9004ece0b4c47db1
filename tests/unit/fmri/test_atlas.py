"""Label images, their names, and where they fall on other grids."""

import nibabel as nib
import numpy as np
import pytest

from tgn.fmri import atlas as module
from tgn.fmri.atlas import Atlas, centroids, inside, on_grid, open_atlas, read_atlas, share_inside


@pytest.fixture
def blocks():
    """Two cubes of 4 voxels of 2 mm, left (label 3) and right (label 7) of the origin."""
    labels = np.zeros((8, 4, 4), dtype=np.int16)
    labels[:4], labels[4:] = 3, 7
    affine = nib.affines.from_matvec(np.eye(3) * 2.0, [-7.0, -3.0, -3.0])
    return Atlas(nib.Nifti1Image(labels, affine), {3: "A_L", 7: "A_R"})


def test_centroids_in_millimetres(blocks):
    table = centroids(blocks)
    np.testing.assert_allclose(table.loc[3], [-4, 0, 0])
    np.testing.assert_allclose(table.loc[7], [4, 0, 0])


def test_centroids_do_not_depend_on_the_storage_order(blocks):
    turned = blocks.image.as_reoriented(nib.io_orientation(np.diag([-1.0, 1, 1, 1])))
    np.testing.assert_allclose(centroids(blocks._replace(image=turned)), centroids(blocks))


def test_on_grid_of_coarser_voxels_keeps_sides(blocks):
    affine = nib.affines.from_matvec(np.eye(3) * 4.0, [-6.0, -2.0, -2.0])
    labels = on_grid(blocks, (4, 2, 2), affine)
    assert (labels[:2] == 3).all()
    assert (labels[2:] == 7).all()


def test_share_counts_what_lies_beyond_the_grid_as_outside(blocks):
    affine = nib.affines.from_matvec(np.eye(3) * 2.0, [-7.0, -3.0, -3.0])
    mask = np.ones((6, 4, 4), dtype=bool)  # ends in the middle of the right cube
    share = share_inside(blocks, mask, affine)
    assert share.to_dict() == {3: 1.0, 7: 0.5}
    assert inside(blocks, mask, affine).mean() == 0.75


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", "index,name\n3,A_L\n7,A_R\n9,unused\n"),
        ("labels.tsv", "index\tname\tcolor\n3\tA_L\t#ff0000\n7\tA_R\t#00ff00\n"),
        ("labels.txt", "3\tA_L\t120\t18\t131\t0\n7\tA_R\t120\t18\t132\t0\n"),
    ],
)
def test_tables_of_names(tmp_path, blocks, name, text):
    nib.save(blocks.image, tmp_path / "atlas.nii.gz")
    (tmp_path / name).write_text(text)
    found = open_atlas(tmp_path / "atlas.nii.gz", tmp_path / name)
    assert found.names == {3: "A_L", 7: "A_R"}


def test_nameless_label_is_refused(tmp_path, blocks):
    nib.save(blocks.image, tmp_path / "atlas.nii.gz")
    (tmp_path / "labels.csv").write_text("index,name\n3,A_L\n")
    with pytest.raises(ValueError, match=r"names no region \[7\]"):
        open_atlas(tmp_path / "atlas.nii.gz", tmp_path / "labels.csv")


def test_probabilities_are_no_labels(tmp_path, blocks):
    image = nib.Nifti1Image(np.full((2, 2, 2), 0.5), np.eye(4))
    nib.save(image, tmp_path / "atlas.nii.gz")
    (tmp_path / "labels.csv").write_text("index,name\n3,A_L\n")
    with pytest.raises(ValueError, match="whole numbers"):
        open_atlas(tmp_path / "atlas.nii.gz", tmp_path / "labels.csv")


def test_receipt_must_list_one_image_and_one_table(made, tmp_path):
    assert read_atlas(made.atlas).names == made.regions.names
    (tmp_path / "labels.csv").write_text("index,name\n")
    receipt = tmp_path / "receipt.json"
    module.sources.write_receipt(receipt, name="toy", kind="fixture", evidence="simulated")
    with pytest.raises(ValueError, match="found 0 and 1"):
        read_atlas(receipt)
