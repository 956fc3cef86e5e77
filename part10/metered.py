"""Bound how much is read from a file by a parser that trusts the lengths in it."""

from __future__ import annotations

import io
from typing import BinaryIO, Final

from part10.errors import NotADatasetError, ReadsTooMuchError

_SMALL_BYTES: Final = 2**18  # a buffer of this size may be allocated for bytes that are not there


class MeteredFile:
    """A file of which at most ``max_bytes`` are read, counted anew from each `begin`.

    A length beyond the end of the file allocates no buffer of that length. Reading all at once is refused.

    Parameters
    ----------
    file
        A seekable file; its position is shared.
    all_at_once
        What it means if all of it is read at once.
    """

    def __init__(
        self, file: BinaryIO, *, max_bytes: int, all_at_once: str = "asks for all of the file at once"
    ) -> None:
        self._file = file
        self._all_at_once = all_at_once
        self._max_bytes = max_bytes
        self._n_read = 0
        self.seek = file.seek
        self.tell = file.tell

    def begin(self, offset: int | None = None) -> None:
        """Count anew, from this offset or from where the file is."""
        if offset is not None:
            self._file.seek(offset)
        self._n_read = 0

    def read(self, n_bytes: int | None = -1) -> bytes:
        """Read up to ``n_bytes``.

        Raises
        ------
        ReadsTooMuchError
            With them it would be more than ``max_bytes``.
        NotADatasetError
            No number is given.
        """
        if n_bytes is None or n_bytes < 0:
            raise NotADatasetError(self._all_at_once)
        if n_bytes > _SMALL_BYTES:
            n_bytes = min(n_bytes, self._n_left())
        self._n_read += n_bytes
        if self._n_read > self._max_bytes:
            raise ReadsTooMuchError(f"takes more than {self._max_bytes} bytes")
        return self._file.read(n_bytes)

    def _n_left(self) -> int:
        position = self._file.tell()
        n_left = self._file.seek(0, io.SEEK_END) - position
        self._file.seek(position)
        return max(0, n_left)
