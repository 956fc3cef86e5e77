"""What can go wrong in the node, and whether trying again can help.

The class decides what happens next: ``Refused`` ends the thing for good, ``Transient`` is tried again with backoff,
anything else is a defect of ours. Edges map the kind to a DIMSE status, an HTTP status or an exit code.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

import inference.errors
import sr_writer.errors


class NodeError(Exception):
    """Base of all errors of this package."""

    code: ClassVar[str] = "node"


class Refused(NodeError):
    """The input will never work; trying again cannot help."""


class Transient(NodeError):
    """The same input may work later."""


class ErrorKind(StrEnum):
    """How an error is answered."""

    REFUSED = "refused"
    TRANSIENT = "transient"
    DEFECT = "defect"


def classify(error: BaseException) -> ErrorKind:
    """Kind of an error of any room; what is in no family is a defect of ours."""
    if isinstance(error, Refused | inference.errors.Refused | sr_writer.errors.Refused):
        return ErrorKind.REFUSED
    if isinstance(error, Transient | inference.errors.Transient | MemoryError):
        return ErrorKind.TRANSIENT
    return ErrorKind.DEFECT


def error_code(error: BaseException) -> str:
    """Stable code of an error, ``internal`` for a defect."""
    code = getattr(error, "code", None)
    return code if isinstance(code, str) and classify(error) is not ErrorKind.DEFECT else "internal"
