"""What every process of the node does: be known as a part of it, wait for its index, end in time."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dicom_node.app.wiring import check_objects, open_store, utc_now
from dicom_node.failures import ErrorKind, classify, error_code
from dicom_node.logs import RepeatedFailure, log_failure, set_up_logging
from dicom_node.processes import end_with_supervisor, stop_on_signals
from dicom_node.settings import Settings
from dicom_node.store import IndexUnavailableError, Part, Store, Trouble
from dicom_node.store.permissions import UMASK

log = logging.getLogger(__name__)

WORK_STOP_S = 10.0
INDEX_WAIT_S = 2.0
HOUSE_S = 30.0  # between two looks at objects in a shared store


@contextmanager
def running_part(name: str, settings: Settings, stopping: threading.Event) -> Iterator[Part]:
    """Be a part of the node for the time of the block, known as such to `status`; signals set ``stopping``."""
    enter_process(name, settings)
    stop_on_signals(stopping.set)
    part = Store.announce(settings.node.data_dir, name, utc_now())
    try:
        yield part
    except Exception as error:
        is_defect = classify(error) is ErrorKind.DEFECT
        message = f"{type(error).__name__}, a defect of the node; see its log" if is_defect else str(error)
        part.end(Trouble(name, error_code(error), message, utc_now()))
        raise
    part.end()


def enter_process(name: str, settings: Settings) -> None:
    """Set file modes and the log of this process, and end it when the supervisor ends."""
    os.umask(UMASK)
    set_up_logging(settings.log, process_name=name)
    end_with_supervisor()


@contextmanager
def awaited_store(settings: Settings, stopping: threading.Event, part: Part) -> Iterator[Store | None]:
    """The store as soon as its database answers; None when the process is to stop before that."""
    while not stopping.is_set():
        try:
            store = open_store(settings)
        except IndexUnavailableError as error:
            log_failure(log, "no index yet; asked again", error, wait_s=INDEX_WAIT_S)
            part.note(Trouble(part.name, error_code(error), str(error), utc_now()))
            stopping.wait(INDEX_WAIT_S)
        else:
            with store:
                check_objects(settings, store)
                with _kept_house(store):
                    yield store
            return
    yield None


@contextmanager
def _kept_house(store: Store) -> Iterator[None]:
    """Look after objects in a shared store within the block, in a thread of its own; local ones need nothing."""
    if store.objects.is_local:
        yield
        return
    ending = threading.Event()
    failure = RepeatedFailure(log, "objects are not tidied", "objects are tidied again")

    def keep_house() -> None:
        while not ending.is_set():
            try:
                store.keep_house()
            except Exception as error:  # noqa: BLE001 - without it, deleted images would stay in copies until a restart
                failure.failed(error)
            else:
                failure.worked()
            ending.wait(HOUSE_S)

    thread = threading.Thread(target=keep_house, name="keep-house", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(INDEX_WAIT_S)


def leave_in_time(stopping: threading.Event, *last_steps: Callable[[], object]) -> None:
    """End this process soon after ``stopping``, even while a model runs or a delivery takes minutes.

    Parameters
    ----------
    last_steps
        Called before the process is ended by force; exceptions are logged.
    """

    def leave() -> None:
        stopping.wait()
        time.sleep(WORK_STOP_S)
        for step in last_steps:
            try:
                step()
            except Exception as error:  # noqa: BLE001 - the process ends in any case
                log_failure(log, "a step of the shutdown failed", error)
        log.warning("work still running at the end of the grace period; stopping without it")
        os._exit(0)

    threading.Thread(target=leave, name="leave-in-time", daemon=True).start()


def owner() -> str:
    """Return a name for the leases of this process that no other process has."""
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
