"""NIfTI files as they were reported by others: where they lie, what is refused, and what the models make of one."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from inference.models import reference_model
from inference.segment import load_models, segment
from inference.series.errors import NiftiUnitsError, TooFewSlicesError
from inference.series.nifti import read_nifti

pytestmark = pytest.mark.data

N15 = "n15_sform_unit_scale_qform_3mm.nii.gz"


@pytest.fixture(scope="module")
def field(shared_data: Path) -> Path:
    return shared_data / "field"


def test_a_sform_of_unit_scale_yields_to_the_qform(field: Path) -> None:
    source = read_nifti(field / N15)
    np.testing.assert_allclose(source.volume.spacing, (3, 3, 3))
    assert [(remark.code, remark.text) for remark in source.remarks] == [
        (
            "sform-not-used",
            "the sform has voxels of 1 x 1 x 1, pixdim says 3 x 3 x 3; the qform is used, which agrees with pixdim",
        )
    ]


@pytest.mark.slow
def test_a_head_whose_sform_has_unit_scale_is_as_large_as_it_is(field: Path) -> None:
    models = load_models(reference_model("foreground"), reference_model("anonymized"), device="cpu")
    source = read_nifti(field / N15)
    found = segment(source, models)
    volume_ml = np.count_nonzero(found.foreground) * source.volume.voxel_volume / 1000
    assert volume_ml == pytest.approx(4528, rel=0.01)
    assert found.verdict.verdict == "face_present"


def test_what_is_called_compressed_and_is_not_is_read(field: Path) -> None:
    source = read_nifti(field / "n05_not_compressed.nii.gz")
    assert source.volume.spatial_shape == (85, 95, 74)
    assert source.remarks == ()


def test_metres_that_are_millimetres_are_refused_by_their_size_and_code(field: Path) -> None:
    with pytest.raises(NiftiUnitsError, match=r"code 1 \(metres\), which makes voxels of 3000 x 3000 x 3000 mm"):
        read_nifti(field / "n08b_meter_but_mm.nii.gz")


def test_one_slice_is_no_volume(field: Path) -> None:
    with pytest.raises(TooFewSlicesError, match="1 slice along one axis, expected at least 3"):
        read_nifti(field / "n11b_one_slice.nii.gz")


@pytest.mark.parametrize("name", ["m02_scale_0.04_voxel_0.12mm.nii.gz", "m04_ct_nan_all_air.nii.gz", N15])
def test_every_voxel_lies_where_the_qform_has_it(field: Path, name: str) -> None:
    source = read_nifti(field / name)
    lps_from_ijk = np.diag([-1.0, -1.0, 1.0, 1.0]) @ nib.load(field / name).header.get_qform()
    np.testing.assert_allclose(source.volume.affine, lps_from_ijk[:, [2, 1, 0, 3]], rtol=1e-6)
