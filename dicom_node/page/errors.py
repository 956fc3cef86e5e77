"""Errors of requests to the page."""

from __future__ import annotations

from dicom_node.errors import NodeError, Refused, Transient


class PageError(NodeError):
    """Base of this room's errors."""

    code = "page"


class UploadsOffError(PageError, Refused):
    """Nobody may upload to this node."""

    code = "uploads-off"

    def __str__(self) -> str:
        return "uploads are off in the settings of this node; nothing was stored, web.upload: true turns them on"


class UnsupportedBodyError(PageError, Refused):
    """The Content-Type of a request is none that is taken."""

    code = "unsupported-body"

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(found[:80], expected)

    def __str__(self) -> str:
        found, expected = self.args
        return f"Content-Type is {found!r}, expected {expected}"


class BodyTooLongError(PageError, Refused):
    """A form, or a JSON object, is longer than any that people and programs need to send."""

    code = "body-too-long"

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)

    def __str__(self) -> str:
        return f"the body of the request is longer than {self.args[0]} bytes; nothing was changed, send less"


class BodyTooSlowError(PageError, Refused):
    """A form, or a JSON object, does not arrive."""

    code = "body-too-slow"

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)

    def __str__(self) -> str:
        return f"the body of the request was not complete within {self.args[0]:g} s; nothing was changed, send it again"


class FormError(PageError, Refused):
    """A form, a query or a JSON body says something that is not allowed."""

    code = "bad-form"

    def __init__(self, what: str, found: str, expected: str) -> None:
        super().__init__(what, found[:80], expected)

    def __str__(self) -> str:
        what, found, expected = self.args
        return f"{what} is {found!r}, expected {expected}"


class NoSuchPageError(PageError, Refused):
    """There is no such picture, asset or page."""

    code = "no-such-page"

    def __init__(self, what: str) -> None:
        super().__init__(what)

    def __str__(self) -> str:
        return f"{self.args[0]}: this node has no such thing"


class NoPictureError(PageError, Refused):
    """A series cannot be shown."""

    code = "no-picture"

    def __init__(self, series_instance_uid: str, reason: str) -> None:
        super().__init__(series_instance_uid, reason)

    def __str__(self) -> str:
        uid, reason = self.args
        return f"series {uid}: no picture of it: {reason}"


class PicturesBusyError(PageError, Transient):
    """Pictures of another series are being made."""

    code = "pictures-busy"

    def __str__(self) -> str:
        return "pictures of other series are being made; try again in some seconds"
