"""What keeps a node from working: parts that are down, and reasons why instances are refused."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.store.errors import (
    DataDirReplacedError,
    IndexUnavailableError,
    ObjectsUnavailableError,
    StorageFullError,
)
from dicom_node.store.parts import PARTS, PartState, Trouble

if TYPE_CHECKING:
    from dicom_node.store.store import Store

ANSWER_TIMEOUT_S = 4.0  # of the index; senders give up after 10 s or more
SPARE_DESCRIPTORS = 8  # an association needs three: its socket, its file in the list of open ones, its object
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


def intake_trouble(store: Store, now: datetime) -> Trouble | None:
    """Return why every instance would be refused now, or None; test all that storing one needs and leave no trace."""
    checks = (
        _data_dir_replaced,
        _storage_full,
        _few_descriptors,
        _not_writable,
        _index_unavailable,
        _objects_unavailable,
    )
    found = next((found for check in checks if (found := check(store)) is not None), None)
    if found is None:
        return None
    code, words = found
    return Trouble("receive", code, f"every instance is refused: {words}", now)


def _data_dir_replaced(store: Store) -> tuple[str, str] | None:
    try:
        store.objects.check_same_folder()
    except DataDirReplacedError as error:
        return error.code, str(error)
    return None


def _storage_full(store: Store) -> tuple[str, str] | None:
    try:
        store.inbox.check_space()
    except StorageFullError as error:
        _, reason = error.args
        return error.code, f"{reason}; make space"
    return None


def _few_descriptors(_store: Store) -> tuple[str, str] | None:
    """Return a reason if this process has hardly any file descriptors left."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        n_open = sum(1 for _ in Path("/proc/self/fd").iterdir())
    except FileNotFoundError:  # not Linux
        return None
    except OSError as error:
        if error.errno not in _NO_DESCRIPTOR:
            raise
        n_open = limit
    if limit - n_open >= SPARE_DESCRIPTORS:
        return None
    return "machine-short", f"{n_open} of {limit} file descriptors are open; raise the limit (ulimit -n, LimitNOFILE)"


def _not_writable(store: Store) -> tuple[str, str] | None:
    try:
        with store.objects.spool(sop_class_uid="", sop_instance_uid="", transfer_syntax_uid=""):
            return None
    except StorageFullError as error:
        _, reason = error.args
        return error.code, f"node.data_dir: {reason}; make space"
    except OSError as error:
        code = "machine-short" if error.errno in _NO_DESCRIPTOR else "not-writable"
        return code, f"node.data_dir cannot be written ({error.strerror}); make it writable for the node's user"


def _index_unavailable(store: Store) -> tuple[str, str] | None:
    try:
        store.check_writable(timeout_s=ANSWER_TIMEOUT_S)
    except IndexUnavailableError as error:
        _, reason, _ = error.args
        return error.code, f"the index cannot be written ({reason}); stop what locks it, or start its database"
    return None


def _objects_unavailable(store: Store) -> tuple[str, str] | None:
    try:
        store.objects.check_writable()
    except ObjectsUnavailableError as error:
        place, reason = error.args
        return error.code, f"objects cannot be written to {place} ({reason})"
    return None


def part_troubles(parts: Sequence[PartState], names: Sequence[str] = PARTS) -> Iterator[Trouble]:
    """Yield the troubles of a node's parts.

    Several processes may be the same part; while one of them runs, errors that ended others are left out.
    """
    for name in names:
        alike = [part for part in parts if part.name == name]
        running = [part for part in alike if part.is_running]
        yield from (part.trouble for part in running if part.trouble is not None)
        if running:
            continue
        if not alike:
            yield Trouble(name, "down", "does not run; start it with `dicom-node serve`")
            continue
        last = alike[0]
        if last.trouble is None:
            words = f"ended without an error message (process {last.pid} on {last.host}); killed, or out of memory?"
            yield Trouble(name, "down", words)
        else:
            words = f"does not run: {last.trouble.message}"
            yield Trouble(name, last.trouble.code, words, last.trouble.since)
