"""A study that a person has deleted is gone: rows, bytes, results, conflicts; what stays identifies nobody."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.store import (
    ExportState,
    Kept,
    LeaseLostError,
    NewExport,
    NewResult,
    NewVerdict,
    NotFoundError,
    Outcome,
    Store,
    StudyStanding,
)
from dicom_node.store.schema import metadata
from tests.new_store import StoreMaker
from tests.store.sending import SERIES, STUDY, T0, closing, instance, keep, received_series

SECRETS = (b"Test^Person", b"Other^Name", b"P1", b"Secret description")


def worked_on(store: Store, *, study: str = STUDY, series: str = SERIES) -> int:
    """A study with a conflict, a finished job, all that a job leaves, and an export; returns the job's number."""
    row = received_series(store, n_instances=2, series=series, study=study)
    conflicting = instance(
        1, series=series, study=study, PatientName="Other^Name", StudyDescription="Secret description"
    )
    assert keep(store, conflicting) is Kept.CONFLICT
    assert store.closing.complete(row, closing(), T0)
    job = store.jobs.claim("w", T0, 60, pipeline_digest="d1")
    assert job is not None
    made = instance(7, series=f"{series}.9", study=study)
    new = NewResult(
        "seg", 1, made.arrival.sop_class_uid, made.uid, made.arrival.transfer_syntax_uid, encoded_dataset=made.encoded
    )
    verdict = NewVerdict(1, "defaced", 0.9, (), frozenset(), {})
    outcome = Outcome((new,), (verdict,), {"verdict": "defaced"}, ("pacs",))
    store.jobs.succeed(job.id, "w", outcome, T0)
    new_export = NewExport(study, "2.25.1", "HEADS", "k" * 32, "peer:archive", "f" * 64, "g" * 64, "c" * 64, 3)
    export = store.exports.begin(new_export, lambda *_: True, T0)
    assert export is not None
    with store.exports.publishing(export, lambda *_: True, T0):
        pass
    return job.id


def objects(store: Store) -> set[str]:
    return {path.stem for path in store.objects.folder.rglob("*.dcm")}


def delete(store: Store, study: str = STUDY) -> object:
    return store.erasure.delete(study, reason="consent withdrawn", decided_by="Ann", now=T0)


def test_every_row_and_every_byte_is_gone_and_others_stay(store: Store) -> None:
    worked_on(store, study="1.2.5", series="1.2.5.6")
    others = objects(store)
    worked_on(store)
    assert store.erasure.preview(STUDY) == delete(store)
    assert objects(store) == others
    with pytest.raises(NotFoundError):
        store.studies.get(STUDY)
    assert store.studies.get("1.2.5")
    assert len(store.jobs.list()) == 1
    with pytest.raises(NotFoundError):
        delete(store)


def test_no_table_names_it_but_the_audit_trail_and_the_exports(store: Store) -> None:
    job_id = worked_on(store)
    delete(store)
    named: set[str] = set()
    with store._database.read() as connection:
        for table in metadata.sorted_tables:
            for row in connection.execute(sa.select(table)):
                if any(str(value).startswith(STUDY) or STUDY in str(value) for value in row):
                    named.add(table.name)
                assert getattr(row, "job_id", None) != job_id
    assert named == {"audit", "exports"}
    (entry, *_) = store.audit.list()
    assert (entry.action, entry.actor, entry.subject) == ("study-deleted", "Ann", STUDY)
    assert entry.detail == {"reason": "consent withdrawn", "n_received": 2, "n_results": 1, "n_conflicts": 1}


def test_the_exports_count_as_withdrawn_so_that_people_can_be_told(store: Store) -> None:
    worked_on(store)
    delete(store)
    (row,) = store.exports.list(study_instance_uids=[STUDY])
    assert (row.state, row.copy_study_instance_uid, row.target) == (ExportState.WITHDRAWN, "2.25.1", "peer:archive")
    assert row.withdrawn_because == "the study was deleted on a person's request"


def test_no_file_of_the_node_holds_a_value_of_the_patient(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        worked_on(store)
        assert held_in(tmp_path)
        delete(store)
    with sqlite3.connect(tmp_path / "index.sqlite") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert held_in(tmp_path) == set()


def held_in(folder: Path) -> set[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.name for path in files for secret in SECRETS if secret in path.read_bytes()}


def test_a_job_that_runs_meanwhile_cannot_bring_results_back(store: Store) -> None:
    row = received_series(store)
    store.closing.complete(row, closing(), T0)
    job = store.jobs.claim("w", T0, 60, pipeline_digest="d1")
    assert job is not None
    delete(store)
    with pytest.raises((LeaseLostError, NotFoundError)):
        store.jobs.succeed(job.id, "w", Outcome(), T0)
    assert objects(store) == set()


def test_a_system_that_was_told_of_a_clearance_is_told_that_the_study_is_open(store: Store) -> None:
    worked_on(store)
    standing = StudyStanding("cleared", "rules", {"defaced": 1}, "f" * 64, "g" * 64)
    store.announcements.announce(lambda *_: standing, ["orthanc"], T0)
    delete(store)
    assert [one.state for one in store.announcements.of(STUDY)] == ["open", "cleared"]
    due = store.notices.claim_due("orthanc", "w", T0, 60, describe=lambda *_: standing, targets=["orthanc"])
    assert due is not None
    assert due[1].state == "open"


def test_what_is_sent_again_is_received_again(store: Store) -> None:
    worked_on(store)
    delete(store)
    assert keep(store, instance(1)) is Kept.STORED


def test_a_crash_between_rows_and_files_leaves_no_bytes_after_the_next_start(
    new_store: StoreMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new_store(tmp_path) as store:
        worked_on(store)
        monkeypatch.setattr(type(store.objects), "remove", killed)
        links = monkeypatch.context()
        with links as patched:
            patched.setattr(Path, "unlink", lambda *_, **__: None)  # a process that is killed removes no links
            with pytest.raises(KeyboardInterrupt):
                delete(store)
    monkeypatch.undo()
    assert held_in(tmp_path / "objects")
    with new_store.again(tmp_path):
        pass
    assert held_in(tmp_path / "objects") == set()


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_content_that_was_chosen_goes_with_its_study(store: Store) -> None:
    worked_on(store)
    store.conflicts.adopt([store.series.conflicts()[0].id], reason="why", decided_by="Ann", now=T0)
    delete(store)
    assert objects(store) == set()
    assert store.erasure.studies_of("P1") == ()
