"""What pydicom raises on damaged bytes is one list, and what the disk raises is told from it."""

from __future__ import annotations

import errno
import io
import struct
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.dicomweb.errors import UnreadableObjectError
from dicom_node.dicomweb.parsing import parsing
from part10.damage import PYDICOM_ERRORS, is_about_the_disk
from part10.file_meta import file_meta

META = file_meta(sop_class_uid="1.2", sop_instance_uid="1.2.3", transfer_syntax_uid=ExplicitVRLittleEndian)
OPEN_SEQUENCE = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)


def test_a_sequence_that_ends_is_damage_though_pydicom_calls_it_an_os_error() -> None:
    with pytest.raises(PYDICOM_ERRORS) as caught:
        dcmread(io.BytesIO(META + OPEN_SEQUENCE + b"\xfe\xff\x00\xe0"))
    assert isinstance(caught.value, OSError)
    assert not is_about_the_disk(caught.value)


def test_a_lost_file_is_about_the_disk(tmp_path: Path) -> None:
    with pytest.raises(PYDICOM_ERRORS) as caught:
        dcmread(tmp_path / "lost.dcm")
    assert is_about_the_disk(caught.value)


def test_dicomweb_takes_damage_for_damage_and_leaves_the_disk_alone() -> None:
    with pytest.raises(UnreadableObjectError, match=r"does not decode \(OSError\)"), parsing("1.2.3"):
        raise OSError("No tag to read at file position 161")
    with pytest.raises(OSError, match="Input/output error"), parsing("1.2.3"):
        raise OSError(errno.EIO, "Input/output error")
