"""Who may read what the node keeps (the data directory holds images and patients' names)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.store import Store
from dicom_node.store.permissions import mode_open_to_others
from tests.arrivals import receive
from tests.factories import ct_series


@pytest.fixture
def common_umask() -> Iterator[None]:
    """The umask that most systems set; new files are readable by everyone."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("common_umask")
def test_a_new_store_is_closed_to_other_users(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with Store.lock(data_dir, "serve"), Store.open(data_dir) as store:
        receive(store, ct_series(1))
        files = [path for path in data_dir.rglob("*") if path.is_file()]
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o750
        assert {path.name for path in files} >= {"index.sqlite", "index.sqlite-wal"}
        assert [path.name for path in files if path.stat().st_mode & stat.S_IRWXO] == []


@pytest.mark.parametrize(("mode", "expected"), [(0o755, "0755"), (0o701, "0701"), (0o750, None), (0o700, None)])
def test_a_folder_that_other_users_may_enter_is_noticed(tmp_path: Path, mode: int, expected: str | None) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(mode)
    assert mode_open_to_others(folder) == expected


def test_a_folder_that_is_not_there_is_open_to_nobody(tmp_path: Path) -> None:
    assert mode_open_to_others(tmp_path / "data") is None
