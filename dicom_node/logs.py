"""Logging of the node: one event per line, with fields, as text for people or JSON for machines.

Pass fields as ``log.info("job succeeded", extra={"job_id": ...})``. They may contain UIDs, codes and numbers;
patient names and IDs must not appear in any field or message.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from datetime import UTC, datetime
from typing import Any, TextIO

from dicom_node.failures import ErrorKind, classify, discreet_traceback, error_code
from dicom_node.settings import LogSettings

REMIND_S = 3600.0
_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_QUIET_LIBRARIES = ("alembic", "dicomweb_client", "httpcore", "httpx", "PIL", "urllib3", "uvicorn")
# Their warnings quote values of a dataset, or say that a scheduled run was still running, which is normal.
_TALKATIVE_LIBRARIES = ("apscheduler", "highdicom", "pydicom", "pynetdicom")


class JsonFormatter(logging.Formatter):
    """Formats each record as one line of JSON."""

    def __init__(self, process_name: str) -> None:
        super().__init__()
        self._process_name = process_name

    def format(self, record: logging.LogRecord) -> str:
        """Encode a record with its fields and traceback."""
        entry: dict[str, Any] = {
            "at": _moment(record),
            "level": record.levelname.lower(),
            "process": self._process_name,
            "logger": record.name,
            "event": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info and record.exc_info[1]:
            entry["traceback"] = _traceback_of(record)
        return json.dumps(entry, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Formats each record as one line with fields as ``key=value``, then the traceback if there is one."""

    def __init__(self, process_name: str) -> None:
        super().__init__()
        self._process_name = process_name

    def format(self, record: logging.LogRecord) -> str:
        """Format a record with its fields."""
        fields = "".join(f" {key}={_quoted(value)}" for key, value in fields_of(record).items())
        message = _one_line(record.getMessage())
        line = f"{_moment(record)} {record.levelname.lower():7} {self._process_name}: {message}{fields}"
        return f"{line}\n{_traceback_of(record)}" if record.exc_info and record.exc_info[1] else line


def log_failure(logger: logging.Logger, message: str, error: Exception, **fields: object) -> None:
    """Log a failure that is tried again: one line if it may work later, with its traceback if it is a defect."""
    if classify(error) is ErrorKind.TRANSIENT:
        logger.error(message, extra={**fields, "reason": str(error)})
    else:
        logger.error(message, extra=fields, exc_info=error)


class RepeatedFailure:
    """Logs a repeated failure once, then every hour, and finally its end.

    Parameters
    ----------
    message
        What failed; ``recovered`` is logged once it works again.
    fields
        Fields of every line.
    """

    def __init__(self, logger: logging.Logger, message: str, recovered: str, **fields: object) -> None:
        self._logger = logger
        self._message = message
        self._recovered = recovered
        self._fields = fields
        self._failing: tuple[str, str] | None = None  # type and code of the failure that was logged
        self._logged_at = 0.0
        self._n_times = 0

    def failed(self, error: Exception) -> None:
        """Log a failure unless it was the last one logged."""
        kind = (type(error).__name__, error_code(error))
        self._n_times += 1
        if kind != self._failing or time.monotonic() - self._logged_at > REMIND_S:
            self._failing, self._logged_at = kind, time.monotonic()
            log_failure(self._logger, self._message, error, **self._fields)

    def worked(self) -> None:
        """Log the end of a failure, if there was one."""
        if self._failing is not None:
            self._logger.info(self._recovered, extra={**self._fields, "n_failures": self._n_times})
            self._failing, self._n_times = None, 0


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields that were passed as ``extra``."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD_FIELDS}


def set_up_logging(settings: LogSettings, *, process_name: str, stream: TextIO | None = None) -> None:
    """Send every record of this process to ``stream`` (standard error by default), once, in the chosen form.

    Libraries log from ``warning`` up only, some of them from ``error`` up.
    """
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter(process_name) if settings.format == "json" else TextFormatter(process_name))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
    for library in _QUIET_LIBRARIES:
        logging.getLogger(library).setLevel(logging.WARNING)
    for library in _TALKATIVE_LIBRARIES:
        logging.getLogger(library).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
    logging.captureWarnings(capture=True)


def _traceback_of(record: logging.LogRecord) -> str:
    """Return the traceback without the messages of libraries, which may quote patient data."""
    return discreet_traceback(record.exc_info[1]) if record.exc_info and record.exc_info[1] else ""


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _one_line(message: str) -> str:
    """Return the message without control characters, so that no value in it can look like another line."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in message)


def _quoted(value: object) -> str:
    """Return a value as one token on one line, whatever a peer put into it."""
    text = str(value)
    return text if text and all(" " < letter <= "~" and letter not in '"=' for letter in text) else json.dumps(text)
