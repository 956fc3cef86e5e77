"""A requestor that sends whatever bytes a test wants, PDU by PDU."""

from __future__ import annotations

import socket
import struct
from io import BytesIO
from types import TracebackType
from typing import Self

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.presentation import build_context

from dicom_node.upper_layer.command_set import ELEMENT_HEADER, Element

VERIFICATION = "1.2.840.10008.1.1"
PROPOSED = ((1, VERIFICATION), (3, CTImageStorage))  # context ID, abstract syntax


def associate_rq(
    *,
    calling_ae_title: str = "RAW",
    called_ae_title: str = "NODE",
    application_context_name: str = "1.2.840.10008.3.1.1.1",
    max_pdu_bytes: int = 16384,
    transfer_syntax_uid: str = ExplicitVRLittleEndian,
) -> bytes:
    """A-ASSOCIATE-RQ PDU as pynetdicom encodes it, with `PROPOSED` in one transfer syntax."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = application_context_name
    primitive.calling_ae_title = calling_ae_title
    primitive.called_ae_title = called_ae_title
    for context_id, abstract_syntax in PROPOSED:
        context = build_context(abstract_syntax, transfer_syntax_uid)
        context.context_id = context_id
        primitive.presentation_context_definition_list.append(context)
    length = MaximumLengthNotification()
    length.maximum_length_received = max_pdu_bytes
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = "2.25.4"
    primitive.user_information = [length, implementation]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return pdu.encode()


def p_data(*pdvs: tuple[int, int, bytes]) -> bytes:
    """P-DATA-TF PDU of presentation data values: context ID, message control header, fragment."""
    body = b"".join(struct.pack(">IBB", len(fragment) + 2, cid, control) + fragment for cid, control, fragment in pdvs)
    return struct.pack(">BBI", 4, 0, len(body)) + body


def _encoded(message: DIMSEMessage, primitive: C_STORE | C_ECHO) -> bytes:
    message.primitive_to_message(primitive)
    (pdata,) = [pdu for pdu in message.encode_msg(1, 0) if pdu.presentation_data_value_list[0][1][0] & 1]
    return bytes(pdata.presentation_data_value_list[0][1][1:])


def echo_command(message_id: int = 1) -> bytes:
    """Command set of a C-ECHO-RQ, as pynetdicom encodes it."""
    primitive = C_ECHO()
    primitive.MessageID = message_id
    primitive.AffectedSOPClassUID = VERIFICATION
    return _encoded(C_ECHO_RQ(), primitive)


def store_command(
    sop_instance_uid: str, *, sop_class_uid: str = CTImageStorage, message_id: int = 1, has_data_set: bool = True
) -> bytes:
    """Command set of a C-STORE-RQ, as pynetdicom encodes it."""
    primitive = C_STORE()
    primitive.MessageID = message_id
    primitive.AffectedSOPClassUID = sop_class_uid
    primitive.AffectedSOPInstanceUID = sop_instance_uid
    primitive.Priority = 2
    primitive.DataSet = BytesIO(b"x") if has_data_set else None
    return _encoded(C_STORE_RQ(), primitive)


def command(**values: int | str) -> bytes:
    """Command set by `Element` names, for what pynetdicom would not encode; numbers are US, strings are UI."""
    elements = {Element[name.upper()]: _value(value) for name, value in values.items()}
    return b"".join(ELEMENT_HEADER.pack(0, number, len(value)) + value for number, value in sorted(elements.items()))


def _value(value: int | str) -> bytes:
    if isinstance(value, int):
        return struct.pack("<H", value)
    encoded = value.encode()
    return encoded + b"\0" * (len(encoded) % 2)


def dataset_part(part10: bytes) -> bytes:
    """What follows preamble and file meta information: 132 bytes, then (0002,0000) of 12 bytes with the length."""
    assert part10[128:138] == b"DICM\x02\x00\x00\x00UL"
    return part10[144 + int(struct.unpack_from("<I", part10, 140)[0]) :]


class RawPeer:
    """A TCP connection to the node: from any address of the loopback network, or to another host."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", to: str = "127.0.0.1") -> None:
        source = (host, 0) if to.startswith("127.") else None
        self.socket = socket.create_connection((to, port), timeout=20, source_address=source)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> tuple[int, bytes]:
        """Type and body of the next PDU; type 0 at the end of the stream."""
        header = self._exactly(6)
        if header is None:
            return 0, b""
        number, length = struct.unpack(">BxI", header)
        return number, self._exactly(length) or b""

    def associate(self, **options: str | int) -> None:
        """Associate; fails unless the node accepts."""
        self.send(associate_rq(**options))
        number, _ = self.receive()
        assert number == 2, f"PDU type {number} where an A-ASSOCIATE-AC was due"

    def status(self) -> int:
        """Status of the next response, which may come in several PDUs."""
        encoded = b""
        while True:
            number, body = self.receive()
            assert number == 4, f"PDU type {number} where a response was due"
            encoded += body[6:]
            if body[5] & 2:
                break
        offset = encoded.index(ELEMENT_HEADER.pack(0, Element.STATUS, 2)) + ELEMENT_HEADER.size
        return int(struct.unpack_from("<H", encoded, offset)[0])

    def store(self, sop_instance_uid: str, data_set: bytes) -> int:
        """C-STORE in two presentation data values; gives the status."""
        self.send(p_data((3, 3, store_command(sop_instance_uid)), (3, 2, data_set)))
        return self.status()

    def release(self) -> int:
        """Release; gives the type of the answer."""
        self.send(struct.pack(">BBI", 5, 0, 4) + bytes(4))
        return self.receive()[0]

    def _exactly(self, n_bytes: int) -> bytes | None:
        data = b""
        while len(data) < n_bytes:
            piece = self.socket.recv(n_bytes - len(data))
            if not piece:
                return None
            data += piece
        return data
