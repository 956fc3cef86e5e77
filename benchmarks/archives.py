"""Archives for `bench_retrieve`: the node's web server and Orthanc's DICOMweb plugin, each over a store of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from pydicom import dcmread

from benchmarks.receivers import NODELAY, READY_TIMEOUT_S, STOP_TIMEOUT_S, free_port, tool
from dicom_node.dicomweb.metadata_ahead import MetadataAhead
from dicom_node.store import Arrival, Store

ORTHANC_DICOMWEB: Final = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
N_LOADING: Final = 4
IDLE_S: Final = 0.5  # Orthanc keeps an idle connection for a second


@dataclass(frozen=True)
class Answer:
    """One answer: how long it took until its last byte was there, and what it was."""

    wall_s: float
    body: bytes


class Client:
    """One kept connection; connects anew, outside of what is measured, where the server may have closed it."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=600)
        self._used_at = -IDLE_S

    def get(self, path: str, headers: Mapping[str, str]) -> Answer:
        """Fetch a resource below ``/dicom-web``; an error fails the benchmark."""
        if time.monotonic() - self._used_at >= IDLE_S:
            self._connection.close()
            self._connection.connect()
            self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        self._connection.request("GET", f"/dicom-web{path}", headers={"Accept-Encoding": "identity", **headers})
        answer = self._connection.getresponse()
        body = answer.read()
        wall_s = time.perf_counter() - began
        self._used_at = time.monotonic()
        if answer.status not in (200, 204):
            raise RuntimeError(f"{path}: {answer.status} {body[:300]!r}")
        return Answer(wall_s, body)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@dataclass(frozen=True)
class Archive:
    """A running archive."""

    name: str
    port: int
    pid: int


@contextmanager
def node_archive(folder: Path, paths: Sequence[Path]) -> Iterator[Archive]:
    """The node's web process over a store that holds ``paths``."""
    data_dir, port = folder / "node", free_port()
    with Store.open(data_dir) as store, ThreadPoolExecutor(N_LOADING) as pool:
        ahead = MetadataAhead(store, lambda: datetime.now(UTC) + timedelta(hours=1))  # as if nothing had arrived lately
        ahead.look()
        list(pool.map(lambda path: _keep(store, path), paths))
        while ahead.look():  # what `schedule` does meanwhile
            pass
    settings = folder / "node.yaml"
    settings.write_text(
        f"node: {{data_dir: {data_dir}}}\nweb: {{host: 127.0.0.1, port: {port}}}\nlog: {{level: error}}\n"
    )
    with running_archive([sys.executable, "-m", "dicom_node.cli", "web", "-c", str(settings)], port, {}) as pid:
        yield Archive("node", port, pid)


def _keep(store: Store, path: Path) -> None:
    ds = dcmread(path, stop_before_pixels=True)
    announced = {
        "sop_class_uid": str(ds.SOPClassUID),
        "sop_instance_uid": str(ds.SOPInstanceUID),
        "transfer_syntax_uid": str(ds.file_meta.TransferSyntaxUID),
    }
    content = path.read_bytes()
    spool = store.objects.spool(**announced)
    spool.write(content[144 + int.from_bytes(content[140:144], "little") :])
    store.inbox.keep(
        spool, Arrival(**announced, calling_ae_title="BENCH", association_id="1", received_at=datetime.now(UTC))
    )


@contextmanager
def orthanc_archive(folder: Path, paths: Sequence[Path]) -> Iterator[Archive]:
    """Orthanc with its DICOMweb plugin, which holds ``paths``; loaded without syncs, which retrieval does not need."""
    port = free_port()
    configuration = {
        "StorageDirectory": str(folder / "orthanc"), "IndexDirectory": str(folder / "orthanc"),
        "HttpPort": port, "DicomServerEnabled": False, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "SyncStorageArea": False, "TcpNoDelay": True, "KeepAlive": True, "HttpCompressionEnabled": False,
        "Plugins": [str(ORTHANC_DICOMWEB)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration))
    with running_archive([tool("Orthanc"), str(path)], port, NODELAY) as pid:
        clients = [HTTPConnection("127.0.0.1", port, timeout=600) for _ in range(N_LOADING)]
        with ThreadPoolExecutor(N_LOADING) as pool:
            list(pool.map(lambda number: _post(clients[number], paths[number::N_LOADING]), range(N_LOADING)))
        yield Archive("Orthanc", port, pid)


def _post(client: HTTPConnection, paths: Sequence[Path]) -> None:
    for path in paths:
        client.request("POST", "/instances", path.read_bytes())
        answer = client.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path.name}: {answer.status} {body[:300]!r}")


@contextmanager
def running_archive(command: Sequence[str], port: int, environment: Mapping[str, str]) -> Iterator[int]:
    """A server that answers a search for one study."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command, stdin=quiet, stdout=quiet, stderr=quiet, env={**os.environ, **environment}
    ) as process:
        try:
            end_at = time.monotonic() + READY_TIMEOUT_S
            while not _answers(port):
                if time.monotonic() > end_at or process.poll() is not None:
                    raise RuntimeError(f"{command[0]} did not start")
                time.sleep(0.05)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/dicom-web/studies?limit=1", headers={"Accept": "application/dicom+json"})
        return connection.getresponse().status in (200, 204)
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
