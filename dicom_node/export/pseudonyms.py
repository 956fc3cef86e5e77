"""Keyed replacements for identifiers: UIDs, patients and date offsets.

All are HMAC-SHA256 under a key file and a project name, so that one key produces the same copies again, two
projects share nothing, and nobody without the key can compute an offset from a guessed Patient ID.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from base64 import b32encode
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final

from dicom_node.export.errors import KeyFileError

MIN_KEY_BYTES: Final = 32
MAX_KEY_BYTES: Final = 4096
STANDARD_ROOT: Final = "1.2.840.10008."
_MIN_OFFSET_DAYS: Final = 365
_OFFSET_RANGE_DAYS: Final = 3285  # nine years more
_PATIENT_CHARACTERS: Final = 16  # 80 bits in base 32


def read_key(path: Path) -> bytes:
    """Read the key of a project.

    Raises
    ------
    KeyFileError
        The file is missing, too short, or other users of this machine can read it.
    """
    make = "make one with: (umask 077; head -c 32 /dev/urandom > FILE)"
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            key = file.read(MAX_KEY_BYTES + 1)
    except FileNotFoundError:
        raise KeyFileError("no such file", make) from None
    except OSError as error:
        raise KeyFileError(f"cannot be read ({type(error).__name__})", "name a readable file") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileError(f"mode is {stat.S_IMODE(mode):o}, other users can use it", "type: chmod 600 FILE")
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise KeyFileError(f"has {len(key)} bytes, expected {MIN_KEY_BYTES} to {MAX_KEY_BYTES}", make)
    if len(set(key)) < 2:
        raise KeyFileError("every byte is the same", make)
    return key


@dataclass(frozen=True)
class Pseudonyms:
    """Replacements under one key for one project."""

    project: str
    key: bytes = field(repr=False)

    def fingerprint(self) -> str:
        """Fingerprint that shows whether two runs used the same key and project, without revealing the key."""
        return self._digest("fingerprint", "").hex()[:32]

    def uid(self, uid: str) -> str:
        """Return the replacement of a UID: ``2.25.`` and a version 8 UUID (PS3.5 B.2); the standard's own UIDs stay."""
        if uid.startswith(STANDARD_ROOT):
            return uid
        return self.mapped_uid(uid)

    def patient(self, patient_id: str, issuer: str) -> str:
        """Return the replacement of a Patient ID under its issuer: 16 letters and digits."""
        digest = self._digest("patient", f"{issuer}\0{patient_id}")
        return b32encode(digest).decode("ascii")[:_PATIENT_CHARACTERS]

    def date_offset(self, patient_id: str, issuer: str) -> timedelta:
        """Return the offset for all dates of a patient: whole days into the past, between one and ten years."""
        number = int.from_bytes(self._digest("date-offset", f"{issuer}\0{patient_id}")[:8], "big")
        return timedelta(days=-(_MIN_OFFSET_DAYS + number % _OFFSET_RANGE_DAYS))

    def word(self, purpose: str, text: str) -> str:
        """Return the replacement of a text that links objects, such as a tracking identifier."""
        return b32encode(self._digest(purpose, text)).decode("ascii")[:_PATIENT_CHARACTERS]

    def mapped_uid(self, uid: str) -> str:
        """Return the replacement of any text where a UID belongs, the standard's own UIDs included."""
        return _uid_of(self._digest("uid", uid))

    def _digest(self, purpose: str, text: str) -> bytes:
        return _digest(self.key, self.project, purpose, text)


@lru_cache(maxsize=65536)
def _digest(key: bytes, project: str, purpose: str, text: str) -> bytes:
    parts = (project.encode(), purpose.encode(), text.encode("utf-8", "surrogateescape"))
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.digest(key, message, hashlib.sha256)


def _uid_of(digest: bytes) -> str:
    number = int.from_bytes(digest[:16], "big")
    number = number & ~(0xF << 76) | 8 << 76  # version 8 of RFC 9562
    number = number & ~(0x3 << 62) | 2 << 62  # its variant
    return f"2.25.{number}"
