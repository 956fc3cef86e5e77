"""What folders, archives and files hold is found; the rest is rejected by name."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from inference.series import archives
from inference.series.assemble import assemble_volumes
from inference.series.errors import NestedTooDeeplyError, UnsuitableObjectError
from inference.series.files import Inputs, ZipMemberSource, find_inputs
from inference.series.instances import looks_like_dicom
from tests.factories import ct_series, mr_series


def codes(inputs: Inputs) -> dict[str, str]:
    return {Path(rejected.name).name: rejected.code for rejected in inputs.rejected}


def test_folders_are_searched_with_all_below_and_instances_grouped_by_series(tmp_path: Path):
    ct, mr = ct_series(3), mr_series(4)
    ct.write_to(tmp_path / "a" / "deep" / "er")
    mr.write_to(tmp_path / "a")
    inputs = find_inputs([tmp_path])
    assert [(s.series_instance_uid, s.modality, len(s.sources)) for s in inputs.series] == [
        (mr.series_instance_uid, "MR", 4),
        (ct.series_instance_uid, "CT", 3),
    ]
    assert inputs.series[1].study_instance_uid == ct.study_instance_uid
    assert inputs.rejected == inputs.nifti == ()


def test_a_file_given_twice_is_found_once(tmp_path: Path):
    paths = ct_series(3).write_to(tmp_path / "ct")
    (tmp_path / "link.dcm").symlink_to(paths[0])
    inputs = find_inputs([tmp_path, paths[0], tmp_path / "ct"])
    assert [len(series.sources) for series in inputs.series] == [3]


def test_an_archive_is_read_in_place(tmp_path: Path):
    series = ct_series(3)
    archive = tmp_path / "study.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for number, instance in enumerate(series):
            file.writestr(f"../../etc/{number}.dcm", instance.part10)
        file.writestr("folder/", b"")
        file.writestr("notes.txt", b"hello")
        file.writestr("head.nii.gz", b"x")
        file.writestr("more.zip", b"x")
    before = sorted(tmp_path.rglob("*"))
    inputs = find_inputs([archive])
    (source,) = assemble_volumes(inputs.series[0].sources)
    np.testing.assert_array_equal(source.volume.array, series.voxels)
    assert sorted(tmp_path.rglob("*")) == before, "nothing is unpacked"
    assert {rejected.name.rsplit(":", 1)[1]: rejected.code for rejected in inputs.rejected} == {
        "notes.txt": "not-dicom",
        "head.nii.gz": "nifti-in-archive",
        "more.zip": "archive-in-archive",
    }


def test_an_archive_beyond_its_bounds_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(5_000_000))
    monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", 4_999_999)
    inputs = find_inputs([archive])
    assert codes(inputs) == {"bomb.zip": "archive-too-large"}
    assert "5000000 bytes" in inputs.rejected[0].reason


def test_a_member_beyond_its_bound_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archive = tmp_path / "big.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(5000))
    monkeypatch.setattr(archives, "MAX_OBJECT_BYTES", 4999)
    assert [rejected.code for rejected in find_inputs([archive]).rejected] == ["object-too-large"]


def test_a_member_whose_bytes_do_not_match_its_checksum_is_rejected(tmp_path: Path):
    archive = tmp_path / "damaged.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("0.dcm", ct_series(3)[0].part10)
    data = bytearray(archive.read_bytes())
    data[600] ^= 0xFF
    archive.write_bytes(data)
    inputs = find_inputs([archive])
    assert len(inputs.series) + len(inputs.rejected) == 1  # headers come before the checksum at the member's end
    if inputs.series:
        with pytest.raises(UnsuitableObjectError):
            assemble_volumes(inputs.series[0].sources)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:4] + bytes(len(b) - 4)])
def test_a_damaged_archive_is_rejected(tmp_path: Path, damage):
    archive = tmp_path / "damaged.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("0.dcm", bytes(1000))
    archive.write_bytes(damage(archive.read_bytes()))
    assert codes(find_inputs([archive])) == {"damaged.zip": "unreadable"}


def test_an_encrypted_member_is_rejected(tmp_path: Path):
    archive = tmp_path / "secret.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("0.dcm", bytes(1000))
    data = bytearray(archive.read_bytes())
    data[6] |= 1  # local header's flags
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 8] |= 1
    archive.write_bytes(data)
    assert [rejected.code for rejected in find_inputs([archive]).rejected] == ["encrypted"]


def test_what_operating_systems_leave_in_an_archive_and_its_hidden_folders_are_not_used(tmp_path: Path):
    apple_double = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(80)
    archive = tmp_path / "mac.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for number, instance in enumerate(ct_series(3)):
            file.writestr(f"study/IM{number}.dcm", instance.part10)
            file.writestr(f"__MACOSX/study/._IM{number}.dcm", apple_double)
        file.writestr("study/._IM7.dcm", apple_double)
        file.writestr("study/._IM8.dcm", b"")
        file.writestr("study/Thumbs.db", b"x")
        file.writestr("study/.git/annex/a.dcm", b"x")
        file.writestr("study/.git/annex/b.dcm", b"x")
    inputs = find_inputs([archive])
    assert [len(series.sources) for series in inputs.series] == [3]
    assert sorted((one.code, one.name.rsplit(":", 1)[1]) for one in inputs.rejected) == [
        ("hidden-folder", "study/.git"),
        ("system-file", "__MACOSX/study/._IM0.dcm"),
        ("system-file", "__MACOSX/study/._IM1.dcm"),
        ("system-file", "__MACOSX/study/._IM2.dcm"),
        ("system-file", "study/._IM7.dcm"),
        ("system-file", "study/._IM8.dcm"),
        ("system-file", "study/Thumbs.db"),
    ]


def test_a_real_object_whose_name_begins_like_an_apple_double_is_read(tmp_path: Path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for number, instance in enumerate(ct_series(3)):
            file.writestr(f"._{number}.dcm", instance.part10)
    assert [len(series.sources) for series in find_inputs([archive]).series] == [3]


@pytest.mark.parametrize(
    ("member", "code"),
    [
        ("a.zip", "archive-in-archive"),
        ("a.tar", "archive-in-archive"),
        ("a.TGZ", "archive-in-archive"),
        ("a.tar.xz", "archive-in-archive"),
        ("a.rar", "archive-in-archive"),
        ("IM1.dcm.gz", "archive-in-archive"),
        ("a.nii.zst", "nifti-in-archive"),
        ("a.NII.GZ", "nifti-in-archive"),
        ("events.tsv.gz", "not-dicom"),
    ],
)
def test_archives_in_archives_are_named_and_other_members_are_not(tmp_path: Path, member: str, code: str):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(member, b"x")
    assert [one.code for one in find_inputs([archive]).rejected] == [code]


def test_nifti_files_are_known_by_their_ending(tmp_path: Path):
    image = nib.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.eye(4))
    for name in ("a.nii", "b.nii.gz", "c.NII.GZ"):
        image.to_filename(tmp_path / name.lower())
        (tmp_path / name.lower()).rename(tmp_path / name)
    (tmp_path / "d.nii.bz2").write_bytes(b"x")
    assert [path.name for path in find_inputs([tmp_path]).nifti] == ["a.nii", "b.nii.gz", "c.NII.GZ", "d.nii.bz2"]


def test_what_is_no_image_is_rejected_with_its_reason(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("The patient was positioned supine." * 20)
    (tmp_path / "empty").write_bytes(b"")
    ct_series(1)[0].edited(lambda ds: setattr(ds, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.7"))
    capture = ct_series(1)[0].edited(lambda ds: setattr(ds, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.7"))
    (tmp_path / "capture").write_bytes(capture.part10)
    os.mkfifo(tmp_path / "pipe")
    inputs = find_inputs([tmp_path, tmp_path / "absent"])
    assert codes(inputs) == {
        "notes.txt": "not-dicom",
        "empty": "not-dicom",
        "capture": "secondary-capture",
        "pipe": "not-a-file",
        "absent": "not-found",
    }
    for rejected in inputs.rejected:
        assert rejected.reason.startswith(rejected.name)


def test_a_loop_of_links_ends(tmp_path: Path):
    (tmp_path / "loop").symlink_to(tmp_path)
    ct_series(3).write_to(tmp_path / "ct")
    assert [len(series.sources) for series in find_inputs([tmp_path]).series] == [3]


def test_sources_can_go_to_another_process(tmp_path: Path):
    import pickle

    source = ZipMemberSource(tmp_path / "a.zip", "b")
    assert pickle.loads(pickle.dumps(source)) == source


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (bytes(128) + b"DICM", True),
        (b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100", True),  # explicit VR, no preamble
        (b"\x08\x00\x00\x00\x04\x00\x00\x00\x10\x00\x00\x00", True),  # implicit VR, no preamble
        (b"\x00\x08\x00\x05CS\x00\x0aISO_IR 100", True),  # big endian, no preamble
        (b"PK\x03\x04" + bytes(200), False),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), False),
        (b"", False),
        (b"\x08\x00", False),
        (bytes(200), False),
    ],
)
def test_dicom_is_known_by_its_first_bytes(head: bytes, expected: bool):
    assert looks_like_dicom(head) is expected


def test_a_damaged_image_keeps_its_series_from_being_read_without_it(tmp_path: Path):
    paths = ct_series(9).write_to(tmp_path / "ct")
    whole = paths[-1].read_bytes()  # the last slice: nothing else would tell that the stack ends too early
    opened = b"\x41\x00\x10\x10SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    at = whole.index(b"\xe0\x7f\x10\x00OW")
    paths[-1].write_bytes(whole[:at] + 100 * opened + whole[at:])
    inputs = find_inputs([tmp_path])
    assert inputs.rejected == ()
    (series,) = inputs.series
    with pytest.raises(NestedTooDeeplyError):
        assemble_volumes(series.sources)


def test_a_damaged_file_of_which_nothing_tells_the_series_is_rejected_alone(tmp_path: Path):
    paths = ct_series(4).write_to(tmp_path / "ct")
    whole = paths[-1].read_bytes()
    opened = b"\x09\x00\x10\x10SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    at = whole.index(b"\x10\x00\x10\x00PN")  # before the Series Instance UID
    paths[-1].write_bytes(whole[:at] + 100 * opened + whole[at:])
    inputs = find_inputs([tmp_path])
    assert codes(inputs) == {"0004.dcm": "nested-too-deeply"}
    assert len(inputs.series[0].sources) == 3
