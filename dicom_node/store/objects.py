"""Object bytes on disk: Part 10 files, content-addressed by the SHA-256 of their dataset."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO


class Spool:
    """An object that is being written, not yet part of the store; a context manager that discards what was not kept."""

    @property
    def dataset_bytes(self) -> int:
        """Bytes of dataset written so far."""
        raise NotImplementedError

    def write(self, fragment: bytes | bytearray | memoryview) -> int:
        """Append a fragment of the encoded dataset; gives its length."""
        raise NotImplementedError

    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the dataset written so far."""
        raise NotImplementedError

    def discard(self) -> None:
        """Remove the file; harmless when it was kept."""
        raise NotImplementedError


class ObjectStore:
    """The folder of objects under the data directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def spool(self, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> Spool:
        """Start an object; preamble and file meta are written at once, so what follows is the bare dataset."""
        raise NotImplementedError

    def open(self, digest: str) -> BinaryIO:
        """Part 10 stream of an object; `ObjectMissingError` when its file is gone."""
        raise NotImplementedError

    def read_dataset_bytes(self, digest: str) -> bytes:
        """The dataset exactly as received, without preamble and file meta."""
        raise NotImplementedError
