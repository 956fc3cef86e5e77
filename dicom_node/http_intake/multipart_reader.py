"""Read a multipart body piece by piece (RFC 2046 5.1), so that a body of any size needs little memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final, Protocol

from dicom_node.http_intake.errors import MalformedBodyError

MAX_HEADER_BYTES: Final = 8192  # of one part
MAX_PREAMBLE_BYTES: Final = 65536
MAX_PARTS: Final = 50_000
_MAX_PADDING_BYTES: Final = 256  # of spaces between a delimiter and the end of its line
_END_OF_HEADER: Final = b"\r\n\r\n"
_LINE: Final = b"\r\n"


class Sink(Protocol):
    """Takes the content of one part."""

    def write(self, piece: bytes) -> None:
        """Take the next bytes."""

    def finish(self) -> None:
        """Take note that the part is complete."""


class _State(Enum):
    PREAMBLE = "before the first part"
    HEADER = "in the header of"
    BODY = "within"
    END = "after the last part"


class MultipartReader:
    """Splits a body at its boundary and gives each part to a sink.

    Parameters
    ----------
    boundary
        As the Content-Type of the request says.
    begin_part
        Makes the sink of a part from its number, from 1, and its header fields, whose names are in lower case.
    """

    def __init__(self, boundary: bytes, begin_part: Callable[[int, Mapping[str, str]], Sink]) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._begin_part = begin_part
        self._buffer = bytearray(_LINE)  # so that the first delimiter has a line end before it, like all others
        self._state = _State.PREAMBLE
        self._n_skipped = 0
        self._sink: Sink | None = None
        self.n_parts = 0

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the body; what follows its end is ignored.

        Raises
        ------
        MalformedBodyError
            The body does not begin with its boundary, or a part's header is too long.
        """
        if self._state is _State.END:
            return
        self._buffer += piece
        while self._read_header() if self._state is _State.HEADER else self._read_body():
            pass

    def finish(self) -> None:
        """Check that the body has ended with its last delimiter; raise `MalformedBodyError` if not."""
        if self._state is not _State.END:
            where = self._state.value if self._state is _State.PREAMBLE else f"{self._state.value} part {self.n_parts}"
            raise MalformedBodyError(f"it ends {where}, before its closing boundary")

    def _read_body(self) -> bool:
        """Pass on what is before the next delimiter; return whether there is more to read in the buffer."""
        at, end, is_last = self._find_delimiter()
        if end is None:
            self._pass_on(at)
            return False
        self._pass_on(at)
        del self._buffer[: end - at]
        if self._sink is not None:
            sink, self._sink = self._sink, None
            sink.finish()
        if is_last:
            self._state = _State.END
            self._buffer.clear()
            return False
        self._state = _State.HEADER
        self.n_parts += 1
        if self.n_parts > MAX_PARTS:
            raise MalformedBodyError(f"it has more than {MAX_PARTS} parts")
        return True

    def _find_delimiter(self) -> tuple[int, int | None, bool]:
        """Return where the next delimiter begins and ends, and whether it is the last one.

        Without an end there is none yet, and everything before the beginning belongs to the part.
        """
        at = -1
        while (at := self._buffer.find(self._delimiter, at + 1)) >= 0:
            after = at + len(self._delimiter)
            if self._buffer[after : after + 2] == b"--":
                return at, after + 2, True
            end_of_line = self._buffer.find(_LINE, after, after + _MAX_PADDING_BYTES)
            if end_of_line >= 0 and not self._buffer[after:end_of_line].strip(b" \t"):
                return at, end_of_line, False  # the line end stays: a part without a header begins with an empty line
            if end_of_line < 0 and len(self._buffer) < after + _MAX_PADDING_BYTES:
                return at, None, False
            # Otherwise these are bytes of the part that look like it, or the delimiter of an inner body.
        return max(0, len(self._buffer) - len(self._delimiter) + 1), None, False

    def _pass_on(self, n_bytes: int) -> None:
        if n_bytes == 0:
            return
        if self._sink is not None:
            self._sink.write(bytes(memoryview(self._buffer)[:n_bytes]))
        else:
            self._n_skipped += n_bytes
            if self._n_skipped > MAX_PREAMBLE_BYTES:
                raise MalformedBodyError(f"its boundary is not within the first {MAX_PREAMBLE_BYTES} bytes")
        del self._buffer[:n_bytes]

    def _read_header(self) -> bool:
        end = self._buffer.find(_END_OF_HEADER, 0, MAX_HEADER_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_HEADER_BYTES:
                raise MalformedBodyError(f"the header of part {self.n_parts} is longer than {MAX_HEADER_BYTES} bytes")
            return False
        fields = header_fields(bytes(self._buffer[:end]))
        # The last line end may be the one before the next delimiter, if the part is empty.
        del self._buffer[: end + len(_LINE)]
        self._sink = _AfterLineEnd(self._begin_part(self.n_parts, fields))
        self._state = _State.BODY
        return True


class _AfterLineEnd:
    """Drops the line end with which the content of a part begins in the buffer."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._n_left = len(_LINE)

    def write(self, piece: bytes) -> None:
        if self._n_left:
            n_dropped = min(self._n_left, len(piece))
            self._n_left -= n_dropped
            piece = piece[n_dropped:]
        if piece:
            self._sink.write(piece)

    def finish(self) -> None:
        self._sink.finish()


def header_fields(header: bytes) -> dict[str, str]:
    """Return the fields of a part's header, by name in lower case; a line that is no field is ignored."""
    unfolded = header.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ")
    fields = {}
    for line in unfolded.split(_LINE):
        name, separator, value = line.partition(b":")
        if separator:
            fields[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")
    return fields
