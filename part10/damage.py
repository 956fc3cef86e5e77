"""Exceptions that pydicom raises on damaged or hostile bytes, when it reads them or when a value is first used."""

from __future__ import annotations

import struct
import zlib
from typing import Final

from pydicom.errors import BytesLengthException, InvalidDicomError

PYDICOM_ERRORS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    OSError,  # "No tag to read"; see `is_about_the_disk`
    RuntimeError,  # includes RecursionError and NotImplementedError
    TypeError,
    ValueError,  # includes UnicodeError and the errors of this package
    struct.error,
    zlib.error,
)
"""They have no common base. ``MemoryError`` is not included: it concerns the machine, and the bytes may be valid."""


def is_about_the_disk(error: BaseException) -> bool:
    """Whether the operating system raised the error; an ``OSError`` raised by pydicom has no ``errno``."""
    return isinstance(error, OSError) and error.errno is not None
