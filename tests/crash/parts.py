"""Parts of a node as real processes that can be killed, at any time or at one exact moment, over one data directory."""

from __future__ import annotations

import functools
import importlib
import itertools
import json
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from dicom_node import app
from dicom_node.app import part as running
from dicom_node.processes import SUPERVISOR_PID_VARIABLE
from dicom_node.settings import load_settings
from dicom_node.store import Store
from tests.hosts.network import enter
from tests.node_process import wait_for, write_settings
from tests.peer_servers import free_port
from tests.wrong_clock import mend_sleep

# Parts are forked from a process in which the slow imports are done already; they share nothing else with it.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "dicom_node.pipeline.worker",
        "dicom_node.pipeline.schedule",
        "dicom_node.peers",
        "dicom_node.dimse",
        "dicom_node.dicomweb",
        "uvicorn",
    ]
)


@dataclass
class Part:
    """One running part of the node."""

    process: BaseProcess
    log: Path

    def entries(self) -> list[dict[str, Any]]:
        """What it has logged so far."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def wait_until_ready(self) -> None:
        """Wait until it says that it listens or works."""
        self.wait_until("ready")

    def wait_until(self, event: str) -> None:
        """Wait until it says something."""

        def is_said() -> bool:
            assert self.process.exitcode is None, self.log.read_text()
            return any(entry["event"] == event for entry in self.entries())

        wait_for(event, is_said, timeout_s=120.0, step_s=0.05)

    def wait_until_logged(self, code: str) -> None:
        """Wait until it has logged an error with this code."""
        wait_for(code, lambda: any(entry.get("code") == code for entry in self.entries()), timeout_s=120.0, step_s=0.05)

    def wait_until_killed(self, timeout_s: float = 120.0) -> None:
        """Wait for it to kill itself at its moment."""
        self.process.join(timeout_s)
        assert self.process.exitcode == -signal.SIGKILL, self.log.read_text()

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self.process.kill()
        self.process.join()


class Node:
    """A node of which the parts are started, killed and started again one by one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.web_port = free_port()
        self.ae_title = "NODE"
        self.host = "127.0.0.1"
        self.environment: dict[str, str] = {}  # of the parts, besides this process's own
        self._n_parts = 0
        self.configure()

    def configure(self, **settings: Any) -> None:
        """Write the settings file; sections and keys that differ from the usual ones."""
        tree = {"log": {"format": "json"}, **settings}
        self.settings_path = write_settings(self.folder, tree, port=self.port, web_port=self.web_port)

    @contextmanager
    def part(self, name: str, moment: str | None = None) -> Iterator[Part]:
        """Start a part; at ``moment``, if there is one, it kills itself or hangs (see `end_at`)."""
        self._n_parts += 1
        log = self.folder / f"{self._n_parts}-{name}.log"
        part = fork_part(name, self.settings_path, log, moment, environment=self.environment)
        try:
            yield part
        finally:
            part.kill()

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store that the parts share."""
        with app.open_store(load_settings(self.settings_path, {})) as store:
            yield store


def fork_part(
    name: str,
    settings_path: Path,
    log: Path,
    moment: str | None = None,
    *,
    namespace: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Part:
    """Start a part, in a network namespace if one is named; whoever calls this ends it."""
    return Part(fork(run_part, name, str(settings_path), str(log), moment, namespace, environment), log)


def fork(function: Callable[..., object], *arguments: object) -> BaseProcess:
    """Call a function of a module in a process of its own, which has the slow imports already."""
    process = _FORKS.Process(target=function, args=arguments)
    process.start()
    return process


def run_part(
    name: str,
    settings_path: str,
    log: str,
    moment: str | None = None,
    namespace: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Be one part of the node, in a process of its own."""
    os.environ.update(environment or {})
    mend_sleep()
    if namespace is not None:
        enter(namespace)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    os.environ[SUPERVISOR_PID_VARIABLE] = str(os.getppid())  # it does not outlive the test run
    running.WORK_STOP_S = 2.0
    module = importlib.import_module(f"dicom_node.app.{name}")
    if name == "receive":
        module.WATCH_S = 0.2
    if moment is not None:
        end_at(moment)
    sys.exit(getattr(module, f"run_{name}")(load_settings(Path(settings_path), {})))


def end_at(moment: str) -> None:
    """Kill this process with SIGKILL at ``MODULE:FUNCTION:before|after:NTH``; with ``hang`` that call never returns.

    The NTH call of that function, or the return from it, is the last thing that happens. Calls that return nothing to
    speak of (None, an empty tuple) do not count for ``after``. The production code knows nothing of this.
    """
    module_name, path, when, nth = moment.split(":")
    owner: Any = importlib.import_module(module_name)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    function = getattr(owner, name)
    calls = itertools.count(1)

    @functools.wraps(function)
    def last(*args: Any, **options: Any) -> Any:
        if when == "hang" and next(calls) == int(nth):
            logging.getLogger("tests").info("hanging")
            while True:
                time.sleep(0.1)
        if when == "before" and next(calls) == int(nth):
            os.kill(os.getpid(), signal.SIGKILL)
        answer = function(*args, **options)
        if when == "after" and answer is not None and answer != () and next(calls) == int(nth):
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, name, last)
