"""Supervise the processes of the node: start them, restart one that dies, and stop them all.

The processes communicate through the store only, so any of them may die at any moment and be restarted.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

log = logging.getLogger(__name__)

SUPERVISOR_PID_VARIABLE = "DICOM_NODE_SUPERVISOR_PID"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
POLL_S = 0.2
EXIT_REFUSED = 2  # exit code of a part whose settings, or what they name, cannot be used
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process that should always be running.

    Attributes
    ----------
    is_needed
        Whether the others are stopped as well if this one ends with `EXIT_REFUSED` at its very first start.
    """

    name: str
    argv: tuple[str, ...]
    is_needed: bool = True


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When to restart a process that died; the wait doubles with every death in a row."""

    backoff_s: float = 1.0
    max_backoff_s: float = 60.0
    healthy_after_s: float = 60.0  # after running for this long, the next death counts as the first

    def wait_s(self, n_deaths_in_a_row: int) -> float:
        """Return the seconds between a death and the next start."""
        return float(min(self.backoff_s * 2 ** min(n_deaths_in_a_row - 1, 32), self.max_backoff_s))


class _Child:
    """One supervised process, dead or alive."""

    def __init__(self, spec: ProcessSpec, env: Mapping[str, str], policy: RestartPolicy) -> None:
        self.spec = spec
        self._env = env
        self._policy = policy
        self._popen: subprocess.Popen[bytes] | None = None
        self._n_deaths = 0  # in a row
        self._n_deaths_ever = 0
        self._started_at = 0.0
        self._start_at = 0.0

    def keep_running(self) -> bool:
        """Start the process if it is due, and detect its death.

        Returns
        -------
        bool
            False if it is needed and refused its very first start.
        """
        if self._popen is None:
            if time.monotonic() >= self._start_at:
                self._start()
            return True
        exit_status = self._popen.poll()
        if exit_status is None:
            return True
        self._n_deaths_ever += 1
        if exit_status == EXIT_REFUSED and self._n_deaths_ever == 1 and self.spec.is_needed:
            log.error("process cannot be started", extra={"child": self.spec.name})
            self._popen = None
            return False
        ran_s = time.monotonic() - self._started_at
        self._n_deaths = 1 if ran_s >= self._policy.healthy_after_s else self._n_deaths + 1
        wait_s = self._policy.wait_s(self._n_deaths)
        log.error(
            "process died; it is started again",
            extra={"child": self.spec.name, "exit_status": exit_status, "ran_s": round(ran_s, 1), "wait_s": wait_s},
        )
        self._popen, self._start_at = None, time.monotonic() + wait_s
        return True

    def ask_to_stop(self) -> None:
        if self._popen is not None:
            self._popen.terminate()

    def wait(self, until: float) -> None:
        """Wait until a time of the monotonic clock for the process to end, then kill it."""
        if self._popen is None:
            return
        try:
            self._popen.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("process does not stop; killed", extra={"child": self.spec.name})
            self._popen.kill()
            self._popen.wait()

    def _start(self) -> None:
        # A separate session: an interrupt typed at the terminal reaches only the supervisor, which passes it on.
        self._popen = subprocess.Popen(self.spec.argv, env=dict(self._env), start_new_session=True)  # noqa: S603
        self._started_at = time.monotonic()
        log.info("process started", extra={"child": self.spec.name, "pid": self._popen.pid})


def supervise(
    specs: Sequence[ProcessSpec],
    stopping: threading.Event,
    *,
    policy: RestartPolicy | None = None,
    stop_timeout_s: float = 30.0,
) -> int:
    """Keep processes running until ``stopping`` is set; then stop them all, within a limited time.

    Returns
    -------
    int
        Exit code: 0, or `EXIT_REFUSED` when a process that is needed refused its very first start, which no restart
        would change. One that refuses later, or is not needed, is restarted like any other.
    """
    env = {**os.environ, SUPERVISOR_PID_VARIABLE: str(os.getpid())}
    children = [_Child(spec, env, policy or RestartPolicy()) for spec in specs]
    try:
        while not stopping.is_set():
            if not all([child.keep_running() for child in children]):  # noqa: C419 - call each of them
                return EXIT_REFUSED
            stopping.wait(POLL_S)
        return 0
    finally:
        until = time.monotonic() + stop_timeout_s
        for child in children:
            child.ask_to_stop()
        for child in children:
            child.wait(until)
        log.info("all processes stopped")


def command_line(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs one part of the node with this Python."""
    return (sys.executable, "-m", "dicom_node.cli", name, *arguments)


def stop_on_signals(stop: Callable[[], None]) -> None:
    """Call ``stop`` on SIGTERM and SIGINT; it runs between two instructions, so it may only set a flag."""

    def on_signal(_number: int, _frame: object) -> None:
        stop()

    for number in STOP_SIGNALS:
        signal.signal(number, on_signal)


def end_with_supervisor() -> None:
    """Let the kernel stop this process if its supervisor dies, even by SIGKILL; do nothing without a supervisor."""
    expected = os.environ.get(SUPERVISOR_PID_VARIABLE)
    if expected is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if str(os.getppid()) != expected:  # it died before the request was made
        raise SystemExit(1)
