"""Which associations are open."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from dicom_node.store import Store
from tests.store.sending import T0

HOLD = """
import pathlib, sys, time
from dicom_node.store import Store
with Store.open(pathlib.Path(sys.argv[1])) as store, store.associations.hold("a1"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_an_association_is_open_for_as_long_as_it_is_held(store: Store) -> None:
    associations = store.associations
    with associations.hold("a1") as note, associations.hold("a2"):
        note(T0)
        assert associations.last_message_at("a1") == T0
        note(T0 + timedelta(seconds=5))
        assert associations.last_message_at("a1") == T0 + timedelta(seconds=5)
        assert associations.last_message_at("a2") is not None
    assert associations.last_message_at("a1") is None
    assert list((store.data_dir / "associations").iterdir()) == []


def test_a_name_that_is_no_association_is_not_looked_for(store: Store) -> None:
    for name in ("", "../index.sqlite", "a/b", "unknown"):
        assert store.associations.last_message_at(name) is None


def test_an_association_goes_on_where_its_file_cannot_be_made(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    folder = store.data_dir / "associations"
    folder.rmdir()
    folder.write_bytes(b"")  # no file can be made in it, whoever runs this
    for association_id in ("a1", "a2"):
        with store.associations.hold(association_id) as note:
            note(T0)
            assert store.associations.last_message_at(association_id) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    folder.unlink()
    folder.mkdir()
    with store.associations.hold("a3") as note:
        note(T0)
        assert store.associations.last_message_at("a3") == T0


def test_a_receiver_that_is_killed_leaves_no_association_open(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    with Store.open(folder) as store:
        receiver = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE)
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == b"held\n"
        assert store.associations.last_message_at("a1") is not None
        os.kill(receiver.pid, signal.SIGKILL)
        receiver.wait()
        receiver.stdout.close()
        assert store.associations.last_message_at("a1") is None
    with Store.open(folder):  # alone: what was left is removed
        assert list((folder / "associations").iterdir()) == []
