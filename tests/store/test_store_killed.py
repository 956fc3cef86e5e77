"""A process that dies between any two steps loses nothing that it acknowledged and leaves no half rows."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.store import JobPlan, JobState, Kept, Store
from dicom_node.store.schema import instances, series, studies, unproven
from tests.store import crashing
from tests.store.sending import SERIES, T0, instance, keep, received_series

pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def spawn() -> Callable[..., int]:
    """Run a function in a process of its own; gives its exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.store.crashing"])

    def run(target: Callable[..., None], *arguments: object) -> int:
        process = context.Process(target=target, args=arguments)
        process.start()
        process.join(60)
        assert process.exitcode is not None
        return process.exitcode

    return run


def test_nothing_acknowledged_is_lost_wherever_the_receiver_dies(tmp_path: Path, spawn: Callable[..., int]) -> None:
    sent = {(one.uid, one.arrival.sop_instance_uid): one for one in crashing.sent_before_death()}
    assert len(sent) == 3  # the conflicting one shares its UID
    assert spawn(crashing.receive, tmp_path / "whole", tmp_path / "whole.txt", 0) == 0
    n_steps = int((tmp_path / "whole.steps").read_text())
    assert n_steps > 60
    for at_step in range(1, n_steps + 1, 2):
        data_dir, notes = tmp_path / f"{at_step}", tmp_path / f"{at_step}.txt"
        # The number of steps differs a little from run to run, as threads do; death in the last ones may not come.
        assert spawn(crashing.receive, data_dir, notes, at_step) in (-signal.SIGKILL, 0)
        acknowledged = [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []
        check_everything_acknowledged_is_there(data_dir, acknowledged)


def check_everything_acknowledged_is_there(data_dir: Path, acknowledged: list[list[str]]) -> None:
    with Store.open(data_dir) as store:
        bytes_by_uid = {}
        with store._database.read() as connection:
            rows = connection.execute(sa.select(instances.c.sop_instance_uid, instances.c.digest)).all()
            totals = connection.execute(sa.select(series.c.series_instance_uid, series.c.n_instances)).all()
            assert connection.execute(sa.select(sa.func.count()).select_from(unproven)).scalar_one() == 0
        for uid, digest in rows:
            bytes_by_uid[uid] = store.objects.read_dataset_bytes(digest)
        conflicting = [store.objects.read_dataset_bytes(row.digest) for row in store.series.conflicts()]
        for one, (uid, kept) in zip(crashing.sent_before_death(), acknowledged, strict=False):
            assert one.uid == uid
            assert one.encoded in (conflicting if kept == Kept.CONFLICT else [bytes_by_uid[uid]])
        for uid, n_instances in totals:
            assert n_instances == len(store.series.instances(uid)) > 0
        assert list(store.objects.spool_folder.iterdir()) == []
        named = {digest for _, digest in rows} | {row.digest for row in store.series.conflicts()}
        assert {path.stem for path in store.objects.folder.rglob("*.dcm")} == named
        for one in crashing.sent_before_death():  # and the sender may simply begin again
            keep(store, one)
        assert store.series.get(SERIES).n_instances == 2
        assert store.series.n_conflicts() == 1


def test_a_job_is_over_with_all_its_results_or_still_running(tmp_path: Path, spawn: Callable[..., int]) -> None:
    def prepare(data_dir: Path) -> int:
        with Store.open(data_dir) as store:
            store.series.complete(received_series(store, n_instances=1), [JobPlan("each", "d1")], T0)
            job = store.jobs.claim("w", T0, 60)
            assert job is not None
            return job.id

    whole = tmp_path / "whole"
    assert spawn(crashing.succeed, whole, prepare(whole), 0, tmp_path / "steps") == 0
    for at_step in range(1, int((tmp_path / "steps").read_text()) + 1, 3):
        data_dir = tmp_path / f"{at_step}"
        job_id = prepare(data_dir)
        spawn(crashing.succeed, data_dir, job_id, at_step, tmp_path / "ignored")
        with Store.open(data_dir) as store:
            is_over = store.jobs.get(job_id).state is JobState.SUCCEEDED
            n_rows = (len(store.jobs.results(job_id)), len(store.deliveries.list()), len(store.studies.verdicts("1.2.3")))
            assert n_rows == ((1, 2, 1) if is_over else (0, 0, 0))
            assert len(list(store.objects.folder.rglob("*.dcm"))) == (2 if is_over else 1)
            if not is_over:
                store.jobs.succeed(job_id, "w", crashing.outcome(), T0)
            (result,) = store.jobs.results(job_id)
            assert store.objects.read_dataset_bytes(result.digest) == crashing.outcome().results[0].encoded_dataset


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: os.truncate(path, 0), lambda path: os.truncate(path, 700)])
def test_rows_whose_bytes_a_power_failure_took_are_taken_back(store: Store, damage: Callable[[Path], None]) -> None:
    """A power failure during the last batch: the index was synced, the file was not."""
    keep(store, instance(1))
    keep(store, instance(2))
    lost = store.series.instances(SERIES)[1]
    data_dir = store.data_dir
    store.close()
    damage(store.objects.path(lost.digest))
    with Store.open(data_dir) as again:
        assert [row.instance_number for row in again.series.instances(SERIES)] == [1]
        assert again.series.get(SERIES).n_instances == 1
        assert keep(again, instance(2)) is Kept.STORED
        assert again.objects.read_dataset_bytes(lost.digest) == instance(2).encoded


def test_a_study_of_which_the_only_instance_was_lost_is_gone(store: Store) -> None:
    keep(store, instance(1))
    (lost,) = store.series.instances(SERIES)
    data_dir = store.data_dir
    store.close()
    store.objects.path(lost.digest).unlink()
    with Store.open(data_dir) as again:
        assert again.series.list() == ()
        with again._database.read() as connection:
            assert connection.execute(sa.select(studies.c.study_instance_uid)).all() == []


def test_what_is_marked_as_unproven_is_the_last_batch_only(store: Store) -> None:
    for number in range(1, 6):
        keep(store, instance(number))
    with store._database.read() as connection:
        marked = connection.execute(sa.select(unproven.c.digest)).scalars().all()
    assert marked == [store.series.instances(SERIES)[-1].digest]


def test_leftovers_of_a_living_process_are_not_swept(store: Store) -> None:
    spool = store.objects.spool(sop_class_uid="1.2", sop_instance_uid="1.2.3", transfer_syntax_uid="1.2")
    with Store.open(store.data_dir):
        assert spool.path.exists()
    spool.discard()
