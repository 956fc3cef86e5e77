"""Bytes that were computed from an object and are kept, so that they need not be computed again.

They are compressed files in a folder of their own, named by the digest of the object. All of it may be deleted at any
time, and needs no backup. A file of another form, a damaged one, and one that was cut short count as missing.
"""

from __future__ import annotations

import logging
import os
import secrets
import zlib
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

_LEVEL: Final = 3
_SUFFIX: Final = ".z"
_MARK: Final = "computed-up-to"
KINDS: Final = ("", ".pictures")
"""What may be kept for one object side by side: its metadata, and pictures of the series that begins with it."""


class DerivedFiles:
    """The folder of derived bytes, on the file system of objects and spool.

    Parameters
    ----------
    folder
        Created with its first file.
    spool_folder
        Where files are written before they get their name; what a crash leaves there is removed at the next start.
    """

    def __init__(self, folder: Path, spool_folder: Path) -> None:
        self._folder = folder
        self._spool_folder = spool_folder
        self._has_failed = False

    def read(self, digest: str, form: bytes, *, object_changed_ns: int, kind: str = "") -> bytes | None:
        """Return what is kept for an object in this form; None if there is nothing, or nothing sound.

        Parameters
        ----------
        form
            Says what the bytes are and which version of the program computes them; without line breaks.
        object_changed_ns
            When the object's file last changed (``st_ctime_ns``); what is older was computed from another file, which
            may have been damaged.
        kind
            One of `KINDS`.
        """
        try:
            with self._path(digest, kind).open("rb") as file:
                if os.fstat(file.fileno()).st_mtime_ns < object_changed_ns:
                    return None
                kept = file.read()
        except OSError:
            return None
        found, _, compressed = kept.partition(b"\n")
        if found != form:
            return None
        try:
            return zlib.decompress(compressed)
        except zlib.error:
            return None

    def write(self, digest: str, form: bytes, derived: bytes, *, kind: str = "") -> None:
        """Keep bytes in place of what was kept for the object; if the disk does not take them, only log it, once."""
        path = self._path(digest, kind)
        temporary = self._spool_folder / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            temporary.write_bytes(form + b"\n" + zlib.compress(derived, _LEVEL))
            try:
                temporary.replace(path)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if not self._has_failed:
                log.warning("derived bytes are not kept, and computed each time: %s", error.strerror)
            self._has_failed = True

    def read_mark(self) -> int | None:
        """Return the number that `write_mark` kept; None if there is none, or nothing sound."""
        try:
            return int((self._folder / _MARK).read_text("ascii"))
        except (OSError, ValueError):
            return None

    def write_mark(self, number: int) -> None:
        """Keep how far bytes were computed ahead; it goes when the folder is deleted, and they are then not there."""
        temporary = self._spool_folder / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary.write_text(str(number), "ascii")
            temporary.replace(self._folder / _MARK)
        finally:
            temporary.unlink(missing_ok=True)

    def remove(self, digest: str) -> None:
        """Remove what is kept for an object."""
        for kind in KINDS:
            self._path(digest, kind).unlink(missing_ok=True)

    def _path(self, digest: str, kind: str) -> Path:
        return self._folder / digest[:2] / f"{digest}{kind}{_SUFFIX}"
