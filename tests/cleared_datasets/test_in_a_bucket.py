"""A dataset of cleared studies whose objects lie in a bucket, by several processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.forkserver import _forkserver  # type: ignore[attr-defined]
from pathlib import Path

import pytest

from dicom_node.store import ObjectsUnavailableError, Store
from tests.cleared_datasets.conftest import OPTIONS, make, outcomes, receive_and_look, study_of
from tests.new_store import NewStore
from tests.s3_servers import CREDENTIALS, SeaweedServer, start_seaweedfs

STUDIES = (study_of("first"), study_of("second"), study_of("third", patient="MRN-2"))
pytestmark = [pytest.mark.peers, pytest.mark.slow]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SeaweedServer]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    _forkserver._stop()  # processes have the environment of when it was started, perhaps by another test
    with start_seaweedfs() as started:
        yield started
    _forkserver._stop()


def test_processes_write_what_one_process_writes(
    server: SeaweedServer, new_store: NewStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_store(tmp_path / "node").close()
    with Store.open(tmp_path / "node", objects_at=server.place()) as store:
        receive_and_look(store, monkeypatch, STUDIES)
        store.objects.cache.clear()
        written = {}
        for workers in (2, 1):
            out = tmp_path / f"out-{workers}"
            manifest = make(store, out, options=replace(OPTIONS, workers=workers))
            assert outcomes(manifest, STUDIES) == ["exported"] * 3
            written[workers] = {path.relative_to(out): path.read_bytes() for path in out.rglob("*.nii.gz")}
    assert len(written[1]) >= 9
    assert written[2] == written[1]


def test_a_bucket_that_is_away_keeps_studies_in(
    server: SeaweedServer, new_store: NewStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_store(tmp_path / "node").close()
    with Store.open(tmp_path / "node", objects_at=server.place(timeout_s=1.0)) as store:
        receive_and_look(store, monkeypatch, STUDIES[:1])
        store.objects.cache.clear()
        server.kill()
        with pytest.raises(ObjectsUnavailableError):
            make(store, tmp_path / "out")
    assert list((tmp_path / "out" / "volumes").iterdir()) == []
