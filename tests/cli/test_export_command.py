"""``dicom-node export``: exit codes, and what a person reads; cases 18 and 40 of what may leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from dicom_node.pipeline.rules import load_rules
from dicom_node.settings import load_settings
from dicom_node.store import Store
from tests.cli.conftest import Run
from tests.gate.cases import copies, received, seen
from tests.store.sending import STUDY


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "study.key"
    path.write_bytes(bytes(range(32)))
    path.chmod(0o600)
    return path


def cleared(config: Path) -> None:
    """A cleared study and one that still receives."""
    from dicom_node import app

    settings = load_settings(config, {})
    digest = app.current_pipeline_digest(settings)
    with Store.open(config.parent / "data") as store:
        seen(store, "defaced", digest=digest, rules=load_rules(None, peer_names=()).study)
        received(store, "1.2.9.1", "1.2.9")


def test_the_exit_code_says_whether_all_that_was_asked_for_left(run: Run, config: Path, key: Path) -> None:
    cleared(config)
    out = config.parent / "out"
    options = ("--project", "HEADS", "--key-file", key, "--to", out, "--workers", 1, "-c", config)

    dry = run("export", *options, "--dry-run")
    assert (dry.exit_code, copies(out)) == (0, [])
    assert "1 × would-be-exported" in dry.stdout
    assert json.loads((out / "dry-run-manifest.json").read_text())["is_dry_run"] is True

    done = run("export", *options, "--by", "A.Example")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "1 × exported",
        "1 × not-cleared",
        "  1 × open: still receiving, or not judged yet",
        f"2 objects, see {out / 'manifest.json'}",
    ]
    checked = run("exports", "check", out, "-c", config)
    assert (checked.exit_code, checked.stdout) == (0, "2 copies of 1 studies, 1 manifests, 0 faults\n")
    told = run("audit", "--study", STUDY, "-c", config)
    assert [line.split()[2:4] for line in told.stdout.splitlines()[1:]] == [["A.Example", "exported"]]
    assert run("audit", "--study", "1.2.9", "-c", config).stdout == "no entries\n"
    cohort = config.parent / "cohort.txt"
    for content, why in ((b"\n# none yet\n", "names no study"), ("\ufeff1.2.9".encode("utf-16"), "is not UTF-8")):
        cohort.write_bytes(content)
        assert why in run("export", *options, "--cohort", cohort).output
    cohort.write_text(f'\ufeff{STUDY}\r\n"1.2.9"\n# asked for by e-mail\n1.2.404 # unknown\n')
    asked = run("export", *options, "--cohort", cohort)
    assert asked.exit_code == 3
    assert "1 × unknown-study\n    1.2.404\n" in asked.stdout  # the manifest names it by its pseudonym only
    assert "1 × not-cleared\n    1.2.9\n" in asked.stdout
    assert "1.2.404" not in (out / "manifest.json").read_text()
    copies(out)[0].unlink()
    assert run("exports", "check", out, "--alone").exit_code == 3


def test_18_nothing_leaves_when_the_rules_cannot_be_read(run: Run, config: Path, key: Path) -> None:
    cleared(config)
    rules = config.parent / "rules.yaml"
    rules.write_text("study: {face_present: fine}\n")
    settings = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(settings | {"rules": str(rules)}))
    out = config.parent / "out"
    result = run("export", "--project", "HEADS", "--key-file", key, "--to", out, "-c", config)
    assert result.exit_code == 2
    assert not out.exists()


def test_a_name_that_is_a_peer_and_a_folder_is_asked_about(
    run: Run, config: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleared(config)
    settings = yaml.safe_load(config.read_text())
    peer = {"kind": "dimse", "name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": 1}
    config.write_text(yaml.safe_dump(settings | {"peers": [peer]}))
    monkeypatch.chdir(config.parent)
    (config.parent / "archive").mkdir()
    options = ("--project", "HEADS", "--key-file", key, "-c", config, "--workers", 1)
    asked = run("export", *options, "--to", "archive")
    assert (asked.exit_code, "type ./archive for the folder" in asked.output) == (2, True)
    assert run("export", *options, "--to", "elsewhere", "--work", "w").exit_code == 2
    (config.parent / "archive").rmdir()
    planned = run("export", *options, "--to", "archive", "--dry-run", "--work", "w")
    assert (planned.exit_code, "1 × would-be-exported" in planned.stdout) == (0, True)
