"""Why a query or retrieval is not answered."""

from __future__ import annotations

from dicom_node.errors import Refused


class IdentifierError(Refused):
    """The identifier of a request cannot be used."""

    code = "query-identifier"

    def __init__(self, tag: int | None, what: str) -> None:
        super().__init__(tag, what)

    def __str__(self) -> str:
        return f"identifier refused: {self.args[1]}"

    @property
    def tag(self) -> int | None:
        """The attribute that is missing or cannot be used."""
        return None if self.args[0] is None else int(self.args[0])

    @property
    def comment(self) -> str:
        """Return the Error Comment for the peer."""
        return str(self.args[1])


class UnreadableIdentifierError(IdentifierError):
    """The identifier cannot be decoded."""

    code = "query-identifier-unreadable"
