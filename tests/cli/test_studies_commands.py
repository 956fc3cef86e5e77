"""``dicom-node studies``: what research IT types."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timedelta
from pathlib import Path

from dicom_node.store import JobRow
from tests.cli.conftest import Run


def test_a_study_is_listed_decided_and_its_history_shown(run: Run, config: Path, queued_job: JobRow) -> None:
    (study,) = json.loads(run("studies", "list", "--json", "-c", config).stdout)
    uid = study["study_instance_uid"]
    assert (study["state"], study["series"][0]["standing"]) == ("open", "unfinished")
    refused = run("studies", "decide", uid, "--release", "--reason", "why", "--by", "Ann", "-c", config)
    assert refused.exit_code == 2
    assert f"error: study {uid}: is open" in refused.stderr
    held = run("studies", "decide", uid, "--hold", "--reason", "consent withdrawn", "--by", "Ann", "-c", config)
    assert held.exit_code == 0
    (study,) = json.loads(run("studies", "list", "--state", "held", "--json", "-c", config).stdout)
    assert study["reason"] == "held by Ann: consent withdrawn"
    assert run("studies", "list", "--state", "cleared", "-c", config).stdout == "no studies\n"
    assert "consent withdrawn" in run("studies", "history", uid, "-c", config).stdout
    assert "held by Ann" in run("studies", "show", uid, "-c", config).stdout


def test_a_decision_is_one_of_three_and_a_state_one_of_five(run: Run, config: Path, queued_job: JobRow) -> None:
    both = run("studies", "decide", "1.2", "--release", "--hold", "--reason", "why", "--by", "Ann", "-c", config)
    assert "say one of the three" in both.stderr
    assert "open, blocked, review, cleared, held" in run("studies", "list", "--state", "fine", "-c", config).stderr
    assert "study 1.2: not in the index" in run("studies", "show", "1.2", "-c", config).stderr


def test_the_states_are_written_as_csv(run: Run, config: Path, queued_job: JobRow) -> None:
    uid = queued_job.study_instance_uid
    why = 'consent "withdrawn", see file'
    assert run("studies", "decide", uid, "--hold", "--reason", why, "--by", "Ann", "-c", config).exit_code == 0
    text = run("studies", "list", "--csv", "-c", config).stdout
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["study_instance_uid"], row["state"], row["reason"]) == (uid, "held", f"held by Ann: {why}")
    assert (row["is_released"], row["judged_at"]) == ("False", "")
    assert datetime.fromisoformat(row["last_arrival_at"]).utcoffset() == timedelta(0)
    assert "say one of the two" in run("studies", "list", "--csv", "--json", "-c", config).stderr
