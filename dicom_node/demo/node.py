"""A real node for the demo, with its own processes, a temporary data directory and free ports."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import httpx
from pynetdicom import AE, build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.demo.errors import DemoError
from dicom_node.processes import command_line

AE_TITLE = "DEMONODE"
PACS_AE_TITLE = "DEMOPACS"
HOST = "127.0.0.1"
QUIET_S = 2.0
READY_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 40.0
POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class DemoNode:
    """A running node."""

    port: int
    web_port: int
    data_dir: Path
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def dicomweb_url(self) -> str:
        """Root URL of its DICOMweb services."""
        return f"http://{HOST}:{self.web_port}/dicom-web"

    def check_alive(self, *, within_s: float = 0.0) -> None:
        """Raise `DemoError` with the node's error if it has ended, or ends within ``within_s`` seconds."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(within_s)
        if self.process.poll() is not None:
            raise DemoError(
                f"the node ended by itself with exit code {self.process.returncode}{self._reason()}", self.log
            )

    def _reason(self) -> str:
        """Return the last error with which one of the processes ended."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((f" ({line})" for line in reversed(lines) if line.startswith("error: ")), "")


@contextmanager
def running_node(
    folder: Path, log: Path, *, device: str, models: Mapping[str, Path] = MappingProxyType({})
) -> Iterator[DemoNode]:
    """Start ``dicom-node serve``, wait until it answers, and stop it cleanly at the end.

    Parameters
    ----------
    folder
        For settings and data; the caller removes it.
    log
        File that the node's processes log to.
    models
        Folders by role; the reference models where a role is missing.
    """
    port, web_port = _free_ports(2)
    settings = {
        "node": {"ae_title": AE_TITLE, "data_dir": str(folder / "data")},
        "dimse": {"host": HOST, "port": port, "min_free_bytes": 0},
        "web": {"host": HOST, "port": web_port},
        "series": {"quiet_s": QUIET_S},
        "work": {"device": device},
        "models": {role: str(model.absolute()) for role, model in models.items()},
    }
    path = folder / "node.yaml"
    path.write_text(json.dumps(settings, indent=2))  # JSON is YAML
    # Settings in the environment are meant for the real node, not for this one.
    env = {key: value for key, value in os.environ.items() if not key.startswith("DICOM_NODE_")}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command line
            command_line("serve", "--config", str(path)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
        )
    node = DemoNode(port, web_port, folder / "data", log, process)
    try:
        _wait_until_ready(node)
        yield node
    finally:
        _stop(process)


def _wait_until_ready(node: DemoNode) -> None:
    end = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < end:
        node.check_alive()
        if _answers(node):
            return
        time.sleep(POLL_S)
    raise DemoError(f"the node did not answer within {READY_TIMEOUT_S:.0f} s", node.log)


def _answers(node: DemoNode) -> bool:
    """Return whether the node answers C-ECHO and reports over HTTP that it is ready."""
    try:
        answer = httpx.get(f"http://{HOST}:{node.web_port}/health/ready", timeout=2.0, trust_env=False)
    except httpx.HTTPError:
        return False
    if answer.status_code != httpx.codes.OK or not _is_listening(node.port):
        return False
    association = AE(ae_title=PACS_AE_TITLE).associate(
        HOST, node.port, contexts=[build_context(Verification)], ae_title=AE_TITLE
    )
    if not association.is_established:
        return False
    status = association.send_c_echo()
    association.release()
    return "Status" in status and status.Status == 0


def _is_listening(port: int) -> bool:
    """Return whether a port accepts connections; pynetdicom would leave the socket of a refused one open."""
    try:
        with socket.create_connection((HOST, port), timeout=1.0):
            return True
    except OSError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(n_ports: int) -> list[int]:
    """Return different ports that are free at the moment."""
    sockets = [socket.socket() for _ in range(n_ports)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
