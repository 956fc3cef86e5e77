"""Datasets that are not in their context's transfer syntax: stored so that other toolkits read them, or refused."""

from __future__ import annotations

import logging
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
)
from pynetdicom.presentation import build_context

from dicom_node.dimse.status import Status
from tests.dimse.listening_node import ListeningNode
from tests.dimse.raw_peer import RawPeer, associate_rq, dataset_part
from tests.factories import EncodedInstance, ct_series
from tests.peer_servers import run_tool

GE_IMPLICIT_BIG_ENDIAN_PIXELS = "1.2.840.113619.5.2"
PHILIPS_PRIVATE = "1.3.46.670589.33.1.4.1"
WRONG = [
    (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
    (ExplicitVRLittleEndian, ExplicitVRBigEndian),
    (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian),
    (ImplicitVRLittleEndian, ExplicitVRLittleEndian),
    (ExplicitVRBigEndian, ImplicitVRLittleEndian),
    (DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian),
    (JPEGLSLossless, ExplicitVRLittleEndian),
    (JPEGLSLossless, ImplicitVRLittleEndian),
]


@pytest.fixture
def instance() -> EncodedInstance:
    return ct_series(n_slices=1, rows=24, columns=20)[0]


def encoded(ds: Dataset, transfer_syntax_uid: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = transfer_syntax_uid == ImplicitVRLittleEndian
    buffer.is_little_endian = transfer_syntax_uid != ExplicitVRBigEndian
    if not buffer.is_little_endian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    write_dataset(buffer, ds)
    written = bytes(buffer.getvalue())
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        written = packer.compress(written) + packer.flush()
        written += b"\0" * (len(written) % 2)
    return written


def send(node: ListeningNode, negotiated: str, ds: Dataset, data_set: bytes) -> int:
    with RawPeer(node.port) as peer:
        peer.associate(transfer_syntax_uid=negotiated)
        return peer.store(ds.SOPInstanceUID, data_set)


def stored_file(node: ListeningNode) -> bytes:
    (row,) = node.instances()
    with node.store.objects.open(row.digest) as file:
        return file.read()


@pytest.mark.peers
@pytest.mark.parametrize(("negotiated", "real"), WRONG)
def test_what_was_sent_in_another_encoding_is_read_by_pydicom_and_dcmtk(
    node: ListeningNode,
    instance: EncodedInstance,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    negotiated: str,
    real: str,
) -> None:
    ds = instance.dataset()
    pixels = ds.pixel_array.copy()
    data_set = encoded(ds, real)
    assert send(node, negotiated, ds, data_set) == Status.SUCCESS
    (row,) = node.instances()
    assert row.transfer_syntax_uid == real
    part10 = stored_file(node)
    assert dataset_part(part10) == data_set  # source bytes never change
    stored = dcmread(BytesIO(part10))
    assert stored.file_meta.TransferSyntaxUID == real
    assert (stored.SOPInstanceUID, stored.PatientName) == (ds.SOPInstanceUID, ds.PatientName)
    np.testing.assert_array_equal(stored.pixel_array, pixels)
    path = tmp_path / "stored.dcm"
    path.write_bytes(part10)
    dump = run_tool("dcmdump", "+P", "SeriesInstanceUID", path)
    assert dump.returncode == 0
    assert ds.SeriesInstanceUID in dump.stdout
    (warning,) = [record for record in caplog.records if "transfer syntax that was negotiated" in record.message]
    assert (warning.levelno, vars(warning)["calling_ae_title"]) == (logging.WARNING, "RAW")


def test_many_such_instances_of_an_association_are_one_warning(
    node: ListeningNode, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with RawPeer(node.port) as peer:
        peer.associate(transfer_syntax_uid=ExplicitVRLittleEndian)
        for instance in ct_series(n_slices=3, rows=16):
            ds = instance.dataset()
            assert peer.store(ds.SOPInstanceUID, encoded(ds, ImplicitVRLittleEndian)) == Status.SUCCESS
    assert len([record for record in caplog.records if "transfer syntax that was negotiated" in record.message]) == 1


def test_the_same_bytes_in_the_right_context_are_the_same_instance(
    node: ListeningNode, instance: EncodedInstance
) -> None:
    ds = instance.dataset()
    data_set = encoded(ds, ImplicitVRLittleEndian)
    for negotiated in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        assert send(node, negotiated, ds, data_set) == Status.SUCCESS
    assert not node.store.series.conflicts()
    assert len(node.instances()) == 1


def test_compressed_pixels_in_an_uncompressed_context_are_refused(node: ListeningNode) -> None:
    (compressed,) = ct_series(n_slices=1, rows=24, transfer_syntax_uid=JPEGLSLossless)
    ds = compressed.dataset()
    data_set = dataset_part(compressed.part10)
    assert send(node, ExplicitVRLittleEndian, ds, data_set) == Status.CANNOT_UNDERSTAND
    assert send(node, JPEGLSLossless, ds, data_set) == Status.SUCCESS
    assert list(node.store.objects.spool_folder.iterdir()) == []


@pytest.mark.filterwarnings("ignore:Expected explicit VR:UserWarning")  # of pydicom, when it reads the private one
@pytest.mark.parametrize("negotiated", [GE_IMPLICIT_BIG_ENDIAN_PIXELS, PHILIPS_PRIVATE])
@pytest.mark.parametrize("real", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_private_transfer_syntaxes_are_indexed_and_keep_their_name(
    node: ListeningNode, instance: EncodedInstance, negotiated: str, real: str
) -> None:
    ds = instance.dataset()
    # GE's is implicit VR little endian with big endian pixels.
    ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    data_set = encoded(ds, real)
    assert send(node, negotiated, ds, data_set) == Status.SUCCESS
    (row,) = node.instances()
    assert (row.transfer_syntax_uid, row.series_instance_uid) == (negotiated, ds.SeriesInstanceUID)
    part10 = stored_file(node)
    assert dataset_part(part10) == data_set
    assert dcmread(BytesIO(part10), stop_before_pixels=True).file_meta.TransferSyntaxUID == negotiated


def test_a_private_transfer_syntax_that_cannot_be_parsed_is_refused_and_the_association_goes_on(
    node: ListeningNode, instance: EncodedInstance
) -> None:
    ds = instance.dataset()
    with RawPeer(node.port) as peer:
        peer.associate(transfer_syntax_uid=PHILIPS_PRIVATE)
        scrambled = bytes(value ^ 0x5A for value in dataset_part(instance.part10))
        assert peer.store(ds.SOPInstanceUID, scrambled) == Status.CANNOT_UNDERSTAND
        assert peer.store(ds.SOPInstanceUID, dataset_part(instance.part10)) == Status.SUCCESS
    assert len(node.instances()) == 1


def test_the_request_proposes_what_the_tests_say() -> None:
    encoded_request = associate_rq(transfer_syntax_uid=PHILIPS_PRIVATE)
    assert build_context(CTImageStorage, PHILIPS_PRIVATE).transfer_syntax[0].encode() in encoded_request
