"""Secrets in files: what becomes a variable, what is left alone, and what is refused by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.settings import SettingsError, add_secrets, load_settings

URL = "postgresql://node:pass@db.example.org/node"


def folder_with(tmp_path: Path, **files: str | bytes) -> dict[str, str]:
    folder = tmp_path / "secrets"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return {"CREDENTIALS_DIRECTORY": str(folder)}


def test_each_file_is_a_variable_without_its_line_end(tmp_path: Path) -> None:
    env = folder_with(tmp_path, DICOM_NODE__NODE__DATABASE_URL=f"{URL}\n", ARCHIVE_TOKEN=" a b \r\n")
    add_secrets(env)
    assert env["ARCHIVE_TOKEN"] == " a b "
    assert load_settings(None, env).node.database_url == URL


def test_names_are_those_of_a_folder_that_systemd_loaded(tmp_path: Path) -> None:
    env = folder_with(tmp_path, secret_ARCHIVE_TOKEN="t")
    add_secrets(env)
    assert env["ARCHIVE_TOKEN"] == "t"


def test_a_mounted_secret_of_kubernetes_is_read(tmp_path: Path) -> None:
    env = folder_with(tmp_path)
    data = tmp_path / "secrets" / "..2026_11_30"
    data.mkdir()
    (data / "ARCHIVE_TOKEN").write_text("t")
    (tmp_path / "secrets" / "..data").symlink_to(data.name)
    (tmp_path / "secrets" / "ARCHIVE_TOKEN").symlink_to("..data/ARCHIVE_TOKEN")
    add_secrets(env)
    assert {name for name in env if name != "CREDENTIALS_DIRECTORY"} == {"ARCHIVE_TOKEN"}


def test_a_variable_that_is_set_stays_and_other_files_are_left_alone(tmp_path: Path) -> None:
    env = {**folder_with(tmp_path, TOKEN="of the file", **{"node.key": b"\xff", "lower": "x"}), "TOKEN": "set"}
    add_secrets(env)
    assert env["TOKEN"] == "set"
    assert set(env) == {"CREDENTIALS_DIRECTORY", "TOKEN"}


def test_without_the_folder_nothing_happens() -> None:
    env: dict[str, str] = {"A": "1"}
    add_secrets(env)
    assert env == {"A": "1"}


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"\xff\xfe", "UTF-8"), (b"a\0b", "at most 65536 bytes"), (b"x" * 65537, "at most 65536 bytes")],
)
def test_what_is_no_secret_is_refused_by_its_path_and_not_shown(tmp_path: Path, content: bytes, says: str) -> None:
    env = folder_with(tmp_path, ARCHIVE_TOKEN=content)
    with pytest.raises(SettingsError, match=rf"secrets/ARCHIVE_TOKEN: .*{says}"):
        add_secrets(env)


def test_a_folder_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"CREDENTIALS_DIRECTORY=.*/none: cannot be read: No such file"):
        add_secrets({"CREDENTIALS_DIRECTORY": str(tmp_path / "none")})


def test_a_command_reads_them_before_its_settings(tmp_path: Path) -> None:
    data = tmp_path / "data"
    env = folder_with(tmp_path, DICOM_NODE__WEB__PORT="-5", DICOM_NODE__NODE__DATA_DIR=str(data))
    refused = dicom_node("check-config", env)
    assert (refused.returncode, "web.port" in refused.stderr) == (2, True)
    (tmp_path / "secrets" / "DICOM_NODE__WEB__PORT").unlink()
    upgraded = dicom_node("store upgrade", env)
    assert (upgraded.returncode, upgraded.stdout) == (0, "the index has this version's schema\n")
    assert (data / "index.sqlite").stat().st_size > 0


def dicom_node(command: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "dicom_node.cli", *command.split()]
    return subprocess.run(argv, env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False)
