"""Objects in a shared store are looked after for as long as a part runs, whatever goes wrong once."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from dicom_node.app import part
from dicom_node.store import ObjectsUnavailableError


@pytest.mark.parametrize(
    "error", [ObjectsUnavailableError("s3://images", "away"), OSError(5, "Input/output error"), ValueError("a defect")]
)
def test_a_failure_does_not_end_it(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(part, "HOUSE_S", 0.01)
    calls: list[int] = []
    is_again = threading.Event()

    def keep_house() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise error
        is_again.set()

    store: Any = SimpleNamespace(objects=SimpleNamespace(is_local=False), keep_house=keep_house)
    with part._kept_house(store):
        assert is_again.wait(30.0)
