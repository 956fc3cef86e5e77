"""``kill -9`` of the worker at any commit boundary: afterwards there is one result, delivered, under one UID."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.store import JobState, Origin, Store, StudyState
from tests.arrivals import dataset_bytes, receive
from tests.crash.parts import Node
from tests.factories import SyntheticSeries, ct_series
from tests.node_process import wait_for
from tests.peer_servers import DimsePeerServer, start_storescp
from tests.tiny_models import write_tiny_model

pytestmark = [pytest.mark.crash, pytest.mark.peers, pytest.mark.slow]

BODY_ABOVE_HU = -300.0
MOMENTS = {
    "series routed, not closed": ("schedule", "dicom_node.pipeline.intake:route:after:1"),
    "series closed, study not judged": ("schedule", "dicom_node.store.work.closing:SeriesClosing.complete:after:1"),
    "job claimed": ("work", "dicom_node.store.work.jobs:Jobs.claim:after:1"),
    "masks and objects made": ("work", "dicom_node.processing:process_series:after:1"),
    "object in place, no row written": ("work", "dicom_node.store.work.jobs:record_outcome:before:1"),
    "all rows written, not committed": ("work", "dicom_node.store.work.jobs:result_rows:after:1"),
    "committed": ("work", "dicom_node.store.work.jobs:Jobs.succeed:after:1"),
    "delivery claimed, nothing sent": ("schedule", "dicom_node.pipeline.schedule:deliver:before:1"),
    "peer has it, not noted": ("schedule", "dicom_node.pipeline.schedule:deliver:after:1"),
}


@pytest.fixture(scope="module")
def series() -> SyntheticSeries:
    return ct_series(n_slices=10, rows=24, columns=20, seed="work-killed")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "foreground": str(write_tiny_model(folder / "fg", "foreground", above=BODY_ABOVE_HU)),
        "anonymized": str(write_tiny_model(folder / "an", "anonymized", above=1e6)),
    }


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[DimsePeerServer]:
    with start_storescp(tmp_path, ae_title="ARCHIVE") as server:
        yield server


def all_is_delivered(store: Store) -> bool:
    deliveries = store.deliveries.list()
    return bool(deliveries) and all(delivery.state is JobState.SUCCEEDED for delivery in deliveries)


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
def test_there_is_one_result_and_one_delivery_whenever_a_part_is_killed(
    node: Node, series: SyntheticSeries, models: dict[str, str], archive: DimsePeerServer, moment: tuple[str, str]
) -> None:
    killed, at = moment
    other = "schedule" if killed == "work" else "work"
    peer = {"name": "archive", "kind": "dimse", "ae_title": "ARCHIVE", "host": archive.host, "port": archive.port}
    node.configure(
        peers=[peer],
        deliver_to=["archive"],
        models=models,
        series={"quiet_s": 0.2},
        work={"device": "cpu", "threads": 1, "lease_s": 1.0},
    )
    with node.store() as store:
        receive(store, series)
    with node.part(other):
        with node.part(killed, at) as part:
            part.wait_until_killed()
        with node.part(killed) as part:
            part.wait_until_ready()
            _check_result_and_delivery(node, series, archive)


def _check_result_and_delivery(node: Node, series: SyntheticSeries, archive: DimsePeerServer) -> None:
    with node.store() as store:
        wait_for("the delivery", lambda: all_is_delivered(store), timeout_s=120.0, step_s=0.05)

        (job,) = store.jobs.list()
        assert job.state is JobState.SUCCEEDED
        results = store.jobs.results(job.id)
        assert [result.kind for result in results] == ["seg", "sr"]
        assert sorted(delivery.result_id for delivery in store.deliveries.list()) == [one.id for one in results]
        study = store.search.find_instances(study_instance_uid=series.study_instance_uid)
        written = {row.sop_instance_uid for row in study if row.origin is Origin.NODE}
        assert written == {result.sop_instance_uid for result in results}
        wait_for("a verdict on the study", lambda: _state(store, series) is not StudyState.OPEN)

        sent = {result.sop_instance_uid: store.objects.read_dataset_bytes(result.digest) for result in results}
        received = [path for path in archive.folder.iterdir() if path.is_file()]
        uids = [str(dcmread(path).SOPInstanceUID) for path in received]
        assert set(uids) == set(sent)
        assert all(dataset_bytes(path.read_bytes()) == sent[uid] for path, uid in zip(received, uids, strict=True))


def test_a_worker_is_stopped_in_time_also_in_the_middle_of_a_network(
    node: Node, series: SyntheticSeries, models: dict[str, str]
) -> None:
    node.configure(models=models, series={"quiet_s": 0.2}, work={"device": "cpu", "threads": 1, "lease_s": 60.0})
    with node.store() as store:
        receive(store, series)
    with node.part("schedule"), node.part("work", "dicom_node.processing:segment:hang:1") as worker:
        worker.wait_until("hanging")
        worker.process.terminate()
        worker.process.join(60.0)
        assert worker.process.exitcode == 0
    with node.store() as store:
        (job,) = store.jobs.list()
        assert (job.state, job.attempt_number) == (JobState.QUEUED, 0)


def _state(store: Store, series: SyntheticSeries) -> StudyState:
    return store.studies.get(series.study_instance_uid).state
