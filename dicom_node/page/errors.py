"""Errors of requests to the page."""

from __future__ import annotations

from dicom_node.errors import NodeError, Refused


class PageError(NodeError):
    """Base of this room's errors."""

    code = "page"


class ForeignRequestError(PageError, Refused):
    """A request that changes something did not come from a page of this node."""

    code = "foreign-request"

    def __init__(self, finding: str, way_out: str) -> None:
        super().__init__(finding, way_out)

    def __str__(self) -> str:
        finding, way_out = self.args
        return f"{finding}; nothing was changed, {way_out}"


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
