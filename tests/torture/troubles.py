"""What can go wrong for a node, for a while; each returns once the node works again."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.peer_servers import NODELAY, READY_TIMEOUT_S, DimsePeerServer
from tests.postgresql_server import PostgresqlServer
from tests.torture.node import Node
from tests.torture.tally import Tally

CLOCK_FILE = "FAKETIME_TIMESTAMP_FILE"  # of libfaketime: by how much the clock is wrong
CLOCK_BACK_S = 600  # each time further
_BLOCK = bytes(1 << 20)


@dataclass
class Troubles:
    """The troubles of a node, its database, its disk, its clock and its peer."""

    node: Node
    archive: DimsePeerServer
    server: PostgresqlServer | None
    disk: Path | None  # a small file system that holds the node's data
    rng: random.Random
    _archives: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _clock_back_s: int = 0

    def by_name(self) -> Mapping[str, Callable[[], object]]:
        """All that can be done here."""
        found: dict[str, Callable[[], object]] = {
            f"{name} {index}": partial(self.node.kill, index) for index, (name, _) in enumerate(self.node.parts)
        }
        found["peer gone"] = self._lose_peer
        if self.server is not None:
            found["postgresql"] = self._restart_database
        if self.disk is not None:
            found["disk full"] = self._fill_disk
        if CLOCK_FILE in os.environ:
            found["clock set back"] = self._set_clock_back
        return found

    def torment(self, tally: Tally, *, n_times: int, n_instances: int, every_s: float) -> None:
        """Do one of them at random every so often, until there were enough and enough instances were sent."""
        order: list[str] = []
        troubles = self.by_name()
        while sum(tally.kills.values()) < n_times or len(tally.acknowledged) < n_instances:
            time.sleep(self.rng.uniform(0.5, 1.5) * every_s)
            if not order:  # each once before one comes again, so that a short run meets all
                order = self.rng.sample(list(troubles), len(troubles))
            name = order.pop()
            if self.server is not None:
                tally.n_connections = max(tally.n_connections, self.server.n_connections("node"))
            began = time.monotonic()
            troubles[name]()
            tally.recovery_s.append(time.monotonic() - began)
            tally.kills[name.rstrip("0123456789 ")] += 1

    def stop(self) -> None:
        """End what was started here."""
        for process in self._archives:
            _kill_group(process)

    def _restart_database(self) -> None:
        assert self.server is not None
        with self.server.stopped():
            time.sleep(self.rng.uniform(0.0, 2.0))

    def _lose_peer(self) -> None:
        """Kill the archive, and start another one in its place a little later."""
        _kill_group(self._archives[-1] if self._archives else self.archive.process)
        time.sleep(self.rng.uniform(1.0, 4.0))
        with self.archive.log.open("ab") as log:
            started = subprocess.Popen(
                self.archive.process.args,
                stdout=log,
                stderr=log,
                env={**os.environ, **NODELAY},
                start_new_session=True,
            )
        self._archives.append(started)
        _wait_until_it_listens(self.archive.port, started)

    def _fill_disk(self) -> None:
        """Leave no byte on the file system of the data for a while."""
        assert self.disk is not None
        ballast = self.disk / "ballast"
        end_at = time.monotonic() + self.rng.uniform(2.0, 4.0)
        try:
            with ballast.open("wb", buffering=0) as file:
                while time.monotonic() < end_at:  # what the node frees is taken too
                    _fill(file.fileno())
                    time.sleep(0.2)
        finally:
            ballast.unlink()

    def _set_clock_back(self) -> None:
        """Set the clock of all processes back, as a wrong NTP server or a restored virtual machine does."""
        self._clock_back_s += CLOCK_BACK_S
        Path(os.environ[CLOCK_FILE]).write_text(f"-{self._clock_back_s}\n")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a server with its children: one that still serves an association keeps the port from the next server."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait_until_it_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    end_at = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < end_at:
        assert process.poll() is None, "the archive did not start again"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2.0):
            return
        time.sleep(0.1)
    raise AssertionError(f"the archive did not listen within {READY_TIMEOUT_S:.0f} s")


def _fill(fd: int) -> None:
    for size in (1 << 20, 1 << 12, 1):
        with suppress(OSError):
            while os.write(fd, _BLOCK[:size]) == size:
                pass
