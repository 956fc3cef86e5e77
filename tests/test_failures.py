"""Errors of every package are distinguished."""

from __future__ import annotations

import errno

import pytest

import dicom_node.errors
import inference.errors
import sr_writer.errors
from dicom_node.failures import ErrorKind, classify, discreet_traceback, error_code
from dicom_node.settings import SettingsError


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (SettingsError("node.yaml", ("x",)), ErrorKind.REFUSED, "settings"),
        (inference.errors.SeriesError("1.2"), ErrorKind.REFUSED, "series"),
        (sr_writer.errors.Refused(), ErrorKind.REFUSED, "writer"),
        (inference.errors.Transient(), ErrorKind.TRANSIENT, "inference"),
        (dicom_node.errors.Transient(), ErrorKind.TRANSIENT, "node"),
        (MemoryError(), ErrorKind.TRANSIENT, "out-of-memory"),
        (OSError(errno.ENOSPC, "No space left on device"), ErrorKind.TRANSIENT, "machine-short"),
        (FileNotFoundError(errno.ENOENT, "gone"), ErrorKind.DEFECT, "internal"),
        (ZeroDivisionError(), ErrorKind.DEFECT, "internal"),
        (SystemExit(3), ErrorKind.DEFECT, "internal"),
    ],
)
def test_an_error_has_a_kind_and_a_code(error: BaseException, kind: ErrorKind, code: str) -> None:
    assert (classify(error), error_code(error)) == (kind, code)


def test_a_traceback_shows_every_cause_but_only_our_own_messages() -> None:
    quoted = "Doe^" + "Jane"

    def read() -> None:
        try:
            int(quoted)
        except ValueError as error:
            raise SettingsError("node.yaml", ("web.port: too large",)) from error

    with pytest.raises(SettingsError) as caught:
        read()
    text = discreet_traceback(caught.value)
    assert text.index("ValueError") < text.index("SettingsError: node.yaml: web.port: too large")
    assert "test_failures.py" in text
    assert quoted not in text
