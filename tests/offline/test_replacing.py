"""Folders of results appear completely or not at all, also when two processes write the same one."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.offline.replacing import clear_left_overs, replacing


def write(folder: Path, text: str) -> None:
    for name in ("a", "b"):
        (folder / name).write_text(text)


def test_of_two_attempts_at_once_each_writes_its_own_folder_and_the_last_one_stays(tmp_path: Path) -> None:
    folder = tmp_path / "volume"
    with replacing(folder) as slow:
        (slow / "a").write_text("slow")
        with replacing(folder) as fast:
            write(fast, "fast")
        assert {path.read_text() for path in folder.iterdir()} == {"fast"}
        (slow / "b").write_text("slow")

    assert {path.read_text() for path in folder.iterdir()} == {"slow"}
    assert [path.name for path in tmp_path.iterdir()] == ["volume"]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "volume"
    with replacing(folder) as partial:
        write(partial, "first")

    with pytest.raises(FileNotFoundError), replacing(folder) as partial:
        write(partial / "missing", "second")

    assert {path.read_text() for path in folder.iterdir()} == {"first"}
    assert [path.name for path in tmp_path.iterdir()] == ["volume"]


def test_left_overs_are_cleared_by_name_and_those_of_others_stay(tmp_path: Path) -> None:
    for name in (".partial-mine~0a1b", ".old-mine~0a1b", ".partial-mine", ".partial-other~0a1b", "mine"):
        (tmp_path / name).mkdir()

    clear_left_overs(tmp_path, {"mine"}.__contains__)

    assert sorted(path.name for path in tmp_path.iterdir()) == [".partial-other~0a1b", "mine"]
