"""``dicom-node notices``, and what `status` and `check-config` say about them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from dicom_node.gate.rules import StudyRules
from dicom_node.gate.standing import study_standing
from dicom_node.store import JobRow, Store
from tests.cli.conftest import NOON, Run

TARGETS = [
    {"name": "pacs", "kind": "orthanc", "url": "http://127.0.0.1:9", "user": "node", "password_env": "PACS_PASSWORD"},
    {"name": "hook", "kind": "webhook", "url": "http://127.0.0.1:9/a-secret?b=c", "secret_env": "HOOK_SECRET"},
]


@pytest.fixture
def study(config: Path, queued_job: JobRow) -> str:
    """A study that the webhook knows, and that Orthanc refused; the store is closed again."""
    settings = yaml.safe_load(config.read_text()) | {"notify": TARGETS}
    config.write_text(yaml.safe_dump(settings))
    describe = study_standing(StudyRules(), "0" * 64)
    names = ["pacs", "hook"]
    with Store.open(config.parent / "data") as store:
        store.announcements.announce(describe, names, NOON)
        for name in names:
            claimed = store.notices.claim_due(name, "w", NOON, 60.0, describe=describe, targets=names)
            assert claimed is not None
            if name == "hook":
                store.notices.succeed(claimed[0], claimed[1].state, NOON)
            else:
                store.notices.fail(claimed[0], code="metadata-unknown", message="made up", retry_at=None)
    return queued_job.study_instance_uid


def test_notices_are_listed_with_what_was_told_and_retried(run: Run, config: Path, study: str) -> None:
    rows = {row["target"]: row for row in json.loads(run("notices", "list", "--json", "-c", config).stdout)}
    assert (rows["hook"]["state"], rows["hook"]["told_state"]) == ("succeeded", "open")
    assert (rows["pacs"]["state"], rows["pacs"]["told_state"]) == ("dead", None)
    table = run("notices", "list", "--target", "pacs", "--study", study, "-c", config).stdout
    assert "metadata-unknown: made up" in table
    assert "hook" not in table
    assert "is queued" in run("notices", "retry", rows["hook"]["id"], "-c", config).stdout
    assert run("notices", "retry", "--target", "pacs", "-c", config).stdout == "1 notices to pacs are queued\n"
    assert run("notices", "list", "--state", "dead", "-c", config).stdout == "no notices\n"


@pytest.mark.parametrize("arguments", [(), (1, "--target", "pacs")])
def test_either_numbers_or_a_target_are_retried(
    arguments: tuple[object, ...], run: Run, config: Path, study: str
) -> None:
    assert "say one of the two" in run("notices", "retry", *arguments, "-c", config).stderr


def test_the_history_of_a_study_says_who_was_told(run: Run, config: Path, study: str) -> None:
    history = json.loads(run("notices", "history", study, "--json", "-c", config).stdout)
    assert [row["state"] for row in history["states"]] == ["open"]
    assert [(row["detail"]["target"], row["detail"]["state"]) for row in history["told"]] == [("hook", "open")]
    assert "open" in run("notices", "history", study, "-c", config).stdout
    assert "announced study 1.2: not in the index" in run("notices", "history", "1.2", "-c", config).stderr


def test_status_counts_notices_and_says_how_to_retry_dead_ones(run: Run, config: Path, study: str) -> None:
    state = json.loads(run("status", "--json", "-c", config).stdout)
    assert state["notices"] == {"dead": 1, "succeeded": 1}
    (dead,) = state["dead_notices"]
    shown = run("status", "-c", config).stdout
    assert f"dicom-node notices retry {dead['id']} -c {config}" in shown
    assert "about study " + study in shown


def test_check_config_names_targets_and_missing_variables_but_no_secret(
    run: Run, config: Path, study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACS_PASSWORD", "x")
    monkeypatch.delenv("HOOK_SECRET", raising=False)
    shown = run("check-config", "-c", config).stdout
    assert "target hook: webhook at http://127.0.0.1:9," in shown
    assert "a-secret" not in shown
    assert "notify: hook needs environment variable HOOK_SECRET (secret_env), which is not set here" in shown
    assert "PACS_PASSWORD" not in shown
