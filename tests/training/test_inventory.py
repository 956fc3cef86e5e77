"""Volumes are read into network orientation (head, posterior, left), and registrations come with the code."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from training.atlas import read_registrations
from training.cohort import KNOWN_REGISTRATIONS
from training.inventory import read_scan


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (1, -1, 1)])
def test_any_orientation_is_read_as_simpleitk_reorients_it(
    tmp_path: Path, axes: tuple[int, int, int], flips: tuple[int, int, int]
) -> None:
    turn = Rotation.from_euler("xyz", [9.0, -6.0, 12.0], degrees=True).as_matrix()
    direction = turn @ np.eye(3)[:, list(axes)] @ np.diag(flips)
    affine = np.eye(4)
    affine[:3, :3] = direction @ np.diag([1.1, 2.3, 0.7])
    affine[:3, 3] = [10.0, -20.0, 30.0]
    values = np.random.default_rng(0).normal(0, 1, (5, 7, 9)).astype(np.float32)
    path = tmp_path / "volume.nii.gz"
    nib.save(nib.Nifti1Image(values, affine), path)

    scan = read_scan(path)

    turned = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    np.testing.assert_array_equal(scan.voxels, sitk.GetArrayFromImage(turned))
    np.testing.assert_allclose(scan.spacing_mm, turned.GetSpacing()[::-1], rtol=1e-5)
    for index in [(0, 0, 0), (3, 2, 1)]:
        place = turned.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]])
        np.testing.assert_allclose((scan.affine @ [*index, 1.0])[:3], place, atol=1e-3)


def test_shipped_registrations_are_affine_maps_that_keep_the_size_of_a_head() -> None:
    known = read_registrations(KNOWN_REGISTRATIONS)
    assert len(known) > 80
    for matrix in known.values():
        assert matrix.shape == (4, 4)
        assert matrix[3].tolist() == [0, 0, 0, 1]
        assert 0.5 < np.linalg.det(matrix[:3, :3]) < 2.0  # a head is neither half nor twice as large as the template
