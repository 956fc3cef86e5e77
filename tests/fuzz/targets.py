"""What anybody may send, as functions of bytes: each ends in an answer or a named error, and nothing else.

Other exceptions are findings, as are answers that cannot be. ``run.py`` drives the targets by coverage, the tests
replay what was found before.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.presentation import build_context

from dicom_node.dimse.contexts import AcceptedContext, negotiate_contexts
from dicom_node.dimse.messages import MessageReader
from dicom_node.dimse.query.answers import AnswerEncoder
from dicom_node.dimse.query.find_service import answer_members, plan_query
from dicom_node.dimse.query.identifier import check_values, read_identifier, retrieval_filters
from dicom_node.dimse.query.models import QUERY_MODELS
from dicom_node.errors import NodeError
from dicom_node.upper_layer.associate import Acceptance, decode_acceptance, encode_acceptance
from dicom_node.upper_layer.associate import decode_request as decode_association_request
from dicom_node.upper_layer.command_set import decode_request, decode_response
from dicom_node.upper_layer.pdu_stream import Pdu, PduType, p_data_pdus, split_pdvs
from dicom_node.upper_layer.presentation import AnsweredContext
from inference.errors import SeriesError
from inference.series.assemble import assemble_volumes
from inference.series.csa import CsaError, read_csa
from inference.series.nifti import read_nifti
from inference.series.nifti_masks import write_nifti_mask
from part10.damage import PYDICOM_ERRORS
from part10.errors import Part10Error
from part10.file_meta import START_BYTES, dataset_offset
from part10.header import Header, is_bulk, read_header
from part10.inflate import InflatedFile, bounded_for_pydicom, is_deflated
from part10.pixel_data import PixelDataLocation, read_pixel_data_location
from part10.select import select_elements
from tests.csa_writer import mosaic_tags, write_csa
from tests.dimse.raw_peer import echo_command, store_command
from tests.factories import EncodedInstance, ct_series, enhanced_mr, mr_series
from tests.mosaics import oblique_series, siemens_mosaic, united_imaging_mosaic
from tests.nifti_files import nifti_bytes, voxels

_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # no disk

SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEG2000Lossless,
    JPEGLSLossless,
)
ENCODINGS = ((False, True), (True, True), (False, False))  # implicit VR, little endian
MAX_INFLATED_BYTES = 2**20
SERIES = {uid: ct_series(4, rows=32, columns=32, transfer_syntax_uid=uid) for uid in SYNTAXES}
GOOD = tuple(SERIES[ExplicitVRLittleEndian])
MOSAICS = tuple(make(oblique_series(4, rows=6, columns=8)) for make in (siemens_mosaic, united_imaging_mosaic))
ENHANCED = enhanced_mr(mr_series(3, rows=32, columns=32))


def volumes(data: bytes) -> None:
    """A file beside three good ones of its series."""
    with contextlib.suppress(SeriesError):
        for source in assemble_volumes([GOOD[0], EncodedInstance("fuzzed", data), *GOOD[2:]]):
            assert np.isfinite(source.volume.affine).all()
            assert np.isfinite(source.volume.array).all()


def single_file(data: bytes) -> None:
    """A file alone: an Enhanced one is a volume by itself."""
    with contextlib.suppress(SeriesError):
        for source in assemble_volumes([EncodedInstance("fuzzed", data)]):
            assert np.isfinite(source.volume.affine).all()
            assert np.isfinite(source.volume.array).all()


def mosaic(data: bytes) -> None:
    """A file with many slices in its picture."""
    with contextlib.suppress(SeriesError):
        for source in assemble_volumes([EncodedInstance("fuzzed", data)]):
            assert np.isfinite(source.volume.affine).all()
            assert len(source.plane_sources) == len(source.volume.array)


def csa_header(data: bytes) -> None:
    """Siemens' private table of names and values."""
    with contextlib.suppress(CsaError):
        values = read_csa(data)
        assert sum(len(value) for texts in values.values() for value in texts) <= len(data)


def part10(data: bytes) -> None:
    """A file as every room meets it: its header, its dataset as the index looks through it, and pydicom on both.

    Two ways through the same bytes that both come to an end agree; and nothing but named errors comes out.
    """
    with contextlib.suppress(Part10Error):
        assert dataset_offset(data) >= START_BYTES
    for is_implicit_vr, is_little_endian in ENCODINGS:
        with contextlib.suppress(Part10Error):
            _select(data, is_implicit_vr=is_implicit_vr, is_little_endian=is_little_endian)
    if is_deflated(data):
        file = InflatedFile(io.BytesIO(data), max_bytes=MAX_INFLATED_BYTES)
        try:
            data = file.getvalue()
        except Part10Error:
            return
        assert len(data) <= dataset_offset(data) + MAX_INFLATED_BYTES
    try:
        header = read_header(io.BytesIO(), data, len(data))
    except Part10Error:
        header = None
    read, location = _read_with_pydicom(data)
    if header is None:
        return
    _compare_with_index(data, header)
    # pydicom drops everything where the last delimiter is missing.
    if read and header.transfer_syntax_uid == str(read.file_meta.get("TransferSyntaxUID", "")):
        scanned = {int(tag): element for tag, element in header.elements.items()}
        expected = {tag: value for tag, value in _raw_values(read).items() if not is_bulk(tag, len(value))}
        assert {tag: scanned[tag].value for tag in expected} == expected
        assert location == header.pixel_data


def _select(data: bytes, *, is_implicit_vr: bool, is_little_endian: bool) -> dict[int, bytes]:
    """Elements that the index would want, all of them among the bytes."""
    selection = select_elements(
        data, range(0x00100000), 0x00200000, is_implicit_vr=is_implicit_vr, is_little_endian=is_little_endian
    )
    assert all(value in data for value in selection.values.values())
    return selection.values


def _read_with_pydicom(data: bytes) -> tuple[FileDataset | None, PixelDataLocation | None]:
    """What pydicom reads before the pixel data, and where it finds them."""
    file = io.BytesIO(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = dcmread(bounded_for_pydicom(file, max_inflated_bytes=MAX_INFLATED_BYTES), stop_before_pixels=True)
            syntax = UID(ds.file_meta.TransferSyntaxUID)
            location = read_pixel_data_location(
                file, is_implicit_vr=syntax.is_implicit_VR, is_little_endian=syntax.is_little_endian
            )
    except PYDICOM_ERRORS:
        return None, None
    return ds, location


def _compare_with_index(data: bytes, header: Header) -> None:
    """The index finds the same values as the header has: sequences, which it passes over, aside."""
    selected = _select(
        data[dataset_offset(data) :],
        is_implicit_vr=header.is_implicit_vr,
        is_little_endian=header.is_little_endian,
    )
    for tag, value in selected.items():
        assert is_bulk(tag, len(value)) or header.elements[BaseTag(tag)].value == value


def _raw_values(ds: FileDataset) -> dict[int, bytes]:
    """Values that no reader had a reason to unfold."""
    elements = list(ds._dict.values())  # get_item() reads what pydicom found cut short
    return {
        int(element.tag): element.value
        for element in elements
        if isinstance(element, RawDataElement) and element.VR not in ("SQ", "UN") and element.value is not None
    }


def association_request(data: bytes) -> None:
    """The body of an A-ASSOCIATE-RQ PDU."""
    with contextlib.suppress(NodeError):
        request = decode_association_request(Pdu(PduType.ASSOCIATE_RQ, memoryview(data)))
        answers = negotiate_contexts(request.contexts, accept_unknown=True)
        encode_acceptance(Acceptance(request.calling_ae_title, request.called_ae_title, answers, 16384))


def association_acceptance(data: bytes) -> None:
    """The body of an A-ASSOCIATE-AC PDU."""
    with contextlib.suppress(NodeError):
        decode_acceptance(Pdu(PduType.ASSOCIATE_AC, memoryview(data)))


def messages(data: bytes) -> None:
    """The bodies of P-DATA PDUs, one after another, of which the first two bytes say how long each is."""
    reader = MessageReader({1: AcceptedContext(1, CTImageStorage, ExplicitVRLittleEndian)}, {})
    with contextlib.suppress(NodeError):
        while data:
            n_bytes = int.from_bytes(data[:2], "big")
            for pdv in split_pdvs(memoryview(data[2 : 2 + n_bytes])):
                reader.feed(pdv)
            data = data[2 + n_bytes :]


def command_set(data: bytes) -> None:
    """A command set."""
    for decode in (decode_request, decode_response):
        with contextlib.suppress(NodeError):
            decode(data)


def nifti(data: bytes) -> None:
    """A NIfTI file, plain or compressed; a mask on what was read is read again."""
    with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
        path, mask_path = Path(folder) / "fuzzed.nii", Path(folder) / "mask.nii"
        path.write_bytes(data)
        with contextlib.suppress(SeriesError):
            source = read_nifti(path)
            assert np.isfinite(source.volume.affine).all()
            assert np.isfinite(source.volume.array).all()
            mask = source.volume.array > source.volume.array.mean()
            write_nifti_mask(mask_path, mask, source.volume.get_geometry(), path)
            written = read_nifti(mask_path)
            assert np.array_equal(written.volume.array > 0, mask)
            assert np.array_equal(written.volume.affine, source.volume.affine)


def query_identifier(data: bytes) -> None:
    """The identifier of a C-FIND and a C-GET, and a match with values of every kind in its character set."""
    syntax = ImplicitVRLittleEndian if data[:1] == b"\1" else ExplicitVRLittleEndian
    for model in QUERY_MODELS.values():
        with contextlib.suppress(NodeError):
            identifier = read_identifier(data[1:], syntax, model)
            check_values(identifier)
            query = plan_query(identifier, has_states=True)
            members = answer_members(MATCH, identifier, query, "NODE")
            encoded = AnswerEncoder(syntax, identifier.character_set).encode(members)
            assert read_identifier(encoded, syntax, model).level is identifier.level
        with contextlib.suppress(NodeError):
            retrieval_filters(read_identifier(data[1:], syntax, model), model, is_relational=True)


MATCH: Mapping[str, dict[str, object]] = {
    "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Müller^Jürgen", "Ideographic": "山田^太郎"}]},
    "00201206": {"vr": "IS", "Value": [3]},
    "00200032": {"vr": "DS", "Value": [1.5, None, 1e-30]},
    "00280010": {"vr": "US", "Value": [512]},
    "00991001": {"vr": "CS", "Value": ["CLEARED"]},
}
TARGETS: Mapping[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        nifti,
        part10,
        volumes,
        single_file,
        mosaic,
        csa_header,
        association_request,
        association_acceptance,
        messages,
        command_set,
        query_identifier,
    )
}


def seeds(name: str) -> list[bytes]:
    """Inputs that are what they should be, to be changed."""
    if name == "volumes":
        return [series[1].part10 for series in SERIES.values()]
    if name == "part10":
        return [*(series[1].part10 for series in SERIES.values()), ENHANCED.part10, *_datasets()]
    if name == "single_file":
        return [ENHANCED.part10]
    if name == "mosaic":
        return [mosaic.part10 for mosaic in MOSAICS]
    if name == "csa_header":
        return [write_csa(mosaic_tags(7, (0.0, 0.6, 0.8)), version=version) for version in (1, 2)]
    if name == "association_request":
        return [_association_request()]
    if name == "association_acceptance":
        contexts = (AnsweredContext(1, 0, ImplicitVRLittleEndian), AnsweredContext(3, 4, "1.2.3"))
        return [encode_acceptance(Acceptance("SENDER", "NODE", contexts, 16384))[6:]]
    if name == "nifti":
        return nifti_seeds()
    if name == "query_identifier":
        return _identifiers()
    commands = [echo_command(1), store_command("2.25.1")]
    if name == "messages":
        bodies = [p_data_pdus(1, command, max_pdu_bytes=0)[6:] for command in commands]
        return [len(body).to_bytes(2, "big") + body for body in bodies]
    return commands


def _identifiers() -> list[bytes]:
    """A query in both encodings, after a byte that chooses them."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.QueryRetrieveLevel = "STUDY"
    ds.PatientName = "Mü*"
    ds.StudyInstanceUID = "1.2.3"
    ds.NumberOfStudyRelatedSeries = None
    ds.ProcedureCodeSequence = [Dataset()]
    ds.add_new(0x00990010, "LO", "DICOMNODE")
    ds.add_new(0x00991001, "CS", "CLEARED")
    made = []
    for is_implicit_vr in (True, False):
        buffer = DicomBytesIO()
        buffer.is_implicit_VR, buffer.is_little_endian = is_implicit_vr, True
        write_dataset(buffer, ds)
        made.append(bytes((is_implicit_vr,)) + buffer.getvalue())
    return made


def _datasets() -> list[bytes]:
    """Datasets without file meta information, as they come over DIMSE."""
    files = [SERIES[syntax][1].part10 for syntax in SYNTAXES[:4]]
    return [file[dataset_offset(file) :] for file in files]


def nifti_seeds() -> list[bytes]:
    """Both versions and byte orders, with extensions, a qform alone, time points, and compressed."""
    extension = b"\1\0\0\0" + (16).to_bytes(4, "little") + bytes(12)
    small = (3, 4, 5)
    plain = [
        nifti_bytes(voxels(small, f"{order}{kind}"), version=version)
        for version in (1, 2)
        for order, kind in (("<", "i2"), (">", "f4"))
    ]
    plain.append(nifti_bytes(voxels(small), extension=extension, vox_offset=368))
    plain.append(nifti_bytes(voxels(small), sform_code=0, quatern_d=0.7, scl_slope=2.0))
    plain.append(nifti_bytes(voxels((*small, 2)), xyzt_units=10))
    return [*plain, gzip.compress(plain[0]), bz2.compress(plain[2])]


def _association_request() -> bytes:
    """As pynetdicom writes one."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "SENDER", "NODE"
    context = build_context(CTImageStorage)
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16384
    implementation.implementation_class_uid = "2.25.4"
    primitive.user_information = [length, implementation]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode()[6:])
