"""Errors of listening and of receiving instances."""

from __future__ import annotations

from dicom_node.errors import Refused, Transient


class ListenError(Transient):
    """The node cannot listen on the address for DIMSE."""

    code = "dimse-listen"

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(host, port, reason)

    def __str__(self) -> str:
        host, port, reason = self.args
        return f"cannot listen on {host}:{port}: {reason}; stop what uses it, or change dimse.host or dimse.port"


class ObjectTooLargeError(Refused):
    """An instance is larger than the settings allow."""

    code = "object-too-large"

    def __init__(self, max_object_bytes: int) -> None:
        super().__init__(max_object_bytes)

    def __str__(self) -> str:
        return f"instance of more than {self.args[0]} bytes; not accepted, see dimse.max_object_bytes"
