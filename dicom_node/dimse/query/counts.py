"""How many sub-operations of a C-GET or C-MOVE are done, and what its last response says (PS3.4 C.4.2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dicom_node.dimse.query.answers import AnswerEncoder
from dicom_node.dimse.query.status import QueryStatus
from dicom_node.dimse.status import Answer
from dicom_node.upper_layer.command_set import US, Element

FAILED_SOP_INSTANCE_UID_LIST: Final = 0x00080058
MAX_LIST_CHARACTERS: Final = 65_534  # of a value of VR UI with an explicit VR


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of sub-operations."""

    remaining: int
    completed: int = 0
    failed: int = 0
    warning: int = 0

    def elements(self, *, is_pending: bool) -> dict[Element, bytes]:
        """Return the elements of a response; the number of remaining ones is in pending and cancelled ones only."""
        numbers = {
            Element.NUMBER_OF_COMPLETED_SUBOPERATIONS: self.completed,
            Element.NUMBER_OF_FAILED_SUBOPERATIONS: self.failed,
            Element.NUMBER_OF_WARNING_SUBOPERATIONS: self.warning,
        }
        if is_pending:
            numbers[Element.NUMBER_OF_REMAINING_SUBOPERATIONS] = self.remaining
        return {element: US.pack(number) for element, number in numbers.items()}

    def pending(self) -> Answer:
        """Return a pending response."""
        return Answer(QueryStatus.PENDING, elements=self.elements(is_pending=True))


def last_answer(
    counts: Counts, failed_uids: Sequence[str], transfer_syntax_uid: str, *, is_cancelled: bool, comment: str = ""
) -> Answer:
    """Return the last response.

    Parameters
    ----------
    failed_uids
        SOP Instance UIDs of what was not sent; as many of them are named as an element can hold.
    """
    is_complete = not counts.failed and not counts.warning
    if is_cancelled:
        status = QueryStatus.CANCELLED
    elif is_complete:
        status = QueryStatus.SUCCESS
    elif counts.completed or counts.warning:
        status = QueryStatus.SOME_FAILED
    else:
        status = QueryStatus.CANNOT_SEND
    data_set = b""
    if failed_uids and status != QueryStatus.SUCCESS:
        named = "\\".join(failed_uids)[: MAX_LIST_CHARACTERS + 1]
        named = named if len(named) <= MAX_LIST_CHARACTERS else named.rpartition("\\")[0]
        members = {FAILED_SOP_INSTANCE_UID_LIST: {"vr": "UI", "Value": [named]}}
        data_set = AnswerEncoder(transfer_syntax_uid, "").encode(members)
    return Answer(status, comment, counts.elements(is_pending=is_cancelled), data_set)
