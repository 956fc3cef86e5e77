"""Case 32: wherever an export is killed, the target holds whole studies or none, and the next run completes it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dicom_node.export.peer_target import peer_target
from dicom_node.settings import DimsePeer
from dicom_node.store import ExportState, Store
from tests.crash.parts import fork
from tests.export.test_peer_export import Archive, archive
from tests.gate.cases import at, copies, copy_of_template, export_to, seen

pytestmark = pytest.mark.crash
ROOT = Path(__file__).resolve().parents[2]
N_KILLS = int(os.environ.get("DICOM_NODE_KILLS", "8"))  # the long form: 50


def test_32_a_killed_export_shows_whole_studies_and_the_next_run_completes_it(template: Path, tmp_path: Path) -> None:
    data_dir = copy_of_template(template, tmp_path / "node")
    with Store.open(data_dir) as store:
        for number in (1, 2):
            study = f"1.2.826.0.1.3680043.{number}"
            for series in (f"{study}.1", f"{study}.2"):
                seen(store, "defaced", series=series, study=study, n=1)
    command = [sys.executable, "-m", "tests.export.killing", str(data_dir), str(tmp_path / "out"), str(N_KILLS)]
    found = json.loads(_run(command))
    assert found["n_steps"] > 60
    whole = found["whole"]
    assert len(whole) == 4
    studies = {path.split("/")[1] for path in whole}
    assert len(found["seen"]) == 3  # none, one, both: never a part of one, at any step
    for state in found["seen"]:
        assert all(len([path for path in state if path.split("/")[1] == study]) in (0, 2) for study in studies), state
    assert len(found["killed"]) >= N_KILLS
    assert sum(bool(one["lived"]) for one in found["killed"]) <= 1
    seen_after_death = Counter(len(one["after_death"]) for one in found["killed"])
    assert set(seen_after_death) <= {0, 2, 4}  # two series of one instance in each study
    assert len(seen_after_death) > 1  # it was killed before and after something was published
    for one in found["killed"]:
        for study in studies:
            here = [path for path in one["after_death"] if path.split("/")[1] == study]
            assert here in ([], [path for path in whole if path.split("/")[1] == study]), one["step"]
        again = one["again"]
        assert again["copies"] == whole
        assert again["outcomes"] == ["exported", "exported"]
        assert again["counts"]["in"] == again["counts"]["copied"] + again["counts"]["refused"] == 4
        assert (again["n_instances"], again["leftovers"]) == (4, False)


def _run(command: list[str]) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=250).stdout


def export_to_archive(data_dir: Path, port: int, work: Path) -> list[str]:
    """Export to a peer; return the outcomes."""
    peer = DimsePeer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=port)
    with Store.open(data_dir) as store:
        target = peer_target(store, peer, calling_ae_title="NODE", timeout_s=30, now=lambda: at(200))
        content = export_to(store, work, target)
    return [one["outcome"] for one in content["studies"]]


@pytest.mark.parametrize("at_object", [1, 3])
def test_32_an_export_to_a_peer_that_is_killed_sends_what_is_missing_and_no_other_bytes(
    at_object: int, template: Path, tmp_path: Path
) -> None:
    data_dir = copy_of_template(template, tmp_path / "node")
    with Store.open(data_dir) as store:
        seen(store, "defaced", n=5)
    with archive() as (found, peer):
        killed: dict[str, Any] = {}
        ready = threading.Event()

        def kill(number: int) -> int:
            ready.wait(30)
            if number == at_object and "process" in killed:
                os.kill(killed["process"].pid, signal.SIGKILL)
            return 0

        found.answer = kill
        killed["process"] = fork(export_to_archive, data_dir, peer.port, tmp_path / "work")
        ready.set()
        killed["process"].join(120)
        assert killed["process"].exitcode == -signal.SIGKILL
        with Store.open(data_dir) as store:
            assert [row.state for row in store.exports.list()] == [ExportState.SENDING]
            assert store.audit.list() == ()
        killed.clear()
        assert export_to_archive(data_dir, peer.port, tmp_path / "work") == ["exported"]
    assert_sent_whole(found)
    with Store.open(data_dir) as store:
        assert [row.state for row in store.exports.list()] == [ExportState.PUBLISHED]
    assert copies(tmp_path / "work") == []


def assert_sent_whole(found: Archive) -> None:
    assert len(found.times) == 5
    assert max(found.times.values()) <= 2
    assert len({(uid, data) for uid, data in found.received}) == 5
