"""Errors of requests, and of the address that the server listens on."""

from __future__ import annotations

from dicom_node.errors import NodeError, Refused, Transient


class DicomwebError(NodeError):
    """Base of this room's errors."""

    code = "dicomweb"


class ListenError(DicomwebError, Transient):
    """The server cannot listen on its address."""

    code = "web-listen"

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(host, port, reason)

    def __str__(self) -> str:
        host, port, reason = self.args
        return (
            f"cannot listen on {host}:{port}: {reason}; stop the program that uses it, or change web.host or web.port"
        )


class BadRequestError(DicomwebError, Refused):
    """A path or a query parameter is not what PS3.18 allows."""

    code = "bad-request"

    def __init__(self, what: str, found: str, expected: str) -> None:
        super().__init__(what, found[:80], expected)

    def __str__(self) -> str:
        what, found, expected = self.args
        return f"{what} is {found!r}, expected {expected}"


class NotAcceptableError(DicomwebError, Refused):
    """The client accepts none of the available representations."""

    code = "not-acceptable"

    def __init__(self, resource: str, available: str) -> None:
        super().__init__(resource, available)

    def __str__(self) -> str:
        resource, available = self.args
        return f"{resource}: not available as the Accept header asks; available as {available}"


class NoSuchResourceError(DicomwebError, Refused):
    """The store has no such study, series, instance, frame or bulk data."""

    code = "no-such-resource"

    def __init__(self, resource: str) -> None:
        super().__init__(resource)

    def __str__(self) -> str:
        return f"{self.args[0]}: not in this archive"


class UnreadableObjectError(DicomwebError, Refused):
    """A stored object cannot be decoded as far as the request needs; its bytes can still be retrieved."""

    code = "unreadable-object"

    def __init__(self, sop_instance_uid: str, reason: str) -> None:
        super().__init__(sop_instance_uid, reason)

    def __str__(self) -> str:
        uid, reason = self.args
        return f"instance {uid}: {reason}; retrieve the instance with transfer-syntax=* to get its bytes as received"


class BusyError(DicomwebError, Transient):
    """Other requests use all of the memory for decoding pixels."""

    code = "decoding-busy"

    def __init__(self, total_bytes: int) -> None:
        super().__init__(total_bytes)

    def __str__(self) -> str:
        return (
            f"other requests have all {self.args[0] / 2**20:.0f} MiB for decoding pixels (web.decoding_bytes); "
            "try again, or ask for the bytes as stored with transfer-syntax=*"
        )


class PictureTooLargeError(DicomwebError, Refused):
    """Drawing a picture would take more memory than all requests together may have."""

    code = "picture-too-large"

    def __init__(self, sop_instance_uid: str, width: int, height: int, n_bytes: int, at_most: int) -> None:
        super().__init__(sop_instance_uid, width, height, n_bytes, at_most)

    def __str__(self) -> str:
        uid, width, height, n_bytes, at_most = self.args
        return (
            f"picture of instance {uid}: {width} x {height} pixels take {n_bytes / 2**20:.0f} MiB, "
            f"at most {at_most / 2**20:.0f} MiB are used (web.decoding_bytes); ask for a smaller viewport"
        )


class UnsupportedMediaTypeError(DicomwebError, Refused):
    """The Content-Type of a request is none that this service takes."""

    code = "unsupported-media-type"

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(found[:80], expected)

    def __str__(self) -> str:
        found, expected = self.args
        return f"Content-Type is {found!r}, expected {expected}"


class RangeError(DicomwebError, Refused):
    """A byte range begins after the last byte."""

    code = "range-not-satisfiable"

    def __init__(self, found: str, total: int) -> None:
        super().__init__(found[:80], total)

    def __str__(self) -> str:
        found, total = self.args
        return f"header Range is {found!r}, expected a range that begins within the {total} bytes"


class NotAllowedError(DicomwebError, Refused):
    """Nobody, or not this client, may delete it."""

    code = "not-allowed"

    def __init__(self, resource: str, reason: str) -> None:
        super().__init__(resource, reason)

    def __str__(self) -> str:
        resource, reason = self.args
        return f"{resource}: not deleted: {reason}"
