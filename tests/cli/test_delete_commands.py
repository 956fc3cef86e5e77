"""``studies delete`` and ``patients delete``: what they say, ask for and leave."""

from __future__ import annotations

import json
from pathlib import Path

from dicom_node.store import NewExport, Store
from tests.cli.conftest import Run
from tests.store.sending import T0, received_series

WHO = ("--reason", "consent withdrawn", "--by", "Ann")


def fill(config: Path) -> None:
    with Store.open(config.parent / "data") as store:
        for number in (1, 2):
            received_series(store, study=f"1.2.{number}", series=f"1.2.{number}.1")
        new = NewExport("1.2.1", "2.25.77", "HEADS", "k" * 32, "peer:archive", "f" * 64, "g" * 64, "c" * 64, 3)
        assert store.exports.begin(new, lambda *_: True, T0)


def n_studies(run: Run, config: Path) -> int:
    return len(json.loads(run("studies", "list", "--json", "-c", config).stdout))


def test_a_study_is_deleted_and_those_who_have_its_copy_are_named(run: Run, config: Path) -> None:
    fill(config)
    planned = run("studies", "delete", "1.2.1", *WHO, "--dry-run", "-c", config)
    assert "study 1.2.1: 3 received instances, 0 conflicting contents and 0 results would be deleted" in planned.stdout
    assert n_studies(run, config) == 2
    done = run("studies", "delete", "1.2.1", *WHO, "-c", config)
    assert "were deleted" in done.stdout
    assert "exported before; tell those who have the copy:" in done.stdout
    assert done.stdout.splitlines()[-1].split()[:4] == ["2.25.77", "HEADS", "peer:archive", "withdrawn"]
    assert n_studies(run, config) == 1
    listed = run("exports", "list", "--withdrawn", "-c", config).stdout
    assert "the study was deleted on a person's request" in listed
    assert run("studies", "delete", "1.2.1", *WHO, "-c", config).exit_code == 2


def test_a_patient_is_deleted_with_every_study(run: Run, config: Path) -> None:
    fill(config)
    assert run("patients", "delete", "P1", *WHO, "--dry-run", "-c", config).stdout.count("would be deleted") == 2
    assert run("patients", "delete", "P1", *WHO, "-c", config).stdout.count("were deleted") == 2
    assert n_studies(run, config) == 0
    again = run("patients", "delete", "P1", *WHO, "-c", config)
    assert (again.exit_code, "no study has this Patient ID" in again.output) == (3, True)


def test_a_deletion_needs_a_reason_and_a_name(run: Run, config: Path) -> None:
    fill(config)
    assert run("studies", "delete", "1.2.1", "--reason", " ", "--by", "Ann", "-c", config).exit_code == 2
    assert run("studies", "delete", "1.2.1", "--reason", "why", "-c", config).exit_code == 2
    assert n_studies(run, config) == 2


def test_who_has_looked_at_an_exported_study_is_recorded(run: Run, config: Path) -> None:
    fill(config)
    who = ("--by", "Ann", "--note", "no face, no text", "-c", config)
    assert run("exports", "seen", "2.25.77", *who).stdout == "1 recorded as seen by Ann\n"
    assert run("exports", "seen", "2.25.78", *who).exit_code == 2
    with Store.open(config.parent / "data") as store:
        (entry,) = store.audit.list()
    assert (entry.action, entry.actor, entry.subject) == ("export-seen", "Ann", "1.2.1")
    assert entry.detail == {"copy": "2.25.77", "project": "HEADS", "found": "no face, no text"}
