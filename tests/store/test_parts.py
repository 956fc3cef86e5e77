"""What parts say of themselves, read while they run, after they were stopped, and after they were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dicom_node.store import Store, Trouble, part_troubles
from tests.node_process import wait_for

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
FULL = Trouble("receive", "storage-full", "every instance is refused: 1 GB free", NOON)


def test_a_part_that_runs_is_known_with_what_it_says(tmp_path: Path) -> None:
    part = Store.announce(tmp_path, "work", NOON)
    (starting,) = Store.parts(tmp_path)
    assert (starting.name, starting.pid, starting.started_at) == ("work", os.getpid(), NOON)
    assert (starting.is_running, starting.is_ready) == (True, False)
    part.ready(pipeline_digest="d" * 64)
    (ready,) = Store.parts(tmp_path)
    assert (ready.is_ready, ready.pipeline_digest) == (True, "d" * 64)
    part.end()
    assert Store.parts(tmp_path) == ()


def test_a_trouble_is_there_from_its_beginning_until_it_is_over(tmp_path: Path) -> None:
    part = Store.announce(tmp_path, "receive", NOON)
    part.ready()
    assert part.note(FULL)
    later = Trouble("receive", "storage-full", "every instance is refused: 0.5 GB free", NOON + timedelta(hours=1))
    assert not part.note(later)  # the same, with another number
    (state,) = Store.parts(tmp_path)
    assert state.trouble is not None
    assert (state.trouble.message, state.trouble.since) == (later.message, NOON)
    assert part.note(None)
    assert not part.note(None)
    assert list(part_troubles(Store.parts(tmp_path), ("receive",))) == []
    part.end()


def test_what_ended_a_part_stays_until_its_successor_is_ready(tmp_path: Path) -> None:
    broken = Trouble("work", "model-file-missing", "models/fg: no such folder", NOON)
    Store.announce(tmp_path, "work", NOON).end(broken)
    (down,) = part_troubles(Store.parts(tmp_path), ("work",))
    assert (down.code, down.message) == ("model-file-missing", "does not run: models/fg: no such folder")
    again = Store.announce(tmp_path, "work", NOON)
    assert list(part_troubles(Store.parts(tmp_path), ("work",))) == [broken]
    again.ready()
    assert list(part_troubles(Store.parts(tmp_path), ("work",))) == []
    again.end()
    (absent,) = part_troubles(Store.parts(tmp_path), ("work",))
    assert absent.code == "down"


def test_a_part_that_was_killed_is_down_and_its_successor_takes_its_place(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time; from datetime import UTC, datetime; from dicom_node.store import Store\n"
        "Store.announce(pathlib.Path(sys.argv[1]), 'web', datetime.now(UTC)).ready(); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2])
    try:
        wait_for("the part", lambda: any(part.is_ready for part in Store.parts(tmp_path)), step_s=0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (down,) = part_troubles(Store.parts(tmp_path), ("web",))
    assert down.code == "down"
    assert f"process {process.pid} " in down.message
    part = Store.announce(tmp_path, "web", NOON)
    assert [state.pid for state in Store.parts(tmp_path)] == [os.getpid()]
    part.end()


def test_one_of_several_workers_that_runs_is_enough(tmp_path: Path) -> None:
    first, second = Store.announce(tmp_path, "work", NOON), Store.announce(tmp_path, "work", NOON)
    second.ready()
    first.end(Trouble("work", "internal", "KeyError, a defect of the node; see its log", NOON))
    assert list(part_troubles(Store.parts(tmp_path), ("work",))) == []
    second.end()


def test_files_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for name, text in (("a.json", "{}"), ("b.json", ""), ("c.json", "[1]")):
        (tmp_path / "parts" / name).write_text(text)
    assert Store.parts(tmp_path) == ()
    Store.announce(tmp_path, "web", NOON).end()
    assert len(list((tmp_path / "parts").iterdir())) == 3


def test_a_part_that_cannot_be_noted_goes_on(tmp_path: Path) -> None:
    (tmp_path / "parts").write_text("a file where the folder would be")
    part = Store.announce(tmp_path, "web", NOON)
    part.ready()
    part.note(FULL)
    part.end()
    assert Store.parts(tmp_path) == ()
