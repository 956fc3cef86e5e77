"""A process that dies between any two steps loses nothing that it acknowledged and leaves no half rows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.store import JobState, Kept, Store, intake_trouble
from dicom_node.store.errors import DataDirReplacedError, ObjectsElsewhereError
from dicom_node.store.schema import conflicts, instances, series, studies, unproven
from tests.new_store import StoreMaker
from tests.store.crashing import outcome, sent_in_round
from tests.store.sending import ONLY_SQLITE, SERIES, T0, closing, instance, keep, received_series

pytestmark = pytest.mark.crash
ROOT = Path(__file__).resolve().parents[2]


def run_and_kill(function: str, data_dir: Path, *, last_step: int, stride: int = 1) -> list[list[str]]:
    """Run a function of `crashing` once for each step, and give what was noted before each death."""
    notes = data_dir.with_suffix(f".{last_step}")
    arguments = [function, data_dir, notes, min(last_step, 1), last_step, stride]
    command = [sys.executable, "-m", "tests.store.crashing", *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=250)
    return [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []


def n_steps_of_a_whole_run(function: str, data_dir: Path) -> int:
    return int(run_and_kill(function, data_dir, last_step=0)[-1][2])


@ONLY_SQLITE
def test_nothing_acknowledged_is_lost_wherever_the_receiver_dies(store: Store, new_store: StoreMaker) -> None:
    data_dir = store.data_dir
    store.close()
    n_steps = n_steps_of_a_whole_run("receive", data_dir)
    assert n_steps > 80  # four instances, at least ten calls each
    noted = run_and_kill("receive", data_dir, last_step=n_steps, stride=3)
    rounds = range(1, n_steps + 1, 3)
    # Threads make the number of steps differ a little, so that death in the last ones may not come.
    assert len([note for note in noted if note[1] == "alive"]) <= 4
    with new_store.again(data_dir) as again:
        check_rows_and_objects_belong_together(again)
        for step in rounds:
            answers = [note[2] for note in noted if note[0] == str(step) and note[1] != "alive"]
            for sent, kept in zip(sent_in_round(step), answers, strict=False):
                assert sent.encoded in stored_bytes(again, sent.uid, conflicting=kept == Kept.CONFLICT)
        for step in rounds:  # and the sender may simply begin again
            for sent in sent_in_round(step):
                keep(again, sent)
            assert again.series.get(f"1.2.{step}.1").n_instances == 2
        assert again.series.n_conflicts() == len(rounds) + 1
        check_rows_and_objects_belong_together(again)


def stored_bytes(store: Store, sop_instance_uid: str, *, conflicting: bool) -> list[bytes]:
    table = conflicts if conflicting else instances
    with store._database.read() as connection:
        digests = connection.execute(sa.select(table.c.digest).where(table.c.sop_instance_uid == sop_instance_uid))
        return [store.objects.read_dataset_bytes(digest) for digest in digests.scalars()]


def check_rows_and_objects_belong_together(store: Store) -> None:
    with store._database.read() as connection:
        named = set(
            connection.execute(sa.union(sa.select(instances.c.digest), sa.select(conflicts.c.digest))).scalars()
        )
        counted = sa.select(instances.c.series_instance_uid, sa.func.count()).group_by(instances.c.series_instance_uid)
        counts = dict(connection.execute(counted).all())
        totals = dict(connection.execute(sa.select(series.c.series_instance_uid, series.c.n_instances)).all())
    assert counts == totals
    assert {path.stem for path in store.objects.folder.rglob("*.dcm")} == named
    assert all(store.objects.is_sound(digest) for digest in named)
    assert list(store.objects.spool_folder.iterdir()) == []


@ONLY_SQLITE
def test_a_job_is_over_with_all_its_results_or_still_running(store: Store, new_store: StoreMaker) -> None:
    def hold_job(step: int) -> None:
        row = received_series(store, n_instances=1, series=f"1.2.{step}.1", study=f"1.2.{step}")
        store.closing.complete(row, closing(), T0)
        assert store.jobs.claim(f"w{step}", T0, 60, pipeline_digest="d1") is not None

    data_dir = store.data_dir
    hold_job(0)
    n_steps = n_steps_of_a_whole_run("work", data_dir)
    for step in range(1, n_steps + 1, 3):
        hold_job(step)
    store.close()
    noted = run_and_kill("work", data_dir, last_step=n_steps, stride=3)
    succeeded = {int(note[1]) for note in noted if note[2] == "succeeded"}
    with new_store.again(data_dir) as again:
        check_rows_and_objects_belong_together(again)
        for step, job in enumerate(sorted(again.jobs.list(limit=1000), key=lambda job: job.id)[1:]):
            step = 3 * step + 1
            is_over = job.state is JobState.SUCCEEDED
            assert is_over or job.id not in succeeded
            n_results, n_deliveries = len(again.jobs.results(job.id)), len(again.deliveries.list(job_id=job.id))
            n_verdicts, n_tags = len(again.studies.verdicts(f"1.2.{step}")), len(again.studies.tags(f"1.2.{step}"))
            assert (n_results, n_deliveries, n_verdicts, n_tags) == ((1, 2, 1, 1) if is_over else (0, 0, 0, 0))
            if not is_over:
                again.jobs.succeed(job.id, f"w{step}", outcome(step), T0)
            (result,) = again.jobs.results(job.id)
            assert again.objects.read_dataset_bytes(result.digest) == outcome(step).results[0].encoded_dataset


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: os.truncate(path, 0), lambda path: os.truncate(path, 700)]
)
def test_rows_whose_bytes_a_power_failure_took_are_taken_back(
    store: Store, new_store: StoreMaker, damage: Callable[[Path], None]
) -> None:
    """A power failure during the last batch: the index was synced, the file was not."""
    keep(store, instance(1))
    keep(store, instance(2))
    lost = store.series.instances(SERIES)[1]
    data_dir = store.data_dir
    store.close()
    damage(store.objects.path(lost.digest))
    with new_store.again(data_dir) as again:
        assert [row.instance_number for row in again.series.instances(SERIES)] == [1]
        assert again.series.get(SERIES).n_instances == 1
        assert keep(again, instance(2)) is Kept.STORED
        assert again.objects.read_dataset_bytes(lost.digest) == instance(2).encoded


def test_a_disk_that_is_not_mounted_takes_no_row_back(
    tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The index is in PostgreSQL; the node starts before its disk is mounted, and once more with it."""
    node, disk = tmp_path / "node", tmp_path / "disk"
    with Store.open(node, url=url) as store:
        for number in (1, 2, 3):
            keep(store, instance(number))
    node.rename(disk)
    with Store.open(node, url=url) as store:
        assert [row.instance_number for row in store.series.instances(SERIES)] == [1, 2, 3]
    assert "is the disk of node.data_dir mounted" in caplog.text
    shutil.rmtree(node)
    disk.rename(node)
    with Store.open(node, url=url) as store:
        assert store.series.get(SERIES).n_instances == 3
        assert all(store.objects.is_sound(row.digest) for row in store.series.instances(SERIES))


def test_objects_of_another_place_are_told_from_those_of_the_index(tmp_path: Path, url: str) -> None:
    node, disk = tmp_path / "node", tmp_path / "disk"
    with Store.open(node, url=url) as store:
        store.check_same_objects()  # a first start
        for number in (1, 2, 3):
            keep(store, instance(number))
        store.check_same_objects()
    node.rename(disk)
    with Store.open(node, url=url) as store:
        with pytest.raises(ObjectsElsewhereError, match=r"all 3 objects of the index .* mount the disk"):
            store.check_same_objects()
        assert keep(store, instance(1)) is Kept.DUPLICATE  # lost ones are healed one by one
        store.check_same_objects()
    shutil.rmtree(node)
    disk.rename(node)
    with Store.open(node, url=url) as store:
        store.check_same_objects()
        for row in store.series.instances(SERIES):
            store.integrity.set_aside(row.digest)
        store.check_same_objects()  # damaged, but the right disk


def test_a_disk_that_is_mounted_while_the_node_runs_is_noticed(tmp_path: Path, url: str) -> None:
    node, hidden = tmp_path / "node", tmp_path / "hidden"
    disk = tmp_path / "disk"
    with Store.open(disk, url=url):
        pass
    with Store.open(node, url=url) as store:
        keep(store, instance(1))
        node.rename(hidden)
        trouble = intake_trouble(store, T0)
        assert trouble is not None
        assert trouble.code == "data-dir-replaced"
        disk.rename(node)
        with pytest.raises(DataDirReplacedError, match="mount the right disk and restart"):
            keep(store, instance(2))
        trouble = intake_trouble(store, T0)
        assert trouble is not None
        assert trouble.code == "data-dir-replaced"
        assert [row.instance_number for row in store.series.instances(SERIES)] == [1]


def test_a_study_of_which_the_only_instance_was_lost_is_gone(store: Store, new_store: StoreMaker) -> None:
    keep(store, instance(1))
    (lost,) = store.series.instances(SERIES)
    data_dir = store.data_dir
    store.close()
    store.objects.path(lost.digest).unlink()
    with new_store.again(data_dir) as again:
        assert again.series.list() == ()
        with again._database.read() as connection:
            assert connection.execute(sa.select(studies.c.study_instance_uid)).all() == []


def test_what_is_marked_as_unproven_is_the_last_batch_only(store: Store) -> None:
    for number in range(1, 6):
        keep(store, instance(number))
    with store._database.read() as connection:
        marked = connection.execute(sa.select(unproven.c.digest)).scalars().all()
    assert marked == [store.series.instances(SERIES)[-1].digest]


def test_leftovers_of_a_living_process_are_not_swept(store: Store, new_store: StoreMaker) -> None:
    spool = store.objects.spool(sop_class_uid="1.2", sop_instance_uid="1.2.3", transfer_syntax_uid="1.2")
    with new_store.again(store.data_dir):
        assert spool.path.exists()
    spool.discard()


@pytest.mark.parametrize("left", [b"", bytes(1000)])
def test_a_leftover_whose_bytes_a_power_failure_took_keeps_no_store_closed(
    new_store: StoreMaker, tmp_path: Path, left: bytes
) -> None:
    with new_store(tmp_path) as store:
        lost = store.objects.path("a" * 64)
        lost.write_bytes(left)
        (store.objects.spool_folder / "1-lost").hardlink_to(lost)
    with new_store.again(tmp_path) as store:
        assert list(store.objects.spool_folder.iterdir()) == []
        keep(store, instance(1))


@ONLY_SQLITE
def test_a_study_that_is_being_deleted_is_whole_or_has_neither_rows_nor_bytes(
    store: Store, new_store: StoreMaker
) -> None:
    def send(step: int) -> None:
        for sent in sent_in_round(step):
            keep(store, sent)

    data_dir = store.data_dir
    send(0)
    n_steps = n_steps_of_a_whole_run("erase", data_dir)
    rounds = range(1, n_steps + 1, max(3, n_steps // 15))
    for step in rounds:
        send(step)
    store.close()
    run_and_kill("erase", data_dir, last_step=n_steps, stride=rounds.step)
    with new_store.again(data_dir) as again:
        check_rows_and_objects_belong_together(again)
        left = [step for step in rounds if is_there(again, step)]
        assert 0 < len(left) < len(rounds)  # deaths before and after the rows were deleted
        for step in left:
            assert again.erasure.preview(f"1.2.{step}").n_received == 3
            again.erasure.delete(f"1.2.{step}", reason="consent withdrawn", decided_by="Ann", now=T0)
        check_rows_and_objects_belong_together(again)
        assert again.erasure.studies_of("P1") == ()
        assert len(again.audit.list(limit=1000)) == len(rounds) + 1


def is_there(store: Store, step: int) -> bool:
    return f"1.2.{step}" in store.erasure.studies_of("P1")
