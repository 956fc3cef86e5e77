"""What pydicom raises on damaged or hostile bytes, when it reads them or when a value is first used."""

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
    RuntimeError,  # with RecursionError and NotImplementedError
    TypeError,
    ValueError,  # with UnicodeError and the errors of this package
    struct.error,
    zlib.error,
)
"""They have no base in common. ``MemoryError`` is not among them: the machine was short, and the bytes may be sound."""


def is_about_the_disk(error: BaseException) -> bool:
    """Whether the operating system reported the error; what pydicom raises as ``OSError`` has no number."""
    return isinstance(error, OSError) and error.errno is not None
