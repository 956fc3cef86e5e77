"""``store verify`` as a person or a timer runs it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from dicom_node.store import JobRow, Store

Run = Callable[..., Result]


@pytest.fixture
def damaged(config: Path, queued_job: JobRow) -> Path:
    """File of an instance in which one bit has changed."""
    with Store.open(config.parent / "data") as store:
        path = store.objects.path(store.series.instances(queued_job.series_instance_uid)[0].digest)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return path


def test_a_sound_store_is_exit_code_0(run: Run, config: Path, queued_job: JobRow) -> None:
    result = run("store", "verify", "-c", config)
    assert result.stdout.startswith("3 objects read, 0.000 GB: 0 missing, 0 damaged, 0 extra")
    assert (result.exit_code, result.stderr) == (0, "")


def test_damage_is_named_and_exit_code_3(run: Run, config: Path, damaged: Path) -> None:
    result = run("store", "verify", "-c", config)
    first, last = result.stdout.splitlines()
    assert first.startswith(f"damaged: {damaged} has the SHA-256 ")
    assert "(instance 2.25." in first
    assert last.endswith("0 missing, 1 damaged, 0 extra")
    assert result.exit_code == 3
    assert damaged.exists()


def test_what_is_set_aside_is_missing_from_then_on(run: Run, config: Path, damaged: Path) -> None:
    assert run("store", "verify", "-c", config, "--set-aside").exit_code == 3
    assert not damaged.exists()
    assert damaged.with_suffix(".damaged").exists()
    result = run("store", "verify", "-c", config)
    assert result.stdout.startswith(f"missing: {damaged} was set aside as damaged")
    assert result.exit_code == 3


def test_extra_files_are_listed_but_no_failure(run: Run, config: Path, queued_job: JobRow) -> None:
    stray = config.parent / "data" / "objects" / "7f" / "stray.txt"
    stray.write_text("?")
    result = run("store", "verify", "-c", config)
    assert result.stdout.startswith(f"extra: {stray} no row of the index names it")
    assert result.exit_code == 0


def test_a_run_can_be_resumed_and_read_by_programs(run: Run, config: Path, damaged: Path) -> None:
    begin = int(damaged.parent.name, 16) + 1
    result = run("store", "verify", "-c", config, "--from", f"{begin:02X}" if begin < 256 else "ff", "--json")
    assert (result.exit_code, json.loads(result.stdout)["findings"]) == (0, [])
    found = json.loads(run("store", "verify", "-c", config, "--json").stdout)
    assert found["n_objects"] == 3
    (finding,) = found["findings"]
    assert (finding["fault"], finding["path"]) == ("damaged", str(damaged))
    assert len(finding["sop_instance_uids"]) == 1
    for wrong in ("g0", "1", "100"):
        refused = run("store", "verify", "-c", config, "--from", wrong)
        assert refused.exit_code == 2
        assert "expected two hexadecimal digits, 00 to ff" in refused.stderr


def test_the_rate_is_kept(run: Run, config: Path, queued_job: JobRow) -> None:
    with Store.open(config.parent / "data") as store:
        n_bytes = sum(row.dataset_bytes for row in store.series.instances(queued_job.series_instance_uid))
    began = time.monotonic()
    assert run("store", "verify", "-c", config, "--max-mb-per-s", n_bytes / 1e6 / 0.5).exit_code == 0
    assert time.monotonic() - began > 0.5


def test_extra_objects_are_listed_and_removed_only_when_that_is_said(
    run: Run, config: Path, queued_job: JobRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(config.parent / "data") as store:
        sound = store.objects.path(store.series.instances(queued_job.series_instance_uid)[0].digest)
    extra = sound.with_name(f"{sound.name[:2]}{'0' * 62}.dcm")
    extra.write_bytes(sound.read_bytes())
    result = run("store", "remove-extra", "-c", config)
    assert result.stdout == "0 objects, 0.000 GB, are older than 24 h and in no row of the index\n"
    assert run("store", "remove-extra", "-c", config, "--older-than", "0").exit_code == 2

    now = time.time()
    monkeypatch.setattr("dicom_node.store.objects.files.time.time", lambda: now + 100_000)
    result = run("store", "remove-extra", "-c", config)
    assert result.stdout.startswith(f"extra: {extra}\n1 objects, ")
    assert result.stdout.endswith("; --delete removes them\n")
    assert extra.exists()
    result = run("store", "remove-extra", "-c", config, "--delete", "--by", "A. Example")
    assert result.stdout.endswith("; 1 removed\n")
    assert result.exit_code == 0
    assert not extra.exists()
    assert sound.exists()
    with Store.open(config.parent / "data") as store:
        assert store.audit.list(action="extra-objects-removed")[0].actor == "A. Example"
