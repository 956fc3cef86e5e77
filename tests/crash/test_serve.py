"""The whole node under ``dicom-node serve``: a series in, a SEG out, whichever of its processes dies on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import SegmentationStorage

from dicom_node.app import open_store
from dicom_node.settings import load_settings
from dicom_node.store import JobState, Store
from tests.factories import SyntheticSeries, ct_series
from tests.node_process import RunningNode, start_node, stop_node, wait_for
from tests.peer_servers import DimsePeerServer, run_tool, start_storescp
from tests.tiny_models import write_tiny_model

pytestmark = [pytest.mark.crash, pytest.mark.peers, pytest.mark.slow]

BODY_ABOVE_HU = -300.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """A running node and the archive that gets its results."""

    node: RunningNode
    archive: DimsePeerServer
    folder: Path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    folder = tmp_path_factory.mktemp("serve")
    with start_storescp(folder, ae_title="ARCHIVE") as archive:
        peer = {"name": "archive", "kind": "dimse", "ae_title": "ARCHIVE", "host": archive.host, "port": archive.port}
        settings = {
            "peers": [peer],
            "deliver_to": ["archive"],
            "models": {
                "foreground": str(write_tiny_model(folder / "fg", "foreground", above=BODY_ABOVE_HU)),
                "anonymized": str(write_tiny_model(folder / "an", "anonymized", above=1e6)),
            },
            "series": {"quiet_s": 0.5},
            "work": {"device": "cpu", "threads": 1, "lease_s": 1.0},
        }
        with start_node(folder / "node", settings) as node:
            yield Surroundings(node, archive, folder)


def children(node: RunningNode) -> dict[str, int]:
    """Process ids of the parts by name."""
    pids = Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children").read_text().split()
    commands = {int(pid): _command(pid) for pid in pids}  # read once: a child may end in between
    return {command[3]: pid for pid, command in commands.items() if len(command) > 3}


def _command(pid: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def send(node: RunningNode, series: SyntheticSeries, folder: Path) -> None:
    paths = series.write_to(folder)
    answer = run_tool("storescu", "-aec", node.ae_title, node.host, node.port, *paths)
    assert answer.returncode == 0, answer.stdout


def test_what_it_keeps_is_closed_to_other_users(running: Surroundings) -> None:
    data_dir = running.node.data_dir
    kept = [data_dir, *(path for path in data_dir.rglob("*") if path.is_file())]
    assert len(kept) > 4
    assert [path.name for path in kept if path.stat().st_mode & 0o007] == []


def segs_of(series: SyntheticSeries, archive: DimsePeerServer) -> list[Path]:
    """What the archive has received for a series, whole files only."""
    return [path for path in archive.folder.iterdir() if _source_of(path) == series.series_instance_uid]


def _source_of(path: Path) -> str | None:
    try:
        return str(dcmread(path, stop_before_pixels=True).ReferencedSeriesSequence[0].SeriesInstanceUID)
    except (InvalidDicomError, AttributeError, EOFError):  # the archive is still writing it
        return None


def store_of(node: RunningNode) -> Store:
    return open_store(load_settings(node.settings_path, {}))


def test_a_series_goes_in_and_its_seg_comes_out(running: Surroundings, tmp_path: Path) -> None:
    series = ct_series(n_slices=12, rows=24, columns=20, seed="serve-once")
    send(running.node, series, tmp_path)
    (path,) = wait_for("the SEG", lambda: segs_of(series, running.archive))
    seg = dcmread(path)
    assert seg.SOPClassUID == SegmentationStorage
    assert seg.StudyInstanceUID == series.study_instance_uid
    found = httpx.get(
        f"{running.node.dicomweb_url}/studies/{series.study_instance_uid}/series",
        headers={"Accept": "application/dicom+json"},
        trust_env=False,
    ).json()
    assert sorted(entry["00080060"]["Value"][0] for entry in found) == ["CT", "SEG", "SR"]


@pytest.mark.parametrize("part", ["receive", "web", "schedule", "work"])
def test_a_part_that_is_killed_comes_back_and_the_node_goes_on(
    running: Surroundings, tmp_path: Path, part: str
) -> None:
    node = running.node
    before = wait_for("all parts", lambda: len(children(node)) == 4 and children(node))
    os.kill(before[part], signal.SIGKILL)
    after = wait_for("the part", lambda: children(node).get(part, before[part]) != before[part] and children(node))
    assert {name: pid for name, pid in after.items() if name != part} == {
        name: pid for name, pid in before.items() if name != part
    }
    wait_for("DIMSE", lambda: run_tool("echoscu", "-aec", node.ae_title, node.host, node.port).returncode == 0)
    wait_for("HTTP", lambda: _is_ready(node))
    series = ct_series(n_slices=12, rows=24, columns=20, seed=f"serve-{part}")
    send(node, series, tmp_path)
    wait_for("the SEG", lambda: segs_of(series, running.archive))
    with store_of(node) as store:
        (job,) = store.jobs.list(series_instance_uid=series.series_instance_uid)
        assert job.state is JobState.SUCCEEDED
        assert [result.kind for result in store.jobs.results(job.id)] == ["seg", "sr"]


def _is_ready(node: RunningNode) -> bool:
    try:
        return httpx.get(f"{node.url}/health/ready", trust_env=False, timeout=60).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def test_a_second_node_on_the_same_data_is_told_who_holds_it(running: Surroundings) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "dicom_node.cli", "serve", "-c", str(running.node.settings_path)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert second.returncode == 2
    assert f"process {running.node.process.pid} " in second.stderr
    assert "Traceback" not in second.stderr


def test_sigterm_ends_all_of_it_cleanly(running: Surroundings) -> None:
    pids = children(running.node).values()
    assert len(pids) == 4
    assert stop_node(running.node.process) == 0
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert "Traceback" not in running.node.log.read_text()
