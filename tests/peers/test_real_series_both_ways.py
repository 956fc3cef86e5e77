"""Real series give the same masks through the running node as through ``segment``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset, dcmread

from tests.node_process import RunningNode, start_node, wait_for
from tests.peer_servers import run_tool
from tests.tiny_models import write_tiny_model

pytestmark = [pytest.mark.data, pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(900)]

# Coronal, jittering, Enhanced, four stacks in one series, three slices; one is refused (a single tilted slice).
GROUPS = (
    "mr_head_ge_cor_t1",
    "mr_ge_volume_rounding",
    "mr_enh_nema_flair_ax",
    "mr_philips_dualecho_magphase",
    "ct_dcmqi_3slice_liver",
    "ct_fodicom_tilt_single",
)
BODY_ABOVE = 60.0  # in every series something lies above and something below
UNFINISHED = {"queued", "running", "waiting"}

MaskKey = tuple[str, int]  # source Series Instance UID, stack number


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    grid = {"spacing_mm": (4, 4, 4)}
    return {
        "foreground": write_tiny_model(folder / "foreground", "foreground", above=BODY_ABOVE, **grid),
        "anonymized": write_tiny_model(folder / "anonymized", "anonymized", above=10 * BODY_ABOVE, **grid),
    }


def masks_of(segs: list[Dataset]) -> dict[MaskKey, tuple[bytes, tuple[str, ...], tuple[str, ...]]]:
    """What a SEG says of each stack: pixels, segments, and the plane of every frame; dates and UIDs apart."""
    return {
        (str(seg.ReferencedSeriesSequence[0].SeriesInstanceUID), int(seg.InstanceNumber)): (
            seg.PixelData,
            tuple(str(item.SegmentLabel) for item in seg.SegmentSequence),
            tuple(
                str(frame.PlanePositionSequence[0].ImagePositionPatient)
                for frame in seg.PerFrameFunctionalGroupsSequence
            ),
        )
        for seg in segs
    }


def status(node: RunningNode) -> dict[str, dict[str, int]]:
    command = [sys.executable, "-m", "dicom_node.cli", "status", "-c", str(node.settings_path), "--json"]
    return dict(json.loads(subprocess.run(command, capture_output=True, check=True, timeout=240).stdout))


def is_idle(node: RunningNode) -> bool:
    """Whether every series was looked at and every job has ended."""
    now = status(node)
    return now["series"].get("receiving", 0) == 0 and not any(now["jobs"].get(state) for state in UNFINISHED)


def test_real_series_give_the_same_masks_both_ways(
    real_series: Callable[[str], Path], models: Mapping[str, Path], tmp_path: Path
) -> None:
    folders = [real_series(group) for group in GROUPS]
    with start_node(tmp_path / "node", {"models": {role: str(path) for role, path in models.items()}}) as node:
        for folder in folders:
            # every transfer syntax as it is on disk
            sent = run_tool("storescu", "-xs", "-aec", node.ae_title, node.host, node.port, "+sd", "+r", folder)
            if sent.returncode:
                sent = run_tool("storescu", "-R", "-aec", node.ae_title, node.host, node.port, "+sd", "+r", folder)
            assert sent.returncode == 0, sent.stdout
        wait_for("the last job", lambda: is_idle(node), timeout_s=600.0, step_s=1.0)
        client = DICOMwebClient(node.dicomweb_url)
        found = client.search_for_series(search_filters={"Modality": "SEG"})
        from_node = masks_of(
            [
                seg
                for row in found
                for seg in client.retrieve_series(row["0020000D"]["Value"][0], row["0020000E"]["Value"][0])
            ]
        )
        jobs = status(node)["jobs"]

    command = [sys.executable, "-m", "dicom_node.cli", "segment", *map(str, folders), "-o", str(tmp_path / "out")]
    options = [f"--{role}-model={path}" for role, path in models.items()]
    offline = subprocess.run([*command, *options, "--threads=1"], capture_output=True, text=True, timeout=600)
    assert offline.returncode == 3, offline.stderr  # the single slice
    from_files = masks_of([dcmread(path) for path in sorted((tmp_path / "out").glob("*/seg.dcm"))])

    assert jobs["dead"] == 1
    assert len(from_files) >= 6  # of each group one, and of the dual echo both magnitude stacks
    assert from_node.keys() == from_files.keys()
    assert from_node == from_files
