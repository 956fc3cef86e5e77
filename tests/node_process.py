"""A real node in processes of its own, on loopback and free ports, with settings from a YAML file.

``start_node`` is a context manager: the node listens when the block begins, and is gone when it ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.peer_servers import free_port, run_tool

READY_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 120.0
AE_TITLE = "NODE"


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node that listens; ``process`` is ``dicom-node serve``."""

    ae_title: str
    port: int
    url: str
    settings_path: Path
    data_dir: Path
    process: subprocess.Popen[bytes]
    log: Path
    host: str = "127.0.0.1"

    @property
    def dicomweb_url(self) -> str:
        """Root of its DICOMweb services."""
        return f"{self.url}/dicom-web"


def write_settings(folder: Path, settings: Mapping[str, Any], *, port: int, web_port: int) -> Path:
    """Write a settings file for a node that stores below ``folder`` and listens on loopback."""
    tree: dict[str, Any] = {
        "node": {"ae_title": AE_TITLE, "data_dir": str(folder / "data")},
        "dimse": {"host": "127.0.0.1", "port": port, "min_free_bytes": 0},
        "web": {"host": "127.0.0.1", "port": web_port},
        "series": {"quiet_s": 1.0},
        "work": {"device": "cpu", "threads": 1},
        "delivery": {"backoff_s": 0.5},
    }
    for section, values in settings.items():
        tree[section] = {**tree.get(section, {}), **values} if isinstance(values, Mapping) else values
    path = folder / "node.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@contextmanager
def start_node(
    folder: Path, settings: Mapping[str, Any] | None = None, *, port: int | None = None
) -> Iterator[RunningNode]:
    """Start ``dicom-node serve`` and wait until DIMSE and HTTP answer.

    Parameters
    ----------
    folder
        Where data, settings file and log go; the same folder again is the same node, restarted.
    settings
        Sections and keys that differ from those of `write_settings`.
    port
        DIMSE port; a free one where it is ``None``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, web_port = port or free_port(), free_port()
    path = write_settings(folder, settings or {}, port=port, web_port=web_port)
    log = folder / "node.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dicom_node.cli", "serve", "-c", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    node = RunningNode(AE_TITLE, port, f"http://127.0.0.1:{web_port}", path, folder / "data", process, log)
    try:
        _wait_until_ready(node)
        yield node
    finally:
        stop_node(process)


def stop_node(process: subprocess.Popen[bytes]) -> int:
    """End a node as an administrator would, by SIGTERM; by force only when it does not obey."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_TIMEOUT_S)
        raise


def wait_for(what: str, found: Any, *, timeout_s: float = 120.0, step_s: float = 0.2) -> Any:
    """Call ``found`` until it gives something true, and return that; `AssertionError` names ``what`` otherwise."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        answer = found()
        if answer:
            return answer
        time.sleep(step_s)
    raise AssertionError(f"waited {timeout_s:.0f} s for {what}")


def _wait_until_ready(node: RunningNode) -> None:
    def answers() -> bool:
        if node.process.poll() is not None:
            raise AssertionError(f"the node ended with {node.process.returncode}:\n{node.log.read_text()[-4000:]}")
        try:
            if httpx.get(f"{node.url}/health/ready", timeout=2.0, trust_env=False).status_code != httpx.codes.OK:
                return False
        except httpx.HTTPError:
            return False
        echo = run_tool("echoscu", "-to", 2, "-aec", node.ae_title, node.host, node.port, timeout_s=60)
        return echo.returncode == 0

    try:
        wait_for("the node to answer", answers, timeout_s=READY_TIMEOUT_S)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{node.log.read_text()[-4000:]}") from error
