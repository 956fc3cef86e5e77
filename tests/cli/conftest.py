"""The command line as a user has it, and a data directory in which a node has worked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from dicom_node.cli import app
from dicom_node.store import Arrival, JobRow, Store
from tests.factories import SyntheticSeries, ct_series
from tests.new_store import NewStore
from tests.store.sending import closing

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
DATASET_OFFSET = 132  # preamble and prefix, PS3.10 7.1

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Function that runs ``dicom-node`` with arguments, as from a shell of 200 columns."""
    monkeypatch.setenv("COLUMNS", "200")
    runner = CliRunner()

    def run(*arguments: object) -> Result:
        return runner.invoke(app, [str(argument) for argument in arguments], prog_name="dicom-node")

    return run


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A settings file; nothing listens on its ports."""
    path = tmp_path / "node.yaml"
    settings = {
        "node": {"ae_title": "TESTNODE", "data_dir": str(tmp_path / "data")},
        "dimse": {"host": "127.0.0.1", "port": 1},
        "web": {"host": "127.0.0.1", "port": 2},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture
def series() -> SyntheticSeries:
    return ct_series(n_slices=3)


@pytest.fixture
def queued_job(new_store: NewStore, config: Path, series: SyntheticSeries) -> JobRow:
    """A series was received and is complete; its job waits for a worker. The store is closed again."""
    with new_store(config.parent / "data") as store:
        for instance in series:
            ds = instance.dataset()
            spool = store.objects.spool(
                sop_class_uid=ds.SOPClassUID,
                sop_instance_uid=ds.SOPInstanceUID,
                transfer_syntax_uid=ds.file_meta.TransferSyntaxUID,
            )
            # The group length element (12 bytes) says how much file meta information follows it.
            spool.write(instance.part10[DATASET_OFFSET + 12 + ds.file_meta.FileMetaInformationGroupLength :])
            store.inbox.keep(
                spool,
                Arrival(
                    sop_class_uid=ds.SOPClassUID,
                    sop_instance_uid=ds.SOPInstanceUID,
                    transfer_syntax_uid=ds.file_meta.TransferSyntaxUID,
                    calling_ae_title="CT1",
                    association_id="1",
                    received_at=NOON,
                ),
            )
        row = store.series.get(series.series_instance_uid)
        assert store.closing.complete(row, closing(digest="0" * 64), NOON)
        (job,) = store.jobs.list()
        return job


@pytest.fixture
def dead_job(config: Path, queued_job: JobRow) -> JobRow:
    """The job has failed for good."""
    with Store.open(config.parent / "data") as store:
        claimed = store.jobs.claim("worker-1", NOON, 60.0, pipeline_digest="0" * 64)
        assert claimed is not None
        store.jobs.fail(
            claimed.id,
            "worker-1",
            code="slice-gap",
            message="step after slice 2 is 6.00 mm, expected 3.00 mm",
            detail=None,
            retry_at=None,
            now=NOON,
        )
        return store.jobs.get(queued_job.id)
