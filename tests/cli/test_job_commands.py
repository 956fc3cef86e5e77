"""Listing, explaining, retrying and cancelling jobs, and the node's state."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from pydicom.uid import ExplicitVRLittleEndian
from typer.testing import Result

from dicom_node.store import JobRow, JobState, NewResult, NewVerdict, Outcome, Skip, Store, StudyState, Task
from tests.factories import SyntheticSeries, mr_series
from tests.store.sending import closing, encode

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)

Run = Callable[..., Result]


def delivery_of_a_result(config: Path) -> int:
    """Finish the queued job with one result, bound for ``pacs``."""
    ds = mr_series(n_slices=1).datasets()[0]
    result = NewResult(
        "seg", 1, ds.SOPClassUID, ds.SOPInstanceUID, ExplicitVRLittleEndian, encode(ds, ExplicitVRLittleEndian)
    )
    with Store.open(config.parent / "data") as store:
        job = store.jobs.claim("worker-1", NOON, 60.0, pipeline_digest="0" * 64)
        assert job is not None
        store.jobs.succeed(job.id, "worker-1", Outcome((result,), deliver_to=("pacs",)), NOON)
        (delivery,) = store.deliveries.list()
    return delivery.id


def job_state(config: Path, job_id: int) -> JobState:
    with Store.open(config.parent / "data") as store:
        return store.jobs.get(job_id).state


def test_a_dead_job_is_listed_with_its_reason(run: Run, config: Path, dead_job: JobRow) -> None:
    result = run("jobs", "list", "-c", config, "--state", "dead")

    assert result.exit_code == 0
    header, line = result.stdout.splitlines()
    assert header.split()[:2] == ["JOB", "STATE"]
    assert line.split()[:2] == [str(dead_job.id), "dead"]
    assert dead_job.series_instance_uid in line
    assert line.endswith("slice-gap")


def test_a_state_that_no_job_is_in_gives_an_empty_list(run: Run, config: Path, dead_job: JobRow) -> None:
    assert run("jobs", "list", "-c", config, "--state", "succeeded").stdout == "no jobs\n"


def test_an_unknown_state_is_a_usage_error_that_names_the_known_ones(run: Run, config: Path, dead_job: JobRow) -> None:
    result = run("jobs", "list", "-c", config, "--state", "ded")

    assert result.exit_code == 2
    assert "known states: queued, running, waiting, succeeded, dead" in result.stderr


def test_a_job_is_explained_with_its_history(run: Run, config: Path, dead_job: JobRow) -> None:
    result = run("jobs", "show", dead_job.id, "-c", config)

    assert result.exit_code == 0
    assert "slice-gap: step after slice 2 is 6.00 mm, expected 3.00 mm" in result.stdout
    assert [word for word in ("queued", "claimed", "failed") if word not in result.stdout] == []
    assert [line.split(":")[1].strip() for line in result.stdout.splitlines()[4:8]] == [
        "1",
        "everything",
        "first",
        "pacs",
    ]
    assert "rule everything; quiet" in result.stdout  # why it was queued


def test_a_running_job_says_what_it_does(
    run: Run, config: Path, dead_job: JobRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(dead_job.id, "segment foreground", 0.4, dead_job.queued_at)
    monkeypatch.setattr(Store, "task_of", lambda *_: task)
    assert "segment foreground, 40 %" in run("jobs", "show", dead_job.id, "-c", config).stdout


def test_json_holds_the_same_for_programs(run: Run, config: Path, dead_job: JobRow) -> None:
    (listed,) = json.loads(run("jobs", "list", "-c", config, "--json").stdout)
    shown = json.loads(run("jobs", "show", dead_job.id, "-c", config, "--json").stdout)

    assert listed == shown["job"]
    assert listed["state"] == "dead"
    assert listed["queued_at"] == "2026-03-04T12:00:00+00:00"
    assert next(event["event"] for event in shown["events"]) == "queued"


def test_retry_queues_a_dead_job_and_cancel_stops_it(run: Run, config: Path, dead_job: JobRow) -> None:
    assert run("jobs", "retry", dead_job.id, "-c", config).stdout == f"job {dead_job.id} is queued\n"
    assert job_state(config, dead_job.id) is JobState.QUEUED

    assert run("jobs", "cancel", dead_job.id, "-c", config).stdout == f"job {dead_job.id} is cancelled\n"
    assert job_state(config, dead_job.id) is JobState.CANCELLED


def test_cancelling_and_retrying_a_job_judges_its_study_anew(run: Run, config: Path, queued_job: JobRow) -> None:
    def study_state() -> StudyState:
        with Store.open(config.parent / "data") as store:
            return store.studies.get(queued_job.study_instance_uid).state

    rules = config.parent / "rules.yaml"
    rules.write_text("series: [{name: all, action: process}]\nstudy: {failed: blocked, unfinished: review}\n")
    config.write_text(config.read_text() + f"rules: {rules}\n")
    run("jobs", "cancel", queued_job.id, "-c", config)
    assert study_state() is StudyState.BLOCKED
    run("jobs", "retry", queued_job.id, "-c", config)
    assert study_state() is StudyState.REVIEW


def test_a_job_that_cannot_be_retried_says_why_and_stays(run: Run, config: Path, queued_job: JobRow) -> None:
    run("jobs", "cancel", queued_job.id, "-c", config)

    result = run("jobs", "cancel", queued_job.id, "-c", config)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: job {queued_job.id}: is cancelled")
    assert "Traceback" not in result.stderr


def test_an_unknown_job_is_an_error_on_one_line(run: Run, config: Path, queued_job: JobRow) -> None:
    result = run("jobs", "show", 999, "-c", config)

    assert (result.exit_code, result.stderr) == (2, "error: job 999: not in the index\n")


def test_status_counts_and_names_what_is_dead(run: Run, config: Path, dead_job: JobRow) -> None:
    result = run("status", "-c", config)

    assert result.exit_code == 3  # nothing runs
    assert "work: does not run; start it with `dicom-node serve` [down]" in result.stdout
    assert "jobs:       1 dead" in result.stdout
    assert f"dicom-node jobs retry {dead_job.id} -c {config}" in result.stdout
    assert "not listening (127.0.0.1:1)" in result.stdout


def test_status_says_how_many_dead_jobs_it_does_not_show(
    run: Run, config: Path, dead_job: JobRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.cli.node_state.N_DEAD_SHOWN", 0)

    result = run("status", "-c", config)

    assert f"jobs retry {dead_job.id}" not in result.stdout
    assert f"1 more dead jobs: dicom-node jobs list --state dead -c {config}" in result.stdout


def test_status_sees_a_port_that_answers(run: Run, config: Path, queued_job: JobRow) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = yaml.safe_load(config.read_text())
        settings["dimse"]["port"] = listener.getsockname()[1]
        config.write_text(yaml.safe_dump(settings))

        state = json.loads(run("status", "-c", config, "--json").stdout)

    assert state["dimse"]["answers"] is True
    assert state["web"]["answers"] is False
    assert state["jobs"]["queued"] == 1
    assert state["series"]["complete"] == 1


def test_no_deliveries_are_an_empty_list(run: Run, config: Path, queued_job: JobRow) -> None:
    assert run("deliveries", "list", "-c", config).stdout == "no deliveries\n"
    for command in ("retry", "cancel"):
        assert run("deliveries", command, 1, "-c", config).stderr == "error: delivery 1: not in the index\n"


def test_a_delivery_that_is_cancelled_stays_so_until_it_is_retried(run: Run, config: Path, queued_job: JobRow) -> None:
    delivery_id = delivery_of_a_result(config)

    assert run("deliveries", "cancel", delivery_id, "-c", config).stdout == "delivery 1 to pacs is cancelled\n"
    assert run("deliveries", "cancel", delivery_id, "-c", config).exit_code == 2
    assert run("deliveries", "retry", delivery_id, "-c", config).stdout == "delivery 1 to pacs is queued\n"


def test_a_series_without_a_job_says_where_it_is(run: Run, config: Path, queued_job: JobRow) -> None:
    uid = queued_job.series_instance_uid
    with Store.open(config.parent / "data") as store:
        store.closing.reopen(uid, NOON)

    def listed(series: str) -> str:
        return run("jobs", "list", "--state", "queued", "--series", series, "-c", config).stdout

    assert listed(uid) == "no jobs; the series is receiving\n"
    with Store.open(config.parent / "data") as store:
        assert store.closing.complete(store.series.get(uid), closing(Skip("rule-scout: too few slices")), NOON)
    assert listed(uid) == "no jobs; the series is skipped (rule-scout: too few slices)\n"
    assert listed("1.2.3") == "no jobs; no instance of this series has arrived\n"


def test_a_job_shows_its_own_verdict_and_none_of_a_later_generation(run: Run, config: Path, queued_job: JobRow) -> None:
    with Store.open(config.parent / "data") as store:
        uid = queued_job.series_instance_uid
        store.closing.reopen(uid, NOON)
        store.closing.complete(store.series.get(uid), closing(digest="0" * 64), NOON)
        later = store.jobs.claim("worker-1", NOON, 60.0, pipeline_digest="0" * 64)
        assert later is not None
        store.jobs.succeed(
            later.id, "worker-1", Outcome(verdicts=(NewVerdict(1, "defaced", 0.9, (), frozenset(), {}),)), NOON
        )

    assert "verdict defaced" in run("jobs", "show", later.id, "-c", config).stdout
    assert "verdict" not in run("jobs", "show", queued_job.id, "-c", config).stdout


def test_a_result_that_was_replaced_says_by_what(run: Run, config: Path, queued_job: JobRow) -> None:
    delivery_of_a_result(config)
    with Store.open(config.parent / "data") as store:
        uid = queued_job.series_instance_uid
        store.closing.reopen(uid, NOON)
        store.closing.complete(store.series.get(uid), closing(digest="0" * 64), NOON)
        later = store.jobs.claim("worker-1", NOON, 60.0, pipeline_digest="0" * 64)
        assert later is not None
        store.jobs.succeed(later.id, "worker-1", Outcome(), NOON)

    shown = run("jobs", "show", queued_job.id, "-c", config).stdout

    assert f", replaced by job {later.id}\n" in shown
    assert "to pacs: superseded" in shown


def test_asking_makes_no_store(run: Run, config: Path) -> None:
    result = run("status", "-c", config)

    assert result.exit_code == 2
    assert "no node has run with these settings" in result.stderr
    assert not (config.parent / "data").exists()


def test_no_command_shows_patient_names(run: Run, config: Path, dead_job: JobRow, series: SyntheticSeries) -> None:
    name = str(series.datasets()[0].PatientName)
    assert name

    for arguments in (("jobs", "list"), ("jobs", "show", dead_job.id, "--json"), ("status", "--json")):
        assert name not in run(*arguments, "-c", config).stdout


def test_a_delivered_result_is_sent_again(run: Run, config: Path, queued_job: JobRow) -> None:
    delivery_id = delivery_of_a_result(config)
    assert run("deliveries", "send-again", delivery_id, "-c", config).stderr.startswith(
        "error: delivery 1: not sent again: it is queued"
    )
    with Store.open(config.parent / "data") as store:
        store.deliveries.claim_due("w", NOON, 60.0)
        store.deliveries.succeed(delivery_id, "w", NOON)
    again = "delivery 1 to pacs is sent again as delivery 2\n"
    assert run("deliveries", "send-again", "--job", queued_job.id, "-c", config).stdout == again
    assert run("deliveries", "send-again", "--job", queued_job.id, "-c", config).stdout.startswith("nothing that was")
    assert run("deliveries", "send-again", "-c", config).exit_code == 2
    listed = run("deliveries", "list", "-c", config).stdout
    assert "succeeded, again: 2" in listed
