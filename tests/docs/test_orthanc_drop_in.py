"""config/orthanc is dropped into Debian's /etc/orthanc as it is: Orthanc starts and sends stable series to the node."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from dicom_node.peers import deliver
from dicom_node.settings import DimsePeer
from tests.dimse.listening_node import ListeningNode
from tests.docs.test_connect_a_pacs import (
    DEBIANS_ORTHANC,
    ROOT,
    listening,
    orthanc,
    settings_of,
    uids,
    without_comments,
)
from tests.factories import ct_series
from tests.node_process import wait_for
from tests.peer_servers import free_port, missing
from tests.peers.objects import to_send

DROP_IN = ROOT / "config" / "orthanc"
PYTHON_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancPython.so")

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not (DEBIANS_ORTHANC / "orthanc.json").is_file(), reason="Orthanc is not Debian's"),
]


class DroppedIn:
    """A copy of /etc/orthanc with our files; only ports, paths and waits differ from what an administrator has."""

    def __init__(self, folder: Path, node_port: int) -> None:
        if not PYTHON_PLUGIN.exists():
            missing("the Python plugin of Orthanc is not installed (Debian: apt-get install orthanc-python)")
        self.folder = folder
        self.etc = folder / "etc"
        self.http_port, self.dicom_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.etc.mkdir()
        for path in DEBIANS_ORTHANC.iterdir():
            if os.access(path, os.R_OK):  # that with passwords belongs to Orthanc's user
                shutil.copy(path, self.etc)
        for path in DROP_IN.iterdir():
            shutil.copy(path, self.etc)
        self._replace(
            "orthanc.json",
            ('"HttpPort" : 8042', f'"HttpPort" : {self.http_port}'),
            ('"DicomPort" : 4242', f'"DicomPort" : {self.dicom_port}'),
            ('"StorageDirectory" : "/var/lib/orthanc/db-v6"', f'"StorageDirectory" : "{folder / "db"}"'),
            ('"IndexDirectory" : "/var/lib/orthanc/db-v6"', f'"IndexDirectory" : "{folder / "db"}"'),
            ('"StableAge" : 60', '"StableAge" : 1'),
        )
        self._replace(
            "python.json",
            ("/etc/orthanc/dicom-node.py", f"{self.etc}/dicom-node.py"),
            ('"Port": 11112', f'"Port": {node_port}'),
            ('"RetrySeconds": 60', '"RetrySeconds": 1'),
        )

    def _replace(self, name: str, *pairs: tuple[str, str]) -> None:
        text = (self.etc / name).read_text()
        for before, after in pairs:
            assert text.count(before) == 1, before
            text = text.replace(before, after)
        (self.etc / name).write_text(text)

    @contextmanager
    def running(self) -> Iterator[None]:
        with orthanc([str(self.etc)], self.folder, self.http_port):
            yield

    def get(self, path: str) -> object:
        return httpx.get(f"{self.url}{path}", trust_env=False).raise_for_status().json()

    def upload(self, seed: str, n_slices: int = 3) -> set[str]:
        series = ct_series(n_slices, rows=32, columns=32, seed=seed)
        for instance in series:
            httpx.post(f"{self.url}/instances", content=instance.part10, trust_env=False).raise_for_status()
        return uids(series)


def arrived(node: ListeningNode) -> set[str]:
    return {row.sop_instance_uid for row in node.instances()}


def test_the_files_fit_the_settings_of_the_page() -> None:
    text = without_comments((DROP_IN / "python.json").read_text())
    node = json.loads(re.sub(r"\s//.*$", "", text, flags=re.MULTILINE))
    settings = settings_of("Orthanc")
    assert node["DicomNode"]["AET"] == settings["node"]["ae_title"]
    assert node["DicomNode"]["Port"] == settings["dimse"]["port"]


def test_a_stable_series_is_sent_and_what_comes_from_the_node_is_not(tmp_path: Path) -> None:
    with listening(settings_of("Orthanc"), tmp_path / "node") as node:
        server = DroppedIn(tmp_path, node.port)
        with server.running():
            sent = server.upload("first")
            wait_for("the series", lambda: arrived(node) == sent)
            assert server.get("/modalities/node/configuration")
            # A result of the node, as a delivery brings it; then a series that is sent after it.
            result = ct_series(1, rows=16, columns=16, seed="result")
            peer = DimsePeer(name="pacs", ae_title="ORTHANC", host="127.0.0.1", port=server.dicom_port)
            (outcome,) = deliver(peer, to_send(result), calling_ae_title="DICOMNODE")
            assert outcome.is_delivered
            later = server.upload("later")
            wait_for("the later series", lambda: arrived(node) == sent | later)
            assert len(server.get("/series")) == 3


def test_what_could_not_be_sent_is_sent_when_both_are_back(tmp_path: Path) -> None:
    node_port = free_port()
    server = DroppedIn(tmp_path, node_port)
    with server.running():
        sent = server.upload("away")
        log = tmp_path / "orthanc.log"
        wait_for("an attempt", lambda: "is not sent yet" in log.read_text(errors="replace"))
    with listening(settings_of("Orthanc"), tmp_path / "node", node_port) as node, server.running():
        wait_for("the series", lambda: arrived(node) == sent)


def test_a_series_that_the_node_refuses_holds_no_other_up(tmp_path: Path) -> None:
    settings = settings_of("Orthanc")
    settings["dimse"] |= {"max_object_bytes": 2**20}
    with listening(settings, tmp_path / "node") as node:
        server = DroppedIn(tmp_path, node.port)
        with server.running():
            large = ct_series(1, rows=1024, columns=1024, seed="large")
            for instance in large:
                httpx.post(f"{server.url}/instances", content=instance.part10, trust_env=False).raise_for_status()
            log = tmp_path / "orthanc.log"
            wait_for("a refusal", lambda: "is not sent yet" in log.read_text(errors="replace"))
            sent = server.upload("small")
            wait_for("the small series", lambda: arrived(node) == sent)
            wait_for("the end", lambda: "is left out" in log.read_text(errors="replace"))
