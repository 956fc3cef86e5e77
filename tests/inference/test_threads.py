"""Threads that wait sleep: OpenMP itself says what it was told."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from inference.threads import let_threads_sleep

CODE = "from inference.threads import let_threads_sleep; let_threads_sleep(); import torch"


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("active", "ACTIVE")])
def test_openmp_is_told_before_it_is_loaded(given: str | None, expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment |= {"OMP_DISPLAY_ENV": "true"} | ({} if given is None else {"OMP_WAIT_POLICY": given})
    ended = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    if "OMP_WAIT_POLICY" not in ended.stderr:
        pytest.skip("this PyTorch's OpenMP does not display its settings")
    assert f"OMP_WAIT_POLICY = '{expected}'" in ended.stderr


def test_too_late_is_said_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setitem(sys.modules, "torch", object())
    assert not let_threads_sleep()
    assert "OMP_WAIT_POLICY" not in os.environ
