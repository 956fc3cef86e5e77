"""The command line itself: help that comes at once and teaches, errors on one line."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import Result

import dicom_node
from dicom_node.store import JobRow

HEAVY = (
    "torch", "pydicom", "pynetdicom", "highdicom", "numpy", "scipy", "SimpleITK", "pandas", "requests", "httpx",
    "starlette", "alembic", "imagecodecs", "PIL",
)  # fmt: skip

Run = Callable[..., Result]

COMMANDS = (
    ("serve",),
    ("receive",),
    ("web",),
    ("work",),
    ("segment",),
    ("demo",),
    ("status",),
    ("retention",),
    ("check-config",),
    ("jobs", "list"),
    ("jobs", "show"),
    ("jobs", "retry"),
    ("jobs", "cancel"),
    ("deliveries", "list"),
    ("deliveries", "retry"),
    ("deliveries", "cancel"),
    ("deliveries", "send-again"),
    ("deliveries", "ask-again"),
    ("series", "list"),
    ("series", "complete"),
    ("series", "reprocess"),
    ("peers", "check"),
    ("peers", "encodings"),
    ("models", "list"),
    ("models", "add"),
    ("models", "verify"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example_of_itself(run: Run, command: tuple[str, ...]) -> None:
    result = run(*command, "--help")

    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert f"\n    dicom-node {' '.join(command)}" in result.stdout


def test_the_top_names_every_command(run: Run) -> None:
    text = run("--help").stdout

    assert [command[0] for command in COMMANDS if f"\n  {command[0]} " not in text] == []


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['dicom-node', '--help']\n"
        "from dicom_node.cli import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'pydicom', 'numpy', 'sqlalchemy', 'pynetdicom') if name in sys.modules])"
    )

    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240, check=True)

    assert answer.stdout.splitlines()[-1] == "[]"


def test_lists_load_only_the_index(config: Path, queued_job: JobRow) -> None:
    script = (
        f"import sys; sys.argv = ['dicom-node', 'studies', 'list', '-c', {str(config)!r}]\n"
        "from dicom_node.cli import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )

    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240, check=True)

    assert queued_job.study_instance_uid in answer.stdout
    assert answer.stdout.splitlines()[-1] == "[]"


def test_the_module_runs_as_a_program() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "dicom_node.cli", "--version"], capture_output=True, text=True, timeout=240, check=True
    )

    assert answer.stdout == f"dicom-node {dicom_node.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("segmnt",), "error: No such command 'segmnt'. Did you mean 'segment'?"),
        (("jobs", "show", "one"), "error: Invalid value for 'JOB'"),
        (("segment", "-o", "out"), "error: Missing argument 'INPUT"),
        (("status", "-c", "/nowhere/node.yaml"), "error: /nowhere/node.yaml: no such file"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(run: Run, arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(message)


def test_a_wrong_setting_is_named_with_file_and_key(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text("dimse:\n  prot: 104\n")

    result = run("check-config", "-c", path)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {path}: dimse.prot: unknown key; known here: ")


def test_a_web_port_that_another_has_is_named(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = yaml.safe_load(config.read_text())
        settings["web"]["port"] = port
        config.write_text(yaml.safe_dump(settings))

        web = subprocess.run(
            [sys.executable, "-m", "dicom_node.cli", "web", "-c", config], capture_output=True, text=True, timeout=240
        )

    assert web.returncode == 2
    told = f"error: cannot listen on 127.0.0.1:{port}: Address already in use; stop the program that uses it"
    assert told in web.stderr


def test_no_arguments_show_the_help(run: Run) -> None:
    result = run()

    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: dicom-node")
