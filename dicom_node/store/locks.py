"""Locks on the data directory that end with their process."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from dicom_node.store.errors import DataDirInUseError
from dicom_node.store.permissions import make_private_folder

PRESENCE_FILE = "store.lock"


@contextmanager
def hold_role(data_dir: Path, role: str, *, now: datetime | None = None) -> Iterator[None]:
    """Hold ``role`` on the data directory exclusively, until the block or the process ends.

    Raises
    ------
    DataDirInUseError
        Another process holds it; the message says which one, where and since when.
    """
    make_private_folder(data_dir)
    fd = os.open(data_dir / f"{role}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataDirInUseError(data_dir, role, _holder(fd)) from error
        started_at = now or datetime.now(UTC)
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "started_at": started_at.isoformat()}
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(facts).encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def enter(data_dir: Path, when_alone: Callable[[], object]) -> int:
    """Register as a user of the store and return a descriptor to close at the end; run ``when_alone`` first if alone.

    No other process can enter while ``when_alone`` runs.
    """
    fd = os.open(data_dir / PRESENCE_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        with suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            when_alone()
        fcntl.flock(fd, fcntl.LOCK_SH)
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextmanager
def hold_alone(data_dir: Path) -> Iterator[None]:
    """Keep everyone else from opening the store during the block.

    Raises
    ------
    DataDirInUseError
        Somebody has it open.
    """
    with hold_role(data_dir, "serve"):
        fd = os.open(data_dir / PRESENCE_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataDirInUseError(data_dir, "a part or a command", "it has the store open") from error
        else:
            yield
        finally:
            os.close(fd)


def _holder(fd: int) -> str:
    try:
        facts = json.loads(os.pread(fd, 4096, 0))
        return f"process {facts['pid']} on {facts['host']} since {facts['started_at']}"
    except (ValueError, KeyError, TypeError):  # it is just being written
        return "a process that has just started"
