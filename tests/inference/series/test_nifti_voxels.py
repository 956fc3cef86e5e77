"""Voxels of NIfTI files of every type and packing are what nibabel reads; fields that cannot be are named."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import re
import resource
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from inference.series.errors import (
    NiftiDataTypeError,
    NiftiDimensionsError,
    NiftiError,
    NiftiUnreadableError,
    TooFewSlicesError,
)
from inference.series.nifti import read_nifti
from inference.series.nifti_masks import write_nifti_mask
from tests.nifti_files import SHAPE, header_bytes, nifti_bytes, voxels, write_nifti

EXTENSION = b"\1\0\0\0" + (32).to_bytes(4, "little") + (6).to_bytes(4, "little") + b"a comment".ljust(24, b"\0")
NAN = float("nan")


def expected(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64).transpose(2, 1, 0).astype(np.float32)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_scalar_type_in_either_byte_order_is_read_as_nibabel_reads_it(
    tmp_path: Path, version: int, order: str, kind: str
) -> None:
    path = write_nifti(tmp_path / "a.nii", voxels(data_type=order + kind), version=version, scl_slope=0.5, scl_inter=-7)
    array = read_nifti(path).volume.array
    np.testing.assert_array_equal(array, expected(voxels(data_type=kind) * 0.5 - 7))
    np.testing.assert_allclose(array, nib.load(path).get_fdata().transpose(2, 1, 0))


@pytest.mark.parametrize(
    ("code", "name"),
    [(0, "unknown"), (1, "binary"), (32, "complex64"), (128, "RGB24"), (1536, "float128"), (1792, "complex128"),
     (2304, "RGBA32"), (9999, "unknown")],
)  # fmt: skip
def test_other_types_are_refused_by_name(tmp_path: Path, code: int, name: str) -> None:
    with pytest.raises(NiftiDataTypeError, match=rf"of type {name}.*\(datatype {code}\)"):
        read_nifti(write_nifti(tmp_path / "a.nii", datatype=code))


@pytest.mark.parametrize(
    ("slope", "intercept", "factor", "added", "codes"),
    [
        (0.0, 0.0, 1, 0, []),
        (0.0, NAN, 1, 0, []),
        (NAN, NAN, 1, 0, []),
        (0.0, -1024.0, 1, 0, ["intercept-not-used"]),
        (NAN, 5.0, 1, 0, ["intercept-not-used"]),
        (2.0, -3.0, 2, -3, []),
        (-1.0, 10.0, -1, 10, []),
    ],
)
def test_slope_and_intercept_follow_the_standard(
    tmp_path: Path, slope: float, intercept: float, factor: int, added: int, codes: list[str]
) -> None:
    path = write_nifti(tmp_path / "a.nii", scl_slope=slope, scl_inter=intercept)
    source = read_nifti(path)
    np.testing.assert_array_equal(source.volume.array, expected(voxels() * factor + added))
    np.testing.assert_array_equal(source.volume.array, nib.load(path).get_fdata().transpose(2, 1, 0))
    assert [remark.code for remark in source.remarks] == codes


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"scl_slope": 2.0, "scl_inter": NAN}, "scl_inter is nan, with scl_slope 2, expected a number"),
        ({"scl_slope": 1.0, "scl_inter": float("inf")}, "scl_inter is inf"),
        ({"scl_slope": float("-inf")}, "scl_slope is -inf, expected a number"),
    ],
)
def test_a_scale_that_is_no_number_is_refused_by_its_field(tmp_path: Path, fields: dict, words: str) -> None:
    with pytest.raises(NiftiUnreadableError, match=words):
        read_nifti(write_nifti(tmp_path / "a.nii", **fields))


def test_values_beyond_float32_are_no_numbers_and_no_warnings(tmp_path: Path) -> None:
    array = voxels(data_type="<f8")
    array[0, 0, 0] = 1e300
    source = read_nifti(write_nifti(tmp_path / "a.nii", array))
    assert [remark.code for remark in source.remarks] == ["voxels-not-finite"]
    assert np.isfinite(source.volume.array).all()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "twice": lambda data: gzip.compress(gzip.compress(data)),
    "members": lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:]),
}


@pytest.mark.parametrize("packing", list(PACKINGS))
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a", "a.img.gz"])
def test_compression_is_known_by_content(tmp_path: Path, packing: str, name: str) -> None:
    (tmp_path / name).write_bytes(PACKINGS[packing](nifti_bytes()))
    source = read_nifti(tmp_path / name)
    np.testing.assert_array_equal(source.volume.array, expected(voxels()))
    assert source.remarks == ()


@pytest.mark.parametrize("packing", ["plain", "gzip"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("declared", [0, 348, 100, -5, 1_000_000, 353, 400])
def test_an_offset_that_cannot_be_is_put_right_by_the_size_of_the_file(
    tmp_path: Path, declared: float, version: int, packing: str
) -> None:
    data = nifti_bytes(version=version, vox_offset=declared)
    (tmp_path / "a.nii").write_bytes(PACKINGS[packing](data))
    source = read_nifti(tmp_path / "a.nii")
    np.testing.assert_array_equal(source.volume.array, expected(voxels()))
    assert [remark.code for remark in source.remarks] == ([] if declared == 0 else ["vox-offset-corrected"])


@pytest.mark.parametrize("declared", [NAN, float("inf"), 352.5])
def test_an_offset_that_is_no_place_is_put_right_by_the_size_of_the_file(tmp_path: Path, declared: float) -> None:
    source = read_nifti(write_nifti(tmp_path / "a.nii", vox_offset=declared))
    np.testing.assert_array_equal(source.volume.array, expected(voxels()))
    assert source.remarks[0].text.endswith("by the file's size the voxels begin at 352")


def test_voxels_right_after_the_header_are_read_where_the_size_of_the_file_says_so(tmp_path: Path) -> None:
    source = read_nifti(write_nifti(tmp_path / "a.nii", extension=b"", vox_offset=348))
    np.testing.assert_array_equal(source.volume.array, expected(voxels()))
    assert [remark.code for remark in source.remarks] == ["vox-offset-corrected"]


@pytest.mark.parametrize("packing", ["plain", "gzip"])
@pytest.mark.parametrize("declared", [100, 348, NAN, 1_000_000])
def test_an_offset_that_no_size_puts_right_is_refused_by_its_field(
    tmp_path: Path, declared: float, packing: str
) -> None:
    data = nifti_bytes(vox_offset=declared) + bytes(7)
    (tmp_path / "a.nii").write_bytes(PACKINGS[packing](data))
    words = re.escape(f"vox_offset is {declared:g}, and 20 x 24 x 28 voxels of type int16")
    with pytest.raises(NiftiUnreadableError, match=words):
        read_nifti(tmp_path / "a.nii")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("added", [0, 1, 48])
def test_voxels_after_extensions_and_padding_are_found(tmp_path: Path, version: int, added: int) -> None:
    first = (348 if version == 1 else 540) + len(EXTENSION) + added
    path = write_nifti(tmp_path / "a.nii", version=version, extension=EXTENSION + bytes(added), vox_offset=first)
    source = read_nifti(path)
    np.testing.assert_array_equal(source.volume.array, expected(voxels()))
    assert source.remarks == ()


@pytest.mark.parametrize("declared", [0, 352, 360])
def test_an_extension_that_the_offset_does_not_count_is_no_voxels(tmp_path: Path, declared: int) -> None:
    source = read_nifti(write_nifti(tmp_path / "a.nii", extension=EXTENSION, vox_offset=declared))
    np.testing.assert_array_equal(source.volume.array, expected(voxels()))
    assert [remark.code for remark in source.remarks] == ["vox-offset-corrected"]


@pytest.mark.parametrize("size", [0, 7, 17, -16, 2**31 - 16])
def test_an_extension_of_a_size_that_cannot_be_does_not_hide_the_voxels(tmp_path: Path, size: int) -> None:
    odd = b"\1\0\0\0" + size.to_bytes(4, "little", signed=True) + bytes(28)
    source = read_nifti(write_nifti(tmp_path / "a.nii", extension=odd, vox_offset=348 + len(odd)))
    np.testing.assert_array_equal(source.volume.array, expected(voxels()))


@pytest.mark.parametrize("packing", ["plain", "gzip", "bzip2"])
def test_a_file_cut_short_is_named_so(tmp_path: Path, packing: str) -> None:
    noise = np.random.default_rng(1).integers(0, 30_000, SHAPE).astype("<i2")
    packed = PACKINGS[packing](nifti_bytes(noise))
    (tmp_path / "a.nii").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(NiftiUnreadableError, match="cut short"):
        read_nifti(tmp_path / "a.nii")


def test_a_compressed_file_that_changed_on_its_way_is_damaged(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(nifti_bytes(), compresslevel=0))
    packed[5000] ^= 0xFF  # stored, so that only the checksum at the end tells
    (tmp_path / "a.nii.gz").write_bytes(packed)
    with pytest.raises(NiftiUnreadableError, match="checksum"):
        read_nifti(tmp_path / "a.nii.gz")


def test_an_empty_file_a_folder_and_a_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"")
    (tmp_path / "b.nii").write_bytes(b"hello" * 200)
    (tmp_path / "c.nii.gz").write_bytes(b"\x1f\x8b\x08\0" + b"\xff" * 100)
    (tmp_path / "d.nii.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(600))
    for name, words in (
        ("a.nii", "empty"),
        ("b.nii", "not a NIfTI file"),
        ("c.nii.gz", "damaged"),
        ("d.nii.zst", "Zstandard; unpack it: zstd -dc"),
        (".", "Is a directory"),
        ("none.nii", "No such file"),
    ):
        with pytest.raises(NiftiUnreadableError, match=words):
            read_nifti(tmp_path / name)


def test_a_second_version_that_a_text_transfer_changed_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(nifti_bytes(version=2).replace(b"\r\n\x1a\n", b"\n\x1a\n\0"))
    with pytest.raises(NiftiUnreadableError, match="text mode"):
        read_nifti(tmp_path / "a.nii")


def test_of_several_time_points_the_first_is_run_and_its_mask_has_three_axes(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", voxels((*SHAPE, 3)))
    source = read_nifti(path)
    np.testing.assert_array_equal(source.volume.array, nib.load(path).dataobj[..., 0].transpose(2, 1, 0))
    assert [(remark.code, remark.text) for remark in source.remarks] == [
        ("volumes-not-run", "2 of 3 volumes (time points) are not looked at, only the first")
    ]
    write_nifti_mask(tmp_path / "m.nii.gz", source.volume.array > 3, source.volume, path)
    mask = nib.load(tmp_path / "m.nii.gz")
    assert mask.shape == SHAPE
    np.testing.assert_array_equal(np.asarray(mask.dataobj), nib.load(path).dataobj[..., 0] > 3)
    np.testing.assert_array_equal(mask.affine, nib.load(path).affine)


@pytest.mark.parametrize(
    ("dim", "words"),
    [
        ([8, 20, 24, 28, 1, 1, 1, 1], "dim\\[0\\] is 8"),
        ([-1, 20, 24, 28, 1, 1, 1, 1], "dim\\[0\\] is -1"),
        ([3, 20, 24, -28, 1, 1, 1, 1], "dim\\[3\\] is -28"),
        ([3, 0, 24, 28, 1, 1, 1, 1], "dim\\[1\\] is 0"),
        ([5, 20, 24, 28, 1, 3, 1, 1], "20 x 24 x 28 x 1 x 3 voxels, several values in each"),
        ([1, 20, 1, 1, 1, 1, 1, 1], "20 values along one axis"),
    ],
)
def test_axes_that_cannot_be_are_refused_by_name(tmp_path: Path, dim: list[int], words: str) -> None:
    with pytest.raises(NiftiDimensionsError, match=words):
        read_nifti(write_nifti(tmp_path / "a.nii", dim=dim))


@pytest.mark.parametrize("dim", [[3, *SHAPE, 0, 0, 0, 0], [4, *SHAPE, 0, 0, 0, 0], [7, *SHAPE, 1, 1, 1, 1]])
def test_unused_axes_may_be_anything(tmp_path: Path, dim: list[int]) -> None:
    source = read_nifti(write_nifti(tmp_path / "a.nii", dim=dim))
    write_nifti_mask(tmp_path / "m.nii", source.volume.array > 3, source.volume, tmp_path / "a.nii")
    assert nib.load(tmp_path / "m.nii").get_fdata().size == voxels().size


def test_a_slice_more_than_the_header_says_is_remarked_on(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(nifti_bytes() + bytes(2 * 20 * 24))
    assert [remark.code for remark in read_nifti(tmp_path / "a.nii").remarks] == ["voxels-left-over"]


def test_a_sizeof_hdr_that_is_wrong_does_not_matter_where_the_rest_is_right(tmp_path: Path) -> None:
    for order in "<>":
        path = write_nifti(tmp_path / "a.nii", voxels(data_type=f"{order}i2"), sizeof_hdr=0)
        np.testing.assert_array_equal(read_nifti(path).volume.array, expected(voxels()))


@pytest.mark.parametrize("given", ["a.hdr", "a.img"])
@pytest.mark.parametrize(
    ("header_name", "voxels_name"), [("a.hdr", "a.img"), ("a.hdr", "a.img.gz"), ("a.HDR", "a.IMG")]
)
def test_a_pair_of_files_is_read_as_one(tmp_path: Path, given: str, header_name: str, voxels_name: str) -> None:
    (tmp_path / header_name).write_bytes(header_bytes(voxels(), magic=b"ni1", vox_offset=0))
    stored = voxels().tobytes(order="F")
    (tmp_path / voxels_name).write_bytes(gzip.compress(stored) if voxels_name.endswith(".gz") else stored)
    source = read_nifti(tmp_path / (header_name if given == "a.hdr" else voxels_name))
    np.testing.assert_array_equal(source.volume.array, expected(voxels()))
    write_nifti_mask(tmp_path / "m.nii.gz", source.volume.array > 3, source.volume, tmp_path / header_name)
    mask = nib.load(tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(np.asarray(mask.dataobj), voxels() > 3)


def test_a_pair_whose_offset_is_of_a_single_file_is_put_right(tmp_path: Path) -> None:
    (tmp_path / "a.hdr").write_bytes(header_bytes(voxels(), magic=b"ni1", vox_offset=352))
    (tmp_path / "a.img").write_bytes(voxels().tobytes(order="F"))
    source = read_nifti(tmp_path / "a.hdr")
    np.testing.assert_array_equal(source.volume.array, expected(voxels()))
    assert [remark.code for remark in source.remarks] == ["vox-offset-corrected"]


def test_a_header_without_its_voxels_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.hdr").write_bytes(header_bytes(voxels(), magic=b"ni1", vox_offset=0))
    with pytest.raises(NiftiUnreadableError, match=r"a\.img, which is not there"):
        read_nifti(tmp_path / "a.hdr")


def test_texts_of_the_source_do_not_get_into_its_mask(tmp_path: Path) -> None:
    texts = dict.fromkeys(("data_type", "db_name", "descrip", "aux_file", "intent_name"), b"Doe^Jane")
    path = write_nifti(
        tmp_path / "a.nii", extension=EXTENSION.replace(b"a comment", b"Doe^Jane "), vox_offset=380, **texts
    )
    source = read_nifti(path)
    write_nifti_mask(tmp_path / "m.nii", source.volume.array > 3, source.volume, path)
    assert b"Doe" not in (tmp_path / "m.nii").read_bytes()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_mask_keeps_version_byte_order_and_transforms(tmp_path: Path, version: int, order: str) -> None:
    path = write_nifti(tmp_path / "a.nii", voxels(data_type=f"{order}i2"), version=version, sform_code=4, qform_code=2)
    source = read_nifti(path)
    write_nifti_mask(tmp_path / "m.nii", source.volume.array > 3, source.volume, path)
    mask, original = nib.load(tmp_path / "m.nii"), nib.load(path)
    assert type(mask) is type(original)
    assert mask.header.endianness == original.header.endianness
    np.testing.assert_array_equal(np.asarray(mask.dataobj), voxels() > 3)
    for field in ("sform_code", "qform_code", "srow_x", "quatern_b", "qoffset_x", "pixdim", "xyzt_units", "dim"):
        np.testing.assert_array_equal(mask.header[field], original.header[field])


def test_what_a_small_file_promises_is_neither_allocated_nor_waited_for(tmp_path: Path) -> None:
    huge = header_bytes(voxels(), dim=[3, 1000, 1000, 1000, 1, 1, 1, 1], vox_offset=352)
    zeros = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = zeros.compress(huge + bytes(4)) + zeros.compress(bytes(100_000_000)) + zeros.flush()
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    for name, data in (("a.nii", huge + bytes(100)), ("b.nii.gz", bomb)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(NiftiUnreadableError, match="vox_offset is 352"):
            read_nifti(tmp_path / name)
    assert time.process_time() - started < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # kB; the voxels read so far


def test_a_file_that_unpacks_to_far_more_than_its_voxels_is_read_no_further(tmp_path: Path) -> None:
    zeros = zlib.compressobj(9, zlib.DEFLATED, 31)
    data = (
        zeros.compress(nifti_bytes()) + b"".join(zeros.compress(bytes(10_000_000)) for _ in range(50)) + zeros.flush()
    )
    (tmp_path / "a.nii.gz").write_bytes(data)
    started = time.process_time()
    assert [remark.code for remark in read_nifti(tmp_path / "a.nii.gz").remarks] == ["voxels-left-over"]
    assert time.process_time() - started < 2


@pytest.mark.parametrize("version", [1, 2])
def test_a_header_of_noise_ends_in_a_named_error(tmp_path: Path, version: int) -> None:
    good = nifti_bytes(version=version)
    n_read = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        data = bytearray(good)
        for at in rng.integers(12, 344, rng.integers(1, 20)):
            data[at] = rng.integers(0, 256)
        (tmp_path / "a.nii").write_bytes(data)
        with contextlib.suppress(NiftiError, TooFewSlicesError):
            assert np.isfinite(read_nifti(tmp_path / "a.nii").volume.affine).all()
            n_read += 1
    assert 0 < n_read < 100
