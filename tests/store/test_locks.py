"""Who may start on a data directory, and who is told to wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.store import DataDirInUseError, Store

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from dicom_node.store import Store
with Store.lock(Path(sys.argv[1]), "serve"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_start_is_told_who_holds_the_folder(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(DataDirInUseError, match=rf"`serve` already runs there \(process {holder.pid} on .+ since 20"):
        Store.lock(tmp_path, "serve").__enter__()
    with Store.lock(tmp_path, "other-role"):
        pass


def test_the_lock_goes_with_its_process(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with Store.lock(tmp_path, "serve"):
        pass


def test_a_role_can_be_taken_again_after_it_was_given_back(tmp_path: Path) -> None:
    for _ in range(2):
        with Store.lock(tmp_path, "serve"), pytest.raises(DataDirInUseError, match=f"process {os.getpid()} "):
            Store.lock(tmp_path, "serve").__enter__()


def test_a_store_can_be_opened_by_several_processes_under_the_lock(tmp_path: Path) -> None:
    with Store.lock(tmp_path, "serve"), Store.open(tmp_path), Store.open(tmp_path):
        pass
