"""The newest digest of the hash chain, kept in a file outside of the database.

Who may write to the database can cut off the end of the chain, or compute all of it anew. Neither fits this file.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_node.store.permissions import FILE_MODE

FILE: Final = "audit-head"
_HEAD: Final = re.compile(r"([0-9]{1,15}):([0-9a-f]{1,64})")


@dataclass(frozen=True, slots=True)
class Head:
    """A position of the chain and its digest, or the beginning of the digest, as it was noted."""

    position: int
    digest: str

    @classmethod
    def parse(cls, text: str) -> Head | None:
        """Return what `str` made; None if it is something else."""
        found = _HEAD.fullmatch(text.strip())
        return None if found is None else cls(int(found[1]), found[2])

    def __str__(self) -> str:
        return f"{self.position}:{self.digest}"


class AuditHead:
    """The file ``audit-head`` in the data directory of a host that seals."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / FILE

    def read(self) -> Head | None:
        """Return what was noted; None if nothing was. A file that says something else is a head that nothing fits."""
        try:
            text = self.path.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return None
        return Head.parse(text) or Head(0, "f" * 64)

    def write(self, head: Head) -> None:
        """Note a head, whole or not at all."""
        new = self.path.with_name(f"{FILE}.new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{head}\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
