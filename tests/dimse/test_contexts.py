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
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.dimse.contexts import (
    STORAGE_SOP_CLASSES,
    TRANSFER_SYNTAXES,
    ContextResult,
    accepted_contexts,
    negotiate_contexts,
)


def proposed(abstract_syntax: str, *transfer_syntaxes: str) -> PresentationContext:
    context = build_context(abstract_syntax, list(transfer_syntaxes))
    context.context_id = 5
    return context


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
def test_what_is_not_known_is_refused_with_its_reason(context: PresentationContext, result: ContextResult) -> None:
    (answer,) = negotiate_contexts([context])
    assert (answer.context_id, answer.result) == (5, result)
    assert accepted_contexts([answer]) == {}
