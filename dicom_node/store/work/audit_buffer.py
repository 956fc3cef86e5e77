"""Entries of the audit trail that may come thousands at a time: written together, some seconds later.

What happens in a transaction of its own (a decision, an export) is recorded there, at once. Here goes what happens on
the way of images: an association that ended, a study that was read. No sender waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import StoreError
from dicom_node.store.schema import audit
from dicom_node.store.work.audit import entry_values

log = logging.getLogger(__name__)

FLUSH_S: Final = 2.0
MAX_WAITING: Final = 20_000  # while the index is away; then the oldest are lost, and the log says so


class AuditBuffer:
    """Keeps entries in memory until its thread has written them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._waiting: deque[dict[str, Any]] = deque()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._n_lost = 0

    def note(
        self, action: str, *, actor: str, subject: str, now: datetime, detail: Mapping[str, Any] | None = None
    ) -> None:
        """Take an entry; it is written within `FLUSH_S` seconds, or when the store is closed."""
        entry = entry_values(action, actor=actor, subject=subject, now=now, detail=detail)
        with self._lock:
            self._waiting.append(entry)
            if len(self._waiting) > MAX_WAITING:
                self._waiting.popleft()
                self._n_lost += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Write what waits; raise `StoreError` if the index cannot take it, and keep it."""
        with self._lock:
            entries: Sequence[dict[str, Any]] = tuple(self._waiting)
            self._waiting.clear()
        if not entries:
            return
        try:
            with self._database.write() as connection:
                connection.execute(sa.insert(audit), entries)
        except BaseException:
            with self._lock:
                self._waiting.extendleft(reversed(entries))
            raise

    def close(self) -> None:
        """Write what waits, and end."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        self._flush_or_say()

    def _run(self) -> None:
        while not self._closing.wait(FLUSH_S):
            self._flush_or_say()

    def _flush_or_say(self) -> None:
        try:
            self.flush()
        except StoreError as error:
            log.warning("entries of the audit trail wait: %s", error, extra={"n_waiting": len(self._waiting)})
        except Exception:
            log.exception("entries of the audit trail wait")
        with self._lock:
            n_lost, self._n_lost = self._n_lost, 0
        if n_lost:
            log.error("entries of the audit trail are lost, because the index is away", extra={"n_lost": n_lost})
