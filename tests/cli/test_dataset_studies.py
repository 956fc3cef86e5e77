"""``dicom-node dataset --studies cleared``: exit codes, and what a person reads."""

from __future__ import annotations

import getpass
import json
from pathlib import Path

import pytest

from dicom_node import app
from dicom_node.gate.withdrawals import withdraw_exports
from dicom_node.settings import load_settings
from dicom_node.store import DecisionKind, Store
from tests.cleared_datasets.conftest import receive_and_look, study_of
from tests.cli.conftest import Run
from tests.export.clearing import NAMES, NOW, TERMS, say
from tests.new_store import NewStore

CLEARED, BLOCKED = study_of("cleared"), study_of("blocked", "face")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "study.key"
    path.write_bytes(NAMES.key)
    path.chmod(0o600)
    return path


@pytest.fixture
def filled(config: Path, new_store: NewStore, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings of a node with a cleared and a blocked study."""
    digest = app.current_pipeline_digest(load_settings(config, {}))
    with new_store(config.parent / "data") as store:
        receive_and_look(store, monkeypatch, (CLEARED, BLOCKED), digest=digest)
    return config


def test_a_node_becomes_a_dataset_and_the_list_of_exports_shows_it(run: Run, filled: Path, key: Path) -> None:
    out = filled.parent / "heads"
    command = ("dataset", "--studies", "cleared", "-c", filled, "--project", "HEADS", "--key-file", key, "-o", out)

    done = run(*command)

    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "1 × exported",
        "1 × not-cleared",
        "  1 × blocked: 1 of 1 series face present",
        f"1 volumes of 1 subjects in {out} (1 new), 0 refused; see index.html",
    ]
    listed = run("exports", "list", "-c", filled).stdout
    assert f"dataset:{out}" in listed
    assert CLEARED.study_instance_uid in listed
    told = run("audit", "list", "--what", "exported", "--json", "-c", filled).stdout
    assert [entry["actor"] for entry in json.loads(told)] == [getpass.getuser()]
    assert "1 × exported · 1 × not-cleared" in (out / "index.html").read_text()

    assert run("dataset", "--check", "-o", out, "-c", filled).stdout == "1 volumes, 0 faults\n"

    cohort = filled.parent / "cohort.txt"
    cohort.write_text(f"{CLEARED.study_instance_uid}\n{BLOCKED.study_instance_uid}\n")
    asked = run(*command, "--cohort", cohort)
    assert asked.exit_code == 3
    assert f"1 × not-cleared\n    {BLOCKED.study_instance_uid}\n" in asked.stdout

    with Store.open(filled.parent / "data") as store:
        say(store, CLEARED, DecisionKind.HOLD)
        withdraw_exports(store, TERMS.digest, TERMS.rules, NOW)  # as the running node does
    checked = run("dataset", "--check", "-o", out, "-c", filled)
    assert checked.exit_code == 3
    assert (
        f"study {NAMES.mapped_uid(CLEARED.study_instance_uid)}: withdrawn (a person holds the study)" in checked.stderr
    )
    held = run(*command)
    assert held.exit_code == 3
    assert "1 studies that were in it may no longer be used" in held.stdout


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "--studies cleared"),
        (("--studies", "cleared"), "needs --project and --key-file"),
        (("--studies", "cleared", "."), "leave folders out"),
        ((".", "--project", "HEADS"), "is for --studies"),
        (("--studies", "blocked"), "blocked"),
    ],
)
def test_options_that_do_not_go_together_are_refused(run: Run, tmp_path: Path, options: tuple, told: str) -> None:
    result = run("dataset", *options, "-o", tmp_path / "out")

    assert result.exit_code == 2
    assert told in result.output
    assert not (tmp_path / "out").exists()
