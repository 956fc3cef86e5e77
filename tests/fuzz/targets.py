"""What anybody may send, as functions of bytes: each ends in an answer or a named error, and nothing else.

Other exceptions are findings, as are answers that cannot be. ``run.py`` drives the targets by coverage, the tests
replay what was found before.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.uid import (
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
from dicom_node.errors import NodeError
from dicom_node.upper_layer.associate import Acceptance, decode_acceptance, encode_acceptance
from dicom_node.upper_layer.associate import decode_request as decode_association_request
from dicom_node.upper_layer.command_set import decode_request, decode_response
from dicom_node.upper_layer.pdu_stream import Pdu, PduType, p_data_pdus, split_pdvs
from dicom_node.upper_layer.presentation import AnsweredContext
from inference.errors import SeriesError
from inference.series.assemble import assemble_volumes
from inference.series.instances import Instance, _unusual_instance, read_instance, reading
from part10.select import select_elements
from tests.dimse.raw_peer import echo_command, store_command
from tests.factories import EncodedInstance, ct_series, enhanced_mr, mr_series

SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEG2000Lossless,
    JPEGLSLossless,
)
SERIES = {uid: ct_series(4, rows=32, columns=32, transfer_syntax_uid=uid) for uid in SYNTAXES}
GOOD = tuple(SERIES[ExplicitVRLittleEndian])
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


def header(data: bytes) -> None:
    """A header as scanned and as pydicom reads it: where both can, they agree."""
    if DeflatedExplicitVRLittleEndian.encode() in data:  # inflated with a bound before either sees it
        return
    source = EncodedInstance("fuzzed", data)
    try:
        scanned = read_instance(source)
        with reading(source.name):
            read = _unusual_instance(data, source)
    except SeriesError:
        return
    # pydicom drops everything where the last delimiter is missing.
    if scanned.transfer_syntax_uid == read.transfer_syntax_uid and read.header:
        assert sorted(scanned.header.keys()) == sorted(read.header.keys())
        expected = _raw_values(read)
        assert {tag: value for tag, value in _raw_values(scanned).items() if tag in expected} == expected


def _raw_values(instance: Instance) -> dict[int, bytes]:
    """Values that no reader had a reason to unfold."""
    elements = list(instance.header._dict.values())  # get_item() reads what pydicom found cut short
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


def index_scan(data: bytes) -> None:
    """A dataset as the inbox looks through it."""
    for is_implicit_vr, is_little_endian in ((False, True), (True, True), (False, False)):
        with contextlib.suppress(ValueError):
            select_elements(
                data, {0x0020000D}, 0x00201208, is_implicit_vr=is_implicit_vr, is_little_endian=is_little_endian
            )


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        volumes,
        single_file,
        header,
        association_request,
        association_acceptance,
        messages,
        command_set,
        index_scan,
    )
}


def seeds(name: str) -> list[bytes]:
    """Inputs that are what they should be, to be changed."""
    if name in ("volumes", "header"):
        return [series[1].part10 for series in SERIES.values()]
    if name == "single_file":
        return [ENHANCED.part10]
    if name == "association_request":
        return [_association_request()]
    if name == "association_acceptance":
        contexts = (AnsweredContext(1, 0, ImplicitVRLittleEndian), AnsweredContext(3, 4, "1.2.3"))
        return [encode_acceptance(Acceptance("SENDER", "NODE", contexts, 16384))[6:]]
    commands = [echo_command(1), store_command("2.25.1")]
    if name == "messages":
        bodies = [p_data_pdus(1, command, max_pdu_bytes=0)[6:] for command in commands]
        return [len(body).to_bytes(2, "big") + body for body in bodies]
    if name == "command_set":
        return commands
    buffer = io.BytesIO(GOOD[1].part10)
    return [buffer.read()[144 + int.from_bytes(GOOD[1].part10[140:144], "little") :]]


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
