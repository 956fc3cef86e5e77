"""Open associations, so that a sender's pause is not mistaken for the end of its transfer.

Each is a file that its receiver locks and whose modification time is that of the latest message. It costs an
instance no transaction and no sync, and a receiver that is killed leaves no association open. This is only a hint:
if the file cannot be created, the association continues and is not known to be open.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

log = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class OpenAssociations:
    """Associations that receivers of this store have open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._is_reported = False  # that no file can be created

    @contextmanager
    def hold(self, association_id: str) -> Iterator[Callable[[datetime], None]]:
        """Count an association as open during the block; call the yielded function at each message."""
        fd = self._lock(association_id)

        def note(at: datetime) -> None:
            if fd is not None:
                with suppress(OSError):
                    os.utime(fd, times=(at.timestamp(), at.timestamp()))

        try:
            yield note
        finally:
            if fd is not None:
                with suppress(OSError):
                    (self._folder / association_id).unlink()
                os.close(fd)

    def _lock(self, association_id: str) -> int | None:
        """Create and lock the file of an association; return None if that fails, which is logged once."""
        fd = None
        try:
            fd = os.open(self._folder / association_id, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as error:
            if fd is not None:
                os.close(fd)
            if not self._is_reported:
                log.warning(
                    "open associations cannot be recorded (%s); a series may be closed while its sender pauses",
                    error.strerror,
                )
            self._is_reported = True
            return None
        self._is_reported = False
        return fd

    def last_message_at(self, association_id: str) -> datetime | None:
        """Return when the latest message of an open association arrived; ``None`` if it is not open."""
        if not _ID.fullmatch(association_id):
            return None
        try:
            fd = os.open(self._folder / association_id, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # it has ended, or was never recorded
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return datetime.fromtimestamp(os.fstat(fd).st_mtime, UTC)
        finally:
            os.close(fd)
        return None  # its receiver was killed

    def count(self) -> int:
        """Return the number of open associations."""
        return sum(self.last_message_at(path.name) is not None for path in self._folder.iterdir())

    def clear(self) -> None:
        """Remove the files of killed receivers. Call only while no other process has the store open."""
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                path.unlink()
