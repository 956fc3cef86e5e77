"""Errors of bodies that bring instances, and of the instances in them."""

from __future__ import annotations

from dicom_node.errors import NodeError, Refused, Transient


class HttpIntakeError(NodeError):
    """Base of this room's errors."""

    code = "http-intake"


class MalformedBodyError(HttpIntakeError, Refused):
    """The body of a request is not what its Content-Type says."""

    code = "malformed-body"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)

    def __str__(self) -> str:
        return f"body of the request: {self.args[0]}; what was complete before that is stored, send the rest again"


class BodyTooLargeError(HttpIntakeError, Refused):
    """The body of a request is larger than the settings allow."""

    code = "body-too-large"

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)

    def __str__(self) -> str:
        return (
            f"body of the request: more than {self.args[0]} bytes (web.max_request_bytes); what was complete before "
            "that is stored, send the rest in smaller requests"
        )


class SlowBodyError(HttpIntakeError, Refused):
    """The body of a request does not arrive."""

    code = "slow-body"

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)

    def __str__(self) -> str:
        return (
            f"body of the request: no 256 kB of it in {self.args[0]:g} s (web.receive_timeout_s); what was complete "
            "before that is stored, send the rest again"
        )


class TooManyUploadsError(HttpIntakeError, Transient):
    """As many requests as the settings allow are storing instances."""

    code = "too-many-uploads"

    def __init__(self, n_allowed: int) -> None:
        super().__init__(n_allowed)

    def __str__(self) -> str:
        return f"{self.args[0]} requests are storing instances already (web.max_store_requests); send it again later"


class ObjectTooLargeError(HttpIntakeError, Refused):
    """An instance is larger than the settings allow."""

    code = "object-too-large"

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)

    def __str__(self) -> str:
        return f"instance: more than {self.args[0]} bytes (dimse.max_object_bytes); not stored"


class NotAnInstanceError(HttpIntakeError, Refused):
    """A part of a request is no instance that can be stored."""

    code = "not-an-instance"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)

    def __str__(self) -> str:
        return f"{self.args[0]}; not stored"
