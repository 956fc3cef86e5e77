"""Which files below the given paths are looked at: hidden folders, links, and what operating systems leave."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inference.series.rejected import Rejected
from inference.series.walk import files_under

APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(80)


def walked(*paths: Path) -> tuple[list[str], dict[str, str]]:
    """Names of the files found, and the codes of what was left out, by path relative to the first input."""
    rejected: list[Rejected] = []
    found = [os.path.relpath(path, paths[0]) for path in files_under(paths, rejected)]
    return found, {os.path.relpath(one.name, paths[0]): one.code for one in rejected}


def make(root: Path, *names: str, content: bytes = b"x") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def test_hidden_folders_are_not_searched_and_are_named(tmp_path: Path) -> None:
    make(tmp_path, ".git/annex/objects/1.nii.gz", "sub-01/.cache/a", "sub-01/b", ".hidden_file")
    assert walked(tmp_path) == (
        [".hidden_file", "sub-01/b"],
        {".git": "hidden-folder", "sub-01/.cache": "hidden-folder"},
    )


def test_a_hidden_folder_that_was_named_is_searched(tmp_path: Path) -> None:
    make(tmp_path / ".dicom", "a")
    assert walked(tmp_path / ".dicom") == (["a"], {})


def test_what_operating_systems_leave_is_not_used(tmp_path: Path) -> None:
    make(tmp_path, "a", ".DS_Store", "sub/Thumbs.db", "sub/DESKTOP.INI", "__MACOSX/sub/._b.dcm", "__MACOSX/sub/b.dcm")
    make(tmp_path, "sub/._IM1.dcm", content=APPLE_DOUBLE)
    make(tmp_path, "sub/._IM2.dcm", content=b"")
    found, codes = walked(tmp_path)
    assert found == ["a"]
    assert codes == dict.fromkeys(
        [".DS_Store", "__MACOSX", "sub/DESKTOP.INI", "sub/Thumbs.db", "sub/._IM1.dcm", "sub/._IM2.dcm"], "system-file"
    )


def test_a_file_that_only_begins_like_an_apple_double_name_is_looked_at(tmp_path: Path) -> None:
    make(tmp_path, "._real.dcm", content=bytes(128) + b"DICM")
    assert walked(tmp_path) == (["._real.dcm"], {})


@pytest.mark.parametrize("name", ["._IM1.dcm", "Thumbs.db"])
def test_what_operating_systems_leave_is_not_used_where_a_shell_named_it(tmp_path: Path, name: str) -> None:
    make(tmp_path, name, content=APPLE_DOUBLE)
    assert walked(tmp_path / name) == ([], {".": "system-file"})


def test_linked_folders_are_searched_once_under_their_visible_path(tmp_path: Path) -> None:
    make(tmp_path / "store", "one/a", "two/b")
    data = tmp_path / "data"
    make(data, "sub-03/c")
    (data / "sub-01").symlink_to(tmp_path / "store" / "one")
    (data / "sub-02").symlink_to(tmp_path / "store" / "two")
    (data / "again").symlink_to(data / "sub-03")
    assert walked(data) == (["sub-03/c", "sub-01/a", "sub-02/b"], {"again": "linked-folder"})


def test_a_linked_folder_within_a_hidden_one_is_searched_where_it_is_visible(tmp_path: Path) -> None:
    make(tmp_path, ".git/annex/objects/k/a")
    (tmp_path / "sub-01").symlink_to(Path(".git/annex/objects/k"))
    assert walked(tmp_path) == (["sub-01/a"], {".git": "hidden-folder"})


def test_links_that_lead_around_or_out_of_the_input_end(tmp_path: Path) -> None:
    data = tmp_path / "data"
    make(data, "sub/a")
    make(tmp_path, "outside")
    (data / "sub" / "self").symlink_to(data / "sub")
    (data / "sub" / "up").symlink_to(data)
    (data / "sub" / "parent").symlink_to(tmp_path)
    (data / "sub" / "root").symlink_to("/")
    found, codes = walked(data)
    assert found == ["sub/a"]
    assert codes == dict.fromkeys(["sub/self", "sub/up", "sub/parent", "sub/root"], "linked-folder")


def test_two_linked_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    data = tmp_path / "data"
    make(tmp_path, "x/a", "y/b")
    (tmp_path / "x" / "y").symlink_to(tmp_path / "y")
    (tmp_path / "y" / "x").symlink_to(tmp_path / "x")
    data.mkdir()
    (data / "sub-01").symlink_to(tmp_path / "x")
    found, codes = walked(data)
    assert found == ["sub-01/a", "sub-01/y/b"]
    assert codes == {"sub-01/y/x": "linked-folder"}


def test_a_link_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    rejected: list[Rejected] = []
    assert list(files_under([tmp_path], rejected)) == []
    assert [(one.code, one.reason) for one in rejected] == [
        ("unreadable", f"{tmp_path / 'loop'}: Too many levels of symbolic links")
    ]


def test_two_names_of_one_file_count_once_by_the_first_and_it_is_said(tmp_path: Path) -> None:
    make(tmp_path, ".git/annex/objects/k/a.nii.gz")
    for subject in ("sub-01", "sub-02"):
        (tmp_path / subject).mkdir()
        (tmp_path / subject / "T1w.nii.gz").symlink_to("../.git/annex/objects/k/a.nii.gz")
    rejected: list[Rejected] = []
    assert list(files_under([tmp_path], rejected)) == [tmp_path / "sub-01" / "T1w.nii.gz"]
    assert rejected[-1] == Rejected(
        str(tmp_path / "sub-02" / "T1w.nii.gz"),
        "same-file",
        f"{tmp_path / 'sub-02' / 'T1w.nii.gz'}: the same file as {tmp_path / 'sub-01' / 'T1w.nii.gz'}; it counts once",
    )


def test_the_same_path_twice_is_nothing_to_speak_of(tmp_path: Path) -> None:
    make(tmp_path, "a")
    assert walked(tmp_path, tmp_path / "a", tmp_path) == (["a"], {})


@pytest.mark.parametrize("name", ["sub-01_T1w.nii.gz", "IM0001.dcm", "IM0001"])
def test_a_broken_annex_link_says_how_its_content_is_fetched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(".git/annex/objects/KM/vk/MD5E-s1--75ca/MD5E-s1--75ca")
    rejected: list[Rejected] = []
    assert list(files_under([tmp_path], rejected)) == []
    (one,) = rejected
    assert one.code == "content-not-fetched"
    words = f"its content was not fetched; get it with: git annex get {name} (or datalad get {name})"
    assert one.reason == f"{tmp_path / name}: {words}"


def test_a_link_to_nothing_is_named_with_its_target(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").symlink_to("../gone/a.dcm")
    rejected: list[Rejected] = []
    assert list(files_under([tmp_path], rejected)) == []
    assert rejected == [
        Rejected(
            str(tmp_path / "a.dcm"), "not-found", f"{tmp_path / 'a.dcm'}: a link to ../gone/a.dcm, which is not there"
        )
    ]


def test_neither_pipes_nor_unreadable_folders_stop_the_rest(tmp_path: Path) -> None:
    make(tmp_path, "a", "closed/b")
    os.mkfifo(tmp_path / "pipe")
    found, codes = walked(tmp_path, tmp_path / "absent")
    assert "a" in found
    assert codes == {"pipe": "not-a-file", "absent": "not-found"}
