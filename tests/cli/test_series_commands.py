"""Listing, completing and reprocessing series."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from pydicom import dcmread
from typer.testing import Result

from dicom_node import app
from dicom_node.gate.judging import study_decision
from dicom_node.gate.rules import StudyRules
from dicom_node.pipeline_digest import pipeline_digest
from dicom_node.settings import load_settings
from dicom_node.store import JobRow, Kept, NewVerdict, Outcome, Route, SeriesRow, SeriesState, Skip, Store
from inference.segment import load_models
from tests.arrivals import NOON, receive
from tests.factories import SyntheticSeries, ct_series
from tests.store.sending import ROUTE, closing
from tests.tiny_models import write_tiny_model

Run = Callable[..., Result]


@pytest.fixture
def receiving(config: Path, series: SyntheticSeries) -> SyntheticSeries:
    """A series has arrived and is not closed."""
    with Store.open(config.parent / "data") as store:
        receive(store, series)
    return series


def stored(config: Path, uid: str) -> SeriesRow:
    with Store.open(config.parent / "data") as store:
        return store.series.get(uid)


def close(config: Path, uid: str, decision: Route | Skip, digest: str) -> None:
    with Store.open(config.parent / "data") as store:
        decided = closing(decision, digest=digest, because="no instance for 30 s")
        assert store.closing.complete(store.series.get(uid), decided, NOON)


def test_series_are_listed_with_what_is_known_of_them(run: Run, config: Path, queued_job: JobRow) -> None:
    uid = queued_job.series_instance_uid
    with Store.open(config.parent / "data") as store:
        store.closing.reopen(uid, NOON)
    close(config, uid, Skip("rule-scout: too few slices"), "d1")

    header, line = run("series", "list", "-c", config).stdout.splitlines()

    assert header.split()[:2] == ["SERIES", "STATE"]
    assert line.split()[:4] == [uid, "skipped", "2", "3"]
    assert line.endswith("rule-scout: too few slices")
    assert run("series", "list", "--state", "receiving", "-c", config).stdout == "no series\n"
    assert "known states: receiving, complete" in run("series", "list", "--state", "x", "-c", config).stderr
    (listed,) = json.loads(run("series", "list", "--json", "-c", config).stdout)
    assert listed["complete_because"] == "no instance for 30 s"


def test_conflicts_are_listed_with_the_files_of_both_contents(
    run: Run, config: Path, receiving: SyntheticSeries
) -> None:
    assert run("series", "conflicts", "-c", config).stdout == "no conflicts\n"
    corrected = receiving[0].edited(lambda ds: setattr(ds, "SeriesDescription", "corrected"))
    with Store.open(config.parent / "data") as store:
        receive(store, [corrected], expected=Kept.CONFLICT)

    header, line = run("series", "conflicts", "-c", config).stdout.splitlines()

    names = ["ID", "RECEIVED", "INSTANCE", "FROM", "REASON", "DIFFERS", "SETTLED"]
    assert header.split() == [*names, "OTHER", "FILE", "INSTANCE", "FILE"]
    later, first = (dcmread(path) for path in line.split()[-2:])
    assert line.split()[-7:-2] == [
        corrected.dataset().SOPInstanceUID,
        "CT1",
        "other-bytes",
        "SeriesDescription",
        "-",
    ]
    assert later == corrected.dataset()
    assert first == receiving[0].dataset()
    (listed,) = json.loads(run("series", "conflicts", "--json", "-c", config).stdout)
    assert listed["differences"] == ["SeriesDescription"]
    assert Path(listed["other_file"]).is_file()
    assert Path(listed["instance_file"]).is_file()


def test_a_person_keeps_or_adopts_a_content(run: Run, config: Path, receiving: SyntheticSeries) -> None:
    uid = receiving.series_instance_uid
    corrected = [one.edited(lambda ds: setattr(ds, "PatientName", "Right^Name")) for one in receiving[:2]]
    with Store.open(config.parent / "data") as store:
        receive(store, corrected, expected=Kept.CONFLICT)
    who = ("--reason", "corrected name", "--by", "Ann", "-c", config)
    assert run("series", "conflicts", "keep", 1, *who).stdout == "conflict 1: the instance stays what it is\n"
    assert run("series", "conflicts", "keep", 1, *who).stdout == "conflict 1: settled before\n"
    adopted = run("series", "conflicts", "adopt", "--series", uid, *who).stdout
    assert adopted == f"1 contents adopted\nseries {uid} starts over as generation 1\n"
    assert [one["choice"] for one in json.loads(run("series", "conflicts", "--json", "-c", config).stdout)] == [
        "adopted",
        "kept",
    ]
    assert run("series", "conflicts", "adopt", 99, *who).exit_code == 2
    assert run("series", "conflicts", "adopt", "--series", uid, *who).exit_code == 2
    assert run("series", "conflicts", "keep", 1, "--reason", " ", "--by", "Ann", "-c", config).exit_code == 2
    assert run("series", "conflicts", "keep", 1, "--series", uid, *who).exit_code == 2


def test_a_series_that_waits_says_for_what(run: Run, config: Path, receiving: SyntheticSeries) -> None:
    uid = receiving.series_instance_uid
    with Store.open(config.parent / "data") as store:
        store.series.note_wait(store.series.get(uid), "pacs has 4 instances, 3 are here")

    assert "waits: pacs has 4 instances, 3 are here" in run("series", "list", "-c", config).stdout
    listed = run("jobs", "list", "--series", uid, "-c", config).stdout
    assert listed == "no jobs; the series is receiving (pacs has 4 instances, 3 are here)\n"


def test_a_series_can_be_called_complete(run: Run, config: Path, receiving: SyntheticSeries) -> None:
    uid = receiving.series_instance_uid

    result = run("series", "complete", uid, "-c", config)

    assert (result.exit_code, result.stdout) == (0, f"series {uid} counts as complete with 3 instances\n")
    assert stored(config, uid).forced_at is not None


def test_a_closed_series_cannot_be_completed(run: Run, config: Path, queued_job: JobRow) -> None:
    uid = queued_job.series_instance_uid

    result = run("series", "complete", uid, "-c", config)

    assert result.exit_code == 3
    assert result.stderr == f"error: series {uid}: is complete, not receiving; there is nothing to complete\n"
    assert run("series", "complete", "1.2.3", "-c", config).stderr == "error: series 1.2.3: not in the index\n"


def test_a_closed_series_starts_over_and_one_that_is_receiving_does_not(
    run: Run, config: Path, queued_job: JobRow
) -> None:
    uid = queued_job.series_instance_uid

    assert run("series", "reprocess", uid, "-c", config).stdout == f"series {uid} starts over as generation 2\n"
    assert stored(config, uid).state is SeriesState.RECEIVING
    again = run("series", "reprocess", uid, "-c", config)
    assert (again.exit_code, again.stderr) == (
        3,
        f"error: series {uid}: is receiving; only closed series that were received start over\n",
    )


def test_all_that_other_models_or_rules_closed_start_over_and_nothing_else(
    run: Run, config: Path, tmp_path: Path
) -> None:
    settings = yaml.safe_load(config.read_text())
    settings["models"] = {
        role: str(write_tiny_model(tmp_path / role, role, above=0.0)) for role in ("foreground", "anonymized")
    }
    config.write_text(yaml.safe_dump(settings))
    digest = app.current_pipeline_digest(load_settings(config, {}))
    uids = {}
    for name, closed_for, plan in (
        ("current", digest, ROUTE),
        ("outdated", "d1", ROUTE),
        ("skipped", "d1", Skip("no-rule: no rule takes it")),
    ):
        each = ct_series(n_slices=1, rows=4, columns=4, seed=name)
        with Store.open(config.parent / "data") as store:
            receive(store, each)
        uids[name] = each.series_instance_uid
        close(config, each.series_instance_uid, plan, closed_for)

    result = run("series", "reprocess", "--all-outdated", "-c", config)

    assert result.exit_code == 0
    assert {line.split()[1] for line in result.stdout.splitlines()} == {uids["outdated"], uids["skipped"]}
    assert stored(config, uids["current"]).state is SeriesState.COMPLETE
    assert run("series", "reprocess", "--all-outdated", "-c", config).stdout == "no series is outdated\n"


def test_the_digest_of_now_is_the_one_that_a_worker_has(config: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load(config.read_text())
    settings["models"] = {
        role: str(write_tiny_model(tmp_path / role, role, above=0.0)) for role in ("foreground", "anonymized")
    }
    config.write_text(yaml.safe_dump(settings))
    loaded = load_settings(config, {})

    models = load_models(*app.read_models(loaded), device="cpu")

    assert app.current_pipeline_digest(loaded) == pipeline_digest(models.identities, app.read_rules(loaded).digest)


def test_it_must_be_said_which_series_start_over(run: Run, config: Path, queued_job: JobRow) -> None:
    for arguments in ((), ("1.2.3", "--all-outdated")):
        result = run("series", "reprocess", *arguments, "-c", config)
        assert result.exit_code == 2
        assert "either Series Instance UIDs or --all-outdated" in result.stderr


def test_the_report_of_a_series_is_shown_as_text_and_as_json(run: Run, config: Path, queued_job: JobRow) -> None:
    uid = queued_job.series_instance_uid
    none = run("series", "report", uid, "-c", config)
    assert (none.exit_code, none.stdout) == (3, "")
    assert f"series {uid}: has no report; `dicom-node jobs list --series {uid}`" in none.stderr
    found = {"series_instance_uid": uid, "verdict": "face_present", "probability": 0.75, "reasons": ["face in view"]}
    with Store.open(config.parent / "data") as store:
        job = store.jobs.claim("w", NOON, 60, pipeline_digest=queued_job.pipeline_digest)
        assert job is not None
        outcome = Outcome(verdicts=(NewVerdict(1, "face_present", 0.75, ("face in view",), frozenset(), found),))
        store.jobs.succeed(job.id, "w", outcome, NOON, decide_study=study_decision(StudyRules()))
    said = run("series", "report", uid, "-c", config)
    assert said.exit_code == 0
    assert said.stdout.splitlines()[1:] == [
        "  verdict: face_present (a face is present), probability 0.75",
        "  because: face in view",
    ]
    assert json.loads(run("series", "report", uid, "--json", "-c", config).stdout) == [found]
    unknown = run("series", "report", "1.2.3.404", "-c", config)
    assert unknown.exit_code != 0
    assert "1.2.3.404" in unknown.stderr
