"""Roles in an association request (PS3.7 D.3.3.4), as pynetdicom and we encode them."""

from __future__ import annotations

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ

from dicom_node.upper_layer.associate import (
    Acceptance,
    AssociationRequest,
    Roles,
    decode_acceptance,
    decode_request,
    encode_acceptance,
    encode_request,
)
from dicom_node.upper_layer.pdu_stream import PDU_HEADER, Pdu, PduType
from dicom_node.upper_layer.presentation import AnsweredContext, ProposedContext

COMMITMENT = "1.2.840.10008.1.20.1"
IMPLICIT = "1.2.840.10008.1.2"
ROLES = (Roles(COMMITMENT, is_scu=False, is_scp=True), Roles("1.2.840.10008.5.1.4.1.1.2", is_scu=True, is_scp=False))
REQUEST = AssociationRequest("ARCHIVE", "NODE", (ProposedContext(1, COMMITMENT, (IMPLICIT,)),), 16384, roles=ROLES)


def pdu_of(encoded: bytes) -> Pdu:
    return Pdu(PduType(encoded[0]), memoryview(encoded)[PDU_HEADER.size :])


def test_pynetdicom_reads_the_roles_that_we_write() -> None:
    theirs = A_ASSOCIATE_RQ()
    theirs.decode(encode_request(REQUEST))
    roles = theirs.user_information.role_selection
    assert (roles[COMMITMENT].scu_role, roles[COMMITMENT].scp_role) == (0, 1)
    answer = A_ASSOCIATE_AC()
    acceptance = Acceptance("ARCHIVE", "NODE", (AnsweredContext(1, 0, IMPLICIT),), 16384, ROLES[:1])
    answer.decode(encode_acceptance(acceptance))
    assert answer.user_information.role_selection[COMMITMENT].scp_role == 1


def test_roles_come_back_as_they_were_written() -> None:
    assert decode_request(pdu_of(encode_request(REQUEST))) == REQUEST
    acceptance = Acceptance("ARCHIVE", "NODE", (AnsweredContext(1, 0, IMPLICIT),), 16384, ROLES)
    assert decode_acceptance(pdu_of(encode_acceptance(acceptance))) == acceptance


def test_roles_that_cannot_be_read_are_left_out() -> None:
    encoded = encode_request(REQUEST)
    uid = COMMITMENT.encode()
    wrong_length = encoded.replace(len(uid).to_bytes(2, "big") + uid + b"\0\1", b"\0\7" + uid + b"\0\1")
    assert wrong_length != encoded
    assert decode_request(pdu_of(wrong_length)).roles == ROLES[1:]
