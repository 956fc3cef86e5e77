"""Parts of a node as real processes that can be killed, over one data directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_node import app
from dicom_node.settings import load_settings
from dicom_node.store import Store
from tests.node_process import wait_for, write_settings
from tests.peer_servers import free_port

ROOT = Path(__file__).resolve().parents[2]
NODE_PART = Path(__file__).with_name("node_part.py")


@dataclass
class Part:
    """One running part of the node."""

    process: subprocess.Popen[bytes]
    log: Path

    def entries(self) -> list[dict[str, Any]]:
        """What it has logged so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def wait_until_ready(self) -> None:
        wait_for("the part to be ready", self._is_ready, timeout_s=60.0, step_s=0.05)

    def wait_until_killed(self, timeout_s: float = 60.0) -> None:
        """Wait for it to kill itself at its moment."""
        status = self.process.wait(timeout_s)
        assert status == -signal.SIGKILL, self.log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return any(entry["event"] == "ready" for entry in self.entries())


class Node:
    """A node of which the parts are started, killed and started again one by one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.web_port = free_port()
        self.ae_title = "NODE"
        self._n_parts = 0
        self.configure()

    def configure(self, **settings: Any) -> None:
        """Write the settings file; sections and keys that differ from the usual ones."""
        tree = {"log": {"format": "json"}, **settings}
        self.settings_path = write_settings(self.folder, tree, port=self.port, web_port=self.web_port)

    @contextmanager
    def part(self, name: str, moment: str | None = None) -> Iterator[Part]:
        """Start a part, to be killed at ``moment`` if there is one."""
        self._n_parts += 1
        log = self.folder / f"{self._n_parts}-{name}.log"
        command = [sys.executable, str(NODE_PART), name, str(self.settings_path), *([moment] if moment else [])]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            )
        part = Part(process, log)
        try:
            yield part
        finally:
            part.kill()

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store that the parts share."""
        with app.open_store(load_settings(self.settings_path, {})) as store:
            yield store
