"""``kill -9`` of the receiver at any moment loses nothing that was acknowledged, and leaves nothing half."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.arrivals import dataset_bytes
from tests.crash.parts import Node
from tests.factories import SyntheticSeries, ct_series
from tests.node_process import wait_for
from tests.peer_servers import NODELAY, tool

pytestmark = pytest.mark.crash

N_INSTANCES = 40
NTH = 15
MOMENTS = {
    "before anything is kept": f"dicom_node.store.inbox:Inbox.keep:before:{NTH}",
    "bytes are in place, no row is": f"dicom_node.store.inbox:index_arrivals:before:{NTH}",
    "row is written, not committed": f"dicom_node.store.inbox:index_arrivals:after:{NTH}",
    "committed, not answered": f"dicom_node.store.inbox:Inbox.keep:after:{NTH}",
}


@pytest.fixture(scope="module")
def series() -> SyntheticSeries:
    return ct_series(n_slices=N_INSTANCES, seed="receive-killed")


def storescu(node: Node, paths: Sequence[Path]) -> subprocess.Popen[str]:
    command = [tool("storescu"), "-v", "-aec", node.ae_title, "127.0.0.1", str(node.port), *map(str, paths)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **NODELAY}
    )


def acknowledged(output: str) -> list[Path]:
    """Files for which the sender saw success."""
    files: list[Path] = []
    sending = None
    for line in output.splitlines():
        if line.startswith("I: Sending file: "):
            sending = Path(line.removeprefix("I: Sending file: "))
        elif line.startswith("I: Received Store Response (Success)"):
            assert sending is not None
            files.append(sending)
    return files


def assert_kept(node: Node, paths: Sequence[Path]) -> None:
    """Each of these instances is in the index, and its bytes are the ones that were sent."""
    with node.store() as store:
        for path in paths:
            uid = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
            (row,) = store.search.find_instances(sop_instance_uid=uid)
            assert store.objects.read_dataset_bytes(row.digest) == dataset_bytes(path.read_bytes())


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
def test_what_was_acknowledged_is_there_and_what_was_not_can_be_sent_again(
    node: Node, series: SyntheticSeries, tmp_path: Path, moment: str
) -> None:
    paths = series.write_to(tmp_path / "sent")
    with node.part("receive", moment) as receiver:
        receiver.wait_until_ready()
        output, _ = storescu(node, paths).communicate(timeout=240)
        receiver.wait_until_killed()
    safe = acknowledged(output)
    assert len(safe) == NTH - 1, output
    assert_kept(node, safe)

    with node.part("receive") as receiver:
        receiver.wait_until_ready()
        again = storescu(node, paths)
        output, _ = again.communicate(timeout=240)
        assert again.returncode == 0, output
    assert acknowledged(output) == paths
    assert_kept(node, paths)
    with node.store() as store:
        row = store.series.get(series.series_instance_uid)
        assert row.n_instances == N_INSTANCES
        assert row.generation == 1
        assert store.series.n_conflicts() == 0


def test_four_senders_lose_nothing_when_the_receiver_is_killed_under_them(node: Node, tmp_path: Path) -> None:
    several = [ct_series(n_slices=N_INSTANCES, seed=f"four-senders-{number}") for number in range(4)]
    folders = [series.write_to(tmp_path / f"sent-{number}") for number, series in enumerate(several)]
    with node.part("receive") as receiver:
        receiver.wait_until_ready()
        senders = [storescu(node, paths) for paths in folders]
        with node.store() as store:
            wait_for("some instances", lambda: len(store.series.list()) == 4, step_s=0.005)
        receiver.kill()
        outputs = [sender.communicate(timeout=240)[0] for sender in senders]
    safe = [path for output in outputs for path in acknowledged(output)]
    assert safe
    assert_kept(node, safe)
