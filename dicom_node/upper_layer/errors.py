"""Errors that end an association before its release."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

from dicom_node.errors import NodeError, Refused, Transient


class AbortSource(IntEnum):
    """Side that aborts (PS3.8 table 9-26)."""

    SERVICE_USER = 0
    SERVICE_PROVIDER = 2


class AbortReason(IntEnum):
    """Why the service provider aborts (PS3.8 table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PDU_PARAMETER = 4
    UNEXPECTED_PDU_PARAMETER = 5
    INVALID_PDU_PARAMETER_VALUE = 6


class AssociationError(NodeError):
    """The association ends; instances it delivered before are kept."""

    abort_source: ClassVar[AbortSource] = AbortSource.SERVICE_PROVIDER
    abort_reason: AbortReason = AbortReason.NOT_SPECIFIED


class ProtocolError(AssociationError, Refused):
    """The peer sent something that the protocol does not allow at this point."""

    code = "dimse-protocol"

    def __init__(self, reason: AbortReason, what: str) -> None:
        super().__init__(reason, what)
        self.abort_reason = reason

    def __str__(self) -> str:
        return f"{self.args[1]}; association aborted"


class OtherProtocolError(ProtocolError):
    """The peer uses another protocol than DICOM."""

    code = "dimse-other-protocol"

    def __init__(self, reason: AbortReason, what: str) -> None:
        super().__init__(reason, what)

    def __str__(self) -> str:
        return f"{self.args[1]}; connection closed, set the peer to DICOM without TLS or call another port"


class PeerGoneError(AssociationError, Transient):
    """The connection ended without release or abort."""

    code = "dimse-peer-gone"

    def __init__(self, what: str) -> None:
        super().__init__(what)

    def __str__(self) -> str:
        return f"connection closed by the peer without release: {self.args[0]}"


class PeerAbortedError(AssociationError, Transient):
    """The peer sent an A-ABORT."""

    code = "dimse-peer-aborted"

    def __init__(self, source: int, reason: int) -> None:
        super().__init__(source, reason)

    def __str__(self) -> str:
        return f"association aborted by the peer (source {self.args[0]}, reason {self.args[1]})"


class PeerTooSlowError(AssociationError, Transient):
    """The peer was silent, or so slow that its association would never end."""

    code = "dimse-peer-too-slow"
    abort_source = AbortSource.SERVICE_USER

    def __init__(self, waited_for: str, timeout_s: float) -> None:
        super().__init__(waited_for, timeout_s)

    def __str__(self) -> str:
        return f"no {self.args[0]} within {self.args[1]:g} s; association aborted, the peer may send again"


class StoppingError(AssociationError, Transient):
    """The node is stopping; the association was between two messages."""

    code = "dimse-stopping"
    abort_source = AbortSource.SERVICE_USER

    def __str__(self) -> str:
        return "the node is stopping; association aborted between two messages, the peer may send again"
