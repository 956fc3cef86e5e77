"""Commands and settings that pages name exist; nothing is run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from pydantic import BaseModel
from typer.main import get_command

from dicom_node.cli import app
from dicom_node.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINE = re.compile(r"^[ $]*(?:\S*/)?dicom-node +(.+)$|`(?:\S*/)?dicom-node +([^`\n]+)`", re.MULTILINE)
END = re.compile(r"\s+#|\s+[|>&;]|\s2>")
KEY = re.compile(r"`([a-z_]+\.[a-z_]+(?:\.[a-z_]+)*)(?::[^`]*)?`")
ROOT_COMMAND = get_command(app)
OF_THE_CHART = {"web.ingress", "web.replicas", "work.gpu"}  # docs/deploy.md
NO_KEYS = {"csv", "jsonl", "pem", "key", "csr", "log", "yaml", "py", "example"}  # of files and hosts


def commands(page: Path) -> Iterator[str]:
    """Yield the arguments of each command line, without what the shell does with its output."""
    text = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8"))
    for match in LINE.finditer(text):
        yield END.split(match[1] or match[2])[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_is_one(page: Path) -> None:
    for line in commands(page):
        assert fault(line) is None, line


def test_a_command_line_that_is_none_is_found() -> None:
    assert fault("store verify -c config/node.yaml --set-aside") is None
    assert fault("store check") == "no command check"
    assert "--set-asides" in str(fault("store verify --set-asides"))


def fault(line: str) -> str | None:
    """Return what is wrong with the arguments of a command, None if nothing is."""
    command: Any = ROOT_COMMAND
    context = typer.Context(command)
    arguments = [word.replace("…", "x") for word in shlex.split(line) if word != "..."]
    while hasattr(command, "commands") and arguments and not arguments[0].startswith("-"):
        name = arguments.pop(0)
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
        context = typer.Context(command, parent=context)
    try:
        command.make_parser(context).parse_args(arguments)
    except Exception as error:  # noqa: BLE001 - of the click that comes with typer
        return str(error)
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_is_one(page: Path) -> None:
    known = set(names(Settings))
    sections = {name.partition(".")[0] for name in known if "." in name}
    for name in KEY.findall(page.read_text(encoding="utf-8")):
        first, second = name.split(".")[:2]
        if first in sections and second not in NO_KEYS and name not in OF_THE_CHART:
            assert name in known


def names(model: type[BaseModel]) -> Iterator[str]:
    """Yield all keys of a section, and those of its sections with a dot between."""
    for name, field in model.model_fields.items():
        yield name
        for kind in get_args(field.annotation) or (field.annotation,):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from (f"{name}.{below}" for below in names(kind))
