"""Zip archives that are sent while they are written, so that a study of any size needs little memory."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import RawIOBase
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

ZIP: Final = "application/zip"
_NO_DATE: Final = (1980, 1, 1, 0, 0, 0)  # the same request, the same bytes
_LARGE_BYTES: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its name, how large it may become, and its bytes in chunks."""

    name: str
    max_bytes: int
    chunks: Iterator[bytes]


class _Pipe(RawIOBase):
    """Takes what is written and hands it on; it cannot be sought in, so that sizes follow each file."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, written: ReadableBuffer, /) -> int:
        self._written += written
        return memoryview(written).nbytes

    def take(self) -> bytes:
        """Return what was written since the last call."""
        taken = bytes(self._written)
        self._written.clear()
        return taken


def zip_chunks(entries: Iterable[Entry]) -> Iterator[bytes]:
    """Yield the bytes of an archive whose files are not compressed, which takes long and saves little."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for entry in entries:
            head = zipfile.ZipInfo(entry.name, _NO_DATE)
            head.external_attr = 0o640 << 16
            with archive.open(head, "w", force_zip64=entry.max_bytes > _LARGE_BYTES) as file:
                for chunk in entry.chunks:
                    file.write(chunk)
                    yield pipe.take()
            yield pipe.take()
    yield pipe.take()
