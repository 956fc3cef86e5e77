"""Which of sform, qform and pixdim is believed, compared with nibabel and SimpleITK where they know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from inference.series.errors import NiftiAffineError, NiftiUnitsError
from inference.series.nifti import read_nifti
from inference.series.volume import SourceVolume
from tests.nifti_files import OFFSET, SHAPE, sform, write_nifti

UNIT = sform((1.0, 1.0, 1.0))
NAN = float("nan")


def read(tmp_path: Path, **fields: Any) -> SourceVolume:
    return read_nifti(write_nifti(tmp_path / "a.nii", **fields))


def codes(source: SourceVolume) -> list[str]:
    return [remark.code for remark in source.remarks]


def corners_lps(source: SourceVolume) -> np.ndarray:
    """Where the eight corner voxels lie, by (i, j, k)."""
    x, y, z = np.meshgrid(*[(0, n - 1) for n in SHAPE])
    indices = np.stack([z.ravel(), y.ravel(), x.ravel(), np.ones(8)])
    return (source.volume.affine @ indices)[:3].T


def corners_by_simpleitk(path: Path) -> np.ndarray:
    image = sitk.ReadImage(str(path))
    x, y, z = np.meshgrid(*[(0, n - 1) for n in SHAPE])
    return np.array([
        image.TransformIndexToPhysicalPoint([int(i), int(j), int(k)])
        for i, j, k in zip(x.ravel(), y.ravel(), z.ravel(), strict=True)
    ])  # fmt: skip


def corners_by_nibabel(path: Path) -> np.ndarray:
    x, y, z = np.meshgrid(*[(0, n - 1) for n in SHAPE])
    ras = nib.load(path).affine @ np.stack([x.ravel(), y.ravel(), z.ravel(), np.ones(8)])
    return (np.diag([-1.0, -1.0, 1.0, 1.0]) @ ras)[:3].T


QUARTER_TURN = {"quatern_b": 0.0, "quatern_c": 0.0, "quatern_d": np.sqrt(0.5)}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"sform_code": 0},
        {"qform_code": 0},
        {"sform_code": 0, **QUARTER_TURN},
        {"sform_code": 0, "quatern_b": 0.3, "quatern_c": -0.2, "quatern_d": 0.7},
        {"sform_code": 0, "pixdim": [-1, 2, 3, 4, 0, 0, 0, 0]},
        {"sform_code": 0, "pixdim": [0, 2, 3, 4, 0, 0, 0, 0]},
        {"sform_code": 4, "qform_code": 2},
        {"qform_code": 0, "rows": sform((-2.0, 3.0, 4.0))},
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_where_nibabel_and_simpleitk_agree_the_volume_lies_there(tmp_path: Path, fields: dict, version: int) -> None:
    source = read(tmp_path, version=version, **fields)
    np.testing.assert_allclose(corners_lps(source), corners_by_nibabel(tmp_path / "a.nii"), atol=2e-4)
    if version == 1:  # SimpleITK reads no other
        np.testing.assert_allclose(corners_lps(source), corners_by_simpleitk(tmp_path / "a.nii"), atol=2e-4)
    assert codes(source) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("fields", "remark"),
    [
        ({"rows": UNIT}, "sform-not-used"),  # FastSurfer#36: a sform of unit scale
        ({"rows": sform((0.002, 0.003, 0.004))}, "sform-not-used"),
        ({"rows": sform((2.0, 3.0, 5.0))}, "sform-not-used"),
        ({"rows": np.zeros((3, 4))}, "sform-not-used"),
        ({"rows": sform(shear=1.0)}, "sform-not-used"),
    ],
)
def test_a_form_that_agrees_with_pixdim_is_preferred_as_simpleitk_does(
    tmp_path: Path, fields: dict, remark: str
) -> None:
    source = read(tmp_path, **fields)
    assert codes(source) == [remark]
    np.testing.assert_allclose(source.volume.spacing, (4, 3, 2), rtol=1e-6)
    np.testing.assert_allclose(corners_lps(source), corners_by_simpleitk(tmp_path / "a.nii"), atol=2e-4)


@pytest.mark.parametrize("field", ["srow_x", "srow_y", "srow_z"])
@pytest.mark.parametrize("column", range(4))
def test_a_sform_without_numbers_yields_to_the_qform(tmp_path: Path, field: str, column: int) -> None:
    row = sform()[("srow_x", "srow_y", "srow_z").index(field)].copy()
    row[column] = NAN
    source = read(tmp_path, **{field: row}, **QUARTER_TURN)
    assert codes(source) == ["sform-not-used"]
    assert field in source.remarks[0].text
    by_qform = read(tmp_path, sform_code=0, **QUARTER_TURN)
    np.testing.assert_array_equal(source.volume.affine, by_qform.volume.affine)


def test_unit_directions_without_a_qform_take_the_sizes_of_pixdim_as_simpleitk_does(tmp_path: Path) -> None:
    source = read(tmp_path, rows=UNIT, qform_code=0)
    assert codes(source) == ["sform-scaled"]
    assert source.remarks[0].text.startswith("the sform has voxels of 1 x 1 x 1, pixdim says 2 x 3 x 4;")
    np.testing.assert_allclose(corners_lps(source), corners_by_simpleitk(tmp_path / "a.nii"), atol=2e-4)


@pytest.mark.parametrize(
    "pixdim", [[1, 1, 1, 1], [1, 0, 3, 4], [1, NAN, 3, 4], [1, 0, 0, 0], [1, 2, 3, 4.5], [1, float("inf"), 3, 4]]
)
def test_a_sform_without_a_qform_is_believed_where_pixdim_says_little(tmp_path: Path, pixdim: list[float]) -> None:
    source = read(tmp_path, pixdim=[*pixdim, 0, 0, 0, 0], qform_code=0)
    assert codes(source) == ["pixdim-not-used"]
    np.testing.assert_allclose(corners_lps(source), corners_by_nibabel_sform(), atol=2e-4)


def corners_by_nibabel_sform() -> np.ndarray:
    x, y, z = np.meshgrid(*[(0, n - 1) for n in SHAPE])
    ras = sform() @ np.stack([x.ravel(), y.ravel(), z.ravel(), np.ones(8)])
    return (np.diag([-1.0, -1.0, 1.0]) @ ras).T


@pytest.mark.parametrize(
    "fields",
    [
        {"quatern_b": 1.0, "quatern_c": 1.0, "quatern_d": 1.0},
        {"quatern_b": NAN},
        {"qoffset_x": NAN},
        {"pixdim": [1, 0, 3, 4, 0, 0, 0, 0]},
    ],
)
def test_an_impossible_qform_does_not_matter_next_to_a_good_sform(tmp_path: Path, fields: dict) -> None:
    source = read(tmp_path, **fields)
    assert codes(source) in (["qform-not-used"], ["pixdim-not-used"])
    np.testing.assert_allclose(corners_lps(source), corners_by_nibabel_sform(), atol=2e-4)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sform_code": 0, "quatern_b": 1.0, "quatern_c": 1.0, "quatern_d": 1.0}, "1, 1, 1 in quatern_b, c, d"),
        ({"sform_code": 0, "quatern_b": NAN}, "nan, 0, 0 in quatern_b, c, d"),
        ({"sform_code": 0, "qoffset_y": NAN}, "qoffset_x, y, z"),
        ({"sform_code": 0, "pixdim": [1, 0, 3, 4, 0, 0, 0, 0]}, "pixdim is 0 x 3 x 4"),
        ({"sform_code": 0, "pixdim": [1, NAN, 3, 4, 0, 0, 0, 0]}, "pixdim is nan x 3 x 4"),
        ({"sform_code": 0, "qform_code": 0, "pixdim": [1, 2, 0, 4, 0, 0, 0, 0]}, "pixdim is 2 x 0 x 4"),
        ({"qform_code": 0, "rows": np.zeros((3, 4))}, "the sform has voxels of 0 x 0 x 0"),
        ({"qform_code": 0, "rows": sform(shear=1.0)}, "sheared: its axes are off a right angle by"),
        ({"qform_code": 0, "srow_z": [NAN, 0, 4, 0]}, "nan, 0, 4, 0 in srow_z"),
        ({"quatern_d": 3.0, "rows": np.zeros((3, 4))}, "0 x 0 x 0, expected sizes above 0; the qform has 0, 0, 3"),
        ({"qform_code": 0, "rows": sform((4.0, 6.0, 8.0))}, "voxels of 4 x 6 x 8, pixdim says 2 x 3 x 4, and no qform"),
    ],
)
def test_a_header_of_which_no_part_can_be_right_is_refused_by_its_fields(
    tmp_path: Path, fields: dict, words: str
) -> None:
    with pytest.raises(NiftiAffineError) as caught:
        read(tmp_path, **fields)
    assert str(caught.value).startswith(f"{tmp_path / 'a.nii'}: ")
    assert words in str(caught.value)


def test_negative_sizes_count_without_their_sign(tmp_path: Path) -> None:
    source = read(tmp_path, sform_code=0, pixdim=[1, -2, 3, 4, 0, 0, 0, 0])
    np.testing.assert_allclose(corners_lps(source), corners_by_nibabel(tmp_path / "a.nii"), atol=2e-4)
    assert codes(source) == ["pixdim-negative"]


def test_forms_of_one_size_that_point_elsewhere_are_remarked_on(tmp_path: Path) -> None:
    source = read(tmp_path, rows=sform((-2.0, 3.0, 4.0)))
    assert [(remark.code, remark.text) for remark in source.remarks] == [
        ("sform-qform-differ", "axes point to LAS in the sform and to RAS in the qform; the sform is used")
    ]
    np.testing.assert_allclose(corners_lps(source), corners_by_nibabel(tmp_path / "a.nii"), atol=2e-4)


def test_without_any_form_sizes_are_from_pixdim_and_directions_as_nibabel_has_them(tmp_path: Path) -> None:
    source = read(tmp_path, sform_code=0, qform_code=0, rows=UNIT, quatern_b=9.0)
    np.testing.assert_allclose(corners_lps(source), corners_by_nibabel(tmp_path / "a.nii"), atol=2e-4)
    assert codes(source) == ["orientation-unknown"]


@pytest.mark.parametrize("code", [0, 2, 10, 4, 7])
def test_units_that_nobody_knows_are_millimetres(tmp_path: Path, code: int) -> None:
    np.testing.assert_allclose(read(tmp_path, xyzt_units=code).volume.spacing, (4, 3, 2), rtol=1e-6)


@pytest.mark.parametrize(
    ("code", "sizes", "words"),
    [
        (1, "2000 x 3000 x 4000 mm", "xyzt_units has code 1 (metres)"),
        (3, "0.002 x 0.003 x 0.004 mm", "xyzt_units has code 3 (micrometres)"),
        (9, "2000 x 3000 x 4000 mm", "xyzt_units has code 1 (metres)"),
    ],
)
def test_units_that_contradict_the_sizes_are_refused_with_both(
    tmp_path: Path, code: int, sizes: str, words: str
) -> None:
    with pytest.raises(NiftiUnitsError) as caught:
        read(tmp_path, xyzt_units=code)
    assert sizes in str(caught.value)
    assert words in str(caught.value)
    assert "set the code to 2" in str(caught.value)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", [1e-4, 2000.0, 1e-30, 1e30])
def test_a_voxel_of_a_size_that_no_scanner_has_is_refused(tmp_path: Path, version: int, size: float) -> None:
    with pytest.raises((NiftiUnitsError, NiftiAffineError)) as caught:
        read(tmp_path, version=version, sform_code=0, pixdim=[1, size, 3, 4, 0, 0, 0, 0])
    assert f"{size:.4g} x 3 x 4" in str(caught.value)


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e200, 1e300])
def test_numbers_of_64_bits_are_no_reason_to_overflow(tmp_path: Path, size: float) -> None:
    for fields in ({"pixdim": [1, size, 3, 4, 0, 0, 0, 0]}, {"rows": sform((size, 3, 4))}, {"quatern_b": size}):
        read(tmp_path, version=2, **fields)  # the other form is good


def test_a_first_voxel_that_lies_a_kilometre_away_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NiftiAffineError, match=r"its first voxel lies 2e\+06 mm from the origin"):
        read(tmp_path, sform_code=0, qoffset_y=2e6)


def test_what_lies_in_space_keeps_its_offset(tmp_path: Path) -> None:
    source = read(tmp_path)
    np.testing.assert_allclose(source.volume.affine[:3, 3], np.array(OFFSET) * (-1, -1, 1))
