"""Derive UIDs that are the same for the same input (PS3.5 B.2: UUIDs as decimal integers under 2.25)."""

from __future__ import annotations

import uuid
from typing import Final

from pydicom.uid import UID

# Namespace of version 5 UUIDs that only this project uses: drawn at random once, never changed.
NAMESPACE: Final = uuid.UUID("5b3f6f0a-0f0c-4d68-9c2b-7c8f4f7e61d2")


def derive_uid(*parts: str) -> UID:
    """Return a UID that depends only on the parts and their order."""
    # The length in front of each part distinguishes ("ab", "c") from ("a", "bc").
    name = "".join(f"{len(part)}:{part}" for part in parts)
    return UID(f"2.25.{uuid.uuid5(NAMESPACE, name).int}")


def derive_frame_of_reference_uid(series_instance_uid: str) -> UID:
    """Return the frame of reference for a series that has none; all objects derived from the series share it."""
    return derive_uid("frame-of-reference", series_instance_uid)
