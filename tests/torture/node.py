"""A node whose processes can be killed and started again one by one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_node import app
from dicom_node.settings import load_settings
from dicom_node.store import Store
from tests.crash.parts import Part, fork_part
from tests.node_process import write_settings
from tests.peer_servers import free_port


class Node:
    """The processes of one node, of which each can be killed and started again."""

    def __init__(self, folder: Path, settings: dict[str, object]) -> None:
        self._folder = folder
        self._n_logs = 0
        ports = (free_port(), free_port())
        self.addresses = [("127.0.0.1", port) for port in ports]
        web_port = free_port()
        self._paths = []
        for number, port in enumerate(ports):
            place = folder / f"settings-{number}"
            place.mkdir(parents=True)
            self._paths.append(write_settings(place, settings, port=port, web_port=web_port))
        names = ("receive", "receive", "schedule", "schedule", "work", "work", "web")
        self.parts = [(name, self._paths[index % 2]) for index, name in enumerate(names)]
        self._running: dict[int, Part] = {}

    def start(self) -> None:
        """Start all parts."""
        with self.store():
            pass  # migrated once, before several processes want to
        for index in range(len(self.parts)):
            self._start(index)
        for part in self._running.values():
            part.wait_until_ready()

    def kill(self, index: int) -> float:
        """Kill a part and start it again; return the seconds until it works."""
        began = time.monotonic()
        self._running.pop(index).kill()
        self._start(index)
        self._running[index].wait_until_ready()
        return time.monotonic() - began

    def stop(self) -> None:
        """Kill what runs."""
        for part in self._running.values():
            part.kill()

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store that all share."""
        with app.open_store(load_settings(self._paths[0], {})) as store:
            yield store

    def _start(self, index: int) -> None:
        name, path = self.parts[index]
        self._n_logs += 1
        self._running[index] = fork_part(name, path, self._folder / f"{self._n_logs}-{name}.log")
