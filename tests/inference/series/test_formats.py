"""Files are known by their first bytes; what is not read is named, with what to type."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from inference.series.files import find_inputs
from inference.series.formats import FileKind, recognise
from tests.factories import ct_series

gz = partial(gzip.compress, mtime=0)  # the time would be in the name of the test, another one in each process
DICOM = ct_series(1)[0].part10
ZSTANDARD = b"\x28\xb5\x2f\xfd" + bytes(600)


def nifti_bytes(image_class: type = nib.Nifti1Image) -> bytes:
    return image_class(np.zeros((4, 5, 6), np.int16), np.eye(4)).to_bytes()


def tar_bytes(mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode.replace(":gz", "")) as tar:
        tar.addfile(tarfile.TarInfo("study/IM1"), io.BytesIO())
    return gz(buffer.getvalue()) if mode.endswith(":gz") else buffer.getvalue()


@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("a.nii.gz", lambda data: data),
        ("a.nii", gz),
        ("a.nii", bz2.compress),
        ("a.nii.gz", lambda data: gz(gz(data))),
        ("a.nii.gz", bz2.compress),
        ("a", lambda data: data),
        ("a.1", gz),
        ("T1.img", lambda data: data),
    ],
)
def test_a_nifti_file_is_known_whatever_its_name_says(tmp_path: Path, name: str, packed, image_class: type) -> None:
    (tmp_path / name).write_bytes(packed(nifti_bytes(image_class)))
    inputs = find_inputs([tmp_path])
    assert (inputs.nifti, inputs.rejected) == ((tmp_path / name,), ())


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nii.bz2"])
def test_what_is_only_called_nifti_is_left_to_its_reader(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not an image")
    assert recognise(tmp_path / name).kind is FileKind.NIFTI


def test_a_dicom_object_called_nifti_is_a_dicom_object(tmp_path: Path) -> None:
    for number, instance in enumerate(ct_series(3)):
        (tmp_path / f"{number}.nii").write_bytes(instance.part10)
    inputs = find_inputs([tmp_path])
    assert (len(inputs.series[0].sources), inputs.nifti) == (3, ())


@pytest.mark.parametrize("data", [gz(b"t\tx\n1\t2\n"), b"", b"hello", b"\x1f\x8b\x08broken", b"BZh9broken"])
def test_what_is_nothing_known_is_left_to_the_dicom_reader(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "events.tsv.gz").write_bytes(data)
    assert recognise(tmp_path / "events.tsv.gz").kind is FileKind.DICOM


@pytest.mark.parametrize(
    ("name", "data", "code", "words"),
    [
        ("s.tar", tar_bytes("w"), "archive", "a tar archive; unpack it and give the folder: tar -xf $/s.tar"),
        ("s.tar.gz", tar_bytes("w:gz"), "archive", "tar -xf $/s.tar.gz"),
        ("s.tgz", tar_bytes("w:bz2"), "archive", "tar -xf $/s.tgz"),
        ("s.7z", b"7z\xbc\xaf\x27\x1c" + bytes(600), "archive", "unpack it and give the folder: 7z x $/s.7z"),
        ("s.rar", b"Rar!\x1a\x07\x01" + bytes(600), "archive", "unrar x $/s.rar"),
        ("I.dcm.gz", gz(DICOM), "compressed", "with gzip; unpack it: gzip -dc $/I.dcm.gz > $/I.dcm"),
        ("I.bz2", bz2.compress(DICOM), "compressed", "bzip2 -dc $/I.bz2 > $/I"),
        ("I", bz2.compress(DICOM), "compressed", "bzip2 -dc $/I > $/I.unpacked"),
        ("a.nii.xz", lzma.compress(nifti_bytes()), "compressed", "with xz; unpack it: xz -dc $/a.nii.xz > $/a.nii"),
        ("a.nii.zst", ZSTANDARD, "compressed", "Zstandard; unpack it: zstd -dc $/a.nii.zst > $/a.nii"),
        ("a.nii.gz", ZSTANDARD, "compressed", "Zstandard; unpack it: zstd -dc $/a.nii.gz > $/a.nii"),
        ("my head.nii.zst", ZSTANDARD, "compressed", "zstd -dc '$/my head.nii.zst' > '$/my head.nii'"),
        ("orig.mgz", gz(b"\0\0\0\1" + bytes(600)), "other-format", "nib-convert $/orig.mgz $/orig.nii.gz"),
        ("a.nrrd", b"NRRD0004\n# Complete", "other-format", "SimpleITK: WriteImage(ReadImage(...), '$/a.nii.gz')"),
        ("a.mha", b"ObjectType = Image\nNDims = 3", "other-format", "a MetaImage"),
        ("a.mnc", b"\x89HDF\r\n\x1a\n" + bytes(600), "other-format", "mnc2nii $/a.mnc $/a.nii"),
        ("a.PAR", b"# === DATA DESCRIPTION FILE ====", "other-format", "nib-convert $/a.PAR $/a.nii.gz"),
        ("a+orig.HEAD", b"\ntype  = string-attribute\nname", "other-format", "an AFNI image"),
        ("a.img", bytes(600), "other-format", "voxels without their header"),
        (
            "a.nii.gz",
            b"/annex/objects/MD5E-s555147--75cab8005361c2504ba5a7f02ecbacd7.nii.gz\n",
            "content-not-fetched",
            "git annex get a.nii.gz (or datalad get a.nii.gz)",
        ),
        (
            "a.nii.gz",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "content-not-fetched",
            "git lfs pull --include a.nii.gz",
        ),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named_with_what_to_type(
    tmp_path: Path, name: str, data: bytes, code: str, words: str
) -> None:
    (tmp_path / name).write_bytes(data)
    inputs = find_inputs([tmp_path])
    assert [(one.name, one.code) for one in inputs.rejected] == [(str(tmp_path / name), code)]
    assert inputs.rejected[0].reason.startswith(f"{tmp_path / name}: ")
    assert words.replace("$", str(tmp_path)) in inputs.rejected[0].reason
    assert inputs.nifti == inputs.series == ()


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_formats_that_simpleitk_writes_are_known(tmp_path: Path, ending: str) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6), np.int16)), str(tmp_path / f"a{ending}"))
    assert [one.code for one in find_inputs([tmp_path]).rejected] == ["other-format"]


@pytest.mark.parametrize(("image_class", "name"), [(nib.MGHImage, "a.mgz"), (nib.MGHImage, "a.mgh")])
def test_formats_that_nibabel_writes_are_known(tmp_path: Path, image_class: type, name: str) -> None:
    image_class(np.zeros((4, 5, 6), np.float32), np.eye(4)).to_filename(tmp_path / name)
    assert [one.code for one in find_inputs([tmp_path]).rejected] == ["other-format"]


@pytest.mark.parametrize("given", ["a.hdr", "a.img", "."])
def test_an_analyze_pair_is_left_out_once_because_of_its_sides(tmp_path: Path, given: str) -> None:
    nib.AnalyzeImage(np.zeros((4, 5, 6), np.int16), np.eye(4)).to_filename(tmp_path / "a.img")
    inputs = find_inputs([tmp_path / given])
    assert [(Path(one.name).name, one.code) for one in inputs.rejected] == [("a.hdr", "other-format")]
    assert "which side is left" in inputs.rejected[0].reason


@pytest.mark.parametrize("given", ["a.hdr", "a.img", "."])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_nifti_pair_is_one_image_by_its_header(tmp_path: Path, given: str, ending: str) -> None:
    nib.Nifti1Pair(np.zeros((4, 5, 6), np.int16), np.eye(4)).to_filename(tmp_path / f"a.img{ending}")
    inputs = find_inputs([tmp_path / (given + ending if given != "." else given)])
    assert (inputs.nifti, inputs.rejected) == ((tmp_path / f"a.hdr{ending}",), ())
