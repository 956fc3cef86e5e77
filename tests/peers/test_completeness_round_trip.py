"""The parts of a node ask real archives whether a series is complete, and replace its results when more comes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.peers import deliver
from dicom_node.settings import DimsePeer
from dicom_node.store import JobState, SeriesState
from tests.crash.parts import Node
from tests.factories import EncodedInstance, SyntheticSeries, ct_series
from tests.node_process import wait_for
from tests.peer_servers import OrthancServer, free_port, start_dcmqrscp, start_orthanc
from tests.peers.objects import to_send
from tests.tiny_models import write_tiny_model

pytestmark = [pytest.mark.peers, pytest.mark.slow]

QUIET_S = 1.0
N_SLICES = 20


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    above = {"foreground": -300.0, "anonymized": 1e6}
    return {role: str(write_tiny_model(folder / role, role, above=value)) for role, value in above.items()}


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancServer]:
    with start_orthanc(tmp_path_factory.mktemp("orthanc"), settings={"DicomAlwaysAllowFind": True}) as server:
        yield server


def series_of(seed: str) -> SyntheticSeries:
    return ct_series(N_SLICES, spacing_mm=(3.0, 2.0, 1.5), rows=32, columns=32, seed=seed)


def dimse(name: str, server: Any) -> dict[str, Any]:
    return {"name": name, "kind": "dimse", "ae_title": server.ae_title, "host": server.host, "port": server.port}


def send(place: dict[str, Any], instances: Sequence[EncodedInstance]) -> None:
    outcomes = deliver(DimsePeer.model_validate(place), to_send(instances), calling_ae_title="CT1")
    assert all(outcome.is_delivered for outcome in outcomes)


@contextmanager
def started(folder: Path, settings: dict[str, Any], *parts: str) -> Iterator[Node]:
    """A node of which these parts run."""
    folder.mkdir()
    node = Node(folder)
    node.configure(**settings)
    with ExitStack() as running:
        for name in parts:
            running.enter_context(node.part(name)).wait_until_ready()
        yield node


def listed(node: Node, *arguments: str) -> list[dict[str, Any]]:
    """What a ``list`` command of the node says as JSON."""
    answer = subprocess.run(
        [sys.executable, "-m", "dicom_node.cli", *arguments, "-c", str(node.settings_path), "--json"],
        capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    return list(json.loads(answer.stdout))


def once_closed(node: Node, series: SyntheticSeries) -> dict[str, Any]:
    """The series as the node lists it, once it is closed."""
    uid = series.series_instance_uid
    with node.store() as store:
        wait_for("the series to be closed", lambda: store.series.get(uid).state is SeriesState.COMPLETE)
    (row,) = (row for row in listed(node, "series", "list", "--state", "complete") if row["series_instance_uid"] == uid)
    return row


@pytest.mark.parametrize("kind", ["orthanc-find", "orthanc-qido", "dcmqrscp"])
def test_a_series_waits_for_what_the_archive_has_and_is_closed_when_all_is_here(
    kind: str, orthanc: OrthancServer, models: dict[str, str], tmp_path: Path
) -> None:
    series = series_of(kind)
    with ExitStack() as servers:
        archive: Any = servers.enter_context(start_dcmqrscp(tmp_path)) if kind == "dcmqrscp" else orthanc
        send(dimse("archive", archive), series)
        peer = dimse("archive", archive)
        if kind == "orthanc-qido":
            peer = {"name": "archive", "kind": "dicomweb", "url": orthanc.dicomweb_url}
        settings = {
            "series": {"quiet_s": QUIET_S, "max_wait_s": 600, "ask_peers": ["archive"]},
            "peers": [peer],
            "models": models,
        }
        node = servers.enter_context(started(tmp_path / "node", settings, "receive", "schedule"))
        send(dimse("node", node), series[:15])  # without the end: no gap tells
        time.sleep(5 * QUIET_S)  # the clock looks four times in each
        (row,) = listed(node, "series", "list")
        assert (row["series_instance_uid"], row["state"]) == (series.series_instance_uid, "receiving")
        send(dimse("node", node), series[15:])
        row = once_closed(node, series)
        assert (row["generation"], row["n_instances"], row["is_doubted"]) == (1, N_SLICES, False)
        assert row["complete_because"].endswith(f"archive has {N_SLICES} instances, as many as are here")


def test_a_peer_that_is_down_holds_a_series_up_for_no_longer_than_the_longest_wait(
    models: dict[str, str], tmp_path: Path
) -> None:
    series = series_of("down")
    settings = {
        "series": {"quiet_s": QUIET_S, "max_wait_s": 8, "ask_peers": ["gone"]},
        "peers": [{"name": "gone", "kind": "dimse", "ae_title": "GONE", "host": "127.0.0.1", "port": free_port()}],
        "models": models,
    }
    with started(tmp_path / "node", settings, "receive", "schedule", "work") as node:
        send(dimse("node", node), series)
        row = once_closed(node, series)
        assert row["is_doubted"]
        assert "although gone does not say how many it has (peer-unreachable)" in row["complete_because"]
        with node.store() as store:
            wait_for("the job", lambda: [job.state for job in store.jobs.list()] == [JobState.SUCCEEDED])


def segs(url: str, study_instance_uid: str) -> list[str]:
    found = DICOMwebClient(url).search_for_series(study_instance_uid, search_filters={"Modality": "SEG"})
    return [str(one["0020000E"]["Value"][0]) for one in found]


def stored(orthanc: OrthancServer, series_instance_uid: str) -> Dataset:
    """The one instance of a series, as Orthanc keeps it."""
    found = httpx.post(f"{orthanc.url}/tools/lookup", content=series_instance_uid, trust_env=False, timeout=60).json()
    (instance,) = httpx.get(f"{orthanc.url}/series/{found[0]['ID']}/instances", trust_env=False, timeout=60).json()
    content = httpx.get(f"{orthanc.url}/instances/{instance['ID']}/file", trust_env=False, timeout=60).content
    return dcmread(io.BytesIO(content), stop_before_pixels=True)


def test_late_slices_replace_the_result_at_the_node_and_say_so_at_the_peer(
    orthanc: OrthancServer, models: dict[str, str], tmp_path: Path
) -> None:
    series = series_of("late")
    settings = {
        "series": {"quiet_s": QUIET_S},
        "peers": [dimse("pacs", orthanc)],
        "deliver_to": ["pacs"],
        "models": models,
    }
    study = series.study_instance_uid
    with started(tmp_path / "node", settings, "receive", "web", "schedule", "work") as node:
        url = f"http://127.0.0.1:{node.web_port}/dicom-web"

        def at_peer() -> list[str]:
            return segs(orthanc.dicomweb_url, study)

        send(dimse("node", node), series[:15])
        (first,) = wait_for("the first SEG", at_peer)
        assert segs(url, study) == [first]
        send(dimse("node", node), series[15:])
        wait_for("the second SEG", lambda: len(at_peer()) == 2)
        (second,) = set(at_peer()) - {first}
        assert segs(url, study) == [second]
        replaced = stored(orthanc, second).ReferencedImageSequence[0]
        assert replaced.ReferencedSOPInstanceUID == stored(orthanc, first).SOPInstanceUID
        assert replaced.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Replaced result"
        client = DICOMwebClient(url)
        assert client.retrieve_instance(study, first, replaced.ReferencedSOPInstanceUID).SOPInstanceUID == (
            replaced.ReferencedSOPInstanceUID
        )
        subprocess.run(
            [
                *(sys.executable, "-m", "dicom_node.cli", "series", "reprocess", series.series_instance_uid),
                *("-c", str(node.settings_path)),
            ],
            check=True,
            timeout=120,
            stdout=subprocess.DEVNULL,
        )
        wait_for("the third SEG", lambda: len(at_peer()) == 3)
        (third,) = set(at_peer()) - {first, second}
        named = {item.ReferencedSOPInstanceUID for item in stored(orthanc, third).ReferencedImageSequence}
        assert named == {stored(orthanc, earlier).SOPInstanceUID for earlier in (first, second)}
        assert segs(url, study) == [third]
