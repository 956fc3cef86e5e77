"""Inflate deflated datasets (PS3.5 A.5) only as far as they are read, and never beyond a bound.

Three megabytes can inflate to three gigabytes. pydicom inflates without a bound, so it never gets deflated bytes.
"""

from __future__ import annotations

import contextlib
import io
import sys
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final, cast

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from part10.errors import InflatesTooLargeError, NotADatasetError, Part10Error
from part10.file_meta import START_BYTES, dataset_offset
from part10.metered import MeteredFile
from part10.select import select_elements

CHUNK_BYTES: Final = 2**18
MAX_META_BYTES: Final = 2**16
_TRANSFER_SYNTAX_UID: Final = 0x00020010


def is_deflated(head: bytes) -> bool:
    """Whether the file meta information in ``head`` names the deflated transfer syntax."""
    try:
        meta = head[START_BYTES : dataset_offset(head)]
        found = select_elements(meta, {_TRANSFER_SYNTAX_UID}, 0x0002FFFF, is_implicit_vr=False, is_little_endian=True)
    except Part10Error:
        return False
    return found.values.get(_TRANSFER_SYNTAX_UID, b"").rstrip(b"\0 ") == DeflatedExplicitVRLittleEndian.encode()


def inflate(deflated: bytes, *, max_bytes: int) -> bytes:
    """Inflate the first ``max_bytes`` of a dataset and ignore the rest.

    Raises
    ------
    NotADatasetError
        The bytes are not deflated.
    """
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated, max_bytes)
    except zlib.error as error:
        raise NotADatasetError(f"its deflated dataset is damaged ({error})") from error


class InflatedFile:
    """Present a deflated Part 10 file as a file in explicit VR little endian; inflated bytes are kept in memory.

    The file meta information names explicit VR little endian, padded to its former length. A truncated stream ends like
    a truncated file.

    Parameters
    ----------
    file
        The deflated file, positioned after ``start``.
    start
        Bytes already read from its beginning.
    max_bytes
        Size of the longest dataset that is inflated; reading further raises `InflatesTooLargeError`.

    Raises
    ------
    NotPart10Error
        The file does not begin as a Part 10 file.
    """

    def __init__(self, file: BinaryIO, *, start: bytes = b"", max_bytes: int) -> None:
        start += file.read(max(0, START_BYTES - len(start)))
        begin = dataset_offset(start)
        start += file.read(max(0, begin - len(start)))
        deflated, plain = (uid.encode() for uid in (DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian))
        self._file = file
        self._max_bytes = max_bytes
        self._begin = begin
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._pending = start[begin:]
        self._held = io.BytesIO()
        self._n_held = self._held.write(start[:begin].replace(deflated, plain.ljust(len(deflated), b"\0"), 1))
        self._held.seek(0)

    def read(self, n_bytes: int | None = -1) -> bytes:
        """Read up to ``n_bytes``, or everything left if it is negative or None.

        A length above the bound raises `InflatesTooLargeError` before anything is inflated.
        """
        if n_bytes is not None and n_bytes > self._max_bytes:
            raise self._too_large()
        self._inflate_up_to(None if n_bytes is None or n_bytes < 0 else self._held.tell() + n_bytes)
        return self._held.read(n_bytes)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position; relative to the end, the whole file is inflated first."""
        if whence == io.SEEK_END:
            self._inflate_up_to(None)
        return self._held.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._held.tell()

    def getvalue(self) -> bytes:
        """Return the content of the whole file."""
        self._inflate_up_to(None)
        return self._held.getvalue()

    def _inflate_up_to(self, end: int | None) -> None:
        """Inflate up to position ``end``, or to the end of the dataset."""
        if end is not None and end <= self._n_held:
            return
        position = self._held.seek(0, io.SEEK_CUR)
        self._held.seek(0, io.SEEK_END)
        try:
            while (end is None or self._n_held < end) and (piece := self.next_piece()):
                self._n_held += self._held.write(piece)
                if self._n_held - self._begin > self._max_bytes:
                    raise self._too_large()
        finally:
            self._held.seek(position)

    def _too_large(self) -> InflatesTooLargeError:
        return InflatesTooLargeError(f"inflates to more than {self._max_bytes} bytes")

    def next_piece(self) -> bytes:
        """Return some more inflated bytes, which are not kept, wherever the file is; empty at the end."""
        try:
            while not self._inflater.eof and (deflated := self._pending or self._file.read(CHUNK_BYTES)):
                piece = self._inflater.decompress(deflated, CHUNK_BYTES)
                self._pending = self._inflater.unconsumed_tail
                if piece:
                    return piece
            return self._inflater.flush()
        except zlib.error as error:
            raise NotADatasetError(f"its deflated dataset is damaged ({error})") from error


def inflated_chunks(file: BinaryIO, *, max_bytes: int) -> Iterator[bytes]:
    """Yield a deflated Part 10 file in explicit VR little endian, as `InflatedFile` presents it; keep nothing of it.

    Raises
    ------
    InflatesTooLargeError
        The dataset inflates to more than ``max_bytes``.
    """
    inflated = InflatedFile(file, max_bytes=max_bytes)
    n_begun = START_BYTES
    chunk = inflated.read(n_begun)
    n_meta = dataset_offset(chunk)
    yield chunk + inflated.read(n_meta - n_begun)
    n_bytes = 0
    while piece := inflated.next_piece():
        n_bytes += len(piece)
        if n_bytes > max_bytes:
            raise InflatesTooLargeError(f"inflates to more than {max_bytes} bytes")
        yield piece


def bounded_for_pydicom(file: BinaryIO, *, max_inflated_bytes: int, max_read_bytes: int = sys.maxsize) -> BinaryIO:
    """Return a file for ``dcmread`` or ``read_partial`` whose memory use is bounded by its size and the given limit.

    Parameters
    ----------
    file
        A seekable file, positioned at its beginning. If it is not deflated, the returned file shares its position.
    max_inflated_bytes
        Size of the longest dataset that a deflated file may inflate to; reading further raises `InflatesTooLargeError`.
    max_read_bytes
        How much may be read of a file that is not deflated; reading more raises `ReadsTooMuchError`.
    """
    head = file.read(START_BYTES)
    with contextlib.suppress(Part10Error):
        head += file.read(max(0, min(dataset_offset(head), MAX_META_BYTES) - len(head)))
    if is_deflated(head):
        return cast("BinaryIO", InflatedFile(file, start=head, max_bytes=max_inflated_bytes))
    file.seek(0)
    # pydicom reads all at once only to inflate it.
    inflates = "deflated, which its file meta information does not say in order"
    return cast("BinaryIO", MeteredFile(file, max_bytes=max_read_bytes, all_at_once=inflates))
