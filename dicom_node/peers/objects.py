"""Objects to send, and the outcome for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from dicom_node.peers.errors import DeliveryError
from dicom_node.upper_layer.command_set import MoveOriginator


@dataclass(frozen=True, slots=True)
class ObjectToSend:
    """A stored object, to be sent unchanged in its own transfer syntax."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    open: Callable[[], BinaryIO] = field(repr=False)  # a new seekable Part 10 stream, from its beginning
    moved_for: MoveOriginator | None = None  # the C-MOVE that asks for it


@dataclass(frozen=True, slots=True)
class SendOutcome:
    """Outcome for one object: the peer has it, or ``error`` says why not and whether to try again."""

    sop_instance_uid: str
    error: DeliveryError | None = None
    warning_status: int | None = None  # a status of the warning class; the peer has the object anyway

    @property
    def is_delivered(self) -> bool:
        """Whether the peer has the object."""
        return self.error is None
