"""What became of an instance that came in over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dicom_node.http_intake.reasons import Reason


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one instance.

    Attributes
    ----------
    part_number
        Of the part that held it, for the order of the answer.
    words
        Why it is not stored, or what is unusual about it; empty if there is nothing to say.
    name
        What its sender calls it.
    uids
        Of its study, its series and itself, by keyword; empty if it is not stored.
    was_here
        Whether the same bytes were stored before.
    """

    part_number: int
    reason: Reason
    words: str = ""
    name: str = ""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    uids: Mapping[str, str] | None = None
    was_here: bool = False

    @property
    def is_stored(self) -> bool:
        """Whether its bytes and its row are on disk."""
        return self.uids is not None
