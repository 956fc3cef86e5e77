"""``retention`` says what would go and why the rest stays, and deletes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import Result

from dicom_node.store import JobRow, Outcome, Store
from tests.cli.conftest import NOON

Run = Callable[..., Result]


@pytest.fixture
def finished(config: Path, queued_job: JobRow) -> JobRow:
    with Store.open(config.parent / "data") as store:
        job = store.jobs.claim("w", NOON, 60.0, pipeline_digest=queued_job.pipeline_digest)
        assert job is not None
        store.jobs.succeed(job.id, "w", Outcome(), NOON)
    return job


def with_policy(config: Path, **policy: object) -> Path:
    tree = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**tree, "retention": policy}))
    return config


def test_what_is_needed_stays_with_its_reason(run: Run, config: Path, queued_job: JobRow) -> None:
    result = run("retention", "-c", with_policy(config, sources_days=1))
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split() == ["to", "be", "deleted:", "0", "series,", "0.000", "GB"]
    assert result.stdout.splitlines()[-1].endswith("stays  a job is not finished, or needs a person")


def test_what_goes_is_named_and_still_there_afterwards(run: Run, config: Path, finished: JobRow) -> None:
    found = json.loads(run("retention", "-c", with_policy(config, sources_days=1), "--json").stdout)
    assert (found["n_series"], found["n_series_to_delete"]) == (1, 1)
    (series,) = found["series"]
    assert (series["series_instance_uid"], series["goes_because"]) == (finished.series_instance_uid, "age")
    assert series["stays_because"] is None
    with Store.open(config.parent / "data") as store:
        assert len(store.series.instances(finished.series_instance_uid)) == 3


def test_without_a_policy_nothing_asks_for_a_deletion(run: Run, config: Path, finished: JobRow) -> None:
    assert "stays  nothing asks for its deletion" in run("retention", "-c", config).stdout


def test_an_emergency_below_the_refusal_of_instances_is_a_mistake(run: Run, config: Path) -> None:
    result = run("retention", "-c", with_policy(config, emergency_free_bytes=1000))
    assert result.exit_code == 2
    assert "retention.emergency_free_bytes: 1000 is not more than dimse.min_free_bytes" in result.stderr
