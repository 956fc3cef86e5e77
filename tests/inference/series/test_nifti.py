"""NIfTI: what nibabel sees right, anterior, superior, the volume has at the same place; masks fit their source."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.series import nifti_header
from inference.series.errors import (
    NiftiAffineError,
    NiftiDataTypeError,
    NiftiDimensionsError,
    NiftiTooLargeError,
    NiftiUnreadableError,
    TooFewSlicesError,
)
from inference.series.nifti import lps_affine_from_ras, ras_affine_from_lps, read_nifti
from inference.series.nifti_masks import write_nifti_mask

SHAPE = (5, 6, 7)  # x, y, z
VOXELS = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)


def oblique_affine() -> np.ndarray:
    turn = np.deg2rad(20)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([-0.7, 0.8, 3.0])
    affine[:3, 3] = (10, -20, 30)
    return affine


def saved(path: Path, voxels: np.ndarray = VOXELS, affine: np.ndarray | None = None, **codes: int) -> Path:
    image = nib.Nifti1Image(voxels, oblique_affine() if affine is None else affine)
    image.set_sform(image.affine, codes.get("sform", 1))
    image.set_qform(image.affine, codes.get("qform", 1), strip_shears=True)
    image.to_filename(path)
    return path


def test_each_voxel_lies_where_nibabel_has_it(tmp_path: Path):
    source = read_nifti(saved(tmp_path / "a.nii.gz"))
    assert source.volume.array.shape == (7, 6, 5)
    assert source.volume.array.dtype == np.float32
    assert (source.modality, source.series_instance_uid, source.plane_sources, source.headers) == ("", None, (), ())
    for i, j, k in ((0, 0, 0), (4, 0, 0), (0, 5, 0), (0, 0, 6), (1, 2, 3)):
        assert source.volume.array[k, j, i] == VOXELS[i, j, k]
        right, anterior, superior = (oblique_affine() @ [i, j, k, 1])[:3]
        left, posterior, head = (source.volume.affine @ [k, j, i, 1])[:3]
        np.testing.assert_allclose((left, posterior, head), (-right, -anterior, superior), atol=1e-4)


def test_each_voxel_lies_where_simpleitk_has_it(tmp_path: Path):
    path = saved(tmp_path / "a.nii")
    source, image = read_nifti(path), sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), source.volume.array)
    for i, j, k in ((0, 0, 0), (4, 1, 2), (3, 5, 6)):
        point = image.TransformIndexToPhysicalPoint((i, j, k))
        np.testing.assert_allclose((source.volume.affine @ [k, j, i, 1])[:3], point, atol=1e-4)


def test_bz2_and_gz_and_plain_are_the_same(tmp_path: Path):
    path = saved(tmp_path / "a.nii")
    (tmp_path / "b.nii.bz2").write_bytes(bz2.compress(path.read_bytes()))
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    arrays = [read_nifti(tmp_path / name).volume.array for name in ("a.nii", "b.nii.bz2", "c.nii.gz")]
    np.testing.assert_array_equal(arrays[0], arrays[1])
    np.testing.assert_array_equal(arrays[0], arrays[2])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-300, 300), min_size=12, max_size=12))
def test_affines_there_and_back_are_the_same(numbers: list[float]):
    affine = np.vstack([np.array(numbers).reshape(3, 4), [0, 0, 0, 1]])
    np.testing.assert_array_equal(ras_affine_from_lps(lps_affine_from_ras(affine)), affine)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 1)])
def test_a_mask_keeps_shape_affine_and_codes_of_its_source_bit_by_bit(tmp_path: Path, ending: str, shape):
    template = saved(tmp_path / f"source{ending}", VOXELS.reshape(shape), sform=4, qform=2)
    source = read_nifti(template)
    mask = source.volume.array > 100
    write_nifti_mask(tmp_path / f"mask{ending}", mask, source.volume, template)
    written, original = nib.load(tmp_path / f"mask{ending}"), nib.load(template)
    assert written.get_data_dtype() == np.uint8
    assert written.shape == original.shape
    np.testing.assert_array_equal(np.asarray(written.dataobj).reshape(SHAPE), (VOXELS > 100).astype(np.uint8))
    for field in ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d",
                  "qoffset_x", "qoffset_y", "qoffset_z", "pixdim", "xyzt_units"):  # fmt: skip
        np.testing.assert_array_equal(written.header[field], original.header[field])


def test_a_mask_does_not_take_texts_or_extensions_from_its_source(tmp_path: Path):
    image = nib.Nifti1Image(VOXELS, np.eye(4))
    image.header["descrip"] = b"Doe^Jane"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Doe^Jane"))
    image.header.set_slope_inter(2.0, 5.0)
    image.to_filename(tmp_path / "a.nii")
    source = read_nifti(tmp_path / "a.nii")
    write_nifti_mask(tmp_path / "m.nii", np.ones((7, 6, 5), bool), source.volume, tmp_path / "a.nii")
    assert b"Doe" not in (tmp_path / "m.nii").read_bytes()
    assert np.all(nib.load(tmp_path / "m.nii").get_fdata() == 1)


def test_a_mask_of_a_dicom_volume_lies_in_patient_space(tmp_path: Path):
    lps = lps_affine_from_ras(oblique_affine())
    geometry = hd.VolumeGeometry(lps, (7, 6, 5), "PATIENT")
    mask = np.zeros((7, 6, 5), bool)
    mask[6, 2, 1] = True
    write_nifti_mask(tmp_path / "m.nii.gz", mask, geometry, None)
    written = nib.load(tmp_path / "m.nii.gz")
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (1, 1)
    np.testing.assert_allclose(written.affine, oblique_affine(), atol=1e-5)
    (index,) = np.argwhere(written.get_fdata())
    image = sitk.ReadImage(str(tmp_path / "m.nii.gz"))
    point = image.TransformIndexToPhysicalPoint([int(n) for n in index])
    np.testing.assert_allclose(point, (lps @ [6, 2, 1, 1])[:3], atol=1e-4)


def test_the_same_mask_gives_the_same_bytes(tmp_path: Path):
    geometry = hd.VolumeGeometry(np.eye(4), (7, 6, 5), "PATIENT")
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti_mask(tmp_path / name, np.ones((7, 6, 5), bool), geometry, None)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert (tmp_path / "a.nii.gz").read_bytes()[4:8] == bytes(4), "gzip's time of modification"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz"]


def test_a_mask_on_another_grid_is_a_defect(tmp_path: Path):
    geometry = hd.VolumeGeometry(np.eye(4), (7, 6, 5), "PATIENT")
    with pytest.raises(ValueError, match=r"\(5, 6, 7\)"):
        write_nifti_mask(tmp_path / "a.nii", np.ones((5, 6, 7), bool), geometry, None)


def test_scaling_is_applied(tmp_path: Path):
    image = nib.Nifti1Image(VOXELS, np.eye(4))
    image.header.set_slope_inter(0.5, -10.0)
    image.to_filename(tmp_path / "a.nii")
    stored = nib.load(tmp_path / "a.nii")
    expected = np.asarray(stored.dataobj, np.float32)
    np.testing.assert_allclose(read_nifti(tmp_path / "a.nii").volume.array, expected.transpose(2, 1, 0))


def test_voxels_that_are_not_finite_become_zero_with_a_remark(tmp_path: Path):
    voxels = VOXELS.astype(np.float32)
    voxels[1, 2, 3], voxels[0, 0, 0] = np.nan, np.inf
    source = read_nifti(saved(tmp_path / "a.nii", voxels))
    assert source.volume.array[3, 2, 1] == source.volume.array[0, 0, 0] == 0
    assert [(remark.code, remark.text[:8]) for remark in source.remarks] == [("voxels-not-finite", "2 voxels")]


def test_units_of_length_other_than_millimetres_are_converted(tmp_path: Path):
    for name, per_mm in (("meter", 0.001), ("micron", 1000.0)):
        image = nib.Nifti1Image(VOXELS, np.diag([10 * per_mm, 20 * per_mm, 30 * per_mm, 1]))
        image.header.set_xyzt_units(name)
        image.to_filename(tmp_path / "a.nii")
        np.testing.assert_allclose(read_nifti(tmp_path / "a.nii").volume.spacing, (30, 20, 10), rtol=1e-6)


def test_an_unknown_orientation_is_remarked(tmp_path: Path):
    source = read_nifti(saved(tmp_path / "a.nii", affine=np.diag([1.0, 2, 3, 1]), sform=0, qform=0))
    assert [remark.code for remark in source.remarks] == ["orientation-unknown"]
    np.testing.assert_allclose(source.volume.spacing, (3, 2, 1), rtol=1e-6)


def with_shear(voxels_off: float) -> np.ndarray:
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[0, 2] = voxels_off / 7 * 2
    return affine


def with_second_row(path: Path, row: list[float]) -> None:
    """Write the numbers straight into srow_y; nibabel would not."""
    data = bytearray(saved(path, affine=np.eye(4), qform=0).read_bytes())
    data[296:312] = np.array(row, "<f4").tobytes()
    path.write_bytes(data)


def test_a_trace_of_shear_is_straightened_with_a_remark_and_kept_in_masks(tmp_path: Path):
    path = saved(tmp_path / "a.nii", affine=with_shear(0.1), qform=0)
    source = read_nifti(path)
    assert [remark.code for remark in source.remarks] == ["affine-straightened"]
    write_nifti_mask(tmp_path / "m.nii", source.volume.array > 3, source.volume, path)
    np.testing.assert_array_equal(nib.load(tmp_path / "m.nii").affine, nib.load(path).affine)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: saved(path, np.zeros((3, 4, 5, 1, 2), np.int16)), NiftiDimensionsError),
        (lambda path: saved(path, np.zeros((3, 4, 5, 2, 2), np.int16)), NiftiDimensionsError),
        (lambda path: saved(path, np.zeros((5,), np.int16)), NiftiDimensionsError),
        (lambda path: saved(path, np.zeros((3, 4), np.int16)), TooFewSlicesError),
        (lambda path: saved(path, np.zeros((30, 40, 2), np.int16)), TooFewSlicesError),
        (lambda path: saved(path, np.zeros((1, 30, 40), np.int16)), TooFewSlicesError),
        (lambda path: saved(path, np.zeros((3, 4, 5), np.complex64)), NiftiDataTypeError),
        (lambda path: saved(path, np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])), NiftiDataTypeError),
        (lambda path: saved(path, affine=with_shear(1.0), qform=0), NiftiAffineError),
        (lambda path: with_second_row(path, [0, 0, 0, 0]), NiftiAffineError),
        (lambda path: with_second_row(path, [1, 0, 0, 0]), NiftiAffineError),
        (lambda path: with_second_row(path, [0, np.nan, 0, 0]), NiftiAffineError),
        (lambda path: path.write_bytes(b"hello" * 100), NiftiUnreadableError),
        (lambda path: path.write_bytes(b""), NiftiUnreadableError),
        (lambda path: None, NiftiUnreadableError),
    ],
)
def test_what_is_no_scalar_volume_in_space_is_refused(tmp_path: Path, make, expected):
    make(tmp_path / "a.nii")
    with pytest.raises(expected) as caught:
        read_nifti(tmp_path / "a.nii")
    assert str(caught.value).startswith(str(tmp_path / "a.nii"))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nii.bz2"])
def test_a_file_cut_short_is_refused(tmp_path: Path, ending: str):
    noise = np.random.default_rng(1).integers(0, 30_000, (30, 30, 30)).astype(np.int16)
    path = saved(tmp_path / f"a{ending}", noise)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(NiftiUnreadableError):
        read_nifti(path)


def test_a_header_that_promises_too_many_voxels_is_refused_before_reading(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(nifti_header, "MAX_VOXELS", VOXELS.size - 1)
    with pytest.raises(NiftiTooLargeError, match="at most 209 in a volume"):
        read_nifti(saved(tmp_path / "a.nii"))


def test_a_second_version_file_stays_one(tmp_path: Path):
    nib.Nifti2Image(VOXELS, oblique_affine()).to_filename(tmp_path / "a.nii")
    source = read_nifti(tmp_path / "a.nii")
    write_nifti_mask(tmp_path / "m.nii", source.volume.array > 3, source.volume, tmp_path / "a.nii")
    assert isinstance(nib.load(tmp_path / "m.nii"), nib.Nifti2Image)
