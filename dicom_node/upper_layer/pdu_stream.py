"""Read and write whole PDUs on a socket, with limits on size and time (PS3.8 9.3)."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from enum import IntEnum
from typing import BinaryIO, NamedTuple

from dicom_node.upper_layer.errors import (
    AbortReason,
    AbortSource,
    OtherProtocolError,
    PeerGoneError,
    PeerTooSlowError,
    ProtocolError,
)
from dicom_node.upper_layer.other_protocols import WANTED_BYTES, name_protocol
from dicom_node.upper_layer.tls.handshake import end_tls, words_of

PDU_HEADER = struct.Struct(">BxI")  # type, reserved, length of what follows
PDV_HEADER = struct.Struct(">IBB")  # length of what follows, presentation context ID, message control header
PDV_LENGTH_BYTES = 4
# 128 contexts with every known transfer syntax take about 230 kB.
MAX_NEGOTIATION_BYTES = 256 * 1024
# Some requestors count the header of the one PDV in a P-DATA-TF PDU, others do not (PS3.8 D.1.1).
LENGTH_TOLERANCE_BYTES = 6
READ_AHEAD_BYTES = 128 * 1024
MAX_SENT_PDU_BYTES = 128 * 1024
MIN_TIMEOUT_S = 0.001  # of one call of a socket; 0 would mean not to wait
IS_COMMAND = 0x01
IS_LAST = 0x02


class PduType(IntEnum):
    """First byte of a PDU."""

    ASSOCIATE_RQ = 0x01
    ASSOCIATE_AC = 0x02
    ASSOCIATE_RJ = 0x03
    P_DATA_TF = 0x04
    RELEASE_RQ = 0x05
    RELEASE_RP = 0x06
    ABORT = 0x07


class Pdu(NamedTuple):
    """A PDU; ``body`` follows the six bytes of header and is valid until the next PDU is read."""

    type: PduType
    body: memoryview


class Pdv(NamedTuple):
    """A presentation data value: one fragment of a command set or data set (PS3.8 E.2)."""

    context_id: int
    control: int
    fragment: memoryview

    @property
    def is_command(self) -> bool:
        """Whether the fragment belongs to a command set."""
        return bool(self.control & IS_COMMAND)

    @property
    def is_last(self) -> bool:
        """Whether the fragment is the last one of its command set or data set."""
        return bool(self.control & IS_LAST)


class PduStream:
    """Read and write PDUs on a connected socket, plain or with TLS after its handshake.

    Parameters
    ----------
    max_pdu_bytes
        Longest P-DATA-TF PDU accepted, as announced to the peer (PS3.8 D.1); longer ones end the association.
    pdu_timeout_s
        Time for a PDU to be complete once it has begun, and for the peer to accept an answer.
    """

    def __init__(self, connection: socket.socket, *, max_pdu_bytes: int, pdu_timeout_s: float) -> None:
        self._connection = connection
        self._limit = max_pdu_bytes + LENGTH_TOLERANCE_BYTES
        self._timeout_s = pdu_timeout_s
        size = max(self._limit, MAX_NEGOTIATION_BYTES) + PDU_HEADER.size + READ_AHEAD_BYTES
        self._buffer = memoryview(bytearray(size))
        self._start = 0
        self._end = 0
        self._has_received = False

    @property
    def has_received(self) -> bool:
        """Whether the peer has sent anything yet."""
        return self._has_received

    def is_readable(self, timeout_s: float) -> bool:
        """Wait for the first byte of a PDU, or the end of the stream; return False if neither comes in time."""
        if self._has_bytes():
            return True
        poller = select.poll()
        poller.register(self._connection, select.POLLIN)
        return bool(poller.poll(timeout_s * 1000))

    def wait(self, timeout_s: float, wake: int) -> bool:
        """Wait for the first byte of a PDU; return False if the file descriptor ``wake`` becomes readable first."""
        if self._has_bytes():
            return True
        poller = select.poll()
        poller.register(self._connection, select.POLLIN)
        poller.register(wake, select.POLLIN)
        ready = dict(poller.poll(timeout_s * 1000))
        if not ready:
            raise PeerTooSlowError("PDU", timeout_s)
        return self._connection.fileno() in ready

    def _has_bytes(self) -> bool:
        """Whether bytes are here already: in our buffer, or decrypted in that of TLS, where poll does not see them."""
        return self._end > self._start or (
            isinstance(self._connection, ssl.SSLSocket) and self._connection.pending() > 0
        )

    def read(self, *, timeout_s: float | None = None) -> Pdu:
        """Read a whole PDU, within ``timeout_s`` if given, else within the timeout of the stream.

        Raises
        ------
        ProtocolError
            The type is unknown, or the length exceeds the limit.
        PeerGoneError
            The connection ended.
        PeerTooSlowError
            It did not arrive in time.
        """
        allowed_s = self._timeout_s if timeout_s is None else timeout_s
        end_at = time.monotonic() + allowed_s
        self._fill(PDU_HEADER.size, end_at, allowed_s)
        number, length = PDU_HEADER.unpack_from(self._buffer, self._start)
        try:
            pdu_type = PduType(number)
        except ValueError:
            raise self._unrecognized(number) from None
        limit = self._limit if pdu_type is PduType.P_DATA_TF else MAX_NEGOTIATION_BYTES
        if length > limit:
            what = f"{pdu_type.name} PDU announces {length} bytes, at most {limit} are taken"
            raise ProtocolError(AbortReason.INVALID_PDU_PARAMETER_VALUE, what)
        self._fill(PDU_HEADER.size + length, end_at, allowed_s)
        body_start = self._start + PDU_HEADER.size
        self._start = body_start + length
        return Pdu(pdu_type, self._buffer[body_start : self._start])

    def _unrecognized(self, number: int) -> ProtocolError:
        protocol = name_protocol(bytes(self._buffer[self._start : min(self._end, self._start + WANTED_BYTES)]))
        if protocol is not None:
            what = f"peer speaks {protocol}, but DICOM without TLS was expected here"
            return OtherProtocolError(AbortReason.UNRECOGNIZED_PDU, what)
        return ProtocolError(AbortReason.UNRECOGNIZED_PDU, f"PDU of unknown type 0x{number:02x}")

    def send(self, pdu: bytes) -> None:
        """Send PDUs with one call, so that no TCP acknowledgement is awaited in between."""
        end_at = time.monotonic() + self._timeout_s
        rest = memoryview(pdu)
        try:
            while rest:  # not sendall: with TLS it allows the whole time for each record
                self._connection.settimeout(max(MIN_TIMEOUT_S, end_at - time.monotonic()))
                rest = rest[self._connection.send(rest) :]
        except TimeoutError:
            raise PeerTooSlowError("acknowledgement of an answer", self._timeout_s) from None
        except OSError as error:
            raise PeerGoneError(words_of(error)) from error

    def drain(self, timeout_s: float) -> None:
        """Half-close the connection, and discard what still arrives until the peer closes it or the time is over.

        Closing a socket with unread bytes resets the connection, and the peer may never receive the last PDU.
        """
        end_at = time.monotonic() + timeout_s
        end_tls(self._connection)
        try:
            self._connection.shutdown(socket.SHUT_WR)  # what still arrives is not decrypted any more
            while (left := end_at - time.monotonic()) > 0:
                self._connection.settimeout(left)
                if not self._connection.recv_into(self._buffer):
                    return
        except OSError:
            return

    def _fill(self, wanted: int, end_at: float, allowed_s: float) -> None:
        """Receive until ``wanted`` bytes are in the buffer."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start + wanted > len(self._buffer):
            rest = self._end - self._start
            self._buffer[:rest] = self._buffer[self._start : self._end]
            self._start, self._end = 0, rest
        while self._end - self._start < wanted:
            left = end_at - time.monotonic()
            if left <= 0:
                raise PeerTooSlowError("complete PDU", allowed_s)
            self._connection.settimeout(left)
            try:
                received = self._connection.recv_into(self._buffer[self._end :])
            except TimeoutError:
                raise PeerTooSlowError("complete PDU", allowed_s) from None
            except OSError as error:
                raise PeerGoneError(words_of(error)) from error
            if not received:
                raise PeerGoneError("end of stream")
            self._has_received = True
            self._end += received


def split_pdvs(body: memoryview) -> Iterator[Pdv]:
    """Yield the presentation data values of a P-DATA-TF PDU (PS3.8 9.3.5.1)."""
    if not body:
        raise ProtocolError(AbortReason.INVALID_PDU_PARAMETER_VALUE, "P-DATA-TF PDU without a presentation data value")
    offset = 0
    while offset < len(body):
        if len(body) - offset < PDV_HEADER.size:
            raise ProtocolError(AbortReason.INVALID_PDU_PARAMETER_VALUE, "presentation data value without a header")
        length, context_id, control = PDV_HEADER.unpack_from(body, offset)
        end = offset + PDV_LENGTH_BYTES + length
        if end < offset + PDV_HEADER.size or end > len(body):
            what = f"presentation data value of {length} bytes in a PDU that has {len(body) - offset - 4} left"
            raise ProtocolError(AbortReason.INVALID_PDU_PARAMETER_VALUE, what)
        yield Pdv(context_id, control, body[offset + PDV_HEADER.size : end])
        offset = end


def p_data_pdus(context_id: int, command_set: bytes, *, max_pdu_bytes: int) -> bytes:
    """Return the P-DATA-TF PDUs of a command set, none longer than the peer accepts; 0 means no limit."""
    piece = max(1, max_pdu_bytes - PDV_HEADER.size) if max_pdu_bytes else len(command_set)
    pdus = bytearray()
    for offset in range(0, len(command_set), piece):
        fragment = command_set[offset : offset + piece]
        control = IS_COMMAND | (IS_LAST if offset + piece >= len(command_set) else 0)
        pdus += PDU_HEADER.pack(PduType.P_DATA_TF, PDV_HEADER.size + len(fragment))
        pdus += PDV_HEADER.pack(len(fragment) + 2, context_id, control) + fragment
    return bytes(pdus)


def data_set_pdus(context_id: int, data_set: BinaryIO, *, max_pdu_bytes: int) -> Iterator[bytes]:
    """Yield P-DATA-TF PDUs for the rest of a stream, none longer than the peer accepts or `MAX_SENT_PDU_BYTES`."""
    longest = min(max_pdu_bytes or MAX_SENT_PDU_BYTES, MAX_SENT_PDU_BYTES)
    size = max(2, (longest - PDV_HEADER.size) // 2 * 2)  # fragments have an even length (PS3.8 E.1)
    fragment = data_set.read(size)
    while fragment:
        following = data_set.read(size)
        header = PDU_HEADER.pack(PduType.P_DATA_TF, PDV_HEADER.size + len(fragment))
        yield header + PDV_HEADER.pack(len(fragment) + 2, context_id, 0 if following else IS_LAST) + fragment
        fragment = following


def release_request() -> bytes:
    """Return an A-RELEASE-RQ PDU (PS3.8 9.3.6)."""
    return PDU_HEADER.pack(PduType.RELEASE_RQ, 4) + bytes(4)


def release_response() -> bytes:
    """Return an A-RELEASE-RP PDU (PS3.8 9.3.7)."""
    return PDU_HEADER.pack(PduType.RELEASE_RP, 4) + bytes(4)


def abort_pdu(source: AbortSource, reason: AbortReason) -> bytes:
    """Return an A-ABORT PDU (PS3.8 9.3.8); the reason is significant only if the service provider aborts."""
    number = reason if source is AbortSource.SERVICE_PROVIDER else 0
    return PDU_HEADER.pack(PduType.ABORT, 4) + bytes((0, 0, source, number))
