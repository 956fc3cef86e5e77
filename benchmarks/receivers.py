"""Receivers for `bench_ingest`, each a process of its own with an empty store, ready when its block begins."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
# Without it, Debian's dcmtk and Orthanc wait 44 ms for each instance (Nagle against delayed acknowledgement).
NODELAY: Mapping[str, str] = {"TCP_NODELAY": "1"}
UNTUNED: Mapping[str, str] = {}
REFERENCE = "storescp, TCP_NODELAY=1 (no fsync)"
ORTHANC = "Orthanc, TCP_NODELAY=1"
NODE = "node (fsync, index)"


@dataclass
class Target:
    """Where to send, the process that receives there, and what it reports once it has stopped."""

    ae_title: str
    port: int
    pid: int
    report: dict[str, int] = field(default_factory=dict)


Receiver = Callable[[Path], AbstractContextManager[Target]]


def tool(name: str) -> str:
    """Path of an installed program; not one of pynetdicom's, which have the same names."""
    own = Path(sys.prefix, "bin").resolve()
    folders = [part for part in os.environ["PATH"].split(os.pathsep) if part and Path(part).resolve() != own]
    found = shutil.which(name, path=os.pathsep.join([*folders, "/usr/sbin"]))
    if found is None:
        raise FileNotFoundError(f"{name} is not installed (Debian: apt-get install dcmtk orthanc)")
    return found


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def own_receiver(folder: Path, *, options: Sequence[str] = ()) -> Iterator[Target]:
    """Receive into the node's store: SHA-256, fsync, group commit, index."""
    command = [sys.executable, "-m", "benchmarks.ingest_receiver", str(folder / "node"), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            target = Target("NODE", json.loads(process.stdout.readline())["port"], process.pid)
            yield target
        finally:
            process.terminate()
        target.report |= json.loads(process.stdout.readline())


@contextmanager
def storescp(folder: Path, *, environment: Mapping[str, str]) -> Iterator[Target]:
    """Receive with dcmtk: bytes as sent, no fsync."""
    (folder / "storescp").mkdir()
    command = [tool("storescp"), "-aet", "STORESCP", "-od", str(folder / "storescp")]
    with _running([*command, "--promiscuous", "--fork", "+xa", "+B"], "STORESCP", environment) as target:
        yield target


@contextmanager
def orthanc(folder: Path, *, environment: Mapping[str, str]) -> Iterator[Target]:
    """Receive with Orthanc and its defaults: SQLite, SyncStorageArea on."""
    port = free_port()
    configuration = {
        "StorageDirectory": str(folder / "orthanc"), "IndexDirectory": str(folder / "orthanc"),
        "DicomAet": "ORTHANC", "DicomPort": port, "HttpServerEnabled": False, "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": False,
    }  # fmt: skip
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration))
    with _running([tool("Orthanc"), str(path)], "ORTHANC", environment, port=port) as target:
        yield target


@contextmanager
def qrscp(folder: Path) -> Iterator[Target]:
    """Receive with pynetdicom's own storage application: stock acceptor, SQLite, no fsync."""
    (folder / "qrscp").mkdir()
    command = [sys.executable, "-m", "pynetdicom", "qrscp", "-q", "-ba", "127.0.0.1", "--ae-title", "QRSCP"]
    command += ["--database-location", str(folder / "index.sqlite"), "--instance-location", str(folder / "qrscp")]
    with _running([*command, "--port"], "QRSCP", {}) as target:
        yield target


RECEIVERS: Mapping[str, Receiver] = {
    NODE: own_receiver,
    "node's store under stock pynetdicom": partial(own_receiver, options=("--upper-layer", "pynetdicom")),
    REFERENCE: partial(storescp, environment=NODELAY),
    "storescp as installed": partial(storescp, environment=UNTUNED),
    ORTHANC: partial(orthanc, environment=NODELAY),
    "Orthanc as installed": partial(orthanc, environment=UNTUNED),
    "pynetdicom qrscp (no fsync)": qrscp,
}


@contextmanager
def _running(
    command: Sequence[str], ae_title: str, environment: Mapping[str, str], *, port: int | None = None
) -> Iterator[Target]:
    """A server that answers an echo; it gets its port as its last argument unless it has it already."""
    if port is None:
        port = free_port()
        command = [*command, str(port)]
    base = {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, env={**base, **environment}) as process:
        try:
            end_at = time.monotonic() + READY_TIMEOUT_S
            echo = [tool("echoscu"), "-to", "2", "-ta", "2", "-td", "2", "-aec", ae_title, "127.0.0.1", str(port)]
            while subprocess.run(echo, stdout=quiet, stderr=quiet, check=False).returncode:
                if time.monotonic() > end_at or process.poll() is not None:
                    raise RuntimeError(f"{command[0]} did not start")
                time.sleep(0.05)
            yield Target(ae_title, port, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
