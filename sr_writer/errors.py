"""What can go wrong between a mask and the DICOM object that carries it."""

from __future__ import annotations

from typing import ClassVar


class WriterError(Exception):
    """Base of all errors of this package."""

    code: ClassVar[str] = "writer"


class Refused(WriterError):
    """The source series cannot carry a result; trying again cannot help."""
