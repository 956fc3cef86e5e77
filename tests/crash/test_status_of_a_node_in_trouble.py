"""A real node that cannot do its work: `status` and /health/ready say so, with the reason, for as long as it lasts."""

from __future__ import annotations

import json
import os
import re
import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from dicom_node.cli import app as command_line
from dicom_node.store import JobState
from tests.arrivals import leave_results, receive
from tests.crash.parts import Node, Part
from tests.factories import ct_series
from tests.node_process import wait_for
from tests.peer_servers import run_tool, start_storescp
from tests.tiny_models import write_tiny_model

pytestmark = pytest.mark.crash


@dataclass
class Running:
    """A node that receives and answers over HTTP."""

    node: Node
    receiver: Part

    def troubles(self, about: str) -> dict[str, str]:
        """What `status` says about a part, by code."""
        return {
            trouble["code"]: trouble["message"]
            for trouble in status(self.node)["troubles"]
            if about == trouble["about"]
        }

    def ready(self) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.node.web_port}/health/ready", trust_env=False, timeout=60)

    def send(self, folder: Path) -> str:
        """Send one instance, and return what the sender says."""
        (path,) = ct_series(n_slices=1, rows=8, columns=8, seed=str(folder)).write_to(folder)
        sent = run_tool("storescu", "-v", "-to", 10, "-aec", self.node.ae_title, "127.0.0.1", self.node.port, path)
        return sent.stdout


def status(node: Node) -> dict[str, Any]:
    """What `dicom-node status --json` says; its exit code says whether there is trouble."""
    result = CliRunner().invoke(command_line, ["status", "-c", str(node.settings_path), "--json"])
    state = json.loads(result.stdout)
    assert result.exit_code == (3 if state["troubles"] else 0)
    return dict(state)


@contextmanager
def running_node(node: Node) -> Iterator[Running]:
    with node.part("receive") as receiver, node.part("web") as web:
        receiver.wait_until_ready()
        web.wait_until_ready()
        yield Running(node, receiver)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_node(Node(tmp_path_factory.mktemp("trouble"))) as one:
        wait_for("a node that is well", lambda: one.ready().status_code == httpx.codes.OK)
        yield one


def wait_for_refusal(running: Running, code: str) -> None:
    """Wait until both say that instances are refused, with this code."""
    refused = wait_for("a refusal over HTTP", lambda: running.ready().status_code == 503 and running.ready().json())
    assert refused["code"] == code
    assert refused["detail"].startswith("every instance is refused: ")
    assert str(running.node.folder) not in refused["detail"]
    said = wait_for("a refusal in the status", lambda: running.troubles("receive"))
    assert without_numbers(said[code]) == without_numbers(refused["detail"])


def without_numbers(detail: str) -> str:
    """The sentence without its numbers: the free space changes between two questions."""
    return re.sub(r"[0-9.]+", "", detail)


def wait_for_recovery(running: Running) -> None:
    wait_for("recovery", lambda: running.ready().status_code == httpx.codes.OK)
    assert running.troubles("receive") == {}


def test_a_node_that_is_well_has_no_trouble_with_its_receiver(running: Running, tmp_path: Path) -> None:
    assert running.ready().json() == {"status": "ready", "troubles": [], "warnings": []}
    assert running.troubles("receive") == {}
    assert "(Success)" in running.send(tmp_path)


def test_less_space_than_the_watermark(node: Node, tmp_path: Path) -> None:
    node.configure(dimse={"host": "127.0.0.1", "port": node.port, "min_free_bytes": 10**17})
    with running_node(node) as running:
        wait_for_refusal(running, "storage-full")
        assert "dimse.min_free_bytes asks for 100000000.00 GB" in running.ready().json()["detail"]
        assert "(Refused: OutOfResources)" in running.send(tmp_path / "sent")


def test_a_database_that_another_program_has_locked(running: Running) -> None:
    with closing(sqlite3.connect(running.node.folder / "data" / "index.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        wait_for_refusal(running, "index-unavailable")
        assert "database is locked" in running.ready().json()["detail"]
    wait_for_recovery(running)
    events = [entry["event"] for entry in running.receiver.entries() if entry.get("code") == "index-unavailable"]
    assert [event.split(":")[0] for event in events] == ["every instance is refused", "instances are accepted again"]


def test_a_disk_that_cannot_be_written(running: Running) -> None:
    data = running.node.folder / "data"
    with ExitStack() as mounts:
        mount_read_only(data, mounts)
        wait_for_refusal_and_no_store(running)
    wait_for_recovery(running)


def mount_read_only(folder: Path, mounts: ExitStack) -> None:
    """Make a folder read-only for everyone, root too, until ``mounts`` is closed."""
    if os.geteuid() != 0 or subprocess.run(["mount", "--bind", folder, folder], check=False).returncode:
        pytest.skip("only root can mount a folder read-only")
    mounts.callback(subprocess.run, ["umount", folder], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)


def wait_for_refusal_and_no_store(running: Running) -> None:
    """On a file system that is read-only `status` cannot open the store either."""
    refused = wait_for("a refusal over HTTP", lambda: running.ready().status_code == 503 and running.ready().json())
    assert refused["code"] == "not-writable"
    assert "Read-only file system" in refused["detail"]
    assert running.troubles("receive")["not-writable"] == refused["detail"]
    assert "Read-only file system" in running.troubles("store")["not-writable"]


def test_no_file_descriptors_left(running: Running) -> None:
    pid = running.receiver.process.pid
    assert pid is not None
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    n_open = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    try:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (n_open + 2, before[1]))
        wait_for_refusal(running, "machine-short")
        assert f"of {n_open + 2} file descriptors are open" in running.ready().json()["detail"]
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    wait_for_recovery(running)


def test_models_that_cannot_be_used_stop_no_delivery_and_the_status_says_why(node: Node, tmp_path: Path) -> None:
    series = ct_series(n_slices=4, rows=8, columns=8, seed="waits")
    with start_storescp(tmp_path, ae_title="ARCHIVE") as archive:
        peer = {"name": "archive", "kind": "dimse", "ae_title": "ARCHIVE", "host": archive.host, "port": archive.port}
        absent = tmp_path / "absent"
        anonymized = str(write_tiny_model(tmp_path / "an", "anonymized", above=1e6))
        node.configure(
            peers=[peer], models={"foreground": str(absent), "anonymized": anonymized}, series={"quiet_s": 0.2}
        )
        with node.store() as store:
            leave_results(store, "archive", n_results=1)
            (delivery,) = store.deliveries.list()
            receive(store, series)
        with node.part("work") as worker:
            worker.process.join(120.0)
            assert worker.process.exitcode not in (None, 0)
        with node.part("schedule") as schedule, node.store() as store:
            schedule.wait_until_ready()
            wait_for("the delivery", lambda: store.deliveries.get(delivery.id).state is JobState.SUCCEEDED)
            wait_for("a reason", lambda: store.series.get(series.series_instance_uid).waits_because)
            row = store.series.get(series.series_instance_uid)
            assert str(row.waits_because).startswith(f"the models cannot be used: model file {absent}")
            (work,) = [one for one in status(node)["troubles"] if one["about"] == "work"]
            assert work["code"] == "model-file-missing"
            assert str(absent) in work["message"]
            assert [one["code"] for one in status(node)["troubles"] if one["about"] == "schedule"] == []
