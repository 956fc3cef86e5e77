"""UIDs that the same input always derives again (PS3.5 B.2: UUIDs as decimal integers under 2.25)."""

from __future__ import annotations

import uuid
from typing import Final

from pydicom.uid import UID

# Version 5 UUIDs need a namespace that is ours alone; a random one, drawn once and never changed.
NAMESPACE: Final = uuid.UUID("5b3f6f0a-0f0c-4d68-9c2b-7c8f4f7e61d2")


def derive_uid(*parts: str) -> UID:
    """UID that depends on the parts and their order, and on nothing else."""
    # The length in front of each part keeps ("ab", "c") and ("a", "bc") apart.
    name = "".join(f"{len(part)}:{part}" for part in parts)
    return UID(f"2.25.{uuid.uuid5(NAMESPACE, name).int}")


def derive_frame_of_reference_uid(series_instance_uid: str) -> UID:
    """Frame of reference of a series that has none; all that is derived from the series shares it."""
    return derive_uid("frame-of-reference", series_instance_uid)
