"""What becomes of an item of an offline run: volumes that are on disk, and failures."""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass
from typing import Any

from dicom_node.failures import ErrorKind, classify, error_code

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """An input without a result, and why."""

    name: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class VolumeDone:
    """A volume whose folder is on disk; ``is_new`` is false if an earlier run wrote it."""

    report: dict[str, Any]
    is_new: bool


@dataclass(frozen=True, slots=True)
class NoResult:
    """An item, or one volume of it, without a result; the traceback is for ``--verbose``."""

    failure: Failure
    traceback: str


ItemResult = VolumeDone | NoResult


def no_result(name: str, error: BaseException) -> NoResult:
    """Return why an item or a volume has no result."""
    code = "input-output" if isinstance(error, OSError) else error_code(error)
    log.debug("no result for %s", name, exc_info=error)
    return NoResult(Failure(name, code, describe(error)), "".join(traceback.format_exception(error)).rstrip())


def describe(error: BaseException) -> str:
    """Return one sentence for a person; only the type of an unexpected error, whose text may quote headers."""
    if isinstance(error, MemoryError):
        return "not enough memory for this volume"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if classify(error) is ErrorKind.DEFECT:
        return f"a defect of dicom-node ({type(error).__name__}); please report it with what --verbose shows"
    return str(error)
