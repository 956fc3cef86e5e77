"""State of the node's running parts (receive, web, schedule, work), as they report it.

Each part keeps one small file and holds a lock on it for as long as it lives, so that a reader can tell a running part
from one that ended, whatever ended it. A part that ended with an error leaves its file with the reason; one that was
stopped removes it. The file has its full size from the start and is overwritten in place, so that a part can still say
what is wrong when the disk is full.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

PARTS = ("receive", "web", "schedule", "work")  # each a process of the node
FOLDER = "parts"
FILE_BYTES = 4096
TASK_S = 0.5  # between two reports on the progress of one stage
MAX_MESSAGE_LENGTH = 600  # characters; JSON needs at most 6 bytes for each, which leaves room for the other fields


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that keeps a part from working."""

    about: str  # a part, a port, the store
    code: str  # stable
    message: str  # one sentence: what is wrong, and what to do
    since: datetime | None = None  # None: unknown


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker does at the moment."""

    job_id: int
    stage: str  # "reading", "segment foreground", ...
    share: float | None  # of the stage that is done, 0 to 1; None: not known
    since: datetime  # when the stage began

    @property
    def words(self) -> str:
        """For people: ``segment foreground, 40 %``."""
        return self.stage if self.share is None else f"{self.stage}, {100 * self.share:.0f} %"


@dataclass(frozen=True, slots=True)
class PartState:
    """State of one part, as it reports it.

    Attributes
    ----------
    is_running
        Whether its process is alive.
    is_ready
        Whether it works; a part that is starting runs but is not ready.
    pipeline_digest
        Digest of the models that a worker has loaded and of its rules.
    trouble
        What keeps it from working or, once it no longer runs, what ended it.
    task
        What a worker does at the moment.
    """

    name: str
    host: str
    pid: int
    started_at: datetime
    is_running: bool = True
    is_ready: bool = False
    pipeline_digest: str | None = None
    trouble: Trouble | None = None
    task: Task | None = None


class Part:
    """The state file of this process; if it cannot be written, the part keeps working but others cannot see it."""

    def __init__(self, data_dir: Path, name: str, now: datetime) -> None:
        self._state = PartState(name, socket.gethostname(), os.getpid(), now)
        self._path: Path | None = None
        self._task_noted_s = 0.0
        self._fd = -1
        predecessors = _take_away_dead(data_dir / FOLDER, name, self._state.host)
        last_words = next((dead.trouble for dead in predecessors if dead.trouble is not None), None)
        self._state = replace(self._state, trouble=last_words)  # until this one is ready
        try:
            self._open(data_dir / FOLDER)
        except OSError as error:
            log.warning("state of this part cannot be recorded, `status` shows it as down: %s", error.strerror)

    @property
    def name(self) -> str:
        """Name of the part."""
        return self._state.name

    @property
    def trouble(self) -> Trouble | None:
        """What keeps the part from working, if anything."""
        return self._state.trouble

    def ready(self, *, pipeline_digest: str | None = None) -> None:
        """Report that the part works from now on."""
        self._say(is_ready=True, trouble=None, pipeline_digest=pipeline_digest)

    def note(self, trouble: Trouble | None) -> bool:
        """Report what keeps the part from working, or None; return whether that is new."""
        before = self._state.trouble
        if trouble == before:
            return False
        if trouble is not None and before is not None and trouble.code == before.code:
            self._say(trouble=replace(trouble, since=before.since))
            return False
        self._say(trouble=trouble)
        return True

    def note_task(self, task: Task | None) -> None:
        """Report what a worker does, or that it does nothing; a share alone is written at most every `TASK_S`."""
        before = self._state.task
        is_same = task is not None and before is not None and (task.job_id, task.stage) == (before.job_id, before.stage)
        if is_same and time.monotonic() - self._task_noted_s < TASK_S:
            return
        self._task_noted_s = time.monotonic()
        self._say(task=task)

    def end(self, trouble: Trouble | None = None) -> None:
        """End the part: keep its file with what went wrong, or remove it after a clean stop."""
        if trouble is not None:
            self._say(is_ready=False, trouble=trouble, task=None)
        elif self._path is not None:
            with suppress(OSError):
                self._path.unlink()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{self._state.name}-{secrets.token_hex(8)}"
        unborn = folder / f".{name}"  # not read before it is locked and complete
        self._fd = os.open(unborn, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        os.pwrite(self._fd, _encoded(self._state), 0)
        self._path = unborn.rename(folder / f"{name}.json")

    def _say(self, **changes: Any) -> None:  # noqa: ANN401 - fields of PartState
        self._state = replace(self._state, **changes)
        if self._fd >= 0:
            try:
                os.pwrite(self._fd, _encoded(self._state), 0)
            except OSError as error:
                log.warning("state of this part cannot be recorded: %s", error.strerror)


def read_parts(data_dir: Path) -> tuple[PartState, ...]:
    """Return the state of every part that runs or has failed, by name, the latest start first.

    Parts on other machines count as running only if the file system shares locks between machines.
    """
    found = [state for _, state in _read_all(data_dir / FOLDER)]
    return tuple(sorted(found, key=lambda state: (state.name, -state.started_at.timestamp())))


def _take_away_dead(folder: Path, name: str, host: str) -> list[PartState]:
    """Remove the files of ended parts of this name and machine, and return their contents."""
    dead = []
    for path, state in _read_all(folder):
        if (state.name, state.host) == (name, host) and not state.is_running:
            with suppress(OSError):
                path.unlink()
            dead.append(state)
    return dead


def _read_all(folder: Path) -> Iterator[tuple[Path, PartState]]:
    for path in sorted(folder.glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):  # it has just been removed, or is another file
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield path, _decoded(os.pread(fd, FILE_BYTES, 0), is_running=_is_locked(fd))
            finally:
                os.close(fd)


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _encoded(state: PartState) -> bytes:
    values = asdict(state)
    del values["is_running"]  # the lock shows it
    if state.trouble is not None:
        values["trouble"]["message"] = state.trouble.message[:MAX_MESSAGE_LENGTH]
    return json.dumps(values, default=datetime.isoformat, ensure_ascii=False).encode()[:FILE_BYTES].ljust(FILE_BYTES)


def _decoded(encoded: bytes, *, is_running: bool) -> PartState:
    values: Mapping[str, Any] = json.loads(encoded)
    trouble, task = values["trouble"], values.get("task")
    return PartState(
        name=values["name"],
        host=values["host"],
        pid=values["pid"],
        started_at=datetime.fromisoformat(values["started_at"]),
        is_running=is_running,
        is_ready=values["is_ready"],
        pipeline_digest=values["pipeline_digest"],
        trouble=None
        if trouble is None
        else Trouble(**trouble | {"since": trouble["since"] and datetime.fromisoformat(trouble["since"])}),
        task=None if task is None else Task(**task | {"since": datetime.fromisoformat(task["since"])}),
    )
