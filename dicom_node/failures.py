"""Classify errors of every package: never works, may work later, or a defect of the node.

Only the outermost layers map the kind to a DIMSE status, an HTTP status, an exit code or a retry.
"""

from __future__ import annotations

import errno
import os
import socket
import traceback
from collections.abc import Iterator
from enum import StrEnum

import dicom_node.errors
import inference.errors
import sr_writer.errors


class ErrorKind(StrEnum):
    """Kind of an error, which decides how it is answered."""

    REFUSED = "refused"
    TRANSIENT = "transient"
    DEFECT = "defect"


# The node writes these messages, without patient names and IDs. Messages of libraries may quote a dataset.
_OUR_FAMILIES = (dicom_node.errors.NodeError, inference.errors.InferenceError, sr_writer.errors.WriterError)
_REFUSED = (dicom_node.errors.Refused, inference.errors.Refused, sr_writer.errors.Refused)
_TRANSIENT = (dicom_node.errors.Transient, inference.errors.Transient, MemoryError)
# The machine lacks something that may be available later: disk space, file descriptors, memory.
_SHORTAGES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})


def classify(error: BaseException) -> ErrorKind:
    """Return the kind of an error; one that belongs to no family is a defect of the node."""
    if isinstance(error, _REFUSED):
        return ErrorKind.REFUSED
    if isinstance(error, _TRANSIENT) or (isinstance(error, OSError) and error.errno in _SHORTAGES):
        return ErrorKind.TRANSIENT
    return ErrorKind.DEFECT


def error_code(error: BaseException) -> str:
    """Return the stable code of an error: its own, ``out-of-memory``, ``machine-short``, or ``internal``."""
    if isinstance(error, MemoryError):
        return "out-of-memory"
    if isinstance(error, OSError) and error.errno in _SHORTAGES:
        return "machine-short"
    code = getattr(error, "code", None)
    return code if isinstance(code, str) and classify(error) is not ErrorKind.DEFECT else "internal"


def network_reason(error: OSError) -> str:
    """Return the reason of a network error, without the address that Python adds to some texts."""
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)


def discreet_traceback(error: BaseException) -> str:
    """Return a traceback for log and job: every frame and type, but messages of the node's own errors only."""
    return "\nwhich led to\n".join(_described(one) for one in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, the first cause first, each once."""
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and not any(current is one for one in found):
        found.append(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    yield from reversed(found)


def _described(error: BaseException) -> str:
    frames = "".join(traceback.format_tb(error.__traceback__))
    said = f": {error}" if isinstance(error, _OUR_FAMILIES) else ""
    return f"Traceback (most recent call last):\n{frames}{type(error).__name__}{said}"
