"""What keeps the node from listening."""

from __future__ import annotations

from dicom_node.errors import Transient


class ListenError(Transient):
    """The address for DIMSE cannot be listened on."""

    code = "dimse-listen"

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(host, port, reason)

    def __str__(self) -> str:
        host, port, reason = self.args
        return f"cannot listen on {host}:{port}: {reason}; stop what uses it, or change dimse.host or dimse.port"
