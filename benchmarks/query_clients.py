"""Clients of `bench_query` that cost little next to what they ask: QIDO-RS on a kept connection, C-FIND likewise."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from io import BytesIO
from typing import Final, Protocol
from urllib.parse import quote

from pydicom.dataset import Dataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ImplicitVRLittleEndian

from benchmarks.archives import Client
from dicom_node.upper_layer.associate import AssociationRequest, decode_acceptance, encode_request
from dicom_node.upper_layer.command_set import CommandField, Request, decode_response
from dicom_node.upper_layer.command_set import encode_request as encode_command
from dicom_node.upper_layer.pdu_stream import PduStream, PduType, p_data_pdus, release_request, split_pdvs
from dicom_node.upper_layer.presentation import ProposedContext

STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
TIMEOUT_S: Final = 600.0
_PENDING: Final = frozenset({0xFF00, 0xFF01})
_CONTEXT_ID: Final = 1
_MAX_PDU_BYTES: Final = 131072
_WANTED: Final = (
    "StudyDate", "StudyTime", "AccessionNumber", "ModalitiesInStudy", "StudyDescription", "PatientName", "PatientID",
    "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "NumberOfStudyRelatedInstances",
)  # fmt: skip

Keys = Mapping[str, str]
"""What a query asks for: keyword → value."""


class Asker(Protocol):
    """Asks one archive, one query after the other."""

    def ask(self, keys: Keys) -> tuple[float, int]:
        """Return seconds until the last byte of the answer, and the number of matches."""

    def close(self) -> None:
        """End the connection."""


class QidoAsker:
    """QIDO-RS at the level of studies, ``limit`` as a query says."""

    def __init__(self, port: int) -> None:
        self._client = Client(port)

    def ask(self, keys: Keys) -> tuple[float, int]:
        """Return seconds until the last byte of the answer, and the number of matches."""
        # Orthanc takes an asterisk for a wildcard only if it is not percent-encoded.
        path = "/studies?" + "&".join(f"{keyword}={quote(value, safe='*')}" for keyword, value in keys.items())
        answer = self._client.get(path, {"Accept": "application/dicom+json"})
        return answer.wall_s, answer.body.count(b'"0020000D"')

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class FindAsker:
    """C-FIND at the level of studies, Study Root, all queries on one association."""

    def __init__(self, port: int, *, called: str, calling: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = PduStream(self._socket, max_pdu_bytes=_MAX_PDU_BYTES, pdu_timeout_s=TIMEOUT_S)
        context = ProposedContext(_CONTEXT_ID, STUDY_ROOT_FIND, (ImplicitVRLittleEndian,))
        self._stream.send(encode_request(AssociationRequest(calling, called, (context,), _MAX_PDU_BYTES)))
        pdu = self._stream.read(timeout_s=TIMEOUT_S)
        if pdu.type is not PduType.ASSOCIATE_AC:
            raise RuntimeError(f"{called} rejected the association: {pdu.type.name}")
        self._max_pdu_bytes = decode_acceptance(pdu).max_pdu_bytes
        self._message_id = 0

    def ask(self, keys: Keys) -> tuple[float, int]:
        """Return seconds until the last response, and the number of matches."""
        identifier = encoded_identifier(keys)
        self._message_id = self._message_id % 0xFFFF + 1
        request = Request(CommandField.C_FIND_RQ, self._message_id, STUDY_ROOT_FIND, "", has_data_set=True)
        command = p_data_pdus(_CONTEXT_ID, encode_command(request), max_pdu_bytes=self._max_pdu_bytes)
        began = time.perf_counter()
        self._stream.send(command + _data_set_pdu(identifier))
        n_matches = 0
        while (status := self._next_status()) in _PENDING:
            n_matches += 1
        wall_s = time.perf_counter() - began
        if status != 0:
            raise RuntimeError(f"C-FIND ended with 0x{status:04X}")
        return wall_s, n_matches

    def _next_status(self) -> int:
        """Read a response with its data set, and return its status."""
        command, status, is_whole = b"", 0, False
        while not is_whole:
            pdu = self._stream.read(timeout_s=TIMEOUT_S)
            if pdu.type is not PduType.P_DATA_TF:
                raise RuntimeError(f"{pdu.type.name} instead of a response")
            for pdv in split_pdvs(pdu.body):
                if not pdv.is_command:
                    is_whole = pdv.is_last
                    continue
                command += bytes(pdv.fragment)
                if pdv.is_last:
                    response = decode_response(command)
                    status, is_whole = response.status, not response.has_data_set
        return status

    def close(self) -> None:
        """Release the association."""
        self._stream.send(release_request())
        self._stream.read(timeout_s=TIMEOUT_S)
        self._socket.close()


def encoded_identifier(keys: Keys) -> bytes:
    """Return an identifier that asks for the usual attributes of studies, in implicit VR."""
    ds = Dataset()
    ds.QueryRetrieveLevel = "STUDY"
    for keyword in _WANTED:
        setattr(ds, keyword, "")
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    buffer = DicomIO(BytesIO())
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    write_dataset(buffer, ds)
    return bytes(buffer.parent.getvalue())


def _data_set_pdu(data_set: bytes) -> bytes:
    """Return the only P-DATA-TF PDU of a short data set."""
    as_command = bytearray(p_data_pdus(_CONTEXT_ID, data_set, max_pdu_bytes=0))
    as_command[11] &= ~1  # of the message control header: no command
    return bytes(as_command)
