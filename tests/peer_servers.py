"""Real servers for tests: dcmtk's ``storescp`` and ``dcmqrscp``, Orthanc and nginx, on loopback and free ports.

Each ``start_*`` is a context manager: what it yields is ready to talk to, and is gone when the block ends::

    with start_orthanc(tmp_path, modalities={"node": ("NODE", node_port)}) as orthanc:
        httpx.get(f"{orthanc.url}/system")
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest

from tests.certificates import Authority, Pair

READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
PORT_ATTEMPTS = 5
LISTEN_PORTS = range(20_000, 32_000)
ORTHANC_DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
# Without it, Debian's dcmtk and Orthanc wait 44 ms per instance (Nagle against delayed acknowledgement).
NODELAY = {"TCP_NODELAY": "1"}


@dataclass(frozen=True, slots=True)
class DimsePeerServer:
    """A running dcmtk server; ``folder`` is where ``storescp`` writes what it receives."""

    ae_title: str
    port: int
    folder: Path
    process: subprocess.Popen[bytes]
    log: Path
    host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class OrthancServer:
    """A running Orthanc: DIMSE on ``port``, REST under ``url``, DICOMweb under ``dicomweb_url``."""

    ae_title: str
    port: int
    url: str
    dicomweb_url: str
    folder: Path
    process: subprocess.Popen[bytes]
    log: Path
    host: str = "127.0.0.1"


def tool(name: str) -> str:
    """Path of an installed program; the test is skipped where it is missing, and fails where ``CI`` is set.

    The folder of the running Python is left out, because pynetdicom installs programs of dcmtk's names there.
    """
    own = Path(sys.prefix, "bin").resolve()
    folders = [part for part in os.environ["PATH"].split(os.pathsep) if part and Path(part).resolve() != own]
    found = shutil.which(name, path=os.pathsep.join([*folders, "/usr/sbin"]))
    if found is None:
        missing(
            f"{name} is not installed (Debian: apt-get install dcmtk orthanc orthanc-dicomweb dicom3tools nginx-light)"
        )
    return found


def free_port() -> int:
    """A TCP port on loopback on which nobody listens; no test of this run is given it, or has been lately."""
    while True:
        port = next(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not used, or not any more
            probe.bind(("127.0.0.1", port))
            return port


def _ports() -> Iterator[int]:
    """Ports below those that Linux gives to outgoing connections, others for each process of pytest-xdist."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    n_processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports = range(LISTEN_PORTS.start + number, LISTEN_PORTS.stop, n_processes)
    yield from islice(cycle(ports), random.randrange(len(ports)), None)


_PORTS = _ports()


def run_tool(name: str, *arguments: object, timeout_s: float = 240.0) -> subprocess.CompletedProcess[str]:
    """Run a dcmtk program to its end, stdout and stderr together in ``stdout``; the caller looks at ``returncode``."""
    return subprocess.run(
        [tool(name), *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=timeout_s,
        check=False, env={**os.environ, **NODELAY},
    )  # fmt: skip


@contextmanager
def start_storescp(
    folder: Path,
    *,
    ae_title: str = "STORESCP",
    options: Sequence[str] = ("--promiscuous", "--fork", "+xa", "+B"),
    tls_options: Sequence[object] = (),
    environment: Mapping[str, str] = NODELAY,
) -> Iterator[DimsePeerServer]:
    """dcmtk's ``storescp``; by default it takes any SOP class and transfer syntax and keeps the bytes as sent."""
    received = folder / "storescp"
    received.mkdir(parents=True, exist_ok=True)

    def command(port: int) -> list[str]:
        return [tool("storescp"), "-aet", ae_title, "-od", str(received), *options, *map(str, tls_options), str(port)]

    ready = partial(_answers_tls if tls_options else _answers_echo, ae_title)
    with _dimse_server(command, ae_title, received, folder / "storescp.log", environment, ready) as server:
        yield server


@contextmanager
def start_dcmqrscp(
    folder: Path,
    *,
    ae_title: str = "DCMQRSCP",
    peers: Mapping[str, tuple[str, int]] | None = None,
    environment: Mapping[str, str] = NODELAY,
) -> Iterator[DimsePeerServer]:
    """dcmtk's archive with C-FIND, C-GET and C-MOVE; ``peers``: name → (AE title, port) of its move destinations."""
    archive = folder / "dcmqrscp"
    archive.mkdir(parents=True, exist_ok=True)
    hosts = "\n".join(f"{name} = ({title}, 127.0.0.1, {port})" for name, (title, port) in (peers or {}).items())

    def command(port: int) -> list[str]:
        configuration = folder / "dcmqrscp.cfg"
        configuration.write_text(
            f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 16\n"
            f"HostTable BEGIN\n{hosts}\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\n{ae_title} {archive} RW (500, 1024mb) ANY\nAETable END\n"
        )
        return [tool("dcmqrscp"), "-c", str(configuration)]

    with _dimse_server(command, ae_title, archive, folder / "dcmqrscp.log", environment) as server:
        yield server


@contextmanager
def start_orthanc(
    folder: Path,
    *,
    ae_title: str = "ORTHANC",
    modalities: Mapping[str, tuple[str, int]] | None = None,
    settings: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] = NODELAY,
    ports: tuple[int, int] | None = None,
) -> Iterator[OrthancServer]:
    """Orthanc with its DICOMweb plugin.

    Parameters
    ----------
    folder
        Where storage, index, configuration and log go.
    modalities
        Name in Orthanc → (AE title, port on loopback) of the peers that it may send to.
    settings
        Further configuration; wins over what is set here.
    ports
        Of DIMSE and HTTP, for an Orthanc that is started again; free ones if there are none.
    """
    if not ORTHANC_DICOMWEB_PLUGIN.exists():
        missing("the DICOMweb plugin of Orthanc is not installed (Debian: apt-get install orthanc-dicomweb)")
    executable = tool("Orthanc")
    folder.mkdir(parents=True, exist_ok=True)
    storage, log = folder / "orthanc", folder / "orthanc.log"
    for _ in range(PORT_ATTEMPTS):
        port, http_port = ports or (free_port(), free_port())
        configuration = {
            "Name": f"orthanc-{http_port}", "StorageDirectory": str(storage), "IndexDirectory": str(storage),
            "DicomAet": ae_title, "DicomPort": port, "HttpPort": http_port,
            "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
            "DicomAlwaysAllowStore": True, "DicomCheckCalledAet": False, "UnknownSopClassAccepted": True,
            "DicomModalities": {name: [title, "127.0.0.1", p] for name, (title, p) in (modalities or {}).items()},
            "Plugins": [str(ORTHANC_DICOMWEB_PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "StableAge": 1, "JobsHistorySize": 100,
            **(settings or {}),
        }  # fmt: skip
        path = folder / "orthanc.json"
        path.write_text(json.dumps(configuration, indent=1))
        url = f"http://127.0.0.1:{http_port}"
        process = _spawn([executable, str(path)], log, environment)
        try:
            if not _wait_until(partial(_orthanc_answers, url, str(configuration["Name"])), process):
                continue
            yield OrthancServer(ae_title, port, url, f"{url}/dicom-web", storage, process, log)
            return
        finally:
            _stop(process)
    raise RuntimeError(f"Orthanc did not start; see {log}")


def orthanc_tls_settings(own: Pair, authority: Authority) -> dict[str, object]:
    """Settings of an Orthanc that speaks DICOM with TLS only, and wants no certificate of who calls."""
    return {
        "DicomTlsEnabled": True, "DicomTlsRemoteCertificateRequired": False,
        "DicomTlsCertificate": str(own.certificate), "DicomTlsPrivateKey": str(own.key),
        "DicomTlsTrustedCertificates": str(authority.path),
    }  # fmt: skip


@contextmanager
def start_nginx(folder: Path, locations: str, *, port: int) -> Iterator[None]:
    """nginx as a reverse proxy on loopback; ``locations`` are the ``location`` blocks of its only server."""
    with start_nginx_servers(folder, f"server {{ listen 127.0.0.1:{port};\n{locations}\n}}", port=port):
        yield


@contextmanager
def start_nginx_servers(folder: Path, servers: str, *, port: int) -> Iterator[None]:
    """nginx with whole ``server`` blocks, one of which listens on ``port`` of loopback."""
    executable = tool("nginx")
    names = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{name}_temp_path {folder}/{name};" for name in names)
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/nginx.log;\n"
        f"events {{}}\nhttp {{ access_log off; {temporary}\n{servers}\n}}\n"
    )
    process = _spawn([executable, "-p", str(folder), "-c", str(configuration)], folder / "nginx.out", {})
    try:
        if not _wait_until(partial(_listens, port), process):
            raise RuntimeError(f"nginx did not start; see {folder}/nginx.out")
        yield
    finally:
        _stop(process)


@contextmanager
def _dimse_server(
    command: Callable[[int], list[str]],
    ae_title: str,
    folder: Path,
    log: Path,
    environment: Mapping[str, str],
    ready: Callable[[int], bool] | None = None,
) -> Iterator[DimsePeerServer]:
    for _ in range(PORT_ATTEMPTS):
        port = free_port()
        process = _spawn(command(port), log, environment)
        try:
            if not _wait_until(partial(ready or partial(_answers_echo, ae_title), port), process):
                continue  # another process took the port in between
            yield DimsePeerServer(ae_title, port, folder, process, log)
            return
        finally:
            _stop(process)
    raise RuntimeError(f"{command(0)[0]} did not start; see {log}")


def _spawn(command: list[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    base = {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}
    setpriv = shutil.which("setpriv")  # a server dies with the test run that started it, even if that is killed
    prefix = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    with log.open("ab") as output:
        return subprocess.Popen(
            [*prefix, *command],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            env={**base, **environment},
            start_new_session=True,
        )


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < end:
        if process.poll() is not None:
            return False
        if ready() and process.poll() is None:
            return True
        time.sleep(0.05)
    return False


def _answers_echo(ae_title: str, port: int) -> bool:
    answer = run_tool("echoscu", "-to", 2, "-ta", 2, "-td", 2, "-aec", ae_title, "127.0.0.1", port, timeout_s=60)
    return answer.returncode == 0


def _answers_tls(_: str, port: int) -> bool:
    """Whether a peer listens that answers a handshake, whatever it thinks of our certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError:
        return True
    except OSError:
        return False


def _orthanc_answers(url: str, name: str) -> bool:
    try:
        return bool(httpx.get(f"{url}/system", timeout=2.0, trust_env=False).json().get("Name") == name)
    except (httpx.HTTPError, ValueError):
        return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_TIMEOUT_S)


def missing(what: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
