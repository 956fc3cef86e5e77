"""Fixtures for every test: where the real data lies."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from dicom_node.store import Store
from tests.new_store import NewStore

ROOT = Path(__file__).resolve().parents[1]
NEVER_SKIPPED_IN_CI = ("peers", "data", "crash")
SHARED_DATA = Path(os.environ.get("DICOM_NODE_SHARED_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the packed real series and volumes; the test is skipped, with the reason, where it is missing."""
    if not (SHARED_DATA / "volumes.csv").is_file():
        pytest.skip(f"no real data: {SHARED_DATA} has no volumes.csv; set DICOM_NODE_SHARED_DATA")
    return SHARED_DATA


@pytest.fixture(scope="session")
def real_series(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Function that unpacks one group of ``dicom/`` by name and gives its folder."""
    root = tmp_path_factory.mktemp("real-series")

    def unpack(group: str) -> Path:
        target = root / group
        if not target.exists():
            with tarfile.open(shared_data / "dicom" / f"{group}.tar.xz") as tar:
                tar.extractall(root, filter="data")
        return target

    return unpack


@pytest.fixture(scope="session")
def new_store(tmp_path_factory: pytest.TempPathFactory) -> NewStore:
    """Function that opens an empty store below a folder."""
    template = tmp_path_factory.mktemp("new-store") / "data"
    Store.open(template).close()
    return NewStore(template)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where tests run side by side, files with slow tests come first: the short ones fill the processes to the end."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a real peer, real data or a real process that is missing fails its test instead of skipping it."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        needed = [name for name in NEVER_SKIPPED_IN_CI if item.get_closest_marker(name)]
        if needed:
            report.outcome = "failed"
            report.longrepr = f"skipped in CI, where {', '.join(needed)} must be there: {report.longrepr}"
    return report
