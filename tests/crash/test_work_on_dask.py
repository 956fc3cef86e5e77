"""Jobs on a Dask cluster: whatever ends in the middle, there is one set of results, with the usual bytes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from dicom_node.pipeline.outcome import remarks_on_completeness
from dicom_node.pipeline.worker import StoredInstance
from dicom_node.processing import process_series
from dicom_node.store import JobRow, JobState, Origin, Store
from inference.models import read_model_spec
from inference.segment import load_models
from tests.arrivals import receive
from tests.cluster.at_a_moment import MOMENT, SLOW_S
from tests.cluster.dask_processes import DaskProcesses
from tests.crash.parts import Node
from tests.factories import SyntheticSeries, ct_series
from tests.node_process import wait_for
from tests.s3_servers import CREDENTIALS, start_seaweedfs
from tests.tiny_models import write_tiny_model

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(600)]

AFTER_COMPUTING = "dicom_node.processing:process_series:after:1"
PRELOAD = ("--preload", "tests.cluster.at_a_moment")


@pytest.fixture(scope="module")
def series() -> SyntheticSeries:
    return ct_series(n_slices=10, rows=24, columns=20, seed="work-on-dask")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "foreground": str(write_tiny_model(folder / "fg", "foreground", above=-300.0)),
        "anonymized": str(write_tiny_model(folder / "an", "anonymized", above=1e6)),
    }


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[DaskProcesses]:
    folder = tmp_path / "dask"
    folder.mkdir()
    processes = DaskProcesses(folder)
    try:
        processes.start_scheduler()
        yield processes
    finally:
        processes.stop()


@pytest.fixture
def cluster_node(node: Node, dask: DaskProcesses, models: dict[str, str], series: SyntheticSeries) -> Node:
    """A node that computes on the cluster and has received a series."""
    configure(node, dask, models)
    with node.store() as store:
        receive(store, series)
    return node


def configure(
    node: Node,
    dask: DaskProcesses,
    models: Mapping[str, str],
    sections: Mapping[str, object] | None = None,
    **work: object,
) -> None:
    usual = {"device": "cpu", "threads": 1, "lease_s": 2.0, "backoff_s": 0.2}
    on_dask = {"engine": "dask", "dask_address": dask.url}
    node.configure(models=models, series={"quiet_s": 0.2}, work={**usual, **on_dask, **work}, **(sections or {}))


def job_of(store: Store) -> JobRow | None:
    return next(iter(store.jobs.list()), None)


def is_running(store: Store) -> bool:
    job = job_of(store)
    return job is not None and job.state is JobState.RUNNING


def await_success(node: Node, series: SyntheticSeries) -> JobRow:
    """Wait for the job, and see that there is one SEG and one SR, in rows and in objects."""
    with node.store() as store:
        wait_for("the job", lambda: (job_of(store) or pytest.fail("no job")).state is JobState.SUCCEEDED)
        (job,) = store.jobs.list()
        results = store.jobs.results(job.id)
        assert [result.kind for result in results] == ["seg", "sr"]
        study = store.search.find_instances(study_instance_uid=series.study_instance_uid)
        assert sorted(row.sop_instance_uid for row in study if row.origin is Origin.NODE) == sorted(
            result.sop_instance_uid for result in results
        )
        return job


def results_and_own(node: Node, models: Mapping[str, str]) -> tuple[list[bytes], list[bytes]]:
    """The datasets that the cluster's worker made, and those that this process makes of the same job."""
    loaded = load_models(*(read_model_spec(Path(models[role])) for role in ("foreground", "anonymized")), device="cpu")
    with node.store() as store:
        (job,) = store.jobs.list()
        volumes = process_series(
            [
                StoredInstance(row.sop_instance_uid, partial(store.objects.open, row.digest))
                for row in store.series.instances(job.series_instance_uid, generation=job.generation)
            ],
            loaded,
            generation=job.generation,
            pipeline_digest=job.pipeline_digest,
            written_at=job.queued_at,
            remarks=remarks_on_completeness(store.series.get(job.series_instance_uid)),
        )
        own = [written.encoded_dataset for volume in volumes for written in volume.objects]
        return [store.objects.read_dataset_bytes(one.digest) for one in store.jobs.results(job.id)], own


def test_a_cluster_worker_killed_in_the_middle_of_a_task_loses_and_doubles_nothing(
    cluster_node: Node, dask: DaskProcesses, series: SyntheticSeries, models: dict[str, str]
) -> None:
    killed = dask.start_worker(*PRELOAD, env={MOMENT: AFTER_COMPUTING})
    with cluster_node.part("schedule"), cluster_node.part("work"):
        assert killed.wait(180) == -signal.SIGKILL
        dask.start_worker()
        job = await_success(cluster_node, series)
    assert job.attempt_number == 2

    results, own = results_and_own(cluster_node, models)
    assert results == own


def test_a_scheduler_that_is_started_again_loses_and_doubles_nothing(
    cluster_node: Node, dask: DaskProcesses, series: SyntheticSeries
) -> None:
    dask.start_worker(*PRELOAD, env={SLOW_S: "600"})
    with cluster_node.part("schedule"), cluster_node.part("work") as work:
        with cluster_node.store() as store:
            wait_for("a running job", lambda: is_running(store))
        assert dask.scheduler is not None
        dask.scheduler.kill()
        dask.scheduler.wait()
        dask.workers[0].kill()
        dask.start_scheduler()
        dask.start_worker()
        await_success(cluster_node, series)
        assert work.process.exitcode is None


def test_a_node_that_lost_its_lease_drops_what_the_cluster_returns(
    cluster_node: Node, dask: DaskProcesses, series: SyntheticSeries
) -> None:
    dask.start_worker(*PRELOAD, env={SLOW_S: "4"})
    with ExitStack() as parts:
        first = parts.enter_context(cluster_node.part("work"))
        parts.enter_context(cluster_node.part("schedule"))
        with cluster_node.store() as store:
            wait_for("a running job", lambda: is_running(store))
        assert first.process.pid is not None
        os.kill(first.process.pid, signal.SIGSTOP)
        parts.callback(os.kill, first.process.pid, signal.SIGCONT)
        parts.enter_context(cluster_node.part("work"))
        job = await_success(cluster_node, series)
        os.kill(first.process.pid, signal.SIGCONT)
        with cluster_node.store() as store:
            wait_for("the first node to notice", lambda: not any(part.task for part in store.parts(store.data_dir)))
        assert await_success(cluster_node, series) == job
        assert not [entry for entry in first.entries() if entry["event"] == "job succeeded"]
    assert job.attempt_number == 2


@pytest.mark.peers
def test_cluster_workers_read_a_bucket_with_credentials_of_their_own(
    node: Node,
    dask: DaskProcesses,
    series: SyntheticSeries,
    models: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = {name: value for name, value in CREDENTIALS.items() if "KEY" in name}
    for name in keys:
        monkeypatch.delenv(name, raising=False)
    for name, value in CREDENTIALS.items() - keys.items():
        monkeypatch.setenv(name, value)
    with start_seaweedfs() as server:
        place = server.place()
        in_bucket = {
            "node": {"ae_title": node.ae_title, "data_dir": str(node.folder / "data"), "objects_url": place.url},
            "objects": {"endpoint_url": server.url},
        }
        configure(node, dask, models, in_bucket)
        node.environment = CREDENTIALS
        dask.start_worker(name="without")
        dask.start_worker(name="with", env=keys)
        with monkeypatch.context() as own:
            for name, value in keys.items():
                own.setenv(name, value)
            with node.store() as store:
                receive(store, series)
                assert not list((node.folder / "data").glob("objects/**/*.dcm"))
            with node.part("schedule"), node.part("work") as work:
                with node.store() as store:
                    wait_for("a job", lambda: job_of(store))
                await_success(node, series)
                refused = [entry for entry in work.entries() if entry["event"] == "worker refused"]
            results, computed_here = results_and_own(node, models)
    assert results == computed_here
    assert any("there are no credentials" in str(entry) for entry in refused), work.entries()
    assert list(dask.folder.rglob("dicom-node-objects/cache/**/*.dcm"))  # the worker's own copies
    said = "".join(path.read_text() for path in (*dask.folder.glob("*.log"), work.log))
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in said
