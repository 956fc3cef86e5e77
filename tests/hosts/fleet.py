"""A node whose parts run on three hosts, over an index and objects on hosts of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from dicom_node import app
from dicom_node.settings import load_settings
from dicom_node.store import Store
from tests.crash.parts import fork_part
from tests.hosts.network import SUBNET, Network
from tests.node_process import wait_for, write_settings
from tests.peer_servers import start_storescp
from tests.postgresql_server import PostgresqlServer, start_postgresql
from tests.s3_servers import BUCKET, CREDENTIALS, start_seaweedfs
from tests.tiny_models import write_tiny_model
from tests.torture.torture import EACH_IN_A_FILE
from tests.wrong_clock import NO_BUSY_WAITING

PARTS: Mapping[str, tuple[str, ...]] = {
    "a": ("receive", "web", "schedule"),
    "b": ("receive", "work"),
    "c": ("work", "schedule"),
}
HOSTS = (*PARTS, "db", "pacs", "objects")
DIMSE_PORT, WEB_PORT = 11112, 8080  # the same on each host, as an administrator would have it
WRONG_CLOCK = ("c", "schedule", "+300s")  # a host's part, and by how much its clock is ahead: far more than a lease


class ObjectsIn(StrEnum):
    """Where the hosts keep the objects that they share."""

    FOLDER = "folder"  # which all of them mount, with the spool in it
    BUCKET = "bucket"  # of a server on host ``objects``; each host has a data_dir of its own


class _Process(Protocol):
    def kill(self) -> None:
        """End it as ``kill -9`` does, and wait for that."""


@dataclass
class _FakeTimePart:
    """A part in a process of its own, with a clock of its own."""

    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)  # faketime, and the part that it has started
        self.process.wait()


@dataclass
class Fleet:
    """Three hosts with their parts; each can be killed and started again."""

    network: Network
    folder: Path
    settings: Mapping[str, Path]  # file of each host with parts, and of ``pacs``, which only looks
    server: PostgresqlServer
    archive: Path  # folder of what the PACS was sent
    _running: dict[str, list[_Process]] = field(default_factory=dict)
    _logs: dict[str, list[Path]] = field(default_factory=dict)  # of what runs
    _n_logs: int = 0

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where senders may send to."""
        return [(self.network.address(host), DIMSE_PORT) for host, parts in PARTS.items() if "receive" in parts]

    def start(self, host: str) -> None:
        """Start the parts of a host."""
        self._logs[host] = []
        self._running[host] = [self._start(host, part) for part in PARTS[host]]

    def wait_until_ready(self, host: str) -> None:
        """Wait until all parts of a host have said that they are ready."""

        def are_ready() -> bool:
            return all(log.exists() and '"ready"' in log.read_text() for log in self._logs[host])

        wait_for(f"host {host}", are_ready, timeout_s=240.0)

    def kill(self, host: str) -> None:
        """End all parts of a host at once, as a power failure of that host does."""
        for process in self._running.pop(host):
            process.kill()

    def has_logged(self, code: str) -> bool:
        """Whether some part, running or killed, has logged an error with this code."""
        return any(f'"{code}"' in log.read_text() for log in self.folder.glob("*-*-*.log"))

    def stop(self) -> None:
        """End all."""
        for host in list(self._running):
            self.kill(host)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store, as host ``pacs`` would see it."""
        with self.network.inside("pacs"), app.open_store(load_settings(self.settings["pacs"], {})) as store:
            yield store

    def _start(self, host: str, part: str) -> _Process:
        self._n_logs += 1
        log = self.folder / f"{self._n_logs:03}-{host}-{part}.log"
        self._logs[host].append(log)
        faketime = shutil.which("faketime")
        if (host, part) != WRONG_CLOCK[:2] or faketime is None:
            namespace = self.network.namespace(host)
            return fork_part(part, self.settings[host], log, namespace=namespace, environment=CREDENTIALS)
        code = "import sys; from tests.crash.parts import run_part; run_part(*sys.argv[1:])"
        dying_with_us = ["setpriv", "--pdeathsig", "KILL", "--"]
        command = [*dying_with_us, faketime, "--exclude-monotonic", "-f", WRONG_CLOCK[2], sys.executable, "-c", code]
        with self.network.inside(host), log.open("ab") as output:
            process = subprocess.Popen(
                [*command, part, str(self.settings[host]), str(log)],
                stdout=output,
                stderr=output,
                env={**os.environ, **CREDENTIALS, **NO_BUSY_WAITING},
                start_new_session=True,
            )
        return _FakeTimePart(process)


@contextmanager
def three_hosts(network: Network, folder: Path, objects_in: ObjectsIn) -> Iterator[Fleet]:
    """A node on three hosts, listening; gone when the block ends."""
    models = {
        "foreground": str(write_tiny_model(folder / "fg", "foreground", above=-300.0)),
        "anonymized": str(write_tiny_model(folder / "an", "anonymized", above=1e6)),
    }
    with ExitStack() as stack:
        with network.inside("db"):
            server = stack.enter_context(start_postgresql(trusts=f"{SUBNET}.0/24"))
            server.create("node")
        with network.inside("pacs"):
            archive = stack.enter_context(start_storescp(folder, ae_title="ARCHIVE", options=EACH_IN_A_FILE))
        peer = {"name": "archive", "kind": "dimse", "ae_title": "ARCHIVE", "host": network.address("pacs")}
        node = {"database_url": f"postgresql://node@{network.address('db')}:{server.port}/node"}
        common: dict[str, object] = {
            "peers": [{**peer, "port": archive.port}],
            "deliver_to": ["archive"],
            "models": models,
            "series": {"quiet_s": 3.0},
            "work": {"device": "cpu", "threads": 1, "lease_s": 15.0, "backoff_s": 0.5, "max_attempts": 50},
            "delivery": {"backoff_s": 0.5, "max_backoff_s": 2.0, "timeout_s": 10.0},
            "log": {"format": "json"},
        }
        if objects_in is ObjectsIn.BUCKET:
            with network.inside("objects"):
                bucket = stack.enter_context(start_seaweedfs(network.address("objects")))
            node["objects_url"] = f"s3://{BUCKET}/three-hosts"
            common["objects"] = {"endpoint_url": bucket.url, "timeout_s": 4.0}
        settings = {}
        for host in (*PARTS, "pacs"):
            place = folder / f"host-{host}"
            place.mkdir()
            data_dir = folder / "data" if objects_in is ObjectsIn.FOLDER else place / "data"
            own: dict[str, object] = {
                "node": node | {"data_dir": str(data_dir)},
                "dimse": {"host": network.address(host)},
            }
            settings[host] = write_settings(place, common | own, port=DIMSE_PORT, web_port=WEB_PORT)
        fleet = Fleet(network, folder, settings, server, archive.folder)
        stack.callback(fleet.stop)
        with fleet.store():
            pass  # migrated once, before several processes want to
        for host in PARTS:
            fleet.start(host)
        for host in PARTS:
            fleet.wait_until_ready(host)
        yield fleet
