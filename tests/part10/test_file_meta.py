"""The file meta information in front of each dataset, and the one implementation that it and the network name."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SegmentationStorage
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ

from dicom_node.store.objects.files import LocalObjects
from dicom_node.upper_layer.associate import Acceptance, AssociationRequest, encode_acceptance, encode_request
from part10.errors import NotPart10Error
from part10.file_meta import START_BYTES, dataset_offset, file_meta
from part10.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from sr_writer.objects import WrittenObject

UIDS = {
    "sop_class_uid": str(CTImageStorage),
    "sop_instance_uid": "2.25.42",
    "transfer_syntax_uid": str(ExplicitVRLittleEndian),
}


def test_it_is_byte_for_byte_what_pydicom_writes() -> None:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = "2.25.42"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta, enforce_standard=True)
    assert file_meta(**UIDS) == bytes(128) + b"DICM" + buffer.getvalue()


def test_the_dataset_begins_after_it() -> None:
    encoded = file_meta(**UIDS)
    assert dataset_offset(encoded[:START_BYTES]) == len(encoded)
    assert dataset_offset(b"II*\0" + encoded[4:]) == len(encoded)  # the preamble may be that of a TIFF (PS3.10 7.1)


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"", "no preamble and DICM"),
        (file_meta(**UIDS)[: START_BYTES - 1], "no preamble and DICM"),
        (file_meta(**UIDS)[132:], "no preamble and DICM"),
        (file_meta(**UIDS)[:132] + file_meta(**UIDS)[144:], r"no length of the file meta information, \(0002,0000\)"),
    ],
)
def test_a_file_without_it_has_no_dataset_to_be_found(start: bytes, reason: str) -> None:
    with pytest.raises(NotPart10Error, match=reason):
        dataset_offset(start)


def test_stored_and_written_files_and_both_sides_of_an_association_name_one_implementation(tmp_path: Path) -> None:
    expected = (IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME)
    written = WrittenObject(str(SegmentationStorage), "2.25.1", "2.25.2", "2.25.3", str(ExplicitVRLittleEndian), b"")
    with LocalObjects(tmp_path / "objects", tmp_path / "spool").spool(**UIDS) as spool:
        stored = spool.path.read_bytes()
    for part10 in (written.part10(), stored):
        meta = dcmread(BytesIO(part10)).file_meta
        assert (meta.ImplementationClassUID, meta.ImplementationVersionName) == expected
    request, acceptance = A_ASSOCIATE_RQ(), A_ASSOCIATE_AC()
    request.decode(encode_request(AssociationRequest("A", "B", (), 16384)))
    acceptance.decode(encode_acceptance(Acceptance("A", "B", (), 16384)))
    for said in (request.user_information, acceptance.user_information):
        assert (said.implementation_class_uid, said.implementation_version_name) == expected


def test_the_implementation_is_valid_on_the_wire_and_in_files() -> None:
    assert len(IMPLEMENTATION_CLASS_UID) <= 64
    assert IMPLEMENTATION_CLASS_UID.startswith("2.25.")
    assert 0 < len(IMPLEMENTATION_VERSION_NAME) <= 16  # PS3.7 D.3.3.2.4
    assert IMPLEMENTATION_VERSION_NAME.isascii()
