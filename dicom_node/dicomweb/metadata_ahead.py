"""Compute the metadata of instances after they have arrived, before a viewer asks for them (docs/decisions/0045).

Nobody waits for this work, so it waits for everybody else: until nothing has arrived for some seconds, at the lowest
priority for the processor, and while the disk has space. It takes instances in the order in which they came and keeps
how far it is, so that it goes on there after a restart. What is in the store when it first runs is left to the first
request, as is whatever it cannot decode.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self

from dicom_node.dicomweb.dicom_json import Memo
from dicom_node.dicomweb.kept_metadata import KeptMetadata
from dicom_node.errors import NodeError
from dicom_node.logs import RepeatedFailure
from dicom_node.store import StorageFullError, Store

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0  # between two looks while there is nothing to do
QUIET: Final = timedelta(seconds=5)  # since the last arrival
LONGEST_WAIT: Final = timedelta(seconds=60)  # of an instance, for others to stop arriving
BATCH_ROWS: Final = 100
LOWEST_PRIORITY: Final = 19


class MetadataAhead:
    """Computes metadata in a thread of its own, from the beginning to the end of a ``with`` block."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._kept = KeptMetadata(store.objects)
        self._memo = Memo()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metadata-ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def look(self) -> bool:
        """Compute the metadata of the next instances, if there are any and nothing arrives; return whether it did."""
        objects, order = self._store.objects, self._store.arrival_order
        mark, newest = objects.derived_mark(), order.newest()
        if mark is None or mark > newest:  # the first look, or an index from a backup
            objects.set_derived_mark(newest)
            return False
        rows = order.after(mark, limit=BATCH_ROWS)
        if not rows or self._others_arrive(rows[0][1].received_at, newest):
            return False
        try:
            self._store.inbox.check_space()
        except StorageFullError:
            return False
        for number, row in rows:
            with contextlib.suppress(NodeError):  # undecodable, damaged or deleted meanwhile: a request says so
                self._kept.encoded(row, self._memo)
            mark = number
            if self._stopping.is_set():
                break
        objects.set_derived_mark(mark)
        return True

    def _others_arrive(self, first_at: datetime, newest: int) -> bool:
        """Return whether to wait with an instance that arrived at ``first_at``."""
        now = self._clock()
        last = self._store.arrival_order.after(newest - 1, limit=1)  # nothing if it was deleted meanwhile
        is_quiet = not any(timedelta(0) <= now - row.received_at < QUIET for _, row in last)
        return not is_quiet and now - first_at < LONGEST_WAIT

    def _run(self) -> None:
        failure = RepeatedFailure(log, "no metadata ahead; asked again", "metadata are computed ahead again")
        with contextlib.suppress(OSError, AttributeError):  # of this thread alone, where the system has that
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
        while not self._stopping.is_set():
            has_worked = False
            try:
                has_worked = self.look()
            except Exception as error:  # noqa: BLE001 - the loop goes on, whatever it is
                failure.failed(error)
            else:
                failure.worked()
            if not has_worked:
                self._stopping.wait(LOOK_S)
