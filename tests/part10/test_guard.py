"""Received bytes reach pydicom through `part10.inflate.bounded_for_pydicom` and in no other way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("dicom_node", "inference", "part10", "sr_writer")
READERS = frozenset({"dcmread", "read_partial", "read_file", "read_dataset"})
GUARD = "bounded_for_pydicom"
# They read what this process has written just before.
OF_OWN_BYTES = frozenset({"dicom_node/export/copying.py:_verify", "sr_writer/proof.py:prove_segmentation"})
# No Part 10 files, but datasets of messages: bounded in size, and walked through before pydicom reads them.
OF_WALKED_BYTES = frozenset({"dicom_node/upper_layer/commitment.py:decode_commitment_report"})


def unguarded(source: str, name: str) -> Iterator[str]:
    """Functions in which one of pydicom's readers gets anything else than a guarded file."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        guarded = {
            target.id
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and called(node.value) == GUARD
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(function):
            if called(node) in READERS:
                argument = node.args[0]
                is_guarded = called(argument) == GUARD or (isinstance(argument, ast.Name) and argument.id in guarded)
                if not is_guarded:
                    yield f"{name}:{function.name}"


def called(node: ast.AST) -> str:
    """Name of what a call calls, without its module."""
    if not isinstance(node, ast.Call):
        return ""
    return getattr(node.func, "id", getattr(node.func, "attr", ""))


def test_pydicom_reads_guarded_files_only() -> None:
    found = {
        place
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for place in unguarded(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    }
    assert found == OF_OWN_BYTES | OF_WALKED_BYTES


@pytest.mark.parametrize(
    ("body", "is_guarded"),
    [
        ("return dcmread(file)", False),
        ("return pydicom.dcmread(BytesIO(content), force=True)", False),
        ("head = BytesIO(content)\n    return read_partial(head, stop)", False),
        ("return dcmread(bounded_for_pydicom(file, max_inflated_bytes=1))", True),
        ("file = bounded_for_pydicom(file, max_inflated_bytes=1)\n    return read_partial(file, stop)", True),
    ],
)
def test_the_check_tells_them_apart(body: str, is_guarded: bool) -> None:
    assert list(unguarded(f"def read(file):\n    {body}", "x.py")) == ([] if is_guarded else ["x.py:read"])
