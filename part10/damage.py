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
    MemoryError,
    RuntimeError,  # with RecursionError and NotImplementedError
    TypeError,
    ValueError,  # with UnicodeError and the errors of this package
    struct.error,
    zlib.error,
)
"""They have no base in common. ``OSError`` is not among them: it is about the disk, not about the bytes."""
