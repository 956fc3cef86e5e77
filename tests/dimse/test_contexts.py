"""Which presentation contexts are accepted."""

from __future__ import annotations

import pytest
from pydicom.uid import (
    AllTransferSyntaxes,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
)
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.pdu import A_ASSOCIATE_AC

from dicom_node.dimse.contexts import (
    STORAGE_SOP_CLASSES,
    TRANSFER_SYNTAXES,
    ContextResult,
    ProposedContext,
    accepted_contexts,
    negotiate_contexts,
)
from dicom_node.dimse.negotiation import agree, decode_request
from dicom_node.upper_layer.pdu_stream import Pdu, PduType
from tests.dimse.raw_peer import associate_rq


def proposed(abstract_syntax: str, *transfer_syntax_uids: str) -> ProposedContext:
    return ProposedContext(5, abstract_syntax, transfer_syntax_uids)


def test_every_storage_class_of_pynetdicom_and_the_segmentations_of_supplements_are_taken() -> None:
    assert {context.abstract_syntax for context in AllStoragePresentationContexts} <= STORAGE_SOP_CLASSES
    assert {"1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.66.8"} <= STORAGE_SOP_CLASSES
    assert "1.2.840.10008.5.1.4.1.1.6" in STORAGE_SOP_CLASSES  # Ultrasound Image, retired; old archives send it


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.3.10", "1.2.840.10008.1.20.1", "1.2.840.10008.1.1"])
def test_directories_commitment_and_verification_are_no_storage(uid: str) -> None:
    assert uid not in STORAGE_SOP_CLASSES


def test_every_transfer_syntax_for_datasets_is_taken() -> None:
    streams = {uid for uid in AllTransferSyntaxes if uid.startswith("1.2.840.10008.1.2.7.")}
    assert set(AllTransferSyntaxes) - streams <= TRANSFER_SYNTAXES
    assert {"1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.53"} <= TRANSFER_SYNTAXES


def test_the_first_known_transfer_syntax_of_the_requestor_is_chosen() -> None:
    context = proposed(CTImageStorage, "2.25.999", JPEGLSLossless, ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    (answer,) = negotiate_contexts([context])
    assert answer.result == ContextResult.ACCEPTED
    assert accepted_contexts([answer])[5].transfer_syntax_uid == JPEGLSLossless


@pytest.mark.parametrize(
    ("context", "result"),
    [
        (proposed("1.2.840.10008.5.1.4.1.2.2.1", ImplicitVRLittleEndian), ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED),
        (proposed(CTImageStorage, "2.25.999"), ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED),
    ],
)
def test_what_is_not_known_is_refused_with_its_reason(context: ProposedContext, result: ContextResult) -> None:
    (answer,) = negotiate_contexts([context])
    assert (answer.proposed.context_id, answer.result) == (5, result)
    assert accepted_contexts([answer]) == {}


def test_another_toolkit_reads_the_request_and_the_answer_as_we_do() -> None:
    encoded = associate_rq(calling_ae_title="PACS", max_pdu_bytes=28672)
    request = decode_request(Pdu(PduType.ASSOCIATE_RQ, memoryview(encoded)[6:]))
    assert (request.calling_ae_title, request.called_ae_title, request.max_pdu_bytes) == ("PACS", "NODE", 28672)
    answer = A_ASSOCIATE_AC()
    answer.decode(agree(request, max_pdu_bytes=131072).answer)
    assert (answer.calling_ae_title, answer.called_ae_title) == ("PACS", "NODE")
    assert answer.application_context_name == "1.2.840.10008.3.1.1.1"
    assert answer.user_information.maximum_length == 131072
    results = [(context.context_id, context.result, context.transfer_syntax) for context in answer.presentation_context]
    assert results == [(1, 0, ExplicitVRLittleEndian), (3, 0, ExplicitVRLittleEndian)]
