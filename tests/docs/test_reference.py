"""What the docs say of settings, commands and error codes is what the code has."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_the_code_says(maker: ModuleType) -> None:
    assert (DOCS / "reference.md").read_text(encoding="utf-8") == maker.reference(), "run: make reference"


def test_every_error_says_what_it_means(maker: ModuleType) -> None:
    rows = list(maker.error_rows())
    assert len(rows) > 30
    assert [row for row in rows if "|  |" in row] == []


def test_every_command_says_what_it_does(maker: ModuleType) -> None:
    rows = list(maker.command_rows(maker.typer.main.get_command(maker.app), "dicom-node"))
    assert {"`dicom-node serve`", "`dicom-node jobs retry`"} <= {row.split(" | ")[0].strip("| ") for row in rows}
    assert [row for row in rows if row.endswith("|  |")] == []


def test_every_setting_says_what_it_means(maker: ModuleType) -> None:
    rows = [*maker.setting_rows(maker.Settings), *maker.setting_rows(maker.DimsePeer)]
    assert len(rows) > 30
    assert [row for row in rows if row.endswith("|  |")] == []
