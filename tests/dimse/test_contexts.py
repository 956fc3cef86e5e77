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

from dicom_node.dimse.contexts import TRANSFER_SYNTAXES, accepted_contexts, negotiate_contexts
from dicom_node.upper_layer.presentation import ContextResult, ProposedContext
from dicom_node.upper_layer.sop_classes import STORAGE_SOP_CLASSES

CSA_NON_IMAGE = "1.3.12.2.1107.5.9.1"  # Siemens
GE_IMPLICIT_BIG_ENDIAN_PIXELS = "1.2.840.113619.5.2"
PHILIPS_PRIVATE = "1.3.46.670589.33.1.4.1"
REFUSED_CLASSES = [
    "1.2.840.10008.5.1.4.1.2.2.1",  # Study Root FIND
    "1.2.840.10008.5.1.4.1.2.1.3",  # Patient Root GET
    "1.2.840.10008.5.1.4.31",  # Modality Worklist FIND
    "1.2.840.10008.1.20.2",  # Storage Commitment Pull Model, retired
    "1.2.840.10008.3.1.2.3.3",  # Modality Performed Procedure Step
    "1.2.840.10008.5.1.1.9",  # Basic Grayscale Print Management Meta
    "1.2.840.10008.5.1.1.1",  # Basic Film Session
    "1.2.840.10008.5.1.4.34.6.1",  # Unified Procedure Step Push
    "1.2.840.10008.5.1.4.1.1.200.4",  # Protocol Approval FIND, among the storage classes' UIDs
    "1.2.840.10008.1.3.10",  # Media Storage Directory
    "1.2.840.10008.5.1.4.37.99",  # of the standard, unknown, and not where storage classes are
    "1.2.840.10008.1.2.1",  # a transfer syntax
    "1.2.840.10008.3.1.1.1",  # the application context
    "not a UID",
    "",
    "1",
    "1.2." + "3" * 61,  # 65 characters
]


def proposed(abstract_syntax: str, *transfer_syntax_uids: str) -> ProposedContext:
    return ProposedContext(5, abstract_syntax, transfer_syntax_uids)


def answer(context: ProposedContext, *, accept_unknown: bool = True) -> tuple[int, str]:
    (answered,) = negotiate_contexts([context], accept_unknown=accept_unknown)
    assert answered.context_id == context.context_id
    return answered.result, answered.transfer_syntax_uid


def test_every_storage_class_of_pynetdicom_and_the_segmentations_of_supplements_are_taken() -> None:
    assert {context.abstract_syntax for context in AllStoragePresentationContexts} <= STORAGE_SOP_CLASSES
    assert {"1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.66.8"} <= STORAGE_SOP_CLASSES
    assert "1.2.840.10008.5.1.4.1.1.6" in STORAGE_SOP_CLASSES  # Ultrasound Image, retired; old archives send it


def test_every_transfer_syntax_for_datasets_is_taken() -> None:
    streams = {uid for uid in AllTransferSyntaxes if uid.startswith("1.2.840.10008.1.2.7.")}
    assert set(AllTransferSyntaxes) - streams <= TRANSFER_SYNTAXES
    assert {"1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.53"} <= TRANSFER_SYNTAXES


@pytest.mark.parametrize("uid", REFUSED_CLASSES)
@pytest.mark.parametrize("accept_unknown", [True, False])
def test_what_is_not_storage_is_an_abstract_syntax_not_supported(uid: str, accept_unknown: bool) -> None:
    result, _ = answer(proposed(uid, ImplicitVRLittleEndian), accept_unknown=accept_unknown)
    assert result == ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED


@pytest.mark.parametrize("accept_unknown", [True, False])
def test_storage_commitment_is_accepted_for_reports_in_encodings_that_are_read(accept_unknown: bool) -> None:
    commitment = "1.2.840.10008.1.20.1"
    contexts = [proposed(commitment, "1.2.840.10008.1.2.2", ImplicitVRLittleEndian)]  # Explicit VR Big Endian first
    answers = negotiate_contexts(contexts, accept_unknown=accept_unknown)
    accepted = accepted_contexts(contexts, answers)[5]
    assert (accepted.transfer_syntax_uid, accepted.is_for_storage) == (ImplicitVRLittleEndian, False)
    result, _ = answer(proposed(commitment, "1.2.840.10008.1.2.2"), accept_unknown=accept_unknown)
    assert result == ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED


@pytest.mark.parametrize("accept_unknown", [True, False])
def test_verification_is_accepted_and_is_not_for_storage(accept_unknown: bool) -> None:
    contexts = [proposed("1.2.840.10008.1.1", ImplicitVRLittleEndian)]
    answers = negotiate_contexts(contexts, accept_unknown=accept_unknown)
    accepted = accepted_contexts(contexts, answers)[5]
    assert not accepted.is_for_storage


@pytest.mark.parametrize(
    "uid",
    [
        CSA_NON_IMAGE,
        "1.2.840.113619.4.27",  # GE
        "1.3.46.670589.5.0.1",  # Philips
        "1.2.392.200036.9125.1.1.2",  # Fuji
        "2.25.329800735698586629295641978511506172918",
        "1.2.840.10008.5.1.4.1.1.999",  # of the standard, later than pydicom
        "1.2.840.10008.5.1.4.1.1.40",  # retired, and without a name in PS3.6
    ],
)
def test_unknown_classes_are_taken_for_storage_unless_the_setting_is_off(uid: str) -> None:
    assert answer(proposed(uid, ImplicitVRLittleEndian)) == (ContextResult.ACCEPTED, ImplicitVRLittleEndian)
    result, _ = answer(proposed(uid, ImplicitVRLittleEndian), accept_unknown=False)
    assert result == ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED


@pytest.mark.parametrize("uid", [GE_IMPLICIT_BIG_ENDIAN_PIXELS, PHILIPS_PRIVATE, "1.2.840.10008.1.2.4.999"])
def test_unknown_transfer_syntaxes_are_accepted_unless_the_setting_is_off(uid: str) -> None:
    assert answer(proposed(CTImageStorage, uid)) == (ContextResult.ACCEPTED, uid)
    result, _ = answer(proposed(CTImageStorage, uid), accept_unknown=False)
    assert result == ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED


@pytest.mark.parametrize(
    "uid", ["1.2.840.10008.1.2.7.1", "1.2.840.10008.1.2.6.1", CTImageStorage, "1.2.840.10008.9.9", "", "x"]
)
def test_what_is_no_transfer_syntax_of_a_dataset_is_not_supported(uid: str) -> None:
    result, _ = answer(proposed(CTImageStorage, uid))
    assert result == ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED


def test_the_first_transfer_syntax_of_the_standard_is_chosen() -> None:
    context = proposed(CTImageStorage, PHILIPS_PRIVATE, JPEGLSLossless, ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    assert answer(context) == (ContextResult.ACCEPTED, JPEGLSLossless)


def test_a_refused_context_is_not_among_the_accepted() -> None:
    contexts = [proposed("1.2.840.10008.5.1.4.31", ImplicitVRLittleEndian)]
    assert accepted_contexts(contexts, negotiate_contexts(contexts, accept_unknown=True)) == {}
