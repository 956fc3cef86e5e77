"""What a log line looks like, and what it cannot be made to look like."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest

from dicom_node.logs import log_failure, set_up_logging
from dicom_node.settings import LogSettings
from dicom_node.store import IndexUnavailableError

log = logging.getLogger("dicom_node.test")


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield
        logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_json_lines_carry_fields_and_tracebacks() -> None:
    stream = io.StringIO()
    set_up_logging(LogSettings(format="json"), process_name="work", stream=stream)
    try:
        int("odd")
    except ValueError:
        log.exception("job failed", extra={"job_id": 7, "series_instance_uid": "2.25.1"})
    entry = json.loads(stream.getvalue())
    assert entry["event"] == "job failed"
    assert entry["process"] == "work"
    assert entry["level"] == "error"
    assert entry["job_id"] == 7
    assert entry["series_instance_uid"] == "2.25.1"
    assert entry["traceback"].endswith("\nValueError")  # what a library says may quote a patient
    assert entry["at"].endswith("+00:00")


def test_text_lines_end_with_the_fields() -> None:
    stream = io.StringIO()
    set_up_logging(LogSettings(), process_name="receive", stream=stream)
    log.info("instance kept", extra={"n_instances": 3, "peer": "old pacs"})
    assert stream.getvalue().endswith('receive: instance kept n_instances=3 peer="old pacs"\n')


def test_what_may_work_later_is_one_line_and_a_defect_has_its_traceback() -> None:
    stream = io.StringIO()
    set_up_logging(LogSettings(), process_name="work", stream=stream)
    log_failure(log, "tick failed", IndexUnavailableError("postgresql://db", "gone"), tick="leases")
    assert len(stream.getvalue().splitlines()) == 1
    assert "database postgresql://db: gone" in stream.getvalue()
    log_failure(log, "tick failed", KeyError("uid"), tick="leases")
    assert "Traceback" in stream.getvalue()
    assert stream.getvalue().count("tick=leases") == 2


def test_no_value_can_pass_for_a_line_of_its_own() -> None:
    stream = io.StringIO()
    set_up_logging(LogSettings(), process_name="receive", stream=stream)
    log.warning("association from %s", "EVIL\n2026-01-01 info all well", extra={"title": "A\nB=C"})
    assert stream.getvalue().count("\n") == 1


def test_pydicom_does_not_put_values_into_the_log() -> None:
    stream = io.StringIO()
    set_up_logging(LogSettings(), process_name="work", stream=stream)
    warnings.warn_explicit("Invalid value for VR DA: 'Doe^Jane'", UserWarning, "valuerep.py", 1, "pydicom.valuerep")
    warnings.warn_explicit("something else", UserWarning, "other.py", 1, "other")
    assert "Doe" not in stream.getvalue()
    assert "something else" in stream.getvalue()
